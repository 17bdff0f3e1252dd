//! The exact correspondence between source and target offsets of a partition.
//!
//! ```text
//! source   100 101 102 │ 103 marker │ 104 105          run (100 → 40, 3)
//! target    40  41  42 │  43 marker │  44  45          run (104 → 44, 2)
//! ```
//! A [`Run`] is a stretch of records that stand one for one. Holes on either side (transaction markers,
//! compaction, skipped records) end it. Runs are kept in [`Segment`]s: a segment says of a range of source
//! offsets that every record of it that was copied is among its runs. What no segment covers is not known,
//! and is answered by a bound that lies before the truth, never behind it:
//!
//! ```text
//!            ├── segment ──┤          ├── segment ──┤
//! source  ───●●●●──●●──────┼──────────●●●●●●────────┤ end
//!                          │ not known│             │ not copied yet
//! ```
//! So every subset of the segments gives right answers, and forgetting (thinning) can make an
//! answer earlier or refuse it, but not later. The task writes segments with its commits ([`MapWriter`]); the
//! owner of task 0 reads them all, merges small ones and thins old ones.

use crate::kafka::TopicPartition;

mod partition_map;
mod segment;
mod varint;
mod writer;

#[cfg(test)]
mod tests;

pub use partition_map::{Edit, PartitionMap, Thinning, Translation, thin_before};
pub use segment::{Segment, decode_key, encode_key};
pub use writer::MapWriter;

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

impl Run {
    /// The source offset behind its last record.
    pub fn source_end(&self) -> i64 {
        self.source + self.length as i64
    }

    /// The target offset behind its last record.
    pub fn target_end(&self) -> i64 {
        self.target + self.length as i64
    }
}

/// Adds records to the end of a list of runs: they lengthen the last one if they follow it on both sides.
fn append(runs: &mut Vec<Run>, run: Run) {
    match runs.last_mut() {
        Some(last) if last.source_end() == run.source && last.target_end() == run.target => {
            last.length += run.length;
        }
        _ => runs.push(run),
    }
}

/// Names a segment: the key of its record in the offset-map topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentKey {
    /// The source partition.
    pub partition: TopicPartition,
    /// Counts how often copying of the partition went back (truncation, re-creation, reset): a segment
    /// overrules those of lower generations at its source and target offset and behind.
    pub generation: u32,
    /// The first source offset the segment speaks of.
    pub source: i64,
}
