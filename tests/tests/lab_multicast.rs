//! Who hears of groups: what is for routers alone is not flooded to everybody (RFC 4541 §2.1.1, §3).

use heddle_switch::{Cause, link_local};
use heddle_tests::lab::{Lab, Name, campus};
use heddle_wire::{Address, Protocol};

/// The option that has routers look into a packet (RFC 2113, RFC 2711).
const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
const ROUTER_ALERT_V6: [u8; 7] = [0, 5, 2, 0, 0, 1, 0];

/// A message of IGMP (RFC 3376 §4).
fn igmp(lab: &Lab, from: Name, source: &str, kind: u8) -> Vec<u8> {
    let group = if kind == 0x11 {
        "224.0.0.1"
    } else {
        "224.0.0.22"
    };
    let message = [kind, 0, 0, 0, 0, 0, 0, 0];
    lab.to_all(from)
        .ip(source, group)
        .hop_limit(1)
        .options(&ROUTER_ALERT)
        .frame(Protocol::IGMP, &message)
}

/// A message of multicast listener discovery (RFC 3810 §5).
fn mld(lab: &Lab, from: Name, kind: u8) -> Vec<u8> {
    // A query is from a router's own address (RFC 3810 §5.1.14), a report may be from none yet.
    let (source, group) = if kind == 130 {
        (link_local(lab.mac(from)), "ff02::1")
    } else {
        (Address::UNSPECIFIED, "ff02::16")
    };
    lab.to_all(from)
        .ip(source, group.parse::<Address>().expect("an address"))
        .hop_limit(1)
        .extension(Protocol::HOP_BY_HOP, &ROUTER_ALERT_V6)
        .icmp(kind, 0, 0, &[0; 20])
}

/// Reports that a sends, of both families: old ones, new ones, and that it leaves a group.
fn reports(lab: &Lab) -> Vec<Vec<u8>> {
    let v4 = [0x12, 0x16, 0x17, 0x22].map(|kind| igmp(lab, "a", "10.1.0.2", kind));
    let v6 = [131, 132, 143].map(|kind| mld(lab, "a", kind));
    v4.into_iter().chain(v6).collect()
}

#[test]
fn a_report_is_heard_by_no_endpoint_that_cannot_be_a_router() {
    let mut lab = campus();
    for report in reports(&lab) {
        lab.send("a", &report).drops("a", Cause::NobodyElse);
    }
}

#[test]
fn whoever_asks_for_reports_gets_them_from_then_on() {
    let queries: [fn(&Lab) -> Vec<u8>; 2] = [
        |lab| igmp(lab, "b", "10.1.0.3", 0x11),
        |lab| mld(lab, "b", 130),
    ];
    for query in queries {
        let mut lab = campus();
        let query = query(&lab);
        lab.send("b", &query)
            .arrives_everywhere(&["a", "c"], &query);
        for report in reports(&lab) {
            lab.send("a", &report).arrives("b", &report);
        }
    }
}

#[test]
fn behind_a_port_without_port_security_a_router_may_be() {
    let mut lab = Lab::new(|plan| {
        plan.network("blue")
            .subnet("10.1.0.0/24")
            .subnet("fd00:1::/64");
        plan.host("a", "blue")
            .address("10.1.0.2")
            .address("fd00:1::2");
        plan.host("b", "blue")
            .address("10.1.0.3")
            .address("fd00:1::3");
        plan.host("open", "blue").insecure();
    });
    let solicitation = lab
        .to_all("a")
        .ip("::", "ff02::2")
        .hop_limit(255)
        .icmp(133, 0, 0, &[]);
    for frame in reports(&lab).into_iter().chain([solicitation]) {
        lab.send("a", &frame).arrives("open", &frame);
    }
}

#[test]
fn what_is_for_a_group_itself_goes_to_everybody() {
    for (source, group) in [("10.1.0.2", "239.1.2.3"), ("fd00:1::2", "ff05::1:3")] {
        let mut lab = campus();
        let frame = lab.to_all("a").ip(source, group).udp(4000, 5000, b"to all");
        lab.send("a", &frame)
            .arrives_everywhere(&["b", "c"], &frame);
    }
}

#[test]
fn a_report_in_a_vlan_is_content() {
    let mut lab = campus();
    let plain = igmp(&lab, "a", "10.1.0.2", 0x22);
    let tagged = [&plain[..12], &[0x81, 0, 0, 7], &plain[12..]].concat();
    lab.send("a", &tagged)
        .arrives_everywhere(&["b", "c"], &tagged);
}
