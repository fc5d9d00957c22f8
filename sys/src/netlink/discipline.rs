//! The queueing discipline at an interface's root.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// Makes an interface hand frames to its driver without queueing them (`noqueue`). To be done
    /// before it is set up for the first time.
    ///
    /// For a TAP: its driver has the queue that is read, so that another in front of it only delays
    /// the same frames; and a TAP of several queues would get one for each of its 256 transmit
    /// queues, 6 MiB at a length of 1,000 and 48 MiB at 5,000 (tried, with `pfifo_fast`).
    pub fn remove_queueing(&mut self, interface: u32) -> Result<(), NetlinkError> {
        let mut message = TcMessage::default();
        message.header.index = i32::try_from(interface).unwrap_or_default();
        message.header.parent = TcHandle::ROOT;
        message
            .attributes
            .push(TcAttribute::Kind("noqueue".to_owned()));
        let message = RouteNetlinkMessage::NewQueueDiscipline(message);
        let result = self.execute(message, NLM_F_CREATE | NLM_F_REPLACE);
        result.map_err(|failure| {
            failure.during(format!("removing the queue of {}", self.name_of(interface)))
        })
    }
}
