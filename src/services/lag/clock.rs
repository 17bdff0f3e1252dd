//! How long the oldest record that is not copied has been waiting, from the source's ends alone. Pure.

use std::collections::VecDeque;
use std::time::Instant;

/// Where the source of one partition ends, as last heard.
#[derive(Clone, Copy, Debug)]
pub struct SourceEnd {
    /// The last stable offset: committed readers get no further.
    pub stable: i64,
    /// The high watermark; `None`: not told this time.
    pub high: Option<i64>,
    /// When it was heard.
    pub heard: Instant,
    /// Since when `stable` has been where it is although records lie behind it.
    pub waits_since: Option<Instant>,
}

impl SourceEnd {
    /// What was heard now, after `before`.
    pub fn next(before: Option<&Self>, stable: i64, high: Option<i64>, now: Instant) -> Self {
        let since = match before {
            Some(before) if before.stable == stable => before.waits_since.unwrap_or(now),
            _ => now,
        };
        Self {
            stable,
            high,
            heard: now,
            waits_since: high.is_some_and(|high| stable < high).then_some(since),
        }
    }

    /// Offsets behind the end of what is committed.
    pub fn uncommitted(&self) -> Option<u64> {
        self.high.map(|high| (high - self.stable).max(0) as u64)
    }
}

/// Remembers when the source of one partition was seen to end where.
///
/// Record timestamps are the producers' business and may lie anywhere; when an end was seen is our own.
#[derive(Debug, Default)]
pub struct LagClock {
    /// (end, first seen), both rising.
    ends: VecDeque<(i64, Instant)>,
}

/// Ends remembered; beyond that every two become one.
const ENDS: usize = 512;

impl LagClock {
    /// Notes that the partition ends at `end` now.
    pub fn observe(&mut self, end: i64, now: Instant) {
        if self.ends.back().is_some_and(|(last, _)| end < *last) {
            // The log was truncated or made anew: what was remembered is about another one.
            self.ends.clear();
        }
        if self.ends.back().is_none_or(|(last, _)| *last < end) {
            self.ends.push_back((end, now));
        }
        if ENDS < self.ends.len() {
            // Two become one that ends where the later did and was seen when the earlier was: an answer may
            // only grow by blurring.
            let old = std::mem::take(&mut self.ends);
            let pairs = old.iter().step_by(2).zip(old.iter().skip(1).step_by(2));
            self.ends = pairs.map(|((_, seen), (end, _))| (*end, *seen)).collect();
            // The last one of an odd number stands for itself.
            if self.ends.back().is_none_or(|(last, _)| *last < end) {
                self.ends.push_back((end, now));
            }
        }
    }

    /// When the oldest record at or behind `position` was first seen to exist; `None`: none was.
    pub fn waiting_since(&self, position: i64) -> Option<Instant> {
        let waiting = self.ends.iter().find(|(end, _)| position < *end);
        waiting.map(|(_, seen)| *seen)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn an_open_transaction_ages_while_the_end_stands_still_before_records_and_not_otherwise() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let since = |end: &SourceEnd| end.waits_since.map(|since| since.duration_since(start).as_secs());
        let quiet = SourceEnd::next(None, 10, Some(10), at(0));
        assert_eq!((quiet.uncommitted(), since(&quiet)), (Some(0), None));
        let open = SourceEnd::next(Some(&quiet), 10, Some(12), at(5));
        assert_eq!((open.uncommitted(), since(&open)), (Some(2), Some(5)));
        let longer = SourceEnd::next(Some(&open), 10, Some(40), at(9));
        assert_eq!((longer.uncommitted(), since(&longer)), (Some(30), Some(5)));
        let another = SourceEnd::next(Some(&longer), 35, Some(40), at(10));
        assert_eq!(since(&another), Some(10), "the first has ended, another is open");
        let unknown = SourceEnd::next(Some(&another), 35, None, at(11));
        assert_eq!((unknown.uncommitted(), since(&unknown)), (None, None));
    }

    #[test]
    fn a_record_waits_since_its_end_was_first_seen() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut clock = LagClock::default();
        assert_eq!(clock.waiting_since(0), None);
        clock.observe(10, at(1));
        clock.observe(20, at(5));
        assert_eq!(clock.waiting_since(10), Some(at(5)));
        assert_eq!(clock.waiting_since(9), Some(at(1)));
        assert_eq!(clock.waiting_since(20), None);
    }

    #[test]
    fn memory_is_bounded_and_blurring_only_makes_lag_look_older() {
        let start = Instant::now();
        let mut clock = LagClock::default();
        for i in 0..10_000u64 {
            clock.observe(i as i64 + 1, start + Duration::from_secs(i));
        }
        assert!(clock.ends.len() <= ENDS + 1);
        let since = clock.waiting_since(5_000).expect("records wait");
        assert!(since <= start + Duration::from_secs(5_000));
    }
}
