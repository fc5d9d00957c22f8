//! What clients can ask for, from the first check to the last word to the store.
//!
//! An operation holds the state's lock while it checks and changes, and never while it waits for a
//! namespace, a disk or a client. What it has begun it finishes, whether or not the client is still
//! there; what it cannot finish it takes back.

use std::sync::Arc;

use heddle_switch::Port;
use heddle_sys::process;
use ipnet::IpNet;
use tokio::sync::{Mutex, Notify};

use super::core::{Attachment, Core, Ended, Reservation, internal};
use super::journal::Journal;
use super::keeper_link::KeeperLink;
use super::links;
use super::listen::Caller;
use super::records::{AttachedBy, EndpointRecord, endpoint_key};
use super::status::Facts;
use super::tokens::{Connection, Tokens};
use super::uplinks::require_own_addresses;
use super::watches::{End, Watches};
use crate::api::{
    ApiError, AttachRequest, CallerSandbox, CreateNetwork, Endpoint, ErrorCode, Name, Network,
    PortSpec, PublishedPort, SandboxSpec, StartRequest,
};
use crate::keeper::Note;
use crate::plumb::{Job, Parcel};

/// The daemon as its parts share it.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) core: Mutex<Core>,
    pub(super) journal: Journal,
    pub(super) keeper: KeeperLink,
    pub(super) tokens: Tokens,
    pub(super) watches: Watches,
    /// Networks and legs come and go one at a time.
    pub(super) networks: Mutex<()>,
    /// What `status` tells of the start.
    pub(super) facts: Facts,
    /// Told when the daemon is to end.
    pub(super) stop: Notify,
    /// Told when an endpoint has ended.
    pub(super) ended: Notify,
    /// Told when filter rules have changed.
    pub(super) rules_changed: Notify,
    /// Told by a worker when the other end of a port is gone.
    pub(super) gone: Arc<Notify>,
}

impl Service {
    /// Makes a network, and opens its way out.
    pub(super) async fn create_network(
        &self,
        request: CreateNetwork,
        caller: &Caller,
    ) -> Result<Network, ApiError> {
        if let Some(uplink) = &request.uplink {
            require_own_addresses(uplink)?;
        }
        let _one_at_a_time = self.networks.lock().await;
        let record = self
            .core
            .lock()
            .await
            .plan_network(&request, &host_routes())?;
        let passed = match &request.uplink_token {
            Some(token) => Some(self.tokens.take(token, caller.uid)?.parcel),
            None => None,
        };
        let leg = self
            .open_leg(&record.name, &record.uplink, record.mtu, passed)
            .await?;
        let added = self.core.lock().await.add_network(record, leg, None);
        let changes = match added {
            Ok(changes) => changes,
            Err(error) => {
                self.close_leg(leg).await;
                return Err(error);
            }
        };
        if let Err(error) = self.journal.commit(changes).await {
            let removed = self.core.lock().await.remove_network(&request.name);
            if let Ok((leg, _)) = removed {
                self.close_leg(leg).await;
            }
            return Err(error);
        }
        self.core.lock().await.show_network(&request.name)
    }

    /// Removes a network that nobody uses, and closes its way out if it was the last to use it.
    pub(super) async fn remove_network(&self, name: &Name) -> Result<(), ApiError> {
        let _one_at_a_time = self.networks.lock().await;
        let (leg, changes) = self.core.lock().await.remove_network(name)?;
        self.close_leg(leg).await;
        self.journal.commit(changes).await
    }

    /// Attaches a sandbox. The endpoint is up when this returns, or pending if the caller makes the
    /// interface itself.
    pub(super) async fn attach(
        self: &Arc<Self>,
        network: &Name,
        request: AttachRequest,
        caller: &Caller,
    ) -> Result<Endpoint, ApiError> {
        caller.may_attach(&request)?;
        let mut passed = None;
        let attached_by = match &request.sandbox {
            SandboxSpec::Pid(pid) | SandboxSpec::Caller(CallerSandbox::Pid(pid)) => {
                by_process(*pid)?
            }
            SandboxSpec::Path(path) | SandboxSpec::Caller(CallerSandbox::Path(path)) => {
                AttachedBy::Path(path.clone())
            }
            SandboxSpec::Token(token) => {
                let taken = self.tokens.take(token, caller.uid)?;
                let by = AttachedBy::Connection { pid: taken.pid };
                passed = Some(taken);
                by
            }
        };
        let reserved = self
            .core
            .lock()
            .await
            .reserve(network, &request, attached_by)?;
        let Reservation { sandbox, plan, .. } = &reserved;
        let job = |sandbox: CallerSandbox| Job::Interface {
            sandbox,
            plan: plan.clone(),
        };
        let parcel = match (request.sandbox, passed) {
            (SandboxSpec::Caller(_), _) => {
                self.expire(reserved.clone());
                return self.core.lock().await.show_endpoint(network, sandbox);
            }
            (SandboxSpec::Token(_), Some(passed)) => Ok((passed.parcel, Some(passed.connection))),
            (SandboxSpec::Token(_), None) => Err(internal("a token vanished")),
            (SandboxSpec::Pid(pid), _) => self
                .keeper
                .run(job(CallerSandbox::Pid(pid)))
                .await
                .map(|parcel| (parcel, None)),
            (SandboxSpec::Path(path), _) => self
                .keeper
                .run(job(CallerSandbox::Path(path)))
                .await
                .map(|parcel| (parcel, None)),
        };
        match parcel {
            Ok((parcel, connection)) => self.bring_up(&reserved, parcel, connection).await,
            Err(error) => {
                self.cancel(&reserved).await;
                Err(error)
            }
        }
    }

    /// Gives up a reservation.
    async fn cancel(&self, reserved: &Reservation) {
        if self.core.lock().await.cancel(reserved) {
            self.ended.notify_waiters();
        }
    }

    /// Starts an endpoint whose interface the caller has made.
    pub(super) async fn start(
        self: &Arc<Self>,
        network: &Name,
        sandbox: &Name,
        request: &StartRequest,
        caller: &Caller,
    ) -> Result<Endpoint, ApiError> {
        let StartRequest { token, attachment } = request;
        let attachment = attachment.map(Attachment);
        let passed = self.tokens.take(token, caller.uid)?;
        let core = self.core.lock().await;
        let reserved = core.reservation(network, sandbox, attachment)?;
        drop(core);
        self.bring_up(&reserved, passed.parcel, Some(passed.connection))
            .await
    }

    /// From a parcel to an endpoint that is up; or back to nothing.
    pub(super) async fn bring_up(
        self: &Arc<Self>,
        reserved: &Reservation,
        mut parcel: Parcel,
        connection: Option<Connection>,
    ) -> Result<Endpoint, ApiError> {
        let Reservation {
            network, sandbox, ..
        } = reserved;
        let record = self.core.lock().await.begin(reserved)?;
        let result = self
            .try_bring_up(reserved, record, &mut parcel, connection)
            .await;
        if let Err(error) = result {
            self.cancel(reserved).await;
            self.keeper.release(endpoint_key(network, sandbox)).await;
            return Err(error);
        }
        self.core.lock().await.show_endpoint(network, sandbox)
    }

    async fn try_bring_up(
        self: &Arc<Self>,
        reserved: &Reservation,
        record: EndpointRecord,
        parcel: &mut Parcel,
        connection: Option<Connection>,
    ) -> Result<(), ApiError> {
        let Reservation {
            network,
            sandbox,
            plan,
            ..
        } = reserved;
        if parcel.kind != plan.kind {
            let message = format!("a {} was asked for, not a {}", plan.kind, parcel.kind);
            return Err(ApiError::new(ErrorCode::InvalidDescriptor, message));
        }
        let end = End::of(&record.attached_by, parcel.process.as_ref(), connection)?;
        let key = endpoint_key(network, sandbox);
        let note = Note {
            key: key.clone(),
            manifest: parcel.manifest(),
            record: serde_json::to_value(&record).map_err(|error| internal(&error.to_string()))?,
        };
        let descriptors: Vec<_> = parcel.descriptors().collect();
        self.keeper.hold(note, &descriptors).await;
        drop(descriptors);
        let links = std::mem::take(&mut parcel.links);
        let parcel = Parcel {
            kind: parcel.kind,
            links,
            interface: parcel.interface.take(),
            offloads: parcel.offloads,
            process: None,
        };
        let link = blocking(move || links::open_endpoint(parcel)).await??;
        let changes = self.core.lock().await.start(reserved, link)?;
        self.watches.watch(self, key, reserved, end);
        self.journal.note(changes).await;
        tracing::info!(%network, %sandbox, attached_by = %record.attached_by, "attached");
        Ok(())
    }

    /// Gives up a reservation that the caller does not take up.
    fn expire(self: &Arc<Self>, reserved: Reservation) {
        let service = self.clone();
        tokio::spawn(async move {
            super::after(super::PENDING_TIME).await;
            if service.core.lock().await.expire(&reserved) {
                service.ended.notify_waiters();
            }
        });
    }

    /// Takes a sandbox out of a network, or out of all of them.
    pub(super) async fn detach(
        &self,
        sandbox: &Name,
        network: Option<&Name>,
        attachment: Option<Attachment>,
    ) -> Result<(), ApiError> {
        let networks = match network {
            Some(network) => vec![network.clone()],
            None => self.core.lock().await.networks_of(sandbox),
        };
        if networks.is_empty() {
            let message = format!("there is no sandbox {sandbox}");
            return Err(ApiError::new(ErrorCode::UnknownSandbox, message)
                .hint("see who is there: heddle status"));
        }
        for network in networks {
            self.end(&network, sandbox, attachment).await?;
        }
        Ok(())
    }

    /// Ends an endpoint, wherever the wish comes from. When this returns neither the keeper nor the
    /// store knows it: a daemon that is killed now does not bring it back.
    pub(super) async fn end(
        &self,
        network: &Name,
        sandbox: &Name,
        attachment: Option<Attachment>,
    ) -> Result<(), ApiError> {
        let ended = self.core.lock().await.end(network, sandbox, attachment)?;
        let Ended { key, port, changes } = ended;
        self.watches.forget(&key);
        self.keeper.release(key).await;
        close(port);
        self.ended.notify_waiters();
        tracing::info!(%network, %sandbox, "detached");
        self.journal.commit(changes).await
    }

    /// Publishes a port.
    pub(super) async fn publish_port(
        &self,
        sandbox: &Name,
        network: Option<&Name>,
        spec: &PortSpec,
    ) -> Result<PublishedPort, ApiError> {
        let mut core = self.core.lock().await;
        let network = port_network(&core, sandbox, network)?;
        let (port, changes) = core.publish_port(&network, sandbox, spec)?;
        drop(core);
        if let Err(error) = self.journal.commit(changes).await {
            let mut core = self.core.lock().await;
            // What is not on disk would be gone after a restart, and must not be there before one.
            let _ = core.unpublish_port(&network, sandbox, &port.spec);
            return Err(error);
        }
        Ok(port)
    }

    /// Withdraws a port.
    pub(super) async fn unpublish_port(
        &self,
        sandbox: &Name,
        network: Option<&Name>,
        spec: &PortSpec,
    ) -> Result<(), ApiError> {
        let mut core = self.core.lock().await;
        let network = port_network(&core, sandbox, network)?;
        let changes = core.unpublish_port(&network, sandbox, spec)?;
        drop(core);
        self.journal.commit(changes).await
    }

    /// Ends whatever the dataplane has found gone.
    pub(super) async fn end_gone(&self) {
        let gone = self.core.lock().await.gone_endpoints();
        for (network, sandbox, attachment) in gone {
            // It may have ended by its other end meanwhile.
            let _ = self.end(&network, &sandbox, Some(attachment)).await;
        }
        self.close_gone_legs().await;
    }
}

/// The one network of a sandbox that a port can be published in.
fn port_network(core: &Core, sandbox: &Name, network: Option<&Name>) -> Result<Name, ApiError> {
    if let Some(network) = network {
        return Ok(network.clone());
    }
    let mut networks = core.networks_of(sandbox);
    if networks.len() > 1 {
        networks.retain(|network| core.has_uplink(network));
    }
    match networks.as_slice() {
        [network] => Ok(network.clone()),
        [] => {
            let message = format!("there is no sandbox {sandbox} in a network with an uplink");
            Err(ApiError::new(ErrorCode::UnknownSandbox, message))
        }
        several => {
            let names: Vec<&str> = several.iter().map(Name::as_str).collect();
            let message = format!("{sandbox} is in several networks: {}", names.join(", "));
            Err(ApiError::new(ErrorCode::InvalidRequest, message).hint("say which with --network"))
        }
    }
}

/// A process, told from a later one of the same number.
fn by_process(pid: u32) -> Result<AttachedBy, ApiError> {
    let started = process::start_time(pid)
        .map_err(|_| ApiError::new(ErrorCode::ProcessGone, format!("there is no process {pid}")))?;
    Ok(AttachedBy::Process { pid, started })
}

/// Subnets that the host has routes to. Best effort: automatic subnets only avoid them.
fn host_routes() -> Vec<IpNet> {
    let routes = heddle_sys::netlink::Netlink::open().and_then(|mut netlink| netlink.routes());
    routes
        .unwrap_or_default()
        .into_iter()
        .filter_map(|route| IpNet::new(route.destination, route.prefix_len).ok())
        .collect()
}

/// Drops a port where closing its descriptors may take tens of milliseconds.
pub(super) fn close(port: Option<Arc<Port>>) {
    if let Some(port) = port {
        tokio::task::spawn_blocking(move || drop(port));
    }
}

/// Does something that may take a while off the control plane's thread.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| internal(&error.to_string()))
}
