//! heddle: a userspace virtual switch and NAT router.
#![forbid(unsafe_code)]
pub mod api;
pub mod cli;
pub mod client;
pub mod daemon;
mod demo;
pub mod keeper;
pub mod plumb;
pub mod store;
