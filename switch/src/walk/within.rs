//! Packets between two endpoints, where rules ask about them: routed from one network to another, or inside
//! one.
//!
//! Without rules such packets are not tracked. With rules they are, so that "established" means the same
//! everywhere; a session of this kind translates nothing and decides nothing but a packet's state. A
//! connection that went on before there were rules is taken up in the middle. What has no ports, and what is
//! valid on a link only or sent to many, is not tracked, and always new. So are fragments on a bridge, which
//! puts nothing together; the router does.

use heddle_nat::filter::{Area, NetworkNumber, Question, RuleSet, State};
use heddle_nat::{Destination, Direction, Hit, Opening, Side, Source, Tuple, Zone};
use heddle_wire::{Ip, MacAddr, Network as Content, Protocol, Transport, embedded, icmp};

use super::filter::{Between, interface, state_of};
use super::translate::{is_error_about_packet, packet_of};
use super::{Refused, Walk};
use super::{routers, security};
use crate::config::Network;
use crate::drop::Cause;
use crate::frame::Frame;

/// How a packet stands to the session that it is tracked by.
#[derive(Debug)]
enum Tracked<'nat> {
    /// It moves this one.
    Known(Hit<'nat>),
    /// It begins one.
    New(Tuple),
    /// It is not tracked, or belongs to nothing.
    Not,
}

impl<'w> Walk<'w> {
    /// The rules for what stays inside a network, if there are any.
    #[inline(always)]
    pub(super) fn rules_inside(&self, network: &Network) -> Option<&'w RuleSet> {
        let number = Some(NetworkNumber(network.id.0));
        let rules = self.config.rules()?;
        rules.is_about(Area::Inside, [number; 2]).then_some(rules)
    }

    /// Routes a packet to an endpoint if the rules let it. Everything else has been checked.
    pub(super) fn forward_filtered(
        &mut self,
        rules: &RuleSet,
        between: Between<'_>,
        frame: &mut Frame<'_>,
        ip: &Ip,
        (destination, source): (MacAddr, MacAddr),
    ) -> Result<(), Refused> {
        let (ingress, egress) = between;
        let stays = ingress.network() == egress.network();
        let area = if stays { Area::Inside } else { Area::Routed };
        let networks = [ingress, egress].map(|port| interface(port).network);
        if !rules.is_about(area, networks) {
            return self.emit(ingress, egress, frame, ip, destination, source);
        }
        if ip.fragment.is_part() {
            // Rules ask for ports, and those are in the first one.
            return self.reassemble(ingress, frame, ip);
        }
        let begun = self.admit(rules, area, between, frame, ip)?;
        let sent = self.emit(ingress, egress, frame, ip, destination, source);
        self.settle(sent, begun)
    }

    /// Sends a frame to another station of its network if the rules let it.
    pub(super) fn bridge_filtered(
        &mut self,
        rules: &RuleSet,
        between: Between<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        let begun = match filterable(frame)? {
            Some(ip) => self.admit(rules, Area::Inside, between, frame, ip)?,
            None => None,
        };
        let sent = self.transmit(between.1, frame);
        self.settle(sent, begun)
    }

    /// Sends a frame to one of many stations if the rules let it. Who of them will answer nobody knows
    /// yet, so it is not tracked.
    pub(super) fn flood_filtered(
        &mut self,
        rules: &RuleSet,
        (ingress, egress): Between<'_>,
        frame: &Frame<'_>,
    ) -> Result<(), Refused> {
        if let Some(ip) = filterable(frame)? {
            let (from, to) = (interface(ingress), interface(egress));
            self.judge_now(rules, &Question::plain(ip, Area::Inside, from, to))?;
        }
        self.transmit(egress, frame)
    }

    /// Asks the rules about a packet, and tracks it if they let it pass; the tuple of the session that it
    /// has begun.
    fn admit(
        &mut self,
        rules: &RuleSet,
        area: Area,
        (ingress, egress): Between<'_>,
        frame: &Frame<'_>,
        ip: &Ip,
    ) -> Result<Option<Tuple>, Refused> {
        let plain = Question::plain(ip, area, interface(ingress), interface(egress));
        let (question, tracked) = self.track((ingress, egress), frame, ip, plain);
        self.judge_now(rules, &question)?;
        match tracked {
            Tracked::Not => Ok(None),
            Tracked::Known(hit) => {
                self.nat().commit(hit, &packet_of(frame, ip), self.now)?;
                Ok(None)
            }
            Tracked::New(tuple) => {
                let opening = Opening {
                    tuple,
                    sides: [ingress, egress].map(|port| Side(port.id.0)),
                    destination: Destination::AsIs,
                    source: Source::AsIs,
                    reply_zone: Zone::WITHIN,
                    packet: packet_of(frame, ip),
                    published: self.published(),
                    random: 0,
                };
                self.nat().open(&opening, self.now)?;
                Ok(Some(tuple))
            }
        }
    }

    /// The state of a packet, and what it does to which session.
    fn track(
        &self,
        (ingress, egress): Between<'_>,
        frame: &Frame<'_>,
        ip: &Ip,
        plain: Question,
    ) -> (Question, Tracked<'w>) {
        let invalid = Question {
            state: State::Invalid,
            ..plain
        };
        match &ip.transport {
            Transport::Icmp(message) if is_error_about_packet(message, ip.family()) => {
                let is_related = embedded(frame.ethernet(), ip)
                    .is_ok_and(|quote| self.was_sent_to(ingress, &quote, Zone::WITHIN));
                let state = if is_related {
                    State::Related
                } else {
                    State::Invalid
                };
                return (Question { state, ..plain }, Tracked::Not);
            }
            _ if is_local(ip) => return (plain, Tracked::Not),
            _ => {}
        }
        let Some(tuple) = Tuple::of(ip, Zone::WITHIN) else {
            return (plain, Tracked::Not);
        };
        if let Some(hit) = self.nat().lookup(&tuple) {
            let same_way = (hit.ingress().0, hit.egress().0) == (ingress.id.0, egress.id.0);
            let direction = hit.direction();
            let packet = packet_of(frame, ip);
            if !same_way || !hit.session().accepts(direction, &packet) {
                return (invalid, Tracked::Not);
            }
            let original = hit.session().tuple(Direction::Original);
            let question = Question {
                state: state_of(&hit),
                direction,
                original: Some((original.destination, original.destination_port)),
                ..plain
            };
            return (question, Tracked::Known(hit));
        }
        let begins = match packet_of(frame, ip).segment {
            Some(segment) => segment.is_opening() || segment.is_in_the_middle(),
            None => tuple.can_begin(),
        };
        if !begins {
            return (invalid, Tracked::Not);
        }
        let question = Question {
            original: Some((tuple.destination, tuple.destination_port)),
            ..plain
        };
        (question, Tracked::New(tuple))
    }

    /// Takes back the session that a packet has begun if it could not be sent.
    fn settle(&self, sent: Result<(), Refused>, begun: Option<Tuple>) -> Result<(), Refused> {
        if let (Err(_), Some(tuple)) = (&sent, begun) {
            self.nat().retract(&tuple, self.now);
        }
        sent
    }
}

/// Whether a packet's addresses say nothing beyond its link, or are those of many.
fn is_local(ip: &Ip) -> bool {
    let [source, destination] = [ip.source, ip.destination];
    source.is_unspecified()
        || source.is_link_local()
        || destination.is_link_local()
        || destination.is_multicast()
        || destination.is_limited_broadcast()
}

/// The packet in a frame that rules are asked about. What is not IP they know nothing of, and without
/// neighbour discovery and multicast listener reports nobody on the link would find anybody. What hides
/// its content is not let through where there are rules.
fn filterable<'f>(frame: &'f Frame<'_>) -> Result<Option<&'f Ip>, Refused> {
    match &frame.summary.network {
        Content::Ip(ip) if keeps_link_alive(ip) => Ok(None),
        Content::Ip(ip) => Ok(Some(ip)),
        Content::Arp(_) => Ok(None),
        Content::Malformed(malformed) => Err((*malformed).into()),
        Content::Other if security::is_snap(frame.summary, frame.ethernet()) => {
            Err(Cause::SnapEncapsulated.into())
        }
        Content::Other => Ok(None),
    }
}

/// Neighbour and router discovery (RFC 4861 §4), multicast listener discovery (RFC 2710 §3, RFC 3810 §5).
fn keeps_link_alive(ip: &Ip) -> bool {
    let Transport::Icmp(message) = &ip.transport else {
        return false;
    };
    let discovers = icmp::v6::ROUTER_SOLICITATION..=icmp::v6::REDIRECT;
    let listens = [
        routers::MULTICAST_LISTENER_QUERY,
        security::MULTICAST_LISTENER_REPORT,
        security::MULTICAST_LISTENER_DONE,
        security::MULTICAST_LISTENER_REPORT_V2,
    ];
    ip.protocol == Protocol::ICMPV6
        && (discovers.contains(&message.kind) || listens.contains(&message.kind))
}
