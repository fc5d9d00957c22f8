//! How the daemon is, and its end.

use std::sync::Arc;

use super::core::open_descriptors;
use super::service::Service;
use crate::api::{ApiError, EndpointLimits, ErrorCode, Status, VERSION};

/// What does not change while the daemon runs.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub(super) keeper_pid: u32,
    pub(super) restarts: u32,
    pub(super) store: String,
    pub(super) started: std::time::Duration,
}

impl Service {
    /// How the daemon is.
    pub(super) async fn status(&self) -> Status {
        let core = self.core.lock().await;
        let pid = std::process::id();
        let nat = core.switch.nat();
        let limits = nat.limits();
        let octets = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
        let (descriptors_limit, _) = heddle_sys::limits::fd_limit();
        let uptime = heddle_sys::clock::monotonic().saturating_sub(self.facts.started);
        Status {
            version: VERSION.to_owned(),
            pid,
            keeper: self.keeper.is_alive().then_some(self.facts.keeper_pid),
            restarts: self.facts.restarts,
            uptime_seconds: uptime.as_secs(),
            workers: u16::try_from(core.switch.workers()).unwrap_or(u16::MAX),
            store: self.facts.store.clone(),
            store_fault: self.journal.fault(),
            default_endpoint: core.settings.default_kind,
            tun_fault: core.settings.tun_fault.clone(),
            networks: core.network_count(),
            endpoints: core.describe_endpoints(),
            sessions: nat.session_count(),
            sessions_limit: limits.sessions,
            mappings: nat.mapping_count(),
            descriptors: open_descriptors(),
            descriptors_limit,
            memory: heddle_sys::memory::resident(pid).unwrap_or(0),
            endpoint_limits: EndpointLimits {
                sessions: limits.sessions_per_owner,
                half_open: limits.half_open_per_owner,
                mappings: limits.mappings_per_owner,
                memory_bound: octets(nat.memory_bound_per_owner()),
            },
            memory_bound: octets(core.switch.memory_bound()),
        }
    }

    /// Ends the daemon; with `purge`, after everything it knows was removed.
    pub(super) async fn shut_down(self: &Arc<Self>, purge: bool) -> Result<(), ApiError> {
        if purge {
            // A rule that names a network would keep it.
            self.clear_rules().await?;
            let endpoints = self.core.lock().await.show_endpoints(None)?;
            for endpoint in endpoints {
                let ended = self.end(&endpoint.network, &endpoint.sandbox, None).await;
                // One that ends by itself meanwhile, perhaps with its network, is gone as well.
                ended.or_else(|error| match error.code() {
                    ErrorCode::UnknownSandbox | ErrorCode::UnknownNetwork => Ok(()),
                    _ => Err(error),
                })?;
            }
            // A network that others are routed to goes after them.
            loop {
                let networks = self.core.lock().await.show_networks();
                let before = networks.len();
                for network in networks {
                    let _ = self.remove_network(&network.name).await;
                }
                let after = self.core.lock().await.network_count();
                if after == 0 || after == before {
                    break;
                }
            }
        }
        self.stop.notify_one();
        Ok(())
    }
}
