//! Accepting clients: who they are, what they may, how long and how many.
//!
//! Each connection is a task of its own, with a deadline for its request and a bound on its size, and
//! the number of connections is bounded too: a client that dawdles or talks nonsense holds up itself.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use heddle_sys::fdpass::{self, PeerCredentials};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::api::{ApiError, ErrorCode, SandboxSpec};

/// Connections to one socket at a time; further ones wait in the kernel's queue.
const CONNECTIONS: usize = 256;

/// How long a client may take to send the head of a request, and to stay silent between two.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// Octets of headers.
const HEADER_SPACE: usize = 16 << 10;

/// Who is at the other end of a connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Caller {
    pub(super) pid: u32,
    pub(super) uid: u32,
    rights: Rights,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rights {
    /// The daemon's own user, or root.
    All,
    /// A member of the group that may attach by passed descriptors.
    PassedDescriptors,
}

/// Who may connect.
#[derive(Clone, Copy, Debug)]
pub(super) struct Admission {
    pub(super) own_uid: u32,
    pub(super) group: Option<u32>,
}

impl Admission {
    fn admit(self, peer: PeerCredentials) -> Option<Caller> {
        let PeerCredentials { pid, uid, gid } = peer;
        let rights = if uid == 0 || uid == self.own_uid {
            Rights::All
        } else if self.group == Some(gid) {
            Rights::PassedDescriptors
        } else {
            return None;
        };
        Some(Caller { pid, uid, rights })
    }
}

impl Caller {
    /// Refuses what only the daemon's own user may do.
    pub(super) fn may_do_all(&self) -> Result<(), ApiError> {
        if self.rights == Rights::All {
            return Ok(());
        }
        let message = "members of the group may only look, and attach by passed descriptors";
        Err(ApiError::new(ErrorCode::NotPermitted, message)
            .hint("run the command as the daemon's user"))
    }

    /// Refuses ways to attach that are not the caller's.
    pub(super) fn may_attach(&self, sandbox: &SandboxSpec) -> Result<(), ApiError> {
        match sandbox {
            SandboxSpec::Token(_) => Ok(()),
            _ => self.may_do_all(),
        }
    }
}

/// Accepts connections for ever and gives each to `serve`.
pub(super) async fn accept<F>(
    listener: UnixListener,
    admission: Admission,
    serve: impl Fn(UnixStream, Caller) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, admission, place, &serve),
            Err(error) => {
                // Out of descriptors, most likely. Connections wait while others end.
                tracing::warn!(%error, "a client could not be accepted");
                super::after(Duration::from_millis(100)).await;
            }
        }
    }
}

fn admit<F>(
    stream: UnixStream,
    admission: Admission,
    place: OwnedSemaphorePermit,
    serve: &impl Fn(UnixStream, Caller) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let peer = match fdpass::peer_credentials(stream.as_fd()) {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "a client that cannot be identified was refused");
            return;
        }
    };
    let Some(caller) = admission.admit(peer) else {
        tracing::warn!(
            uid = peer.uid,
            pid = peer.pid,
            "a client of another user was refused"
        );
        return;
    };
    let serving = serve(stream, caller);
    tokio::spawn(async move {
        serving.await;
        drop(place);
    });
}

/// Serves HTTP on one connection.
pub(super) async fn serve_http(stream: UnixStream, caller: Caller, routes: Router) {
    let routes = routes.layer(axum::Extension(caller));
    let service = TowerToHyperService::new(routes);
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .max_buf_size(HEADER_SPACE)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, pid = caller.pid, "a connection ended with an error");
    }
}

/// A listener that another process has bound.
pub(super) fn adopt(listener: std::os::unix::net::UnixListener) -> io::Result<UnixListener> {
    listener.set_nonblocking(true)?;
    UnixListener::from_std(listener)
}
