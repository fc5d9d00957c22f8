//! How fast heddle is, in the order of what can be trusted most:
//!
//! 1. `cargo run --release -p heddle-benches --bin instructions` counts instructions a frame; the
//!    same number on every run of one machine.
//!    `--bin rules` does the same for chains of filter rules, of ten rules and of a thousand.
//!    `--bin longest` counts those of the longest operation on the table of sessions.
//! 2. `cargo bench -p heddle-benches` measures parts of the dataplane in memory, on one core. Each
//!    bench checks its result, so `cargo test` runs it as a test, with small sizes.
//! 3. `cargo run --release -p heddle-benches --bin peers` holds the daemon against the kernel, a bare
//!    relay and other switches, side by side in namespaces.
//!
//! [`course`] is what the first two share: frames with known outcomes, through the real worker.

#![forbid(unsafe_code)]

pub mod course;
pub mod flows;
pub mod rules;
