//! Hosts with somebody else's TCP/IP on bad links: what they send through us arrives, all of it, in
//! order and once.

use std::net::IpAddr;
use std::time::Duration;

use heddle_nat::tcp::CLOSING_TIMEOUT;
use heddle_switch::link_local;
use heddle_tests::lab::{Impairment, Lab, NEXT_HOP_MAC, Name, SIDES, Side, SmolHost, campus};
use heddle_wire::{Family, Protocol};
use smoltcp::iface::SocketHandle;
use smoltcp::socket::tcp::State;

/// Simulated time that a transfer may take at most.
const LIMIT: Duration = Duration::from_secs(600);

/// Octets sent in each direction.
const OCTETS: u32 = 200_000;

/// A link that loses, repeats and reorders.
fn bad(seed: u64) -> Impairment {
    Impairment::new(seed)
        .loss(0.03)
        .duplication(0.03)
        .reordering(0.1)
}

fn ip(text: &str) -> IpAddr {
    text.parse().expect("a test names addresses")
}

/// A host of smoltcp where the next hop is. Over IPv6 it is asked from a link-local address, so it
/// needs one itself.
fn next_hop(lab: &mut Lab, side: &Side) -> SmolHost {
    let own = link_local(NEXT_HOP_MAC).to_ip();
    let addresses = match side.family {
        Family::V4 => vec![(ip(side.next_hop), 24)],
        Family::V6 => vec![(ip(side.next_hop), 64), (own, 64)],
    };
    lab.smol_with("wan", NEXT_HOP_MAC, &addresses, &[])
}

/// Data that is nowhere the same for long.
fn data(salt: u32) -> Vec<u8> {
    let octet = |at: u32| (at ^ salt).wrapping_mul(0x9e37_79b1).to_be_bytes()[0];
    (0..OCTETS).map(octet).collect()
}

/// One end of a connection: what it has yet to send and what it has got.
struct End {
    socket: SocketHandle,
    data: Vec<u8>,
    sent: usize,
    received: Vec<u8>,
}

impl End {
    fn new(socket: SocketHandle, data: Vec<u8>) -> End {
        End {
            socket,
            data,
            sent: 0,
            received: Vec::new(),
        }
    }

    /// Sends and takes what it can; closes when it has sent all.
    fn work(&mut self, host: &mut SmolHost) {
        let socket = host.tcp(self.socket);
        if socket.can_send() && self.sent < self.data.len() {
            self.sent += socket
                .send_slice(&self.data[self.sent..])
                .expect("it can send");
        }
        while socket.can_recv() {
            let take = |bytes: &mut [u8]| (bytes.len(), bytes.to_vec());
            let taken = socket.recv(take).expect("it can receive");
            self.received.extend(taken);
        }
        if self.sent == self.data.len() && socket.may_send() {
            socket.close();
        }
    }

    fn is_over(&self, host: &mut SmolHost) -> bool {
        let state = host.tcp(self.socket).state();
        matches!(state, State::Closed | State::TimeWait)
    }
}

/// A client connects, both ends send everything they have and close; what each got is what the other
/// sent.
fn transfer(
    lab: &mut Lab,
    client: &mut SmolHost,
    server: &mut SmolHost,
    to: (IpAddr, u16),
    listening: u16,
) -> Duration {
    let mut ends = [
        End::new(client.connect(to, 40_000), data(1)),
        End::new(server.listen(listening), data(2)),
    ];
    let took = lab.talk(LIMIT, &mut [client, server], |hosts| {
        let mut over = true;
        for (end, host) in ends.iter_mut().zip(hosts.iter_mut()) {
            end.work(host);
            over &= end.is_over(host);
        }
        over
    });
    let [client, server] = ends;
    assert!(server.received == client.data, "the server got other data");
    assert!(client.received == server.data, "the client got other data");
    took
}

/// Nothing was dropped at these ports.
fn assert_no_drops(lab: &Lab, ports: &[Name]) {
    let state = lab.observe();
    for port in ports {
        assert_eq!(state.ports[port].drops, [].into(), "at {port}");
    }
}

#[test]
fn a_transfer_over_the_bridge_survives_bad_links() {
    for side in &SIDES {
        let mut lab = campus();
        let (mut a, mut b) = (lab.smol("a"), lab.smol("b"));
        a.impair(bad);
        b.impair(|seed| bad(seed + 10));
        transfer(&mut lab, &mut a, &mut b, (ip(side.b), 80), 80);
        assert_no_drops(&lab, &["a", "b"]);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

#[test]
fn a_transfer_between_two_networks_survives_bad_links() {
    for side in &SIDES {
        let mut lab = campus();
        let (mut a, mut d) = (lab.smol("a"), lab.smol("d"));
        a.impair(bad);
        d.impair(|seed| bad(seed + 10));
        transfer(&mut lab, &mut a, &mut d, (ip(side.d), 80), 80);
        assert_no_drops(&lab, &["a", "d"]);
        assert_eq!(lab.switch().nat().session_count(), 0);
    }
}

/// Nothing is left of a connection that has been closed at both ends.
fn assert_forgotten(mut lab: Lab, hosts: &mut [&mut SmolHost]) {
    // What is still on its way arrives first.
    let mut passed = 0;
    lab.talk(Duration::from_secs(10), hosts, |_| {
        passed += 1;
        passed > 2000
    });
    assert_eq!(lab.switch().nat().session_count(), 1);
    lab.pass(CLOSING_TIMEOUT + Duration::from_secs(1));
    assert_eq!(lab.switch().nat().session_count(), 0);
    assert_eq!(lab.switch().nat().mapping_count(), 0);
}

/// Publishes port 80 of `a`.
fn publish(lab: &mut Lab, side: &Side) {
    let (outside, inside) = ((side.leg, 8080), (side.a, 80));
    lab.reconfigure(|plan| {
        plan.publish("wan", Protocol::TCP, outside, inside);
    });
}

#[test]
fn a_transfer_through_the_translation_survives_bad_links() {
    for side in &SIDES {
        let mut lab = campus();
        let (mut a, mut server) = (lab.smol("a"), next_hop(&mut lab, side));
        a.impair(bad);
        server.impair(|seed| bad(seed + 10));
        let to = (ip(side.next_hop), 80);
        transfer(&mut lab, &mut a, &mut server, to, 80);
        // Whatever is lost, repeated or late, the tracker takes nothing of it for a forgery.
        assert_no_drops(&lab, &["a", "wan"]);
        assert_forgotten(lab, &mut [&mut a, &mut server]);
    }
}

#[test]
fn a_transfer_to_a_published_port_survives_bad_links() {
    for side in &SIDES {
        let mut lab = campus();
        publish(&mut lab, side);
        let (mut a, mut client) = (lab.smol("a"), next_hop(&mut lab, side));
        a.impair(bad);
        client.impair(|seed| bad(seed + 10));
        let to = (ip(side.leg), 8080);
        transfer(&mut lab, &mut client, &mut a, to, 80);
        assert_no_drops(&lab, &["a", "wan"]);
        assert_forgotten(lab, &mut [&mut client, &mut a]);
    }
}

#[test]
fn a_transfer_by_the_outside_address_survives_bad_links() {
    for side in &SIDES {
        let mut lab = campus();
        publish(&mut lab, side);
        let (mut a, mut e) = (lab.smol("a"), lab.smol("e"));
        a.impair(bad);
        e.impair(|seed| bad(seed + 10));
        let to = (ip(side.leg), 8080);
        transfer(&mut lab, &mut e, &mut a, to, 80);
        assert_no_drops(&lab, &["a", "e"]);
        assert_forgotten(lab, &mut [&mut e, &mut a]);
    }
}
