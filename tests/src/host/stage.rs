//! From a process of the machine to the first process of a host.

use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use heddle_sys::namespace::{Maps, NamespaceError, NamespaceKind, unshare, write_id_maps};
use heddle_sys::process::{self, Signal};
use rustix::fs::{CWD, FileType, Mode, makedev, mknodat};
use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};

use super::link::set_loopback_up;
use super::program;
use super::suite::skip;

/// The ordinary user.
const USER: u32 = 1000;

/// The major and minor number of the TUN driver (`linux/Documentation/admin-guide/devices.txt`).
const TUN: (u32, u32) = (10, 200);

/// Who the daemon is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Root of the host.
    Root,
    /// An ordinary user, without a capability.
    User,
}

impl Way {
    /// How it is called in the names of tests.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Way::Root => "root",
            Way::User => "user",
        }
    }
}

/// What joins containers to the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TAP interface.
    Tap,
    /// A veth pair and a packet socket.
    Veth,
}

impl Kind {
    /// How it is called, in the names of tests and by heddle.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Kind::Tap => "tap",
            Kind::Veth => "veth",
        }
    }
}

/// Makes this process the first of a host, and runs `scenario` in a child of it. Returns the exit
/// status for the process of the machine; skips where the machine forbids such a host.
pub(super) fn play(way: Way, scenario: impl FnOnce()) -> u8 {
    // Of whatever becomes of this process: a new user takes the signal away again.
    let tie = || {
        let parent = std::os::unix::process::parent_id();
        process::set_parent_death_signal(Signal::KILL, parent).expect("the suite lives");
    };
    tie();
    if rustix::process::geteuid().is_root() {
        make_tun_usable();
        if way == Way::User {
            lower();
        }
    }
    let mut kinds = vec![
        NamespaceKind::Mount,
        NamespaceKind::Network,
        NamespaceKind::Pid,
    ];
    let (user, group) = (
        rustix::process::geteuid().as_raw(),
        rustix::process::getegid().as_raw(),
    );
    if way == Way::User {
        kinds.push(NamespaceKind::User);
    }
    permitted(unshare(&kinds));
    if way == Way::User {
        let own = std::process::id();
        write_id_maps(own, &Maps::single(user, user), &Maps::single(group, group))
            .expect("one's own user can be mapped");
        tie();
    }
    // The process namespace is the children's. Its first process takes in whatever loses its parent.
    let first = program::fork(|| {
        set_up_mounts();
        set_loopback_up();
        let player = program::fork(|| {
            scenario();
            0
        });
        take_in_until(player)
    });
    let ended = process::wait(first).expect("it is a child of this process");
    ended
        .code()
        .and_then(|code| u8::try_from(code).ok())
        .unwrap_or(101)
}

/// Waits for every process that ends, until this one has; then all others are killed, by the
/// kernel.
fn take_in_until(player: u32) -> u8 {
    loop {
        let (pid, status) = match rustix::process::wait(rustix::process::WaitOptions::empty()) {
            Ok(Some(ended)) => ended,
            Ok(None) => continue,
            Err(rustix::io::Errno::INTR) => continue,
            Err(_) => return 101,
        };
        if u32::try_from(pid.as_raw_pid()) == Ok(player) {
            return status
                .exit_status()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(101);
        }
    }
}

/// Some machines have a `/dev/net/tun` for root only, some have none: the host gets one like other
/// hosts'. Where root may not make one either, it has the one that there is.
fn make_tun_usable() {
    permitted(unshare(&[NamespaceKind::Mount]));
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("mounts of one's own can be changed");
    let directory = Path::new("/dev/net");
    if !directory.is_dir() || mount("tun", directory, "tmpfs", MountFlags::empty(), None).is_err() {
        return;
    }
    let node = directory.join("tun");
    let made = mknodat(
        CWD,
        &node,
        FileType::CharacterDevice,
        Mode::from_raw_mode(0o666),
        makedev(TUN.0, TUN.1),
    );
    if made.is_ok() {
        use std::os::unix::fs::PermissionsExt as _;
        // Whatever the umask is.
        let _ = fs::set_permissions(&node, fs::Permissions::from_mode(0o666));
    }
}

/// Becomes an ordinary user, by executing this program again; returns in that one.
fn lower() {
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .uid(USER)
        .gid(USER)
        .current_dir("/")
        .exec();
    panic!("this program cannot be executed as user {USER}: {error}");
}

/// Mounts that are the host's own, so that nothing is left of it.
fn set_up_mounts() {
    mount_change(
        "/",
        MountPropagationFlags::PRIVATE | MountPropagationFlags::REC,
    )
    .expect("mounts of one's own can be changed");
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    if let Err(error) = mount("proc", "/proc", "proc", flags, None) {
        skip(&format!(
            "a process namespace cannot have its /proc: {error}"
        ))
    }
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("run", "/run", "tmpfs", flags, Some(c"mode=0755")).expect("a tmpfs");
    for directory in ["/run/home", "/run/tmp"] {
        fs::create_dir(directory).expect("it is empty");
    }
    std::env::set_current_dir("/run").expect("it is there");
}

fn permitted(result: Result<(), NamespaceError>) {
    match result {
        Ok(()) => {}
        Err(error @ (NamespaceError::MakeRefused { .. } | NamespaceError::TooMany)) => {
            skip(&error.to_string())
        }
        Err(error) => panic!("{error}"),
    }
}

/// Whether programs of this process can make TAPs, as far as the device goes.
pub(super) fn tun() -> io::Result<()> {
    heddle_sys::tap::usable().map_err(io::Error::other)
}
