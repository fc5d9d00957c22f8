use proptest::collection::vec;
use proptest::prelude::{Strategy, any, prop_assert, prop_assert_eq, proptest};

use super::{Embedded, embedded, rewrite_embedded};
use crate::builder::TcpHeader;
use crate::testing::flow::{Message, any_message, smoltcp_accepts, two_flows};
use crate::testing::{address, any_mutated_frame, ip, link};
use crate::{Malformed, Network, Protocol, Rewrite, Summary};

const V4: Pair = ("10.0.0.1", "10.0.0.2");
const V6: Pair = ("fd00::1", "fd00::2");
/// Source and destination.
type Pair = (&'static str, &'static str);

/// What an error is about, who sends it to whom, and a kind of error that quotes.
const ERRORS: [(Pair, Pair, u8); 2] = [
    (V4, ("192.0.2.1", "10.0.0.1"), 11),
    (V6, ("2001:db8::1", "fd00::1"), 3),
];

fn read(frame: &[u8]) -> Result<Embedded, Malformed> {
    embedded(frame, &ip(frame))
}

#[test]
fn the_quoted_tuple_is_read_in_both_families() {
    for (inner, outer, kind) in ERRORS {
        let packet = link().ip(inner.0, inner.1);
        let error = link().ip(outer.0, outer.1);
        let header = TcpHeader {
            source_port: 40_000,
            destination_port: 443,
            sequence: 0x1234_5678,
            ..TcpHeader::default()
        };
        let quote = read(&error.icmp_error(kind, 0, 0, &packet.tcp(&header, b"data"))).unwrap();
        assert_eq!(
            (quote.source, quote.destination),
            (address(inner.0), address(inner.1))
        );
        assert_eq!((quote.source_port, quote.destination_port), (40_000, 443));
        assert_eq!(
            (quote.protocol, quote.sequence),
            (Protocol::TCP, Some(0x1234_5678))
        );
        assert_eq!((quote.icmp_kind, quote.fragment_later), (None, false));

        let quote = read(&error.icmp_error(kind, 0, 0, &packet.udp(5353, 53, b""))).unwrap();
        assert_eq!((quote.source_port, quote.destination_port), (5353, 53));
        assert_eq!((quote.protocol, quote.sequence), (Protocol::UDP, None));

        let (request, reply) = if inner == V4 { (8, 0) } else { (128, 129) };
        let echo = |kind| packet.icmp(kind, 0, 0xabcd_0001, b"ping");
        let quote = read(&error.icmp_error(kind, 0, 0, &echo(request))).unwrap();
        assert_eq!((quote.source_port, quote.destination_port), (0xabcd, 0));
        assert_eq!(quote.icmp_kind, Some(request));
        let quote = read(&error.icmp_error(kind, 0, 0, &echo(reply))).unwrap();
        assert_eq!((quote.source_port, quote.destination_port), (0, 0xabcd));

        let quote = read(&error.icmp_error(kind, 0, 0, &packet.frame(Protocol::GRE, b""))).unwrap();
        assert_eq!((quote.protocol, quote.source_port), (Protocol::GRE, 0));
    }
}

#[test]
fn options_and_extension_headers_of_the_quote_are_skipped() {
    let options = link()
        .ip(V4.0, V4.1)
        .options(&[148, 4, 0, 0])
        .udp(5353, 53, b"");
    let quote = read(&link().ip("192.0.2.1", V4.0).icmp_error(11, 0, 0, &options)).unwrap();
    assert_eq!(
        (
            quote.source_port,
            quote.transport_offset - quote.header_offset
        ),
        (5353, 24)
    );

    let extended = link()
        .ip(V6.0, V6.1)
        .extension(Protocol::DESTINATION_OPTIONS, &[0, 1, 4, 0, 0, 0, 0])
        .fragment(7, 0, true)
        .frame(
            Protocol::UDP,
            &link().ip(V6.0, V6.1).udp_segment(5353, 53, &[0; 8]),
        );
    let quote = read(
        &link()
            .ip("2001:db8::1", V6.0)
            .icmp_error(3, 0, 0, &extended),
    )
    .unwrap();
    assert_eq!(
        (
            quote.source_port,
            quote.transport_offset - quote.header_offset
        ),
        (5353, 56)
    );
}

#[test]
fn a_quoted_later_fragment_has_no_ports() {
    for (inner, outer, kind) in ERRORS {
        let fragment = link().ip(inner.0, inner.1).fragment(7, 64, false);
        let frame = fragment.frame(Protocol::UDP, &[0xff; 16]);
        let mut error = link().ip(outer.0, outer.1).icmp_error(kind, 0, 0, &frame);
        let quote = read(&error).unwrap();
        assert!(quote.fragment_later);
        assert_eq!((quote.source_port, quote.destination_port), (0, 0));
        let inside = Rewrite {
            source: address(outer.0),
            source_port: 1,
            destination: address(outer.1),
            destination_port: 2,
        };
        let summary = ip(&error);
        let (source, destination) = (address(outer.0), address(outer.1));
        rewrite_embedded(&mut error, &summary, &inside, source, destination).unwrap();
        let fragment = link().ip(outer.0, outer.1).fragment(7, 64, false);
        let frame = fragment.frame(Protocol::UDP, &[0xff; 16]);
        assert_eq!(
            error,
            link().ip(outer.0, outer.1).icmp_error(kind, 0, 0, &frame)
        );
    }
}

/// An error that quotes `len` bytes of a UDP datagram with 16 bytes of data.
fn quoting(index: usize, len: usize) -> Vec<u8> {
    let (inner, outer, kind) = ERRORS[index];
    let frame = link().ip(inner.0, inner.1).udp(1, 2, &[0; 16]);
    link()
        .ip(outer.0, outer.1)
        .icmp(kind, 0, 0, &frame[14..14 + len])
}

#[test]
fn eight_bytes_of_transport_header_suffice_and_seven_do_not() {
    for (index, header_len) in [(0, 20), (1, 40)] {
        assert!(read(&quoting(index, header_len + 8)).is_ok());
        for len in 0..header_len + 8 {
            assert_eq!(
                read(&quoting(index, len)),
                Err(Malformed::EmbeddedTruncated),
                "{len}"
            );
        }
    }
}

#[test]
fn a_quote_that_is_no_datagram_of_the_family_is_refused() {
    let quote = 14 + 20 + 8;
    let check = |name, change: fn(&mut [u8]), expected| {
        let mut frame = quoting(0, 40);
        change(&mut frame[quote..]);
        assert_eq!(read(&frame), Err(expected), "{name}");
    };
    check("version", |q| q[0] = 0x65, Malformed::EmbeddedHeader);
    check("header length", |q| q[0] = 0x44, Malformed::EmbeddedHeader);
    check(
        "total length",
        |q| (q[2], q[3]) = (0, 19),
        Malformed::EmbeddedHeader,
    );
    check("checksum", |q| q[10] ^= 1, Malformed::EmbeddedChecksum);
    check("time to live", |q| q[8] ^= 1, Malformed::EmbeddedChecksum);

    let quote = 14 + 40 + 8;
    let check = |name, change: fn(&mut [u8])| {
        let mut frame = quoting(1, 60);
        change(&mut frame[quote..]);
        assert_eq!(read(&frame), Err(Malformed::EmbeddedHeader), "{name}");
    };
    check("version", |q| q[0] = 0x45);
    check("mapped", |q| {
        q[8..24].copy_from_slice(&address("10.0.0.1").bits().to_be_bytes())
    });
    check("extension order", |q| {
        (q[6], q[40], q[41], q[42]) = (60, 0, 0, 0)
    });
}

#[test]
fn only_errors_that_quote_are_read() {
    for kind in [0, 8, 9, 13, 40] {
        let frame = link().ip(V4.0, V4.1).icmp(kind, 0, 0, &[0; 60]);
        assert_eq!(read(&frame), Err(Malformed::EmbeddedAbsent), "{kind}");
    }
    // A redirect of IPv6 is neighbour discovery; kinds below 128 may be errors of tomorrow.
    for kind in [0, 5, 100, 127, 128, 129, 135, 137] {
        let frame = link().ip(V6.0, V6.1).icmp(kind, 0, 0, &[0; 60]);
        assert_eq!(read(&frame), Err(Malformed::EmbeddedAbsent), "{kind}");
    }
    let frame = link().ip(V4.0, V4.1).udp(1, 2, &[0; 60]);
    assert_eq!(read(&frame), Err(Malformed::EmbeddedAbsent));
}

#[test]
fn what_follows_the_quoted_datagram_is_left_alone() {
    for ((inner, outer, kind), len) in ERRORS.into_iter().zip([28, 48]) {
        let mut quote = link().ip(inner.0, inner.1).udp(1, 2, b"")[14..].to_vec();
        quote.extend([0x20; 100]);
        let found = read(&link().ip(outer.0, outer.1).icmp(kind, 0, 0, &quote)).unwrap();
        assert_eq!(found.end - found.header_offset, len);
    }
}

proptest! {
    #[test]
    fn a_translated_error_is_the_one_that_smoltcp_writes(
        (inner_before, inner_after) in two_flows(),
        swap: bool,
        message in any_message(),
        payload in vec(any::<u8>(), 0..60),
        // Half of a TCP checksum cannot be updated; a whole one can, and none need not.
        quoted_len in (8_usize..100).prop_filter("half a checksum", |len| *len != 17),
    ) {
        // The error comes from somewhere and goes to the quote's sender.
        let (mut outer_before, mut outer_after) = (inner_before, inner_after);
        if swap {
            (outer_before.source, outer_before.destination) =
                (inner_before.destination, inner_before.source);
            (outer_after.source, outer_after.destination) =
                (inner_after.destination, inner_after.source);
        }
        let mut frame = outer_before.error_frame(&inner_before, message, &payload, quoted_len);
        prop_assert!(smoltcp_accepts(&frame));
        let quote = read(&frame).unwrap();
        prop_assert_eq!(quote.source, inner_before.source);
        prop_assert_eq!(quote.destination, inner_before.destination);
        let (source_port, destination_port) = match message {
            Message::EchoRequest { .. } => (inner_before.source_port, 0),
            Message::EchoReply { .. } => (0, inner_before.destination_port),
            _ => (inner_before.source_port, inner_before.destination_port),
        };
        prop_assert_eq!((quote.source_port, quote.destination_port), (source_port, destination_port));

        let summary = ip(&frame);
        let (source, destination) = (outer_after.source, outer_after.destination);
        let to = inner_after.rewrite();
        rewrite_embedded(&mut frame, &summary, &to, source, destination).unwrap();
        prop_assert!(smoltcp_accepts(&frame));
        let expected = outer_after.error_frame(&inner_after, message, &payload, quoted_len);
        prop_assert_eq!(frame, expected);
    }

    #[test]
    fn arbitrary_quotes_are_read_without_panic(
        quoted in any_mutated_frame(),
        cut in 0_usize..120,
        other in any_mutated_frame(),
    ) {
        for (_, outer, kind) in ERRORS {
            let quote = quoted.get(14..).unwrap_or_default();
            let quote = &quote[..quote.len().min(cut)];
            let mut frame = link().ip(outer.0, outer.1).icmp(kind, 0, 0, quote);
            let Network::Ip(ip) = Summary::parse(&frame).unwrap().network else {
                continue;
            };
            let to = Rewrite {
                source: address(outer.1),
                source_port: 1,
                destination: address(outer.0),
                destination_port: 2,
            };
            let before = frame.clone();
            let (source, destination) = (to.source, to.destination);
            let result = rewrite_embedded(&mut frame, &ip, &to, source, destination);
            if result.is_err() {
                prop_assert_eq!(&frame, &before);
            } else {
                prop_assert!(smoltcp_accepts(&frame));
            }
            let _ = embedded(&other, &ip);
        }
    }
}
