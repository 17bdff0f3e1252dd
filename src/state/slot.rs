//! The stored state of one task: its partition of the progress topic, read to its end before the task runs.

use std::collections::{BTreeMap, HashMap};
use std::thread;
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use serde::{Deserialize, Serialize};

use super::gaps::Gap;
use super::ledger::{StateRecord, StateTopic};
use super::resume::StoredProgress;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::{Admin, OffsetSpec};
use crate::kafka::client::ClusterConnection;
use crate::kafka::tail::{Stretch, read_to_end, read_up_to};
use crate::kafka::{TopicId, TopicPartition};
use crate::offset_map::{Segment, encode_key};
use crate::topology::StartFrom;

/// What a task finds when it takes its slot over.
#[derive(Debug, Default)]
pub struct Slot {
    /// Whether the slot has ever been owned. Partitions that are met for the first time later start at 0.
    pub born: bool,
    /// Whether the owner has had to go on by its spare transactional id, which must be fenced, too.
    pub spare: bool,
    /// What the flow was when the slot was owned for the first time; empty where an older version stored that.
    pub birth: Birth,
    /// Progress by source partition.
    pub progress: HashMap<TopicPartition, StoredProgress>,
    /// Gaps of which the version that stored them told the audit trail nothing. `progress` may list them no longer.
    pub untold: Vec<(TopicPartition, Gap)>,
    /// A transaction is open behind which there is more: see [`Slot::whole`].
    pub hidden: Option<Error>,
}

/// How long a transaction that was aborted by fencing may take to end in the topic.
const SETTLING: Duration = Duration::from_secs(2);

/// What a flow was when a slot of it was owned for the first time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Birth {
    /// When, in milliseconds since 1970.
    pub created_at_ms: i64,
    /// How many tasks it has.
    pub tasks: Option<u32>,
    /// Kafka's id of the cluster it copies from.
    pub source_cluster_id: Option<String>,
    /// Partitions that were there and of which it is not known yet where they begin.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unborn: Vec<Unborn>,
}

/// A partition that was there when the slot was owned for the first time, and begins where `start_from` said then. The
/// source has not told yet which offset that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unborn {
    /// Its topic.
    pub topic: String,
    /// Its number.
    pub partition: i32,
    /// Kafka's id of the topic: one that was made anew came later, and begins at its log start.
    pub topic_id: String,
    /// Where it begins.
    pub start_from: Wanted,
}

/// Where a partition begins that does not begin at its log start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// At the end, when that is told.
    Latest,
    /// At the first record at or after this time.
    TimestampMs(i64),
}

impl Wanted {
    /// Of a flow; `None`: at the log start, which needs not be asked for.
    pub fn of(start_from: StartFrom) -> Option<Self> {
        match start_from {
            StartFrom::Earliest => None,
            StartFrom::Latest => Some(Self::Latest),
            StartFrom::Timestamp(ms) => Some(Self::TimestampMs(ms)),
        }
    }

    fn spec(self) -> OffsetSpec {
        match self {
            Self::Latest => OffsetSpec::Latest,
            Self::TimestampMs(ms) => OffsetSpec::Timestamp(ms),
        }
    }
}

impl Unborn {
    /// The partition.
    pub fn tp(&self) -> TopicPartition {
        TopicPartition::new(self.topic.as_str(), self.partition)
    }
}

impl Birth {
    /// What the first owner of a slot writes down.
    pub fn new(created_at_ms: i64, tasks: u32, source_cluster_id: Option<String>) -> Self {
        Self {
            created_at_ms,
            tasks: Some(tasks),
            source_cluster_id,
            unborn: vec![],
        }
    }

    /// Of a record of the progress topic, when it is about a slot.
    pub fn of_record(key: Option<&[u8]>, value: Option<&[u8]>) -> Option<Self> {
        match serde_json::from_slice(key?).ok()? {
            Key::Slot { .. } => serde_json::from_slice(value?).ok(),
            _ => None,
        }
    }

    /// Whether an older version has left something out.
    pub fn is_incomplete(&self) -> bool {
        self.tasks.is_none() || self.source_cluster_id.is_none()
    }

    /// Whether stored positions mean anything to a flow of so many tasks from this cluster.
    ///
    /// # Errors
    /// They are positions in another cluster, or of a flow that is divided otherwise.
    pub fn fits(&self, tasks: u32, source_cluster_id: &str) -> Result<()> {
        match &self.source_cluster_id {
            Some(id) if id != source_cluster_id => Err(Error::new(
                Code::SourceReplaced,
                format!("progress was made with cluster {id}, and {source_cluster_id} answers"),
            )),
            _ => match self.tasks {
                Some(stored) if stored != tasks => Err(Error::new(
                    Code::OwnTopicUnfit,
                    format!(
                        "the slot is one of {stored}, and this daemon has taken it for one of {tasks}; start it again"
                    ),
                )),
                _ => Ok(()),
            },
        }
    }
}

/// Key of a progress record, as JSON.
#[derive(Debug, Serialize, Deserialize)]
#[serde(untagged)]
enum Key {
    Partition {
        topic: String,
        partition: i32,
    },
    /// Written once, when the slot is owned for the first time.
    Slot {
        slot: u32,
    },
    /// Written before the spare transactional id is used for anything else.
    Spare {
        spare: u32,
    },
}

/// The progress record of one source partition.
pub fn progress_record(tp: &TopicPartition, progress: &StoredProgress) -> StateRecord {
    let key = Key::Partition {
        topic: tp.topic.to_string(),
        partition: tp.partition,
    };
    record(&key, progress)
}

/// The source partition and its progress, of a record that tells both.
pub fn progress_of_record(
    key: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Option<(TopicPartition, StoredProgress)> {
    match serde_json::from_slice(key?).ok()? {
        Key::Partition { topic, partition } => {
            let progress = serde_json::from_slice(value?).ok()?;
            Some((TopicPartition::new(topic, partition), progress))
        }
        _ => None,
    }
}

/// The record that marks a slot as born.
pub fn born_record(slot: u32, birth: &Birth) -> StateRecord {
    record(&Key::Slot { slot }, birth)
}

/// The record that says whether the spare transactional id of a slot is in use.
pub fn spare_record(slot: u32, in_use: bool) -> StateRecord {
    record(
        &Key::Spare { spare: slot },
        &serde_json::json!({ "in_use": in_use }),
    )
}

/// The record of one segment of the offset map.
pub fn segment_record(tp: &TopicPartition, segment: &Segment) -> StateRecord {
    StateRecord {
        topic: StateTopic::OffsetMap,
        key: encode_key(&segment.key(tp)),
        value: segment.encode(),
    }
}

fn record(key: &Key, value: &impl Serialize) -> StateRecord {
    let json = |value: serde_json::Result<Vec<u8>>| value.expect("plain structs become JSON");
    StateRecord {
        topic: StateTopic::Progress,
        key: json(serde_json::to_vec(key)),
        value: json(serde_json::to_vec(value)),
    }
}

impl Slot {
    /// Reads partition `slot` of the progress topic from its beginning to its end, committed records only: of a task
    /// that is not ours, for looking only.
    ///
    /// # Errors
    /// When the target does not answer in time, or a record cannot be understood.
    pub fn read(target: &ClusterConnection, topic: &str, slot: u32, timeout: Duration) -> Result<Self> {
        let mut read = Self::default();
        let stretch = Stretch {
            topic,
            partitions: &[(slot as i32, None)],
            uncommitted: false,
        };
        read_to_end(target, Side::Target, &stretch, timeout, |message| {
            read.take_in(topic, slot, message.offset(), message.key(), message.payload())?;
            Ok(true)
        })?;
        read.shorten();
        Ok(read)
    }

    /// As [`Slot::read`], of a task that was fenced, so that nothing is still on its way: up to the end that the
    /// target tells, which a leader does not do before it knows all that was committed (KIP-207), while a fetch of a
    /// new leader may end before it.
    ///
    /// # Errors
    /// When the target does not answer in time, or a record cannot be understood.
    pub fn read_fenced(
        admin: &Admin,
        target: &ClusterConnection,
        topic: &str,
        slot: u32,
        timeout: Duration,
    ) -> Result<Self> {
        let tp = TopicPartition::new(topic, slot as i32);
        let ask = |spec, committed| admin.list_offset(&tp, spec, committed, timeout);
        let deadline = Instant::now() + SETTLING;
        let (end, hidden) = loop {
            let (all, visible) = (ask(OffsetSpec::Latest, false)?, ask(OffsetSpec::Latest, true)?);
            if all <= visible {
                break (visible, None);
            }
            if deadline <= Instant::now() {
                let servers = &target.bootstrap_servers;
                let detail = format!(
                    "{topic} partition {slot} ends at {all} and can be read up to {visible}: kafka-transactions.sh --bootstrap-server {servers} abort --topic {topic} --partition {slot} --start-offset {visible}"
                );
                break (visible, Some(Error::new(Code::ProgressHidden, detail)));
            }
            thread::sleep(Duration::from_millis(50));
        };
        let mut read = Self {
            hidden,
            ..Self::default()
        };
        let stretch = (ask(OffsetSpec::Earliest, false)?, end);
        read_up_to(target, Side::Target, &tp, stretch, timeout, |message| {
            read.take_in(topic, slot, message.offset(), message.key(), message.payload())
        })?;
        read.shorten();
        Ok(read)
    }

    /// Whether the spare transactional id has to be fenced, once the task's own is. That it is in use is committed
    /// before anything else of it; where that very commit did not end, it is what hides the end.
    pub fn spare_may_write(&self) -> bool {
        self.spare || self.hidden.is_some()
    }

    /// What was read, if that is all: every transactional id of the task has been fenced.
    ///
    /// # Errors
    /// A transaction of somebody else's hides what was committed last.
    pub fn whole(self) -> Result<Self> {
        match self.hidden {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    /// What is to be asked about those of the unborn partitions that may be.
    pub fn to_ask(&self, may: impl Fn(&TopicPartition) -> bool) -> Vec<(TopicPartition, OffsetSpec)> {
        let asked = self.birth.unborn.iter().map(|it| (it.tp(), it.start_from.spec()));
        asked.filter(|(tp, _)| may(tp)).collect()
    }

    /// Unborn partitions begin where the source has told. Those that have progress keep it, those of topics that were
    /// made anew begin as any that come later, and of which it has not told stay as they are.
    pub fn bear(
        &mut self,
        told: &BTreeMap<TopicPartition, Result<i64>>,
        topic_id: impl Fn(&TopicPartition) -> Option<TopicId>,
    ) {
        let progress = &mut self.progress;
        self.birth.unborn.retain(|it| {
            let tp = it.tp();
            if progress.contains_key(&tp) {
                return false;
            }
            match topic_id(&tp) {
                Some(id) if *id.0 != *it.topic_id => false,
                Some(id) => match told.get(&tp) {
                    Some(Ok(offset)) => {
                        progress.insert(tp, StoredProgress::new(*offset, &id));
                        false
                    }
                    _ => true,
                },
                None => true,
            }
        });
    }

    fn take_in(
        &mut self,
        topic: &str,
        slot: u32,
        offset: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
    ) -> Result<()> {
        self.apply(key, value).map_err(|why| {
            let at = format!("{topic} partition {slot} offset {offset}");
            Error::new(Code::ProgressUnreadable, format!("{at}: {why}"))
        })
    }

    fn shorten(&mut self) {
        for (tp, progress) in &mut self.progress {
            let untold = progress.gaps.untold();
            self.untold
                .extend(untold.into_iter().map(|gap| (tp.clone(), gap)));
        }
    }

    fn apply(&mut self, key: Option<&[u8]>, value: Option<&[u8]>) -> std::result::Result<(), String> {
        let key: Key = serde_json::from_slice(key.unwrap_or_default()).map_err(|e| format!("key: {e}"))?;
        match (key, value) {
            (Key::Slot { .. }, value) => {
                self.born = true;
                self.birth =
                    serde_json::from_slice(value.unwrap_or(b"{}")).map_err(|e| format!("value: {e}"))?;
            }
            (Key::Spare { .. }, value) => {
                let value: serde_json::Value =
                    serde_json::from_slice(value.unwrap_or(b"{}")).map_err(|e| format!("value: {e}"))?;
                self.spare = value["in_use"] == true;
            }
            (Key::Partition { topic, partition }, Some(value)) => {
                let progress = serde_json::from_slice(value).map_err(|e| format!("value: {e}"))?;
                self.progress
                    .insert(TopicPartition::new(topic, partition), progress);
            }
            (Key::Partition { topic, partition }, None) => {
                self.progress.remove(&TopicPartition::new(topic, partition));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::gaps::{Extent, Gaps, LISTED, Sum};
    use super::super::resume::LeaderEpoch;
    use super::*;
    use crate::kafka::TopicId;

    fn gap(from: i64, to: i64) -> Gap {
        Gap {
            from,
            to,
            reason: "source_out_of_range".into(),
            extent: Extent::Exact,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read_back() {
        let tp = TopicPartition::new("orders", 3);
        let mut gaps = Gaps::default();
        gaps.declare(gap(1, 4));
        let progress = StoredProgress {
            next_target_offset: Some(9),
            target_topic_id: Some("there".into()),
            leader_epoch: Some(LeaderEpoch { epoch: 3, offset: 6 }),
            replayed_records: 2,
            gaps,
            ..StoredProgress::new(7, &TopicId("id".into()))
        };
        let birth = Birth::new(5, 4, Some("cluster".into()));
        let mut slot = Slot::default();
        for record in [
            progress_record(&tp, &progress),
            born_record(2, &birth),
            spare_record(2, true),
        ] {
            slot.apply(Some(&record.key), Some(&record.value)).unwrap();
        }
        assert!(slot.born && slot.spare);
        let back = spare_record(2, false);
        slot.apply(Some(&back.key), Some(&back.value)).unwrap();
        assert!(!slot.spare);
        assert_eq!(slot.birth, birth);
        assert_eq!(slot.progress[&tp], progress);
        let record = progress_record(&tp, &progress);
        assert_eq!(
            String::from_utf8(record.key).unwrap(),
            r#"{"topic":"orders","partition":3}"#
        );
    }

    /// Versions before the limit listed every gap, and wrote the list with every commit.
    #[test]
    fn a_record_with_tens_of_thousands_of_gaps_is_read_and_becomes_small() {
        let list: Vec<_> = (0..60_000).map(|n| gap(10 * n, 10 * n + 3)).collect();
        let old = serde_json::json!({
            "next_source_offset": 600_000, "next_target_offset": 7, "topic_id": "id", "replayed_records": 0,
            "gaps": list,
        });
        let mut slot = Slot::default();
        let key = br#"{"topic":"orders","partition":3}"#;
        slot.apply(Some(key), Some(old.to_string().as_bytes())).unwrap();
        slot.shorten();
        let tp = TopicPartition::new("orders", 3);
        let progress = &slot.progress[&tp];
        assert_eq!(
            progress.gaps.total(),
            Sum {
                count: 60_000,
                offsets: 180_000
            }
        );
        assert!(progress_record(&tp, progress).value.len() < 2_000);
        // What the record forgets, the audit trail is told.
        assert!(slot.untold.iter().map(|(_, gap)| gap).eq(&list));
        assert!(progress.gaps.newest() == &list[60_000 - LISTED..]);
    }

    fn unborn(partition: i32, start_from: Wanted) -> Unborn {
        Unborn {
            topic: "orders".into(),
            partition,
            topic_id: "id".into(),
            start_from,
        }
    }

    #[test]
    fn a_partition_that_was_not_told_of_stays_unborn_and_the_others_begin() {
        let tp = |number| TopicPartition::new("orders", number);
        let id = TopicId("id".into());
        let mut slot = Slot::default();
        slot.birth.unborn = (0..4).map(|number| unborn(number, Wanted::Latest)).collect();
        let kept = StoredProgress::new(5, &id);
        slot.progress.insert(tp(2), kept.clone());
        let away = Err(Error::new(Code::SourceUnavailable, "no leader"));
        let told = [(tp(0), Ok(70)), (tp(1), away), (tp(2), Ok(90))].into();
        slot.bear(&told, |_| Some(id.clone()));
        assert_eq!(slot.progress[&tp(0)], StoredProgress::new(70, &id));
        assert_eq!(slot.progress[&tp(2)], kept, "what was stored is not overwritten");
        assert_eq!(
            slot.birth.unborn,
            [unborn(1, Wanted::Latest), unborn(3, Wanted::Latest)]
        );
        // As it is stored, and asked again by the next owner.
        let record = born_record(0, &slot.birth);
        let mut next = Slot::default();
        next.apply(Some(&record.key), Some(&record.value)).unwrap();
        assert_eq!(
            next.to_ask(|_| true),
            [(tp(1), OffsetSpec::Latest), (tp(3), OffsetSpec::Latest)]
        );
        next.bear(&[(tp(1), Ok(80))].into(), |_| Some(id.clone()));
        assert_eq!(next.progress[&tp(1)].next_source_offset, 80);
        // Made anew it came later.
        next.bear(&[(tp(3), Ok(80))].into(), |_| Some(TopicId("other".into())));
        assert!(next.birth.unborn.is_empty() && !next.progress.contains_key(&tp(3)));
    }

    #[test]
    fn the_time_that_was_wanted_is_remembered() {
        let mut slot = Slot::default();
        slot.birth.unborn = vec![unborn(0, Wanted::TimestampMs(1_500))];
        let record = born_record(0, &slot.birth);
        let mut next = Slot::default();
        next.apply(Some(&record.key), Some(&record.value)).unwrap();
        assert_eq!(next.birth.unborn, slot.birth.unborn);
        assert_eq!(next.to_ask(|_| true)[0].1, OffsetSpec::Timestamp(1_500));
    }

    #[test]
    fn positions_of_another_cluster_or_of_another_division_are_not_used() {
        let birth = Birth::new(5, 4, Some("old".into()));
        assert_eq!(birth.fits(4, "old"), Ok(()));
        assert_eq!(birth.fits(4, "new").unwrap_err().code, Code::SourceReplaced);
        assert_eq!(birth.fits(8, "old").unwrap_err().code, Code::OwnTopicUnfit);
    }

    #[test]
    fn a_slot_of_an_older_version_is_believed_and_known_to_be_incomplete() {
        let mut slot = Slot::default();
        slot.apply(Some(br#"{"slot":2}"#), Some(br#"{"created_at_ms":5}"#))
            .unwrap();
        assert!(slot.born && slot.birth.is_incomplete());
        assert_eq!(slot.birth.fits(4, "any"), Ok(()));
    }

    #[test]
    fn a_record_that_cannot_be_understood_is_an_error_not_a_fresh_start() {
        assert!(
            Slot::default()
                .apply(Some(br#"{"topic":"t","partition":0}"#), Some(b"garbage"))
                .is_err()
        );
        assert!(Slot::default().apply(None, None).is_err());
    }
}
