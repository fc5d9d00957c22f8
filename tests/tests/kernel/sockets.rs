//! What programs with sockets of their own see of the translation: by which port they are known, how
//! connections begin and end, and what a refusal is.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket,
};

use heddle_tests::host::{Container, Host, Job, On, PATIENCE, Scenario, now};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::internet::{self, FAMILIES};
use crate::traffic::{attach, attach_with};
use crate::web::LONG;

pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "sockets::one_socket_has_one_outside_port_for_every_peer",
        on: On::AnyKind,
        play: one_socket_has_one_outside_port_for_every_peer,
    },
    Scenario {
        name: "sockets::two_sockets_meet_at_their_outside_addresses",
        on: On::AnyKind,
        play: two_sockets_meet_at_their_outside_addresses,
    },
    Scenario {
        name: "sockets::long_datagrams_go_out_and_come_back",
        on: On::EveryKind,
        play: long_datagrams_go_out_and_come_back,
    },
    Scenario {
        name: "sockets::a_server_speaks_on_when_the_client_has_said_all",
        on: On::EveryKind,
        play: a_server_speaks_on_when_the_client_has_said_all,
    },
    Scenario {
        name: "sockets::refused_is_refused_in_every_direction",
        on: On::AnyKind,
        play: refused_is_refused_in_every_direction,
    },
    Scenario {
        name: "sockets::both_ends_may_connect_at_once",
        on: On::AnyKind,
        play: both_ends_may_connect_at_once,
    },
];

/// A port of every address of the family of `like`.
fn any(like: IpAddr, port: u16) -> SocketAddr {
    match like {
        IpAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        IpAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
    }
}

/// A UDP socket that does not wait for ever.
fn udp(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(at).expect("a free port");
    let patient = socket.set_read_timeout(Some(PATIENCE));
    patient.expect("a time that is not zero");
    socket
}

/// Octets of a datagram that takes several fragments.
const MANY: usize = 8000;

/// Answers every datagram with whom it came from, and with as many octets.
fn reflect(socket: &UdpSocket) -> ! {
    loop {
        let mut buffer = [0; MANY];
        match socket.recv_from(&mut buffer) {
            Ok((len, peer)) => {
                let answer = format!("{:<len$}", peer.to_string());
                let _ = socket.send_to(answer.as_bytes(), peer);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Reflects at an address of a container.
fn reflector(container: &Container, at: SocketAddr) -> Job {
    container.serve(|ready| {
        let socket = udp(at);
        ready();
        reflect(&socket)
    })
}

/// How a reflector sees a socket.
fn seen_by(socket: &UdpSocket, reflector: SocketAddr) -> SocketAddr {
    let (seen, _) = exchange(socket, reflector, 1);
    seen
}

/// How a reflector sees a socket that sends it so many octets, and how many come back.
fn exchange(socket: &UdpSocket, reflector: SocketAddr, len: usize) -> (SocketAddr, usize) {
    let deadline = now() + PATIENCE;
    let sent = socket.send_to(&vec![b'?'; len], reflector);
    assert_eq!(sent.expect("there is a route"), len);
    loop {
        let mut buffer = [0; MANY];
        let (len, from) = socket.recv_from(&mut buffer).expect("an answer");
        // Of what else arrives, nothing is meant.
        if from == reflector {
            let text = std::str::from_utf8(&buffer[..len]).expect("a text");
            let seen = text.trim_end().parse();
            return (seen.expect("an address and port"), len);
        }
        assert!(now() < deadline, "{reflector} does not answer");
    }
}

fn one_socket_has_one_outside_port_for_every_peer(host: &mut Host) {
    const PORT: u16 = 4000;
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach(host, &bob, "shop", "bob");
    for family in FAMILIES {
        let peers = [
            SocketAddr::new(family.far(), 7001),
            SocketAddr::new(family.far(), 7002),
            SocketAddr::new(family.router(), 7001),
        ];
        let reflectors = peers.map(|at| reflector(&internet, at));
        alice.run(|| {
            let socket = udp(any(family.far(), PORT));
            let seen = peers.map(|peer| seen_by(&socket, peer));
            assert_eq!(seen, [SocketAddr::new(family.outside(), PORT); 3]);
        });
        // The same port of somebody else is another one outside, and that one for every peer.
        bob.run(|| {
            let socket = udp(any(family.far(), PORT));
            let seen = peers.map(|peer| seen_by(&socket, peer));
            assert_eq!(seen, [seen[0]; 3]);
            assert_eq!(seen[0].ip(), family.outside());
            assert_ne!(seen[0].port(), PORT);
        });
        drop(reflectors);
    }
}

fn two_sockets_meet_at_their_outside_addresses(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach(host, &bob, "shop", "bob");
    for family in FAMILIES {
        let [alices, bobs] = [4001, 4002].map(|port| SocketAddr::new(family.outside(), port));
        let rendezvous = SocketAddr::new(family.far(), 3478);
        let _rendezvous = reflector(&internet, rendezvous);
        let _bob = bob.serve(|ready| {
            let socket = udp(any(family.far(), bobs.port()));
            assert_eq!(seen_by(&socket, rendezvous), bobs);
            ready();
            reflect(&socket)
        });
        alice.run(|| {
            let socket = udp(any(family.far(), alices.port()));
            assert_eq!(seen_by(&socket, rendezvous), alices);
            // bob is where everybody outside finds him, and sees alice as everybody outside does.
            assert_eq!(seen_by(&socket, bobs), alices);
        });
    }
}

fn long_datagrams_go_out_and_come_back(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    let publish = ["-p", "7000:7000/udp"];
    let bobs = attach_with(host, &bob, "shop", "bob", &publish);
    for (family, inside) in FAMILIES.into_iter().zip(bobs) {
        let far = SocketAddr::new(family.far(), 7000);
        let _servers = [
            reflector(&internet, far),
            reflector(&bob, SocketAddr::new(inside, 7000)),
        ];
        // Out and back, in and back, and by the outside address.
        for (from, to, seen) in [
            (&alice, far, family.outside()),
            (&internet, family.published(7000), family.router()),
            (&alice, family.published(7000), family.outside()),
        ] {
            from.run(|| {
                let socket = udp(any(family.far(), 0));
                let (peer, len) = exchange(&socket, to, MANY);
                assert_eq!((peer.ip(), len), (seen, MANY), "{to}");
            });
        }
    }
}

/// Serves a port with somebody who listens until all is said, and then says much.
fn listener(container: &Container, port: u16) -> Job {
    container.serve(|ready| {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(any).expect("a free port");
        ready();
        for connection in listener.incoming() {
            let mut connection = connection.expect("a client");
            let mut said = Vec::new();
            connection.read_to_end(&mut said).expect("an end");
            let answer = said.repeat(usize::try_from(LONG).expect("it is small") / said.len());
            connection.write_all(&answer).expect("the client listens");
        }
    })
}

/// Says something, says that this is all, and hears the answer to its end.
fn say_all(to: SocketAddr) {
    let mut connection = TcpStream::connect(to).expect("somebody listens");
    let patient = connection.set_read_timeout(Some(PATIENCE));
    patient.expect("a time that is not zero");
    connection.write_all(b"hello").expect("an open connection");
    connection
        .shutdown(Shutdown::Write)
        .expect("an open connection");
    let mut answer = Vec::new();
    connection
        .read_to_end(&mut answer)
        .expect("the server speaks on");
    assert_eq!(
        u64::try_from(answer.len()).expect("it is small"),
        LONG / 5 * 5
    );
    assert!(answer.starts_with(b"hellohello"));
}

fn a_server_speaks_on_when_the_client_has_said_all(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    attach_with(host, &bob, "shop", "bob", &["-p", "8080:80"]);
    let _servers = [listener(&internet, 80), listener(&bob, 80)];
    for family in FAMILIES {
        alice.run(|| say_all(SocketAddr::new(family.far(), 80)));
        internet.run(|| say_all(family.published(8080)));
        alice.run(|| say_all(family.published(8080)));
    }
}

/// Nobody listens at an address: over TCP and over UDP that is known at once, and is a refusal.
fn refused(to: SocketAddr) {
    let started = now();
    let connection = TcpStream::connect_timeout(&to, PATIENCE);
    let error = connection.expect_err("nobody listens").kind();
    assert_eq!(error, ErrorKind::ConnectionRefused, "{to}/tcp");
    let socket = udp(any(to.ip(), 0));
    socket.connect(to).expect("there is a route");
    socket.send(b"anybody?").expect("there is a route");
    let error = socket.recv(&mut [0]).expect_err("nobody listens").kind();
    assert_eq!(error, ErrorKind::ConnectionRefused, "{to}/udp");
    assert!(now() - started < PATIENCE / 2, "{to}");
}

fn refused_is_refused_in_every_direction(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let (alice, bob) = (host.container(), host.container());
    attach(host, &alice, "shop", "alice");
    let publish = ["-p", "8080:80/tcp", "-p", "8080:80/udp"];
    attach_with(host, &bob, "shop", "bob", &publish);
    for family in FAMILIES {
        // Outside, by a host there; inside, by bob's own kernel, who is asked from outside, by a neighbour and
        // by himself.
        alice.run(|| refused(SocketAddr::new(family.far(), 81)));
        for from in [&internet, &alice, &bob] {
            from.run(|| refused(family.published(8080)));
        }
    }
}

/// Begins to connect from a port of one's own, and does not wait.
fn begin_to_connect(from: SocketAddr, to: SocketAddr) -> TcpStream {
    let family = match from {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = rustix::net::socket_with(family, SocketType::STREAM, flags, None);
    let socket = socket.expect("a socket");
    rustix::net::bind(&socket, &from).expect("a free port");
    assert_eq!(rustix::net::connect(&socket, &to), Err(Errno::INPROGRESS));
    socket.into()
}

/// The connection that comes of it; both ends speak first.
fn meet(mut connection: TcpStream) {
    let patience = Timespec::try_from(PATIENCE).expect("it is short");
    let mut events = [PollFd::new(&connection, PollFlags::OUT)];
    assert_eq!(poll(&mut events, Some(&patience)), Ok(1), "no connection");
    let refused = connection.take_error().expect("a socket");
    assert!(refused.is_none(), "{refused:?}");
    connection.set_nonblocking(false).expect("a socket");
    let patient = connection.set_read_timeout(Some(PATIENCE));
    patient.expect("a time that is not zero");
    connection.write_all(b"hello").expect("an open connection");
    let mut said = [0; 5];
    connection.read_exact(&mut said).expect("the other one");
    assert_eq!(&said, b"hello");
}

/// Whoever is outside begins, and is not answered until somebody inside wants the same connection.
fn both_ends_may_connect_at_once(host: &mut Host) {
    host.heddle.start(&[]);
    let internet = internet::connect(host, &[]);
    let alice = host.container();
    attach(host, &alice, "shop", "alice");
    // A port of all IPv6 addresses would be one of all IPv4 ones as well: so one each.
    for (family, inside) in FAMILIES.into_iter().zip([4000, 4001]) {
        let far = SocketAddr::new(family.far(), 7000);
        let outside = SocketAddr::new(family.outside(), inside);
        let _far = internet.serve(|ready| {
            let connection = begin_to_connect(far, outside);
            ready();
            meet(connection);
        });
        alice.run(|| meet(begin_to_connect(any(family.far(), inside), far)));
    }
}
