//! Whole-system scenarios: what they have in common.
//!
//! - [`lab`] — a switch whose ports are in memory and whose clock is the test's: deterministic, and
//!   after every step it knows what may have moved.

#![forbid(unsafe_code)]

pub mod lab;
