//! The MAC addresses of a network: endpoints' and the gateway's, all following from what is known
//! already, so that they are the same after every restart.
//!
//! # Scheme
//!
//! An address is a prefix of two octets and four octets that tell endpoints apart. All prefixes are
//! unicast, locally administered, and in the quadrant that IEEE 802c leaves to the local
//! administrator (second digit 2). None is Docker's 02:42, so that both may share a segment, and
//! they differ from one another, so that the three kinds below never meet:
//!
//! - [`FROM_IPV4`] and the endpoint's first IPv4 address. Readable, unique where the address is,
//!   and the holder of an address always has the same MAC: neighbour caches stay right when an
//!   address moves on.
//! - [`FROM_HASH`] and a hash of network and IPv6 address, for an endpoint without IPv4. Four
//!   octets do not hold an IPv6 address, so two may collide. The hash is also the way out when the
//!   MAC that follows from an IPv4 address is held by an endpoint that asked for just that one.
//!   Collisions are resolved by counting up from the hash until a value is free: same holders, same
//!   outcome.
//! - [`GATEWAY`] and a hash of the network: the router's MAC never depends on which ports exist
//!   (a bridge that takes its lowest port's address changes it under every neighbour's feet).
//!
//! The hash is SHA-256 over a key of fixed length, what the hash is for, and the length of each
//! variable part before it. The key is the installation's: two hosts with a network of the same
//! identifier on one segment get different MACs.

use heddle_wire::MacAddr;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// First octets of a MAC that ends in an IPv4 address.
const FROM_IPV4: [u8; 2] = [0x72, 0x68];

/// First octets of a MAC that ends in a hash.
const FROM_HASH: [u8; 2] = [0x72, 0x69];

/// First octets of a gateway's MAC.
const GATEWAY: [u8; 2] = [0x72, 0x6a];

/// What a network is called, and what its MAC addresses follow from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkIdentity {
    /// The user's name for it; appears in messages.
    pub name: String,
    /// The generated identifier; never changes and never comes back.
    pub id: String,
    /// The installation's key; the same for all its networks and after every restart.
    pub key: [u8; 16],
}

/// Why a MAC address is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MacError {
    /// All octets are zero.
    #[error("{mac} is no MAC address of an endpoint; it is all zero")]
    Zero {
        /// The address as given.
        mac: MacAddr,
    },
    /// The group bit is set.
    #[error("{mac} is a multicast or broadcast address; the first octet of an endpoint's is even")]
    Group {
        /// The address as given.
        mac: MacAddr,
    },
    /// The router has it.
    #[error("{mac} is the gateway's address in network {network}")]
    Gateway {
        /// The address as given.
        mac: MacAddr,
        /// The network.
        network: String,
    },
    /// Another endpoint has it.
    #[error("{mac} is held by {holder} in network {network}")]
    Taken {
        /// The address as given.
        mac: MacAddr,
        /// The network.
        network: String,
        /// Who holds it.
        holder: String,
    },
}

impl NetworkIdentity {
    /// The router's MAC address in this network.
    #[must_use]
    pub fn gateway_mac(&self) -> MacAddr {
        assemble(GATEWAY, self.hash(b"gateway", &[]))
    }

    /// The MAC addresses that an endpoint with these addresses may get, best first. There are as
    /// many different ones as four octets can tell apart.
    pub(crate) fn endpoint_macs(&self, addresses: &[IpNet]) -> impl Iterator<Item = MacAddr> {
        let v4 = addresses.iter().find_map(|address| match address {
            IpNet::V4(address) => Some(address.addr()),
            IpNet::V6(_) => None,
        });
        let v6 = addresses.iter().find_map(|address| match address {
            IpNet::V4(_) => None,
            IpNet::V6(address) => Some(address.addr()),
        });
        let start = match (v4, v6) {
            (Some(v4), _) => self.hash(b"endpoint", &v4.octets()),
            (None, Some(v6)) => self.hash(b"endpoint", &v6.octets()),
            (None, None) => self.hash(b"endpoint", &[]),
        };
        let hashed = (0..=u32::MAX).map(move |step| assemble(FROM_HASH, start.wrapping_add(step)));
        v4.map(|v4| assemble(FROM_IPV4, v4.to_bits()))
            .into_iter()
            .chain(hashed)
    }

    /// Refuses what can be no endpoint's MAC address, whoever asks.
    pub(crate) fn check_mac(&self, mac: MacAddr) -> Result<(), MacError> {
        if mac == MacAddr::ZERO {
            Err(MacError::Zero { mac })
        } else if mac.is_multicast() {
            Err(MacError::Group { mac })
        } else if mac == self.gateway_mac() {
            Err(MacError::Gateway {
                mac,
                network: self.name.clone(),
            })
        } else {
            Ok(())
        }
    }

    fn hash(&self, purpose: &[u8], input: &[u8]) -> u32 {
        let Self { name: _, id, key } = self;
        let mut hash = Sha256::new_with_prefix(key);
        for part in [purpose, id.as_bytes(), input] {
            let length = u64::try_from(part.len()).expect("lengths fit 64 bits");
            hash.update(length.to_be_bytes());
            hash.update(part);
        }
        let [a, b, c, d, ..] = hash.finalize().0;
        u32::from_be_bytes([a, b, c, d])
    }
}

fn assemble(prefix: [u8; 2], rest: u32) -> MacAddr {
    let ([a, b], [c, d, e, f]) = (prefix, rest.to_be_bytes());
    MacAddr([a, b, c, d, e, f])
}

/// MAC addresses are stored as the text that users read and write.
pub(crate) mod text {
    use std::fmt;

    use heddle_wire::MacAddr;
    use serde::de::{Error, Visitor};
    use serde::{Deserializer, Serializer};

    pub(crate) fn serialize<S: Serializer>(mac: &MacAddr, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(mac)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<MacAddr, D::Error> {
        from.deserialize_str(MacVisitor)
    }

    struct MacVisitor;

    impl Visitor<'_> for MacVisitor {
        type Value = MacAddr;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a MAC address")
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<MacAddr, E> {
            text.parse().map_err(E::custom)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;

    fn network(id: &str) -> NetworkIdentity {
        NetworkIdentity {
            name: "lab".into(),
            id: id.into(),
            key: *b"0123456789abcdef",
        }
    }

    fn addresses(texts: &[&str]) -> Vec<IpNet> {
        texts
            .iter()
            .map(|text| IpNet::from(text.parse::<IpAddr>().unwrap()))
            .collect()
    }

    fn first_mac(network: &NetworkIdentity, texts: &[&str]) -> MacAddr {
        network.endpoint_macs(&addresses(texts)).next().unwrap()
    }

    #[test]
    fn prefixes_are_local_unicast_distinct_and_not_dockers() {
        let prefixes = [FROM_IPV4, FROM_HASH, GATEWAY, [0x02, 0x42]];
        for (position, prefix) in prefixes.iter().enumerate() {
            // IEEE 802c: the two lowest bits are local and individual, the next two say by whom.
            assert_eq!(prefix[0] & 0x0f, 0x02);
            assert!(!prefixes[..position].contains(prefix));
        }
    }

    #[test]
    fn an_endpoint_with_ipv4_has_its_first_ipv4_address_in_its_mac() {
        for texts in [
            &["10.64.0.9"][..],
            &["10.64.0.9", "fd00::9"],
            &["fd00::9", "10.64.0.9", "10.65.0.1"],
        ] {
            assert_eq!(
                first_mac(&network("n1"), texts).to_string(),
                "72:68:0a:40:00:09"
            );
        }
    }

    #[test]
    fn a_mac_from_ipv6_depends_on_key_network_and_address_but_not_on_the_name() {
        let base = network("n1");
        let mac = first_mac(&base, &["fd00::9"]);
        assert_eq!(mac.0[..2], FROM_HASH);
        assert_eq!(
            mac,
            first_mac(
                &NetworkIdentity {
                    name: "new".into(),
                    ..base.clone()
                },
                &["fd00::9"]
            )
        );
        assert_ne!(mac, first_mac(&base, &["fd00::a"]));
        assert_ne!(mac, first_mac(&network("n2"), &["fd00::9"]));
        assert_ne!(
            mac,
            first_mac(
                &NetworkIdentity {
                    key: [7; 16],
                    ..base
                },
                &["fd00::9"]
            )
        );
    }

    #[test]
    fn further_candidates_are_all_different() {
        for texts in [&["10.64.0.9"][..], &["fd00::9"]] {
            let network = network("n1");
            let macs: Vec<MacAddr> = network
                .endpoint_macs(&addresses(texts))
                .take(1000)
                .collect();
            let distinct: std::collections::HashSet<[u8; 6]> = macs.iter().map(|m| m.0).collect();
            assert_eq!(distinct.len(), 1000);
        }
    }

    #[test]
    fn the_gateway_mac_follows_from_network_and_key_alone() {
        let mac = network("n1").gateway_mac();
        assert_eq!(mac.0[..2], GATEWAY);
        assert_eq!(
            mac,
            NetworkIdentity {
                name: "other".into(),
                ..network("n1")
            }
            .gateway_mac()
        );
        assert_ne!(mac, network("n2").gateway_mac());
        // Computed from the description at the head of this file with an independent program.
        assert_eq!(mac.to_string(), "72:6a:75:24:4f:40");
        assert_eq!(
            first_mac(&network("n1"), &["fd00::9"]).to_string(),
            "72:69:98:44:60:d9"
        );
    }

    #[test]
    fn macs_that_no_endpoint_can_have_are_refused() {
        let network = network("n1");
        let refuse = |mac| network.check_mac(MacAddr(mac)).unwrap_err().to_string();
        assert_eq!(
            refuse([0; 6]),
            "00:00:00:00:00:00 is no MAC address of an endpoint; it is all zero"
        );
        for group in [
            [0xff; 6],
            [0x01, 0, 0x5e, 0, 0, 1],
            [0x33, 0x33, 0, 0, 0, 1],
        ] {
            assert!(refuse(group).contains("multicast or broadcast"));
        }
        let gateway = network.gateway_mac();
        assert_eq!(
            refuse(gateway.0),
            format!("{gateway} is the gateway's address in network lab")
        );
        assert_eq!(network.check_mac(MacAddr([0x52, 0x54, 0, 1, 2, 3])), Ok(()));
    }
}
