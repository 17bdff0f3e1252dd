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

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use tracing::warn;

use super::Duty;
use super::supervision::Part;
use crate::context::{ADMIN_TIMEOUT, FlowContext, View};
use crate::copy::assignment::Assignment;
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::GroupState;
use crate::kafka::groups::Read;
use crate::offset_map::Translation;
use crate::state::map_reader::MapReader;
use crate::state::mm2_positions::running;
use crate::status::{GroupStatus, GroupSyncState, GroupSyncStatus};

use decide::{Group, Translated};
use translator::{GROUPS_TIMEOUT, READ_TIMEOUT, Translator};

pub mod decide;
mod records;
mod target_groups;
mod translator;

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

impl Translator {
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
        let caught_up = reader.catch_up(READ_TIMEOUT);
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
                Err(error) => self.fail(&group, GroupSyncState::Unknown, error),
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
        let stored = self.store_moves(context);
        self.note("groups that have moved", stored)?;
        // A position that is ahead of what the checkpoints tell counts as somebody else's. So those that go forward are
        // told before they are written, and those that go back when they are written.
        let told = self.tell_checkpoints(context, view, &now, false);
        self.note("checkpoints", told)?;
        self.hear(context)?;
        let written = self.write(&now, wanted);
        self.note("group positions", written)?;
        let stored = self.store_moves(context);
        self.note("groups that have moved", stored)?;
        if is_decided {
            let told = self.tell_checkpoints(context, view, &now, true);
            self.note("checkpoints", told)?;
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

    fn status(&self, now: Instant) -> GroupSyncStatus {
        let groups = self.groups.iter().map(|(group, known)| {
            let count =
                |is: fn(&Translated) -> bool| known.positions.values().filter(|it| is(it)).count() as u64;
            let status = GroupStatus {
                state: known.state,
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
