//! A network namespace with a process in it: what a container is to a switch.

use std::net::IpAddr;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::Duration;

use heddle_sys::clock::monotonic;
use heddle_sys::fdpass;
use heddle_sys::namespace::{Namespace, NamespaceKind, unshare};
use heddle_sys::netlink::{LinkChange, Netlink, Route, VethOptions};
use heddle_sys::packet;
use heddle_sys::tap::{self, TapOptions};
use rustix::event::poll;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::clock::pause;
use crate::job::{Job, PATIENCE};
use crate::problem::Problem;

/// Descriptors that are brought out at once, at most.
const DESCRIPTORS: usize = 16;

/// The name of the interface in every container.
pub(crate) const INTERFACE: &str = "eth0";

/// The far end of a veth pair that a packet socket reads.
pub(crate) const PORT: &str = "port";

/// A container.
#[derive(Debug)]
pub(crate) struct Sandbox {
    process: Job<()>,
    network: Namespace,
}

/// How an interface is to be.
#[derive(Clone, Debug)]
pub(crate) struct Setup {
    /// Its addresses with their prefixes.
    pub(crate) addresses: Vec<(IpAddr, u8)>,
    /// Default routes, one a family.
    pub(crate) gateways: Vec<IpAddr>,
}

impl Sandbox {
    /// A new one, its loopback interface up.
    pub(crate) fn new() -> Result<Sandbox, Problem> {
        let (near, far) = fdpass::socketpair_seqpacket()?;
        let process = Job::spawn(|| {
            unshare(&[NamespaceKind::Network])?;
            set_up(&mut Netlink::open()?, "lo")?;
            fdpass::send(far.as_fd(), b"ready", &[])?;
            // Nothing comes any more: this ends when it is killed.
            loop {
                let _ = poll(&mut [], None);
            }
        })?;
        drop(far);
        if fdpass::receive(near.as_fd(), &mut [0; 8], 0)?.len == 0 {
            return Err("a namespace cannot be made".into());
        }
        let network = Namespace::open_pid(process.pid, NamespaceKind::Network)?;
        Ok(Sandbox { process, network })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.pid
    }

    pub(crate) fn network(&self) -> BorrowedFd<'_> {
        self.network.as_fd()
    }

    /// Moves this process in; only one that was forked for it.
    pub(crate) fn enter(&self) -> Result<(), Problem> {
        Ok(self.network.enter()?)
    }

    /// Begins work inside.
    pub(crate) fn begin<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<Job<T>, Problem> {
        Job::spawn(|| {
            self.enter()?;
            work()
        })
    }

    /// Does work inside.
    pub(crate) fn run<T: Serialize + DeserializeOwned>(
        &self,
        work: impl FnOnce() -> Result<T, Problem>,
    ) -> Result<T, Problem> {
        self.begin(work)?.join()
    }

    /// Opens something inside and brings its descriptors out.
    pub(crate) fn bring_out(
        &self,
        open: impl FnOnce() -> Result<Vec<OwnedFd>, Problem>,
    ) -> Result<Vec<OwnedFd>, Problem> {
        let (near, far) = fdpass::socketpair_seqpacket()?;
        self.run(|| {
            let fds = open()?;
            let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(|fd| fd.as_fd()).collect();
            Ok(fdpass::send_all_fds(far.as_fd(), &borrowed)?)
        })?;
        Ok(fdpass::receive_all_fds(near.as_fd(), DESCRIPTORS)?)
    }

    /// The same for one descriptor.
    pub(crate) fn bring_one(
        &self,
        open: impl FnOnce() -> Result<OwnedFd, Problem>,
    ) -> Result<OwnedFd, Problem> {
        let mut fds = self.bring_out(|| Ok(vec![open()?]))?;
        Ok(fds.pop().ok_or("nothing was brought out")?)
    }

    /// A netlink socket that acts inside.
    pub(crate) fn netlink(&self) -> Result<Netlink, Problem> {
        let fd = self.bring_one(|| Ok(Netlink::open()?.into()))?;
        Ok(Netlink::from_fd(fd)?)
    }

    /// A TAP inside, as heddle makes them; its only queue outside.
    pub(crate) fn tap(&self) -> Result<OwnedFd, Problem> {
        let queue = self.bring_one(|| {
            let options = TapOptions {
                name: INTERFACE,
                queues: 1,
                persist: false,
            };
            let mut tap = tap::create(&options)?;
            Ok(tap.queues.pop().ok_or("a TAP has a queue")?)
        })?;
        let mut netlink = self.netlink()?;
        let index = netlink.link(INTERFACE)?.index;
        netlink.set_link(
            index,
            &LinkChange {
                tx_queue_len: Some(tap::TX_QUEUE_LENGTH),
                ..LinkChange::default()
            },
        )?;
        netlink.remove_queueing(index)?;
        Ok(queue)
    }

    /// A veth interface inside, as heddle makes them, and an unbound packet socket where its other end
    /// is: alone in a namespace that only the socket keeps.
    pub(crate) fn veth_port(&self) -> Result<(OwnedFd, Netlink), Problem> {
        let fds = self.bring_out(|| {
            let inside = Netlink::open()?;
            unshare(&[NamespaceKind::Network])?;
            let mut netlink = Netlink::open()?;
            netlink.create_veth(&VethOptions {
                tx_queue_len: Some(tap::TX_QUEUE_LENGTH),
                ..veth(PORT, INTERFACE, Some(self.network()))
            })?;
            set_up(&mut netlink, PORT)?;
            let socket = packet::open_unbound()?;
            self.enter()?;
            heddle_sys::ethtool::fit_for_packet_socket(inside.as_fd(), INTERFACE)?;
            Ok(vec![socket, netlink.into()])
        })?;
        let [socket, netlink]: [OwnedFd; 2] =
            fds.try_into().map_err(|_| "two descriptors were sent")?;
        let mut inside = self.netlink()?;
        let index = inside.link(INTERFACE)?.index;
        inside.remove_queueing(index)?;
        Ok((socket, Netlink::from_fd(netlink)?))
    }

    /// Gives an interface what it needs and sets it up; waits until it can be used.
    pub(crate) fn configure(&self, interface: &str, setup: &Setup) -> Result<(), Problem> {
        configure(&mut self.netlink()?, interface, setup)
    }

    /// Switches off what the peer does not understand in frames from this interface.
    pub(crate) fn disable_offloads(&self, interface: &str) -> Result<(), Problem> {
        let fd: OwnedFd = self.netlink()?.into();
        heddle_sys::ethtool::fit_for_packet_socket(fd.as_fd(), interface)?;
        let features = [
            "tx-checksum-ip-generic",
            "tx-checksum-sctp",
            "tx-scatter-gather",
            "tx-tcp-segmentation",
            "tx-tcp-ecn-segmentation",
            "tx-tcp-mangleid-segmentation",
            "tx-tcp6-segmentation",
            "tx-udp-segmentation",
            "tx-generic-segmentation",
        ];
        Ok(heddle_sys::ethtool::disable(
            fd.as_fd(),
            interface,
            &features,
        )?)
    }
}

/// A veth pair: this end here, the peer in `netns`.
pub(crate) fn veth<'a>(
    name: &'a str,
    peer_name: &'a str,
    netns: Option<BorrowedFd<'a>>,
) -> VethOptions<'a> {
    VethOptions {
        name,
        peer_name,
        peer_netns: netns,
        mac: None,
        peer_mac: None,
        mtu: None,
        tx_queue_len: None,
        up: false,
    }
}

/// Sets an interface up, without an IPv6 address of the kernel's own; its number.
pub(crate) fn set_up(netlink: &mut Netlink, interface: &str) -> Result<u32, Problem> {
    let link = netlink.link(interface)?;
    netlink.set_link(
        link.index,
        &LinkChange {
            up: Some(true),
            ipv6_link_local: (!link.loopback).then_some(false),
            ..LinkChange::default()
        },
    )?;
    Ok(link.index)
}

/// Waits until the kernel has removed the namespaces that ended lately, as far as can be told from
/// outside: for some time no request about an interface had to wait. Whoever removes a namespace holds
/// the lock that all such requests take (`rtnl_mutex`) while he waits for RCU, twenty to forty
/// milliseconds; what is measured meanwhile is the sample before. A machine that is never quiet is
/// taken as it is.
pub(crate) fn wait_until_swept() -> Result<(), Problem> {
    let mut netlink = Netlink::open()?;
    let begin = monotonic();
    let mut disturbed = begin;
    loop {
        let asked = monotonic();
        set_up(&mut netlink, "lo")?;
        let answered = monotonic();
        if answered - asked > AT_ONCE {
            disturbed = answered;
        }
        if answered - disturbed >= QUIET || answered - begin >= PATIENCE {
            return Ok(());
        }
        pause(PAUSE);
    }
}

/// How long an interface's lock may keep a request that nobody is before.
const AT_ONCE: Duration = Duration::from_millis(2);

/// How long nobody may be before, and how often that is looked at meanwhile.
const QUIET: Duration = Duration::from_millis(100);
const PAUSE: Duration = Duration::from_millis(2);

/// Waits until an interface can send.
pub(crate) fn wait_running(netlink: &mut Netlink, interface: &str) -> Result<(), Problem> {
    let index = netlink.link(interface)?.index;
    if netlink.wait_running(index, Duration::from_secs(2))? {
        Ok(())
    } else {
        Err(format!("{interface} does not come up").into())
    }
}

/// Gives an interface what it needs and sets it up; waits until it can be used.
pub(crate) fn configure(
    netlink: &mut Netlink,
    interface: &str,
    setup: &Setup,
) -> Result<(), Problem> {
    let index = set_up(netlink, interface)?;
    for &(address, prefix) in &setup.addresses {
        netlink.add_address(index, address, prefix, true)?;
        if !netlink.wait_local(address, PATIENCE)? {
            return Err(format!("{address} cannot be used").into());
        }
    }
    for &gateway in &setup.gateways {
        let anywhere = match gateway {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let mut route = Route::to(anywhere, 0);
        route.gateway = Some(gateway);
        route.interface = Some(index);
        netlink.add_route(&route)?;
    }
    Ok(())
}
