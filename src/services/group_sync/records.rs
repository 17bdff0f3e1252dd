//! What is told on topics of the target: checkpoints, offset syncs, groups that have moved, and the offset map.

use std::collections::BTreeMap;

use rdkafka::message::Message;

use super::decide::{Group, checkpoints as due_checkpoints, remember};
use super::translator::{READ_TIMEOUT, Translator};
use crate::context::{ADMIN_TIMEOUT, FlowContext, Route, View, now_ms};
use crate::error::{Error, Result, Side};
use crate::kafka::admin::OffsetSpec;
use crate::kafka::control::ControlProducer;
use crate::kafka::tail::{absent_is_empty, read_topic};
use crate::kafka::{NextOffset, Offset, Source, Target, TopicPartition};
use crate::mm2::{self, Checkpoint, OffsetSync};
use crate::offset_map::{Edit, PartitionMap, Thinning, encode_key, thin_before};
use crate::state::map_reader::MapReader;
use crate::state::moved_groups;
use crate::state::task_of;
use crate::state::topics::{ensure_audit, ensure_mm2_topic};
use crate::status::GroupSyncState;

impl Translator {
    /// What was told before this life: a position that went back on the source while nobody looked is seen then, and
    /// one that was read on on the target.
    pub(super) fn remember(&mut self, context: &FlowContext, view: &View) -> Result<()> {
        if self.told.is_none() {
            let remote = |(tp, route): (&TopicPartition, &Route)| {
                let remote = TopicPartition::new(route.remote.as_str(), tp.partition);
                (remote, tp.clone())
            };
            let sources: BTreeMap<_, _> = view.partitions.iter().map(remote).collect();
            self.told = Some(match context.spec.offset_sync.checkpoints {
                true => remember(&checkpoints(context)?, |tp| sources.get(tp).cloned()),
                false => BTreeMap::new(),
            });
        }
        Ok(())
    }

    /// Stores which groups have moved. Until it is stored, this daemon alone knows.
    pub(super) fn store_moves(&mut self, context: &FlowContext) -> Result<()> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let (topic, flow) = (context.spec.id.failover_topic(), &context.spec.id);
        if !self.there.contains(&topic) {
            ensure_audit(&context.target_admin, &context.spec)?;
            self.there.insert(topic.clone());
        }
        for group in self.unstored.clone() {
            let Some(moved) = self.moved.as_ref().and_then(|moved| moved.get(&group)) else {
                continue;
            };
            let (key, value) = moved_groups::record(flow, &group, moved);
            let at = moved.at_ms;
            self.send(context, &topic, 0, &key, Some(&value), at)?;
            self.stored.push(group);
        }
        Ok(())
    }

    /// Tells the checkpoints that are due; those that go back on the target only if `back`.
    pub(super) fn tell_checkpoints(
        &mut self,
        context: &FlowContext,
        view: &View,
        now: &BTreeMap<String, Group>,
        back: bool,
    ) -> Result<()> {
        // What has not been read is not told again.
        if !context.spec.offset_sync.checkpoints || self.told.is_none() {
            return Ok(());
        }
        let topic = mm2::checkpoints_topic(&context.spec.id.source);
        for (group, positions) in now {
            let told = self.told.get_or_insert_default().get(group);
            // Where a position could not be written, the target may have a later one.
            let state = self.groups.get(group).map(|known| known.state);
            let back = back && !matches!(state, Some(GroupSyncState::Failed | GroupSyncState::Unknown));
            let mut due = due_checkpoints(positions, told);
            due.retain(|tp, is| {
                let before = told.and_then(|told| told.get(tp));
                back || before.is_none_or(|before| before.target <= is.target)
            });
            for (tp, is) in due {
                let Some(route) = view.partitions.get(&tp) else {
                    continue;
                };
                let checkpoint = Checkpoint {
                    group: group.clone(),
                    topic_partition: TopicPartition::new(route.remote.as_str(), tp.partition),
                    upstream: Source(NextOffset(is.source)),
                    downstream: Target(NextOffset(is.target)),
                    metadata: positions[&tp].metadata.clone(),
                };
                if let Some((key, value)) = checkpoint.encode() {
                    self.send_mm2(context, &topic, &key, &value)?;
                    let told = self.told.get_or_insert_default();
                    told.entry(group.clone()).or_default().insert(tp, is);
                }
            }
        }
        Ok(())
    }

    /// One offset sync per partition that has moved: the newest record.
    pub(super) fn tell_offset_syncs(
        &mut self,
        context: &FlowContext,
        view: &View,
        reader: &MapReader,
    ) -> Result<()> {
        let topic = mm2::offset_syncs_topic(&context.spec.id.source);
        let is_current = |tp: &TopicPartition| {
            view.partitions.get(tp).is_some_and(|route| {
                let between = reader.between().get(tp);
                between.is_none_or(|it| it.outdated(&route.topic_id, &route.target_topic_id).is_none())
            })
        };
        for (tp, map) in reader.maps().iter().filter(|(tp, _)| is_current(tp)) {
            let Some(run) = map.last_run() else {
                continue;
            };
            let last = run.length as i64 - 1;
            if self.synced.insert(tp.clone(), run.source + last) == Some(run.source + last) {
                continue;
            }
            let sync = OffsetSync {
                topic_partition: tp.clone(),
                upstream: Source(Offset(run.source + last)),
                downstream: Target(Offset(run.target + last)),
            };
            if let Some((key, value)) = sync.encode() {
                self.send_mm2(context, &topic, &key, &value)?;
            }
        }
        Ok(())
    }

    /// Merges and thins the map. Each edit leaves a map that gives safe answers, so they need not go together;
    /// another owner of task 0 that does the same does no harm.
    pub(super) fn keep_map(
        &mut self,
        context: &FlowContext,
        tasks: u32,
        maps: &BTreeMap<TopicPartition, PartitionMap>,
    ) -> Result<()> {
        let spec = &context.spec.offset_sync;
        let retention = i64::try_from(spec.map_retention.as_millis()).unwrap_or(i64::MAX);
        let max_bytes = usize::try_from(spec.map_bytes).unwrap_or(usize::MAX);
        let older_than_ms = thin_before(maps.values(), max_bytes, now_ms() - retention);
        let asked: Vec<_> = maps.keys().map(|tp| (tp.clone(), OffsetSpec::Earliest)).collect();
        let starts = context.source_admin.list_offsets(&asked, true, ADMIN_TIMEOUT)?;
        let topic = context.spec.id.offset_map_topic();
        for (tp, map) in maps {
            let log_start = starts.get(tp).and_then(|start| start.as_ref().ok()).copied();
            let rule = Thinning {
                older_than_ms,
                log_start,
            };
            for edit in map.upkeep(rule) {
                let (key, value, at) = match edit {
                    Edit::Put(segment, at) => (segment.key(tp), Some(segment.encode()), at),
                    Edit::Remove(key) => (key, None, now_ms()),
                };
                let (key, partition) = (encode_key(&key), task_of(tp, tasks) as i32);
                self.send(context, &topic, partition, &key, value.as_deref(), at)?;
            }
        }
        self.metrics
            .map_bytes(maps.values().map(PartitionMap::stored_bytes).sum());
        Ok(())
    }

    /// Waits for what the target says to the records of this pass.
    pub(super) fn hear(&mut self, context: &FlowContext) -> Result<()> {
        let Some(producer) = &self.producer else {
            return Ok(());
        };
        producer.flush(ADMIN_TIMEOUT);
        let refused: BTreeMap<String, Error> = producer
            .answers()
            .into_iter()
            .filter_map(|(_, answer)| answer.err())
            .collect();
        let stored = std::mem::take(&mut self.stored);
        if !refused.contains_key(&context.spec.id.failover_topic()) {
            stored.iter().for_each(|group| _ = self.unstored.remove(group));
        }
        for (topic, error) in refused {
            // Whatever became of it is found out by the next pass.
            self.there.remove(&topic);
            let part = if topic == mm2::checkpoints_topic(&context.spec.id.source) {
                // What was told is read again, and told again where it is missing.
                self.told = None;
                "checkpoints"
            } else if topic == mm2::offset_syncs_topic(&context.spec.id.source) {
                self.synced.clear();
                "offset syncs"
            } else if topic == context.spec.id.failover_topic() {
                "groups that have moved"
            } else {
                self.upkeep = None;
                "upkeep of the offset map"
            };
            self.note(part, Err(error.of_own_topic()))?;
        }
        Ok(())
    }

    /// A record for one of MM2's topics, which is there then.
    fn send_mm2(&mut self, context: &FlowContext, topic: &str, key: &[u8], value: &[u8]) -> Result<()> {
        if !self.there.contains(topic) {
            ensure_mm2_topic(&context.target_admin, topic, ADMIN_TIMEOUT).map_err(Error::of_own_topic)?;
            self.there.insert(topic.to_owned());
        }
        self.send(context, topic, 0, key, Some(value), now_ms())
    }

    fn send(
        &mut self,
        context: &FlowContext,
        topic: &str,
        partition: i32,
        key: &[u8],
        value: Option<&[u8]>,
        at_ms: i64,
    ) -> Result<()> {
        if self.producer.as_ref().is_some_and(ControlProducer::has_failed) {
            self.producer = None;
        }
        self.numbers += 1;
        let producer = match &mut self.producer {
            Some(producer) => producer,
            none => {
                let label = format!("{} positions", context.spec.id.group());
                none.insert(ControlProducer::new(&context.target, &label, Side::Target)?)
            }
        };
        producer.send(topic, partition, key, value, at_ms, self.numbers)
    }
}

/// The checkpoints on the target, the newest of each partition of each group last.
fn checkpoints(context: &FlowContext) -> Result<Vec<Checkpoint>> {
    let topic = mm2::checkpoints_topic(&context.spec.id.source);
    let (admin, target) = (&context.target_admin, &context.target);
    let mut checkpoints = vec![];
    let read = read_topic(admin, target, Side::Target, &topic, READ_TIMEOUT, |message| {
        let pair = message.key().zip(message.payload());
        checkpoints.extend(pair.and_then(|(key, value)| Checkpoint::decode(key, value)));
    });
    absent_is_empty(read).map_err(Error::of_own_topic)?;
    Ok(checkpoints)
}
