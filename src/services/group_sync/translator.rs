//! What [`GroupSync`](super::GroupSync) knows from pass to pass.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::decide::{Group, Placements};
use crate::context::FlowContext;
use crate::copy::assignment::FlowLead;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::control::ControlProducer;
use crate::kafka::groups::{Commit, Groups};
use crate::metrics::GroupSyncMetrics;
use crate::state::map_reader::MapReader;
use crate::state::moved_groups::MovedGroups;
use crate::status::GroupSyncState;

/// How long one question about groups may take.
pub(super) const GROUPS_TIMEOUT: Duration = Duration::from_secs(30);
/// How long reading a topic of the target to its end may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// How often the target's positions are looked at where the source's do not change.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is known of one group besides its positions.
#[derive(Default)]
pub(super) struct Known {
    pub(super) positions: Group,
    /// What the target has of it from us, as far as this life knows.
    pub(super) placed: Option<Placements>,
    /// When the target's positions were last those of the source.
    pub(super) current: Option<Instant>,
    /// When the target was last seen to have them.
    pub(super) seen: Option<Instant>,
    pub(super) state: GroupSyncState,
    pub(super) reason: Option<String>,
    /// We were the first to give it positions on the target, and nobody has been seen to use it there since.
    pub(super) created: bool,
}

impl Known {
    /// The target was seen to have what can be translated of these positions.
    pub(super) fn is_at(&mut self, positions: &Group, placed: Placements) {
        self.positions.clone_from(positions);
        self.placed = Some(placed);
        self.seen = Some(Instant::now());
        self.stays();
    }

    /// Nothing has changed. What cannot be translated is never current.
    pub(super) fn stays(&mut self) {
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
    pub(super) fn is_settled(&self, positions: &Group, on_target: bool) -> bool {
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
pub(super) struct Wanted {
    pub(super) writes: BTreeMap<TopicPartition, Commit>,
    /// What the target has of it then.
    pub(super) placed: Placements,
    /// The target does not know the group yet.
    pub(super) is_new: bool,
}

/// What is known of the groups from pass to pass, and the clients.
pub(super) struct Translator {
    pub(super) source: Groups,
    pub(super) target: Groups,
    pub(super) reader: Option<MapReader>,
    pub(super) producer: Option<ControlProducer>,
    pub(super) numbers: u64,
    pub(super) groups: BTreeMap<String, Known>,
    /// What the checkpoints say, also those of a former life; `None` until they were read.
    pub(super) told: Option<BTreeMap<String, Placements>>,
    /// Groups that are left alone; `None` until that was read.
    pub(super) moved: Option<MovedGroups>,
    /// Groups of which it is not stored yet that they have moved.
    pub(super) unstored: BTreeSet<String>,
    /// Those of them whose record is on its way.
    pub(super) stored: Vec<String>,
    pub(super) synced: BTreeMap<TopicPartition, i64>,
    /// MM2's topics that were seen on the target.
    pub(super) there: BTreeSet<String>,
    pub(super) upkeep: Option<Instant>,
    /// What failed in this pass, by what it stops.
    pub(super) errors: Vec<String>,
    /// Groups of this pass whose positions could not be asked for or written.
    pub(super) failed: Vec<(String, Error)>,
    pub(super) passed: Option<Instant>,
    pub(super) metrics: GroupSyncMetrics,
}

impl Translator {
    pub(super) fn new(context: &FlowContext, _: FlowLead) -> Self {
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

    /// Takes down what became of a part of the pass.
    ///
    /// # Errors
    /// A cluster cannot be reached: the other parts would only wait for it one after the other.
    pub(super) fn note(&mut self, part: &str, outcome: Result<()>) -> Result<()> {
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
    pub(super) fn fail(&mut self, group: &str, state: GroupSyncState, error: Error) {
        let known = self.groups.entry(group.to_owned()).or_default();
        known.state = state;
        known.reason = Some(error.with_advice());
        self.failed.push((group.to_owned(), error));
    }
}
