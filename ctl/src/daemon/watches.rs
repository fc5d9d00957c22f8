//! Watching for the end of what endpoints are attached by.

use std::collections::BTreeMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use heddle_sys::watch::{PathWatch, WatchError};
use tokio::io::Interest;
use tokio::task::AbortHandle;

use super::core::{Reservation, internal};
use super::readiness;
use super::records::AttachedBy;
use super::service::Service;
use super::tokens::Connection;
use crate::api::{ApiError, ErrorCode};

/// What tells of an endpoint's end.
#[derive(Debug)]
pub(super) enum End {
    /// A process.
    Process(OwnedFd),
    /// A path.
    Path(PathWatch),
    /// A client's connection.
    Connection(Connection),
}

impl End {
    /// What tells of the end of `attached_by`.
    pub(super) fn of(
        attached_by: &AttachedBy,
        process: Option<&OwnedFd>,
        connection: Option<Connection>,
    ) -> Result<End, ApiError> {
        match attached_by {
            AttachedBy::Process { pid, .. } => {
                let gone =
                    |_| ApiError::new(ErrorCode::ProcessGone, format!("there is no process {pid}"));
                let process = match process {
                    Some(process) => process.try_clone().map_err(gone)?,
                    None => heddle_sys::process::pidfd_open(*pid).map_err(gone)?,
                };
                Ok(End::Process(process))
            }
            AttachedBy::Path(path) => PathWatch::new(path)
                .map(End::Path)
                .map_err(|error| watch_error(&error)),
            AttachedBy::Connection { .. } => connection
                .map(End::Connection)
                .ok_or_else(|| internal("a connection vanished")),
        }
    }

    /// Waits for the end.
    async fn come(self) {
        match self {
            End::Process(process) => {
                // An ended process stays readable; nothing is to be taken from it.
                if let Ok(process) = readiness(process, Interest::READABLE) {
                    let _ = process.readable().await;
                }
            }
            End::Path(mut watch) => {
                let Ok(changes) = watch.as_fd().try_clone_to_owned() else {
                    return;
                };
                let Ok(changes) = readiness(changes, Interest::READABLE) else {
                    return;
                };
                while let Ok(mut ready) = changes.readable().await {
                    if watch.is_removed().unwrap_or(true) {
                        return;
                    }
                    ready.clear_ready();
                }
            }
            End::Connection(mut connection) => while connection.changed().await.is_ok() {},
        }
    }
}

fn watch_error(error: &WatchError) -> ApiError {
    let code = match error {
        WatchError::Absent { .. } | WatchError::InProc { .. } => ErrorCode::NotANamespace,
        WatchError::TooMany => ErrorCode::DescriptorLimit,
        WatchError::Io { .. } => ErrorCode::PlumbingFailed,
    };
    let hint = matches!(error, WatchError::TooMany).then_some(
        "an endpoint attached by a path takes one inotify instance of its user: raise \
         fs.inotify.max_user_instances and fs.inotify.max_user_watches (sysctl), or attach by a \
         process",
    );
    ApiError::new(code, error.to_string()).maybe_hint(hint)
}

/// The watches of all endpoints.
#[derive(Debug, Default)]
pub(super) struct Watches {
    tasks: Mutex<BTreeMap<String, AbortHandle>>,
}

impl Watches {
    /// Ends an endpoint when its end has come.
    pub(super) fn watch(
        &self,
        service: &Arc<Service>,
        key: String,
        reserved: &Reservation,
        end: End,
    ) {
        let service = service.clone();
        let Reservation {
            network,
            sandbox,
            attachment,
            ..
        } = reserved.clone();
        let task = tokio::spawn(async move {
            end.come().await;
            // Detached by hand at the same moment, it is gone already.
            let _ = service.end(&network, &sandbox, Some(attachment)).await;
        });
        let before = self.lock().insert(key, task.abort_handle());
        if let Some(before) = before {
            before.abort();
        }
    }

    /// Stops watching an endpoint that has ended. Not from within its own watch: that one is at its
    /// end anyway, and must come to it.
    pub(super) fn forget(&self, key: &str) {
        let task = self.lock().remove(key);
        if let Some(task) = task.filter(|task| Some(task.id()) != tokio::task::try_id()) {
            task.abort();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, AbortHandle>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reached_limit_is_told_from_a_path_that_is_no_namespace() {
        let limit = watch_error(&WatchError::TooMany);
        assert_eq!(limit.error.code, ErrorCode::DescriptorLimit);
        let hint = limit.error.hint.unwrap();
        assert!(hint.contains("fs.inotify.max_user_instances"), "{hint}");
        let path = std::path::PathBuf::from("/run/netns/blue");
        let absent = watch_error(&WatchError::Absent { path });
        assert_eq!(absent.error.code, ErrorCode::NotANamespace);
        assert_eq!(absent.error.hint, None);
    }
}
