//! The exact correspondence between source and target offsets: runs of consecutive records.
//!
//! ```text
//! source   100 101 102 │ 103 marker │ 104 105          run (100 → 40, 3)
//! target    40  41  42 │  43 marker │  44  45          run (104 → 44, 2)
//! ```
//! Holes on either side (markers, compaction) end a run. Runs are written in segments to the offset-map
//! topic, in the same transaction as the records they describe.

use crate::kafka::TopicPartition;

/// `length` records from `source` on stand at `target` on, one for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Source offset of the first record.
    pub source: i64,
    /// Target offset of the first record.
    pub target: i64,
    /// How many records; at least 1.
    pub length: u64,
}

/// The growing end of the map of one partition: the segment that the next commit writes.
#[derive(Clone, Debug, Default)]
pub struct OffsetMap {
    runs: Vec<Run>,
    /// Whether `runs` holds something that is not written yet.
    dirty: bool,
}

/// Most runs in one segment: about 100 KiB at worst, well below the default limit of a record.
const SEGMENT_RUNS: usize = 4096;

impl OffsetMap {
    /// Notes that `count` records from `source` on were written from `target` on.
    /// Source offsets go up; a replay behind the end is ignored (the first copy stands).
    pub fn observe(&mut self, source: i64, target: i64, count: u32) {
        self.dirty = true;
        if let Some(last) = self.runs.last_mut() {
            let end = last.source + last.length as i64;
            if source < end {
                return;
            }
            if source == end && target == last.target + last.length as i64 {
                last.length += u64::from(count);
                return;
            }
        }
        self.runs.push(Run {
            source,
            target,
            length: u64::from(count),
        });
    }

    /// The segments to write now; each is keyed by the source offset of its first run.
    pub fn segments(&self) -> impl Iterator<Item = &[Run]> {
        let runs = if self.dirty { self.runs.as_slice() } else { &[] };
        runs.chunks(SEGMENT_RUNS)
    }

    /// The segments were committed. Only the last run goes on growing, under a key of its own: while there
    /// are no holes, one record of the topic is overwritten again and again and compaction keeps one.
    pub fn committed(&mut self) {
        self.dirty = false;
        let closed = self.runs.len().saturating_sub(1);
        self.runs.drain(..closed);
    }
}

/// Format version of keys and values; the first byte of both.
const VERSION: u8 = 1;

/// Key of a segment: version, topic length and name, partition, source offset of the first run (varints).
pub fn encode_key(tp: &TopicPartition, first_source: i64) -> Vec<u8> {
    let mut out = vec![VERSION];
    put(&mut out, tp.topic.len() as u64);
    out.extend_from_slice(tp.topic.as_bytes());
    put(&mut out, tp.partition as u64);
    put(&mut out, first_source as u64);
    out
}

/// Value of a segment: version, then per run (gap before it on the source, gap on the target, length),
/// LEB128 varints; the first run's gaps are its offsets. Target gaps are zigzag: a target may be emptied
/// and filled again.
pub fn encode_runs(runs: &[Run]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + runs.len() * 4);
    out.push(VERSION);
    let (mut source, mut target) = (0i64, 0i64);
    for run in runs {
        put(&mut out, (run.source - source) as u64);
        put(&mut out, zigzag(run.target - target));
        put(&mut out, run.length);
        source = run.source + run.length as i64;
        target = run.target + run.length as i64;
    }
    out
}

/// The reverse of [`encode_key`]; `None` when the bytes are not such a key.
pub fn decode_key(mut bytes: &[u8]) -> Option<(TopicPartition, i64)> {
    let input = &mut bytes;
    take_version(input)?;
    let length = usize::try_from(get(input)?).ok()?;
    let topic = std::str::from_utf8(input.get(..length)?).ok()?;
    *input = &input[length..];
    let partition = i32::try_from(get(input)?).ok()?;
    let first = i64::try_from(get(input)?).ok()?;
    input
        .is_empty()
        .then(|| (TopicPartition::new(topic, partition), first))
}

/// The reverse of [`encode_runs`]; `None` when the bytes are not such a value.
pub fn decode_runs(mut bytes: &[u8]) -> Option<Vec<Run>> {
    let input = &mut bytes;
    take_version(input)?;
    let (mut runs, mut source, mut target) = (vec![], 0i64, 0i64);
    while !input.is_empty() {
        source = source.checked_add_unsigned(get(input)?)?;
        target = target.checked_add(unzigzag(get(input)?))?;
        let length = get(input)?;
        runs.push(Run {
            source,
            target,
            length,
        });
        source = source.checked_add_unsigned(length)?;
        target = target.checked_add_unsigned(length)?;
    }
    Some(runs)
}

fn take_version(input: &mut &[u8]) -> Option<()> {
    let (version, rest) = input.split_first()?;
    *input = rest;
    (*version == VERSION).then_some(())
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while 0x80 <= value {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn get(input: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    /// (hole on the source, hole on the target, count, commit afterwards)
    fn copying() -> impl Strategy<Value = Vec<(i64, i64, u32, bool)>> {
        prop::collection::vec((0i64..3, 0i64..3, 1u32..5, any::<bool>()), 1..60)
    }

    proptest! {
        /// Whatever is copied and whenever it is committed: the segments on the topic, last value per key,
        /// give for every record exactly the offset it was written to.
        #[test]
        fn the_written_segments_equal_the_record_by_record_map(steps in copying()) {
            let tp = TopicPartition::new("orders", 3);
            let (mut map, mut topic, mut truth) = (OffsetMap::default(), BTreeMap::new(), BTreeMap::new());
            let (mut source, mut target) = (7i64, 1000i64);
            for (source_hole, target_hole, count, commit) in steps {
                source += source_hole;
                target += target_hole;
                map.observe(source, target, count);
                for i in 0..i64::from(count) {
                    truth.insert(source + i, target + i);
                }
                source += i64::from(count);
                target += i64::from(count);
                if commit {
                    topic.extend(map.segments().map(|runs| (encode_key(&tp, runs[0].source), encode_runs(runs))));
                    map.committed();
                }
            }
            topic.extend(map.segments().map(|runs| (encode_key(&tp, runs[0].source), encode_runs(runs))));
            let mut read = BTreeMap::new();
            for (key, value) in &topic {
                prop_assert_eq!(decode_key(key).map(|(tp, _)| tp), Some(tp.clone()));
                for run in decode_runs(value).unwrap() {
                    for i in 0..run.length as i64 {
                        read.insert(run.source + i, run.target + i);
                    }
                }
            }
            prop_assert_eq!(read, truth);
        }

        #[test]
        fn decoding_arbitrary_bytes_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let _ = decode_key(&bytes);
            let _ = decode_runs(&bytes);
        }
    }

    #[test]
    fn without_holes_one_segment_of_a_few_bytes_holds_everything() {
        let mut map = OffsetMap::default();
        for i in 0..1_000_000 {
            map.observe(i * 10, 5 + i * 10, 10);
            if i % 1000 == 0 {
                assert_eq!(map.segments().count(), 1);
                map.committed();
            }
        }
        let runs = map.segments().next().unwrap();
        assert!(encode_runs(runs).len() < 16, "{runs:?}");
    }
}
