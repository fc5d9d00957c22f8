//! What the two ends of a connection have sent and may send, and which segments that lets pass.
//!
//! The four inequalities are those of the [theory](super).

use heddle_wire::TcpFlags;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::{Segment, Tracking};
use crate::tuple::Direction;

/// Smallest look-back of inequality IV. Larger than any unscaled window, so that an acknowledgement
/// which was overtaken by a full window of others is still taken.
pub(super) const ACK_WINDOW: u32 = 66_000;

/// Largest shift of the window scale option (RFC 7323 §2.3).
pub(super) const MAX_WINDOW_SHIFT: u8 = 14;

/// Largest window there is (RFC 7323 §2.3), which keeps all comparisons within half of the sequence
/// space.
pub(super) const MAX_WINDOW: u32 = 1 << 30;

/// What one end has sent and may send.
///
/// `window == 0` means that nothing has been seen from this end yet: a window that is announced as
/// zero is kept as one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout,
)]
#[repr(C)]
pub struct Window {
    /// Highest sequence number sent, plus one.
    pub end: u32,
    /// Highest sequence number the other end has allowed. Until the other end has answered, the
    /// octet behind the SYN: what its answer must acknowledge at least.
    pub edge: u32,
    /// Largest window this end has announced, in octets.
    pub window: u32,
    /// Highest acknowledgement this end has sent. Until it has sent one, the sequence number of the
    /// other end's SYN.
    pub acknowledged: u32,
}

impl Window {
    #[inline]
    pub(super) fn is_known(&self) -> bool {
        self.window != 0
    }

    /// Inequality I.
    #[inline]
    pub(super) fn allows(&self, sequence: u32) -> bool {
        not_after(sequence, self.edge) || not_after(sequence, self.end)
    }

    /// Starts over from the SYN of a connection.
    pub(super) fn from_syn(segment: &Segment) -> Window {
        Window {
            end: segment.end(),
            edge: segment.sequence.wrapping_add(1),
            window: u32::from(segment.window).max(1),
            acknowledged: 0,
        }
    }
}

/// Nearly every segment of a connection that is open: acknowledges, lies inside the window, and
/// moves it forward. Does in place what [`Tracking::update`] does, in a fraction of the time, and
/// changes nothing where it answers no; then that one decides.
#[inline]
pub(crate) fn follows(
    windows: &mut [Window; 2],
    shifts: [u8; 2],
    side: Direction,
    segment: &Segment,
) -> bool {
    let decisive = TcpFlags::RST | TcpFlags::SYN | TcpFlags::FIN;
    if segment.flags.intersects(decisive) || !segment.flags.contains(TcpFlags::ACK) {
        return false;
    }
    let [original, reply] = windows;
    let (sender, receiver) = match side {
        Direction::Original => (original, reply),
        Direction::Reply => (reply, original),
    };
    let end = segment.sequence.wrapping_add(segment.payload_len);
    let acknowledgement = segment.acknowledgement;
    let known = sender.is_known() && receiver.is_known();
    if !known
        || !sender.allows(segment.sequence)
        || !is_recent(sender, receiver, end)
        || !may_acknowledge(sender, receiver, acknowledgement)
    {
        return false;
    }
    let announced = scaled(segment.window, shifts, side);
    move_forward(sender, receiver, end, announced);
    acknowledge(sender, receiver, acknowledgement, announced);
    true
}

/// Inequality II.
#[inline]
pub(super) fn is_recent(sender: &Window, receiver: &Window, end: u32) -> bool {
    not_after(
        sender.end.wrapping_sub(receiver.window).wrapping_sub(1),
        end,
    )
}

/// Inequalities III and IV.
#[inline]
pub(super) fn may_acknowledge(sender: &Window, receiver: &Window, acknowledgement: u32) -> bool {
    let look_back = (2 * sender.window).clamp(ACK_WINDOW, MAX_WINDOW);
    is_between(
        sender.acknowledged.wrapping_sub(look_back),
        acknowledgement,
        receiver.end,
    )
}

/// A window field in octets. Scaling is on only when both ends offered it (RFC 7323 §2.2).
#[inline]
pub(super) fn scaled(window: u16, shifts: [u8; 2], side: Direction) -> u32 {
    let window = u32::from(window);
    let [original, reply] = shifts;
    if original == Tracking::NO_SHIFT || reply == Tracking::NO_SHIFT {
        return window;
    }
    window << shifts[side.index()].min(MAX_WINDOW_SHIFT)
}

/// What an accepted segment that ends at `end` says of its sender.
#[inline]
pub(super) fn move_forward(sender: &mut Window, receiver: &mut Window, end: u32, announced: u32) {
    sender.window = sender.window.max(announced);
    if !is_after(end, sender.end) {
        return;
    }
    // A sender that goes beyond the edge was allowed to by a window we did not see, or does
    // not care; what it sends again may lie that much further back.
    let furthest = if is_after(sender.edge, sender.end) {
        sender.edge
    } else {
        sender.end
    };
    if is_after(end, furthest) {
        let window = receiver.window.saturating_add(end.wrapping_sub(furthest));
        receiver.window = window.min(MAX_WINDOW);
    }
    sender.end = end;
}

/// What an accepted acknowledgement allows the other end.
#[inline]
pub(super) fn acknowledge(
    sender: &mut Window,
    receiver: &mut Window,
    acknowledgement: u32,
    announced: u32,
) {
    if is_after(acknowledgement, sender.acknowledged) {
        sender.acknowledged = acknowledgement;
    }
    // Even a closed window may be probed with one octet (RFC 9293 §3.8.6.1).
    let edge = acknowledgement.wrapping_add(announced.max(1));
    if is_after(edge, receiver.edge) {
        receiver.edge = edge;
    }
}

/// `a <= b` in sequence space (RFC 9293 §3.4: arithmetic modulo 2^32).
#[inline]
pub(super) fn not_after(a: u32, b: u32) -> bool {
    b.wrapping_sub(a) < 1 << 31
}

/// `a > b` in sequence space.
#[inline]
pub(super) fn is_after(a: u32, b: u32) -> bool {
    !not_after(a, b)
}

/// `first <= number <= last` in sequence space.
#[inline]
pub(super) fn is_between(first: u32, number: u32, last: u32) -> bool {
    not_after(first, number) && not_after(number, last)
}
