//! TAP interfaces: made, inspected, read and written.
//!
//! A TAP is an Ethernet interface whose other end is a file descriptor: what the kernel transmits is
//! read from it, what is written to it the kernel receives. Every frame is preceded by a virtio-net
//! header of [`VNET_HEADER_LENGTH`] bytes, through which TCP super-frames and partial checksums pass
//! as they are (Virtio 1.3 §5.1.6; `struct virtio_net_hdr` in the kernel's own byte order, which on
//! x86-64 and arm64 is the little-endian order of Virtio 1).
//!
//! # Theory of operation
//!
//! - A TAP belongs to the network namespace in which the device node was *opened*. The caller
//!   enters the namespace, then calls [`create`], then passes the descriptors out
//!   ([`fdpass`](crate::fdpass)). They pin that namespace until they are closed.
//! - Each descriptor is one queue. The kernel spreads flows over the queues and remembers, for 3 s
//!   of idleness, on which queue a flow was last *written*.
//! - The multi-queue flag is a property of the interface and must be the same at every attach (the
//!   kernel answers EINVAL otherwise, tried both ways), and a TAP made without it can never have a
//!   second queue. So the flag is always set, also for one queue: then a successor with another
//!   number of workers can attach to a persistent TAP.
//! - With that flag the interface has 256 transmit queues. When it is set up, each gets a queueing
//!   discipline of its own, in front of the queue that we read: 6 MiB of kernel memory and 1.5 ms at
//!   a queue length of 1,000. [`remove_queueing`] first makes that 0.2 MiB and 0.15 ms, and frames
//!   have one queue to wait in instead of two.
//! - Whether there is a virtio-net header is a property of the interface, too, but a different one
//!   is not refused: the first to attach decides, and whoever attaches while a queue is open gets
//!   what is there, without a word (tried). So [`attach`] looks at what it got, and a descriptor
//!   from another process is [inspected](Tap::inspect) before its first frame is read.
//! - Closing the last queue of a TAP that is not persistent removes the interface; the kernel waits
//!   for an RCU grace period meanwhile (15 to 25 ms on an idle machine). Not to be done on a
//!   dataplane thread.
//!
//! [`remove_queueing`]: crate::netlink::Netlink::remove_queueing

mod error;

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::ioctl::{Getter, IntegerSetter, Opcode, Setter, Updater, ioctl, opcode};

pub use error::TapError;

/// Bytes of the virtio-net header that precede every frame: the form without `num_buffers`.
pub const VNET_HEADER_LENGTH: usize = 10;

/// Bytes of the longest frame that an interface without jumbo super-frames sends: virtio-net header,
/// Ethernet header, two VLAN tags, IPv6 header and its largest payload.
pub const MAX_FRAME_LENGTH: usize = VNET_HEADER_LENGTH + 14 + 8 + 40 + 65_535;

/// The largest number of queues of one TAP: `MAX_TAP_QUEUES` in the kernel's `drivers/net/tun.c`.
pub const MAX_QUEUES: u16 = 256;

/// How many frames should be allowed to wait in each queue of a TAP
/// ([`LinkChange::tx_queue_len`](crate::netlink::LinkChange)). The kernel's own choice is the same
/// today, but was 500 and need not stay.
///
/// The kernel drops what the reader is too slow for. Medians of five rounds on two busy x86-64 cores,
/// Linux 6.18 (`cargo bench -p heddle-sys --bench relay tap`):
///
/// | length | one TCP stream | 64-byte frames as fast as possible, lost | lost of bursts of 500 |
/// |---|---|---|---|
/// | 100 | 6.8 Gbit/s | 63 % | 66 % |
/// | 250 | 6.7 | 65 % | 28 % |
/// | 500 | 5.6 | 43 % | 18 % |
/// | 1,000 | 5.3 to 6.9 | 24 % | 5 % |
/// | 2,000 | 4.6 to 6.4 | 13 % | 14 % |
/// | 5,000 | 5.3 to 6.0 | 20 % | 5 % |
/// | 10,000 | 6.5 | 16 % | 0 % |
///
/// TCP differs by no more than from round to round, since its window is a few super-frames; small
/// frames gain until 1,000. What waits is no longer counted against the sender, so that the length
/// times 64 KiB is kernel memory that a container can fill while nobody reads: 64 MiB a queue here.
pub const TX_QUEUE_LENGTH: u32 = 1000;

/// Bytes of an interface name without the final zero: `IFNAMSIZ - 1`.
pub const MAX_NAME_LENGTH: usize = NAME_SIZE - 1;

const DEVICE_NODE: &str = "/dev/net/tun";

/// `IFNAMSIZ` in `linux/if.h`.
const NAME_SIZE: usize = 16;

// Requests of `linux/if_tun.h`. The size in the number is that of an int even where the argument is
// a `struct ifreq`; the header says so and cannot be changed any more.
const TUNSETIFF: Opcode = opcode::write::<i32>(b'T', 202);
const TUNSETPERSIST: Opcode = opcode::write::<i32>(b'T', 203);
const TUNSETOFFLOAD: Opcode = opcode::write::<u32>(b'T', 208);
const TUNGETIFF: Opcode = opcode::read::<u32>(b'T', 210);
const TUNGETVNETHDRSZ: Opcode = opcode::read::<i32>(b'T', 215);
const TUNSETVNETHDRSZ: Opcode = opcode::write::<i32>(b'T', 216);

// Interface flags of `linux/if_tun.h`.
const IFF_TAP: u16 = 0x0002;
const IFF_MULTI_QUEUE: u16 = 0x0100;
const IFF_PERSIST: u16 = 0x0800;
const IFF_NO_PI: u16 = 0x1000;
const IFF_VNET_HDR: u16 = 0x4000;
const IFF_TUN_EXCL: u16 = 0x8000;

// Offload flags of `linux/if_tun.h`.
const TUN_F_CSUM: usize = 0x01;
const TUN_F_TSO4: usize = 0x02;
const TUN_F_TSO6: usize = 0x04;
const TUN_F_USO4: usize = 0x20;
const TUN_F_USO6: usize = 0x40;

/// A TAP interface just made or attached to: one descriptor a queue, non-blocking and close-on-exec.
#[derive(Debug)]
pub struct Tap {
    /// The interface's name in its namespace.
    pub name: String,
    /// One descriptor a queue.
    pub queues: Vec<OwnedFd>,
    /// What the kernel may leave to us in frames that we read.
    pub offloads: Offloads,
}

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct TapOptions<'a> {
    /// The interface's name, 1 to 15 bytes.
    pub name: &'a str,
    /// How many queues to open, 1 to [`MAX_QUEUES`].
    pub queues: u16,
    /// Whether the interface stays when the last descriptor is closed.
    pub persist: bool,
}

/// Work that the kernel may leave to the reader of a TAP, as told by each frame's virtio-net header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offloads {
    /// Partial checksums: the frame carries the pseudo-header's sum only.
    pub checksum: bool,
    /// TCP super-frames over IPv4.
    pub tso4: bool,
    /// TCP super-frames over IPv6.
    pub tso6: bool,
    /// UDP super-frames over IPv4 (Linux 6.2).
    pub uso4: bool,
    /// UDP super-frames over IPv6 (Linux 6.2).
    pub uso6: bool,
}

/// What a TAP descriptor from elsewhere is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TapInfo {
    /// The interface's name now, in the namespace where it is now.
    pub name: String,
    /// Whether frames are preceded by a virtio-net header.
    pub vnet_header: bool,
    /// Bytes of that header: 10, or 12 where the maker asked for mergeable buffers.
    pub vnet_header_length: usize,
    /// Whether more queues can be attached.
    pub multi_queue: bool,
    /// Whether the interface outlives its descriptors.
    pub persistent: bool,
    /// Whether four bytes of packet information precede the header (`IFF_NO_PI` was not given).
    pub packet_information: bool,
}

/// `struct ifreq` as far as TUN/TAP uses it: the name, then a union that begins with the flags.
#[repr(C)]
#[derive(Clone, Copy)]
struct InterfaceRequest {
    name: [u8; NAME_SIZE],
    flags: u16,
    rest_of_union: [u8; 22],
}

/// `sizeof(struct ifreq)` on 64-bit Linux: the kernel copies that much in and out.
const _: () = assert!(size_of::<InterfaceRequest>() == 40);

impl InterfaceRequest {
    fn new(name: &str, flags: u16) -> Result<Self, TapError> {
        if !is_interface_name(name) {
            return Err(TapError::NameInvalid {
                name: name.to_owned(),
            });
        }
        let mut request = Self {
            name: [0; NAME_SIZE],
            flags,
            rest_of_union: [0; 22],
        };
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        Ok(request)
    }

    fn name(&self) -> String {
        let length = self
            .name
            .iter()
            .position(|&byte| byte == 0)
            .unwrap_or(NAME_SIZE);
        String::from_utf8_lossy(&self.name[..length]).into_owned()
    }
}

/// Whether TAPs can be made at all, as far as the device node tells.
///
/// # Errors
///
/// Why not.
pub fn usable() -> Result<(), TapError> {
    open_device().map(drop)
}

/// Makes a new TAP in the current network namespace, with every offload that the kernel knows.
///
/// An interface of that name must not exist: without that demand the kernel would add our queues to
/// a stranger's multi-queue TAP of the same name, and frames would be shared out between both.
pub fn create(options: &TapOptions<'_>) -> Result<Tap, TapError> {
    check_queues(options)?;
    let first = attach_queue(options.name, IFF_TUN_EXCL).map_err(|error| match error {
        AttachError::Errno(Errno::BUSY) => TapError::NameTaken {
            name: options.name.to_owned(),
        },
        error => error.into_tap_error(options),
    })?;
    Tap::complete(first, options)
}

/// Attaches to a persistent TAP in the current network namespace that a predecessor made with
/// [`create`]. The number of queues may differ from the predecessor's.
pub fn attach(options: &TapOptions<'_>) -> Result<Tap, TapError> {
    check_queues(options)?;
    let first = attach_queue(options.name, 0).map_err(|error| error.into_tap_error(options))?;
    // There is no way to ask for an existing interface only. One that is not persistent was made by
    // this very call, or is in use by others without being meant to be taken over; closing undoes
    // the one and leaves the other as it was.
    let flags = interface_request(first.as_fd())?.flags;
    if flags & IFF_PERSIST == 0 {
        return Err(TapError::Absent {
            name: options.name.to_owned(),
        });
    }
    if flags & IFF_VNET_HDR == 0 {
        return Err(TapError::Mismatch {
            name: options.name.to_owned(),
        });
    }
    Tap::complete(first, options)
}

impl Tap {
    fn complete(first: OwnedFd, options: &TapOptions<'_>) -> Result<Self, TapError> {
        let name = interface_request(first.as_fd())?.name();
        let offloads = negotiate(first.as_fd())?;
        let mut queues = Vec::with_capacity(usize::from(options.queues));
        queues.push(first);
        while queues.len() < usize::from(options.queues) {
            queues.push(attach_queue(&name, 0).map_err(|error| error.into_tap_error(options))?);
        }
        if options.persist {
            set_persistent(queues[0].as_fd(), true)?;
        }
        Ok(Self {
            name,
            queues,
            offloads,
        })
    }

    /// What `fd`, a descriptor from another process, is. Neither the device node nor a capability is
    /// needed.
    pub fn inspect(fd: BorrowedFd<'_>) -> Result<TapInfo, TapError> {
        let request = interface_request(fd)?;
        if request.flags & IFF_TAP == 0 {
            return Err(TapError::NotTap);
        }
        // SAFETY: TUNGETVNETHDRSZ writes one int.
        let length = unsafe { ioctl(fd, Getter::<TUNGETVNETHDRSZ, i32>::new()) }
            .map_err(|source| failed("asking for the TAP's header length", source))?;
        Ok(TapInfo {
            name: request.name(),
            vnet_header: request.flags & IFF_VNET_HDR != 0,
            vnet_header_length: usize::try_from(length).unwrap_or_default(),
            multi_queue: request.flags & IFF_MULTI_QUEUE != 0,
            persistent: request.flags & IFF_PERSIST != 0,
            packet_information: request.flags & IFF_NO_PI == 0,
        })
    }
}

/// Sets header length and offloads of the TAP behind `fd`: all that the kernel knows.
///
/// The kernel has no request to *read* the offloads. Both settings belong to the interface, not to
/// the queue, and are the same for every user of heddle's, so that a TAP from another process or a
/// predecessor is brought into this state by the same call.
pub fn negotiate(fd: BorrowedFd<'_>) -> Result<Offloads, TapError> {
    let length = i32::try_from(VNET_HEADER_LENGTH).expect("the header is ten bytes");
    // SAFETY: TUNSETVNETHDRSZ reads one int.
    unsafe { ioctl(fd, Setter::<TUNSETVNETHDRSZ, i32>::new(length)) }
        .map_err(|source| failed("setting the TAP's header length", source))?;
    for offloads in Offloads::LADDER {
        // SAFETY: TUNSETOFFLOAD takes the flags themselves, no pointer.
        let request = unsafe { IntegerSetter::<TUNSETOFFLOAD>::new_usize(offloads.bits()) };
        // SAFETY: as above; nothing in memory is read or written.
        match unsafe { ioctl(fd, request) } {
            Ok(()) => return Ok(offloads),
            // An unknown flag: the next rung asks for less.
            Err(Errno::INVAL) => {}
            Err(source) => return Err(failed("setting the TAP's offloads", source)),
        }
    }
    Ok(Offloads::default())
}

/// Whether the interface stays when its last descriptor is closed.
pub fn set_persistent(fd: BorrowedFd<'_>, persistent: bool) -> Result<(), TapError> {
    // SAFETY: TUNSETPERSIST takes a truth value, no pointer.
    let request = unsafe { IntegerSetter::<TUNSETPERSIST>::new_usize(usize::from(persistent)) };
    // SAFETY: as above; nothing in memory is read or written.
    unsafe { ioctl(fd, request) }.map_err(|source| failed("setting the TAP's persistence", source))
}

/// Reads one frame, virtio-net header first, and returns its length. `WouldBlock` when none waits.
///
/// A frame longer than `buffer` is cut without notice; [`MAX_FRAME_LENGTH`] bytes are enough.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
    rustix::io::read(fd, buffer).map_err(io::Error::from)
}

/// Writes one frame, virtio-net header first. The kernel takes all of it or nothing.
///
/// `InvalidInput` means that the header does not fit the frame; EIO that the interface is down.
pub fn write(fd: BorrowedFd<'_>, frame: &[u8]) -> io::Result<usize> {
    rustix::io::write(fd, frame).map_err(io::Error::from)
}

/// Whether the kernel would take `name` as an interface's name, by the rule of its
/// `dev_valid_name`; beyond that no percent sign, which would make the kernel number the name.
#[must_use]
pub fn is_interface_name(name: &str) -> bool {
    (1..=MAX_NAME_LENGTH).contains(&name.len())
        && name != "."
        && name != ".."
        && !name
            .bytes()
            .any(|byte| matches!(byte, b'/' | b':' | b'%' | 0 | 0x0b) || byte.is_ascii_whitespace())
}

impl Offloads {
    /// What is asked for, in this order. The kernel refuses an unknown flag, so less and less is
    /// asked for; USO came last (6.2), and for both IP versions or none.
    const LADDER: [Self; 5] = [
        Self {
            checksum: true,
            tso4: true,
            tso6: true,
            uso4: true,
            uso6: true,
        },
        Self {
            checksum: true,
            tso4: true,
            tso6: true,
            uso4: false,
            uso6: false,
        },
        Self {
            checksum: true,
            tso4: true,
            tso6: false,
            uso4: false,
            uso6: false,
        },
        Self {
            checksum: true,
            tso4: false,
            tso6: false,
            uso4: false,
            uso6: false,
        },
        Self {
            checksum: false,
            tso4: false,
            tso6: false,
            uso4: false,
            uso6: false,
        },
    ];

    fn named(self) -> [(bool, usize, &'static str); 5] {
        let Self {
            checksum,
            tso4,
            tso6,
            uso4,
            uso6,
        } = self;
        [
            (checksum, TUN_F_CSUM, "csum"),
            (tso4, TUN_F_TSO4, "tso4"),
            (tso6, TUN_F_TSO6, "tso6"),
            (uso4, TUN_F_USO4, "uso4"),
            (uso6, TUN_F_USO6, "uso6"),
        ]
    }

    fn bits(self) -> usize {
        self.named()
            .iter()
            .filter(|(set, ..)| *set)
            .map(|(_, bit, _)| bit)
            .sum()
    }
}

impl fmt::Display for Offloads {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for (_, _, name) in self.named().into_iter().filter(|(set, ..)| *set) {
            write!(formatter, "{separator}{name}")?;
            separator = " ";
        }
        if separator.is_empty() {
            formatter.write_str("none")
        } else {
            Ok(())
        }
    }
}

/// Why a queue was not attached, before it is known what that means to the caller.
enum AttachError {
    Tap(TapError),
    Errno(Errno),
}

impl AttachError {
    fn into_tap_error(self, options: &TapOptions<'_>) -> TapError {
        let name = options.name.to_owned();
        match self {
            Self::Tap(error) => error,
            Self::Errno(Errno::PERM) => TapError::NotPermitted { name },
            Self::Errno(Errno::TOOBIG) => TapError::TooManyQueues {
                asked: options.queues,
            },
            Self::Errno(Errno::INVAL | Errno::BUSY) => TapError::Mismatch { name },
            Self::Errno(source) => failed("making the TAP", source),
        }
    }
}

fn check_queues(options: &TapOptions<'_>) -> Result<(), TapError> {
    if (1..=MAX_QUEUES).contains(&options.queues) {
        Ok(())
    } else {
        Err(TapError::TooManyQueues {
            asked: options.queues,
        })
    }
}

/// Opens the device node in the current network namespace and makes it a queue of interface `name`.
fn attach_queue(name: &str, extra_flags: u16) -> Result<OwnedFd, AttachError> {
    let flags = IFF_TAP | IFF_NO_PI | IFF_VNET_HDR | IFF_MULTI_QUEUE | extra_flags;
    let mut request = InterfaceRequest::new(name, flags).map_err(AttachError::Tap)?;
    let fd = open_device().map_err(AttachError::Tap)?;
    // SAFETY: TUNSETIFF reads and writes one `struct ifreq`, whose layout `InterfaceRequest` has.
    unsafe {
        ioctl(
            &fd,
            Updater::<TUNSETIFF, InterfaceRequest>::new(&mut request),
        )
    }
    .map_err(AttachError::Errno)?;
    Ok(fd)
}

fn open_device() -> Result<OwnedFd, TapError> {
    rustix::fs::open(
        DEVICE_NODE,
        OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC,
        Mode::empty(),
    )
    .map_err(|errno| match errno {
        Errno::NOENT | Errno::NOTDIR => TapError::DeviceMissing,
        Errno::ACCESS | Errno::PERM => TapError::DeviceForbidden,
        Errno::NODEV | Errno::NXIO => TapError::NoDriver,
        source => failed("opening /dev/net/tun", source),
    })
}

fn interface_request(fd: BorrowedFd<'_>) -> Result<InterfaceRequest, TapError> {
    let mut request = InterfaceRequest {
        name: [0; NAME_SIZE],
        flags: 0,
        rest_of_union: [0; 22],
    };
    // SAFETY: TUNGETIFF writes one `struct ifreq`, whose layout `InterfaceRequest` has. `unsafe` is
    // needed for every request here because the number alone decides what the kernel does with the
    // pointer; on a descriptor of another kind the number means nothing (ENOTTY).
    unsafe {
        ioctl(
            fd,
            Updater::<TUNGETIFF, InterfaceRequest>::new(&mut request),
        )
    }
    .map_err(|errno| match errno {
        Errno::BADFD => TapError::NotAttached,
        Errno::NOTTY | Errno::INVAL => TapError::NotTap,
        source => failed("asking for the TAP's name", source),
    })?;
    Ok(request)
}

fn failed(action: &'static str, source: Errno) -> TapError {
    TapError::Io {
        action,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offloads_are_shown_by_their_short_names() {
        assert_eq!(Offloads::LADDER[0].to_string(), "csum tso4 tso6 uso4 uso6");
        assert_eq!(Offloads::LADDER[2].to_string(), "csum tso4");
        assert_eq!(Offloads::default().to_string(), "none");
    }

    #[test]
    fn the_ladder_asks_for_less_at_every_step_and_never_for_segments_without_checksums() {
        let bits = Offloads::LADDER.map(Offloads::bits);
        assert_eq!(bits, [0x67, 0x07, 0x03, 0x01, 0x00]);
        assert!(
            bits.windows(2)
                .all(|pair| pair[1] < pair[0] && pair[1] & pair[0] == pair[1])
        );
    }

    #[test]
    fn names_are_judged_as_the_kernel_judges_them() {
        for good in ["a", "eth0", "tap-1.2", "fifteen-bytes-x", "ü"] {
            assert!(is_interface_name(good), "{good:?}");
        }
        for bad in [
            "",
            ".",
            "..",
            "a/b",
            "a b",
            "a:b",
            "tap%d",
            "sixteen-bytes-xx",
            "a\tb",
            "a\0b",
        ] {
            assert!(!is_interface_name(bad), "{bad:?}");
        }
    }

    #[test]
    fn a_pipe_is_not_a_tap() {
        let (reader, _writer) = rustix::pipe::pipe().unwrap();
        assert!(matches!(
            Tap::inspect(reader.as_fd()),
            Err(TapError::NotTap)
        ));
    }
}
