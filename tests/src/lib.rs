//! Whole-system scenarios: what they have in common.
//!
//! - [`conformance`] — what heddle promises, and which tests show it.
//! - [`host`] — real kernels: a host in namespaces, a real daemon on it, real programs in containers.
//! - [`lab`] — a switch whose ports are in memory and whose clock is the test's: deterministic, and
//!   after every step it knows what may have moved.
//! - [`replay`] — what the fuzz targets do with their bytes, for the tests that replay their corpora.

#![forbid(unsafe_code)]

pub mod conformance;
pub mod host;
pub mod lab;
pub mod replay;
