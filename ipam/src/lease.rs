//! What an endpoint asks for, what it gets, and what is left when it goes.

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use heddle_wire::MacAddr;
use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::family::Families;
use crate::mac;

/// What an endpoint asks of a network. The default asks for what most want: one address of every
/// family that the network has, and a MAC address that follows from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Addresses wanted by name, each inside one of the network's subnets.
    pub addresses: Vec<IpAddr>,
    /// Subnets of the network in each of which an address is wanted, whichever it is. A subnet
    /// listed twice gives two.
    pub subnets: Vec<IpNet>,
    /// Families of which an address is wanted in any case: if neither `addresses` nor `subnets`
    /// brings one, it is chosen. `None` stands for all that the network has.
    pub families: Option<Families>,
    /// The MAC address, if it must be a certain one.
    pub mac: Option<MacAddr>,
}

/// The addresses that one endpoint holds in one network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lease {
    /// Who holds them.
    pub holder: String,
    /// The addresses, each with the prefix length of its subnet: those asked for by name first,
    /// then those chosen. Never empty.
    pub addresses: Vec<IpNet>,
    /// The MAC address.
    #[serde(with = "mac::text")]
    pub mac: MacAddr,
}

impl Lease {
    /// The addresses without their prefix lengths.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.addresses.iter().map(IpNet::addr)
    }
}

/// An address that was released and rests before it is given out unasked again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rest {
    /// The address.
    pub address: IpAddr,
    /// Who held it last.
    pub holder: String,
    /// When it was released.
    pub released: SystemTime,
}

impl Rest {
    /// How long the quarantine lasts from `now` on; zero when it is over.
    ///
    /// Releases are remembered across restarts, so they are told in wall-clock time, and that clock
    /// may be set back between them and now. A release that seems to lie in the future is as far
    /// away as it seems: a small step back prolongs the quarantine by that step, a large one ends
    /// it, and in no case does it last more than twice as long as it should.
    #[must_use]
    pub fn remaining(&self, quarantine: Duration, now: SystemTime) -> Duration {
        match now.duration_since(self.released) {
            Ok(since) => quarantine.saturating_sub(since),
            Err(ahead) if ahead.duration() >= quarantine => Duration::ZERO,
            Err(ahead) => quarantine.saturating_add(ahead.duration()),
        }
    }

    pub(crate) fn is_over(&self, quarantine: Duration, now: SystemTime) -> bool {
        self.remaining(quarantine, now).is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarantine_ends_on_time_and_survives_a_clock_that_is_set_back() {
        let seconds = Duration::from_secs;
        let released = SystemTime::UNIX_EPOCH + seconds(1000);
        let rest = Rest {
            address: [10, 64, 0, 2].into(),
            holder: "web".into(),
            released,
        };
        for (now, expected) in [
            (1000, 10),
            (1004, 6),
            (1010, 0),
            (9999, 0),
            // Set back a little: the quarantine lasts until the same time as before.
            (997, 13),
            // Set back by a lot: who knows how long it has lasted.
            (990, 0),
            (0, 0),
        ] {
            let now = SystemTime::UNIX_EPOCH + seconds(now);
            assert_eq!(
                rest.remaining(seconds(10), now),
                seconds(expected),
                "{now:?}"
            );
        }
        assert!(rest.is_over(Duration::ZERO, released));
    }
}
