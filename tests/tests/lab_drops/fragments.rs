//! The ways in which fragments end.

use std::time::Duration;

use heddle_switch::Cause;
use heddle_tests::lab::{SIDES, campus};
use heddle_wire::Protocol;

use super::Ends;

pub(crate) fn all(ends: &mut Ends) {
    for side in &SIDES {
        let [out, _] = side.outward(&campus(), "a", side.server);
        let part = |id: u32, offset: u16, len: usize, more| {
            let packet = out.clone().fragment(id, offset, more);
            packet.frame(Protocol::UDP, &vec![0; len])
        };
        let later = |id: u32| part(id, 64, 64, true);

        let mut lab = campus();
        lab.send("a", &later(1)).holds(1);
        lab.send("a", &later(1))
            .drops("a", Cause::FragmentDuplicate);
        ends.seen(Cause::FragmentDuplicate);
        lab.send("a", &part(1, 120, 16, true))
            .holds(-1)
            .drops_many("a", Cause::FragmentOverlap, 2);
        ends.seen(Cause::FragmentOverlap);
        lab.send("a", &later(2)).holds(1);
        lab.advance(Duration::from_secs(30))
            .holds(-1)
            .drops("a", Cause::FragmentIncomplete);
        ends.seen(Cause::FragmentIncomplete);

        let mut lab = campus();
        let frames: Vec<_> = (0..65).map(later).collect();
        lab.send_all("a", &frames)
            .holds(64)
            .drops("a", Cause::FragmentQuota);
        ends.seen(Cause::FragmentQuota);

        let mut lab = campus();
        let frames: Vec<_> = (8..137).map(|units| part(1, units * 8, 8, true)).collect();
        lab.send_all("a", &frames)
            .drops_many("a", Cause::FragmentsTooMany, 129);
        ends.seen(Cause::FragmentsTooMany);
    }
}
