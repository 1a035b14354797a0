//! What an account takes over from dead agents: the batches that they had sealed, their ids, and their losses.

use super::{Account, Sealed};
use crate::frame::Losses;
use crate::ledger::Offset;
use crate::ledger::segment::Origin;
use std::ops::Range;

/// A batch that a dead agent had sealed: it is sent again under the same id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ResumedBatch {
    /// Offset of its first byte.
    pub start: Offset,
    /// Offset behind its last byte.
    pub end: Offset,
    /// The loss notices that precede it: whole frames, or nothing.
    pub notice: Vec<u8>,
    /// The losses that they announce.
    pub announced: Losses,
}

impl Account {
    /// At its start the next batch is one that a dead agent had sealed: end and notice stay the same.
    pub(crate) fn resume(&mut self, batch: ResumedBatch) {
        self.resumed.push(batch);
    }

    /// The ids of the batches of this dead agent are made with `token`, whichever the drain has now: what was sent is
    /// repeated under the same id.
    pub(crate) fn set_id_token(&mut self, origin: &Origin, token: &str) {
        self.id_tokens.push((origin.agent.clone(), token.to_owned()));
    }

    /// What was set by [`Account::set_id_token`].
    pub(crate) fn id_token(&self, origin: &Origin) -> Option<&str> {
        let found = self.id_tokens.iter().find(|(agent, _)| *agent == origin.agent);
        found.map(|(_, token)| token.as_str())
    }

    /// The next notices announce also what a dead agent did not.
    pub(crate) fn inherit_losses(&mut self, losses: Losses) {
        self.unannounced.extend(losses);
    }

    /// Up to where everything in `range` of the spool is delivered, dropped or rejected.
    pub(crate) fn cursor_in(&self, range: &Range<Offset>) -> Offset {
        let mut at = self.cursor.max(range.start);
        while let Some(dropped) = self.dropped_ranges.iter().find(|dropped| dropped.contains(at)) {
            at = dropped.to;
        }
        at.min(range.end)
    }

    /// The batch that is sealed, or was by a dead agent, at the cursor in `range` of the spool.
    pub(crate) fn sealed_in(&self, range: &Range<Offset>) -> Option<ResumedBatch> {
        let at = self.cursor_in(range);
        let ours = self.sealed.as_ref().map(|Sealed { batch, announced, .. }| ResumedBatch {
            start: batch.range.start,
            end: batch.range.end,
            notice: batch.notice.clone(),
            announced: announced.clone(),
        });
        ours.into_iter().chain(self.resumed.iter().cloned()).find(|batch| batch.start == at && at < range.end)
    }

    /// The batch at the cursor that a dead agent had sealed is damaged at `at`: what is good is sealed anew. An `at` before
    /// the cursor is old news, of a segment that was dropped meanwhile.
    pub(in crate::ledger) fn cancel_resumed(&mut self, at: Offset) {
        let cursor = self.cursor;
        let is_damaged =
            |batch: &mut ResumedBatch| batch.start == cursor && (cursor..batch.end).contains(&at);
        for batch in self.resumed.extract_if(.., is_damaged) {
            self.unannounced.extend(batch.announced);
        }
    }
}
