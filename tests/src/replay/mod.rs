//! What the fuzz targets do with their bytes, as plain functions: the targets in `fuzz/` call them with
//! new inputs, the tests replay the corpora that were kept.
//!
//! Each takes any bytes and panics if a promise is broken:
//!
//! - [`parse`] — the parser and everything that rewrites, cuts or completes what it accepted.
//! - [`frame_path`] — a whole switch in memory, under a list of actions.
//! - [`api`] — the bodies and texts that the control plane reads.

pub mod api;
pub mod frame_path;
pub mod parse;
