//! The daemon's end of the conversation with the keeper.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

use super::core::internal;
use super::readiness;
use crate::api::{ApiError, ErrorCode};
use crate::keeper::{Held, Note, Reply, Request, receive, send};
use crate::plumb::{Job, Parcel};

/// How long an answer may take; the keeper ends what takes longer a little earlier.
const ANSWER_TIME: Duration = Duration::from_secs(20);

type Waiting = BTreeMap<u64, oneshot::Sender<Result<Parcel, ApiError>>>;

/// The conversation with the keeper.
#[derive(Clone, Debug)]
pub(super) struct KeeperLink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: AsyncFd<OwnedFd>,
    waiting: Mutex<Waiting>,
    next_number: AtomicU64,
    alive: AtomicBool,
}

impl KeeperLink {
    /// Takes up the conversation; returns what a former daemon left behind. Blocks until the keeper
    /// has said all of it, which it does at once.
    ///
    /// # Errors
    ///
    /// The keeper is gone already, or speaks another language.
    pub(super) fn open(socket: OwnedFd) -> io::Result<(KeeperLink, Vec<Held>)> {
        let mut inherited = Vec::new();
        loop {
            match receive(socket.as_fd())? {
                Some((Reply::Held(note), descriptors)) => {
                    inherited.push(Held { note, descriptors });
                }
                Some((Reply::HeldAll, _)) => break,
                Some((Reply::Done { .. }, _)) => {}
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
        rustix::io::ioctl_fionbio(&socket, true)?;
        let shared = Arc::new(Shared {
            socket: readiness(socket, Interest::READABLE | Interest::WRITABLE)?,
            waiting: Mutex::default(),
            next_number: AtomicU64::new(1),
            alive: AtomicBool::new(true),
        });
        tokio::spawn(listen(shared.clone()));
        Ok((KeeperLink { shared }, inherited))
    }

    /// Whether the keeper is there.
    pub(super) fn is_alive(&self) -> bool {
        self.shared.alive.load(Ordering::Relaxed)
    }

    /// Has a job done in a child of the keeper.
    ///
    /// # Errors
    ///
    /// What stood in the job's way; or there is no keeper any more.
    pub(super) async fn run(&self, job: Job) -> Result<Parcel, ApiError> {
        let number = self.shared.next_number.fetch_add(1, Ordering::Relaxed);
        let (done, answer) = oneshot::channel();
        self.lock().insert(number, done);
        let result = match self.send(&Request::Run { number, job }, &[]).await {
            Ok(()) => match tokio::time::timeout(ANSWER_TIME, answer).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(no_keeper()),
                Err(_) => Err(ApiError::new(
                    ErrorCode::Timeout,
                    "entering the namespace and making the interface took too long",
                )),
            },
            Err(_) => Err(no_keeper()),
        };
        self.lock().remove(&number);
        result
    }

    /// Has descriptors held, so that they survive this process.
    pub(super) async fn hold(&self, note: Note, descriptors: &[BorrowedFd<'_>]) {
        if let Err(error) = self.send(&Request::Hold(note), descriptors).await {
            tracing::warn!(%error, "the keeper cannot hold an endpoint; it would not survive a crash");
        }
    }

    /// Has held descriptors let go.
    pub(super) async fn release(&self, key: String) {
        // Without a keeper nothing is held.
        let _ = self.send(&Request::Release(key), &[]).await;
    }

    /// Says that the start went well.
    pub(super) async fn ready(&self) {
        let _ = self.send(&Request::Ready, &[]).await;
    }

    /// Says that the end is meant.
    pub(super) async fn goodbye(&self) {
        let _ = self.send(&Request::Goodbye, &[]).await;
    }

    async fn send(&self, request: &Request, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        loop {
            let mut ready = self.shared.socket.writable().await?;
            match ready.try_io(|socket| send(socket.as_fd(), request, descriptors)) {
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.shared
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_keeper() -> ApiError {
    ApiError::new(
        ErrorCode::PlumbingFailed,
        "the keeper process is gone, so namespaces cannot be entered",
    )
    .hint("attach with the heddle command, which enters by itself, or restart the daemon")
}

/// Hands answers to those who wait for them.
async fn listen(shared: Arc<Shared>) {
    loop {
        let Ok(mut ready) = shared.socket.readable().await else {
            break;
        };
        let received = match ready.try_io(|socket| receive::<Reply>(socket.as_fd())) {
            Ok(received) => received,
            Err(_would_block) => continue,
        };
        match received {
            Ok(Some((Reply::Done { number, outcome }, descriptors))) => {
                let parcel = outcome.and_then(|manifest| {
                    Parcel::assemble(&manifest, descriptors)
                        .ok_or_else(|| internal("descriptors are missing"))
                });
                let waiting = shared
                    .waiting
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(&number);
                if let Some(waiting) = waiting {
                    // Whoever asked may have given up; the parcel then closes by itself.
                    let _ = waiting.send(parcel);
                }
            }
            Ok(Some(_)) => {}
            Ok(None) | Err(_) => break,
        }
    }
    shared.alive.store(false, Ordering::Relaxed);
    shared
        .waiting
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .clear();
    tracing::warn!("the keeper is gone: this daemon would not be restarted after a crash");
}
