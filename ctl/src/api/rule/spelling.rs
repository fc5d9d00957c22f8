//! A rule as it is written on the command line.

use std::fmt;

use super::{Match, RejectWith, Rule, RuleDirection, RuleFamily, Verdict};

/// Writes things with commas between them.
pub(super) fn join<T: fmt::Display>(
    formatter: &mut fmt::Formatter<'_>,
    parts: &[T],
) -> fmt::Result {
    for (number, part) in parts.iter().enumerate() {
        let comma = if number == 0 { "" } else { "," };
        write!(formatter, "{comma}{part}")?;
    }
    Ok(())
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Verdict::Accept => "ACCEPT",
            Verdict::Drop => "DROP",
            Verdict::Reject => "REJECT",
            Verdict::Return => "RETURN",
            Verdict::Count => "COUNT",
            Verdict::Log => "LOG",
        })
    }
}

impl fmt::Display for RejectWith {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            RejectWith::PortUnreachable => "port-unreachable",
            RejectWith::AdminProhibited => "admin-prohibited",
            RejectWith::TcpReset => "tcp-reset",
        })
    }
}

/// Everything but number and counters, in the words of `heddle rule add`.
impl fmt::Display for Rule {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.inside.then(|| "--inside".to_owned()));
        words.extend(self.family.map(|family| match family {
            RuleFamily::Ipv4 => "-4".to_owned(),
            RuleFamily::Ipv6 => "-6".to_owned(),
        }));
        add(&mut words, "-i", self.in_interface.as_ref());
        add(&mut words, "-o", self.out_interface.as_ref());
        add(&mut words, "-s", self.source.as_ref());
        add(&mut words, "-d", self.destination.as_ref());
        add(&mut words, "-p", self.protocol.as_ref());
        add(&mut words, "--sport", self.source_port.as_ref());
        add(&mut words, "--dport", self.destination_port.as_ref());
        add(&mut words, "--icmp-type", self.icmp_type.as_ref());
        add(&mut words, "--state", self.state.as_ref());
        add(
            &mut words,
            "--ctorigdst",
            self.original_destination.as_ref(),
        );
        add(&mut words, "--ctorigdstport", self.original_port.as_ref());
        words.extend(self.direction.map(|direction| match direction {
            RuleDirection::Original => "--ctdir original".to_owned(),
            RuleDirection::Reply => "--ctdir reply".to_owned(),
        }));
        words.extend(self.limit.map(|limit| format!("--limit {limit}")));
        words.extend(
            self.limit_burst
                .map(|burst| format!("--limit-burst {burst}")),
        );
        words.extend(
            self.comment
                .as_ref()
                .map(|comment| format!("--comment {comment:?}")),
        );
        words.push(format!("-j {}", self.verdict));
        words.extend(self.reject_with.map(|with| format!("--reject-with {with}")));
        words.extend(self.sample.map(|sample| format!("--sample {sample}")));
        formatter.write_str(&words.join(" "))
    }
}

fn add<T: fmt::Display>(words: &mut Vec<String>, option: &str, asked: Option<&Match<T>>) {
    words.extend(asked.map(|Match { negated, set }| {
        let sign = if *negated { "! " } else { "" };
        format!("{sign}{option} {set}")
    }));
}
