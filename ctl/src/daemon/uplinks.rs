//! Opening and closing ways out.

use std::os::fd::BorrowedFd;

use heddle_switch::LegId;
use serde::{Deserialize, Serialize};

use super::core::{OpenLeg, internal, leg_job};
use super::links;
use super::records::leg_key;
use super::service::{Service, blocking, close};
use crate::api::{ApiError, ErrorCode, Name, Uplink, UplinkSpec};
use crate::keeper::Note;
use crate::plumb::Parcel;

/// What the keeper is told of a leg that it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HeldLeg {
    /// The way out it is of.
    pub(super) uplink: Uplink,
}

/// Refuses a leg with an address that the host has itself. A leg is a station of its own on the link: two
/// that answer for one address keep breaking each other's flows, and what the host listens on there would
/// be given to flows from inside (port shadowing, CVE-2021-3773).
pub(super) fn require_own_addresses(uplink: &Uplink) -> Result<(), ApiError> {
    let UplinkSpec::Packet(interface) = &uplink.kind else {
        return Ok(());
    };
    let addresses =
        heddle_sys::netlink::Netlink::open().and_then(|mut netlink| netlink.addresses());
    // Best effort, as with routes: without netlink nothing else would work either.
    let taken = addresses.unwrap_or_default().into_iter().find(|own| {
        let is_taken = |address: &ipnet::IpNet| address.addr() == own.ip;
        uplink.addresses.iter().any(is_taken)
    });
    let Some(taken) = taken else { return Ok(()) };
    let message = format!("{} is an address of this host", taken.ip);
    Err(ApiError::new(ErrorCode::InvalidAddress, message).hint(format!(
        "give the uplink a free address on the link of {interface}, which nobody else answers for"
    )))
}

impl Service {
    /// The leg for a network: one that is open already, else a new one from `passed` descriptors or
    /// made by the keeper. `None` for a network without a way out.
    pub(super) async fn open_leg(
        &self,
        network: &Name,
        uplink: &Uplink,
        mtu: u16,
        passed: Option<Parcel>,
    ) -> Result<Option<LegId>, ApiError> {
        if uplink.kind == UplinkSpec::None {
            return Ok(None);
        }
        let (open, job) = {
            let mut core = self.core.lock().await;
            if let Some(id) = core.leg_of(uplink) {
                return Ok(Some(id));
            }
            let queues = u16::try_from(core.switch.workers()).unwrap_or(u16::MAX);
            let kind = core.settings.default_kind;
            (
                core.plan_leg(uplink, mtu)?,
                leg_job(network, uplink, mtu, queues, kind),
            )
        };
        let id = open.id;
        let parcel = match (passed, job) {
            (Some(parcel), _) => Ok(parcel),
            (None, Some(job)) => self.keeper.run(job).await,
            (None, None) => Err(internal("an uplink without a way to open it")),
        };
        let opened = match parcel {
            Ok(parcel) => self.take_up_leg(open, uplink, parcel).await,
            Err(error) => Err(error),
        };
        if opened.is_err() {
            self.core.lock().await.abandon_leg(id);
        }
        opened.map(|()| Some(id))
    }

    /// Takes legs whose interface is gone out of service, for all networks that use them.
    pub(super) async fn close_gone_legs(&self) {
        let gone = self.core.lock().await.gone_legs();
        for id in gone {
            let port = self.core.lock().await.leg_failed(id);
            if port.is_some() {
                tracing::warn!("an uplink's interface is gone");
                self.keeper.release(leg_key(id.0)).await;
                close(port);
            }
        }
    }

    async fn take_up_leg(
        &self,
        open: OpenLeg,
        uplink: &Uplink,
        parcel: Parcel,
    ) -> Result<(), ApiError> {
        let key = leg_key(open.id.0);
        let record = serde_json::to_value(HeldLeg {
            uplink: uplink.clone(),
        })
        .map_err(|error| internal(&error.to_string()))?;
        let note = Note {
            key: key.clone(),
            manifest: parcel.manifest(),
            record,
        };
        let descriptors: Vec<BorrowedFd<'_>> = parcel.descriptors().collect();
        self.keeper.hold(note, &descriptors).await;
        drop(descriptors);
        let mac = open.mac;
        let opened = match blocking(move || links::open_leg(parcel, mac)).await {
            Ok(Ok(link)) => self.core.lock().await.add_leg(open, link),
            Ok(Err(error)) | Err(error) => Err(error),
        };
        if opened.is_err() {
            self.keeper.release(key).await;
        }
        opened
    }

    /// Closes a leg if no network uses it any more.
    pub(super) async fn close_leg(&self, leg: Option<LegId>) {
        let Some(leg) = leg else { return };
        let port = self.core.lock().await.remove_leg(leg);
        if port.is_some() {
            self.keeper.release(leg_key(leg.0)).await;
            close(port);
        }
    }
}
