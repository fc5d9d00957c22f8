//! From passed descriptors to something the dataplane can read and write.

use std::os::fd::{AsFd, OwnedFd};

use heddle_switch::endpoint::{Endpoint as Link, PacketEndpoint, TapEndpoint};
use heddle_sys::packet::{PacketError, PacketSocket, RingOptions};
use heddle_sys::tap::{self, Offloads, Tap, TapError, VNET_HEADER_LENGTH};
use heddle_wire::MacAddr;

use crate::api::{ApiError, EndpointKind, ErrorCode};
use crate::plumb::Parcel;

/// Opens the link of an endpoint. Takes tens of milliseconds for a packet socket, whose ring waits
/// for the kernel: not for the control plane's own thread.
pub(super) fn open_endpoint(parcel: Parcel) -> Result<Link, ApiError> {
    open(parcel, &RingOptions::default())
}

/// Opens the link of a leg, which hears only what is for its own address.
pub(super) fn open_leg(parcel: Parcel, mac: MacAddr) -> Result<Link, ApiError> {
    let addresses = [mac.0];
    let options = RingOptions {
        promiscuous: true,
        addresses: Some(&addresses),
        ..RingOptions::default()
    };
    open(parcel, &options)
}

fn open(parcel: Parcel, options: &RingOptions<'_>) -> Result<Link, ApiError> {
    let Parcel {
        kind,
        links,
        interface,
        ..
    } = parcel;
    match kind {
        EndpointKind::Tap => open_tap(links),
        EndpointKind::Veth => open_packet(links, interface.as_deref(), options),
    }
}

/// Every queue must be one of the same TAP; what the sender says of it is not relied on.
fn open_tap(queues: Vec<OwnedFd>) -> Result<Link, ApiError> {
    let mut has_header = true;
    let mut offloads = Offloads::default();
    let mut name = None;
    for queue in &queues {
        let info = Tap::inspect(queue.as_fd()).map_err(tap_error)?;
        if info.packet_information {
            return Err(invalid("the TAP was made without IFF_NO_PI"));
        }
        if info.vnet_header && info.vnet_header_length != VNET_HEADER_LENGTH {
            return Err(invalid("the TAP's virtio-net header is not of 10 octets"));
        }
        if *name.get_or_insert_with(|| info.name.clone()) != info.name {
            return Err(invalid("the queues are of different TAPs"));
        }
        has_header &= info.vnet_header;
        rustix::io::ioctl_fionbio(queue, true)
            .map_err(|error| invalid(&format!("the TAP cannot be made non-blocking: {error}")))?;
        if info.vnet_header {
            // Offloads are the interface's; asking once more changes nothing and tells them.
            offloads = tap::negotiate(queue.as_fd()).map_err(tap_error)?;
        }
    }
    TapEndpoint::new(queues, offloads, has_header)
        .map(Link::Tap)
        .ok_or_else(|| invalid("there is no queue"))
}

fn open_packet(
    mut links: Vec<OwnedFd>,
    interface: Option<&str>,
    options: &RingOptions<'_>,
) -> Result<Link, ApiError> {
    let (Some(socket), true) = (links.pop(), links.is_empty()) else {
        return Err(invalid("a veth endpoint has one packet socket"));
    };
    let mut socket = PacketSocket::from_fd(socket, options).map_err(packet_error)?;
    if socket.interface().map_err(packet_error)?.is_none() {
        let interface =
            interface.ok_or_else(|| invalid("the packet socket is bound to no interface"))?;
        socket.bind(interface).map_err(packet_error)?;
    }
    PacketEndpoint::new(socket, 0)
        .map(Link::Packet)
        .map_err(packet_error)
}

fn invalid(problem: &str) -> ApiError {
    ApiError::new(
        ErrorCode::InvalidDescriptor,
        format!("passed descriptors: {problem}"),
    )
}

fn tap_error(error: TapError) -> ApiError {
    invalid(&error.to_string()).maybe_hint(error.hint())
}

fn packet_error(error: PacketError) -> ApiError {
    let code = match &error {
        PacketError::NotPacketSocket | PacketError::NotEthernet { .. } => {
            ErrorCode::InvalidDescriptor
        }
        PacketError::NotPermitted => ErrorCode::NotPermitted,
        _ => ErrorCode::PlumbingFailed,
    };
    ApiError::new(code, error.to_string()).maybe_hint(error.hint())
}
