//! Starting a flow where a stopped MM2 left off: its positions and offset syncs become progress and offset map.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use rdkafka::message::{BorrowedMessage, Message, Timestamp};
use serde_json::Value;

use super::stopped::StoppedFlow;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::OffsetSpec;
use crate::kafka::consumer::headers;
use crate::kafka::producer::Producer;
use crate::kafka::tail::{Stretch, absent_is_empty, read_to_end, read_topic};
use crate::kafka::{Offset, Source, TopicPartition};
use crate::mm2::connect_offsets::{Position, PositionKey};
use crate::mm2::overlap::{Copied, Seen, aligned, anchored};
use crate::mm2::{OffsetSync, offset_syncs_topic};
use crate::offset_map::{MapWriter, Run, Segment};
use crate::state::audit::Change;
use crate::state::bounds::offset;
use crate::state::ledger::StateRecord;
use crate::state::resume::{Bounds, StoredProgress, begin};
use crate::state::slot::{Birth, Slot, born_record, segment_record};
use crate::topology::{Delivery, FlowSpec, StartFrom};

/// How long the clusters may be silent.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long transactions live by default (60 s), and how soon the broker ends them (10 s), and a bit.
const TRANSACTION: Duration = Duration::from_secs(75);
/// Most records of a partition that are compared. MM2 stores positions every minute.
const COMPARED: usize = 200_000;
/// Most offset syncs of a partition that become part of the offset map.
const SYNCS: usize = 1_000;

/// What a stopped MM2 left.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// The last record that it says it has copied, by source partition.
    pub positions: BTreeMap<TopicPartition, i64>,
    /// Its offset syncs, by source partition, in the order of their making.
    pub syncs: BTreeMap<TopicPartition, Vec<Copied>>,
    /// The tasks of its source connector, where it worked exactly once.
    pub exactly_once: Option<u32>,
}

/// What was found beyond the position that MM2 stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// These had been copied.
    Proven(Vec<Copied>),
    /// It cannot be told, and why: what MM2 had copied beyond is copied again.
    Unproven(&'static str),
}

/// A partition that is taken over.
#[derive(Clone, Debug)]
pub struct TakenOver {
    /// What is to be stored.
    pub change: Change,
    /// The last record that MM2 says it has copied; `None`: it has not, `start_from` decides.
    pub last: Option<i64>,
    /// What it had copied beyond.
    pub overlap: Overlap,
    /// What is known of the correspondence of offsets.
    pub segments: Vec<Segment>,
    /// What both sides have.
    pub bounds: Bounds,
}

/// Decides where one partition goes on. `stored`: the flow ran before MM2 did.
///
/// # Errors
/// The source does not have what comes next, and `on_gap` is `halt`.
fn take_over(
    Examined {
        partition,
        last,
        syncs,
        bounds,
    }: Examined<'_>,
    overlap: Overlap,
    stored: Option<&StoredProgress>,
    spec: &FlowSpec,
) -> Result<TakenOver> {
    let copied = match &overlap {
        Overlap::Proven(copied) => copied.as_slice(),
        Overlap::Unproven(_) => &[],
    };
    let last_copied = copied.last().map_or(last, |(source, _)| *source);
    let next = Offset(last_copied).next().0;
    // What causeway copied before is on the target, wherever MM2 began again.
    let stored = stored.filter(|stored| stored.topic_id == *bounds.topic_id.0);
    let next = stored.map_or(next, |stored| stored.next_source_offset.max(next));
    let known = StoredProgress {
        next_source_offset: next,
        next_target_offset: Some(bounds.target_end),
        // Of what MM2 copied behind our last record the epoch is not known.
        leader_epoch: stored
            .filter(|stored| stored.next_source_offset == next)
            .and_then(|stored| stored.leader_epoch),
        ..match stored {
            Some(stored) => stored.clone(),
            None => nothing(&bounds),
        }
    };
    let begin = begin(Some(&known), &bounds, spec.on_gap.of(&partition.topic))?;
    let progress = begin.start(Some(&known), &bounds, Delivery::ExactlyOnce).progress;
    let generation = progress.map.map_or(0, |map| map.number);
    let mut segments = segments(generation, copied, &syncs, next);
    // Of what causeway copied the map knows more than MM2.
    segments.retain(|segment| stored.is_none_or(|stored| stored.next_source_offset <= segment.source));
    Ok(TakenOver {
        segments,
        change: Change {
            partition: partition.clone(),
            before: stored.cloned(),
            after: progress,
            declared: Vec::from_iter(begin.gap),
        },
        last: Some(last),
        overlap,
        bounds,
    })
}

fn nothing(bounds: &Bounds) -> StoredProgress {
    StoredProgress::new(bounds.log_start, &bounds.topic_id)
}

/// The offset map of what MM2 copied: a point for each of its syncs, between which it knows bounds, and the exact
/// runs of what was compared.
fn segments(generation: u32, copied: &[Copied], syncs: &[Copied], next: i64) -> Vec<Segment> {
    let exact_from = copied.first().map_or(next, |(source, _)| *source);
    let mut segments: Vec<Segment> = syncs
        .iter()
        .filter(|(source, _)| *source < exact_from)
        .map(|&(source, target)| {
            let run = Run {
                source,
                target,
                length: 1,
            };
            Segment::new(generation, (source, target), run.source_end(), false, &[run])
        })
        .collect();
    if let Some((source, target)) = copied.first() {
        let mut writer = MapWriter::new(generation, false, *source, *target);
        for (source, target) in copied {
            writer.observe(*source, *target, 1);
        }
        segments.extend(writer.segments(next));
    }
    segments
}

/// The syncs that are still true, ascending, and few enough. Where MM2 went back, what it had said from there on is
/// overruled; where the target went back, everything is.
fn true_syncs(syncs: &[Copied], target_end: i64) -> Vec<Copied> {
    let mut kept: Vec<Copied> = vec![];
    for (source, target) in syncs {
        if kept.last().is_some_and(|last| *target < last.1) {
            kept.clear();
        }
        while kept.last().is_some_and(|last| *source <= last.0) {
            kept.pop();
        }
        kept.push((*source, *target));
    }
    kept.retain(|(_, target)| *target < target_end);
    let step = kept.len().div_ceil(SYNCS).max(1);
    // The newest always stays.
    let mut few: Vec<Copied> = kept.into_iter().rev().step_by(step).collect();
    few.reverse();
    few
}

/// Reads what MM2 left on both clusters.
///
/// # Errors
/// A cluster cannot be asked, or MM2's offsets topic is not there.
pub fn read_left(flow: &StoppedFlow<'_>) -> Result<Left> {
    let (spec, mm2) = (flow.spec, &flow.spec.mirror_maker);
    let (target, connection) = (&flow.target, flow.target_connection);
    let mut left = Left::default();
    let mut unreadable = None;
    let offsets = &mm2.offsets_topic;
    read_topic(target, connection, Side::Target, offsets, PATIENCE, |message| {
        let Some(key) = message.key().and_then(PositionKey::decode) else {
            return;
        };
        if key.connector != mm2.connector || key.cluster != mm2.source_alias {
            return;
        }
        match Position::decode(message.payload()) {
            Some(Position::Last(Source(Offset(last)))) => {
                left.positions.insert(key.topic_partition, last);
            }
            Some(Position::Nothing) => {
                left.positions.remove(&key.topic_partition);
            }
            None => unreadable = Some(key.topic_partition),
        }
    })?;
    if let Some(partition) = unreadable {
        let detail = format!(
            "{}: the position of {partition} is not one of Connect's",
            mm2.offsets_topic
        );
        return Err(Error::new(Code::ProgressUnreadable, detail));
    }
    let fencing = format!("tasks-fencing-{}", mm2.connector);
    let configs = &mm2.configs_topic;
    let configs = read_topic(target, connection, Side::Target, configs, PATIENCE, |message| {
        if message.key() == Some(fencing.as_bytes()) {
            let value: Option<Value> = message.payload().and_then(|it| serde_json::from_slice(it).ok());
            let tasks = value.and_then(|value| u32::try_from(value["task-count"].as_u64()?).ok());
            left.exactly_once = tasks.or(left.exactly_once);
        }
    });
    absent_is_empty(configs)?;
    // Where it keeps them is MM2's choice: on the source by default.
    let mut places = vec![
        (
            &flow.source,
            flow.source_connection,
            Side::Source,
            offset_syncs_topic(&spec.id.target),
        ),
        (
            target,
            connection,
            Side::Target,
            offset_syncs_topic(&spec.id.source),
        ),
    ];
    if mm2.source_alias.is_empty() {
        // It keeps names by empty aliases and an empty separator, which up to 3.0 is not that of internal topics.
        for topic in ["mm2-offset-syncs..internal", "mm2-offset-syncsinternal"] {
            let (source, of_source) = (&flow.source, flow.source_connection);
            places.push((source, of_source, Side::Source, topic.to_owned()));
            places.push((target, connection, Side::Target, topic.to_owned()));
        }
    }
    for (admin, connection, side, topic) in places {
        let read = read_topic(admin, connection, side, &topic, PATIENCE, |message| {
            let sync = message.key().zip(message.payload());
            if let Some(sync) = sync.and_then(|(key, value)| OffsetSync::decode(key, value)) {
                let pair = (sync.upstream.0.0, sync.downstream.0.0);
                left.syncs.entry(sync.topic_partition).or_default().push(pair);
            }
        });
        absent_is_empty(read)?;
    }
    Ok(left)
}

/// Fences the tasks of an MM2 that worked exactly once, and ends what they left open.
///
/// # Errors
/// The target does not answer, or refuses.
pub fn fence_mm2(flow: &StoppedFlow<'_>, tasks: u32) -> Result<()> {
    let mm2 = &flow.spec.mirror_maker;
    for task in 0..tasks {
        // Connect's `WorkerConfig` names them so.
        let id = format!("{}-{}-{task}", mm2.connect_group, mm2.connector);
        let config = flow.target_connection.task_producer(&id, "none", Some(&id));
        let refused = |text: String| Error::new(Code::TargetAuthentication, text);
        let mut producer = Producer::new(&config, &id).map_err(refused)?;
        producer.learn_leaders(PATIENCE);
        producer
            .init_transactions(PATIENCE)
            .map_err(|e| Error::new(Code::TargetTransactionFailed, format!("fencing {id}: {}", e.text)))?;
    }
    Ok(())
}

/// Waits until no transaction is open on the target's partitions: what it holds is decided then.
///
/// # Errors
/// One stays open for longer than transactions live by default, or the target cannot be asked.
pub fn wait_for_open_transactions(
    flow: &StoppedFlow<'_>,
    selected: &[(TopicPartition, String)],
    left: &Left,
) -> Result<()> {
    let copied = selected
        .iter()
        .filter(|(partition, _)| left.positions.contains_key(partition));
    let remotes: Vec<_> = copied
        .map(|(partition, remote)| TopicPartition::new(remote.as_str(), partition.partition))
        .map(|remote| (remote, OffsetSpec::Latest))
        .collect();
    let deadline = Instant::now() + TRANSACTION;
    loop {
        let ends = |committed| flow.target.list_offsets(&remotes, committed, PATIENCE);
        let (decided, all) = (ends(true)?, ends(false)?);
        let open = all
            .iter()
            .find(|(partition, end)| decided.get(*partition) != Some(end));
        let Some((partition, _)) = open else {
            return Ok(());
        };
        if deadline <= Instant::now() {
            let detail = format!("{partition}: a transaction has been open for {TRANSACTION:?}");
            return Err(Error::new(Code::TargetTransactionFailed, detail));
        }
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// What was decided about a flow.
#[derive(Debug, Default)]
pub struct Plan {
    /// The partitions that go on.
    pub partitions: Vec<TakenOver>,
    /// Partitions that cannot, and why.
    pub errors: Vec<(TopicPartition, Error)>,
    /// Partitions of MM2's that the flow does not copy.
    pub foreign: Vec<TopicPartition>,
}

/// Looks at both sides of every partition that the flow copies, `selected`, and decides.
///
/// # Errors
/// A cluster cannot be asked.
pub fn plan(
    flow: &StoppedFlow<'_>,
    selected: &[(TopicPartition, String)],
    left: &Left,
    slots: &[Slot],
) -> Result<Plan> {
    let mut plan = Plan::default();
    let known: BTreeSet<&TopicPartition> = selected.iter().map(|(partition, _)| partition).collect();
    let foreign = left
        .positions
        .keys()
        .filter(|partition| !known.contains(partition));
    plan.foreign.extend(foreign.cloned());
    let mut bounds = flow.bounds(selected)?;
    let mut copied: BTreeMap<&str, Vec<Examined<'_>>> = BTreeMap::new();
    let mut new = vec![];
    for (partition, remote) in selected {
        let last = left.positions.get(partition).copied();
        match (last, bounds.remove(partition)) {
            // What MM2 has not copied needs no place on the target yet.
            (None, Some(Err(error))) if error.code == Code::TargetTopicMissing => {}
            (_, Some(Err(error))) => plan.errors.push((partition.clone(), error)),
            (None, Some(Ok(bounds))) => new.push((partition, bounds)),
            (Some(last), Some(Ok(bounds))) => copied.entry(remote).or_default().push(Examined {
                partition,
                last,
                syncs: left
                    .syncs
                    .get(partition)
                    .map_or(vec![], |syncs| true_syncs(syncs, bounds.target_end)),
                bounds,
            }),
            (_, None) => {
                let error = Error::new(Code::SourceUnexpected, "no answer about the partition");
                plan.errors.push((partition.clone(), error));
            }
        }
    }
    for (remote, examined) in copied {
        let mut overlaps = overlaps(flow, remote, &examined)?;
        for it in examined {
            let overlap = overlaps.remove(&it.partition.partition);
            let overlap = overlap.unwrap_or(Overlap::Unproven("it was not compared"));
            let slot = &slots[flow.task_of(it.partition) as usize];
            let (partition, stored) = (it.partition, slot.progress.get(it.partition));
            match take_over(it, overlap, stored, flow.spec) {
                Ok(taken) => plan.partitions.push(taken),
                Err(error) => plan.errors.push((partition.clone(), error)),
            }
        }
    }
    if slots.iter().all(|slot| !slot.born) {
        plan.partitions.extend(first_starts(flow, new)?);
    }
    Ok(plan)
}

/// A partition that MM2 has copied.
struct Examined<'a> {
    partition: &'a TopicPartition,
    /// The last record that it says it has copied.
    last: i64,
    /// Its offset syncs, as far as they are still true.
    syncs: Vec<Copied>,
    bounds: Bounds,
}

/// Where partitions begin that MM2 has never copied: as in a flow's first start. Those that begin at their log start
/// need no record.
fn first_starts(flow: &StoppedFlow<'_>, new: Vec<(&TopicPartition, Bounds)>) -> Result<Vec<TakenOver>> {
    let spec = match flow.spec.start_from {
        StartFrom::Earliest => return Ok(vec![]),
        StartFrom::Latest => OffsetSpec::Latest,
        StartFrom::Timestamp(ms) => OffsetSpec::Timestamp(ms),
    };
    let asked: Vec<_> = new
        .iter()
        .map(|(partition, _)| ((*partition).clone(), spec))
        .collect();
    let starts = flow.source.list_offsets(&asked, true, PATIENCE)?;
    let taken = |(partition, bounds): (&TopicPartition, Bounds)| {
        let progress = StoredProgress {
            next_source_offset: offset(&starts, partition)?,
            ..nothing(&bounds)
        };
        Ok(TakenOver {
            change: Change {
                partition: partition.clone(),
                before: None,
                after: progress,
                declared: vec![],
            },
            last: None,
            overlap: Overlap::Proven(vec![]),
            segments: vec![],
            bounds,
        })
    };
    new.into_iter().map(taken).collect()
}

/// What the target shows of records behind the positions of one topic, by partition number.
fn overlaps(
    flow: &StoppedFlow<'_>,
    remote: &str,
    examined: &[Examined<'_>],
) -> Result<BTreeMap<i32, Overlap>> {
    let Some(Examined { partition, .. }) = examined.first() else {
        return Ok(BTreeMap::new());
    };
    let topic = &partition.topic;
    let mut sides = sides(flow, remote, examined)?;
    let mut overlaps = BTreeMap::new();
    // MM2 reads what is not committed, unless it was told not to.
    for uncommitted in [false, true] {
        let mut starts = vec![];
        for (number, it) in &mut sides {
            it.source.clear();
            it.behind = 0;
            let proven = matches!(overlaps.get(number), Some(Overlap::Proven(_)));
            if !proven && it.source_from < it.end {
                starts.push((*number, Some(it.source_from)));
            }
        }
        if starts.is_empty() {
            break;
        }
        let stretch = Stretch {
            topic,
            partitions: &starts,
            uncommitted,
        };
        read_to_end(
            flow.source_connection,
            Side::Source,
            &stretch,
            PATIENCE,
            |message| {
                let Some(it) = sides.get_mut(&message.partition()) else {
                    return Ok(false);
                };
                it.source.push(seen(message, it.without_time));
                it.behind += usize::from(it.last < message.offset());
                // Enough to pair every record of the target, behind the one that was stored.
                Ok(it.behind < it.target.len())
            },
        )?;
        for (number, _) in &starts {
            let overlap = sides[number].overlap();
            overlaps.insert(*number, overlap);
        }
    }
    for (number, it) in &sides {
        // The source holds nothing from the stored record on.
        overlaps.entry(*number).or_insert_with(|| it.overlap());
    }
    Ok(overlaps)
}

/// What to compare of each partition, and what the target has of it.
fn sides(flow: &StoppedFlow<'_>, remote: &str, examined: &[Examined<'_>]) -> Result<BTreeMap<i32, Sides>> {
    let there = |it: &Examined<'_>| TopicPartition::new(remote, it.partition.partition);
    let asked: Vec<_> = examined
        .iter()
        .map(|it| (there(it), OffsetSpec::Earliest))
        .collect();
    let remote_starts = flow.target.list_offsets(&asked, false, PATIENCE)?;
    let mut sides: BTreeMap<i32, Sides> = BTreeMap::new();
    for it in examined {
        let (last, start) = (it.last, offset(&remote_starts, &there(it))?);
        let sync =
            it.syncs.iter().rev().copied().find(|(source, target)| {
                *source <= last && start <= *target && it.bounds.log_start <= *source
            });
        sides.insert(
            it.partition.partition,
            Sides {
                last,
                sync,
                target_from: sync.map_or(
                    (it.bounds.target_end - COMPARED as i64).max(start),
                    |(_, target)| target,
                ),
                source_from: sync.map_or(last, |(source, _)| source).max(it.bounds.log_start),
                end: it.bounds.end,
                ..Sides::default()
            },
        );
    }
    let starts: Vec<_> = sides
        .iter()
        .map(|(number, it)| (*number, Some(it.target_from)))
        .collect();
    let stretch = Stretch {
        topic: remote,
        partitions: &starts,
        uncommitted: false,
    };
    read_to_end(
        flow.target_connection,
        Side::Target,
        &stretch,
        PATIENCE,
        |message| {
            let Some(it) = sides.get_mut(&message.partition()) else {
                return Ok(false);
            };
            // The target's own clock says nothing about the record.
            it.without_time |= matches!(message.timestamp(), Timestamp::LogAppendTime(_));
            it.target.push(seen(message, it.without_time));
            Ok(it.target.len() <= COMPARED)
        },
    )?;
    Ok(sides)
}

/// The ends of one partition on both sides.
#[derive(Default)]
struct Sides {
    last: i64,
    /// The newest sync at or before `last` that both sides still have.
    sync: Option<Copied>,
    target_from: i64,
    source_from: i64,
    end: i64,
    without_time: bool,
    source: Vec<Seen>,
    /// How many of them lie behind `last`.
    behind: usize,
    target: Vec<Seen>,
}

impl Sides {
    fn overlap(&self) -> Overlap {
        if COMPARED < self.target.len() {
            return Overlap::Unproven("MM2 has written too much since its last offset sync");
        }
        if self.target.is_empty() {
            return Overlap::Unproven("the target holds nothing of it any more");
        }
        let by_sync = || {
            let (source, target) = self.sync?;
            let starts = self.source.first()?.offset == source && self.target.first()?.offset == target;
            starts
                .then(|| aligned(&self.source, &self.target, self.last))
                .flatten()
        };
        let stored = self.source.iter().position(|it| it.offset == self.last);
        let by_record = || anchored(&self.source[stored?..], &self.target, self.last);
        match by_sync().or_else(by_record) {
            Some(copied) => Overlap::Proven(copied),
            None if stored.is_none() => {
                Overlap::Unproven("the source does not hold the stored record any more")
            }
            None => Overlap::Unproven("the end of the target is not a copy of the source"),
        }
    }
}

/// A digest of a record: its own content, or that of a copy that carries it on.
fn seen(message: &BorrowedMessage<'_>, without_time: bool) -> Seen {
    let half = |seed: u8| {
        let mut hasher = DefaultHasher::new();
        (seed, message.key(), message.payload()).hash(&mut hasher);
        headers(message).hash(&mut hasher);
        if !without_time {
            message.timestamp().to_millis().hash(&mut hasher);
        }
        hasher.finish()
    };
    Seen {
        offset: message.offset(),
        content: u128::from(half(0)) << 64 | u128::from(half(1)),
    }
}

/// What is stored besides progress: that the slots are owned, and the offset map; by task.
pub fn records(
    flow: &StoppedFlow<'_>,
    plan: &Plan,
    slots: &[Slot],
    now_ms: i64,
) -> BTreeMap<u32, Vec<StateRecord>> {
    let mut records: BTreeMap<u32, Vec<StateRecord>> = BTreeMap::new();
    for (task, slot) in (0..).zip(slots) {
        if !slot.born {
            let birth = Birth::new(now_ms, flow.tasks, flow.source.cluster_id());
            records.entry(task).or_default().push(born_record(task, &birth));
        }
    }
    for it in &plan.partitions {
        let partition = &it.change.partition;
        let of = records.entry(flow.task_of(partition)).or_default();
        of.extend(
            it.segments
                .iter()
                .map(|segment| segment_record(partition, segment)),
        );
    }
    records
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use regex::Regex;

    use super::*;
    use crate::kafka::TopicId;
    use crate::offset_map::{PartitionMap, Translation};
    use crate::topology::{GapPolicy, OnGap};

    #[test]
    fn a_sync_is_true_until_mm2_or_the_target_goes_back() {
        assert_eq!(
            true_syncs(&[(0, 0), (10, 12), (20, 25)], 26),
            [(0, 0), (10, 12), (20, 25)]
        );
        assert_eq!(
            true_syncs(&[(0, 0), (10, 12), (20, 25), (10, 30), (11, 31)], 40),
            [(0, 0), (10, 30), (11, 31)]
        );
        assert_eq!(
            true_syncs(&[(0, 0), (10, 12), (20, 3)], 40),
            [(20, 3)],
            "the target was emptied"
        );
        assert_eq!(
            true_syncs(&[(0, 0), (10, 12)], 12),
            [(0, 0)],
            "the target lost its end"
        );
        let many: Vec<Copied> = (0..10_000).map(|at| (at, at)).collect();
        let few = true_syncs(&many, 20_000);
        assert!(
            few.len() <= SYNCS && few.last() == Some(&(9_999, 9_999)),
            "{}",
            few.len()
        );
    }

    #[test]
    fn what_the_source_lost_since_mm2_stopped_is_refused_or_declared_as_on_gap_says_of_the_topic() {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let files = (
            path("config/local.yaml"),
            [path("topologies/active-standby.yaml")],
        );
        let (_, topologies) =
            crate::topology::load(&files.0, &files.1, &|_| None).expect("an example without mistakes");
        let mut spec = topologies[0].flows[0].clone();
        let clicks = Regex::new("^clicks$").expect("a regular expression");
        spec.on_gap = GapPolicy {
            default: OnGap::Halt,
            others: vec![("clicks".to_owned(), clicks)],
        };
        let taken = |topic| {
            let partition = TopicPartition::new(topic, 0);
            let examined = Examined {
                partition: &partition,
                last: 4,
                syncs: vec![],
                bounds: Bounds {
                    topic_id: TopicId("id".into()),
                    log_start: 10,
                    end: 100,
                    target_topic_id: TopicId("there".into()),
                    target_end: 5,
                    replicas: 1,
                    in_sync: 1,
                    writable: None,
                },
            };
            take_over(examined, Overlap::Proven(vec![]), None, &spec)
        };
        let refused = taken("orders").expect_err("its gap halts");
        assert_eq!(refused.code, Code::SourceOutOfRange);
        let change = taken("clicks").expect("its gap is declared").change;
        assert_eq!(change.after.next_source_offset, 10);
        let declared: Vec<String> = change.declared.iter().map(ToString::to_string).collect();
        assert_eq!(declared, ["[5, 10) source_out_of_range"]);
    }

    #[test]
    fn what_mm2_copied_is_known_exactly_where_it_was_compared_and_bounded_elsewhere() {
        let copied: Vec<Copied> = vec![(100, 210), (101, 211), (103, 212)];
        let partition = TopicPartition::new("orders", 0);
        let mut map = PartitionMap::new(partition.clone());
        for segment in segments(0, &copied, &[(10, 20), (60, 130), (101, 211)], 104) {
            map.apply(&segment.key(&partition), Some((segment, 0)));
        }
        let target = |position| map.translate(position).target();
        assert_eq!(
            [100, 101, 102, 103, 104].map(target),
            [210, 211, 212, 212, 213].map(Some)
        );
        assert!(matches!(map.translate(103), Translation::Exact { .. }));
        assert_eq!(target(60), Some(130));
        // Behind a sync its copy's next offset is safe, and how much is read again is bounded.
        assert!(
            matches!(map.translate(99), Translation::Bound { target: 131, .. }),
            "{:?}",
            map.translate(99)
        );
        assert!(
            matches!(map.translate(5), Translation::TooOld { .. }),
            "{:?}",
            map.translate(5)
        );
    }
}
