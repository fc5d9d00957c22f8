//! heddle's only direct system calls.
//!
//! Everything that other rooms need of Linux and that no crate offers safely is here, each under one
//! noun. Nothing here knows what a switch is; nothing waits for anybody but the kernel; the errors
//! speak the user's language, because most of what can go wrong here is for the user to put right.
//!
//! In the order in which an endpoint comes to life:
//!
//! 1. [`process`]: a command or the keeper is put in order ([`restore_signal_defaults`],
//!    [`close_from`], [`limits`]) and forks a child for each namespace to enter.
//! 2. [`namespace`]: the container's network namespace is opened once and checked, and entered
//!    together with the user namespace that owns it.
//! 3. [`tap`]: an interface whose other end is a descriptor is made inside; or, where that is
//!    impossible, [`packet`]: one end of a veth pair is received from and sent to
//!    ([`ethtool`] keeps its peer from sending what cannot be described).
//! 4. [`netlink`] and [`sysctl`]: the interface gets its name, addresses and routes.
//! 5. [`fdpass`]: the descriptors go out to the daemon, where a worker reads and writes them.
//! 6. [`watch`]: what the endpoint was attached by is watched, so that it ends with it.
//!
//! Beside the road: [`clock`], the one place where time is read; [`memory`], for what is shown to
//! the user; [`capability`], for what may be done and for giving it up.
//!
//! # `unsafe`
//!
//! This room and `mem` are the only ones where it is allowed. It is used for system calls that take
//! pointers and that neither `std` nor `rustix` wraps, for memory shared with the kernel, and for
//! `fork`; every public function is safe. Each block says which buffer, which length and who keeps
//! it alive.
//!
//! # Kernels
//!
//! Linux 5.10 or later on 64-bit machines. "Tried" in a comment means: on 6.18, x86-64, by a test in
//! `tests/kernel`.
//!
//! [`restore_signal_defaults`]: process::restore_signal_defaults
//! [`close_from`]: process::close_from

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("heddle runs on 64-bit Linux");

pub mod capability;
pub mod clock;
pub mod ethtool;
pub mod fdpass;
pub mod limits;
pub mod memory;
pub mod namespace;
pub mod netlink;
pub mod packet;
pub mod process;
mod sockopt;
pub mod sysctl;
pub mod tap;
pub mod watch;
