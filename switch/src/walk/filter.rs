//! Rules, asked about a packet between the translation of its destination and that of its source.
//!
//! They see what both ends inside know: the source before translation, the destination behind it. A packet
//! whose next hop must be asked for first walks again when it has answered; only then it is counted, unless
//! it ends here anyway.

use heddle_nat::filter::{
    Area, Interface, Judgement, NetworkNumber, Question, Rejection, RuleSet, State,
};
use heddle_nat::{Direction, Hit, Side, TranslatedError, Tuple};
use heddle_wire::{Address, Ip, Protocol};

use super::egress::NextHop;
use super::translate::packet_of;
use super::{Answer, Refused, Walk};
use crate::drop::Cause;
use crate::frame::Frame;
use crate::port::{Port, PortId};

/// Where a packet comes in and goes out.
pub(super) type Between<'p> = (&'p Port, &'p Port);

impl Walk<'_> {
    /// A packet of a known session.
    #[inline(never)]
    pub(super) fn filter_known(
        &self,
        rules: &RuleSet,
        between: Between<'_>,
        frame: &Frame<'_>,
        ip: &Ip,
        hit: &Hit<'_>,
        hop: NextHop,
    ) -> Result<(), Refused> {
        let session = hit.session();
        let direction = hit.direction();
        let original = session.tuple(Direction::Original);
        let to = hit.rewrite();
        let belongs = !rules.asks_for_invalid()
            || ip.protocol != Protocol::TCP
            || session.accepts(direction, &packet_of(frame, ip));
        let question = Question {
            state: if belongs {
                state_of(hit)
            } else {
                State::Invalid
            },
            direction,
            original: Some((original.destination, original.destination_port)),
            ..translated(between, ip).to(to.destination, to.destination_port)
        };
        self.judge(rules, &question, hop)
    }

    /// The first packet of a session, that leads to the address and port `to`.
    #[inline(never)]
    pub(super) fn filter_new(
        &self,
        rules: &RuleSet,
        between: Between<'_>,
        ip: &Ip,
        tuple: &Tuple,
        to: (Address, u16),
        hop: NextHop,
    ) -> Result<(), Refused> {
        let question = Question {
            original: Some((tuple.destination, tuple.destination_port)),
            ..translated(between, ip).to(to.0, to.1)
        };
        self.judge(rules, &question, hop)
    }

    /// An ICMP error about a packet of a session.
    #[inline(never)]
    pub(super) fn filter_related(
        &self,
        rules: &RuleSet,
        between: Between<'_>,
        ip: &Ip,
        error: &TranslatedError,
        hop: NextHop,
    ) -> Result<(), Refused> {
        let question = Question {
            state: State::Related,
            original: Some(error.original),
            ..translated(between, ip).to(error.destination, 0)
        };
        self.judge(rules, &question, hop)
    }

    /// A packet that ends in any case, because it belongs to nothing and can begin nothing; rules may still
    /// want to count it, and to end it their way. `egress` is where it would have gone out.
    pub(super) fn filter_invalid(
        &self,
        ingress: &Port,
        egress: Option<PortId>,
        ip: &Ip,
        refused: Refused,
    ) -> Refused {
        let Some(rules) = self.config.rules() else {
            return refused;
        };
        let Some(egress) = egress.and_then(|egress| self.config.port(egress)) else {
            return refused;
        };
        let question = Question {
            state: State::Invalid,
            ..translated((ingress, egress), ip)
        };
        self.judge_now(rules, &question).err().unwrap_or(refused)
    }

    fn judge(&self, rules: &RuleSet, question: &Question, hop: NextHop) -> Result<(), Refused> {
        if matches!(hop, NextHop::Unknown(..)) {
            let foreseen = rules.foresee(question, self.local.worker, self.now);
            if foreseen == Judgement::Accept {
                return Ok(());
            }
        }
        self.judge_now(rules, question)
    }

    pub(super) fn judge_now(&self, rules: &RuleSet, question: &Question) -> Result<(), Refused> {
        match rules.judge(question, self.local.worker, self.now) {
            Judgement::Accept => Ok(()),
            Judgement::Drop => Err(Cause::FilterDropped.into()),
            Judgement::Reject(how) => {
                let answer = match how {
                    Rejection::Prohibited => Answer::Prohibited,
                    Rejection::Reset if question.protocol == Protocol::TCP => Answer::Reset,
                    Rejection::PortUnreachable | Rejection::Reset => Answer::PortUnreachable,
                };
                Err(Refused::with(Cause::FilterRejected, answer))
            }
        }
    }
}

/// How a packet of a known session stands to it.
pub(super) fn state_of(hit: &Hit<'_>) -> State {
    let answered = hit.session().traffic(Direction::Reply).0 > 0;
    if answered || hit.direction() == Direction::Reply {
        State::Established
    } else {
        State::New
    }
}

pub(super) fn interface(port: &Port) -> Interface {
    Interface {
        side: Side(port.id.0),
        network: port.network().map(|id| NetworkNumber(id.0)),
    }
}

/// A packet whose way leads through the translation.
fn translated((ingress, egress): Between<'_>, ip: &Ip) -> Question {
    let stays = ingress.network().is_some() && ingress.network() == egress.network();
    let area = if stays { Area::Hairpin } else { Area::Routed };
    Question::plain(ip, area, interface(ingress), interface(egress))
}
