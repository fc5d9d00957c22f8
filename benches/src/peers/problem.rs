//! What goes wrong.

/// Anything that keeps a measurement from being made, in words.
pub(crate) type Problem = Box<dyn std::error::Error>;
