//! Which addresses exist and who holds them.
//!
//! A tour, in the order in which a network comes into being and fills up:
//!
//! 1. [`Pools`] are the stock. [`Pools::carve`] takes a subnet from it that meets neither another
//!    network nor a route of the host.
//! 2. [`Subnet`] is a network with a gateway and, where wanted, a range and reserved addresses;
//!    [`Subnet::new`] knows the rules for both families.
//! 3. [`Subnets`] are those of one network. [`Subnets::plan`] settles them for a new network from
//!    what the user named and what the pools must add.
//! 4. [`Leases`] tell who holds what in one network. [`Leases::allocate`] answers a [`Request`]
//!    with a [`Lease`] of addresses and a MAC address, [`Leases::release`] takes it back and lets
//!    the addresses rest ([`Rest`]), [`Leases::usage`] counts.
//! 5. [`NetworkIdentity`] is what MAC addresses follow from, the gateway's included.
//! 6. [`LeasesState`] is all of it as plain data, checked when it comes back.
//!
//! Nothing here does input or output, reads a clock or draws random numbers: routes, existing
//! networks, the time and the seeds are arguments, and the same arguments give the same answer. A
//! call that fails changes nothing. Errors carry what a message to the user needs: which network,
//! which address, who holds it, what would be right.

#![forbid(unsafe_code)]

mod block;
mod family;
mod lease;
mod leases;
mod mac;
mod pool;
mod range_set;
mod special;
mod subnet;
mod subnets;

pub use block::{REMEMBERED_RESTS, Usage};
pub use family::{Families, Family};
pub use lease::{Lease, Request, Rest};
pub use leases::state::{LeasesState, StateError};
pub use leases::{DEFAULT_QUARANTINE, LeaseError, Leases};
pub use mac::{MacError, NetworkIdentity};
pub use pool::{DEFAULT_SIZE_V4, DEFAULT_SIZE_V6, Pool, PoolError, Pools, SHORTEST_PLACE};
pub use special::SpecialUse;
pub use subnet::{
    AddressRange, GatewayChoice, LONGEST_V4_WITH_GATEWAY, LONGEST_V6, Role, Subnet, SubnetConfig,
    SubnetError,
};
pub use subnets::{NamedSubnet, Subnets, SubnetsError, SubnetsRequest};
