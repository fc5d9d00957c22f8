//! One TCP stream, in gigabits a second.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Sample, cost, float};
use crate::clock::Used;
use crate::ground::Ground;
use crate::job::Job;
use crate::problem::Problem;
use crate::traffic;

const TIME: Duration = Duration::from_millis(2000);

pub(super) fn measure(ground: &Ground, at: SocketAddr) -> Result<Sample, Problem> {
    let listener = ground.server.bring_one(|| traffic::listen(at))?;
    let before = Used::now(&ground.switch)?;
    let sink = Job::spawn(|| traffic::drain(listener))?;
    let sent = ground.client.run(|| traffic::pour(at, TIME))?;
    let (received, seconds) = sink.join()?;
    if sent != received {
        return Err(format!("{sent} octets were sent and {received} received").into());
    }
    let gigabytes = float(received) / 1e9;
    Ok(Sample {
        value: gigabytes * 8.0 / seconds,
        cost: Some(cost(&before, ground, gigabytes)?),
    })
}
