//! A segment and its bytes.
//!
//! | part | bytes |
//! |---|---|
//! | key | version, topic (length, UTF-8), partition, generation, source |
//! | value | version, flags (1 = origin), target, covered range, end of the target (signed, from target), runs |
//! | a run | head, source offsets left out before it, target offsets left out before it (signed) |
//!
//! Version and flags are one byte, everything else a varint. The head is length × 16 + source gap × 4 + target
//! gap; a gap of 3 there stands for one that is not 0, 1 or 2, and follows. So a run behind a marker takes one
//! byte up to 7 records, two up to 1,023. The first run's gaps count from the segment's own source and target
//! offset. Target gaps may be negative: a target may be emptied and filled again.

use super::varint::{get, get_signed, put, put_signed};
use super::{Run, SegmentKey};
use crate::kafka::TopicPartition;

/// Format of keys and values; the first byte of both. (1 and 2 were never released.)
const VERSION: u8 = 3;
const ORIGIN: u8 = 1;
/// In the head of a run: the gap follows.
const FOLLOWS: u64 = 3;

/// What is known of a range of source offsets. See the [module](super).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// See [`SegmentKey::generation`].
    pub generation: u32,
    /// The first source offset it speaks of.
    pub source: i64,
    /// Where the next record would have gone then: no record of the segment stands before it.
    pub target: i64,
    /// Of the source offsets from `source` to this one (exclusive) all copied records are in the runs.
    pub covered_to: i64,
    /// The target offset behind the last run; `target` while there is none.
    pub target_end: i64,
    /// Nothing that comes before `source` was ever copied.
    pub origin: bool,
    /// The runs as they are stored: a tenth of what they take unpacked, or less.
    packed: Box<[u8]>,
}

impl Segment {
    /// A segment of these runs, which lie in order within `source .. covered_to` and behind `target`.
    pub fn new(
        generation: u32,
        (source, target): (i64, i64),
        covered_to: i64,
        origin: bool,
        runs: &[Run],
    ) -> Self {
        let mut packed = Vec::with_capacity(runs.len() * 2);
        let mut at = (source, target);
        for run in runs {
            put_run(&mut packed, *run, at);
            at = (run.source_end(), run.target_end());
        }
        Self {
            generation,
            source,
            target,
            covered_to,
            target_end: at.1,
            origin,
            packed: packed.into(),
        }
    }

    /// A segment of which only the beginning is kept: it covers nothing, and bounds what lies behind.
    pub fn point(&self) -> Self {
        Self {
            covered_to: self.source,
            target_end: self.target,
            packed: Box::default(),
            ..self.clone()
        }
    }

    /// Whether it covers nothing.
    pub fn is_point(&self) -> bool {
        self.covered_to == self.source
    }

    /// Whether there is no run in it.
    pub fn is_empty(&self) -> bool {
        self.packed.is_empty()
    }

    /// The runs, in order. They end early where the bytes make no sense.
    pub fn runs(&self) -> impl Iterator<Item = Run> + '_ {
        let (mut input, mut at) = (&*self.packed, (self.source, self.target));
        std::iter::from_fn(move || {
            let run = take_run(&mut input, at)?;
            at = (run.source_end(), run.target_end());
            Some(run)
        })
    }

    /// Bytes of key and value on the topic, without what Kafka adds.
    pub fn stored_bytes(&self, topic: &str) -> usize {
        let number = |value: i64| (64 - (value | 1).leading_zeros() as usize).div_ceil(7);
        let key = 5 + topic.len() + number(self.source);
        let value = 4 + number(self.target) + number(self.covered_to - self.source) + self.packed.len();
        key + value
    }

    /// The name of the segment.
    pub fn key(&self, partition: &TopicPartition) -> SegmentKey {
        SegmentKey {
            partition: partition.clone(),
            generation: self.generation,
            source: self.source,
        }
    }

    /// The value of its record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.packed.len() + 16);
        out.extend([VERSION, if self.origin { ORIGIN } else { 0 }]);
        put(&mut out, self.target as u64);
        put(&mut out, (self.covered_to - self.source) as u64);
        put_signed(&mut out, self.target_end - self.target);
        out.extend_from_slice(&self.packed);
        out
    }

    /// The segment of a record. `None`: the bytes are not such a value.
    pub fn decode(key: &SegmentKey, mut bytes: &[u8]) -> Option<Self> {
        let input = &mut bytes;
        take_version(input)?;
        let (flags, rest) = input.split_first()?;
        *input = rest;
        let offset = |value: u64| i64::try_from(value).ok();
        let target = offset(get(input)?)?;
        let covered_to = key.source.checked_add(offset(get(input)?)?)?;
        let target_end = target.checked_add(get_signed(input)?)?;
        Some(Self {
            generation: key.generation,
            source: key.source,
            target,
            covered_to,
            target_end,
            origin: flags & ORIGIN != 0,
            packed: (*input).into(),
        })
    }
}

/// A run behind one that ends at these offsets.
fn put_run(out: &mut Vec<u8>, run: Run, (source, target): (i64, i64)) {
    let short = |gap: i64| u64::try_from(gap).map_or(FOLLOWS, |gap| gap.min(FOLLOWS));
    let gaps = (run.source - source, run.target - target);
    // No partition has 2^60 records.
    put(out, run.length << 4 | short(gaps.0) << 2 | short(gaps.1));
    if short(gaps.0) == FOLLOWS {
        put(out, gaps.0 as u64);
    }
    if short(gaps.1) == FOLLOWS {
        put_signed(out, gaps.1);
    }
}

fn take_run(input: &mut &[u8], (source, target): (i64, i64)) -> Option<Run> {
    let head = get(input)?;
    let source_gap = match head >> 2 & FOLLOWS {
        FOLLOWS => get(input)?,
        gap => gap,
    };
    let target_gap = match head & FOLLOWS {
        FOLLOWS => get_signed(input)?,
        gap => gap as i64,
    };
    let run = Run {
        source: source.checked_add_unsigned(source_gap)?,
        target: target.checked_add(target_gap)?,
        length: head >> 4,
    };
    run.source.checked_add_unsigned(run.length)?;
    run.target.checked_add_unsigned(run.length)?;
    Some(run)
}

/// The key of a segment's record.
pub fn encode_key(key: &SegmentKey) -> Vec<u8> {
    let topic = &key.partition.topic;
    let mut out = Vec::with_capacity(topic.len() + 12);
    out.push(VERSION);
    put(&mut out, topic.len() as u64);
    out.extend_from_slice(topic.as_bytes());
    put(&mut out, key.partition.partition as u64);
    put(&mut out, key.generation.into());
    put(&mut out, key.source as u64);
    out
}

/// The reverse of [`encode_key`]; `None` when the bytes are not such a key.
pub fn decode_key(mut bytes: &[u8]) -> Option<SegmentKey> {
    let input = &mut bytes;
    take_version(input)?;
    let length = usize::try_from(get(input)?).ok()?;
    let topic = std::str::from_utf8(input.get(..length)?).ok()?;
    *input = &input[length..];
    let partition = i32::try_from(get(input)?).ok()?;
    let generation = u32::try_from(get(input)?).ok()?;
    let source = i64::try_from(get(input)?).ok()?;
    input.is_empty().then(|| SegmentKey {
        partition: TopicPartition::new(topic, partition),
        generation,
        source,
    })
}

fn take_version(input: &mut &[u8]) -> Option<()> {
    let (version, rest) = input.split_first()?;
    *input = rest;
    (*version == VERSION).then_some(())
}
