//! What is measured: one file a load.

mod connect;
mod small;
mod stream;
mod trip;

use heddle_wire::Family;

use crate::clock::Used;
use crate::ground::{Ground, Topology};
use crate::peer::Peer;
use crate::problem::Problem;
use crate::stage::Stage;

/// One line of the comparison.
#[derive(Debug)]
pub(crate) struct Row {
    /// What it is called on the command line.
    pub(crate) name: &'static str,
    /// What it is.
    pub(crate) what: &'static str,
    /// What its values are counted in.
    pub(crate) unit: &'static str,
    pub(crate) better: Better,
    /// What processor time is counted for.
    pub(crate) cost: Option<&'static str>,
    work: Work,
    /// What heddle has to reach (design, performance bars).
    pub(crate) bars: &'static [Bar],
}

/// Which values are good ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// What heddle has to reach.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Bar {
    /// This times the value of a peer.
    Of(&'static str, f64),
    /// This value.
    Value(f64),
}

#[derive(Clone, Copy, Debug)]
enum Work {
    Carry(Topology, Family, Load),
    Attach(Family),
    Memory,
}

/// What the containers do.
#[derive(Clone, Copy, Debug)]
enum Load {
    Stream,
    Small,
    /// So many conversations at a time.
    Connect(u16),
    Trip,
}

/// What was measured once.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) value: f64,
    /// Processor seconds for a unit of work: everybody's, the switch's.
    pub(crate) cost: Option<(f64, Option<f64>)>,
}

impl Row {
    /// What has to be laid for it.
    pub(crate) fn topology(&self) -> Option<Topology> {
        match self.work {
            Work::Carry(topology, ..) => Some(topology),
            Work::Attach(_) | Work::Memory => None,
        }
    }

    /// Measures it once; `None` if the peer has nothing of the kind.
    pub(crate) fn measure(
        &self,
        stage: &Stage,
        peer: &dyn Peer,
        ground: Option<&Ground>,
    ) -> Result<Option<Sample>, Problem> {
        let plain = |value| Sample { value, cost: None };
        match (self.work, ground) {
            (Work::Carry(_, family, load), Some(ground)) => {
                let at = (ground.target(family), stage.port()).into();
                match load {
                    Load::Stream => stream::measure(ground, at),
                    Load::Small => small::measure(ground, at),
                    Load::Connect(conversations) => connect::measure(ground, at, conversations),
                    Load::Trip => trip::measure(ground, at),
                }
                .map(Some)
            }
            (Work::Carry(..), None) => Ok(None),
            (Work::Attach(family), _) => {
                let seconds = peer.attach(stage, family)?;
                Ok(seconds.map(|seconds| plain(seconds * 1e3)))
            }
            (Work::Memory, _) => {
                let octets = peer.memory(stage)?;
                Ok(octets.map(|octets| plain(octets / f64::from(1 << 20))))
            }
        }
    }
}

/// The processor time that passed for an amount of work.
fn cost(before: &Used, ground: &Ground, work: f64) -> Result<(f64, Option<f64>), Problem> {
    let (machine, switch) = Used::now(&ground.switch)?.since(before);
    Ok((machine / work, switch.map(|switch| switch / work)))
}

#[expect(clippy::cast_precision_loss, reason = "shown with three digits")]
fn float(count: u64) -> f64 {
    count as f64
}

const fn carry(topology: Topology, family: Family, load: Load) -> Row {
    let (unit, better, cost) = match load {
        Load::Stream => ("Gbit/s", Better::Higher, Some("GB")),
        Load::Small => ("kpps", Better::Higher, Some("Mframe")),
        Load::Connect(_) => ("k/s", Better::Higher, None),
        Load::Trip => ("µs", Better::Lower, None),
    };
    Row {
        name: "",
        what: "",
        unit,
        better,
        cost,
        work: Work::Carry(topology, family, load),
        bars: &[],
    }
}

const fn bridge(family: Family, load: Load) -> Row {
    carry(Topology::Bridge, family, load)
}

const fn nat(family: Family, load: Load) -> Row {
    carry(Topology::Nat, family, load)
}

const STREAM: &[Bar] = &[Bar::Of("relay", 0.95), Bar::Of("kernel", 0.85)];
const NAT_STREAM: &[Bar] = &[Bar::Of("relay", 0.93)];

/// All rows.
pub(crate) const ROWS: &[Row] = &[
    Row {
        name: "stream4",
        what: "one TCP stream, IPv4",
        bars: STREAM,
        ..bridge(Family::V4, Load::Stream)
    },
    Row {
        name: "stream6",
        what: "one TCP stream, IPv6",
        bars: STREAM,
        ..bridge(Family::V6, Load::Stream)
    },
    Row {
        name: "small",
        what: "64-byte frames",
        bars: &[Bar::Of("kernel", 1.5), Bar::Of("relay", 0.9)],
        ..bridge(Family::V4, Load::Small)
    },
    Row {
        name: "connect",
        what: "connect, request, close",
        bars: &[Bar::Of("kernel", 1.2)],
        ..bridge(Family::V4, Load::Connect(1))
    },
    Row {
        name: "connect8",
        what: "connect, request, close, eight at a time",
        ..bridge(Family::V4, Load::Connect(8))
    },
    Row {
        name: "trip",
        what: "TCP round trip",
        bars: &[Bar::Of("relay", 1.1)],
        ..bridge(Family::V4, Load::Trip)
    },
    Row {
        name: "nat-stream4",
        what: "through NAT: one TCP stream, IPv4",
        bars: NAT_STREAM,
        ..nat(Family::V4, Load::Stream)
    },
    Row {
        name: "nat-stream6",
        what: "through NAT: one TCP stream, IPv6",
        bars: NAT_STREAM,
        ..nat(Family::V6, Load::Stream)
    },
    Row {
        name: "nat-small",
        what: "through NAT: 64-byte frames",
        ..nat(Family::V4, Load::Small)
    },
    Row {
        name: "nat-connect",
        what: "through NAT: connect, request, close",
        ..nat(Family::V4, Load::Connect(1))
    },
    Row {
        name: "nat-connect8",
        what: "through NAT: connect, request, close, eight at a time",
        ..nat(Family::V4, Load::Connect(8))
    },
    Row {
        name: "nat-trip",
        what: "through NAT: TCP round trip",
        ..nat(Family::V4, Load::Trip)
    },
    Row {
        name: "attach4",
        what: "attach until first answered ping, IPv4",
        bars: &[Bar::Value(10.0)],
        ..attach(Family::V4)
    },
    Row {
        name: "attach6",
        what: "attach until first answered ping, IPv6",
        bars: &[Bar::Value(10.0)],
        ..attach(Family::V6)
    },
    Row {
        name: "memory",
        what: "resident memory with 10 endpoints",
        unit: "MiB",
        work: Work::Memory,
        bars: &[Bar::Value(20.0)],
        ..attach(Family::V4)
    },
];

const fn attach(family: Family) -> Row {
    Row {
        name: "",
        what: "",
        unit: "ms",
        better: Better::Lower,
        cost: None,
        work: Work::Attach(family),
        bars: &[],
    }
}
