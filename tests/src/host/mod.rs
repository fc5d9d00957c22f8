//! Real kernels: a host that the test makes, a real daemon on it, real programs in its containers.
//!
//! The kernel lets only a process with one thread make and enter user namespaces, so the test program
//! executes itself once a scenario (`suite`). That process makes the host (`stage`): a network
//! namespace, a process namespace, which ends everything in it when it ends, and mounts of its own,
//! which leave no file behind. In there it runs [`heddle`](Heddle), which is the test program again,
//! under another name.
//!
//! Each scenario runs both [ways](Way): the daemon as root of the host, and the daemon as an ordinary
//! user without a capability, whose containers have user namespaces of that user.

mod container;
mod heddle;
mod link;
mod program;
mod stage;
mod suite;
mod wait;

pub use container::{Container, Job};
pub use heddle::{Heddle, Holdings, Refusal};
pub use link::{Cable, set_interface_up};
pub use program::{Ended, Running, program};
pub use stage::{Kind, Way};
pub use suite::{Host, On, Scenario, main, skip};
pub use wait::{PATIENCE, eventually, eventually_within, now};
