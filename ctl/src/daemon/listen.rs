//! Accepting clients: who they are, what they may, how long and how many.
//!
//! Each connection is a task of its own, with a deadline for its request and a bound on its size, and
//! the number of connections is bounded too: a client that dawdles or talks nonsense holds up itself.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use heddle_sys::fdpass::PeerCredentials;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::connection::ClientStream;
use super::quota::Quota;
use crate::api::{ApiError, AttachRequest, ErrorCode, SandboxSpec};

/// Connections to one socket at a time of the daemon's own user and root; further ones wait in the
/// kernel's queue. Nobody else takes these places for longer than it takes to see who comes.
const CONNECTIONS: usize = 256;

/// Connections to one socket at a time of each member of the group; further ones are refused.
const MEMBER_CONNECTIONS: usize = 128;

/// Connections to one socket at a time of all members of the group.
const GROUP_CONNECTIONS: usize = 512;

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
    /// Who comes, and what they may; `groups` tells their supplementary groups.
    fn admit(self, peer: PeerCredentials, groups: impl FnOnce() -> Vec<u32>) -> Option<Caller> {
        let PeerCredentials { pid, uid, gid } = peer;
        let is_member = |group| group == gid || groups().contains(&group);
        let rights = if uid == 0 || uid == self.own_uid {
            Rights::All
        } else if self.group.is_some_and(is_member) {
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
        let message = "members of the group may only attach by passed descriptors, and see the \
                       networks and how the daemon is";
        Err(ApiError::new(ErrorCode::NotPermitted, message)
            .hint("run the command as the daemon's user"))
    }

    /// Refuses ways to attach that are not the caller's.
    pub(super) fn may_attach(&self, request: &AttachRequest) -> Result<(), ApiError> {
        match request.sandbox {
            // Ports are the host's.
            SandboxSpec::Token(_) if request.publish.is_empty() => Ok(()),
            _ => self.may_do_all(),
        }
    }
}

/// The connections to one socket.
#[derive(Debug)]
struct Places {
    own: Arc<Semaphore>,
    members: Quota,
    group: Arc<Semaphore>,
}

impl Places {
    fn new() -> Places {
        Places {
            own: Arc::new(Semaphore::new(CONNECTIONS)),
            members: Quota::new(MEMBER_CONNECTIONS),
            group: Arc::new(Semaphore::new(GROUP_CONNECTIONS)),
        }
    }

    /// What a connection of this caller takes up; `own` was taken before anybody knew who comes.
    fn of(&self, caller: &Caller, own: OwnedSemaphorePermit) -> Option<Vec<OwnedSemaphorePermit>> {
        match caller.rights {
            Rights::All => Some(vec![own]),
            Rights::PassedDescriptors => {
                let group = self.group.clone().try_acquire_owned().ok()?;
                Some(vec![self.members.try_place(caller.uid)?, group])
            }
        }
    }
}

/// Accepts connections for ever and gives each to `serve`.
pub(super) async fn accept<F>(
    listener: UnixListener,
    admission: Admission,
    serve: impl Fn(ClientStream, Caller) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let places = Places::new();
    loop {
        let Ok(place) = places.own.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                if let Some((stream, caller)) = admit(stream, admission, &places, place) {
                    tokio::spawn(serve(stream, caller));
                }
            }
            Err(error) => {
                // Out of descriptors, most likely. Connections wait while others end.
                tracing::warn!(%error, "a client could not be accepted");
                super::after(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Sees who comes.
fn admit(
    stream: UnixStream,
    admission: Admission,
    places: &Places,
    own: OwnedSemaphorePermit,
) -> Option<(ClientStream, Caller)> {
    let mut stream = ClientStream::new(stream);
    let peer = match stream.peer() {
        Ok(peer) => peer,
        Err(error) => {
            tracing::warn!(%error, "a client that cannot be identified was refused");
            return None;
        }
    };
    // Whose groups are not known is a member by the effective group only.
    let groups = || stream.peer_groups().unwrap_or_default();
    let Some(caller) = admission.admit(peer, groups) else {
        tracing::warn!(
            uid = peer.uid,
            pid = peer.pid,
            "a client of another user was refused"
        );
        return None;
    };
    let Some(places) = places.of(&caller, own) else {
        tracing::debug!(
            uid = peer.uid,
            pid = peer.pid,
            "a client was refused: its user has too many connections"
        );
        return None;
    };
    stream.take_up(places);
    Some((stream, caller))
}

/// Serves HTTP on one connection.
pub(super) async fn serve_http(stream: ClientStream, caller: Caller, routes: Router) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Name;

    const DAEMON: u32 = 900;
    const GROUP: u32 = 100;

    #[test]
    fn members_are_known_by_their_effective_and_by_their_supplementary_groups() {
        // User, effective group, supplementary groups, group that may connect, what they may.
        type Row<'a> = (u32, u32, &'a [u32], Option<u32>, Option<Rights>);
        let table: [Row<'_>; 8] = [
            (0, 5, &[], None, Some(Rights::All)),
            (DAEMON, 5, &[], None, Some(Rights::All)),
            (DAEMON, GROUP, &[GROUP], Some(GROUP), Some(Rights::All)),
            (7, 5, &[5, 6], None, None),
            (7, 5, &[5, 6], Some(GROUP), None),
            (7, GROUP, &[], Some(GROUP), Some(Rights::PassedDescriptors)),
            (
                7,
                5,
                &[5, GROUP],
                Some(GROUP),
                Some(Rights::PassedDescriptors),
            ),
            (7, GROUP, &[GROUP], None, None),
        ];
        for (uid, gid, groups, group, rights) in table {
            let admission = Admission {
                own_uid: DAEMON,
                group,
            };
            let peer = PeerCredentials { pid: 1, uid, gid };
            let caller = admission.admit(peer, || groups.to_vec());
            assert_eq!(caller.map(|caller| caller.rights), rights, "{peer:?}");
        }
    }

    #[test]
    fn members_attach_by_passed_descriptors_alone() {
        let token = || SandboxSpec::Token("t".to_owned());
        let member = caller(7, Rights::PassedDescriptors);
        let owner = caller(DAEMON, Rights::All);
        assert!(member.may_do_all().is_err());
        assert!(member.may_attach(&request(token(), &[])).is_ok());
        for refused in [
            request(token(), &["8080:80"]),
            request(SandboxSpec::Pid(1), &[]),
            request(SandboxSpec::Path("/n".into()), &[]),
            request(SandboxSpec::Caller(crate::api::CallerSandbox::Pid(1)), &[]),
        ] {
            let error = member.may_attach(&refused).unwrap_err();
            assert_eq!(error.code(), ErrorCode::NotPermitted);
            assert!(owner.may_attach(&refused).is_ok());
        }
    }

    #[tokio::test]
    async fn members_cannot_take_the_places_of_the_daemons_own_user() {
        let places = Places::new();
        let mut held = Vec::new();
        for uid in 1..100 {
            let member = caller(uid, Rights::PassedDescriptors);
            for _ in 0..2 * MEMBER_CONNECTIONS {
                let own = places.own.clone().try_acquire_owned().unwrap();
                held.extend(places.of(&member, own));
            }
        }
        assert_eq!(held.len(), GROUP_CONNECTIONS);
        assert_eq!(places.own.available_permits(), CONNECTIONS);
        held.truncate(MEMBER_CONNECTIONS);
        let own = || places.own.clone().try_acquire_owned().unwrap();
        // The first user has all that one may have, another one has not.
        assert!(
            places
                .of(&caller(1, Rights::PassedDescriptors), own())
                .is_none()
        );
        assert!(
            places
                .of(&caller(2, Rights::PassedDescriptors), own())
                .is_some()
        );
    }

    fn caller(uid: u32, rights: Rights) -> Caller {
        Caller {
            pid: 1,
            uid,
            rights,
        }
    }

    fn request(sandbox: SandboxSpec, publish: &[&str]) -> AttachRequest {
        AttachRequest {
            sandbox,
            name: "a".parse::<Name>().ok(),
            name_like: None,
            addresses: Vec::new(),
            mac: None,
            interface: None,
            publish: publish.iter().map(|spec| spec.parse().unwrap()).collect(),
            kind: None,
        }
    }
}
