//! Taking up what a former daemon left: from the store, and from the keeper's hands.
//!
//! Networks come from the store. Endpoints come from both: one whose descriptors the keeper holds is
//! up again at once, whatever its interface has queued meanwhile; one of which only the store knows
//! (keeper and daemon were both killed) is made anew if what it was attached by is still there, and
//! forgotten if not. A flow is lost in either case, an address never changes hands.

use std::collections::BTreeMap;
use std::sync::Arc;

use heddle_sys::process;

use super::records::{AttachedBy, EndpointRecord, NetworkRecord, Records, endpoint_key};
use super::service::Service;
use super::uplinks::HeldLeg;
use crate::api::{ApiError, CallerSandbox, ErrorCode, Uplink};
use crate::keeper::Held;
use crate::plumb::{Job, Parcel};
use crate::store::Change;

/// Takes up everything there is.
///
/// # Errors
///
/// Filter rules that do not hold any more: nothing may pass without them.
pub(super) async fn restore(
    service: &Arc<Service>,
    records: Records,
    inherited: Vec<Held>,
) -> Result<(), ApiError> {
    let mut legs = Vec::new();
    let mut endpoints = BTreeMap::new();
    for held in inherited {
        if let Ok(leg) = serde_json::from_value::<HeldLeg>(held.note.record.clone()) {
            service.keeper.release(held.note.key.clone()).await;
            legs.push((leg.uplink, held));
        } else if let Ok(record) =
            serde_json::from_value::<EndpointRecord>(held.note.record.clone())
        {
            endpoints.insert(
                endpoint_key(&record.network, &record.sandbox),
                (record, Some(held)),
            );
        } else {
            service.keeper.release(held.note.key.clone()).await;
        }
    }
    for network in records.networks {
        let held = take_leg(&mut legs, &network.uplink);
        restore_network(service, network, held).await;
    }
    for record in records.rules {
        let mut core = service.core.lock().await;
        match core.restore_rules(record) {
            // Of a network that could not be restored: nothing passes there.
            Err(error) if error.code() == ErrorCode::UnknownNetwork => {
                tracing::warn!(%error, "filter rules were not restored");
            }
            restored => restored?,
        }
    }
    for record in records.endpoints {
        let key = endpoint_key(&record.network, &record.sandbox);
        // The store knows ports that were published after the descriptors were handed over.
        let held = endpoints.remove(&key).and_then(|(_, held)| held);
        endpoints.insert(key, (record, held));
    }
    for (key, (record, held)) in endpoints {
        restore_endpoint(service, key, record, held).await;
    }
    service.core.lock().await.drop_stale_leases();
    Ok(())
}

fn take_leg(legs: &mut Vec<(Uplink, Held)>, uplink: &Uplink) -> Option<Parcel> {
    let position = legs.iter().position(|(held, _)| held == uplink)?;
    let (_, held) = legs.swap_remove(position);
    Parcel::assemble(&held.note.manifest, held.descriptors)
}

async fn restore_network(service: &Arc<Service>, record: NetworkRecord, held: Option<Parcel>) {
    let name = record.name.clone();
    let was_held = held.is_some();
    let mut opened = service
        .open_leg(&name, &record.uplink, record.mtu, held)
        .await;
    if was_held && opened.is_err() {
        // Its interface is gone: perhaps a new one can be made.
        opened = service
            .open_leg(&name, &record.uplink, record.mtu, None)
            .await;
    }
    let (leg, fault) = match opened {
        Ok(leg) => (leg, None),
        Err(error) => {
            tracing::warn!(network = %name, %error, "the uplink does not work");
            (None, Some(error.to_string()))
        }
    };
    if let Err(error) = service.core.lock().await.add_network(record, leg, fault) {
        tracing::error!(network = %name, %error, "the network could not be restored");
    }
}

async fn restore_endpoint(
    service: &Arc<Service>,
    key: String,
    record: EndpointRecord,
    held: Option<Held>,
) {
    let (network, sandbox) = (record.network.clone(), record.sandbox.clone());
    let result = try_restore_endpoint(service, record, held).await;
    match result {
        Ok(()) => tracing::info!(%network, %sandbox, "restored"),
        Err(problem) => {
            tracing::info!(%network, %sandbox, %problem, "not restored");
            service.keeper.release(key.clone()).await;
            service.journal.note(vec![Change::Delete(key)]).await;
        }
    }
}

async fn try_restore_endpoint(
    service: &Arc<Service>,
    record: EndpointRecord,
    held: Option<Held>,
) -> Result<(), ApiError> {
    let attached_by = record.attached_by.clone();
    let sandbox = still_there(&attached_by)?;
    let reserved = service.core.lock().await.restore(record)?;
    let parcel = held.and_then(|held| Parcel::assemble(&held.note.manifest, held.descriptors));
    let parcel = match (parcel, sandbox) {
        (Some(parcel), _) => Ok(parcel),
        (None, Some(sandbox)) => {
            let job = Job::Interface {
                sandbox,
                plan: reserved.plan.clone(),
            };
            service.keeper.run(job).await
        }
        (None, None) => Err(gone(&attached_by)),
    };
    match parcel {
        Ok(parcel) => service.bring_up(&reserved, parcel, None).await.map(drop),
        Err(error) => {
            service.core.lock().await.cancel(&reserved);
            Err(error)
        }
    }
}

/// What an endpoint was attached by, if it is still the same.
fn still_there(attached_by: &AttachedBy) -> Result<Option<CallerSandbox>, ApiError> {
    match attached_by {
        AttachedBy::Process { pid, started } => match process::start_time(*pid) {
            Ok(now) if now == *started => Ok(Some(CallerSandbox::Pid(*pid))),
            _ => Err(gone(attached_by)),
        },
        AttachedBy::Path(path) => {
            if path.exists() {
                Ok(Some(CallerSandbox::Path(path.clone())))
            } else {
                Err(gone(attached_by))
            }
        }
        // The connection ended with the daemon that had accepted it.
        AttachedBy::Connection { .. } => Err(gone(attached_by)),
    }
}

fn gone(attached_by: &AttachedBy) -> ApiError {
    let message = format!("{attached_by} is gone");
    ApiError::new(ErrorCode::ProcessGone, message)
}
