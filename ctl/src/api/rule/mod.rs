//! Filter rules: what a rule is about, and what it does with it.
//!
//! The parts are texts, spelled as iptables users spell them; so the command line and the API share one
//! form, and an error quotes what was written.

mod addresses;
mod icmp;
mod matched;
mod place;
mod ports;
mod protocol;
mod rate;
mod spelling;
mod states;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub use addresses::{AddressList, AddressRange};
pub use icmp::IcmpKind;
pub use matched::Match;
pub use place::Place;
pub use ports::PortList;
pub use protocol::ProtocolName;
pub use rate::Rate;
pub use states::{StateList, StateName};

use super::text;

/// Characters of a comment, as in iptables.
const MAX_COMMENT: usize = 256;

/// What a rule does with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Lets it pass; no other rule is asked.
    Accept,
    /// Ends it in silence.
    Drop,
    /// Ends it and tells the sender.
    Reject,
    /// Leaves this chain: the network's chain is asked next.
    Return,
    /// Counts it and goes on with the next rule.
    Count,
    /// Notes it in the log and goes on with the next rule.
    Log,
}

/// How the sender of a rejected packet is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum RejectWith {
    /// ICMP port unreachable.
    #[default]
    PortUnreachable,
    /// ICMP administratively prohibited.
    AdminProhibited,
    /// TCP RST; for rules about TCP.
    TcpReset,
}

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleFamily {
    /// IPv4.
    Ipv4,
    /// IPv6.
    Ipv6,
}

/// Which way of its session a packet goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuleDirection {
    /// The way of the first packet.
    Original,
    /// The way of the answers.
    Reply,
}

/// A filter rule. What it does not mention, it does not ask for. A leading `!` turns a match into its
/// opposite.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its number. In a request it names the rule that this one takes the place of, with its counters, if it
    /// reads the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<u32>,
    /// What it does.
    pub verdict: Verdict,
    /// How the sender of a rejected packet is told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reject_with: Option<RejectWith>,
    /// One packet in so many is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sample: Option<u32>,
    /// About packets between the endpoints of one network, instead of those that are routed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub inside: bool,
    /// About one IP version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<RuleFamily>,
    /// Source addresses: prefixes, addresses and ranges of both IP versions, separated by commas.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "!192.0.2.2,2001:db8::/64")]
    pub source: Option<Match<AddressList>>,
    /// Destination addresses, as they are behind the translation of published ports.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "10.0.0.1-10.0.0.9")]
    pub destination: Option<Match<AddressList>>,
    /// Destination addresses that the first packet of the session was sent to.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "203.0.113.2")]
    pub original_destination: Option<Match<AddressList>>,
    /// Destination ports that the first packet of the session was sent to.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "8080")]
    pub original_port: Option<Match<PortList>>,
    /// Where packets come in: a sandbox, a network, an uplink, or `uplink` for any of these.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "uplink")]
    pub in_interface: Option<Match<Place>>,
    /// Where packets go out.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "network:blue")]
    pub out_interface: Option<Match<Place>>,
    /// Upper-layer protocol: tcp, udp, icmp, icmpv6, another name or a number.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "tcp")]
    pub protocol: Option<Match<ProtocolName>>,
    /// Source ports of TCP or UDP.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "1024-65535")]
    pub source_port: Option<Match<PortList>>,
    /// Destination ports of TCP or UDP, as they are behind the translation of published ports.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "80,443")]
    pub destination_port: Option<Match<PortList>>,
    /// ICMP type, by name or number, or type and code.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "echo-request")]
    pub icmp_type: Option<Match<IcmpKind>>,
    /// State of the session: new, established, related, invalid.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "established,related")]
    pub state: Option<Match<StateList>>,
    /// Which way of its session a packet goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<RuleDirection>,
    /// How often the rule may match: `N/second`, `/minute`, `/hour` or `/day`.
    #[serde(
        default,
        with = "text::optional",
        skip_serializing_if = "Option::is_none"
    )]
    #[schema(value_type = Option<String>, example = "10/second")]
    pub limit: Option<Rate>,
    /// How many matches may come at once; 5 if not said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_burst: Option<u32>,
    /// What it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// Packets it has matched. Means nothing in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub packets: Option<u64>,
    /// Octets of IP in them. Means nothing in a request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub octets: Option<u64>,
}

/// Where a rule to be added goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct RulePosition {
    /// Before the rule that is there now, counted from 1; behind all if not said.
    #[serde(default)]
    pub position: Option<usize>,
}

/// A packet that a rule has logged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LoggedPacket {
    /// The rule.
    pub rule: u32,
    /// Seconds ago.
    pub age_seconds: u64,
    /// Where it came in.
    pub from: String,
    /// Where it was to go out.
    pub to: String,
    /// The packet in words.
    pub packet: String,
    /// State of its session.
    pub state: String,
    /// Octets of IP.
    pub octets: u32,
}

/// What rules have logged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RuleLog {
    /// The last ones, oldest first.
    pub packets: Vec<LoggedPacket>,
    /// Packets that are not shown because there were too many.
    pub lost: u64,
}

impl Rule {
    /// A rule about everything.
    #[must_use]
    pub fn new(verdict: Verdict) -> Rule {
        Rule {
            id: None,
            verdict,
            reject_with: None,
            sample: None,
            inside: false,
            family: None,
            source: None,
            destination: None,
            original_destination: None,
            original_port: None,
            in_interface: None,
            out_interface: None,
            protocol: None,
            source_port: None,
            destination_port: None,
            icmp_type: None,
            state: None,
            direction: None,
            limit: None,
            limit_burst: None,
            comment: None,
            packets: None,
            octets: None,
        }
    }

    /// The rule itself, without number and counters.
    #[must_use]
    pub fn bare(&self) -> Rule {
        Rule {
            id: None,
            packets: None,
            octets: None,
            ..self.clone()
        }
    }

    /// Whether the parts fit each other; what to do if not.
    ///
    /// # Errors
    ///
    /// What does not fit, and what would.
    pub fn check(&self) -> Result<(), (String, &'static str)> {
        let protocol = self.protocol.as_ref().filter(|protocol| !protocol.negated);
        let protocol = protocol.map(|protocol| protocol.set);
        let has_ports = protocol.is_some_and(ProtocolName::has_ports);
        let refuse = |problem: &str, hint| Err((problem.to_owned(), hint));
        if (self.source_port.is_some() || self.destination_port.is_some()) && !has_ports {
            return refuse(
                "only TCP and UDP have ports",
                "say which with -p tcp or -p udp (in JSON: \"protocol\")",
            );
        }
        if let Some(kind) = &self.icmp_type {
            let Some(family) = protocol.and_then(ProtocolName::icmp_family) else {
                return refuse(
                    "an ICMP type needs to know whose",
                    "say -p icmp or -p icmpv6 (in JSON: \"protocol\")",
                );
            };
            if kind.set.number(family).is_none() {
                let problem = format!("{} is no type of {}", kind.set, ProtocolName::of(family));
                return Err((
                    problem,
                    "IPv4 and IPv6 have different ones; a number works too",
                ));
            }
        }
        if self.reject_with.is_some() && self.verdict != Verdict::Reject {
            return refuse("only a rejected packet is answered", "use -j REJECT");
        }
        if self.reject_with == Some(RejectWith::TcpReset) && protocol != Some(ProtocolName::TCP) {
            return refuse("a TCP reset answers nothing but TCP", "add -p tcp");
        }
        if self.sample.is_some() && self.verdict != Verdict::Log {
            return refuse(
                "only a log is sampled",
                "use -j LOG, or --limit for other verdicts",
            );
        }
        if self.sample == Some(0) {
            return refuse("one in 0 packets is none", "leave the rule out instead");
        }
        if self.limit_burst.is_some() && self.limit.is_none() {
            return refuse("a burst of what?", "say how often with --limit N/second");
        }
        if self.limit_burst == Some(0) {
            return refuse("a burst of 0 never matches", "the smallest is 1");
        }
        self.check_family(protocol)?;
        if let Some(comment) = &self.comment
            && (comment.chars().count() > MAX_COMMENT || comment.chars().any(char::is_control))
        {
            return refuse(
                "the comment is too long or has control characters",
                "up to 256 characters of text",
            );
        }
        Ok(())
    }

    /// A rule that could never match is a mistake.
    fn check_family(&self, protocol: Option<ProtocolName>) -> Result<(), (String, &'static str)> {
        let Some(family) = self.family else {
            return Ok(());
        };
        let is_v4 = family == RuleFamily::Ipv4;
        let lists = [&self.source, &self.destination, &self.original_destination];
        let asked = lists.into_iter().flatten().filter(|list| !list.negated);
        for list in asked {
            if !list.set.has_family(is_v4) {
                let problem = format!("{} has no address of the family asked for", list.set);
                return Err((problem, "leave out -4 or -6, or name other addresses"));
            }
        }
        let other = if is_v4 {
            RuleFamily::Ipv6
        } else {
            RuleFamily::Ipv4
        };
        if protocol.and_then(ProtocolName::icmp_family) == Some(other) {
            return Err((
                "this ICMP does not occur in that family".to_owned(),
                "icmp is IPv4's, icmpv6 is IPv6's",
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
