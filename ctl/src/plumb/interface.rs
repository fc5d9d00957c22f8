//! The interface inside: made, configured, set up.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use heddle_switch::link_local;
use heddle_sys::namespace::{self, Namespace, NamespaceKind};
use heddle_sys::netlink::{LinkChange, Netlink, NetlinkError, Route, VethOptions};
use heddle_sys::packet::{self, PacketError};
use heddle_sys::tap::{self, Offloads, TapError, TapOptions};
use heddle_sys::{ethtool, sysctl};
use heddle_wire::Address;
use rustix::event::{Timespec, poll};

use super::namespace_error;
use super::parcel::Parcel;
use crate::api::{ApiError, EndpointKind, ErrorCode, Plan};

/// Frames that may wait to be read from a TAP, or to be sent through a veth pair.
const TX_QUEUE_LEN: u32 = tap::TX_QUEUE_LENGTH;

/// How long the kernel may take to finish in the background what it was told.
const PATIENCE: Duration = Duration::from_secs(1);

/// How long the kernel may take to remove, in the background, the interface of an endpoint or leg that
/// has just ended. On a busy machine that takes seconds.
const LEFTOVER_TIME: Duration = Duration::from_secs(10);

/// The switch's end of a veth pair, alone in a namespace of its own.
const SWITCH_END: &str = "heddle";

/// Makes the interface of an endpoint in `namespace` and enters it for that.
pub(super) fn make(namespace: &Namespace, plan: &Plan) -> Result<Parcel, ApiError> {
    namespace.enter_with_owner().map_err(namespace_error)?;
    wait_until_free(&plan.interface)?;
    let (parcel, far_end) = match plan.kind {
        EndpointKind::Tap => (make_tap(&plan.interface, plan.queues)?, None),
        EndpointKind::Veth => {
            let (parcel, far_end) = make_veth(namespace, plan)?;
            (parcel, Some(far_end))
        }
    };
    let mut netlink = Netlink::open().map_err(netlink_error)?;
    configure(&mut netlink, plan)?;
    if let Some(mut far_end) = far_end {
        // Until the kernel has noticed that both ends are up, this one throws away what it is given.
        let end = far_end.link(SWITCH_END).map_err(netlink_error)?;
        far_end
            .wait_running(end.index, PATIENCE)
            .map_err(netlink_error)?;
    }
    Ok(parcel)
}

/// Waits for the end of a predecessor's interface of the same name.
fn wait_until_free(name: &str) -> Result<(), ApiError> {
    let look = Timespec {
        tv_sec: 0,
        tv_nsec: 2_000_000,
    };
    let mut netlink = Netlink::open().map_err(netlink_error)?;
    let deadline = heddle_sys::clock::monotonic() + LEFTOVER_TIME;
    while netlink.link(name).is_ok() {
        if heddle_sys::clock::monotonic() > deadline {
            return Err(interface_taken(name));
        }
        // Nothing but time passes here; a signal ends the pause early, which is as good.
        let _ = poll(&mut [], Some(&look));
    }
    Ok(())
}

/// A TAP in the current namespace.
fn make_tap(name: &str, queues: u16) -> Result<Parcel, ApiError> {
    let options = TapOptions {
        name,
        queues,
        persist: false,
    };
    let tap = tap::create(&options).map_err(tap_error)?;
    Ok(Parcel {
        kind: EndpointKind::Tap,
        links: tap.queues,
        interface: None,
        offloads: tap.offloads,
        process: None,
    })
}

/// A veth pair, and a netlink socket where its switch end is: in a network namespace of its own, which
/// nothing but the packet socket keeps. The sandbox cannot see it, and it goes when the socket is
/// closed.
fn make_veth(sandbox: &Namespace, plan: &Plan) -> Result<(Parcel, Netlink), ApiError> {
    let inside = Netlink::open().map_err(netlink_error)?;
    namespace::unshare(&[NamespaceKind::Network]).map_err(namespace_error)?;
    let mut netlink = Netlink::open().map_err(netlink_error)?;
    netlink
        .create_veth(&VethOptions {
            name: SWITCH_END,
            peer_name: &plan.interface,
            peer_netns: Some(sandbox.as_fd()),
            mac: None,
            peer_mac: Some(plan.mac.0),
            mtu: Some(u32::from(plan.mtu)),
            tx_queue_len: Some(TX_QUEUE_LEN),
            up: false,
        })
        .map_err(netlink_error)?;
    let end = netlink.link(SWITCH_END).map_err(netlink_error)?;
    // The kernel's own IPv6 would speak on the link in the switch's name.
    let quiet = LinkChange {
        up: Some(true),
        ipv6_link_local: Some(false),
        ..LinkChange::default()
    };
    netlink.set_link(end.index, &quiet).map_err(netlink_error)?;
    let socket: OwnedFd = packet::open_unbound().map_err(packet_error)?;
    sandbox.enter().map_err(namespace_error)?;
    // What a virtio-net header cannot describe is finished by the sender itself.
    ethtool::fit_for_packet_socket(inside.as_fd(), &plan.interface).map_err(|error| {
        ApiError::new(
            ErrorCode::PlumbingFailed,
            format!("switching offloads of {} off: {error}", plan.interface),
        )
    })?;
    let parcel = Parcel {
        kind: EndpointKind::Veth,
        links: vec![socket],
        interface: Some(SWITCH_END.to_owned()),
        offloads: Offloads::default(),
        process: None,
    };
    Ok((parcel, netlink))
}

/// Addresses, routes, MTU, and the loopback interface, which a fresh namespace has down.
fn configure(netlink: &mut Netlink, plan: &Plan) -> Result<(), ApiError> {
    set_up_loopback(netlink)?;
    let index = netlink.link(&plan.interface).map_err(netlink_error)?.index;
    quiet_ipv6(plan);
    let change = LinkChange {
        up: None,
        mtu: Some(u32::from(plan.mtu)),
        mac: Some(plan.mac.0),
        tx_queue_len: Some(TX_QUEUE_LEN),
        noarp: Some(plan.no_arp),
        // Ours is given below, without the second's wait for duplicates.
        ipv6_link_local: Some(false),
        ..LinkChange::default()
    };
    netlink.set_link(index, &change).map_err(netlink_error)?;
    // The kernel's default queueing costs 6 MiB and a millisecond for each interface, and would only
    // queue once more what the link queues itself.
    netlink.remove_queueing(index).map_err(netlink_error)?;
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(index, &up).map_err(netlink_error)?;
    for address in &plan.addresses {
        let added = netlink.add_address(index, address.addr(), address.prefix_len(), true);
        added.map_err(netlink_error)?;
    }
    if carries_ipv6(plan) && !plan.no_arp {
        let own = Address::to_ip(link_local(plan.mac));
        netlink
            .add_address(index, own, 64, true)
            .map_err(netlink_error)?;
    }
    for route in &plan.routes {
        let mut added = Route::to(route.destination.addr(), route.destination.prefix_len());
        added.gateway = route.gateway;
        added.interface = Some(index);
        netlink.add_route(&added).map_err(netlink_error)?;
    }
    wait_until_usable(netlink, index, plan)
}

/// What the kernel completes in the background must be complete before anybody relies on it.
fn wait_until_usable(netlink: &mut Netlink, index: u32, plan: &Plan) -> Result<(), ApiError> {
    let running = netlink
        .wait_running(index, PATIENCE)
        .map_err(netlink_error)?;
    for address in plan
        .addresses
        .iter()
        .filter(|address| address.addr().is_ipv6())
    {
        // A second without it is no reason to fail: the address works a little later.
        netlink
            .wait_local(address.addr(), PATIENCE)
            .map_err(netlink_error)?;
    }
    if running {
        Ok(())
    } else {
        let message = format!("{} does not come up", plan.interface);
        Err(ApiError::new(ErrorCode::PlumbingFailed, message))
    }
}

fn set_up_loopback(netlink: &mut Netlink) -> Result<(), ApiError> {
    let loopback = netlink.link("lo").map_err(netlink_error)?;
    if !loopback.up {
        let up = LinkChange {
            up: Some(true),
            ..LinkChange::default()
        };
        netlink
            .set_link(loopback.index, &up)
            .map_err(netlink_error)?;
    }
    Ok(())
}

fn carries_ipv6(plan: &Plan) -> bool {
    plan.addresses
        .iter()
        .any(|address| address.addr().is_ipv6())
}

/// No router advertisements are listened to, and without an IPv6 address there is no IPv6 at all.
/// Best effort: `/proc/sys` may be hidden, and the switch lets neither pass anyway.
fn quiet_ipv6(plan: &Plan) {
    let key = |name: &str| format!("net/ipv6/conf/{}/{name}", plan.interface);
    let disable = if carries_ipv6(plan) { "0" } else { "1" };
    let _ = sysctl::write(&key("accept_ra"), "0");
    let _ = sysctl::write(&key("disable_ipv6"), disable);
}

fn interface_taken(name: &str) -> ApiError {
    let message = format!("the sandbox has an interface named {name} already");
    ApiError::new(ErrorCode::InterfaceTaken, message).hint("choose another name with --ifname")
}

fn tap_error(error: TapError) -> ApiError {
    let code = match &error {
        TapError::DeviceMissing | TapError::DeviceForbidden | TapError::NoDriver => {
            ErrorCode::NoTun
        }
        TapError::NameTaken { name } => return interface_taken(name),
        TapError::NameInvalid { .. } => ErrorCode::InvalidRequest,
        TapError::NotPermitted { .. } => ErrorCode::NamespaceForbidden,
        _ => ErrorCode::PlumbingFailed,
    };
    ApiError::new(code, error.to_string()).maybe_hint(error.hint())
}

pub(super) fn packet_error(error: PacketError) -> ApiError {
    let code = match &error {
        PacketError::NotPermitted => ErrorCode::NotPermitted,
        PacketError::NoInterface { .. } | PacketError::NotEthernet { .. } => {
            ErrorCode::UplinkFailed
        }
        _ => ErrorCode::PlumbingFailed,
    };
    ApiError::new(code, error.to_string()).maybe_hint(error.hint())
}

fn netlink_error(error: NetlinkError) -> ApiError {
    let code = if error.is_forbidden() {
        ErrorCode::NamespaceForbidden
    } else {
        ErrorCode::PlumbingFailed
    };
    ApiError::new(code, error.to_string())
}
