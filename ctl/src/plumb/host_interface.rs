//! A packet socket for an interface of the host: how a leg gets onto it.

use heddle_sys::netlink::Netlink;
use heddle_sys::packet;
use heddle_sys::tap::Offloads;

use super::interface::packet_error;
use super::parcel::Parcel;
use crate::api::{ApiError, EndpointKind, ErrorCode};

/// Opens an unbound packet socket; whoever gets it binds it to `interface`.
pub(super) fn open(interface: &str) -> Result<Parcel, ApiError> {
    let exists = Netlink::open().and_then(|mut netlink| netlink.link(interface));
    exists.map_err(|error| {
        let message = format!("there is no interface {interface} to go out through: {error}");
        ApiError::new(ErrorCode::UplinkFailed, message)
    })?;
    let socket = packet::open_unbound().map_err(packet_error)?;
    Ok(Parcel {
        kind: EndpointKind::Veth,
        links: vec![socket],
        interface: Some(interface.to_owned()),
        offloads: Offloads::default(),
        process: None,
    })
}
