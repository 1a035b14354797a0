//! What a fault excuses. A loss is to be expected only where something of its kind was made to go wrong: an outage
//! explains lines that wait, while it lasts; the app's end is explained by who killed it; what was refused to be done
//! explains nothing.

use crate::fault::DynoFaultKind;
use std::collections::BTreeSet;
use tailrace_drain::fault::Kind;

/// What was made to go wrong with a dyno, as far as it explains what is missing at its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedLoss {
    /// The app's own process was killed.
    pub app_killed: bool,
    /// What kept lines from being delivered when the dyno ended, in the words of who asked for it.
    pub held: BTreeSet<String>,
    /// Answers were in force that refuse lines for good.
    pub rejected: bool,
    /// Why lines may have been dropped, in the words of the ledger.
    pub dropped: BTreeSet<&'static str>,
}

/// What a fault of the receiver does to lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// They wait.
    Holds,
    /// They are refused for good.
    Refuses,
    /// Nothing that anybody may lose them for.
    Nothing,
}

/// As README has it, "answer of the drain".
fn effect(kind: Kind) -> Effect {
    match kind {
        Kind::Status(200..=299) => Effect::Nothing,
        Kind::Status(401 | 403 | 404 | 408 | 425 | 429) => Effect::Holds,
        // Of a batch that is halved again and again the last line is refused, too.
        Kind::Status(400..=499) | Kind::TooLarge(_) => Effect::Refuses,
        Kind::Status(_)
        | Kind::Refuse
        | Kind::TlsStall
        | Kind::WrongCert
        | Kind::ResetBefore
        | Kind::ResetAfter
        | Kind::Stall(_)
        | Kind::SlowRead(_)
        | Kind::Latency(_) => Effect::Holds,
        _ => Effect::Nothing,
    }
}

impl ExpectedLoss {
    /// Takes the faults of the receiver: those that are in force, and the kinds of those that were until now.
    pub fn receiver(&mut self, in_force: Vec<(Kind, String)>, so_far: &[Kind]) {
        let holds = in_force.into_iter().filter(|(kind, _)| effect(*kind) == Effect::Holds);
        self.held.extend(holds.map(|(_, spec)| spec));
        self.rejected |= so_far.iter().any(|kind| effect(*kind) == Effect::Refuses);
        if so_far.iter().any(|kind| effect(*kind) == Effect::Holds) {
            self.dropped.insert("spool-full");
        }
    }

    /// Takes a fault that struck the dyno, whether it lasts or not.
    pub fn strike(&mut self, what: DynoFaultKind, lasts: bool) {
        match what {
            DynoFaultKind::AppKilled => self.app_killed = true,
            DynoFaultKind::ShipperStopped => {
                if lasts {
                    self.held.insert("shipper=stop".to_owned());
                }
                self.dropped.insert("spool-full");
            }
            DynoFaultKind::DiskFull => self.dropped.extend(["spool-full", "spool-unwritable"]),
            // Neither costs a line.
            DynoFaultKind::ShipperKilled | DynoFaultKind::MemoryGrown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(in_force: &[Kind], so_far: &[Kind]) -> ExpectedLoss {
        let mut excuse = ExpectedLoss::default();
        excuse.receiver(in_force.iter().map(|kind| (*kind, format!("{kind:?}"))).collect(), so_far);
        excuse
    }

    #[test]
    fn an_outage_excuses_what_waits_while_it_lasts() {
        assert_eq!(of(&[Kind::Refuse], &[Kind::Refuse]).held, ["Refuse".to_owned()].into());
        let over = of(&[], &[Kind::Refuse]);
        assert!(over.held.is_empty() && !over.rejected && over.dropped == ["spool-full"].into());
        for kind in [Kind::Status(404), Kind::Status(503), Kind::Latency(std::time::Duration::ZERO)] {
            assert_eq!(of(&[kind], &[kind]).held.len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn only_refusals_excuse_refused_lines() {
        for (kind, rejected) in [
            (Kind::Status(400), true),
            (Kind::Status(410), true),
            (Kind::TooLarge(1), true),
            (Kind::Status(404), false),
            (Kind::Status(503), false),
            (Kind::Swallow, false),
        ] {
            assert_eq!(of(&[], &[kind]).rejected, rejected, "{kind:?}");
        }
        assert!(of(&[Kind::Status(400)], &[Kind::Status(400)]).held.is_empty());
    }

    #[test]
    fn what_costs_no_line_excuses_none() {
        let mut excuse =
            of(&[Kind::Swallow, Kind::Deaf, Kind::JsonProblem], &[Kind::Swallow, Kind::CloseAfterAnswer]);
        excuse.strike(DynoFaultKind::ShipperKilled, true);
        excuse.strike(DynoFaultKind::MemoryGrown, true);
        assert_eq!(excuse, ExpectedLoss::default());
        excuse.strike(DynoFaultKind::AppKilled, false);
        assert_eq!(excuse, ExpectedLoss { app_killed: true, ..ExpectedLoss::default() });
        excuse.strike(DynoFaultKind::ShipperStopped, false);
        assert!(excuse.held.is_empty(), "it went on");
        excuse.strike(DynoFaultKind::ShipperStopped, true);
        assert_eq!(excuse.held.len(), 1);
    }
}
