//! Sets of addresses: prefixes, single addresses and ranges of both IP versions.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net};
use thiserror::Error;

/// Addresses that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressRange {
    /// A prefix, or a single address.
    Net(IpNet),
    /// From the first to the last, both included.
    Between(IpAddr, IpAddr),
}

/// A set of addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressList(pub Vec<AddressRange>);

/// Why a text is no set of addresses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{text:?} {problem}; write ADDRESS, ADDRESS/LENGTH or FIRST-LAST, several with commas")]
pub struct AddressListError {
    text: String,
    problem: &'static str,
}

impl AddressRange {
    /// The first and the last address.
    #[must_use]
    pub fn ends(&self) -> (IpAddr, IpAddr) {
        match self {
            AddressRange::Net(net) => (net.network(), net.broadcast()),
            AddressRange::Between(first, last) => (*first, *last),
        }
    }
}

impl AddressList {
    /// Whether an address of a family is among them.
    #[must_use]
    pub fn has_family(&self, is_v4: bool) -> bool {
        self.0.iter().any(|range| range.ends().0.is_ipv4() == is_v4)
    }
}

impl FromStr for AddressList {
    type Err = AddressListError;

    fn from_str(text: &str) -> Result<AddressList, AddressListError> {
        let ranges = text.split(',').map(|part| {
            range(part.trim()).map_err(|problem| AddressListError {
                text: part.trim().to_owned(),
                problem,
            })
        });
        ranges.collect::<Result<_, _>>().map(AddressList)
    }
}

fn range(text: &str) -> Result<AddressRange, &'static str> {
    if let Some((first, last)) = text.split_once('-')
        && let (Ok(first), Ok(last)) = (first.trim().parse(), last.trim().parse())
    {
        let (first, last): (IpAddr, IpAddr) = (canonical(first), canonical(last));
        return if first.is_ipv4() != last.is_ipv4() {
            Err("begins in one IP version and ends in the other")
        } else if first > last {
            Err("ends before it begins")
        } else {
            Ok(AddressRange::Between(first, last))
        };
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(AddressRange::Net(IpNet::from(canonical(address))));
    }
    if let Ok(net) = text.parse::<IpNet>() {
        return Ok(AddressRange::Net(canonical_net(net.trunc())));
    }
    // As iptables has it: 10.0.0.0/255.0.0.0.
    if let Some((address, mask)) = text.split_once('/')
        && let (Ok(address), Ok(mask)) = (address.parse::<Ipv4Addr>(), mask.parse::<Ipv4Addr>())
    {
        return Ipv4Net::with_netmask(address, mask)
            .map(|net| AddressRange::Net(IpNet::V4(net.trunc())))
            .map_err(|_| "has a mask that is no prefix");
    }
    let is_name = text.contains(|letter: char| letter.is_ascii_alphabetic()) && !text.contains(':');
    Err(match () {
        () if text.is_empty() => "is empty",
        () if is_name => "is a name, and names are not looked up",
        () => "is no address",
    })
}

/// An IPv4-mapped address is the IPv4 address it means.
fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn canonical_net(net: IpNet) -> IpNet {
    let address = canonical(net.addr());
    let length = net.prefix_len().checked_sub(MAPPED_LENGTH);
    match (net, address, length) {
        (IpNet::V6(_), IpAddr::V4(_), Some(length)) => IpNet::new(address, length).unwrap_or(net),
        _ => net,
    }
}

/// Length of the prefix of IPv4-mapped addresses (RFC 4291 §2.5.5.2).
const MAPPED_LENGTH: u8 = 96;

impl fmt::Display for AddressRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AddressRange::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                write!(formatter, "{}", net.addr())
            }
            AddressRange::Net(net) => write!(formatter, "{net}"),
            AddressRange::Between(first, last) => write!(formatter, "{first}-{last}"),
        }
    }
}

impl fmt::Display for AddressList {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        super::spelling::join(formatter, &self.0)
    }
}
