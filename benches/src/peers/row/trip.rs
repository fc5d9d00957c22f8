//! The round trip of a small message on an open connection, in microseconds; client and server each on
//! a processor of its own.

use std::net::SocketAddr;
use std::time::Duration;

use super::Sample;
use crate::ground::Ground;
use crate::job::Job;
use crate::problem::Problem;
use crate::traffic;

const TIME: Duration = Duration::from_millis(1000);

pub(super) fn measure(ground: &Ground, at: SocketAddr) -> Result<Sample, Problem> {
    let listener = ground.server.bring_one(|| traffic::listen(at))?;
    let _echo = Job::spawn(|| traffic::echo(listener))?;
    let seconds = ground.client.run(|| traffic::trips(at, TIME))?;
    Ok(Sample {
        value: seconds * 1e6,
        cost: None,
    })
}
