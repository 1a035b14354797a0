//! Takeover: a shipper whose supervisor is gone delivers what that left, also what is in memory only.

use super::SEGMENT;
use super::checkpoint::Cursor;
use super::recovery::Adopted;
use crate::ledger::{Origin, Segment, SegmentLocation};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// What a shipper knows of its keeper's spool when that is gone: the segments in memory are in no directory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TakeoverState {
    /// SampleLabels it was.
    pub agent: String,
    /// Offset and slot of each segment in memory, ascending.
    segments: Vec<(u64, u8)>,
    /// How far each drain was.
    pub cursors: Vec<Cursor>,
}

impl TakeoverState {
    /// That of this agent, with drains of these tokens.
    pub fn of(agent: &str, tokens: impl Iterator<Item = String>) -> Self {
        let cursors = tokens.map(|token| Cursor { token, offset: 0, sealed: None }).collect();
        Self { agent: agent.to_owned(), cursors, ..Self::default() }
    }

    /// A segment was opened in this slot of memory, which is another one's no more.
    pub fn open(&mut self, start: u64, slot: u8) {
        self.segments.retain(|(_, other)| *other != slot);
        self.segments.push((start, slot));
    }

    /// A drain's place.
    pub fn set_cursor(&mut self, drain: usize, offset: u64, sealed: Option<(u64, Vec<u8>)>) {
        if let Some(cursor) = self.cursors.get_mut(drain) {
            (cursor.offset, cursor.sealed) = (offset, sealed);
        }
    }

    /// Lays the segments that are in `memory` out behind the others.
    pub(super) fn lay_out(&self, memory: &File, segments: &mut Vec<Segment>) -> Option<Adopted> {
        let shift = segments.last().map_or(0, Segment::end);
        let origin = Arc::new(Origin { agent: self.agent.clone(), shift });
        let ends = self.segments.iter().skip(1).map(|(start, _)| *start).chain([u64::MAX]);
        let before = segments.len();
        for ((start, slot), end) in self.segments.iter().zip(ends) {
            // The last one may have more than was told of; a NUL ends it, as on disk.
            let mut bytes = vec![0; SEGMENT as usize];
            memory.read_at(&mut bytes, u64::from(*slot) * SEGMENT).ok()?;
            let len = memchr::memchr(0, &bytes).unwrap_or(bytes.len()) as u64;
            let mut segment = Segment::new(shift + start, SegmentLocation::Memory(*slot));
            segment.len = len.min(end - start);
            segment.origin = Some(Arc::clone(&origin));
            if segment.len > 0 {
                segments.push(segment);
            }
        }
        let end = segments.last().filter(|_| segments.len() > before)?.end();
        Some(Adopted { origin, end, directory: None, cursors: self.cursors.clone() })
    }
}
