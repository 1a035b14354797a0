//! Which losses the injected faults explain. A fault explains only losses of its own kind: an outage explains lines that
//! are still held while it lasts, killing the app explains the app's exit. A fault that was not injected explains
//! nothing.

use crate::fault::DynoFaultKind;
use std::collections::BTreeSet;
use tailrace_drain::fault::FaultKind;

/// The losses that are to be expected of one run of a dyno.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExpectedLoss {
    /// The app's process was killed by a fault.
    pub app_killed: bool,
    /// The faults that blocked delivery when the run ended, as they were requested.
    pub held_by: BTreeSet<String>,
    /// The receiver was made to reject lines.
    pub rejected: bool,
    /// Drop reasons of the ledger that the faults explain.
    pub drop_reasons: BTreeSet<&'static str>,
}

/// The effect of a receiver's fault on lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Lines stay in the spool.
    Holds,
    /// Lines are rejected for good.
    Rejects,
    /// No line may be lost.
    None,
}

/// The effect of a fault; statuses as in the README, "answer of the drain".
fn effect(kind: FaultKind) -> Effect {
    match kind {
        FaultKind::Status(200..=299) => Effect::None,
        FaultKind::Status(401 | 403 | 404 | 408 | 425 | 429) => Effect::Holds,
        // A batch that is too large is split until a single line remains, which is then rejected.
        FaultKind::Status(400..=499) | FaultKind::TooLarge(_) => Effect::Rejects,
        FaultKind::Status(_)
        | FaultKind::Refuse
        | FaultKind::TlsStall
        | FaultKind::WrongCert
        | FaultKind::ResetBefore
        | FaultKind::ResetAfter
        | FaultKind::Stall(_)
        | FaultKind::SlowRead(_)
        | FaultKind::Latency(_) => Effect::Holds,
        _ => Effect::None,
    }
}

impl ExpectedLoss {
    /// Adds the faults of the receiver: those in force with their specs, and the kinds of all that have been in force.
    pub fn add_receiver_faults(&mut self, in_force: Vec<(FaultKind, String)>, so_far: &[FaultKind]) {
        let holding = in_force.into_iter().filter(|(kind, _)| effect(*kind) == Effect::Holds);
        self.held_by.extend(holding.map(|(_, spec)| spec));
        self.rejected |= so_far.iter().any(|kind| effect(*kind) == Effect::Rejects);
        if so_far.iter().any(|kind| effect(*kind) == Effect::Holds) {
            self.drop_reasons.insert("spool-full");
        }
    }

    /// Adds a fault that was injected into the dyno and is in force.
    pub fn add_active_fault(&mut self, kind: DynoFaultKind) {
        if kind == DynoFaultKind::ShipperStopped {
            self.held_by.insert("shipper=stop".to_owned());
        }
        self.add_ended_fault(kind);
    }

    /// Adds a fault that was injected into the dyno and has ended.
    pub fn add_ended_fault(&mut self, kind: DynoFaultKind) {
        match kind {
            DynoFaultKind::AppKilled => self.app_killed = true,
            DynoFaultKind::ShipperStopped => drop(self.drop_reasons.insert("spool-full")),
            DynoFaultKind::DiskFull => self.drop_reasons.extend(["spool-full", "spool-unwritable"]),
            // Neither may lose a line.
            DynoFaultKind::ShipperKilled | DynoFaultKind::MemoryGrown => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(in_force: &[FaultKind], so_far: &[FaultKind]) -> ExpectedLoss {
        let mut expected = ExpectedLoss::default();
        let in_force = in_force.iter().map(|kind| (*kind, format!("{kind:?}"))).collect();
        expected.add_receiver_faults(in_force, so_far);
        expected
    }

    #[test]
    fn an_outage_explains_held_lines_while_it_lasts() {
        assert_eq!(
            expected(&[FaultKind::Refuse], &[FaultKind::Refuse]).held_by,
            ["Refuse".to_owned()].into()
        );
        let ended = expected(&[], &[FaultKind::Refuse]);
        assert!(ended.held_by.is_empty() && !ended.rejected && ended.drop_reasons == ["spool-full"].into());
        for kind in
            [FaultKind::Status(404), FaultKind::Status(503), FaultKind::Latency(std::time::Duration::ZERO)]
        {
            assert_eq!(expected(&[kind], &[kind]).held_by.len(), 1, "{kind:?}");
        }
    }

    #[test]
    fn only_rejecting_faults_explain_rejected_lines() {
        for (kind, rejected) in [
            (FaultKind::Status(400), true),
            (FaultKind::Status(410), true),
            (FaultKind::TooLarge(1), true),
            (FaultKind::Status(404), false),
            (FaultKind::Status(503), false),
            (FaultKind::Swallow, false),
        ] {
            assert_eq!(expected(&[], &[kind]).rejected, rejected, "{kind:?}");
        }
        assert!(expected(&[FaultKind::Status(400)], &[FaultKind::Status(400)]).held_by.is_empty());
    }

    #[test]
    fn faults_that_lose_no_lines_explain_no_loss() {
        let mut loss = expected(
            &[FaultKind::Swallow, FaultKind::IgnoreLossNotices, FaultKind::JsonProblem],
            &[FaultKind::Swallow, FaultKind::CloseAfterAnswer],
        );
        loss.add_active_fault(DynoFaultKind::ShipperKilled);
        loss.add_active_fault(DynoFaultKind::MemoryGrown);
        assert_eq!(loss, ExpectedLoss::default());
        loss.add_ended_fault(DynoFaultKind::AppKilled);
        assert_eq!(loss, ExpectedLoss { app_killed: true, ..ExpectedLoss::default() });
        loss.add_ended_fault(DynoFaultKind::ShipperStopped);
        assert!(loss.held_by.is_empty(), "the shipper was resumed");
        loss.add_active_fault(DynoFaultKind::ShipperStopped);
        assert_eq!(loss.held_by.len(), 1);
    }
}
