//! The command line's end of the API.
//!
//! One thread and no background task: a command may enter a namespace or fork after any request.

mod autostart;
mod descriptors;
mod http;

pub use autostart::ensure_daemon;
pub use descriptors::Passing;
pub use http::Client;
