//! Interfaces.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::Duration;

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NlasIterator, ParseableParametrized};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute,
    LinkExtentMask, LinkFlags, LinkHeader, LinkInfo, LinkMessage,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Failure, Netlink, NetlinkError, wait_until};
use crate::tap::is_interface_name;

/// Bytes of `struct ifinfomsg`.
const HEADER_LENGTH: usize = 16;

// Attributes of `linux/if_link.h` that are wanted.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MTU: u16 = 4;
const IFLA_LINK: u16 = 5;
const IFLA_TXQLEN: u16 = 13;
const IFLA_LINKINFO: u16 = 18;

/// An interface as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its Ethernet address, if it has one of six bytes.
    pub mac: Option<[u8; 6]>,
    /// The longest packet.
    pub mtu: u32,
    /// Whether it is set up.
    pub up: bool,
    /// Whether it is up and its other end is too.
    pub running: bool,
    /// Whether it is the loopback interface.
    pub loopback: bool,
    /// Whether it does without ARP and neighbour discovery.
    pub noarp: bool,
    /// How many frames may wait to be sent, or to be read from a TAP.
    pub tx_queue_len: u32,
    /// `veth`, `tun`, `bridge`; nothing for hardware.
    pub kind: Option<String>,
    /// The number of the interface it rests on; for a veth the other end's, in the other's namespace.
    pub lower: Option<u32>,
}

/// What to change; everything else stays.
#[derive(Clone, Copy, Debug, Default)]
pub struct LinkChange<'a> {
    /// Set up or down.
    pub up: Option<bool>,
    /// The longest packet.
    pub mtu: Option<u32>,
    /// The Ethernet address.
    pub mac: Option<[u8; 6]>,
    /// The name. Most kernels refuse it for an interface that is up.
    pub name: Option<&'a str>,
    /// The network namespace to move to. Its number there may be another.
    pub netns: Option<BorrowedFd<'a>>,
    /// How many frames may wait to be sent, or to be read from a TAP.
    pub tx_queue_len: Option<u32>,
    /// Whether to do without ARP and neighbour discovery.
    pub noarp: Option<bool>,
    /// Whether the kernel makes itself a link-local IPv6 address when the interface is set up. Such
    /// an address is unusable for a second, while the kernel looks for duplicates.
    pub ipv6_link_local: Option<bool>,
}

impl LinkChange<'_> {
    /// Everything but setting it up or down.
    fn message(&self) -> LinkMessage {
        let Self {
            up: _,
            mtu,
            mac,
            name,
            netns,
            tx_queue_len,
            noarp,
            ipv6_link_local,
        } = *self;
        let mut message = LinkMessage::default();
        if let Some(noarp) = noarp {
            message.header.change_mask = LinkFlags::Noarp;
            message.header.flags.set(LinkFlags::Noarp, noarp);
        }
        let link_local = ipv6_link_local.map(|make| {
            let mode = if make {
                In6AddrGenMode::Eui64
            } else {
                In6AddrGenMode::None
            };
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(
                mode,
            )])])
        });
        message.attributes.extend(
            [
                netns.map(|netns| LinkAttribute::NetNsFd(netns.as_raw_fd())),
                name.map(|name| LinkAttribute::IfName(name.to_owned())),
                mac.map(|mac| LinkAttribute::Address(mac.to_vec())),
                mtu.map(LinkAttribute::Mtu),
                tx_queue_len.map(LinkAttribute::TxQueueLen),
                link_local,
            ]
            .into_iter()
            .flatten(),
        );
        message
    }
}

/// A veth pair to be made: this end in the socket's namespace, the peer there or elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct VethOptions<'a> {
    /// The name of this end.
    pub name: &'a str,
    /// The name of the other end.
    pub peer_name: &'a str,
    /// The other end's network namespace; `None` for this one.
    pub peer_netns: Option<BorrowedFd<'a>>,
    /// This end's address; `None` for a random one.
    pub mac: Option<[u8; 6]>,
    /// The other end's address; `None` for a random one.
    pub peer_mac: Option<[u8; 6]>,
    /// The longest packet, at both ends.
    pub mtu: Option<u32>,
    /// How many frames may wait at both ends.
    pub tx_queue_len: Option<u32>,
    /// Whether this end is set up at once. The other cannot be: the kernel refuses to set an end up
    /// that is not joined yet (ENOTCONN, tried), and takes the other end's flags before it joins.
    pub up: bool,
}

impl Netlink {
    /// The interface called `name`.
    pub fn link(&mut self, name: &str) -> Result<Link, NetlinkError> {
        check_name(name)?;
        let mut message = LinkMessage::default();
        message
            .attributes
            .push(LinkAttribute::IfName(name.to_owned()));
        self.ask_for_link(message)
            .map_err(|failure| failure.during(format!("looking for interface {name}")))
    }

    /// The interface with number `index`.
    pub fn link_by_index(&mut self, index: u32) -> Result<Link, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.ask_for_link(message)
            .map_err(|failure| failure.during(format!("looking for interface {index}")))
    }

    /// All interfaces of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(without_statistics());
        self.dump(
            &RouteNetlinkMessage::GetLink(message),
            |kind, payload, links| {
                links.extend(decode(kind, payload)?);
                Ok(())
            },
        )
        .map_err(|failure| failure.during("listing interfaces"))
    }

    /// Makes a veth pair, both ends at once.
    pub fn create_veth(&mut self, options: &VethOptions<'_>) -> Result<(), NetlinkError> {
        let VethOptions {
            name,
            peer_name,
            peer_netns,
            mac,
            peer_mac,
            ..
        } = *options;
        check_name(name)?;
        check_name(peer_name)?;
        let mut peer = veth_end(peer_name, peer_mac, options);
        if let Some(netns) = peer_netns {
            peer.attributes
                .push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        }
        let mut message = veth_end(name, mac, options);
        if options.up {
            message.header.flags = LinkFlags::Up;
            message.header.change_mask = LinkFlags::Up;
        }
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.execute(
            RouteNetlinkMessage::NewLink(message),
            NLM_F_CREATE | NLM_F_EXCL,
        )
        .map_err(|failure| failure.during(format!("making the veth pair {name} and {peer_name}")))
    }

    /// Removes an interface; with a veth its other end, too.
    pub fn delete_link(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        let result = self.execute(RouteNetlinkMessage::DelLink(message), 0);
        result.map_err(|failure| failure.during(format!("removing {}", self.name_of(index))))
    }

    /// Changes an interface. If a part is refused, those before it may have been carried out.
    ///
    /// Setting down comes first and setting up last, each in a request of its own: the kernel sets an
    /// interface up *before* it looks at most of the same request, so that it would make the
    /// link-local address that is being declined, and queues of the old length (tried). Only what is
    /// moved to another namespace is changed in one request, because afterwards it is out of reach.
    pub fn set_link(&mut self, index: u32, change: &LinkChange<'_>) -> Result<(), NetlinkError> {
        if let Some(name) = change.name {
            check_name(name)?;
        }
        let mut attributes = change.message();
        let mut flags = LinkMessage::default();
        if let Some(up) = change.up {
            let message = if change.netns.is_some() {
                &mut attributes
            } else {
                &mut flags
            };
            message.header.change_mask |= LinkFlags::Up;
            message.header.flags.set(LinkFlags::Up, up);
        }
        let requests = if change.up == Some(false) {
            [flags, attributes]
        } else {
            [attributes, flags]
        };
        for mut message in requests {
            if message == LinkMessage::default() {
                continue;
            }
            message.header.index = index;
            self.execute(RouteNetlinkMessage::SetLink(message), 0)
                .map_err(|failure| failure.during(format!("changing {}", self.name_of(index))))?;
        }
        Ok(())
    }

    /// Waits until an interface that is up can send, at most `patience`; `false` if it still cannot.
    ///
    /// When an end of a veth pair is set up, the *other* one, up already, goes on throwing away what
    /// it is to send until the kernel has noticed, some time later in the background. An answer that
    /// is lost then is asked for again a second later (tried: one attach in thirty). Since Linux 6.8
    /// the question for an interface makes the kernel notice, so that this is one system call;
    /// before, it is asked again until it has.
    pub fn wait_running(&mut self, index: u32, patience: Duration) -> Result<bool, NetlinkError> {
        wait_until(patience, || Ok(self.link_by_index(index)?.running))
    }

    fn ask_for_link(&mut self, mut message: LinkMessage) -> Result<Link, Failure> {
        message.attributes.push(without_statistics());
        self.ask(RouteNetlinkMessage::GetLink(message), decode)
    }
}

/// One end of a pair, down.
fn veth_end(name: &str, mac: Option<[u8; 6]>, options: &VethOptions<'_>) -> LinkMessage {
    let mut message = LinkMessage::default();
    message
        .attributes
        .push(LinkAttribute::IfName(name.to_owned()));
    message.attributes.extend(
        [
            mac.map(|mac| LinkAttribute::Address(mac.to_vec())),
            options.mtu.map(LinkAttribute::Mtu),
            options.tx_queue_len.map(LinkAttribute::TxQueueLen),
        ]
        .into_iter()
        .flatten(),
    );
    message
}

/// Statistics are most of an answer and never wanted here.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn check_name(name: &str) -> Result<(), NetlinkError> {
    if is_interface_name(name) {
        Ok(())
    } else {
        Err(NetlinkError::NameInvalid {
            name: name.to_owned(),
        })
    }
}

fn decode(kind: u16, payload: &[u8]) -> Result<Option<Link>, Failure> {
    if kind != libc::RTM_NEWLINK {
        return Ok(None);
    }
    let header = LinkHeader::parse(payload)?;
    let mut link = Link {
        index: header.index,
        name: String::new(),
        mac: None,
        mtu: 0,
        up: header.flags.contains(LinkFlags::Up),
        running: header
            .flags
            .contains(LinkFlags::LowerUp | LinkFlags::Running),
        loopback: header.flags.contains(LinkFlags::Loopback),
        noarp: header.flags.contains(LinkFlags::Noarp),
        tx_queue_len: 0,
        kind: None,
        lower: None,
    };
    const WANTED: [u16; 6] = [
        IFLA_ADDRESS,
        IFLA_IFNAME,
        IFLA_MTU,
        IFLA_LINK,
        IFLA_TXQLEN,
        IFLA_LINKINFO,
    ];
    for attribute in NlasIterator::new(&payload[HEADER_LENGTH..]) {
        let attribute = attribute?;
        if !WANTED.contains(&attribute.kind()) {
            continue;
        }
        match LinkAttribute::parse_with_param(&attribute, AddressFamily::Unspec)? {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Address(address) => link.mac = address.try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::TxQueueLen(length) => link.tx_queue_len = length,
            // Zero stands for an interface that is out of sight.
            LinkAttribute::Link(index) => link.lower = Some(index).filter(|&index| index != 0),
            LinkAttribute::LinkInfo(infos) => {
                link.kind = infos.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    Ok(Some(link))
}
