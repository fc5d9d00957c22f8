use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

use super::*;

fn rule(json: &str) -> Result<Rule, String> {
    let rule: Rule = serde_json::from_str(json).map_err(|error| error.to_string())?;
    rule.check().map_err(|(problem, _)| problem)?;
    Ok(rule)
}

#[test]
fn a_rule_reads_as_it_is_written() {
    for (json, words) in [
        (r#"{"verdict":"accept"}"#, "-j ACCEPT"),
        (
            r#"{"verdict":"drop","source":"! 192.0.2.2","in_interface":"eth0"}"#,
            "-i eth0 ! -s 192.0.2.2 -j DROP",
        ),
        (
            r#"{"verdict":"accept","state":"RELATED,established"}"#,
            "--state related,established -j ACCEPT",
        ),
        (
            r#"{"verdict":"reject","reject_with":"tcp-reset","protocol":"TCP",
                "destination_port":"80,8000:8080,60000:","out_interface":"!network:blue"}"#,
            "! -o network:blue -p tcp --dport 80,8000-8080,60000-65535 -j REJECT \
             --reject-with tcp-reset",
        ),
        (
            r#"{"verdict":"log","sample":10,"protocol":"icmp","icmp_type":"ping","limit":"3/min",
                "limit_burst":7,"inside":true,"family":"ipv4","comment":"a b"}"#,
            "--inside -4 -p icmp --icmp-type ping --limit 3/minute --limit-burst 7 \
             --comment \"a b\" -j LOG --sample 10",
        ),
        (
            r#"{"verdict":"count","original_destination":"203.0.113.2","original_port":"8080",
                "direction":"original","destination":"10.0.0.7/8,fd00::1-fd00::9,10.1.0.0/255.255.0.0"}"#,
            "-d 10.0.0.0/8,fd00::1-fd00::9,10.1.0.0/16 --ctorigdst 203.0.113.2 \
             --ctorigdstport 8080 --ctdir original -j COUNT",
        ),
    ] {
        let rule = rule(json).unwrap();
        assert_eq!(rule.to_string(), words);
        let again = serde_json::to_string(&rule).unwrap();
        assert_eq!(
            serde_json::from_str::<Rule>(&again).unwrap(),
            rule,
            "{again}"
        );
    }
}

/// Rules that make no sense, and why.
const REFUSED: &[(&str, &str)] = &[
    (r#"{}"#, "missing field `verdict`"),
    (
        r#"{"verdict":"masquerade"}"#,
        "unknown variant `masquerade`",
    ),
    (r#"{"verdict":"drop","src":"x"}"#, "unknown field `src`"),
    (
        r#"{"verdict":"drop","source":"example.org"}"#,
        "names are not looked up",
    ),
    (r#"{"verdict":"drop","source":""}"#, "is empty"),
    (
        r#"{"verdict":"drop","source":"10.0.0.9-10.0.0.1"}"#,
        "ends before it begins",
    ),
    (
        r#"{"verdict":"drop","source":"10.0.0.1-fd00::1"}"#,
        "one IP version",
    ),
    (
        r#"{"verdict":"drop","source":"10.0.0.0/255.0.255.0"}"#,
        "no prefix",
    ),
    (
        r#"{"verdict":"drop","source":"10.0.0.0/33"}"#,
        "is no address",
    ),
    (
        r#"{"verdict":"drop","destination_port":"80"}"#,
        "only TCP and UDP have ports",
    ),
    (
        r#"{"verdict":"drop","protocol":"!tcp","destination_port":"80"}"#,
        "only TCP and UDP have ports",
    ),
    (
        r#"{"verdict":"drop","protocol":"tcp","destination_port":"http"}"#,
        "\"http\" is no port",
    ),
    (
        r#"{"verdict":"drop","protocol":"tcp","destination_port":"9-1"}"#,
        "\"9-1\" is no port",
    ),
    (
        r#"{"verdict":"drop","protocol":"tcp","destination_port":"65536"}"#,
        "\"65536\" is no port",
    ),
    (
        r#"{"verdict":"drop","protocol":"tpc"}"#,
        "\"tpc\" is no protocol",
    ),
    (
        r#"{"verdict":"drop","icmp_type":"8"}"#,
        "needs to know whose",
    ),
    (
        r#"{"verdict":"drop","protocol":"icmpv6","icmp_type":"timestamp-request"}"#,
        "timestamp-request is no type of icmpv6",
    ),
    (
        r#"{"verdict":"drop","protocol":"icmp","icmp_type":"8/x"}"#,
        "\"8/x\" is no ICMP type",
    ),
    (
        r#"{"verdict":"drop","state":"untracked"}"#,
        "what is not tracked is new",
    ),
    (
        r#"{"verdict":"drop","state":"open"}"#,
        "\"open\" is no state",
    ),
    (
        r#"{"verdict":"drop","reject_with":"tcp-reset"}"#,
        "only a rejected packet",
    ),
    (
        r#"{"verdict":"reject","reject_with":"tcp-reset"}"#,
        "nothing but TCP",
    ),
    (r#"{"verdict":"drop","sample":2}"#, "only a log is sampled"),
    (r#"{"verdict":"log","sample":0}"#, "one in 0"),
    (r#"{"verdict":"drop","limit":"0/second"}"#, "is no rate"),
    (r#"{"verdict":"drop","limit":"10/fortnight"}"#, "is no rate"),
    (r#"{"verdict":"drop","limit":"10"}"#, "is no rate"),
    (r#"{"verdict":"drop","limit_burst":3}"#, "a burst of what"),
    (
        r#"{"verdict":"drop","in_interface":"eth+"}"#,
        "is a pattern",
    ),
    (
        r#"{"verdict":"drop","in_interface":"network:a b"}"#,
        "is no place",
    ),
    (
        r#"{"verdict":"drop","in_interface":"uplink:none"}"#,
        "is no way out",
    ),
    (
        r#"{"verdict":"drop","family":"ipv6","source":"10.0.0.1"}"#,
        "no address of the family",
    ),
    (
        r#"{"verdict":"drop","family":"ipv6","protocol":"icmp"}"#,
        "does not occur",
    ),
    (
        r#"{"verdict":"drop","comment":"a\nb"}"#,
        "control characters",
    ),
];

#[test]
fn what_makes_no_sense_is_refused_with_a_reason() {
    for (json, problem) in REFUSED {
        let error = rule(json).unwrap_err();
        assert!(error.contains(problem), "{json}: {error}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_part_fall_over(text in ".{0,24}") {
        let _ = text.parse::<Match<AddressList>>();
        let _ = text.parse::<Match<PortList>>();
        let _ = text.parse::<Match<ProtocolName>>();
        let _ = text.parse::<Match<IcmpKind>>();
        let _ = text.parse::<Match<StateList>>();
        let _ = text.parse::<Match<Place>>();
        let _ = text.parse::<Rate>();
    }

    #[test]
    fn parts_read_as_they_are_shown(
        first in any::<u16>(), second in any::<u16>(), a in any::<u128>(), b in any::<u32>(),
        length in 0_u8..=32, negated in any::<bool>(),
    ) {
        let sign = if negated { "!" } else { "" };
        let (low, high) = (first.min(second), first.max(second));
        let ports: Match<PortList> = format!("{sign}{low}:{high},{second}").parse().unwrap();
        prop_assert_eq!(ports.to_string().parse::<Match<PortList>>().unwrap(), ports);
        let (v6, v4) = (std::net::Ipv6Addr::from(a), std::net::Ipv4Addr::from(b));
        let text = format!("{sign}{v6},{v4}/{length},{v4}");
        let list: Match<AddressList> = text.parse().unwrap();
        prop_assert_eq!(list.to_string().parse::<Match<AddressList>>().unwrap(), list.clone());
        prop_assert!(list.set.has_family(true));
    }
}
