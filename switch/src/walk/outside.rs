//! From a leg: the outside sees one station with the leg's addresses, and only that.

use heddle_wire::Network as Content;

use super::gateway::{Station, is_discovery};
use super::router::validate;
use super::{Refused, Walk};
use crate::drop::Cause;
use crate::frame::Frame;
use crate::leg::PortLeg;
use crate::neighbour::Link;
use crate::port::Port;

impl Walk<'_> {
    /// A frame that arrived at a leg.
    pub(super) fn receive_from_leg(
        &mut self,
        ingress: &Port,
        leg: &PortLeg,
        frame: &mut Frame<'_>,
    ) -> Result<(), Refused> {
        if frame.is_priority_tagged() {
            return self.receive_untagged(ingress, frame, |walk, frame| {
                walk.receive_from_leg(ingress, leg, frame)
            });
        }
        let destination = frame.summary.destination;
        let for_us = destination == leg.mac || destination.is_multicast();
        if !for_us || frame.summary.tags != 0 {
            return Err(Cause::NotForLeg.into());
        }
        let station = Station {
            mac: leg.mac,
            link: Link::Leg(leg.id),
            routes: false,
        };
        let owns = |address| leg.owns(address);
        let summary = frame.summary;
        match &summary.network {
            Content::Arp(arp) => self.resolve_arp(ingress, arp, station, owns),
            Content::Ip(ip) if is_discovery(ip) => {
                self.resolve_discovery(ingress, frame, ip, station, owns)
            }
            Content::Ip(_) if destination.is_multicast() => Err(Cause::NotForLeg.into()),
            Content::Ip(ip) => {
                validate(frame, ip)?;
                if self.config.subnet_of(ip.source).is_some() {
                    return Err(Cause::InsideFromOutside.into());
                }
                if leg.owns(ip.source) || leg.is_broadcast(ip.source) {
                    return Err(Cause::MartianSource.into());
                }
                if !leg.owns(ip.destination) {
                    let inside = self.config.subnet_of(ip.destination).is_some();
                    let cause = if inside {
                        Cause::InsideFromOutside
                    } else {
                        Cause::NotForLeg
                    };
                    return Err(cause.into());
                }
                leg.inbound(self, ingress, frame, ip)
            }
            Content::Malformed(malformed) => Err((*malformed).into()),
            Content::Other => Err(Cause::NotForLeg.into()),
        }
    }
}
