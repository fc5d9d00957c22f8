//! Frames in words, for people who look at a failed test.

use heddle_wire::{Fragment, Ip, Network, Summary, Transport, VnetHeader};

/// A frame behind its virtio-net header, in one line and its bytes.
#[must_use]
pub fn describe(bytes: &[u8]) -> String {
    let Some((header, frame)) = VnetHeader::split(bytes) else {
        return format!("{} octets, no frame: {bytes:02x?}", bytes.len());
    };
    let offload = if header == VnetHeader::NONE {
        String::new()
    } else {
        format!("{header:?} ")
    };
    let meaning = match Summary::parse(frame) {
        Ok(summary) => describe_summary(&summary),
        Err(malformed) => malformed.to_string(),
    };
    let hex: Vec<String> = frame
        .chunks(16)
        .take(12)
        .map(|row| row.iter().map(|byte| format!("{byte:02x}")).collect())
        .collect();
    let rest = if frame.len() > 192 { " ..." } else { "" };
    let len = frame.len();
    format!(
        "{offload}{len} octets, {meaning}\n        {}{rest}",
        hex.join(" ")
    )
}

fn describe_summary(summary: &Summary) -> String {
    let Summary {
        destination,
        source,
        ether_type,
        tags,
        vlan,
        network,
        ..
    } = summary;
    let tags = if *tags == 0 {
        String::new()
    } else {
        format!(" ({tags} tags, outer {vlan:#06x})")
    };
    let content = match network {
        Network::Arp(arp) => format!(
            "ARP {} {} is {} asks {} is {}",
            arp.operation, arp.sender, arp.sender_mac, arp.target, arp.target_mac
        ),
        Network::Ip(ip) => describe_ip(ip),
        Network::Malformed(malformed) => malformed.to_string(),
        Network::Other => ether_type.to_string(),
    };
    format!("{source} > {destination}{tags} {content}")
}

fn describe_ip(ip: &Ip) -> String {
    let Ip {
        source,
        destination,
        protocol,
        hop_limit,
        ..
    } = ip;
    let fragment = match ip.fragment {
        Fragment::Whole => String::new(),
        Fragment::First { id } => format!(" first fragment of {id:#x}"),
        Fragment::Later { id, offset, last } => {
            format!(" fragment of {id:#x} at {offset}, last: {last}")
        }
    };
    let upper = match &ip.transport {
        Transport::Tcp(tcp) => format!(
            "{} > {} {} seq {} ack {} win {} len {}",
            tcp.source_port,
            tcp.destination_port,
            tcp.flags,
            tcp.sequence,
            tcp.acknowledgement,
            tcp.window,
            tcp.payload_len
        ),
        Transport::Udp(udp) => format!(
            "{} > {} len {}",
            udp.source_port, udp.destination_port, udp.payload_len
        ),
        Transport::Icmp(icmp) => format!("{}/{} {:#010x}", icmp.kind, icmp.code, icmp.word),
        Transport::Other | Transport::Absent => format!("{} octets", ip.payload_len()),
    };
    let total = ip.total_len();
    format!("{source} > {destination} hops {hop_limit} total {total}{fragment} {protocol} {upper}")
}
