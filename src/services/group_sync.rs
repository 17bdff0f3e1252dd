//! The positions of consumer groups, by the owner of task 0: translated every interval, written to the target's
//! groups and as MM2's checkpoints, with MM2's offset syncs beside them; and the upkeep of the offset map, which
//! only this reader sees as a whole.
//!
//! ```text
//!  source: groups ──▶ committed ──▶ translate ──▶ target: groups without members, checkpoints
//!                                      ▲
//!  target: offset map ──▶ MapReader ───┤
//!                ▲                     ╰──▶ merge, thin, offset syncs
//!                ╰──────────────────────────────┘
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use rdkafka::message::Message;
use tracing::{debug, info, warn};

use super::Duty;
use super::supervision::Part;
use crate::context::{ADMIN_TIMEOUT, FlowContext, Route, View, now_ms};
use crate::copy::assignment::{Assignment, FlowLead};
use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::{GroupState, OffsetSpec};
use crate::kafka::control::ControlProducer;
use crate::kafka::groups::{Commit, Groups, Positions, Read};
use crate::kafka::tail::{absent_is_empty, read_topic};
use crate::kafka::{NextOffset, Offset, Source, Target, TopicPartition};
use crate::metrics::GroupSyncMetrics;
use crate::mm2::{self, Checkpoint, OffsetSync};
use crate::offset_map::{Edit, PartitionMap, Thinning, Translation, encode_key, thin_before};
use crate::state::map_reader::MapReader;
use crate::state::mm2_positions::running;
use crate::state::moved_groups::{self, Moved, MovedGroups};
use crate::state::task_of;
use crate::state::topics::{ensure_audit, ensure_mm2_topic};
use crate::status::{GroupStatus, GroupSyncStatus};

use decide::{Decision, Group, Placements, Translated};

pub mod decide;

/// How long one question about groups may take.
const GROUPS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long reading the offset map to its end may take at the start.
const MAP_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the target's positions are looked at where the source's do not change.
const LOOK_AGAIN: Duration = Duration::from_secs(60);
/// How long until the next look while it is not known what can be copied.
const NOT_YET: Duration = Duration::from_millis(200);
/// How often the offset map is merged and thinned.
const UPKEEP: Duration = Duration::from_secs(30);

/// The duty: nothing is kept of a time in which another daemon leads the flow.
pub struct GroupSync {
    translator: Option<Translator>,
    /// Of the flow.
    tasks: u32,
    interval: Duration,
}

impl GroupSync {
    /// The duty of a flow of so many tasks.
    pub fn new(tasks: u32) -> Self {
        Self {
            translator: None,
            tasks,
            interval: NOT_YET,
        }
    }
}

impl Duty for GroupSync {
    /// Nothing where another daemon leads the flow.
    type Report = Option<GroupSyncStatus>;
    const PART: Part = Part::Groups;

    fn interval(&self) -> Duration {
        self.interval
    }

    fn pass(&mut self, flow: &FlowContext, assignment: &Assignment) -> Result<Self::Report> {
        self.interval = flow.spec.offset_sync.interval;
        let Some(lead) = assignment.lead() else {
            self.translator = None;
            return Ok(None);
        };
        let Some(view) = flow.view.load_full() else {
            self.interval = NOT_YET;
            return Ok(None);
        };
        let translator = self.translator.get_or_insert_with(|| Translator::new(flow, lead));
        Ok(Some(translator.pass(flow, &view, self.tasks)))
    }
}

/// What an operator does about a group that has moved.
const UNTIL: &str = "its positions there are its own until `causeway offsets sync` is given for it";

/// What is known of one group besides its positions.
#[derive(Default)]
struct Known {
    positions: Group,
    /// What the target has of it from us, as far as this life knows.
    placed: Option<Placements>,
    /// When the target's positions were last those of the source.
    current: Option<Instant>,
    /// When the target was last seen to have them.
    seen: Option<Instant>,
    state: &'static str,
    reason: Option<String>,
    /// We were the first to give it positions on the target, and nobody has been seen to use it there since.
    created: bool,
}

impl Known {
    /// The target was seen to have what can be translated of these positions.
    fn is_at(&mut self, positions: &Group, placed: Placements) {
        self.positions.clone_from(positions);
        self.placed = Some(placed);
        self.seen = Some(Instant::now());
        self.stays();
    }

    /// Nothing has changed. What cannot be translated is never current.
    fn stays(&mut self) {
        if self
            .positions
            .values()
            .all(|it| it.translation.target().is_some())
        {
            self.current = Some(Instant::now());
        }
    }

    /// Whether there is no need to look at the target: the source's positions are as they were, and the target
    /// still had them lately. They may expire there while a group is idle on the source.
    fn is_settled(&self, positions: &Group, on_target: bool) -> bool {
        let written = self
            .positions
            .values()
            .any(|it| it.translation.target().is_some());
        self.positions == *positions
            && (on_target || !written)
            && self.seen.is_some_and(|at| at.elapsed() < LOOK_AGAIN)
    }
}

/// Positions of a group that are to be written.
struct Wanted {
    writes: BTreeMap<TopicPartition, Commit>,
    /// What the target has of it then.
    placed: Placements,
    /// The target does not know the group yet.
    is_new: bool,
}

/// Whether a group on the target is somebody's.
fn has_members(state: GroupState) -> bool {
    use GroupState::{CompletingRebalance, PreparingRebalance, Stable};
    matches!(state, Stable | PreparingRebalance | CompletingRebalance)
}

struct Translator {
    source: Groups,
    target: Groups,
    reader: Option<MapReader>,
    producer: Option<ControlProducer>,
    numbers: u64,
    groups: BTreeMap<String, Known>,
    /// What the checkpoints say, also those of a former life; `None` until they were read.
    told: Option<BTreeMap<String, Placements>>,
    /// Groups that are left alone; `None` until that was read.
    moved: Option<MovedGroups>,
    /// Groups of which it is not stored yet that they have moved.
    unstored: BTreeSet<String>,
    /// Those of them whose record is on its way.
    stored: Vec<String>,
    synced: BTreeMap<TopicPartition, i64>,
    /// MM2's topics that were seen on the target.
    there: BTreeSet<String>,
    upkeep: Option<Instant>,
    /// What failed in this pass, by what it stops.
    errors: Vec<String>,
    /// Groups of this pass whose positions could not be asked for or written.
    failed: Vec<(String, Error)>,
    passed: Option<Instant>,
    metrics: GroupSyncMetrics,
}

impl Translator {
    fn new(context: &FlowContext, _: FlowLead) -> Self {
        let label = format!("{} positions", context.spec.id.group());
        let groups = |cluster: &_, side| {
            Groups::new(context.group_process.clone(), Clone::clone(cluster), &label, side)
        };
        Self {
            source: groups(&context.source, Side::Source),
            target: groups(&context.target, Side::Target),
            reader: None,
            producer: None,
            numbers: 0,
            groups: BTreeMap::new(),
            told: None,
            moved: None,
            unstored: BTreeSet::new(),
            stored: vec![],
            synced: BTreeMap::new(),
            there: BTreeSet::new(),
            upkeep: None,
            errors: vec![],
            failed: vec![],
            passed: None,
            metrics: GroupSyncMetrics::new(&context.spec.id),
        }
    }

    /// One look at everything. What fails stops what it is about, and nothing else.
    fn pass(&mut self, context: &FlowContext, view: &View, tasks: u32) -> GroupSyncStatus {
        let known = std::mem::take(&mut self.errors);
        self.failed.clear();
        let started = Instant::now();
        if let Err(error) = self.try_pass(context, view, tasks) {
            self.errors.push(error.with_advice());
        }
        let failed = self.errors.len() + self.failed.len();
        if let Some((group, error)) = self.failed.first() {
            let (count, error) = (self.failed.len(), error.with_advice());
            self.errors.push(format!(
                "group positions: {count} not written, first {group}: {error}"
            ));
        }
        self.metrics.pass(started.elapsed(), failed as u64);
        let now = Instant::now();
        for (group, known) in &self.groups {
            let age = known
                .current
                .map(|at| now.saturating_duration_since(at).as_secs_f64());
            self.metrics.staleness(group, age);
        }
        for error in self.errors.iter().filter(|error| !known.contains(error)) {
            warn!(error, "group positions");
        }
        self.status(now)
    }

    /// Takes down what became of a part of the pass.
    ///
    /// # Errors
    /// A cluster cannot be reached: the other parts would only wait for it one after the other.
    fn note(&mut self, part: &str, outcome: Result<()>) -> Result<()> {
        match outcome {
            Ok(()) => Ok(()),
            Err(error) => match error.code {
                Code::SourceUnreachable
                | Code::SourceAuthentication
                | Code::TargetUnreachable
                | Code::TargetAuthentication => Err(error),
                _ => {
                    self.errors.push(format!("{part}: {}", error.with_advice()));
                    Ok(())
                }
            },
        }
    }

    /// The positions of a group could not be asked for or written.
    fn fail(&mut self, group: &str, state: &'static str, error: Error) {
        let known = self.groups.entry(group.to_owned()).or_default();
        known.state = state;
        known.reason = Some(error.with_advice());
        self.failed.push((group.to_owned(), error));
    }

    fn try_pass(&mut self, context: &FlowContext, view: &View, tasks: u32) -> Result<()> {
        if context.spec.mirror_maker.mirror_positions {
            let running = running(
                &context.target_admin,
                &context.target,
                &context.spec,
                Duration::ZERO,
            );
            let outcome = running.and_then(|running| match running {
                Some(shown) => Err(Error::new(Code::Mm2Running, shown)),
                None => Ok(()),
            });
            self.note("mirror_positions", outcome)?;
        }
        // Positions are asked for before the map is read: what they have passed is then in the map.
        let mut committed = Read::new();
        let asked = self.ask_source(context, &mut committed);
        self.note("groups of the source", asked)?;
        let caught_up = self.catch_up(context, tasks);
        self.note("offset map", caught_up)?;
        // What was read of the map stays with its reader while that is in use.
        let Some(reader) = self.reader.take() else {
            return Ok(());
        };
        let outcome = self.follow(context, view, tasks, committed, &reader);
        self.reader = Some(reader);
        outcome
    }

    /// The groups of the source and their positions.
    fn ask_source(&mut self, context: &FlowContext, committed: &mut Read) -> Result<()> {
        let (listed, partial) = context.source_admin.list_groups(ADMIN_TIMEOUT)?;
        self.errors.extend(partial.iter().map(Error::with_advice));
        let wanted: Vec<String> = listed
            .into_iter()
            .filter(|it| it.state != GroupState::Dead && context.spec.groups.matches(&it.group))
            .map(|it| it.group)
            .collect();
        if !wanted.is_empty() {
            *committed = self.source.committed(&wanted, GROUPS_TIMEOUT)?;
        }
        if partial.is_empty() {
            self.forget_deleted(context, &wanted)?;
        }
        Ok(())
    }

    /// Brings the offset maps up to date.
    fn catch_up(&mut self, context: &FlowContext, tasks: u32) -> Result<()> {
        let mut reader = match self.reader.take() {
            Some(reader) => reader,
            None => MapReader::open(&context.target, &context.spec.id, tasks)?,
        };
        let caught_up = reader.catch_up(MAP_TIMEOUT);
        // What was read stays where the next pass may go on there.
        if caught_up
            .as_ref()
            .err()
            .is_none_or(|error| matches!(error.code, Code::TargetUnreachable | Code::TargetUnavailable))
        {
            self.reader = Some(reader);
        }
        caught_up
    }

    /// Translates what groups have committed, and brings the target up to it.
    fn follow(
        &mut self,
        context: &FlowContext,
        view: &View,
        tasks: u32,
        committed: Read,
        reader: &MapReader,
    ) -> Result<()> {
        let metadata = context.spec.offset_sync.metadata;
        let outdated = match self::outdated(context, view, reader, &committed) {
            Ok(outdated) => outdated,
            Err(error) => return self.note("topics of groups", Err(error)),
        };
        let maps = |tp: &TopicPartition| reader.maps().get(tp).filter(|_| !outdated.contains_key(tp));
        let mut now: BTreeMap<String, Group> = BTreeMap::new();
        for (group, positions) in committed {
            match positions {
                Ok(positions) => {
                    let copied = |tp: &TopicPartition| view.partitions.contains_key(tp);
                    let group_now = decide::translate(&positions, maps, metadata, copied);
                    if !group_now.is_empty() {
                        now.insert(group, group_now);
                    }
                }
                Err(error) => self.fail(&group, "unknown", error),
            }
        }
        if context.spec.offset_sync.write_groups {
            let heard = self.hear_of_moves(context);
            self.note("groups that have moved", heard)?;
        }
        let remembered = self.remember(context, view);
        self.note("checkpoints", remembered)?;
        let decided = self.decide(context, view, &now);
        let is_decided = decided.is_ok();
        let mut wanted = BTreeMap::new();
        let decided = decided.map(|decided| wanted = decided);
        self.note("group positions", decided)?;
        for (group, positions) in &now {
            let mut why = outdated.iter().filter(|(tp, _)| positions.contains_key(tp));
            if let (Some((tp, why)), Some(known)) = (why.next(), self.groups.get_mut(group)) {
                known.reason.get_or_insert_with(|| format!("{tp}: {why}"));
            }
        }
        self.store_moves(context)?;
        // A position that is ahead of what the checkpoints tell counts as somebody else's. So those that go forward are
        // told before they are written, and those that go back when they are written.
        self.tell_checkpoints(context, view, &now, false)?;
        self.hear(context)?;
        let written = self.write(&now, wanted);
        self.note("group positions", written)?;
        self.store_moves(context)?;
        if is_decided {
            self.tell_checkpoints(context, view, &now, true)?;
        }
        if context.spec.offset_sync.offset_syncs {
            let told = self.tell_offset_syncs(context, view, reader);
            self.note("offset syncs", told)?;
        }
        if self.upkeep.is_none_or(|at| UPKEEP <= at.elapsed()) {
            self.upkeep = Some(Instant::now());
            let kept = self.keep_map(context, tasks, reader.maps());
            self.note("upkeep of the offset map", kept)?;
        }
        self.hear(context)?;
        if 0 < reader.unreadable() {
            let topic = context.spec.id.offset_map_topic();
            self.errors.push(format!(
                "{} records of {topic} cannot be read",
                reader.unreadable()
            ));
        }
        self.passed = Some(Instant::now());
        Ok(())
    }

    /// Groups that are gone from the source are reported, and deleted on the target if that is wanted and they
    /// are ours.
    fn forget_deleted(&mut self, context: &FlowContext, listed: &[String]) -> Result<()> {
        let listed: BTreeSet<&String> = listed.iter().collect();
        let missing: Vec<String> = self
            .groups
            .keys()
            .filter(|group| !listed.contains(group))
            .cloned()
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let committed = self.source.committed(&missing, GROUPS_TIMEOUT)?;
        for group in missing {
            if !decide::is_gone(&group, &committed) {
                // A broker lists nothing that it does not let us describe.
                if let Some(Err(error)) = committed.get(&group) {
                    self.fail(&group, "unknown", error.clone());
                } else {
                    let known = self.groups.entry(group).or_default();
                    known.state = "unknown";
                    known.reason =
                        Some("the source lists it no more, and does not say that it is gone".into());
                }
                continue;
            }
            let ours = self.groups.get(&group).is_some_and(|known| known.created);
            if context.spec.offset_sync.delete_groups && ours {
                let deleted = self.target.delete(std::slice::from_ref(&group), GROUPS_TIMEOUT);
                let error = match deleted {
                    Ok(mut each) => each.remove(&group).and_then(Result::err),
                    Err(error) => Some(error),
                };
                match error {
                    None => info!(group, "gone from the source, deleted on the target"),
                    Some(error) if error.code == Code::TargetGroupActive => {
                        info!(
                            group,
                            "gone from the source; its positions stay on the target, where it has members"
                        );
                    }
                    Some(error) => {
                        self.errors.push(format!(
                            "delete_groups: {group} is gone from the source: {}",
                            error.with_advice()
                        ));
                        continue;
                    }
                }
            } else {
                info!(group, "gone from the source; its positions stay on the target");
            }
            self.metrics.staleness(&group, None);
            self.groups.remove(&group);
            if let Some(told) = &mut self.told {
                told.remove(&group);
            }
        }
        Ok(())
    }

    /// What was told before this life: a position that went back on the source while nobody looked is seen then, and one
    /// that was read on on the target.
    fn remember(&mut self, context: &FlowContext, view: &View) -> Result<()> {
        if self.told.is_none() {
            let remote = |(tp, route): (&TopicPartition, &Route)| {
                let remote = TopicPartition::new(route.remote.as_str(), tp.partition);
                (remote, tp.clone())
            };
            let sources: BTreeMap<_, _> = view.partitions.iter().map(remote).collect();
            self.told = Some(match context.spec.offset_sync.checkpoints {
                true => decide::remember(&checkpoints(context)?, |tp| sources.get(tp).cloned()),
                false => BTreeMap::new(),
            });
        }
        Ok(())
    }

    /// Which groups are left alone, and which an operator has follow again.
    fn hear_of_moves(&mut self, context: &FlowContext) -> Result<()> {
        let mut moved = self.moved.take().unwrap_or_default();
        let first = moved.is_unread();
        let heard = moved.catch_up(&context.target_admin, &context.target, &context.spec.id);
        if heard.is_ok() || !first {
            self.moved = Some(moved);
        }
        for group in heard?.into_iter().filter(|_| !first) {
            info!(group, "it follows its source group again");
            self.unstored.remove(&group);
            if let Some(known) = self.groups.get_mut(&group) {
                // What it was given is among the checkpoints.
                *known = Known::default();
            }
            self.told = None;
        }
        Ok(())
    }

    /// A group has moved.
    fn has_moved(&mut self, group: &str, why: String) {
        let moved = self.moved.get_or_insert_default();
        if moved.get(group).is_none() {
            info!(group, why, "it has moved to the target and is left alone there");
            let at_ms = now_ms();
            moved.insert(group, Moved { moved: why, at_ms });
            self.unstored.insert(group.to_owned());
        }
    }

    /// What becomes of each group. Returns what is to be written, and what the target has of it then.
    fn decide(
        &mut self,
        context: &FlowContext,
        view: &View,
        now: &BTreeMap<String, Group>,
    ) -> Result<BTreeMap<String, Wanted>> {
        let write = context.spec.offset_sync.write_groups;
        let (states, partial) = match write {
            true => context.target_admin.list_groups(ADMIN_TIMEOUT)?,
            false => (vec![], vec![]),
        };
        self.errors.extend(partial.iter().map(Error::with_advice));
        let states: BTreeMap<String, GroupState> =
            states.into_iter().map(|it| (it.group, it.state)).collect();
        let remote = |tp: &TopicPartition| {
            let route = view.partitions.get(tp)?;
            Some(TopicPartition::new(route.remote.as_str(), tp.partition))
        };
        let mut free: Vec<String> = vec![];
        for (group, positions) in now {
            let state = states.get(group).copied();
            if state.is_some_and(has_members) && self.moved.is_some() {
                self.has_moved(group, "it has had members on the target".into());
            }
            let moved = self.moved.as_ref().map(|moved| moved.get(group).cloned());
            let known = self.groups.entry(group.clone()).or_default();
            (known.state, known.reason) = match (state, moved) {
                _ if !write => {
                    known.positions.clone_from(positions);
                    ("translated", None)
                }
                (None, _) if !partial.is_empty() => (
                    "unknown",
                    Some("a broker of the target did not list its groups".into()),
                ),
                (_, None) => (
                    "unknown",
                    Some("which groups have moved to the target could not be read".into()),
                ),
                (None | Some(GroupState::Empty | GroupState::Dead), Some(Some(moved))) => {
                    known.created = false;
                    ("moved", Some(format!("{}; {UNTIL}", moved.moved)))
                }
                (None | Some(GroupState::Empty | GroupState::Dead), Some(None)) => {
                    if known.is_settled(positions, states.contains_key(group)) {
                        known.stays();
                    } else {
                        free.push(group.clone());
                    }
                    ("written", None)
                }
                (Some(state), _) => {
                    known.created = false;
                    (
                        "active",
                        Some(format!(
                            "it has members on the target ({state:?}); its positions there are its own"
                        )),
                    )
                }
            };
        }
        let there = match free.is_empty() {
            true => BTreeMap::new(),
            false => self.target.committed(&free, GROUPS_TIMEOUT)?,
        };
        let mut wanted = BTreeMap::new();
        for group in free {
            let there = match there.get(&group) {
                Some(Ok(there)) => there,
                Some(Err(error)) => {
                    self.fail(&group, "unknown", error.clone());
                    continue;
                }
                None => continue,
            };
            let known = self.groups.entry(group.clone()).or_default();
            let told = || self.told.as_ref()?.get(&group).cloned();
            known.placed = known.placed.take().or_else(told);
            match decide::decide(&now[&group], known.placed.as_ref(), there, remote) {
                Decision::Follow { writes, placed } if writes.is_empty() => {
                    known.is_at(&now[&group], placed);
                }
                Decision::Follow { writes, placed } => {
                    let is_new = !states.contains_key(&group);
                    let it = Wanted {
                        writes,
                        placed,
                        is_new,
                    };
                    wanted.insert(group, it);
                }
                Decision::Moved(ahead) => {
                    known.state = "moved";
                    known.created = false;
                    let at = format!("{} stands at {} on the target", ahead.partition, ahead.there);
                    if let Some(placed) = ahead.placed {
                        let why = format!("{at}, where {placed} was written last: it was read on there");
                        known.reason = Some(format!("{why}; {UNTIL}"));
                        self.has_moved(&group, why);
                    } else {
                        known.reason = Some(format!(
                            "{at}, ahead of its source group, and what was written there last is not known; it is not taken back until `causeway offsets sync` is given for it"
                        ));
                    }
                }
            }
        }
        Ok(wanted)
    }

    /// Stores which groups have moved. Until it is stored, this daemon alone knows.
    fn store_moves(&mut self, context: &FlowContext) -> Result<()> {
        if self.unstored.is_empty() {
            return Ok(());
        }
        let stored = self.try_store_moves(context);
        self.note("groups that have moved", stored)
    }

    fn try_store_moves(&mut self, context: &FlowContext) -> Result<()> {
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
            self.numbers += 1;
            let number = self.numbers;
            self.producer(context)?
                .send(&topic, 0, &key, Some(&value), at, number)?;
            self.stored.push(group);
        }
        Ok(())
    }

    fn write(&mut self, now: &BTreeMap<String, Group>, mut wanted: BTreeMap<String, Wanted>) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut positions = Positions::new();
        for (group, it) in &mut wanted {
            positions.insert(group.clone(), std::mem::take(&mut it.writes));
            let known = self.groups.entry(group.clone()).or_default();
            known.placed = Some(decide::latest(known.placed.as_ref(), &it.placed));
        }
        let written = match self.target.commit(&positions, GROUPS_TIMEOUT) {
            Ok(written) => written,
            Err(error) => {
                for group in wanted.keys() {
                    let known = self.groups.entry(group.clone()).or_default();
                    (known.state, known.reason) = ("failed", Some(error.with_advice()));
                }
                return Err(error);
            }
        };
        for (group, outcome) in written {
            let Some(it) = wanted.remove(&group) else {
                continue;
            };
            let known = self.groups.entry(group.clone()).or_default();
            let failed = match outcome {
                Ok(each) => {
                    known.created |= it.is_new && each.values().any(Result::is_ok);
                    each.into_iter()
                        .find_map(|(tp, it)| Some((tp.to_string(), it.err()?)))
                }
                Err(error) => Some((String::new(), error)),
            };
            match failed {
                None => {
                    known.is_at(&now[&group], it.placed);
                    debug!(group, "positions written");
                }
                Some((_, error)) if error.code == Code::TargetGroupActive => {
                    known.created = false;
                    known.state = "active";
                    known.reason =
                        Some("it has got members on the target; its positions there are its own".into());
                    self.has_moved(&group, "it has had members on the target".into());
                }
                Some((partition, error)) => {
                    let error = Error::new(error.code, format!("{partition} {}", error.detail));
                    self.fail(&group, "failed", error);
                }
            }
        }
        Ok(())
    }

    /// Tells the checkpoints that are due; those that go back on the target only if `back`.
    fn tell_checkpoints(
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
        let told = self.try_tell_checkpoints(context, view, now, back);
        self.note("checkpoints", told)
    }

    fn try_tell_checkpoints(
        &mut self,
        context: &FlowContext,
        view: &View,
        now: &BTreeMap<String, Group>,
        back: bool,
    ) -> Result<()> {
        let topic = mm2::checkpoints_topic(&context.spec.id.source);
        let at = now_ms();
        for (group, positions) in now {
            let told = self.told.get_or_insert_default().get(group);
            // Where a position could not be written, the target may have a later one.
            let state = self.groups.get(group).map(|known| known.state);
            let back = back && !matches!(state, Some("failed" | "unknown"));
            let mut due = decide::checkpoints(positions, told);
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
                    self.numbers += 1;
                    let number = self.numbers;
                    self.writer(context, &topic)?
                        .send(&topic, 0, &key, Some(&value), at, number)?;
                    let told = self.told.get_or_insert_default();
                    told.entry(group.clone()).or_default().insert(tp, is);
                }
            }
        }
        Ok(())
    }

    /// One offset sync per partition that has moved: the newest record.
    fn tell_offset_syncs(&mut self, context: &FlowContext, view: &View, reader: &MapReader) -> Result<()> {
        let topic = mm2::offset_syncs_topic(&context.spec.id.source);
        let at = now_ms();
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
                self.numbers += 1;
                let number = self.numbers;
                self.writer(context, &topic)?
                    .send(&topic, 0, &key, Some(&value), at, number)?;
            }
        }
        Ok(())
    }

    /// Merges and thins the map. Each edit leaves a map that gives safe answers, so they need not go together;
    /// another owner of task 0 that does the same does no harm.
    fn keep_map(
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
                self.numbers += 1;
                let (number, partition) = (self.numbers, task_of(tp, tasks) as i32);
                let producer = self.producer(context)?;
                match edit {
                    Edit::Put(segment, at) => {
                        let key = encode_key(&segment.key(tp));
                        producer.send(&topic, partition, &key, Some(&segment.encode()), at, number)?;
                    }
                    Edit::Remove(key) => {
                        producer.send(&topic, partition, &encode_key(&key), None, now_ms(), number)?;
                    }
                }
            }
        }
        self.metrics
            .map_bytes(maps.values().map(PartitionMap::stored_bytes).sum());
        Ok(())
    }

    /// A producer for one of MM2's topics, which is there then.
    fn writer(&mut self, context: &FlowContext, topic: &str) -> Result<&ControlProducer> {
        if !self.there.contains(topic) {
            ensure_mm2_topic(&context.target_admin, topic, ADMIN_TIMEOUT).map_err(Error::of_own_topic)?;
            self.there.insert(topic.to_owned());
        }
        self.producer(context)
    }

    fn producer(&mut self, context: &FlowContext) -> Result<&ControlProducer> {
        if self.producer.as_ref().is_some_and(ControlProducer::has_failed) {
            self.producer = None;
        }
        match &mut self.producer {
            Some(producer) => Ok(producer),
            none => {
                let label = format!("{} positions", context.spec.id.group());
                Ok(none.insert(ControlProducer::new(&context.target, &label, Side::Target)?))
            }
        }
    }

    /// Waits for what the target says to the records of this pass.
    fn hear(&mut self, context: &FlowContext) -> Result<()> {
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

    fn status(&self, now: Instant) -> GroupSyncStatus {
        let groups = self.groups.iter().map(|(group, known)| {
            let count =
                |is: fn(&Translated) -> bool| known.positions.values().filter(|it| is(it)).count() as u64;
            let status = GroupStatus {
                state: known.state.to_owned(),
                reason: known.reason.clone(),
                partitions: known.positions.len() as u64,
                held: count(|it| matches!(it.translation, Translation::Ahead { .. })),
                bounded: count(|it| matches!(it.translation, Translation::Bound { .. })),
                untranslated: count(|it| it.translation.target().is_none()),
                metadata_withheld: count(Translated::is_bare),
                staleness_seconds: known
                    .current
                    .map(|at| now.saturating_duration_since(at).as_secs_f64()),
            };
            (group.clone(), status)
        });
        GroupSyncStatus {
            seconds_since_last_pass: self
                .passed
                .map(|at| now.saturating_duration_since(at).as_secs_f64()),
            groups: groups.collect(),
            errors: self.errors.clone(),
        }
    }
}

/// The partitions in which groups have positions and whose map is not about the topics that are there now, and why.
fn outdated(
    context: &FlowContext,
    view: &View,
    reader: &MapReader,
    committed: &Read,
) -> Result<BTreeMap<TopicPartition, String>> {
    let positions = committed.values().flatten().flat_map(BTreeMap::keys);
    let partitions: BTreeMap<_, _> = positions
        .filter_map(|tp| Some((tp.clone(), view.partitions.get(tp)?.remote.clone())))
        .collect();
    let (source, target) = (&context.source_admin, &context.target_admin);
    let mut outdated = reader.outdated(source, target, &partitions, ADMIN_TIMEOUT)?;
    // The view is older than the positions: a topic that it saw under the same id was not made anew in between.
    for tp in partitions.into_keys() {
        let (Some(route), Some(between)) = (view.partitions.get(&tp), reader.between().get(&tp)) else {
            continue;
        };
        if let Some(why) = between.outdated(&route.topic_id, &route.target_topic_id) {
            outdated.entry(tp).or_insert_with(|| why.to_owned());
        }
    }
    Ok(outdated)
}

/// The checkpoints on the target, the newest of each partition of each group last.
fn checkpoints(context: &FlowContext) -> Result<Vec<Checkpoint>> {
    let topic = mm2::checkpoints_topic(&context.spec.id.source);
    let (admin, target) = (&context.target_admin, &context.target);
    let mut checkpoints = vec![];
    let read = read_topic(admin, target, Side::Target, &topic, MAP_TIMEOUT, |message| {
        let pair = message.key().zip(message.payload());
        checkpoints.extend(pair.and_then(|(key, value)| Checkpoint::decode(key, value)));
    });
    absent_is_empty(read).map_err(Error::of_own_topic)?;
    Ok(checkpoints)
}
