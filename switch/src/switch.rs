//! The switch as the control plane holds it: publish a configuration, read what happens.
//!
//! # Theory of operation
//!
//! Workers never wait for the control plane and are never interrupted by it. They take up the newest
//! configuration between two bursts, and say of each how far they are ([`Seat`]). So a removal is:
//! publish a configuration without the port; wait until every worker has passed it; then nobody can
//! be looking at the port, and what remains of it (stations, sessions, neighbours) is flushed before
//! its number or its addresses are used again.
//!
//! A port is added the other way round: its stations are fixed and it is published, then its
//! descriptors are given to the workers' pollers. So policy stands before the first frame is read.
//!
//! A port that is *replaced*, another one under the same number, is removed first and added then, with
//! a grace period in between: what belongs to the former holder must be gone before the number means
//! somebody else.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use heddle_mem::{BufferPool, Instant};
use heddle_nat::{Identifications, Nat};
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token, Waker};
use rand::SeedableRng as _;
use rand::rngs::{StdRng, SysRng};
use rand::{Rng as _, TryRng as _};

use crate::config::Config;
use crate::fdb::{self, Fdb};
use crate::frame::HeldFrame;
use crate::grace::{self, Grace, Progress};
use crate::neighbour::{Link, Neighbours};
use crate::port::{Port, PortId, Role};
use crate::reassembly::Reassembly;
use crate::worker::Worker;

/// Frames that wait for a neighbour, in all.
const HELD_FRAMES: usize = 256;

/// How long a removal waits for a worker. A burst takes well under a millisecond; a worker that
/// needs this long is stuck, and waiting longer would only stick the control plane as well.
const GRACE: Duration = Duration::from_secs(5);

/// Event token of the waker; ports use their number.
pub(crate) const WAKE: Token = Token(usize::MAX);

/// Something that happened in the dataplane that the control plane must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The endpoint of a port is gone for good.
    EndpointGone(PortId),
}

/// How to make a switch.
pub struct Options {
    /// Worker threads.
    pub workers: usize,
    /// Bounds of the session table.
    pub sessions: heddle_nat::Limits,
    /// Bounds of the forwarding database.
    pub stations: fdb::Limits,
    /// Seed of all randomness; `None` for the system's.
    pub seed: Option<u64>,
    /// Time at the start.
    pub now: Instant,
    /// Told of events, on the worker's thread: must not block.
    pub on_event: Box<dyn Fn(Event) + Send + Sync>,
}

impl std::fmt::Debug for Options {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Options")
            .field("workers", &self.workers)
            .field("sessions", &self.sessions)
            .field("stations", &self.stations)
            .finish_non_exhaustive()
    }
}

/// State that all workers share.
#[derive(Debug)]
pub(crate) struct Tables {
    pub(crate) fdb: Fdb,
    pub(crate) nat: Nat,
    pub(crate) neighbours: Neighbours,
    pub(crate) held: BufferPool,
    pub(crate) reassembly: Reassembly,
    pub(crate) identifications: Identifications,
}

/// A configuration and its place in the order of configurations.
#[derive(Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) generation: u64,
    pub(crate) config: Config,
}

/// Where the control plane meets a worker.
#[derive(Debug)]
pub(crate) struct Seat {
    pub(crate) progress: Progress,
    registry: Registry,
    waker: Waker,
}

/// What workers and control plane share.
pub(crate) struct Shared {
    pub(crate) snapshot: ArcSwap<Snapshot>,
    pub(crate) tables: Tables,
    pub(crate) seats: Vec<Seat>,
    pub(crate) on_event: Box<dyn Fn(Event) + Send + Sync>,
    pub(crate) grace: Grace,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Shared")
            .field("tables", &self.tables)
            .finish_non_exhaustive()
    }
}

/// The control plane's handle.
#[derive(Debug)]
pub struct Switch {
    shared: Arc<Shared>,
    /// One change at a time.
    publishing: Mutex<()>,
}

impl Switch {
    /// A switch without configuration, and its workers, to be run on threads of their own.
    ///
    /// # Errors
    ///
    /// The system gives no poller, or no randomness.
    pub fn new(options: Options) -> io::Result<(Switch, Vec<Worker>)> {
        let mut random = match options.seed {
            Some(seed) => StdRng::seed_from_u64(seed),
            None => {
                let mut seed = [0; 32];
                SysRng.try_fill_bytes(&mut seed).map_err(io::Error::other)?;
                StdRng::from_seed(seed)
            }
        };
        let mut secret = || {
            let mut secret = [0; 64];
            random.fill_bytes(&mut secret);
            secret
        };
        let tables = Tables {
            fdb: Fdb::new(options.stations, secret(), options.now),
            nat: Nat::new(options.sessions, secret(), options.now),
            neighbours: Neighbours::new(),
            held: BufferPool::new(HELD_FRAMES, HeldFrame::SPACE),
            reassembly: Reassembly::new(secret()),
            identifications: Identifications::new(secret()),
        };
        let workers = options.workers.max(1);
        let mut polls = Vec::with_capacity(workers);
        let mut seats = Vec::with_capacity(workers);
        for _ in 0..workers {
            let poll = mio::Poll::new()?;
            seats.push(Seat {
                progress: Progress::asleep(),
                registry: poll.registry().try_clone()?,
                waker: Waker::new(poll.registry(), WAKE)?,
            });
            polls.push(poll);
        }
        let shared = Arc::new(Shared {
            snapshot: ArcSwap::default(),
            tables,
            seats,
            on_event: options.on_event,
            grace: Grace::new(),
        });
        let workers = polls
            .into_iter()
            .enumerate()
            .map(|(index, poll)| {
                let mut seed = [0; 32];
                random.fill_bytes(&mut seed);
                Worker::new(
                    index,
                    shared.clone(),
                    poll,
                    StdRng::from_seed(seed),
                    options.now,
                )
            })
            .collect();
        Ok((
            Switch {
                shared,
                publishing: Mutex::new(()),
            },
            workers,
        ))
    }

    /// How many workers there are.
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.seats.len()
    }

    /// Makes a configuration the one that frames are processed under. Returns when no worker uses
    /// the one before any more and nothing is left of ports that are not in it.
    ///
    /// A frame sees all of a change or none, with one exception: where a port is replaced by another
    /// one under the same number, the number leads nowhere for a moment.
    ///
    /// # Errors
    ///
    /// A new port's descriptor cannot be polled, or a worker is stuck. The configuration stands in
    /// both cases.
    pub fn publish(&self, config: Config, now: Instant) -> io::Result<()> {
        self.put(config, now, true)
    }

    /// The same for a configuration in which something is only added, and nothing of the one before is
    /// withdrawn: then there is nothing to wait for, and a worker that has much to flood keeps nobody.
    ///
    /// # Errors
    ///
    /// As above; where a port was removed all the same, it waits.
    pub fn extend(&self, config: Config, now: Instant) -> io::Result<()> {
        self.put(config, now, false)
    }

    fn put(&self, config: Config, now: Instant, withdraws: bool) -> io::Result<()> {
        let _one_at_a_time = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let before = self.shared.snapshot.load_full();
        let (added, removed) = compare(&before.config, &config);
        for port in &removed {
            self.unregister(port);
        }
        let mut result = Ok(());
        let mut generation = before.generation;
        let replaced = removed.iter().any(|port| config.port(port.id).is_some());
        if replaced {
            generation += 1;
            let meanwhile = before.config.without(&removed);
            result = self.put_in_force(generation, meanwhile, &removed, true, now);
        }
        drop(before);
        for network in config.networks() {
            self.shared
                .tables
                .fdb
                .set_ageing(network.id, network.ageing);
        }
        for port in &added {
            self.fix_stations(port, now);
        }
        let removed = if replaced { Vec::new() } else { removed };
        let waits = withdraws || !removed.is_empty();
        let end = self.put_in_force(generation + 1, config, &removed, waits, now);
        result = result.and(end);
        for port in &added {
            result = result.and(self.register(port));
        }
        result
    }

    /// Stores a configuration, waits until nobody uses the one before, and forgets the ports that
    /// were removed by it. It waits even where none was, if anything else is withdrawn: whoever has
    /// withdrawn a route or a published port ends the sessions that rest on it next, and no worker may
    /// open one more behind that.
    fn put_in_force(
        &self,
        generation: u64,
        config: Config,
        removed: &[Arc<Port>],
        waits: bool,
        now: Instant,
    ) -> io::Result<()> {
        let snapshot = Snapshot { generation, config };
        self.shared.snapshot.store(Arc::new(snapshot));
        grace::published();
        let workers = self.shared.seats.iter().map(|seat| &seat.progress);
        let result = if !waits || self.shared.grace.wait(GRACE, generation, workers) {
            Ok(())
        } else {
            let kind = io::ErrorKind::TimedOut;
            Err(io::Error::new(kind, "a worker does not respond"))
        };
        self.flush(removed, now);
        result
    }

    /// Forgets everything about ports that nobody uses any more.
    fn flush(&self, removed: &[Arc<Port>], now: Instant) {
        if removed.is_empty() {
            return;
        }
        let tables = &self.shared.tables;
        for port in removed {
            tables.fdb.flush_port(port.id);
            tables.reassembly.forget_port(port.id);
            match &port.role {
                Role::Leg(leg) => tables.neighbours.flush(Link::Leg(*leg), now),
                // The hosts behind it were neighbours of the gateway.
                Role::Member { network, identity } if !identity.secure => {
                    tables.neighbours.flush(Link::Network(*network), now);
                }
                Role::Member { .. } => {}
            }
        }
        let gone = |id: PortId| removed.iter().any(|port| port.id == id);
        tables
            .neighbours
            .forget_waiting(|frame| gone(frame.ingress));
        tables.nat.flush(now, |session| {
            heddle_nat::Direction::BOTH
                .into_iter()
                .any(|direction| gone(PortId(session.ingress(direction).0)))
        });
        for port in removed {
            tables.nat.forget_owner(heddle_nat::Side(port.id.0));
        }
        // Frames that waited on a link that is gone are given up by a worker; one may sleep for long.
        self.wake_workers();
    }

    /// Ends sessions that `ends` says yes to; for whoever withdraws what they rest on.
    pub fn flush_sessions(&self, now: Instant, ends: impl Fn(&heddle_nat::Session) -> bool) -> u32 {
        self.shared.tables.nat.flush(now, ends)
    }

    fn fix_stations(&self, port: &Port, now: Instant) {
        if let Role::Member { network, identity } = &port.role {
            for &mac in identity.macs.iter().filter(|_| identity.secure) {
                self.shared.tables.fdb.fix(*network, mac, port.id, now);
            }
        }
    }

    fn register(&self, port: &Port) -> io::Result<()> {
        for (worker, seat) in self.shared.seats.iter().enumerate() {
            if let Some(descriptor) = port.endpoint.readable(worker) {
                let mut source = SourceFd(&descriptor.as_raw_fd());
                seat.registry
                    .register(&mut source, Token(port.id.index()), Interest::READABLE)?;
            }
        }
        Ok(())
    }

    fn unregister(&self, port: &Port) {
        for (worker, seat) in self.shared.seats.iter().enumerate() {
            if let Some(descriptor) = port.endpoint.readable(worker) {
                // Fails only if it was never registered.
                let _ = seat
                    .registry
                    .deregister(&mut SourceFd(&descriptor.as_raw_fd()));
            }
        }
    }

    /// Shows the configuration that is in force.
    pub fn with_config<T>(&self, show: impl FnOnce(&Config) -> T) -> T {
        show(&self.shared.snapshot.load().config)
    }

    /// The forwarding database.
    #[must_use]
    pub fn fdb(&self) -> &Fdb {
        &self.shared.tables.fdb
    }

    /// Sessions and mappings.
    #[must_use]
    pub fn nat(&self) -> &Nat {
        &self.shared.tables.nat
    }

    /// The neighbours that were asked for.
    #[must_use]
    pub fn neighbours(&self) -> &Neighbours {
        &self.shared.tables.neighbours
    }

    /// Octets of memory that frames, whatever they are, can make the tables of this configuration take.
    #[must_use]
    pub fn memory_bound(&self) -> usize {
        let tables = &self.shared.tables;
        let (networks, ports) =
            self.with_config(|config| (config.networks().count(), config.ports().count()));
        (tables.nat.memory_bound(ports))
            .saturating_add(tables.fdb.memory_bound(networks, ports))
            .saturating_add(Neighbours::MEMORY_BOUND)
            .saturating_add(HELD_FRAMES * HeldFrame::SPACE)
            .saturating_add(Reassembly::MEMORY_BOUND)
    }

    /// How many frames wait at the moment: for a neighbour to answer, or for the other fragments of
    /// their datagram.
    #[must_use]
    pub fn held_frames(&self) -> usize {
        let Tables {
            neighbours,
            reassembly,
            ..
        } = &self.shared.tables;
        neighbours.waiting() + reassembly.fragments()
    }

    /// Wakes every worker, so that it sees a stop flag.
    pub fn wake_workers(&self) {
        for seat in &self.shared.seats {
            // Fails only where the worker's poller is gone, and the worker with it.
            let _ = seat.waker.wake();
        }
    }
}

/// Ports that are only in the new configuration, and those that are only in the old one.
fn compare(old: &Config, new: &Config) -> (Vec<Arc<Port>>, Vec<Arc<Port>>) {
    let differs = |port: &&Arc<Port>, other: &Config| {
        other
            .port(port.id)
            .is_none_or(|same| !Arc::ptr_eq(same, port))
    };
    let added = new
        .ports()
        .filter(|port| differs(port, old))
        .cloned()
        .collect();
    let removed = old
        .ports()
        .filter(|port| differs(port, new))
        .cloned()
        .collect();
    (added, removed)
}

#[cfg(test)]
mod tests;
