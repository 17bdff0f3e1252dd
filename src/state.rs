//! What causeway keeps on the target: the topics it owns there, and the formats, readers and writers of what is in
//! them.

pub mod audit;
pub mod bounds;
pub mod gaps;
pub mod ledger;
pub mod map_reader;
pub mod mm2_positions;
pub mod moved_groups;
pub mod resume;
pub mod slot;
pub mod topics;

use crate::kafka::TopicPartition;

/// The task of a partition: `(hash(topic) + partition) mod tasks`, so that the partitions of a topic are
/// spread evenly. FNV-1a, because the answer must never change.
pub fn task_of(tp: &TopicPartition, tasks: u32) -> u32 {
    let hash = tp.topic.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    (hash.wrapping_add(tp.partition as u64) % u64::from(tasks.max(1))) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_of_a_topic_are_spread_evenly_and_stay_where_they_are() {
        let tasks: Vec<u32> = (0..8)
            .map(|p| task_of(&TopicPartition::new("orders", p), 4))
            .collect();
        for task in 0..4 {
            assert_eq!(tasks.iter().filter(|t| **t == task).count(), 2);
        }
        // Stored progress is found by this number: it may not change between versions.
        assert_eq!(tasks[0], task_of(&TopicPartition::new("orders", 4), 4));
        assert_eq!(task_of(&TopicPartition::new("orders", 0), 1000), 972);
    }
}
