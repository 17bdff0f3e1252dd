//! What a task knows of one partition.

use std::time::{Duration, Instant};

use crate::copy::in_flight::PartitionProgress;
use crate::copy::span::Span;
use crate::kafka::{NextOffset, Source};
use crate::offset_map::MapWriter;

/// When nothing in flight is answered for so long, although the target has answered others since it was sent, those
/// that wait are kept from holding up the rest.
pub(super) const SILENCE: Duration = Duration::from_secs(2);
/// … and for so much longer as one batch takes on a slow line, in bytes per second.
const SLOW_LINE: u64 = 512 << 10;
const BATCH_BYTES: u64 = 1 << 20;

#[derive(Debug)]
pub(super) struct Partition {
    pub(super) progress: PartitionProgress,
    pub(super) map: MapWriter,
    pub(super) start: Source<NextOffset>,
    /// Where the record at the committable position will go.
    pub(super) next_target: i64,
    /// Where the target will write next, behind what was answered out of turn, too.
    pub(super) target_end: i64,
    /// Answered out of turn, behind something that is not answered: (source, target, count).
    pub(super) out_of_turn: Vec<(i64, i64, u32)>,
    pub(super) stored: Option<Source<NextOffset>>,
    /// Records were answered since the last commit.
    pub(super) fresh: bool,
    pub(super) at_end: bool,
    pub(super) taken: Option<Instant>,
    /// Bytes taken and not answered.
    pub(super) in_flight_bytes: u64,
    /// Since when something is in flight without any answer.
    pub(super) silent: Option<Instant>,
    pub(super) stopped: bool,
}

impl Partition {
    /// A partition that is read from `start` on.
    pub(super) fn starting_at(
        start: Source<NextOffset>,
        next_target: i64,
        map: MapWriter,
        persist: bool,
    ) -> Self {
        Self {
            progress: PartitionProgress::starting_at(start),
            map,
            start,
            next_target,
            target_end: next_target,
            out_of_turn: vec![],
            stored: (!persist).then_some(start),
            fresh: persist,
            at_end: false,
            taken: None,
            in_flight_bytes: 0,
            silent: None,
            stopped: false,
        }
    }

    /// The target has told what became of records that take `bytes`.
    pub(super) fn heard(&mut self, bytes: u64, now: Instant) {
        self.in_flight_bytes = self.in_flight_bytes.saturating_sub(bytes);
        self.silent = (0 < self.in_flight_bytes).then_some(now);
    }

    /// Records need not be sent again.
    pub(super) fn answered(&mut self, span: Span) {
        self.progress.finish(span.first, span.count);
        self.fresh = true;
    }

    /// Records are on the target from `target` on. What stands there behind a hole is sent
    /// again after it: until the hole is filled, neither the map nor the next offset may count with it.
    pub(super) fn written(&mut self, span: Span, target: i64) {
        self.target_end = target + i64::from(span.count);
        self.out_of_turn.push((span.first, target, span.count));
        // Nearly always this one span, and in its turn.
        self.out_of_turn.sort_unstable();
        let committable = self.progress.committable().0.0;
        let behind = self.out_of_turn.partition_point(|it| it.0 < committable);
        for (source, target, count) in self.out_of_turn.drain(..behind) {
            self.map.observe(source, target, count);
            self.next_target = target + i64::from(count);
        }
    }

    /// How long its silence may last: what one batch of it takes on a slow line counts.
    pub(super) fn patience(&self) -> Duration {
        SILENCE + Duration::from_millis(self.in_flight_bytes.min(BATCH_BYTES) * 1000 / SLOW_LINE)
    }

    pub(super) fn is_dirty(&self) -> bool {
        self.stored != Some(self.progress.committable())
    }
}
