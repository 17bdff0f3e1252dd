//! What may be committed of one source partition: the position before which every record is on the target.
//!
//! ```text
//!            committable                 begun, some answered
//! source  ───────┬──────[====··==]───[=====]──────▶
//!  copied or     │       ▲ front     ▲ later range, after a hole (compaction, marker)
//!  never there   └ moves to the end of the answered prefix, never past an unanswered record
//! ```

use std::collections::{BTreeMap, VecDeque};

use crate::kafka::{NextOffset, Source};

/// Source offsets `from..to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Range {
    from: i64,
    to: i64,
}

/// Delivery bookkeeping of one source partition, in spans of consecutive offsets.
#[derive(Debug)]
pub struct PartitionProgress {
    /// Begun and not answered up to its end; ascending, never touching.
    in_flight: VecDeque<Range>,
    /// Answered ahead of their turn: first offset → end. Empty while answers come in order.
    ahead: BTreeMap<i64, i64>,
    committable: i64,
    /// The next offset that may begin.
    next: i64,
}

impl PartitionProgress {
    /// A partition of which everything before `start` is done.
    pub fn starting_at(start: Source<NextOffset>) -> Self {
        Self {
            in_flight: VecDeque::new(),
            ahead: BTreeMap::new(),
            committable: start.0.0,
            next: start.0.0,
        }
    }

    /// Every record before this is on the target, was skipped on purpose, or never existed.
    pub fn committable(&self) -> Source<NextOffset> {
        Source(NextOffset(self.committable))
    }

    /// The position behind everything that has begun.
    pub fn next(&self) -> Source<NextOffset> {
        Source(NextOffset(self.next))
    }

    /// Whether everything that has begun is answered.
    pub fn is_idle(&self) -> bool {
        self.in_flight.is_empty()
    }

    /// Takes in `count` records from `first` on; offsets go up, holes are normal.
    ///
    /// Returns false, and changes nothing, for offsets that have begun before: they must not be sent again.
    #[must_use]
    pub fn begin(&mut self, first: i64, count: u32) -> bool {
        if first < self.next {
            return false;
        }
        let to = first + i64::from(count);
        self.next = to;
        match self.in_flight.back_mut() {
            Some(last) if last.to == first => last.to = to,
            _ => self.in_flight.push_back(Range { from: first, to }),
        }
        true
    }

    /// Notes that `count` records from `first` on are answered, in any order of calls.
    pub fn finish(&mut self, first: i64, count: u32) {
        let to = first + i64::from(count);
        if !self.ahead.is_empty() || self.in_flight.front().is_none_or(|front| front.from != first) {
            self.ahead.insert(first, to);
        } else {
            self.advance(to);
        }
        while let Some(front) = self.in_flight.front()
            && let Some(to) = self.ahead.remove(&front.from)
        {
            self.advance(to);
        }
    }

    /// Notes that the partition has been read up to `position`: nothing but markers and removed records
    /// lies between what was taken and there.
    pub fn reached(&mut self, position: i64) {
        self.next = self.next.max(position);
        if self.in_flight.is_empty() {
            self.committable = self.next;
        }
    }

    /// The front range is answered up to `to`.
    fn advance(&mut self, to: i64) {
        let Some(front) = self.in_flight.front_mut() else {
            return;
        };
        debug_assert!(to <= front.to, "an answer spans a hole");
        front.from = to;
        self.committable = to;
        if front.from == front.to {
            self.in_flight.pop_front();
        }
        if self.in_flight.is_empty() {
            self.committable = self.next;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// For any holes, any cut into spans and any order of answers: nothing before `committable` is
        /// unanswered, it never goes back, and it ends behind the last record.
        #[test]
        fn progress_is_the_answered_prefix_under_any_order(
            runs in prop::collection::vec((0i64..3, 1u32..6), 1..20),
            cuts in prop::collection::vec(1u32..4, 1..20),
            order in any::<u64>(),
            answered_while_taking in any::<bool>(),
        ) {
            let mut progress = PartitionProgress::starting_at(Source(NextOffset(5)));
            let (mut at, mut begun, mut answers) = (5i64, vec![], vec![]);
            let mut cut = cuts.iter().cycle();
            for (hole, count) in runs {
                at += hole;
                prop_assert!(progress.begin(at, count));
                begun.extend(at..at + i64::from(count));
                let (mut from, end) = (at, at + i64::from(count));
                while from < end {
                    let n = i64::from(*cut.next().unwrap()).min(end - from);
                    answers.push((from, n as u32));
                    from += n;
                }
                at = end;
                if answered_while_taking && let Some((first, n)) = answers.pop() {
                    progress.finish(first, n);
                    begun.retain(|o| !(first..first + i64::from(n)).contains(o));
                }
            }
            let mut seed = order | 1;
            let mut last = progress.committable();
            while !answers.is_empty() {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let (first, n) = answers.swap_remove((seed >> 33) as usize % answers.len());
                progress.finish(first, n);
                begun.retain(|o| !(first..first + i64::from(n)).contains(o));
                let committable = progress.committable();
                prop_assert!(last <= committable, "went back");
                prop_assert!(begun.iter().all(|o| committable.0.0 <= *o), "passed an unanswered record");
                last = committable;
            }
            prop_assert_eq!(last.0.0, at);
            prop_assert!(progress.is_idle());
        }
    }

    #[test]
    fn records_that_have_begun_do_not_begin_again() {
        let mut progress = PartitionProgress::starting_at(Source(NextOffset(10)));
        assert!(!progress.begin(9, 1));
        assert!(progress.begin(10, 5));
        assert!(!progress.begin(12, 1));
    }

    #[test]
    fn markers_at_the_end_count_once_everything_is_answered() {
        let mut progress = PartitionProgress::starting_at(Source(NextOffset(0)));
        assert!(progress.begin(0, 3));
        progress.reached(4);
        assert_eq!(progress.committable(), Source(NextOffset(0)));
        progress.finish(0, 3);
        assert_eq!(progress.committable(), Source(NextOffset(4)));
    }
}
