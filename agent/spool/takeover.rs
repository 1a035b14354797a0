//! Takeover: a shipper whose supervisor is gone delivers what is left, also what is in memory only. (An
//! agent that starts later on the same disk: `recovery`.)

use super::checkpoint::{Cursor, SealedEnd};
use super::read_slot;
use super::recovery::{AdoptedSpool, Adoption};
use crate::frame::Losses;
use crate::ledger::{DrainIndex, Offset, Origin, Segment, SegmentLocation};
use std::fs::File;
use std::sync::Arc;

/// A segment in memory: it is in no directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct MemorySegment {
    start: Offset,
    slot: u8,
}

/// What a shipper knows of its supervisor's spool, in case that goes without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakeoverState {
    /// The id of the supervisor's agent.
    pub agent: String,
    /// Ascending.
    segments: Vec<MemorySegment>,
    /// How far each drain was.
    pub cursors: Vec<Cursor>,
}

impl TakeoverState {
    /// For the agent with this id and drains with these tokens; nothing is delivered yet.
    pub(crate) fn new(agent: &str, tokens: impl Iterator<Item = String>) -> Self {
        let cursors = tokens
            .map(|token| Cursor {
                token,
                offset: Offset::ZERO,
                consumed: None,
                losses: Losses::default(),
                sealed: None,
            })
            .collect();
        Self { agent: agent.to_owned(), cursors, ..Self::default() }
    }

    /// Whether a supervisor left it.
    pub(super) fn is_supervisor_gone(&self) -> bool {
        !self.agent.is_empty()
    }

    /// A segment was opened in this slot of memory; a former one in it is gone.
    pub(crate) fn open_segment(&mut self, start: Offset, slot: u8) {
        self.segments.retain(|other| other.slot != slot);
        self.segments.push(MemorySegment { start, slot });
    }

    /// A drain continues at `offset`, with this sealed batch.
    pub(crate) fn set_cursor(&mut self, drain: DrainIndex, offset: Offset, sealed: Option<SealedEnd>) {
        if let Some(cursor) = self.cursors.get_mut(drain.get()) {
            (cursor.offset, cursor.sealed) = (offset, sealed);
        }
    }

    /// Adds the segments in the memory file to what was adopted from disk.
    pub(super) fn adopt_into(&self, adoption: &mut Adoption, memory: &File) {
        let shift = adoption.segments.last().map_or(Offset::ZERO, Segment::end).get();
        let origin = Arc::new(Origin { agent: self.agent.clone(), shift });
        let ends = self.segments.iter().skip(1).map(|segment| segment.start).chain([Offset::MAX]);
        let mut end = None;
        for (MemorySegment { start, slot }, next) in self.segments.iter().zip(ends) {
            // The last one may hold more than was reported; a NUL ends it, as on disk.
            let Ok(bytes) = read_slot(memory, *slot) else { return };
            let len = memchr::memchr(0, &bytes).unwrap_or(bytes.len()) as u64;
            let mut segment = Segment::new(*start + shift, SegmentLocation::Memory(*slot));
            segment.len = len.min(next - *start);
            segment.origin = Some(Arc::clone(&origin));
            if segment.len > 0 {
                end = Some(segment.end());
                adoption.segments.push(segment);
            }
        }
        if let Some(end) = end {
            let cursors = self.cursors.clone();
            adoption.spools.push(AdoptedSpool { origin, end, directory: None, cursors, checkpoint: None });
        }
    }
}
