//! Where everything happens: namespaces of this program's own, and a directory that goes with it.

use std::cell::Cell;

use heddle_sys::namespace::{self, Maps, NamespaceKind};
use heddle_sys::netlink::Netlink;
use tempfile::TempDir;

use crate::peer::EndpointKind;
use crate::problem::Problem;
use crate::sandbox::set_up;

/// The first port that something listens on.
const FIRST_PORT: u16 = 7_000;

/// The stage.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) endpoint: EndpointKind,
    pub(crate) workers: Option<u16>,
    directory: TempDir,
    next_port: Cell<u16>,
}

impl Stage {
    /// Moves this process into namespaces of its own: as an ordinary user with a user namespace that
    /// owns them. The machine's own interfaces are out of sight from then on.
    pub(crate) fn enter(endpoint: EndpointKind, workers: Option<u16>) -> Result<Stage, Problem> {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let directory = tempfile::Builder::new().prefix("heddle-peers-").tempdir()?;
        if user.is_root() {
            namespace::unshare(&[NamespaceKind::Network])?;
        } else {
            namespace::unshare(&[NamespaceKind::User, NamespaceKind::Network])?;
            namespace::write_id_maps(
                std::process::id(),
                &Maps::single(0, user.as_raw()),
                &Maps::single(0, group.as_raw()),
            )?;
        }
        set_up(&mut Netlink::open()?, "lo")?;
        Ok(Stage {
            endpoint,
            workers,
            directory,
            next_port: Cell::new(FIRST_PORT),
        })
    }

    /// A new directory.
    pub(crate) fn directory(&self) -> Result<TempDir, Problem> {
        Ok(tempfile::tempdir_in(self.directory.path())?)
    }

    /// A port that nothing has listened on, so that nothing is left of earlier connections to it.
    pub(crate) fn port(&self) -> u16 {
        let port = self.next_port.get();
        self.next_port.set(port + 1);
        port
    }
}
