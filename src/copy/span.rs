//! The unit in which everything between the source's client and stored progress speaks.

/// Number of a partition inside one task, dense from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId(pub usize);

/// Records of one partition with consecutive source offsets. Where offsets are missing (markers, compaction), a span
/// ends and the next one begins behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Of which partition.
    pub partition: PartitionId,
    /// Source offset of the first.
    pub first: i64,
    /// How many.
    pub count: u32,
    /// What they cost in memory.
    pub bytes: u64,
}

impl Span {
    /// The source offset behind the last.
    pub fn end(&self) -> i64 {
        self.first + i64::from(self.count)
    }
}
