//! Answering a ping in the frame it came in (RFC 792, RFC 4443 §4.2).

use crate::checksum::Delta;
use crate::ip::Ip;
use crate::rewrite::field;
use crate::transport::Transport;
use crate::{Family, icmp, ipv4, ipv6};

/// The hops that a packet of our own is given: what IANA's IP parameters recommend as the default
/// time to live (RFC 1700).
pub const DEFAULT_HOP_LIMIT: u8 = 64;

/// Turns a whole echo request into its reply: addresses swapped, [`DEFAULT_HOP_LIMIT`] hops,
/// identifier, sequence number and data as they came, a corrupt checksum too. Whether it was one;
/// other frames stay as they are.
///
/// The request must have been sent to an address that may be a sender: the caller has seen that it
/// was neither multicast nor broadcast. The MAC addresses are the caller's as well.
pub fn echo_reply(frame: &mut [u8], ip: &Ip, partial_checksum: bool) -> bool {
    let Transport::Icmp(message) = &ip.transport else {
        return false;
    };
    let reply = match (ip.family(), message.kind) {
        (Family::V4, icmp::v4::ECHO_REQUEST) => icmp::v4::ECHO_REPLY,
        (Family::V6, icmp::v6::ECHO_REQUEST) => icmp::v6::ECHO_REPLY,
        _ => return false,
    };
    // A reply to the first part alone would never come together.
    if ip.fragment.is_part() {
        return false;
    }
    let Some(header) = frame.get_mut(usize::from(ip.header_offset)..) else {
        return false;
    };
    match ip.family() {
        Family::V4 => turn_ipv4(header),
        Family::V6 => turn_ipv6(header),
    }
    let Some(segment) = ip.payload_mut(frame) else {
        return false;
    };
    if let Some(place) = field(segment, icmp::KIND) {
        let mut delta = Delta::NONE;
        let [_, code] = *place;
        delta.replace16(*place, [reply, code]);
        *place = [reply, code];
        // A partial checksum holds the sum of the pseudo-header, which swapped addresses leave.
        if let (false, Some(checksum)) = (partial_checksum, field(segment, icmp::CHECKSUM.into())) {
            delta.apply(checksum);
        }
    }
    true
}

/// Swaps the addresses, which changes no sum, and renews the time to live, which does.
fn turn_ipv4(header: &mut [u8]) {
    let Some(header) = header.first_chunk_mut::<{ ipv4::HEADER_LEN }>() else {
        return;
    };
    let (before, destination) = header.split_at_mut(ipv4::DESTINATION);
    before[ipv4::SOURCE..].swap_with_slice(destination);
    let mut delta = Delta::NONE;
    if let Some(place) = field(header, ipv4::TIME_TO_LIVE) {
        let [_, protocol] = *place;
        delta.replace16(*place, [DEFAULT_HOP_LIMIT, protocol]);
        *place = [DEFAULT_HOP_LIMIT, protocol];
    }
    if let Some(checksum) = field(header, ipv4::CHECKSUM) {
        delta.apply(checksum);
    }
}

fn turn_ipv6(header: &mut [u8]) {
    let Some(header) = header.first_chunk_mut::<{ ipv6::HEADER_LEN }>() else {
        return;
    };
    let (before, destination) = header.split_at_mut(ipv6::DESTINATION);
    before[ipv6::SOURCE..].swap_with_slice(destination);
    header[ipv6::HOP_LIMIT] = DEFAULT_HOP_LIMIT;
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};

    use super::echo_reply;
    use crate::builder::offload;
    use crate::testing::flow::{Flow, Message, two_flows};
    use crate::testing::{any_mutated_frame, ip, link};
    use crate::{Network, Protocol, Summary, complete_checksum};

    proptest! {
        #[test]
        fn the_reply_is_the_one_that_smoltcp_writes(
            (flow, _) in two_flows(),
            sequence: u16,
            payload in vec(any::<u8>(), 0..60),
        ) {
            let mut frame = flow.frame(Message::EchoRequest { sequence }, &payload);
            let summary = ip(&frame);
            prop_assert!(echo_reply(&mut frame, &summary, false));
            let reply = Flow {
                source: flow.destination,
                destination: flow.source,
                source_port: flow.destination_port,
                destination_port: flow.source_port,
            };
            prop_assert_eq!(frame, reply.frame(Message::EchoReply { sequence }, &payload));
        }

        #[test]
        fn nothing_panics_on_a_frame_that_is_not_the_one_parsed(
            frame in any_mutated_frame(),
            mut other in any_mutated_frame(),
        ) {
            if let Ok(Summary { network: Network::Ip(ip), .. }) = Summary::parse(&frame) {
                echo_reply(&mut other, &ip, false);
            }
        }
    }

    #[test]
    fn hops_are_renewed_and_what_is_no_matter_of_the_answer_is_kept() {
        for (near, far, request, reply) in [
            ("10.0.0.1", "10.0.0.2", 8, 0),
            ("fd00::1", "fd00::2", 128, 129),
        ] {
            let packet = link()
                .vlan(9)
                .ip(near, far)
                .hop_limit(1)
                .traffic_class(0xb8);
            let mut frame = packet.icmp(request, 0, 0x1234_0007, b"ping");
            let summary = ip(&frame);
            assert!(echo_reply(&mut frame, &summary, false));
            let packet = link().vlan(9).ip(far, near).traffic_class(0xb8);
            assert_eq!(frame, packet.icmp(reply, 0, 0x1234_0007, b"ping"));
        }
    }

    #[test]
    fn a_partial_checksum_stays_partial() {
        let mut frame = link()
            .ip("fd00::1", "fd00::2")
            .icmp(128, 0, 0x1234_0007, b"ping");
        let header = offload(&mut frame, None);
        let summary = ip(&frame);
        assert!(echo_reply(&mut frame, &summary, true));
        complete_checksum(&mut frame, &header);
        assert_eq!(
            frame,
            link()
                .ip("fd00::2", "fd00::1")
                .icmp(129, 0, 0x1234_0007, b"ping")
        );
    }

    #[test]
    fn what_is_not_a_whole_request_stays_as_it_is() {
        let table = [
            ("10.0.0.1", "10.0.0.2", 8, [0, 3, 13, 128]),
            ("fd00::1", "fd00::2", 128, [129, 1, 135, 8]),
        ];
        for (near, far, request, others) in table {
            let packet = link().ip(near, far);
            let message = packet.icmp_message(request, 0, 0, &[0; 24]);
            let protocol = ip(&packet.icmp(request, 0, 0, b"")).protocol;
            let fragment = packet
                .clone()
                .fragment(1, 0, true)
                .frame(protocol, &message);
            let mut frames: Vec<_> = others
                .into_iter()
                .map(|kind| packet.icmp(kind, 0, 0, b""))
                .collect();
            frames.extend([
                fragment,
                packet.udp(1, 2, b""),
                packet.frame(Protocol::GRE, b""),
            ]);
            for frame in frames {
                let mut answered = frame.clone();
                assert!(!echo_reply(&mut answered, &ip(&frame), false));
                assert_eq!(answered, frame);
            }
        }
    }
}
