//! What this room relies on the kernel for, proven on the kernel it runs on.
//!
//! Every case runs in a process, a user namespace, a network namespace and a mount namespace of its
//! own ([`harness`]), as root or as an ordinary user, in parallel with all others. The usual
//! arguments of `cargo test` work: a filter, `--list`, `--exact`, `--skip`, `--test-threads`,
//! `--nocapture`.

#![expect(clippy::unwrap_used, reason = "a panic is how a case fails")]

mod capability;
mod fdpass;
mod harness;
mod lab;
mod namespace;
mod netlink;
mod packet;
mod process;
mod tap;

fn main() -> std::process::ExitCode {
    harness::main(&[
        capability::CASES,
        fdpass::CASES,
        namespace::CASES,
        netlink::CASES,
        packet::CASES,
        process::CASES,
        tap::CASES,
    ])
}
