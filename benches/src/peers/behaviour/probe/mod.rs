//! All probes, in the order of the table.

mod filtering;
mod fragments;
mod hairpin;
mod icmp;
mod mapping;
mod spoofing;
mod tcp;
mod timers;

use super::scene::Scene;
use super::verdict::Outcome;

/// One thing that a translator owes its users.
pub(crate) struct Probe {
    /// What it is called in JSON.
    pub(crate) name: &'static str,
    /// What it shows, as a sentence.
    pub(crate) shows: &'static str,
    /// Who asks for it.
    pub(crate) asked_by: &'static str,
    /// Looks.
    pub(crate) look: fn(&mut Scene<'_>) -> Outcome,
}

const fn probe(
    name: &'static str,
    shows: &'static str,
    asked_by: &'static str,
    look: fn(&mut Scene<'_>) -> Outcome,
) -> Probe {
    Probe {
        name,
        shows,
        asked_by,
        look,
    }
}

/// All probes, by what they are about.
pub(crate) fn all() -> impl Iterator<Item = &'static Probe> {
    let chapters: [&[Probe]; 8] = [
        MAPPING, FILTERING, HAIRPIN, TIMERS, TCP, ICMP, FRAGMENTS, SPOOFING,
    ];
    chapters.into_iter().flatten()
}

const MAPPING: &[Probe] = &[
    probe(
        "mapping-udp",
        "UDP: one inside port is one outside port, whoever it speaks to",
        "RFC 4787 REQ-1",
        mapping::udp_endpoint_independent,
    ),
    probe(
        "mapping-tcp",
        "TCP: one inside port is one outside port, whoever it speaks to",
        "RFC 5382 REQ-1",
        mapping::tcp_endpoint_independent,
    ),
    probe(
        "mapping-udp-contended",
        "UDP: still one outside port where another host has the same inside port",
        "RFC 4787 REQ-1",
        mapping::udp_under_contention,
    ),
    probe(
        "mapping-tcp-contended",
        "TCP: still one outside port where another host has the same inside port",
        "RFC 5382 REQ-1",
        mapping::tcp_under_contention,
    ),
    probe(
        "overloading-udp",
        "UDP: no two hosts share an outside port",
        "RFC 4787 REQ-3",
        mapping::udp_overloading,
    ),
    probe(
        "overloading-tcp",
        "TCP: no two hosts share an outside port",
        "RFC 5382 REQ-7",
        mapping::tcp_overloading,
    ),
    probe(
        "preservation",
        "a port stays as it is where it is free",
        "RFC 4787 §4.2.1",
        mapping::preservation,
    ),
    probe(
        "system-ports",
        "a system port that is taken becomes another system port",
        "RFC 4787 REQ-3a",
        mapping::system_ports,
    ),
    probe(
        "unpredictable",
        "what a taken port becomes cannot be foretold",
        "RFC 7857 §9",
        mapping::unpredictable,
    ),
    probe(
        "queries",
        "ICMP: queries of two hosts with one identifier are both answered",
        "RFC 5508 REQ-1",
        mapping::queries,
    ),
    probe(
        "queries-independent",
        "ICMP: the outside identifier does not depend on who is asked",
        "RFC 5508 REQ-1a",
        mapping::queries_independent,
    ),
    probe(
        "port-zero",
        "nothing leaves from port 0 or comes in to it",
        "RFC 6335 §6",
        mapping::port_zero,
    ),
    probe(
        "shadowing",
        "nobody else speaks as a published port",
        "CVE-2021-3773",
        mapping::shadowing,
    ),
    probe(
        "published",
        "a published port lets anybody in, and its host speaks from it",
        "RFC 4787 REQ-1",
        mapping::published,
    ),
];

const FILTERING: &[Probe] = &[
    probe(
        "stranger-udp",
        "UDP: an address that was never spoken to is kept out",
        "RFC 4787 REQ-8",
        filtering::udp_stranger,
    ),
    probe(
        "stranger-tcp",
        "TCP: an address that was never spoken to is kept out",
        "RFC 5382 REQ-3",
        filtering::tcp_stranger,
    ),
    probe(
        "acquaintance-udp",
        "UDP: another port of an address that was spoken to is let in",
        "RFC 4787 REQ-8",
        filtering::udp_acquaintance,
    ),
    probe(
        "acquaintance-tcp",
        "TCP: another port of an address that was spoken to is let in",
        "RFC 5382 REQ-3",
        filtering::tcp_acquaintance,
    ),
    probe(
        "unsolicited-syn",
        "TCP: an unsolicited SYN stays unanswered",
        "RFC 5382 REQ-4",
        filtering::unsolicited_syn,
    ),
    probe(
        "isolation",
        "inside addresses cannot be reached from outside",
        "CVE-2019-14899",
        filtering::isolation,
    ),
    probe(
        "inside-source",
        "nobody outside passes for a host inside",
        "RFC 2827",
        filtering::inside_source,
    ),
];

const HAIRPIN: &[Probe] = &[
    probe(
        "hairpin-udp",
        "UDP: hosts inside reach each other by their outside addresses",
        "RFC 4787 REQ-9",
        hairpin::udp,
    ),
    probe(
        "hairpin-tcp",
        "TCP: hosts inside reach each other by their outside addresses",
        "RFC 5382 REQ-8",
        hairpin::tcp,
    ),
    probe(
        "hairpin-errors",
        "ICMP: errors about that find their way back",
        "RFC 5508 REQ-7",
        hairpin::errors,
    ),
];

const TIMERS: &[Probe] = &[
    probe(
        "timer-udp",
        "UDP: a mapping outlives 2 minutes of silence, from the first packet on",
        "RFC 4787 REQ-5",
        timers::udp,
    ),
    probe(
        "refresh-udp",
        "UDP: what is refused does not prolong a mapping",
        "RFC 7857 §7",
        timers::udp_refused,
    ),
    probe(
        "timer-tcp-opening",
        "TCP: a connection may take 4 minutes to open",
        "RFC 5382 REQ-5",
        timers::tcp_opening,
    ),
    probe(
        "timer-tcp-open",
        "TCP: an open connection outlives 2 hours 4 minutes of silence",
        "RFC 5382 REQ-5",
        timers::tcp_open,
    ),
    probe(
        "timer-tcp-half-closed",
        "TCP: a half-closed one outlives 4 minutes",
        "RFC 5382 REQ-5",
        timers::tcp_half_closed,
    ),
    probe(
        "timer-tcp-reset",
        "TCP: what was reset is remembered for 4 minutes",
        "RFC 7857 §2.2",
        timers::tcp_reset,
    ),
    probe(
        "timer-icmp",
        "ICMP: a query is remembered for a minute",
        "RFC 5508 REQ-2",
        timers::icmp,
    ),
];

const TCP: &[Probe] = &[
    probe(
        "rst-blind",
        "a RST outside the window is dropped and ends nothing",
        "RFC 5961 §3",
        tcp::blind_reset,
    ),
    probe(
        "rst-inexact",
        "a RST inside the window that is not exact ends nothing",
        "RFC 7857 §2.2",
        tcp::inexact_reset,
    ),
    probe(
        "data-blind",
        "data outside the window is dropped",
        "RFC 5961 §5",
        tcp::blind_data,
    ),
    probe(
        "simultaneous-open",
        "both ends may open at once",
        "RFC 5382 REQ-2",
        tcp::simultaneous_open,
    ),
    probe(
        "half-close",
        "one end may close and still listen",
        "RFC 9293 §3.6",
        tcp::half_close,
    ),
    probe(
        "reuse-after-close",
        "a port serves again as soon as its connection is closed",
        "RFC 6191",
        tcp::reuse_after_close,
    ),
    probe(
        "reuse-after-reset",
        "a port serves again as soon as its connection is reset",
        "RFC 6191",
        tcp::reuse_after_reset,
    ),
    probe(
        "refusal",
        "a refusal arrives, and the next try goes out",
        "RFC 9293 §3.5.2",
        tcp::refusal,
    ),
];

const ICMP: &[Probe] = &[
    probe(
        "errors-in",
        "an error from outside quotes what the host has sent",
        "RFC 5508 REQ-4",
        icmp::inward,
    ),
    probe(
        "errors-out",
        "an error of a host quotes what the outside has sent",
        "RFC 5508 REQ-5",
        icmp::outward,
    ),
    probe(
        "errors-unmatched",
        "an error about nothing is dropped",
        "RFC 5508 REQ-4",
        icmp::unmatched,
    ),
    probe(
        "errors-damaged",
        "a damaged error is dropped",
        "RFC 5508 REQ-3",
        icmp::damaged,
    ),
    probe(
        "errors-blind",
        "an error about a segment that is not in flight is dropped",
        "RFC 5927 §4.1",
        icmp::blind,
    ),
    probe(
        "errors-end-no-mapping",
        "UDP: an error ends no mapping",
        "RFC 4787 REQ-12",
        icmp::survives_udp,
    ),
    probe(
        "errors-end-no-connection",
        "TCP: an error ends no connection",
        "RFC 5382 REQ-10",
        icmp::survives_tcp,
    ),
];

const FRAGMENTS: &[Probe] = &[
    probe(
        "fragments-out",
        "datagrams in parts go out, in whatever order the parts come",
        "RFC 4787 REQ-14",
        fragments::outward,
    ),
    probe(
        "fragments-in",
        "datagrams in parts come in, in whatever order the parts come",
        "RFC 4787 REQ-14",
        fragments::inward,
    ),
    probe(
        "fragments-overlap",
        "nothing comes of parts that overlap",
        "RFC 5722 §4",
        fragments::overlap,
    ),
    probe(
        "identification",
        "datagrams in parts of two hosts that number theirs alike stay apart",
        "RFC 6864 §5.3.1",
        fragments::identification,
    ),
    probe(
        "too-big",
        "who sends more than fits is told what fits",
        "RFC 4787 REQ-13",
        fragments::too_big,
    ),
    probe(
        "cut",
        "what may be cut to fit is cut",
        "RFC 4787 REQ-13",
        fragments::cut,
    ),
];

const SPOOFING: &[Probe] = &[
    probe(
        "spoofed-address",
        "no neighbour sees a packet with another host's address",
        "RFC 2827",
        spoofing::address,
    ),
    probe(
        "spoofed-address-out",
        "nothing leaves with another host's address",
        "RFC 2827",
        spoofing::address_outward,
    ),
    probe(
        "spoofed-mac",
        "nobody sends from another host's Ethernet address, or gets its frames",
        "IEEE 802.1Q §8.7",
        spoofing::mac,
    ),
    probe(
        "spoofed-neighbour",
        "nobody claims a neighbour's address (ARP, ND)",
        "RFC 3756 §4.1",
        spoofing::neighbour_claim,
    ),
    probe(
        "spoofed-gateway",
        "nobody claims the gateway's address (ARP, ND)",
        "RFC 3756 §4.1",
        spoofing::gateway_claim,
    ),
    probe(
        "spoofed-router",
        "nobody makes itself DHCP server (IPv4) or router (IPv6)",
        "RFC 6105",
        spoofing::router,
    ),
];

/// What takes its time: looked at by the clock instead of asked for.
pub(crate) const SLOW: &[Probe] = &[
    probe(
        "unsolicited-syn-6s",
        "TCP: an unsolicited SYN stays unanswered for 6 s, by the clock",
        "RFC 5382 REQ-4",
        filtering::unsolicited_syn_slowly,
    ),
    probe(
        "timer-udp-120s",
        "UDP: a mapping outlives 2 minutes of silence, by the clock",
        "RFC 4787 REQ-5",
        timers::udp_slowly,
    ),
];
