//! Takeover: a shipper whose supervisor is gone delivers what is left, also what is in memory only. (An
//! agent that starts later on the same disk: `recovery`.)

use super::checkpoint::{Cursor, SealedEnd};
use super::open::DrainId;
use super::recovery::{AdoptedSpool, Adoption, set_counts};
use super::{MEMORY_SLOTS, read_slot, slot_start};
use crate::ledger::{DrainIndex, Offset, Origin, Segment, SegmentLocation, SegmentRecord};
use std::fs::File;
use std::sync::Arc;

/// What a shipper knows of its supervisor's spool, in case that goes without a word.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TakeoverState {
    /// The id of the supervisor's agent.
    pub agent: String,
    /// How far each drain was.
    pub cursors: Vec<Cursor>,
}

impl TakeoverState {
    /// For the agent with this id and these drains; nothing is delivered yet.
    pub(crate) fn new(agent: &str, drains: &[DrainId]) -> Self {
        Self { agent: agent.to_owned(), cursors: drains.iter().map(Cursor::at_start).collect() }
    }

    /// Whether a supervisor left it.
    pub(super) fn is_supervisor_gone(&self) -> bool {
        !self.agent.is_empty()
    }

    /// A drain continues at `offset`, with this sealed batch.
    pub(crate) fn set_cursor(&mut self, drain: DrainIndex, offset: Offset, sealed: Option<SealedEnd>) {
        if let Some(cursor) = self.cursors.get_mut(drain.get()) {
            (cursor.offset, cursor.sealed) = (offset, sealed);
        }
    }

    /// Adds the segments in the memory file to what was adopted from disk: between those of the supervisor's directory,
    /// when that was adopted last, else behind all.
    pub(super) fn adopt_into(&self, adoption: &mut Adoption, memory: &File) {
        let is_own = |spool: &&mut AdoptedSpool| spool.origin.agent == self.agent;
        let own = adoption.spools.last_mut().filter(is_own);
        let origin = if let Some(spool) = &own {
            Arc::clone(&spool.origin)
        } else {
            let shift = adoption.segments.last().map_or(Offset::ZERO, Segment::end).get();
            Arc::new(Origin { agent: self.agent.clone(), shift })
        };
        let mut segments = segments_in(memory, &origin);
        let Some(end) = segments.last().map(Segment::end) else { return };
        if let Some(spool) = own {
            spool.end = spool.end.max(end);
            spool.advance(&self.cursors);
        } else {
            let cursors = self.cursors.clone();
            adoption.spools.push(AdoptedSpool { origin, end, directory: None, cursors, checkpoint: None });
        }
        for segment in &mut segments {
            let known = adoption.segments.iter().find(|known| known.start == segment.start);
            let record = known.map(Segment::record).filter(|record| record.len <= segment.len);
            let record = record.unwrap_or(SegmentRecord::empty(segment.start));
            // If this shipper ends before it delivers them, the next agent announces them by its checkpoint.
            set_counts(segment, Some(memory), record);
        }
        // The checkpoint tells of them as well; without a file there they would be lost.
        adoption.segments.retain(|known| segments.iter().all(|segment| segment.start != known.start));
        adoption.segments.append(&mut segments);
        adoption.segments.sort_by_key(|segment| segment.start);
        // What is behind its end in a recycled file are old frames.
        for index in 1..adoption.segments.len() {
            let next = adoption.segments[index].start;
            let before = &mut adoption.segments[index - 1];
            before.len = before.len.min(next - before.start);
        }
        adoption.segments.retain(|segment| segment.len > 0);
    }
}

/// The segments in the memory file, ascending.
fn segments_in(memory: &File, origin: &Arc<Origin>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = (0..MEMORY_SLOTS)
        .filter_map(|slot| {
            // The last one may hold more than was reported; a NUL ends it, as on disk.
            let bytes = read_slot(memory, slot).ok()?;
            let start = slot_start(memory, slot)?;
            let mut segment = Segment::new(start + origin.shift, SegmentLocation::Memory(slot));
            segment.len = memchr::memchr(0, &bytes).unwrap_or(bytes.len()) as u64;
            segment.origin = Some(Arc::clone(origin));
            Some(segment).filter(|segment| segment.len > 0)
        })
        .collect();
    segments.sort_by_key(|segment| segment.start);
    segments
}
