//! What logged rules have told: the last packets, for whoever asks, and a line each in the daemon's log.

use std::collections::VecDeque;
use std::sync::Arc;

use heddle_nat::filter::{Log, Logged, Packets, State};
use heddle_switch::PortId;
use heddle_wire::Address;

use crate::api::{LoggedPacket, RuleLog};
use crate::daemon::core::{Core, now};

/// Packets that are kept.
const KEPT: usize = 512;

/// The packets that were told of.
#[derive(Debug, Default)]
pub(super) struct Told {
    log: Arc<Log>,
    packets: VecDeque<Logged>,
}

impl Told {
    pub(super) fn log(&self) -> Arc<Log> {
        self.log.clone()
    }
}

impl Core {
    /// Takes up what the workers have told since the last time.
    pub(in crate::daemon) fn take_logged(&mut self) {
        for logged in self.rules.told.log.drain() {
            let shown = self.show_logged(&logged);
            tracing::info!(
                rule = shown.rule, from = %shown.from, to = %shown.to, state = %shown.state,
                octets = shown.octets, "{}", shown.packet
            );
            let packets = &mut self.rules.told.packets;
            if packets.len() == KEPT {
                packets.pop_front();
            }
            packets.push_back(logged);
        }
    }

    /// The last packets that rules have logged.
    pub(in crate::daemon) fn show_rule_log(&mut self) -> RuleLog {
        self.take_logged();
        let told = &self.rules.told;
        RuleLog {
            packets: told
                .packets
                .iter()
                .map(|logged| self.show_logged(logged))
                .collect(),
            lost: told.log.lost(),
        }
    }

    fn show_logged(&self, logged: &Logged) -> LoggedPacket {
        let Logged { rule, question, at } = logged;
        let protocol = question.protocol.to_string().to_ascii_lowercase();
        let (source, destination) = (question.source, question.destination);
        let packet = match question.packet {
            Packets::Ports(from, to) => {
                let (source, destination) = (socket(source, from), socket(destination, to));
                format!("{protocol} {source} > {destination}")
            }
            Packets::Icmp(kind, code) => {
                format!("{protocol} {source} > {destination} type {kind} code {code}")
            }
            Packets::Nothing => format!("{protocol} {source} > {destination}"),
        };
        LoggedPacket {
            rule: rule.0,
            age_seconds: (now() - *at).as_secs(),
            from: self.port_name(PortId(question.ingress.side.0)),
            to: self.port_name(PortId(question.egress.side.0)),
            packet,
            state: match question.state {
                State::New => "new",
                State::Established => "established",
                State::Related => "related",
                State::Invalid => "invalid",
            }
            .to_owned(),
            octets: question.len,
        }
    }
}

fn socket(address: Address, port: u16) -> String {
    std::net::SocketAddr::new(address.to_ip(), port).to_string()
}
