//! `heddle rule`

mod spelling;

use std::io::Read as _;
use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::listings::{Format, print_json};
use super::table::{print, say};
use crate::api::{
    AddressList, ApiError, ErrorCode, IcmpKind, Match, Name, Place, PortList, ProtocolName, Rate,
    RejectWith, Rule, RuleDirection, RuleFamily, RuleLog, StateList, Verdict,
};
use crate::client::Client;

pub(super) use spelling::spelled;

/// `heddle rule`
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    /// Add a rule behind all others
    Add(Box<Spelled>),
    /// Insert a rule before all others, or before the one at a position
    Insert {
        /// Before the rule that is there now, counted from 1
        #[arg(default_value_t = 1)]
        position: usize,
        #[command(flatten)]
        rule: Box<Spelled>,
    },
    /// Delete rules
    Delete {
        /// Their numbers, as `heddle rule ls` shows them under ID
        #[arg(required = true, value_name = "ID")]
        rules: Vec<u32>,
        #[command(flatten)]
        chain: Chain,
    },
    /// List the rules in the order in which they are asked, and what they have counted
    Ls {
        #[command(flatten)]
        chain: Chain,
        #[command(flatten)]
        format: Format,
    },
    /// Replace all rules at once by those of a file, as `heddle rule ls --json` writes them
    Apply {
        /// The file; - is standard input
        #[arg(short, long, value_name = "FILE|-")]
        file: PathBuf,
        #[command(flatten)]
        chain: Chain,
    },
    /// The last packets that LOG rules have noted
    Log(Format),
}

/// Whose rules.
#[derive(Debug, Args)]
pub(super) struct Chain {
    /// The rules of this network, which are asked after everybody's
    #[arg(long, short, value_name = "NETWORK")]
    network: Option<Name>,
}

impl Chain {
    fn path(&self) -> String {
        match &self.network {
            Some(network) => format!("/v1/networks/{network}/rules"),
            None => "/v1/rules".to_owned(),
        }
    }
}

/// A rule in the words of iptables.
#[derive(Debug, Args)]
#[command(after_help = "A ! before a match turns it round, as in iptables: ! -s 192.0.2.2")]
pub(super) struct Spelled {
    #[command(flatten)]
    chain: Chain,

    /// Source addresses: ADDRESS, ADDRESS/LENGTH or FIRST-LAST, several with commas
    #[arg(
        short,
        long,
        visible_alias = "src",
        alias = "src-range",
        value_name = "ADDRESSES"
    )]
    source: Option<Match<AddressList>>,

    /// Destination addresses, as they are behind the translation of published ports
    #[arg(
        short,
        long,
        visible_alias = "dst",
        alias = "dst-range",
        value_name = "ADDRESSES"
    )]
    destination: Option<Match<AddressList>>,

    /// Where packets come in: a network, a sandbox, an uplink, or `uplink` for any of these
    #[arg(short, long, value_name = "NAME")]
    in_interface: Option<Match<Place>>,

    /// Where packets go out
    #[arg(short, long, value_name = "NAME")]
    out_interface: Option<Match<Place>>,

    /// tcp, udp, icmp, icmpv6, another protocol's name, or its number
    #[arg(short, long, alias = "proto", value_name = "PROTOCOL")]
    protocol: Option<Match<ProtocolName>>,

    /// Source ports: PORT or FIRST-LAST, several with commas
    #[arg(
        long = "sport",
        visible_alias = "source-port",
        aliases = ["sports", "source-ports"],
        value_name = "PORTS"
    )]
    source_port: Option<Match<PortList>>,

    /// Destination ports, as they are behind the translation of published ports
    #[arg(
        long = "dport",
        visible_alias = "destination-port",
        aliases = ["dports", "destination-ports"],
        value_name = "PORTS"
    )]
    destination_port: Option<Match<PortList>>,

    /// ICMP type: a name like echo-request, a number, or TYPE/CODE
    #[arg(long, alias = "icmpv6-type", value_name = "TYPE")]
    icmp_type: Option<Match<IcmpKind>>,

    /// State of the session: new, established, related, invalid, several with commas
    #[arg(long, visible_alias = "ctstate", value_name = "STATES")]
    state: Option<Match<StateList>>,

    /// Destination addresses that the session's first packet was sent to
    #[arg(long, value_name = "ADDRESSES")]
    ctorigdst: Option<Match<AddressList>>,

    /// Destination ports that the session's first packet was sent to
    #[arg(long, value_name = "PORTS")]
    ctorigdstport: Option<Match<PortList>>,

    /// Which way of its session a packet goes: original or reply
    #[arg(long, value_name = "original|reply", value_parser = direction)]
    ctdir: Option<RuleDirection>,

    /// How often the rule may match: N/second, N/minute, N/hour or N/day
    #[arg(long, value_name = "RATE")]
    limit: Option<Rate>,

    /// How many matches may come at once [default: 5]
    #[arg(long, value_name = "N")]
    limit_burst: Option<u32>,

    /// IPv4 only
    #[arg(short = '4', long, conflicts_with = "ipv6")]
    ipv4: bool,

    /// IPv6 only
    #[arg(short = '6', long)]
    ipv6: bool,

    /// About packets between the endpoints of one network, instead of those that are routed
    #[arg(long)]
    inside: bool,

    /// What the rule is for
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,

    /// ACCEPT, DROP, REJECT, RETURN (to the network's rules), COUNT or LOG (both go on)
    #[arg(short, long, value_name = "VERDICT", value_parser = spelling::verdict)]
    jump: Verdict,

    /// How the sender of a rejected packet is told: port-unreachable, admin-prohibited or tcp-reset
    #[arg(long, value_name = "ANSWER", value_parser = spelling::reject_with)]
    reject_with: Option<RejectWith>,

    /// Log one packet in so many
    #[arg(long, value_name = "N")]
    sample: Option<u32>,

    /// Names of iptables' modules are not needed, and are understood
    #[arg(short, long = "match", value_name = "MODULE", value_parser = spelling::module, hide = true)]
    module: Vec<()>,
}

fn direction(text: &str) -> Result<RuleDirection, String> {
    match text.to_ascii_lowercase().as_str() {
        "original" => Ok(RuleDirection::Original),
        "reply" => Ok(RuleDirection::Reply),
        _ => Err("a packet goes the way of the original, or of the reply".to_owned()),
    }
}

impl Spelled {
    fn into_rule(self) -> Rule {
        let family = match (self.ipv4, self.ipv6) {
            (true, _) => Some(RuleFamily::Ipv4),
            (_, true) => Some(RuleFamily::Ipv6),
            _ => None,
        };
        Rule {
            reject_with: self.reject_with,
            sample: self.sample,
            inside: self.inside,
            family,
            source: self.source,
            destination: self.destination,
            original_destination: self.ctorigdst,
            original_port: self.ctorigdstport,
            in_interface: self.in_interface,
            out_interface: self.out_interface,
            protocol: self.protocol,
            source_port: self.source_port,
            destination_port: self.destination_port,
            icmp_type: self.icmp_type,
            state: self.state,
            direction: self.ctdir,
            limit: self.limit,
            limit_burst: self.limit_burst,
            comment: self.comment,
            ..Rule::new(self.jump)
        }
    }
}

pub(super) fn run(client: &Client, arguments: Arguments) -> Result<(), ApiError> {
    match arguments {
        Arguments::Add(rule) => add(client, &rule.chain.path(), *rule),
        Arguments::Insert { position, rule } => {
            let path = format!("{}?position={position}", rule.chain.path());
            add(client, &path, *rule)
        }
        Arguments::Delete { rules, chain } => {
            let path = chain.path();
            let mut deleted = rules
                .iter()
                .map(|rule| client.delete(&format!("{path}/{rule}")));
            deleted.try_for_each(|deleted| deleted)
        }
        Arguments::Ls { chain, format } => list(client, &chain.path(), format),
        Arguments::Apply { file, chain } => {
            let rules: Vec<Rule> = client.put(&chain.path(), &read(&file)?)?;
            let count = match rules.len() {
                1 => "1 rule".to_owned(),
                len => format!("{len} rules"),
            };
            say(&format!("{count}\n"));
            Ok(())
        }
        Arguments::Log(format) => log(client, format),
    }
}

/// Adds a rule and says its number.
fn add(client: &Client, path: &str, rule: Spelled) -> Result<(), ApiError> {
    let added: Rule = client.post(path, &rule.into_rule())?;
    let number = added.id.map(|id| id.to_string());
    say(&format!("{}\n", number.unwrap_or_default()));
    Ok(())
}

fn list(client: &Client, path: &str, format: Format) -> Result<(), ApiError> {
    let rules: Vec<Rule> = client.get(path)?;
    if format.json {
        return print_json(&rules);
    }
    let rows: Vec<[String; 5]> = rules
        .iter()
        .zip(1..)
        .map(|(rule, position)| {
            let number = |number: Option<u64>| number.unwrap_or_default().to_string();
            [
                position.to_string(),
                number(rule.id.map(u64::from)),
                number(rule.packets),
                number(rule.octets),
                rule.to_string(),
            ]
        })
        .collect();
    print(["POSITION", "ID", "PACKETS", "OCTETS", "RULE"], &rows);
    Ok(())
}

/// The rules of a file.
fn read(file: &PathBuf) -> Result<serde_json::Value, ApiError> {
    let bad = |problem: String| {
        let message = format!("{}: {problem}", file.display());
        ApiError::new(ErrorCode::InvalidRequest, message)
            .hint("the form is that of: heddle rule ls --json")
    };
    let mut text = String::new();
    let result = if file.as_os_str() == "-" {
        std::io::stdin().read_to_string(&mut text).map(drop)
    } else {
        std::fs::read_to_string(file).map(|read| text = read)
    };
    result.map_err(|error| bad(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| bad(error.to_string()))
}

fn log(client: &Client, format: Format) -> Result<(), ApiError> {
    let log: RuleLog = client.get("/v1/rules/log")?;
    if format.json {
        return print_json(&log);
    }
    let rows: Vec<[String; 7]> = log
        .packets
        .iter()
        .map(|packet| {
            [
                format!("{}s", packet.age_seconds),
                packet.rule.to_string(),
                packet.from.clone(),
                packet.to.clone(),
                packet.state.clone(),
                packet.octets.to_string(),
                packet.packet.clone(),
            ]
        })
        .collect();
    print(
        ["AGE", "RULE", "FROM", "TO", "STATE", "OCTETS", "PACKET"],
        &rows,
    );
    if log.lost > 0 {
        say(&format!(
            "and {} packets more, too many to note\n",
            log.lost
        ));
    }
    Ok(())
}
