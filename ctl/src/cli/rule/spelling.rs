//! What iptables users write, and what to write instead where we have something else.

use std::ffi::{OsStr, OsString};

use crate::api::{ApiError, ErrorCode, RejectWith, Verdict};

/// Options of iptables that are none here, and the nearest that there is.
const ELSEWHERE: [(&str, &str); 41] = [
    ("-A", "add a rule with: heddle rule add"),
    ("--append", "add a rule with: heddle rule add"),
    ("-I", "insert a rule with: heddle rule insert [POSITION]"),
    (
        "--insert",
        "insert a rule with: heddle rule insert [POSITION]",
    ),
    (
        "-D",
        "delete a rule by its number with: heddle rule delete ID",
    ),
    (
        "--delete",
        "delete a rule by its number with: heddle rule delete ID",
    ),
    ("-R", "replace rules with: heddle rule apply -f FILE"),
    ("-L", "list rules with: heddle rule ls"),
    ("-S", "list rules with: heddle rule ls"),
    (
        "-F",
        "remove all rules with: echo '[]' | heddle rule apply -f -",
    ),
    (
        "-P",
        "a chain ends with accept; for another end add a last rule: -j DROP",
    ),
    (
        "-N",
        "there is everybody's chain, and one for each network (--network)",
    ),
    (
        "-X",
        "there is everybody's chain, and one for each network (--network)",
    ),
    (
        "-Z",
        "a rule counts anew when it is deleted and added again",
    ),
    (
        "-t",
        "there is one table; addresses are translated by uplinks and published ports",
    ),
    (
        "-g",
        "a rule cannot go to another chain; -j RETURN goes on with the network's",
    ),
    (
        "--goto",
        "a rule cannot go to another chain; -j RETURN goes on with the network's",
    ),
    (
        "-f",
        "the nearest is --state invalid, which fragments without a session are",
    ),
    (
        "--fragment",
        "the nearest is --state invalid, which fragments without a session are",
    ),
    ("--syn", "the nearest is --state new"),
    ("--tcp-flags", "the nearest is --state new, or invalid"),
    (
        "--mac-source",
        "port security pins MAC addresses; ask for the sandbox with -i NAME",
    ),
    ("--uid-owner", "ask for the sandbox with -i NAME"),
    ("--gid-owner", "ask for the sandbox with -i NAME"),
    (
        "--log-prefix",
        "say what a rule is for with --comment; the log has its number",
    ),
    ("--log-level", "the log is read with: heddle rule log"),
    (
        "--nflog-prefix",
        "say what a rule is for with --comment; the log has its number",
    ),
    ("--connlimit-above", "the nearest is --limit"),
    ("--hashlimit-upto", "the nearest is --limit"),
    (
        "--hashlimit-above",
        "the nearest is --limit on a rule that accepts, before one that drops",
    ),
    ("--hitcount", "the nearest is --limit"),
    ("--match-set", "list addresses with commas: -s A,B,C"),
    ("--src-type", "name addresses with -s"),
    ("--dst-type", "name addresses with -d"),
    (
        "--physdev-in",
        "ask for what stays inside a network with --inside -i NAME",
    ),
    (
        "--physdev-out",
        "ask for what stays inside a network with --inside -o NAME",
    ),
    ("--ctorigsrc", "the nearest is -s with --ctdir original"),
    ("--ctproto", "the nearest is -p"),
    ("--probability", "the nearest is --sample, for -j LOG"),
    (
        "--to-destination",
        "publish a port with: heddle port publish",
    ),
    (
        "--to-source",
        "an uplink translates what leaves to its own address",
    ),
];

/// The arguments of `heddle rule` as the parser takes them: a `!` goes from before an option to before its
/// value. Other commands' arguments stay as they are.
///
/// # Errors
///
/// Something that iptables has and we have not, with the nearest that we have.
pub(in crate::cli) fn spelled(
    arguments: impl Iterator<Item = OsString>,
) -> Result<Vec<OsString>, ApiError> {
    let arguments: Vec<OsString> = arguments.collect();
    let [command, action] = commands(&arguments);
    if command.is_none_or(|command| command != "rule") {
        return Ok(arguments);
    }
    let writes = action.is_none_or(|action| action == "add" || action == "insert");
    let refuse_foreign = |word: &OsStr| if writes { refuse_foreign(word) } else { Ok(()) };
    let mut spelled = Vec::with_capacity(arguments.len());
    let mut words = arguments.into_iter().peekable();
    while let Some(word) = words.next() {
        refuse_foreign(&word)?;
        if word != "!" {
            spelled.push(word);
            continue;
        }
        let Some(next) = words.next() else {
            let message = "a ! stands before a match";
            return Err(
                ApiError::new(ErrorCode::InvalidRequest, message).hint("as in: ! -s 192.0.2.2")
            );
        };
        refuse_foreign(&next)?;
        let text = next.to_string_lossy();
        if !text.starts_with('-') {
            // As older rules have it: -s ! 192.0.2.2.
            spelled.push(negated(&text));
        } else if let Some((option, value)) =
            text.split_once('=').filter(|_| text.starts_with("--"))
        {
            spelled.push(format!("{option}=!{value}").into());
        } else if !text.starts_with("--") && text.len() > 2 && text.is_char_boundary(2) {
            let (option, value) = text.split_at(2);
            spelled.push(format!("{option}!{value}").into());
        } else {
            spelled.push(next);
            spelled.extend(words.next().map(|value| negated(&value.to_string_lossy())));
        }
    }
    Ok(spelled)
}

fn negated(value: &str) -> OsString {
    format!("!{value}").into()
}

/// The command, and the word behind it if it is no option.
fn commands(arguments: &[OsString]) -> [Option<&OsStr>; 2] {
    let mut words = arguments.iter().map(OsString::as_os_str).skip(1);
    let is_option = |word: &OsStr| word.to_string_lossy().starts_with('-');
    while let Some(word) = words.next() {
        if word == "--socket" {
            words.next();
        } else if !is_option(word) {
            return [Some(word), words.next().filter(|word| !is_option(word))];
        }
    }
    [None; 2]
}

fn refuse_foreign(word: &OsStr) -> Result<(), ApiError> {
    let text = word.to_string_lossy();
    let option = text.split('=').next().unwrap_or_default();
    match ELSEWHERE.iter().find(|(known, _)| *known == option) {
        None => Ok(()),
        Some((known, instead)) => {
            let message = format!("{known} is not an option of a filter rule");
            Err(ApiError::new(ErrorCode::InvalidRequest, message).hint(*instead))
        }
    }
}

/// A verdict by its name in iptables.
pub(super) fn verdict(text: &str) -> Result<Verdict, String> {
    let all = "a rule may ACCEPT, DROP, REJECT, RETURN, COUNT or LOG";
    Err(match text.to_ascii_uppercase().as_str() {
        "ACCEPT" => return Ok(Verdict::Accept),
        "DROP" => return Ok(Verdict::Drop),
        "REJECT" => return Ok(Verdict::Reject),
        "RETURN" => return Ok(Verdict::Return),
        "COUNT" => return Ok(Verdict::Count),
        "LOG" => return Ok(Verdict::Log),
        "NFLOG" | "ULOG" | "TRACE" => format!("{all}; the nearest to {text} is LOG"),
        "SNAT" | "MASQUERADE" | "NETMAP" => {
            format!("{all}; what leaves is translated by the network's uplink, without a rule")
        }
        "DNAT" | "REDIRECT" => format!("{all}; ports are translated by: heddle port publish"),
        "DENY" => format!("{all}; the nearest to {text} is DROP"),
        _ => format!(
            "{all}; there are no other chains to go to, and RETURN goes on with the network's rules"
        ),
    })
}

/// An answer by its name in iptables and ip6tables.
pub(super) fn reject_with(text: &str) -> Result<RejectWith, String> {
    match text {
        "port-unreachable"
        | "icmp-port-unreachable"
        | "icmp6-port-unreachable"
        | "port-unreach" => Ok(RejectWith::PortUnreachable),
        "admin-prohibited"
        | "icmp-admin-prohibited"
        | "icmp6-adm-prohibited"
        | "admin-prohib"
        | "adm-prohibited" => Ok(RejectWith::AdminProhibited),
        "tcp-reset" | "tcp-rst" => Ok(RejectWith::TcpReset),
        "icmp-net-prohibited" | "icmp-host-prohibited" | "icmp6-policy-fail" => {
            Err("the nearest is admin-prohibited".to_owned())
        }
        _ => Err(
            "the answers are port-unreachable, admin-prohibited and tcp-reset; the nearest \
                  to another \"unreachable\" is port-unreachable"
                .to_owned(),
        ),
    }
}

/// A module of iptables whose matches are options here.
pub(super) fn module(text: &str) -> Result<(), String> {
    Err(match text {
        "state" | "conntrack" | "tcp" | "udp" | "icmp" | "icmp6" | "icmpv6" | "iprange"
        | "multiport" | "limit" | "comment" => return Ok(()),
        "hashlimit" | "recent" | "connlimit" | "quota" => "the nearest is --limit".to_owned(),
        "mac" => "port security pins MAC addresses; ask for the sandbox with -i NAME".to_owned(),
        "owner" | "cgroup" => "ask for the sandbox with -i NAME".to_owned(),
        "set" => "list addresses with commas: -s A,B,C".to_owned(),
        "physdev" => "ask for what stays inside a network with --inside -i NAME".to_owned(),
        "addrtype" => "name addresses with -s and -d".to_owned(),
        "statistic" => "the nearest is --sample, for -j LOG".to_owned(),
        _ => "there are state, conntrack, tcp, udp, icmp, icmp6, iprange, multiport, limit and \
              comment"
            .to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Result<String, String> {
        let words = text.split(' ').map(OsString::from);
        let spelled = spelled(words).map_err(|error| {
            let hint = error.error.hint.unwrap_or_default();
            format!("{} / {hint}", error.error.message)
        })?;
        let spelled: Vec<String> = { spelled }
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect();
        Ok(spelled.join(" "))
    }

    #[test]
    fn an_exclamation_mark_goes_to_the_value() {
        for (written, spelled) in [
            (
                "heddle rule add ! -s 1.2.3.4 -j DROP",
                "heddle rule add -s !1.2.3.4 -j DROP",
            ),
            (
                "heddle rule add -s ! 1.2.3.4 -j DROP",
                "heddle rule add -s !1.2.3.4 -j DROP",
            ),
            (
                "heddle rule add ! --dport=80 -p tcp",
                "heddle rule add --dport=!80 -p tcp",
            ),
            ("heddle rule add ! -s1.2.3.4", "heddle rule add -s!1.2.3.4"),
            (
                "heddle --socket /x rule add ! -i a",
                "heddle --socket /x rule add -i !a",
            ),
            ("heddle rule apply -f -", "heddle rule apply -f -"),
            // Somebody else's arguments.
            ("heddle run -- echo ! -s x", "heddle run -- echo ! -s x"),
        ] {
            assert_eq!(words(written).as_deref(), Ok(spelled));
        }
        assert!(
            words("heddle rule add -j DROP !")
                .unwrap_err()
                .contains("before a match")
        );
    }

    #[test]
    fn what_iptables_has_and_we_have_not_names_the_nearest() {
        for (written, nearest) in [
            ("heddle rule -I DOCKER-USER -j DROP", "heddle rule insert"),
            ("heddle rule add -p tcp --syn -j DROP", "--state new"),
            ("heddle rule add ! --syn -j DROP", "--state new"),
            ("heddle rule add --log-prefix=x -j LOG", "--comment"),
            ("heddle rule add -t nat -j ACCEPT", "one table"),
        ] {
            let error = words(written).unwrap_err();
            assert!(error.contains(nearest), "{error}");
        }
        for (target, nearest) in [
            ("MASQUERADE", "uplink"),
            ("DNAT", "port publish"),
            ("X", "RETURN"),
        ] {
            assert!(verdict(target).unwrap_err().contains(nearest), "{target}");
        }
        for name in ["recent", "mac", "owner", "set", "nonsense"] {
            assert!(module(name).is_err(), "{name}");
        }
        assert!(
            reject_with("icmp-host-prohibited")
                .unwrap_err()
                .contains("admin-prohibited")
        );
        assert!(
            reject_with("icmp-net-unreachable")
                .unwrap_err()
                .contains("port-unreachable")
        );
    }
}
