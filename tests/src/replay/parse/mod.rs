//! Any bytes as a frame: what the parser makes of them, and what may be done to what it accepted.

pub(crate) mod oracle;

use heddle_wire::{
    Address, Change, Family, Fragment, Ip, PART_HEADER_LEN_MAX, Part, Rewrite, Summary, TcpFlags,
    Transport, VNET_HEADER_LEN, VnetHeader, Whole, checksum, clamp_mss, complete_checksum,
    decrement_hop_limit, echo_reply, embedded, fragment_ipv4, fragment_ipv6, ipv4_header_is_valid,
    rewrite, rewrite_embedded, rewrite_part_header, segment, transport_checksum_is_valid,
    write_whole_header,
};
use zerocopy::{FromBytes, Immutable, KnownLayout};

use oracle::{Soundness, agree_with_etherparse, partial_sum};

/// Octets of the longest frame, as the switch has room for.
const SPACE: usize = 65_536 + 64;

/// Hop limit of answers to echo requests.
const ECHO: [u8; 2] = [8, 128];

/// What is done to the frame that follows, from the first bytes of an input.
#[derive(Clone, Copy, Debug, FromBytes, Immutable, KnownLayout)]
#[repr(C)]
struct Knobs {
    source: [u8; 4],
    destination: [u8; 4],
    source_port: [u8; 2],
    destination_port: [u8; 2],
    mtu: [u8; 2],
    mss: [u8; 2],
}

/// How far an input came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reached {
    /// Not even layer two.
    #[default]
    Nothing,
    /// A frame without a datagram that could be read.
    Frame,
    /// A datagram.
    Datagram,
    /// A super-frame, cut.
    Segments,
}

/// Reads the bytes as knobs, a virtio-net header and a frame, and does to the frame what a switch does.
///
/// # Panics
///
/// If the parser disagrees with etherparse, a place of the summary lies outside the frame, a checksum
/// is changed for the worse or the better, or a super-frame is cut into wrong packets.
pub fn parse(data: &[u8]) -> Reached {
    let Ok((knobs, bytes)) = Knobs::read_from_prefix(data) else {
        return Reached::Nothing;
    };
    let Some((header, frame)) = VnetHeader::split(bytes) else {
        return Reached::Nothing;
    };
    assert_eq!(header.emit()[..], bytes[..VNET_HEADER_LEN]);
    if frame.len() > SPACE {
        return Reached::Nothing;
    }
    agree_with_etherparse(frame);
    let Ok(summary) = Summary::parse(frame) else {
        return Reached::Nothing;
    };
    let checked = header.check(frame.len(), &summary);
    let Some(&ip) = summary.ip() else {
        assert!(
            checked.is_err() || header.gso().is_none(),
            "{header:?} {summary:?}"
        );
        return Reached::Frame;
    };
    assert!(u32::from(ip.header_offset) < ip.transport_offset && ip.transport_offset <= ip.end);
    assert!(ip.end as usize <= frame.len());
    checksums_are_judged_alike(frame, &ip);
    rewriting_keeps_checksums(frame, &ip, &knobs);
    hops_and_segment_size_keep_checksums(frame, &ip, &knobs);
    quotes_are_rewritten_in_place(frame, &ip, &knobs);
    fragments_make_up_the_datagram(frame, &summary, &ip, &knobs);
    own_fragments_make_up_the_datagram(frame, &summary, &ip, &knobs);
    a_fragment_is_its_header_and_its_data(frame, &ip, &knobs);
    if checked.is_err() || !header.needs_checksum() {
        return Reached::Datagram;
    }
    let frame = with_partial_sum(frame, &ip, &header);
    partial_checksums_are_kept(&frame, &ip, &header, &knobs);
    if header.gso().is_none() {
        return Reached::Datagram;
    }
    segments_make_up_the_frame(&frame, &summary, &header);
    Reached::Segments
}

impl Knobs {
    fn addresses(&self, family: Family) -> (Address, Address) {
        let [source, destination] = [self.source, self.destination].map(u32::from_be_bytes);
        match family {
            Family::V4 => (
                Address::from_ipv4_bits(source),
                Address::from_ipv4_bits(destination),
            ),
            // Never a mapped address, which belongs in no header.
            Family::V6 => {
                let address = |low: u32| Address::from_bits(0xfd00_u128 << 112 | u128::from(low));
                (address(source), address(destination))
            }
        }
    }

    fn rewrite(&self, family: Family) -> Rewrite {
        let (source, destination) = self.addresses(family);
        Rewrite {
            source,
            source_port: u16::from_be_bytes(self.source_port),
            destination,
            destination_port: u16::from_be_bytes(self.destination_port),
        }
    }
}

/// Reads a frame again that was changed in place.
fn reparse(frame: &[u8]) -> Ip {
    let summary = Summary::parse(frame).expect("a changed frame is a frame");
    *summary.ip().expect("a changed datagram is a datagram")
}

fn checksums_are_judged_alike(frame: &[u8], ip: &Ip) {
    let soundness = Soundness::of(frame, ip);
    if let Some(right) = soundness.header {
        // A header of zeros does not exist, so the sum is right in one form only.
        assert_eq!(ipv4_header_is_valid(frame, ip.header_offset), right);
    }
    if let Some(right) = soundness.transport {
        let valid = transport_checksum_is_valid(frame, ip);
        // A message of zeros has the sum zero, which no sender may write.
        assert!(!valid || right, "accepts a wrong checksum");
        let zeros = ip
            .payload(frame)
            .is_some_and(|segment| segment.iter().all(|&octet| octet == 0));
        assert!(valid || !right || zeros, "refuses a right checksum");
    }
}

fn rewriting_keeps_checksums(frame: &[u8], ip: &Ip, knobs: &Knobs) {
    let before = Soundness::of(frame, ip);
    let to = knobs.rewrite(ip.family());
    let mut changed = frame.to_vec();
    rewrite(&mut changed, ip, false, &to);
    let now = reparse(&changed);
    assert_eq!((now.source, now.destination), (to.source, to.destination));
    assert_eq!(
        (now.header_offset, now.transport_offset, now.end),
        (ip.header_offset, ip.transport_offset, ip.end)
    );
    let ports = match &now.transport {
        Transport::Tcp(tcp) => Some((tcp.source_port, tcp.destination_port)),
        Transport::Udp(udp) => Some((udp.source_port, udp.destination_port)),
        _ => None,
    };
    assert!(ports.is_none_or(|ports| ports == (to.source_port, to.destination_port)));
    assert_eq!(Soundness::of(&changed, &now), before);
    // Back again, nothing has changed but perhaps the form of a zero.
    let (source_port, destination_port) = match &ip.transport {
        Transport::Tcp(tcp) => (tcp.source_port, tcp.destination_port),
        Transport::Udp(udp) => (udp.source_port, udp.destination_port),
        Transport::Icmp(icmp) => (icmp.id(), icmp.id()),
        _ => (0, 0),
    };
    let back = Rewrite {
        source: ip.source,
        source_port,
        destination: ip.destination,
        destination_port,
    };
    rewrite(&mut changed, ip, false, &back);
    assert_eq!(Soundness::of(&changed, &reparse(&changed)), before);
}

fn hops_and_segment_size_keep_checksums(frame: &[u8], ip: &Ip, knobs: &Knobs) {
    let before = Soundness::of(frame, ip);
    if ip.hop_limit != 0 {
        let mut changed = frame.to_vec();
        decrement_hop_limit(&mut changed, ip);
        let now = reparse(&changed);
        assert_eq!(now.hop_limit, ip.hop_limit - 1);
        assert_eq!(Soundness::of(&changed, &now), before);
    }
    let mut changed = frame.to_vec();
    let lowered = clamp_mss(&mut changed, ip, false, u16::from_be_bytes(knobs.mss));
    assert_eq!(lowered, changed != frame);
    assert_eq!(Soundness::of(&changed, &reparse(&changed)), before);
    let is_echo = matches!(&ip.transport, Transport::Icmp(icmp) if ECHO.contains(&icmp.kind) && icmp.is_request(ip.family()));
    if is_echo && ip.fragment == Fragment::Whole {
        let mut changed = frame.to_vec();
        echo_reply(&mut changed, ip, false);
        let now = reparse(&changed);
        assert_eq!((now.source, now.destination), (ip.destination, ip.source));
        assert_eq!(Soundness::of(&changed, &now).transport, before.transport);
    }
}

fn quotes_are_rewritten_in_place(frame: &[u8], ip: &Ip, knobs: &Knobs) {
    let Ok(_) = embedded(frame, ip) else { return };
    let before = Soundness::of(frame, ip);
    let to = knobs.rewrite(ip.family());
    let (source, destination) = knobs.addresses(ip.family());
    let mut changed = frame.to_vec();
    if rewrite_embedded(&mut changed, ip, &to, source, destination).is_err() {
        return;
    }
    let now = reparse(&changed);
    assert_eq!((now.source, now.destination), (source, destination));
    let quote = embedded(&changed, &now).expect("a rewritten quote is a quote");
    assert_eq!(
        (quote.source, quote.destination),
        (to.source, to.destination)
    );
    assert_eq!(Soundness::of(&changed, &now), before);
}

/// RFC 791 §3.2: by their offsets the fragments make up the datagram again.
fn fragments_make_up_the_datagram(frame: &[u8], summary: &Summary, ip: &Ip, knobs: &Knobs) {
    let mtu = usize::from(u16::from_be_bytes(knobs.mtu));
    let mut scratch = vec![0; SPACE];
    let mut pieces = Vec::new();
    let mut keep = |piece: &[u8]| pieces.push(piece.to_vec());
    if fragment_ipv4(frame, summary, mtu, &mut scratch, &mut keep).is_err() {
        assert!(pieces.is_empty());
        return;
    }
    let start = usize::from(ip.header_offset);
    let right = Soundness::of(frame, ip).header;
    let mut payload: Vec<u8> = Vec::new();
    for piece in &pieces {
        let datagram = &piece[start..];
        assert!(datagram.len() <= mtu || pieces.len() == 1);
        let header = usize::from(datagram[0] & 0x0f) * 4;
        let len = usize::from(u16::from_be_bytes([datagram[2], datagram[3]]));
        assert_eq!(len, datagram.len());
        if pieces.len() > 1 && right == Some(true) {
            assert_eq!(checksum::sum(&datagram[..header]), 0xffff);
        }
        payload.extend(&datagram[header..]);
    }
    assert_eq!(payload, ip.payload(frame).expect("the frame parsed"));
}

/// RFC 8200 §4.5, for datagrams of one's own: their fragments put together by their parts are what was
/// cut.
fn own_fragments_make_up_the_datagram(frame: &[u8], summary: &Summary, ip: &Ip, knobs: &Knobs) {
    let mtu = usize::from(u16::from_be_bytes(knobs.mtu));
    let mut scratch = vec![0; SPACE];
    let mut pieces = Vec::new();
    let mut keep = |piece: &[u8]| pieces.push(piece.to_vec());
    if fragment_ipv6(frame, summary, mtu, 7, &mut scratch, &mut keep).is_err() {
        assert!(pieces.is_empty());
        return;
    }
    let datagram = &frame[..ip.end as usize];
    if pieces.len() == 1 {
        assert_eq!(pieces[0], datagram);
        return;
    }
    let link = usize::from(ip.header_offset);
    let mut data = Vec::new();
    let mut first = Vec::new();
    for piece in &pieces {
        // A small MTU leaves a first fragment without all of its headers, which no parser takes.
        let Ok(summary) = Summary::parse(piece) else {
            panic!("a piece of a frame is a frame");
        };
        let Some(part) = summary.ip().and_then(|ip| Part::of(piece, ip)) else {
            return;
        };
        assert_eq!((usize::from(part.offset), part.id), (data.len(), 7));
        if part.offset == 0 {
            first = part.header.to_vec();
        }
        data.extend(part.data);
        assert!(piece.len() - link <= mtu);
    }
    let whole = whole_of(&first, data.len(), ip);
    let mut header = vec![0; first.len()];
    let len = write_whole_header(&first, &whole, &mut header).expect("there was such a datagram");
    assert_eq!([&header[..len], &data].concat(), datagram[link..]);
}

fn whole_of(first: &[u8], data_len: usize, ip: &Ip) -> Whole {
    assert!(!first.is_empty());
    Whole {
        data_len,
        hop_limit: ip.hop_limit,
        dont_fragment: ip.dont_fragment,
    }
}

/// Whatever a fragment is, its parts are all of it, and its header bears a whole datagram's.
fn a_fragment_is_its_header_and_its_data(frame: &[u8], ip: &Ip, knobs: &Knobs) {
    let Some(part) = Part::of(frame, ip) else {
        assert!(!ip.fragment.is_part());
        return;
    };
    let start = usize::from(ip.header_offset);
    let packet = &frame[start..ip.end as usize];
    assert_eq!([part.header, part.data].concat(), packet);
    assert!(part.header.len() <= PART_HEADER_LEN_MAX);
    assert_eq!(
        part.more,
        !matches!(ip.fragment, Fragment::Later { last: true, .. })
    );
    let whole = whole_of(part.header, part.data.len(), ip);
    let mut space = [0; PART_HEADER_LEN_MAX];
    let len = write_whole_header(part.header, &whole, &mut space).expect("it is long enough");
    let made = [&frame[..start], &space[..len], part.data].concat();
    let summary = Summary::parse(&made).expect("it has the same layer two");
    let made_ip = summary.ip();
    if made_ip.is_some_and(|made| made.fragment.is_part()) {
        // What stands behind a later fragment's header is data: it may look like anything.
        assert!(matches!(ip.fragment, Fragment::Later { .. }));
        return;
    }
    let (source, destination) = knobs.addresses(ip.family());
    let mut now = made.clone();
    if let Some(made_ip) = made_ip {
        rewrite(&mut now, made_ip, false, &knobs.rewrite(ip.family()));
        let mut header = part.header.to_vec();
        let change = Change {
            now: &now[start..start + len],
            hops: 0,
            id: Some(7),
        };
        rewrite_part_header(&mut header, &change);
        let again = reparse(&[&frame[..start], &header, part.data].concat());
        assert_eq!((again.source, again.destination), (source, destination));
        assert_eq!((again.hop_limit, again.end), (ip.hop_limit, ip.end));
        let id = Part::of(frame, &again).map(|part| part.id);
        assert_eq!(id, Some(7));
    }
}

/// The frame as a sender that leaves the checksum to others would have made it.
fn with_partial_sum(frame: &[u8], ip: &Ip, header: &VnetHeader) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let place = usize::from(header.checksum_start) + usize::from(header.checksum_offset);
    let sum = partial_sum(ip, ip.payload_len());
    frame[place..place + 2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// Whether the sum of everything behind the transport offset is the sum of the segment.
fn is_exact(frame: &[u8], ip: &Ip) -> bool {
    let is_whole = match &ip.transport {
        Transport::Udp(udp) => udp.payload_len as usize + 8 == ip.payload_len(),
        _ => true,
    };
    is_whole && ip.end as usize == frame.len()
}

fn partial_checksums_are_kept(frame: &[u8], ip: &Ip, header: &VnetHeader, knobs: &Knobs) {
    let mut changed = frame.to_vec();
    rewrite(&mut changed, ip, true, &knobs.rewrite(ip.family()));
    if !is_exact(frame, ip) {
        return;
    }
    for mut frame in [frame.to_vec(), changed] {
        complete_checksum(&mut frame, header);
        let ip = reparse(&frame);
        assert_eq!(Soundness::of(&frame, &ip).transport, Some(true));
        assert!(transport_checksum_is_valid(&frame, &ip));
    }
}

fn segments_make_up_the_frame(frame: &[u8], summary: &Summary, header: &VnetHeader) {
    let whole = *summary.ip().expect("a super-frame carries a datagram");
    let mut scratch = vec![0; SPACE];
    let mut pieces = Vec::new();
    let mut keep = |piece: &[u8]| pieces.push(piece.to_vec());
    let count = segment(frame, summary, header, &mut scratch, &mut keep)
        .expect("what was checked can be cut");
    assert_eq!(count, pieces.len());
    let longest = header.largest_segment_len(summary);
    let mut payload: Vec<u8> = Vec::new();
    for (index, piece) in pieces.iter().enumerate() {
        let is_last = index + 1 == pieces.len();
        let ip = reparse(piece);
        assert!(ip.total_len() <= longest && ip.end as usize == piece.len());
        let soundness = Soundness::of(piece, &ip);
        assert!(soundness.is_right() && soundness.transport == Some(true));
        let headers = match (&whole.transport, &ip.transport) {
            (Transport::Tcp(first), Transport::Tcp(tcp)) => {
                let before = u32::try_from(payload.len()).expect("below 64 KiB");
                assert_eq!(tcp.sequence, first.sequence.wrapping_add(before));
                let ends = TcpFlags::FIN | TcpFlags::PSH;
                assert!(is_last || !tcp.flags.intersects(ends));
                usize::from(tcp.header_len)
            }
            (Transport::Udp(_), Transport::Udp(udp)) => {
                assert_eq!(udp.payload_len as usize + 8, ip.payload_len());
                8
            }
            other => panic!("{other:?}"),
        };
        payload.extend(&ip.payload(piece).expect("the piece parsed")[headers..]);
    }
    let headers = match &whole.transport {
        Transport::Tcp(tcp) => usize::from(tcp.header_len),
        _ => 8,
    };
    assert_eq!(payload, frame[whole.transport_offset as usize + headers..]);
}
