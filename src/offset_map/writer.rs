//! The growing end of the map of one partition: what the next commit of its task writes.

use super::{Run, Segment, append};

/// A segment with this many runs is closed. Until then each commit writes all of it again under its key, so
/// it is short; the owner of task 0 merges closed ones.
const OPEN_RUNS: usize = 32;

/// Most runs in one segment: a few KiB.
pub(super) const SEGMENT_RUNS: usize = 1024;

/// Collects the runs of one partition between commits.
#[derive(Clone, Debug)]
pub struct MapWriter {
    generation: u32,
    origin: bool,
    /// Where the open segment begins.
    start: (i64, i64),
    covered_to: i64,
    runs: Vec<Run>,
    /// Whether something is not written yet.
    dirty: bool,
}

impl MapWriter {
    /// Copying begins, or goes on, at this source offset, and writes from this target offset on. `origin`:
    /// nothing that comes before was ever copied.
    pub fn new(generation: u32, origin: bool, source: i64, target: i64) -> Self {
        Self {
            generation,
            origin,
            start: (source, target),
            covered_to: source,
            runs: vec![],
            dirty: true,
        }
    }

    /// Notes that `count` records from `source` on were written from `target` on.
    /// Source offsets go up; what lies behind the end is ignored.
    pub fn observe(&mut self, source: i64, target: i64, count: u32) {
        if source < self.runs.last().map_or(self.start.0, Run::source_end) {
            return;
        }
        let length = u64::from(count);
        let run = Run {
            source,
            target,
            length,
        };
        append(&mut self.runs, run);
        self.dirty = true;
    }

    /// The segments to write now, when everything before source offset `next` has been answered.
    pub fn segments(&self, next: i64) -> Vec<Segment> {
        if !self.dirty && next <= self.covered_to {
            return vec![];
        }
        let (mut segments, mut start, mut origin) = (vec![], self.start, self.origin);
        let mut chunks = self.runs.chunks(SEGMENT_RUNS).peekable();
        loop {
            let runs = chunks.next().unwrap_or_default();
            let end = runs
                .last()
                .map_or(start, |last| (last.source_end(), last.target_end()));
            let covered_to = match chunks.peek() {
                Some(_) => end.0,
                None => end.0.max(next),
            };
            segments.push(Segment::new(self.generation, start, covered_to, origin, runs));
            (start, origin) = (end, false);
            if chunks.peek().is_none() {
                return segments;
            }
        }
    }

    /// The segments for `next` were committed.
    pub fn committed(&mut self, next: i64) {
        self.dirty = false;
        let last = self.runs.len().saturating_sub(1) / SEGMENT_RUNS * SEGMENT_RUNS;
        if let Some(closed) = last.checked_sub(1).map(|i| self.runs[i]) {
            self.start = (closed.source_end(), closed.target_end());
            self.origin = false;
            self.runs.drain(..last);
        }
        self.covered_to = self.runs.last().map_or(self.start.0, Run::source_end).max(next);
        if OPEN_RUNS <= self.runs.len() {
            let target = self.runs.last().map_or(self.start.1, Run::target_end);
            self.start = (self.covered_to, target);
            self.origin = false;
            self.runs.clear();
        }
    }
}
