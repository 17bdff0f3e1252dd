//! Groups in tests: what they have read, and where they go on.

use serde_json::Value;

use super::Cluster;
use super::oracle::{self, Isolation, OracleRecord};

pub const COMMITTED: Isolation = Isolation::ReadCommitted;

pub const PARTITIONS: i32 = 2;

/// Lines of a topology: looks once a second.
pub const OFTEN: &str = "  offset_sync: { interval: 1s }\n  config_sync: { interval: 1s }\n";

/// A topic whose offsets have holes: transactions of few records, some aborted.
pub fn write(source: &Cluster, topic: &str, transactions: u32) {
    oracle::transactional_load(&source.bootstrap(), topic, PARTITIONS, transactions, 3, 4, 20);
}

/// What a committed reader reads.
pub fn read(cluster: &Cluster, topic: &str) -> Vec<OracleRecord> {
    oracle::dump(&cluster.bootstrap(), topic, COMMITTED)
}

/// Where a group stands.
pub fn position(cluster: &Cluster, group: &str, topic: &str, partition: i32) -> Option<i64> {
    let positions = oracle::group_offsets(&cluster.bootstrap(), group);
    positions
        .iter()
        .find(|it| it.topic == topic && it.partition == partition)
        .map(|it| it.offset)
}

/// Key and value.
pub type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

/// The records from an offset on, without their places.
pub fn rest(records: &[OracleRecord], partition: i32, from: i64) -> Vec<Content> {
    let of = records
        .iter()
        .filter(|it| it.partition == partition && from <= it.offset);
    of.map(|it| (it.key.clone(), it.value.clone())).collect()
}

/// A group in a status.
pub fn group<'a>(status: &'a Value, name: &str) -> &'a Value {
    &status["flows"][0]["groups"]["groups"][name]
}
