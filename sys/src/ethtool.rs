//! What an interface leaves to its driver, and leaving less to a driver that is us.
//!
//! A veth interface passes everything on unfinished: checksums of any protocol, segmentation of any
//! tunnel. At the other end a packet socket describes a frame by a virtio-net header, which knows
//! TCP and UDP only. A frame it cannot describe is dropped by the kernel, or, worse, described as
//! something else: an SCTP frame arrives with the promise of an Internet checksum at its place, and
//! a VXLAN frame around a TCP super-frame as a TCP super-frame. Switched off at the sending end,
//! the sender's kernel does that work itself. A TAP needs nothing of this: its driver asks for no
//! more than its reader understands.
//!
//! The old `ioctl` interface and not the netlink one: three calls that any kernel has, and no second
//! netlink family to speak.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Opcode, Updater, ioctl};

use crate::tap::is_interface_name;

/// `SIOCETHTOOL` of `linux/sockios.h`.
const SIOCETHTOOL: Opcode = 0x8946;

// Commands and the string set of `linux/ethtool.h`.
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETHTOOL_SFEATURES: u32 = 0x3b;
const ETH_SS_FEATURES: u32 = 4;

/// Bytes of one name in a string set (`ETH_GSTRING_LEN`).
const NAME_LENGTH: usize = 32;

/// Features whose work a virtio-net header cannot hand over. Those a kernel does not know yet are
/// passed over. ECN is among them although the header could tell it: a TAP is not asked to either,
/// and so both kinds of port deliver the same.
const BEYOND_VNET_HEADER: [&str; 15] = [
    "tx-checksum-sctp",
    "tx-sctp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-tunnel-remcsum-segmentation",
    "tx-esp-segmentation",
    "tx-fcoe-segmentation",
    "tx-gso-partial",
    "tx-gso-list",
];

/// A feature of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, as `ethtool -k` shows it.
    pub name: String,
    /// Whether it is in use.
    pub active: bool,
}

/// Makes `interface`, the container's end of a veth pair, finish whatever a packet socket at the
/// other end could not be told. `socket` is any socket of the interface's network namespace, a
/// [`Netlink`](crate::netlink::Netlink) for example; the caller may be elsewhere.
pub fn fit_for_packet_socket(socket: BorrowedFd<'_>, interface: &str) -> io::Result<()> {
    disable(socket, interface, &BEYOND_VNET_HEADER)
}

/// Switches features off. Unknown names are passed over, and so are features that cannot be changed.
pub fn disable(socket: BorrowedFd<'_>, interface: &str, features: &[&str]) -> io::Result<()> {
    let names = feature_names(socket, interface)?;
    let words = names.len().div_ceil(32);
    // struct ethtool_sfeatures: command, number of words, then for each word a mask of what is meant
    // and its wanted values, here all zero.
    let mut request = vec![ETHTOOL_SFEATURES, length(words)?];
    request.resize(2 + 2 * words, 0);
    for (number, name) in names.iter().enumerate() {
        if features.contains(&name.as_str()) {
            request[2 + 2 * (number / 32)] |= 1 << (number % 32);
        }
    }
    call(socket, interface, &mut request)
}

/// All features of an interface.
pub fn features(socket: BorrowedFd<'_>, interface: &str) -> io::Result<Vec<Feature>> {
    let names = feature_names(socket, interface)?;
    let words = names.len().div_ceil(32);
    // struct ethtool_gfeatures: command, number of words, then for each word four masks of which
    // the third is what is active.
    let mut request = vec![ETHTOOL_GFEATURES, length(words)?];
    request.resize(2 + 4 * words, 0);
    call(socket, interface, &mut request)?;
    Ok(names
        .into_iter()
        .enumerate()
        .map(|(number, name)| Feature {
            active: request[2 + 4 * (number / 32) + 2] & (1 << (number % 32)) != 0,
            name,
        })
        .collect())
}

/// The names of this kernel's features. Their numbers differ from kernel to kernel.
fn feature_names(socket: BorrowedFd<'_>, interface: &str) -> io::Result<Vec<String>> {
    // struct ethtool_sset_info: command, reserved, a 64-bit mask of sets, then a count for each.
    let [low, high] = split(1_u64 << ETH_SS_FEATURES);
    let mut request = vec![ETHTOOL_GSSET_INFO, 0, low, high, 0];
    call(socket, interface, &mut request)?;
    let count = usize::try_from(request[4]).map_err(|_| io::ErrorKind::InvalidData)?;

    // struct ethtool_gstrings: command, set, count, then the names.
    let mut request = vec![ETHTOOL_GSTRINGS, ETH_SS_FEATURES, length(count)?];
    request.resize(3 + count * NAME_LENGTH / 4, 0);
    call(socket, interface, &mut request)?;
    let bytes: Vec<u8> = request[3..]
        .iter()
        .flat_map(|word| word.to_ne_bytes())
        .collect();
    Ok(bytes
        .chunks_exact(NAME_LENGTH)
        .map(|name| {
            let end = name
                .iter()
                .position(|&byte| byte == 0)
                .unwrap_or(NAME_LENGTH);
            String::from_utf8_lossy(&name[..end]).into_owned()
        })
        .collect())
}

/// `struct ifreq` as far as ethtool uses it: the name, then a pointer to the command.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    command: *mut u32,
    rest_of_union: [u8; 16],
}

const _: () = assert!(size_of::<InterfaceRequest>() == 40);

/// Hands `command` to the kernel, which may write its answer into it.
fn call(socket: BorrowedFd<'_>, interface: &str, command: &mut [u32]) -> io::Result<()> {
    if !is_interface_name(interface) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let mut request = InterfaceRequest {
        name: [0; 16],
        command: command.as_mut_ptr(),
        rest_of_union: [0; 16],
    };
    request.name[..interface.len()].copy_from_slice(interface.as_bytes());
    // SAFETY: SIOCETHTOOL reads one `struct ifreq` and reads and writes the command that it points
    // to. Each command is one buffer of words, of the length that its own count announces and the
    // kernel honours; only for names the kernel goes by its own count, which is where that count
    // came from and never changes while it runs.
    unsafe {
        ioctl(
            socket,
            Updater::<SIOCETHTOOL, InterfaceRequest>::new(&mut request),
        )
    }?;
    Ok(())
}

fn length(count: usize) -> io::Result<u32> {
    u32::try_from(count).map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A 64-bit field as the two words that lie in memory.
fn split(value: u64) -> [u32; 2] {
    let bytes = value.to_ne_bytes();
    let [a, b, c, d, e, f, g, h] = bytes;
    [
        u32::from_ne_bytes([a, b, c, d]),
        u32::from_ne_bytes([e, f, g, h]),
    ]
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn the_loopback_interface_tells_its_features_by_name() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let features = features(socket.as_fd(), "lo").unwrap();
        let active = |name: &str| {
            features
                .iter()
                .any(|feature| feature.name == name && feature.active)
        };
        assert!(active("loopback"));
        assert!(active("tx-checksum-ip-generic"));
    }

    #[test]
    fn an_unknown_interface_is_an_error() {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let error = features(socket.as_fd(), "no-such-if").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        assert!(features(socket.as_fd(), "").is_err());
    }
}
