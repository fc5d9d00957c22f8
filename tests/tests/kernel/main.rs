//! heddle on real kernels, with other people's programs.
//!
//! Every scenario is played on a host of its own, as root and as an ordinary user; see
//! `heddle_tests::host`. The usual arguments of `cargo test` work.

#![forbid(unsafe_code)]

mod attach;
mod bridge;
mod churn;
mod filter;
mod fragments;
mod input;
mod internet;
mod life;
mod limits;
mod many;
mod nat;
mod router;
mod smol;
mod sockets;
mod traffic;
mod uplink;
mod web;

fn main() -> std::process::ExitCode {
    heddle_tests::host::main(&[
        attach::SCENARIOS,
        bridge::SCENARIOS,
        churn::SCENARIOS,
        filter::SCENARIOS,
        fragments::SCENARIOS,
        input::SCENARIOS,
        life::SCENARIOS,
        limits::SCENARIOS,
        many::SCENARIOS,
        nat::SCENARIOS,
        router::SCENARIOS,
        smol::SCENARIOS,
        sockets::SCENARIOS,
        uplink::SCENARIOS,
    ])
}
