//! Cables between namespaces.

use std::net::IpAddr;
use std::os::fd::AsFd as _;

use heddle_sys::netlink::{LinkChange, Netlink, VethOptions};

use super::container::Container;
use super::wait::PATIENCE;

/// A new network namespace has its loopback interface down.
pub(super) fn set_loopback_up() {
    set_interface_up("lo");
}

/// Sets an interface of this namespace up.
pub fn set_interface_up(name: &str) {
    let mut netlink = Netlink::open().expect("a netlink socket");
    let index = netlink.link(name).expect("it is here").index;
    set_up(&mut netlink, index);
}

fn set_up(netlink: &mut Netlink, interface: u32) {
    let up = LinkChange {
        up: Some(true),
        ..LinkChange::default()
    };
    netlink.set_link(interface, &up).expect("it is ours");
}

/// A veth pair with one end on the host and one in a container.
#[derive(Debug)]
pub struct Cable {
    /// The name of the host's end.
    pub host_end: &'static str,
    /// The name of the container's end.
    pub far_end: &'static str,
}

impl Cable {
    /// Lays it and sets both ends up.
    ///
    /// # Panics
    ///
    /// The kernel refuses.
    pub fn lay(&self, container: &Container, mtu: u32) {
        let mut netlink = Netlink::open().expect("a netlink socket");
        let options = VethOptions {
            name: self.host_end,
            peer_name: self.far_end,
            peer_netns: Some(container.network().as_fd()),
            mac: None,
            peer_mac: None,
            mtu: Some(mtu),
            tx_queue_len: None,
            up: true,
        };
        netlink.create_veth(&options).expect("a veth pair");
        container.run(|| set_interface_up(self.far_end));
    }
}

/// Gives an interface of this namespace an address that is usable at once.
pub(super) fn add_address(interface: &str, address: IpAddr, prefix_len: u8) {
    let mut netlink = Netlink::open().expect("a netlink socket");
    let index = netlink.link(interface).expect("it is here").index;
    netlink
        .add_address(index, address, prefix_len, true)
        .expect("a free address");
    assert!(netlink.wait_local(address, PATIENCE).expect("it answers"));
}
