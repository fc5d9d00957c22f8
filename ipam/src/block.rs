//! One subnet's stock of addresses for the automatic choice.
//!
//! Every address that the choice may ever give out is in exactly one of three places:
//!
//! - *free*: never given out, or so long ago that it was forgotten;
//! - *resting*: released, in the order of release;
//! - *held*: in no collection here, but in the lease that holds it.
//!
//! The choice goes through the free ones in ascending order, starting behind the address that it
//! gave out last and beginning anew at the end ("next fit"), so that an address rests as long as
//! the subnet allows. Only when none is free does the longest-resting one come back, and only after
//! its quarantine. The rests are what a restart must remember, hence their number is bounded by
//! [`REMEMBERED_RESTS`]: past it, the oldest becomes free. It is behind the point where the choice
//! continues, so it comes up late all the same.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use ipnet::IpNet;

use crate::family::number;
use crate::lease::Rest;
use crate::range_set::RangeSet;
use crate::subnet::Subnet;

/// How many rests a subnet remembers beyond those in quarantine. Subnets up to an IPv4 /22 reuse
/// their addresses in exactly the order of release; a record takes about a hundred bytes in store.
pub const REMEMBERED_RESTS: usize = 1024;

/// A subnet's addresses; see the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    subnet: Subnet,
    free: RangeSet,
    resting: VecDeque<Rest>,
    /// What the choice gave out last, be it free or resting before.
    last_given: Option<IpAddr>,
}

/// How far a subnet is used up, as far as the automatic choice is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// The subnet.
    pub subnet: IpNet,
    /// Addresses that the automatic choice may give out: neither the network's nor the gateway's,
    /// reserved, or outside of the range.
    pub total: u128,
    /// Of these, addresses in a lease.
    pub held: u128,
    /// Of these, addresses that were released and come back when no other is free.
    pub resting: u128,
    /// Of these, addresses that are given out next.
    pub free: u128,
    /// How long the quarantine of the first resting address lasts; `None` if none rests.
    pub first_rested_in: Option<Duration>,
}

impl Block {
    pub(crate) fn new(subnet: Subnet) -> Self {
        let free = subnet.automatic();
        Self {
            subnet,
            free,
            resting: VecDeque::new(),
            last_given: None,
        }
    }

    pub(crate) const fn subnet(&self) -> &Subnet {
        &self.subnet
    }

    pub(crate) const fn last_given(&self) -> Option<IpAddr> {
        self.last_given
    }

    pub(crate) const fn resting(&self) -> &VecDeque<Rest> {
        &self.resting
    }

    /// The next free address apart from those in `others`.
    pub(crate) fn next_free(&self, others: &[IpNet]) -> Option<IpNet> {
        let start = self.last_given.map_or(0, |address| number(address) + 1);
        self.first_free(start, others)
            .or_else(|| self.first_free(0, others))
    }

    fn first_free(&self, from: u128, others: &[IpNet]) -> Option<IpNet> {
        let mut candidate = self.free.first_from(from)?;
        loop {
            let address = self
                .subnet
                .with_prefix(self.subnet.family().address(candidate));
            // `others` belong to one request: a handful of addresses.
            if !others.contains(&address) {
                return Some(address);
            }
            candidate = self.free.first_from(candidate + 1)?;
        }
    }

    /// The longest-resting address apart from those in `others`.
    pub(crate) fn oldest_rest(&self, others: &[IpNet]) -> Option<&Rest> {
        self.resting
            .iter()
            .find(|rest| !others.contains(&self.subnet.with_prefix(rest.address)))
    }

    /// The address that this holder released first, apart from those in `others`.
    pub(crate) fn rest_of(&self, holder: &str, others: &[IpNet]) -> Option<&Rest> {
        self.resting.iter().find(|rest| {
            rest.holder == holder && !others.contains(&self.subnet.with_prefix(rest.address))
        })
    }

    /// Marks an address of the subnet as held. Addresses that the automatic choice does not know
    /// are no concern of the block.
    pub(crate) fn take(&mut self, address: IpAddr) {
        if !self.free.remove(number(address))
            && let Some(position) = self.resting.iter().position(|rest| rest.address == address)
        {
            self.resting.remove(position);
        }
    }

    /// Remembers what the automatic choice gave out; it goes on behind it.
    pub(crate) fn continue_after(&mut self, address: IpAddr) {
        self.last_given = Some(address);
    }

    /// Takes an address back from its holder and lets it rest.
    pub(crate) fn give_back(&mut self, rest: Rest, quarantine: Duration) {
        if !self.subnet.is_automatic(rest.address) {
            return;
        }
        let now = rest.released;
        self.resting.push_back(rest);
        while self.resting.len() > REMEMBERED_RESTS
            && let Some(oldest) = self
                .resting
                .pop_front_if(|rest| rest.is_over(quarantine, now))
        {
            self.free.insert(number(oldest.address));
        }
    }

    /// Puts back a rest from store, behind those put back before. `false` if the address is not
    /// free to rest: unknown to the automatic choice, held, or resting already.
    pub(crate) fn restore_rest(&mut self, rest: Rest) -> bool {
        let known = self.subnet.network().contains(&rest.address);
        let fits = known && self.free.remove(number(rest.address));
        if fits {
            self.resting.push_back(rest);
        }
        fits
    }

    pub(crate) fn usage(&self, quarantine: Duration, now: SystemTime) -> Usage {
        let total = self.subnet.automatic().count();
        let resting = u128::try_from(self.resting.len()).expect("lengths fit 128 bits");
        let free = self.free.count();
        Usage {
            subnet: self.subnet.network(),
            total,
            held: total - free - resting,
            resting,
            free,
            first_rested_in: self
                .resting
                .front()
                .map(|rest| rest.remaining(quarantine, now)),
        }
    }
}

impl fmt::Display for Usage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            subnet,
            total,
            held,
            resting,
            free,
            first_rested_in,
        } = self;
        write!(f, "{subnet}: {held} of {total} held, {free} free")?;
        match first_rested_in {
            None => Ok(()),
            // Rounded up: a user who waits as long as told must find the address.
            Some(wait) => {
                let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
                write!(
                    f,
                    ", {resting} resting after release (the first for {seconds} s)"
                )
            }
        }
    }
}
