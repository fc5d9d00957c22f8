//! An internet: a namespace in which a network's leg ends, with hosts far behind it. Documentation
//! addresses (RFC 5737, RFC 3849).

use std::net::{IpAddr, SocketAddr};

use heddle_tests::host::{Container, Host};
use ipnet::IpNet;

/// One family's view of the internet.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Family {
    /// heddle's address there, with the prefix length of the link.
    outside_net: &'static str,
    outside: &'static str,
    router: &'static str,
    far: &'static str,
}

/// Both families: IPv4, then IPv6.
pub(crate) const FAMILIES: [Family; 2] = [
    Family {
        outside_net: "203.0.113.2/24",
        outside: "203.0.113.2",
        router: "203.0.113.1",
        far: "198.51.100.1",
    },
    Family {
        outside_net: "2001:db8:1::2/64",
        outside: "2001:db8:1::2",
        router: "2001:db8:1::1",
        far: "2001:db8:99::1",
    },
];

impl Family {
    /// heddle's network there.
    pub(crate) fn net(self) -> IpNet {
        self.outside_net.parse().expect("a network")
    }

    /// heddle's address there.
    pub(crate) fn outside(self) -> IpAddr {
        parse(self.outside)
    }

    /// The next router, from which the internet's programs speak to heddle.
    pub(crate) fn router(self) -> IpAddr {
        parse(self.router)
    }

    /// A host far behind the router.
    pub(crate) fn far(self) -> IpAddr {
        parse(self.far)
    }

    /// A port of heddle's address.
    pub(crate) fn published(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.outside(), port)
    }
}

fn parse(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The internet, in whose namespace a network called `shop` has its leg.
pub(crate) fn connect(host: &Host, options: &[&str]) -> Container {
    let internet = host.container();
    internet.add_hosts(&FAMILIES.map(Family::far));
    create(host, "shop", &internet, options);
    internet
}

/// Creates a network with its leg there.
pub(crate) fn create(host: &Host, network: &str, internet: &Container, options: &[&str]) {
    let uplink = format!("netns:/proc/{}/ns/net", internet.pid);
    let arguments = creation(network, &uplink);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    host.heddle.run(&[&arguments, options].concat());
}

/// The command line that creates a network with this uplink and the internet's addresses.
pub(crate) fn creation(network: &str, uplink: &str) -> Vec<String> {
    let mut arguments = ["network", "create", network, "--uplink", uplink]
        .map(str::to_owned)
        .to_vec();
    for setting in settings() {
        arguments.extend(["-o".to_owned(), setting]);
    }
    arguments
}

/// The options that make the internet's addresses heddle's.
fn settings() -> Vec<String> {
    FAMILIES
        .iter()
        .flat_map(|family| {
            [
                format!("uplink_address={}", family.outside_net),
                format!("uplink_gateway={}", family.router),
            ]
        })
        .collect()
}
