//! Connections with a request and an answer, in thousands a second.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Sample, float};
use crate::ground::Ground;
use crate::job::Job;
use crate::problem::Problem;
use crate::traffic;

/// Short enough that no port of the client is used twice (`ip_local_port_range` has 28,232).
const TIME: Duration = Duration::from_millis(1000);

/// With so many conversations at a time. One after the other they show how soon each gets its answer,
/// several at a time how many the machine can do.
pub(super) fn measure(
    ground: &Ground,
    at: SocketAddr,
    conversations: u16,
) -> Result<Sample, Problem> {
    let listener = ground.server.bring_one(|| traffic::listen(at))?;
    let _server = Job::spawn(|| traffic::serve(listener, conversations))?;
    let (count, seconds) = ground
        .client
        .run(|| traffic::ask(at, TIME, conversations))?;
    Ok(Sample {
        value: float(count) / seconds / 1e3,
        cost: None,
    })
}
