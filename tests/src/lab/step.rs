//! What a step of a lab did, against what it must have done.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::ops::Range;

use heddle_switch::{DropReason, Event, NeighbourState};
use heddle_wire::{MacAddr, VNET_HEADER_LEN, VnetHeader};

use super::fragments::{identification, renumbered};
use super::state::{State, StationState, Traffic};
use super::{Lab, Name, describe};

/// The expectations of one step. They are checked when it is dropped, at the end of the statement: so
/// what a test does not mention is checked as well.
#[derive(Debug)]
pub struct Step<'lab> {
    lab: &'lab mut Lab,
    /// The state before, changed by what was named.
    expected: State,
    arrivals: BTreeMap<Name, Vec<Vec<u8>>>,
    events: Vec<Event>,
    sessions: Sessions,
    /// Of the arrivals, runs that get one new identification each.
    renumbered: Vec<(Name, Range<usize>)>,
    /// Ports whose traffic is not compared.
    busy: BTreeSet<Name>,
}

/// How many sessions changed in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sessions {
    opened: usize,
    moved: usize,
    ended: usize,
}

impl Sessions {
    fn between(before: &State, after: &State) -> Sessions {
        let (before, after) = (&before.sessions, &after.sessions);
        let opened = after.keys().filter(|key| !before.contains_key(*key));
        let ended = before.keys().filter(|key| !after.contains_key(*key));
        let moved = after
            .iter()
            .filter(|(key, session)| before.get(*key).is_some_and(|before| before != *session));
        Sessions {
            opened: opened.count(),
            moved: moved.count(),
            ended: ended.count(),
        }
    }
}

impl<'lab> Step<'lab> {
    pub(super) fn new(lab: &'lab mut Lab) -> Step<'lab> {
        let mut expected = lab.verified.clone();
        // A port that is new counts from zero, one that is gone does not count.
        expected
            .ports
            .retain(|name, _| lab.plan.ports().any(|port| port == *name));
        for name in lab.plan.ports() {
            expected.ports.entry(name).or_default();
        }
        // So do rules.
        let rules = lab.plan.all_counted();
        expected
            .rules
            .retain(|number, _| rules.contains_key(number));
        for &number in rules.keys() {
            expected.rules.entry(number).or_default();
        }
        Step {
            lab,
            expected,
            arrivals: BTreeMap::new(),
            events: Vec::new(),
            sessions: Sessions::default(),
            renumbered: Vec::new(),
            busy: BTreeSet::new(),
        }
    }

    pub(super) fn expect_received(&mut self, port: Name, octets: usize) {
        add(&mut self.port(port).received, octets);
    }

    /// The switch takes frames that a host has sent before.
    pub fn receives(mut self, from: Name, frames: usize, frame: &[u8]) -> Self {
        for _ in 0..frames {
            self.expect_received(from, frame.len());
        }
        self
    }

    /// A host gets this finished frame, behind those said before.
    pub fn arrives(self, at: Name, frame: &[u8]) -> Self {
        self.arrives_with(at, &VnetHeader::NONE, frame)
    }

    /// A host gets this frame with this virtio-net header.
    pub fn arrives_with(mut self, at: Name, header: &VnetHeader, frame: &[u8]) -> Self {
        add(&mut self.port(at).sent, frame.len());
        let bytes = [&header.emit(), frame].concat();
        self.arrivals.entry(at).or_default().push(bytes);
        self
    }

    /// A host gets this finished frame so many times.
    pub fn arrives_many(self, at: Name, frame: &[u8], times: usize) -> Self {
        (0..times).fold(self, |step, _| step.arrives(at, frame))
    }

    /// A host gets these finished frames, all of them with one identification that nobody knew before.
    pub fn arrives_renumbered<F: AsRef<[u8]>>(mut self, at: Name, frames: &[F]) -> Self {
        let start = self.arrivals.entry(at).or_default().len();
        self.renumbered.push((at, start..start + frames.len()));
        frames
            .iter()
            .fold(self, |step, frame| step.arrives(at, frame.as_ref()))
    }

    /// Hosts each get this finished frame.
    pub fn arrives_everywhere(self, at: &[Name], frame: &[u8]) -> Self {
        at.iter().fold(self, |step, host| step.arrives(host, frame))
    }

    /// A host whose link carries no virtio-net header gets these frames for one of `sent` octets that
    /// the switch sent.
    pub fn arrives_cut(mut self, at: Name, sent: usize, frames: &[Vec<u8>]) -> Self {
        add(&mut self.port(at).sent, sent);
        let arrivals = self.arrivals.entry(at).or_default();
        arrivals.extend(
            frames
                .iter()
                .map(|frame| [&VnetHeader::NONE.emit(), &frame[..]].concat()),
        );
        self
    }

    /// A frame of a host ends for this reason.
    pub fn drops(self, from: Name, reason: impl Into<DropReason>) -> Self {
        self.drops_many(from, reason, 1)
    }

    /// Frames of a host end for this reason.
    pub fn drops_many(mut self, from: Name, reason: impl Into<DropReason>, frames: u64) -> Self {
        if frames != 0 {
            let drops = &mut self.port(from).drops;
            *drops.entry(reason.into().name()).or_default() += frames;
        }
        self
    }

    /// So many sessions are new.
    pub fn opens(mut self, sessions: usize) -> Self {
        self.sessions.opened += sessions;
        self
    }

    /// So many sessions have moved on.
    pub fn moves(mut self, sessions: usize) -> Self {
        self.sessions.moved += sessions;
        self
    }

    /// So many sessions are gone.
    pub fn ends(mut self, sessions: usize) -> Self {
        self.sessions.ended += sessions;
        self
    }

    /// There are so many dynamic mappings more.
    pub fn mappings(mut self, more: i64) -> Self {
        self.expected.mappings += more;
        self
    }

    /// These filter rules each count a packet.
    pub fn counts(mut self, rules: &[u32]) -> Self {
        for number in rules {
            let known = self.expected.rules.get_mut(number);
            *known.unwrap_or_else(|| panic!("no rule has the number {number}")) += 1;
        }
        self
    }

    /// There are so many waiting frames more.
    pub fn holds(mut self, more: i64) -> Self {
        self.expected.held += more;
        self
    }

    /// A station is known, or known to be elsewhere.
    pub fn learns(self, network: Name, mac: MacAddr, port: Name) -> Self {
        self.station(network, mac, port, false)
    }

    /// A station is given to a port.
    pub fn fixes(self, network: Name, mac: MacAddr, port: Name) -> Self {
        self.station(network, mac, port, true)
    }

    fn station(mut self, network: Name, mac: MacAddr, port: Name, fixed: bool) -> Self {
        let station = StationState {
            port: port.to_owned(),
            fixed,
        };
        let key = (network.to_owned(), mac);
        self.expected.stations.insert(key, station);
        self
    }

    /// A station is not known any more.
    pub fn forgets(mut self, network: Name, mac: MacAddr) -> Self {
        let known = self.expected.stations.remove(&(network.to_owned(), mac));
        assert!(known.is_some(), "{mac} in {network} was not known before");
        self
    }

    /// A neighbour stands so.
    pub fn neighbour(
        mut self,
        link: Name,
        address: &str,
        mac: Option<MacAddr>,
        state: NeighbourState,
    ) -> Self {
        let address = address.parse().expect("a test names addresses");
        let key = (link.to_owned(), address);
        self.expected.neighbours.insert(key, (mac, state));
        self
    }

    /// A neighbour is not known any more.
    pub fn forgets_neighbour(mut self, link: Name, address: &str) -> Self {
        let address = address.parse().expect("a test names addresses");
        let known = self.expected.neighbours.remove(&(link.to_owned(), address));
        assert!(known.is_some(), "{address} on {link} was not known before");
        self
    }

    /// The control plane is told of this.
    pub fn event(mut self, event: Event) -> Self {
        self.events.push(event);
        self
    }

    /// Traffic of a port is not compared, nor are the frames that arrive there; its drops are.
    pub fn busy(mut self, port: Name) -> Self {
        self.busy.insert(port);
        self
    }

    fn port(&mut self, name: Name) -> &mut super::PortState {
        let known = self.expected.ports.get_mut(name);
        known.unwrap_or_else(|| panic!("no port is called {name}"))
    }

    /// What is wrong, nothing if all is as said.
    fn faults(&mut self) -> String {
        let actual = self.lab.observe();
        let sessions = Sessions::between(&self.lab.verified, &actual);
        let mut faults = String::new();
        if sessions != self.sessions {
            let _ = writeln!(
                faults,
                "sessions: expected {:?}, found {sessions:?}",
                self.sessions
            );
        }
        self.compare_arrivals(&mut faults);
        let events = self.lab.take_events();
        if events != self.events {
            let _ = writeln!(
                faults,
                "events: expected {:?}, found {events:?}",
                self.events
            );
        }
        let mut expected = std::mem::take(&mut self.expected);
        // Sessions were compared by number, above.
        expected.sessions.clone_from(&actual.sessions);
        for name in &self.busy {
            if let (Some(expected), Some(actual)) =
                (expected.ports.get_mut(name), actual.ports.get(name))
            {
                (expected.received, expected.sent) = (actual.received, actual.sent);
            }
        }
        if expected != actual {
            let (expected, found) = (expected.lines(), actual.lines());
            for line in expected.iter().filter(|line| !found.contains(line)) {
                let _ = writeln!(faults, "  - {line}");
            }
            for line in found.iter().filter(|line| !expected.contains(line)) {
                let _ = writeln!(faults, "  + {line}");
            }
        }
        if !faults.is_empty() {
            let _ = write!(
                faults,
                "the whole switch (was expected: -, was found: +):\n{actual}"
            );
        }
        self.lab.verified = actual;
        faults
    }

    /// The frames that a port must have got, with the identifications of those that it has got where
    /// nobody knew them.
    fn expected_at(&self, port: Name, found: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let mut expected = self.arrivals.get(port).cloned().unwrap_or_default();
        let runs = self.renumbered.iter().filter(|(at, _)| *at == port);
        for (_, run) in runs {
            let Some(first) = found.get(run.start) else {
                continue;
            };
            let (_, first) = first.split_at(VNET_HEADER_LEN);
            let id = identification(first);
            for bytes in &mut expected[run.clone()] {
                let frame = renumbered(&bytes[VNET_HEADER_LEN..], id);
                bytes.truncate(VNET_HEADER_LEN);
                bytes.extend(frame);
            }
        }
        expected
    }

    fn compare_arrivals(&mut self, faults: &mut String) {
        let mut found = self.lab.collect();
        for name in &self.busy {
            found.remove(name);
        }
        let ports: BTreeSet<Name> = self.arrivals.keys().chain(found.keys()).copied().collect();
        for port in ports {
            let none = Vec::new();
            let found = found.get(port).unwrap_or(&none);
            let expected = &self.expected_at(port, found);
            if expected == found {
                continue;
            }
            let _ = writeln!(faults, "frames at {port}:");
            for frame in expected.iter().filter(|frame| !found.contains(frame)) {
                let _ = writeln!(faults, "  - {}", describe(frame));
            }
            for frame in found.iter().filter(|frame| !expected.contains(frame)) {
                let _ = writeln!(faults, "  + {}", describe(frame));
            }
            let (expected, found) = (expected.len(), found.len());
            let _ = writeln!(
                faults,
                "  {expected} expected, {found} found, or another order"
            );
        }
    }
}

fn add(traffic: &mut Traffic, octets: usize) {
    traffic.frames += 1;
    traffic.bytes += u64::try_from(octets).expect("a frame is shorter than 2^64 octets");
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // A test that panics in the middle of a statement has said what is wrong.
        if std::thread::panicking() {
            return;
        }
        let faults = self.faults();
        assert!(
            faults.is_empty(),
            "something else happened than was said\n{faults}"
        );
    }
}
