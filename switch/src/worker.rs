//! A worker: wait, take a burst from each port that has frames, walk them, do what time asks for.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use heddle_mem::Instant;
use mio::{Events, Poll, Token};
use rand::Rng as _;
use rand::rngs::StdRng;

use crate::config::Config;
use crate::endpoint::{Arena, BURST_FRAMES, Burst, Drained, Endpoint, FRAME_SPACE};
use crate::fdb::Cache;
use crate::limiter::Limiter;
use crate::neighbour::Reader;
use crate::patience::Patience;
use crate::port::PortId;
use crate::reassembly::Assembly;
use crate::switch::{Event, Shared, WAKE};
use crate::walk::Walk;

/// Readiness events taken at once.
const EVENTS: usize = 256;

/// Timers of each kind that are served in one turn: the rest waits until frames were looked at.
const TIMERS: usize = 256;

/// Sessions of which the same is true. To end one costs what several frames cost.
const SESSIONS: usize = 64;

/// Between an interface's being set down and its removal the kernel may let this much time pass, on a
/// busy machine; a port is asked so often meanwhile.
const LOOK_TIME: Duration = Duration::from_secs(10);
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What belongs to one worker alone.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) worker: usize,
    pub(crate) limiter: Limiter,
    /// Frames handed to endpoints, taken or not.
    pub(crate) transmitted: usize,
    /// Where datagrams are put together; out of place while one walks.
    assembly: Option<Box<Assembly>>,
    /// Where frames are built that leave in pieces.
    scratch: Vec<u8>,
    /// Stations that it looked up.
    pub(crate) stations: Cache,
    pub(crate) neighbours: Reader,
    random: StdRng,
}

impl Local {
    /// 64 unpredictable bits.
    pub(crate) fn random(&mut self) -> u64 {
        self.random.next_u64()
    }

    /// The place where a datagram is put together, to be given back. Nobody needs two: what walks on
    /// from there is whole.
    pub(crate) fn take_assembly(&mut self) -> Box<Assembly> {
        self.assembly
            .take()
            .unwrap_or_else(|| Box::new(Assembly::new()))
    }

    pub(crate) fn give_back_assembly(&mut self, assembly: Box<Assembly>) {
        self.assembly = Some(assembly);
    }

    /// Memory to build frames in, to be given back.
    pub(crate) fn take_scratch(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.scratch)
    }

    pub(crate) fn give_back_scratch(&mut self, scratch: Vec<u8>) {
        self.scratch = scratch;
    }
}

/// A worker, to be run on a thread of its own.
#[derive(Debug)]
pub struct Worker {
    shared: Arc<Shared>,
    poll: Poll,
    events: Events,
    patience: Patience,
    engine: Engine,
}

/// The part of a worker that processes frames.
#[derive(Debug)]
struct Engine {
    arena: Arena,
    ready: Ready,
    /// Ports whose interface was set down, and until when they are asked whether it is gone.
    down: Vec<(PortId, Instant)>,
    local: Local,
}

/// Ports that may have frames, in the order in which they get their turn, each once.
///
/// A turn is a burst. But one broadcast is as much work as there are ports, so a port pays for what its
/// burst cost beyond its own length: it lets the others go first for so many turns (deficit round
/// robin; Shreedhar and Varghese, 1995).
#[derive(Debug, Default)]
struct Ready {
    line: VecDeque<PortId>,
    ports: Vec<Turn>,
}

#[derive(Clone, Debug, Default)]
struct Turn {
    in_line: bool,
    /// Frames sent for the port that have not been paid for.
    debt: usize,
}

impl Ready {
    fn push(&mut self, id: PortId) {
        if self.ports.len() <= id.index() {
            self.ports.resize(id.index() + 1, Turn::default());
        }
        if !std::mem::replace(&mut self.ports[id.index()].in_line, true) {
            self.line.push_back(id);
        }
    }

    /// The next port, or none if it is in debt: then it has paid for one turn and stands in line again.
    fn pop(&mut self) -> Option<PortId> {
        let id = self.line.pop_front()?;
        let turn = &mut self.ports[id.index()];
        // Nobody is kept waiting by a port that is alone.
        if turn.debt == 0 || self.line.is_empty() {
            *turn = Turn::default();
            return Some(id);
        }
        turn.debt = turn.debt.saturating_sub(BURST_FRAMES);
        self.line.push_back(id);
        None
    }

    /// Notes what a turn of a port cost.
    fn charge(&mut self, id: PortId, transmitted: usize) {
        let turn = &mut self.ports[id.index()];
        turn.debt += transmitted.saturating_sub(BURST_FRAMES);
    }
}

impl Worker {
    pub(crate) fn new(
        worker: usize,
        shared: Arc<Shared>,
        poll: Poll,
        random: StdRng,
        now: Instant,
    ) -> Worker {
        let local = Local {
            worker,
            limiter: Limiter::new(now),
            transmitted: 0,
            assembly: Some(Box::new(Assembly::new())),
            scratch: Vec::with_capacity(FRAME_SPACE),
            stations: Cache::new(),
            neighbours: shared.tables.neighbours.reader(),
            random,
        };
        Worker {
            shared,
            poll,
            events: Events::with_capacity(EVENTS),
            patience: Patience::default(),
            engine: Engine {
                arena: Arena::new(),
                ready: Ready::default(),
                down: Vec::new(),
                local,
            },
        }
    }

    /// Works until `stop` is set and the worker is woken.
    ///
    /// # Errors
    ///
    /// The poller fails, which leaves nothing to go on with.
    pub fn run(mut self, stop: &AtomicBool, clock: impl Fn() -> Instant) -> io::Result<()> {
        while !stop.load(Ordering::Relaxed) {
            self.wait(&clock)?;
            let now = clock();
            self.with_config(|engine, shared, config| {
                engine.look_again(now);
                engine.serve_ready(shared, config, now);
                engine.serve_timers(shared, config, now);
            });
        }
        Ok(())
    }

    /// One turn without waiting, for tests and benches: every port in memory is asked for frames
    /// until none has any, then timers are served.
    pub fn turn(&mut self, now: Instant) {
        self.with_config(|engine, shared, config| {
            for port in config.ports() {
                if matches!(port.endpoint, Endpoint::Memory(_)) {
                    engine.ready.push(port.id);
                }
            }
            while !engine.ready.line.is_empty() {
                engine.serve_ready(shared, config, now);
            }
            engine.serve_timers(shared, config, now);
        });
    }

    /// When [`Self::turn`] has something to do without a frame coming in.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let tables = &self.shared.tables;
        [
            tables.nat.next_deadline(),
            tables.fdb.next_deadline(),
            tables.neighbours.next_deadline(),
            tables.reassembly.next_deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Waits until a port has frames, a timer is due, or the control plane calls.
    fn wait(&mut self, clock: &impl Fn() -> Instant) -> io::Result<()> {
        if !self.engine.ready.line.is_empty() {
            return self.look(Some(Duration::ZERO)).map(drop);
        }
        let begin = clock();
        let span = self.patience.span();
        while clock() - begin < span {
            if self.look(Some(Duration::ZERO))? {
                return Ok(());
            }
            std::thread::yield_now();
        }
        let timeout = self.next_deadline().map(|deadline| deadline - begin);
        let look = (!self.engine.down.is_empty()).then_some(LOOK_AGAIN);
        self.look(timeout.into_iter().chain(look).min())?;
        self.patience.was_woken(clock() - begin);
        Ok(())
    }

    /// Notes which ports have frames, and whether there was news of any kind. Sleeps so long for it,
    /// for ever without a number.
    fn look(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        match self.poll.poll(&mut self.events, timeout) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Ok(false),
            Err(error) => return Err(error),
        }
        for event in self.events.iter().filter(|event| event.token() != WAKE) {
            let Token(number) = event.token();
            if let Ok(number) = u16::try_from(number) {
                self.engine.ready.push(PortId(number));
            }
        }
        Ok(!self.events.is_empty())
    }

    /// Takes up the newest configuration for the time of `work`.
    fn with_config(&mut self, work: impl FnOnce(&mut Engine, &Shared, &Config)) {
        let Worker { shared, engine, .. } = self;
        let seat = &shared.seats[engine.local.worker];
        seat.progress.wake();
        let snapshot = shared.snapshot.load();
        seat.progress.at(snapshot.generation);
        shared.grace.moved();
        work(engine, shared, &snapshot.config);
        drop(snapshot);
        seat.progress.sleep();
        shared.grace.moved();
    }
}

impl Engine {
    /// One burst for each port that is ready. A port that has more goes to the end of the line.
    fn serve_ready(&mut self, shared: &Shared, config: &Config, now: Instant) {
        for _ in 0..self.ready.line.len() {
            let Some(id) = self.ready.pop() else {
                continue;
            };
            let Some(port) = config.port(id) else {
                continue;
            };
            let Engine { arena, local, .. } = self;
            let worker = local.worker;
            local.transmitted = 0;
            let mut walk = Walk {
                config,
                tables: &shared.tables,
                local,
                now,
            };
            let receive = &mut |burst: &mut Burst<'_>| walk.receive(port, burst);
            let drained = port.endpoint.receive(worker, arena, receive);
            self.ready.charge(id, self.local.transmitted);
            match drained {
                Drained::Yes => {}
                Drained::No => self.ready.push(id),
                Drained::Down => {
                    shared.tables.fdb.flush_learned(id);
                    self.down.push((id, now + LOOK_TIME));
                }
                Drained::Gone => {
                    port.mark_gone();
                    (shared.on_event)(Event::EndpointGone(id));
                }
            }
        }
    }

    /// Asks ports whose interface was set down whether it is gone.
    fn look_again(&mut self, now: Instant) {
        self.down.retain(|&(_, until)| now < until);
        for &(id, _) in &self.down {
            self.ready.push(id);
        }
    }

    fn serve_timers(&mut self, shared: &Shared, config: &Config, now: Instant) {
        let tables = &shared.tables;
        let due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if due(tables.nat.next_deadline()) {
            tables.nat.expire(now, SESSIONS);
        }
        if due(tables.fdb.next_deadline()) {
            tables.fdb.expire(now, TIMERS);
        }
        let mut walk = Walk {
            config,
            tables,
            local: &mut self.local,
            now,
        };
        if due(tables.neighbours.next_deadline()) {
            walk.neighbours_due();
        }
        if due(tables.reassembly.next_deadline()) {
            walk.fragments_due(TIMERS);
        }
    }
}
