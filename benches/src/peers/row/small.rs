//! Frames of 64 octets, in thousands that arrive in a second.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Sample, cost, float};
use crate::clock::Used;
use crate::ground::Ground;
use crate::job::Job;
use crate::problem::Problem;
use crate::traffic;

const TIME: Duration = Duration::from_millis(1500);

pub(super) fn measure(ground: &Ground, at: SocketAddr) -> Result<Sample, Problem> {
    let socket = ground.server.bring_one(|| traffic::bind(at))?;
    let before = Used::now(&ground.switch)?;
    let (ended, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let sink = Job::spawn(|| traffic::count(socket, ended))?;
    let (sent, seconds) = ground.client.run(|| traffic::blast(at, TIME))?;
    rustix::io::write(&end, b"that was all")?;
    let arrived = sink.join()?;
    if arrived == 0 || arrived > sent {
        return Err(format!("{sent} frames were sent and {arrived} arrived").into());
    }
    Ok(Sample {
        value: float(arrived) / seconds / 1e3,
        cost: Some(cost(&before, ground, float(arrived) / 1e6)?),
    })
}
