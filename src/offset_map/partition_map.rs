//! The map of one partition as a reader holds it: translation, merging, thinning. Pure.

use std::collections::{BTreeMap, BTreeSet};

use super::writer::SEGMENT_RUNS;
use super::{Run, Segment, SegmentKey, append};
use crate::kafka::TopicPartition;

/// A position on the target for a position on the source. Both name the next record to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Translation {
    /// The first record there that was copied from at or behind the position; the end while there is none.
    Exact {
        /// The target offset.
        target: i64,
        /// The run that holds the record; `None` at the end.
        run: Option<Run>,
    },
    /// The map has been thinned here: no later than the truth, and earlier by at most `reread` offsets.
    Bound {
        /// The target offset.
        target: i64,
        /// Offsets that may be read again.
        reread: u64,
    },
    /// The position lies behind what has been copied; this is the end of that.
    Ahead {
        /// The target offset.
        target: i64,
        /// The source offset that is copied next.
        copied_to: i64,
    },
    /// The position lies before everything the map has kept.
    TooOld {
        /// The first source offset it knows of.
        kept_from: i64,
    },
    /// Nothing is known of the partition.
    Unknown,
}

impl Translation {
    /// The target offset, if there is one.
    pub fn target(self) -> Option<i64> {
        match self {
            Self::Exact { target, .. } | Self::Bound { target, .. } | Self::Ahead { target, .. } => {
                Some(target)
            }
            Self::TooOld { .. } | Self::Unknown => None,
        }
    }

    /// The latest target offset that may be the true one, if anything is known of it.
    pub fn latest(self) -> Option<i64> {
        match self {
            Self::Bound { target, reread } => Some(target.saturating_add_unsigned(reread)),
            other => other.target(),
        }
    }
}

/// A change of the offset-map topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Write this segment, which was first written at this time (ms since the epoch).
    Put(Segment, i64),
    /// Delete the record.
    Remove(SegmentKey),
}

/// When the oldest segments are thinned.
#[derive(Clone, Copy, Debug)]
pub struct Thinning {
    /// Segments older than this time (ms since the epoch) keep their beginning only.
    pub older_than_ms: i64,
    /// The first offset that still exists on the source: what lies before is forgotten. `None`: not known.
    pub log_start: Option<i64>,
}

/// Closed segments with fewer runs than this are merged …
const SMALL: usize = 64;
/// … when so many of them follow each other.
const MERGE: usize = 16;
/// Thinned segments that a partition keeps; of more, every second goes.
const POINTS: usize = 64;

/// All segments of one partition that are in force, by source offset.
#[derive(Clone, Debug)]
pub struct PartitionMap {
    partition: TopicPartition,
    segments: BTreeMap<i64, Kept>,
    /// Where each generation begins, on both sides.
    generations: BTreeMap<u32, (i64, i64)>,
    /// On the topic, and overruled.
    garbage: BTreeSet<SegmentKey>,
    bytes: usize,
}

#[derive(Clone, Debug)]
struct Kept {
    segment: Segment,
    written_at_ms: i64,
    /// The topic still says more than this: it was cut by a newer generation.
    cut: bool,
}

impl PartitionMap {
    /// A map without segments.
    pub fn new(partition: TopicPartition) -> Self {
        Self {
            partition,
            segments: BTreeMap::new(),
            generations: BTreeMap::new(),
            garbage: BTreeSet::new(),
            bytes: 0,
        }
    }

    /// Bytes of keys and values on the topic that are in force.
    pub fn stored_bytes(&self) -> usize {
        self.bytes
    }

    /// Segments in force.
    pub fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values().map(|kept| &kept.segment)
    }

    /// The source offset that is copied next, as far as the map tells. `None`: it tells nothing.
    pub fn copied_to(&self) -> Option<i64> {
        self.segments
            .values()
            .next_back()
            .map(|kept| kept.segment.covered_to)
    }

    /// The last record that was copied.
    pub fn last_run(&self) -> Option<Run> {
        self.segments
            .values()
            .rev()
            .find_map(|kept| kept.segment.runs().filter(|run| 0 <= run.target).last())
    }

    /// Takes in a record of the topic: a segment with the time it was written, or its deletion.
    pub fn apply(&mut self, key: &SegmentKey, segment: Option<(Segment, i64)>) {
        self.garbage.remove(key);
        let Some((segment, written_at_ms)) = segment else {
            if self
                .segments
                .get(&key.source)
                .is_some_and(|kept| kept.segment.generation == key.generation)
            {
                self.take(key.source);
            }
            return;
        };
        let begin = (segment.source, segment.target);
        let known = self.generations.get(&segment.generation).copied();
        let first = known.map_or(begin, |known| known.min(begin));
        if known != Some(first) {
            // Only then: a map may have 100,000 segments, and each comes through here.
            self.generations.insert(segment.generation, first);
            let older: Vec<i64> = self
                .segments
                .values()
                .filter(|kept| kept.segment.generation < segment.generation)
                .map(|kept| kept.segment.source)
                .collect();
            for source in older {
                self.cut_again(source);
            }
        }
        let overruled = self
            .segments
            .get(&segment.source)
            .is_some_and(|kept| segment.generation < kept.segment.generation);
        let Some(cut) = self.cut(&segment).filter(|_| !overruled) else {
            self.garbage.insert(key.clone());
            return;
        };
        let is_cut = cut != segment;
        self.put(cut, written_at_ms, is_cut);
        self.absorb(key.source);
    }

    /// Older segments give way to the generations above them.
    fn cut_again(&mut self, source: i64) {
        let Some(kept) = self.segments.get(&source).cloned() else {
            return;
        };
        match self.cut(&kept.segment) {
            Some(cut) if cut == kept.segment => {}
            Some(cut) => self.put(cut, kept.written_at_ms, true),
            None => {
                self.take(source);
                self.garbage.insert(kept.segment.key(&self.partition));
            }
        }
    }

    /// What newer generations leave of a segment. `None`: nothing.
    fn cut(&self, segment: &Segment) -> Option<Segment> {
        let above = || {
            self.generations
                .range(segment.generation + 1..)
                .map(|(_, begin)| *begin)
        };
        let (Some(source), Some(target)) = (above().map(|it| it.0).min(), above().map(|it| it.1).min())
        else {
            return Some(segment.clone());
        };
        if source <= segment.source || target < segment.target {
            return None;
        }
        if segment.covered_to <= source && segment.target_end <= target {
            return Some(segment.clone());
        }
        let mut runs: Vec<Run> = vec![];
        let mut covered_to = segment.covered_to.min(source);
        for run in segment.runs() {
            let kept = (source - run.source)
                .min(target - run.target)
                .min(run.length as i64);
            if kept < run.length as i64 {
                // What stood here is gone from the target, or belongs to another history.
                covered_to = covered_to.min(run.source + kept.max(0));
            }
            if kept <= 0 {
                break;
            }
            let length = kept as u64;
            runs.push(Run { length, ..run });
        }
        let begin = (segment.source, segment.target);
        Some(Segment::new(
            segment.generation,
            begin,
            covered_to,
            segment.origin,
            &runs,
        ))
    }

    /// Drops segments that lie within the one at `source`, or this one if it lies within its neighbour: a merge
    /// leaves the parts behind until they are deleted.
    fn absorb(&mut self, source: i64) {
        let Some(whole) = self.segments.get(&source).map(|kept| kept.segment.clone()) else {
            return;
        };
        let within = |part: &Segment, whole: &Segment| {
            part.generation == whole.generation && !part.is_point() && part.covered_to <= whole.covered_to
        };
        if let Some((_, before)) = self.segments.range(..source).next_back()
            && within(&whole, &before.segment)
        {
            self.take(source);
            self.garbage.insert(whole.key(&self.partition));
            return;
        }
        let parts: Vec<i64> = self
            .segments
            .range(source + 1..whole.covered_to.max(source + 1))
            .filter(|(_, kept)| within(&kept.segment, &whole))
            .map(|(source, _)| *source)
            .collect();
        for part in parts {
            if let Some(kept) = self.take(part) {
                self.garbage.insert(kept.segment.key(&self.partition));
            }
        }
    }

    fn put(&mut self, segment: Segment, written_at_ms: i64, cut: bool) {
        if let Some(replaced) = self.take(segment.source)
            && replaced.segment.generation != segment.generation
        {
            self.garbage.insert(replaced.segment.key(&self.partition));
        }
        self.bytes += segment.stored_bytes(&self.partition.topic);
        let kept = Kept {
            segment,
            written_at_ms,
            cut,
        };
        self.segments.insert(kept.segment.source, kept);
    }

    fn take(&mut self, source: i64) -> Option<Kept> {
        let kept = self.segments.remove(&source)?;
        self.bytes -= kept.segment.stored_bytes(&self.partition.topic);
        Some(kept)
    }

    /// Where a group continues that would read source offset `position` next.
    pub fn translate(&self, position: i64) -> Translation {
        match self.answer(position) {
            // No record is there.
            answer if answer.target().is_some_and(|target| target < 0) => Translation::Unknown,
            answer => answer,
        }
    }

    fn answer(&self, position: i64) -> Translation {
        let Some((_, kept)) = self.segments.range(..=position).next_back() else {
            return match self.segments.values().next() {
                None => Translation::Unknown,
                Some(first) if first.segment.origin => self.first_record_from(first.segment.source),
                Some(first) => Translation::TooOld {
                    kept_from: first.segment.source,
                },
            };
        };
        let segment = &kept.segment;
        if position < segment.covered_to {
            return match segment.runs().find(|run| position < run.source_end()) {
                Some(run) => Translation::Exact {
                    target: run.target + (position - run.source).max(0),
                    run: Some(run),
                },
                None => self.first_record_behind(segment),
            };
        }
        match self.segments.range(position + 1..).next() {
            Some((_, next)) => bound(segment.target_end, next.segment.target),
            None if position == segment.covered_to => Translation::Exact {
                target: segment.target_end,
                run: None,
            },
            None => Translation::Ahead {
                target: segment.target_end,
                copied_to: segment.covered_to,
            },
        }
    }

    /// The first record of the segment at `source`, or behind it.
    fn first_record_from(&self, source: i64) -> Translation {
        let segment = &self.segments[&source].segment;
        match segment.runs().next() {
            Some(run) => Translation::Exact {
                target: run.target,
                run: Some(run),
            },
            None => self.first_record_behind(segment),
        }
    }

    /// What comes behind a segment's last run.
    fn first_record_behind(&self, segment: &Segment) -> Translation {
        match self.segments.range(segment.source + 1..).next() {
            None => Translation::Exact {
                target: segment.target_end,
                run: None,
            },
            Some((source, _)) if *source == segment.covered_to => self.first_record_from(*source),
            Some((_, next)) => bound(segment.target_end, next.segment.target),
        }
    }

    /// What keeps the map small. Thinning waits until nothing overruled is left on the topic: the last word of a
    /// generation may be among what goes, and who reads the topic then would believe an older one again.
    pub fn upkeep(&self, rule: Thinning) -> Vec<Edit> {
        match self.compact() {
            edits if edits.is_empty() => self.thin(rule),
            edits => edits,
        }
    }

    /// Deletes what is overruled, and merges closed segments that are small: records of the topic cost more
    /// than the runs in them. What is written is applied here when it is read back.
    pub fn compact(&self) -> Vec<Edit> {
        // What a generation has cut is written before the last word of that generation may go.
        let cut = self.segments.values().filter(|kept| kept.cut);
        let mut edits: Vec<Edit> = cut
            .map(|kept| Edit::Put(kept.segment.clone(), kept.written_at_ms))
            .collect();
        edits.extend(self.garbage.iter().cloned().map(Edit::Remove));
        let mut group: Vec<&Kept> = vec![];
        let mut runs: Vec<Run> = vec![];
        // The last one may be growing.
        for kept in self
            .segments
            .values()
            .rev()
            .skip(1)
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            let own: Vec<Run> = kept.segment.runs().take(SMALL).collect();
            let small = own.len() < SMALL && !kept.segment.is_point();
            let follows = group.last().is_none_or(|before| {
                before.segment.covered_to == kept.segment.source
                    && before.segment.generation == kept.segment.generation
            });
            if !small || !follows || SEGMENT_RUNS < runs.len() + own.len() {
                edits.extend(self.merged(&group, &runs));
                group.clear();
                runs.clear();
            }
            if small {
                group.push(kept);
                own.into_iter().for_each(|run| append(&mut runs, run));
            }
        }
        edits.extend(self.merged(&group, &runs));
        edits
    }

    fn merged(&self, group: &[&Kept], runs: &[Run]) -> Vec<Edit> {
        let (Some(first), Some(last)) = (group.first(), group.last()) else {
            return vec![];
        };
        if group.len() < MERGE {
            return vec![];
        }
        let (begin, covered_to) = (
            (first.segment.source, first.segment.target),
            last.segment.covered_to,
        );
        let whole = Segment::new(
            first.segment.generation,
            begin,
            covered_to,
            first.segment.origin,
            runs,
        );
        let parts = group[1..]
            .iter()
            .map(|kept| Edit::Remove(kept.segment.key(&self.partition)));
        std::iter::once(Edit::Put(whole, last.written_at_ms))
            .chain(parts)
            .collect()
    }

    /// Forgets the oldest part. The last segment stays: it may be growing.
    pub(super) fn thin(&self, rule: Thinning) -> Vec<Edit> {
        let mut edits = vec![];
        let all: Vec<&Kept> = self.segments.values().collect();
        let needed = |next: &Kept| rule.log_start.is_none_or(|start| start < next.segment.source);
        let gone = all.windows(2).take_while(|pair| !needed(pair[1])).count();
        edits.extend(
            all[..gone]
                .iter()
                .map(|kept| Edit::Remove(kept.segment.key(&self.partition))),
        );
        let closed = &all[gone..all.len().saturating_sub(1).max(gone)];
        let old: Vec<&&Kept> = closed
            .iter()
            .take_while(|kept| kept.segment.is_point() || kept.written_at_ms < rule.older_than_ms)
            .collect();
        let step = if POINTS < old.len() { 2 } else { 1 };
        for (i, kept) in old.into_iter().enumerate() {
            if i % step != 0 {
                edits.push(Edit::Remove(kept.segment.key(&self.partition)));
            } else if !kept.segment.is_point() {
                edits.push(Edit::Put(kept.segment.point(), kept.written_at_ms));
            }
        }
        edits
    }

    /// What thinning can still win: when each full closed segment was written (ms since the epoch), and its
    /// bytes, oldest first.
    pub fn ages(&self) -> impl Iterator<Item = (i64, usize)> {
        let closed = self.segments.values().take(self.segments.len().saturating_sub(1));
        let full = closed.filter(|kept| !kept.segment.is_point());
        full.map(|kept| {
            (
                kept.written_at_ms,
                kept.segment.stored_bytes(&self.partition.topic),
            )
        })
    }
}

/// The time before which segments are thinned, so that all maps of a flow together fit into `max_bytes`
/// again, and none is full that was written before `older_than_ms`.
pub fn thin_before<'a>(
    maps: impl Iterator<Item = &'a PartitionMap> + Clone,
    max_bytes: usize,
    older_than_ms: i64,
) -> i64 {
    let mut excess = maps
        .clone()
        .map(PartitionMap::stored_bytes)
        .sum::<usize>()
        .saturating_sub(max_bytes);
    if excess == 0 {
        return older_than_ms;
    }
    // A little more than needed, so that this is not done for every new segment.
    excess += max_bytes / 10;
    let mut ages: Vec<(i64, usize)> = maps.flat_map(PartitionMap::ages).collect();
    ages.sort_unstable();
    let mut before = older_than_ms;
    for (written_at_ms, bytes) in ages {
        if excess == 0 {
            break;
        }
        excess = excess.saturating_sub(bytes);
        before = before.max(written_at_ms + 1);
    }
    before
}

/// Nothing is known of the source offsets in between; nothing between the target offsets means nothing is lost.
fn bound(target: i64, next: i64) -> Translation {
    match next - target {
        ..=0 => Translation::Exact { target, run: None },
        reread => Translation::Bound {
            target,
            reread: reread as u64,
        },
    }
}
