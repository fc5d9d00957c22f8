//! What the daemon is started with.

use std::path::PathBuf;
use std::time::Duration;

use crate::api::EndpointKind;

/// Where clients connect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sockets {
    /// The API.
    pub api: PathBuf,
}

impl Sockets {
    /// The sockets for a user: `$HEDDLE_SOCKET`, else `$XDG_RUNTIME_DIR/heddle/heddle.sock`, else
    /// `/run/heddle/heddle.sock`.
    #[must_use]
    pub fn default_path() -> PathBuf {
        if let Some(socket) = std::env::var_os("HEDDLE_SOCKET") {
            return socket.into();
        }
        let base = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(|| "/run".into(), PathBuf::from);
        base.join("heddle/heddle.sock")
    }

    /// Where descriptors are passed: beside the API.
    #[must_use]
    pub fn descriptors(&self) -> PathBuf {
        self.beside("fd")
    }

    /// What only one daemon at a time can lock.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.beside("lock")
    }

    fn beside(&self, extension: &str) -> PathBuf {
        let mut name = self.api.clone().into_os_string();
        name.push(".");
        name.push(extension);
        name.into()
    }
}

/// What the daemon is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where clients connect.
    pub sockets: Sockets,
    /// Where state is kept.
    pub store: PathBuf,
    /// Worker threads; one for two cores up to four if absent.
    pub workers: Option<u16>,
    /// What endpoints are made of; what works if absent.
    pub endpoint: Option<EndpointKind>,
    /// Group whose members may attach by passed descriptors.
    pub allow_group: Option<u32>,
    /// How many sessions there may be.
    pub sessions: u32,
    /// How many of them one endpoint may have.
    pub endpoint_sessions: u32,
    /// How many connections of one endpoint may be half-open, in each direction.
    pub endpoint_half_open: u32,
    /// How many outside ports one endpoint may use.
    pub endpoint_mappings: u32,
    /// End this long after the last endpoint.
    pub idle_exit: Option<Duration>,
}

impl Options {
    /// Where state is kept unless told otherwise: `$XDG_STATE_HOME/heddle`, else
    /// `~/.local/state/heddle`, for root `/var/lib/heddle`.
    #[must_use]
    pub fn default_store() -> PathBuf {
        let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
        let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
        let is_root = rustix::process::geteuid().is_root();
        let base = match (state, is_root, home) {
            (Some(state), _, _) => state,
            (None, false, Some(home)) => home,
            (None, _, _) => "/var/lib".into(),
        };
        base.join("heddle/heddle.redb")
    }
}
