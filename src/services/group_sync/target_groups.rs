//! What becomes of the groups on the target: written, left alone, forgotten.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{debug, info};

use super::decide::{Decision, Group, decide, is_gone, latest};
use super::translator::{GROUPS_TIMEOUT, Known, Translator, Wanted};
use crate::context::{ADMIN_TIMEOUT, FlowContext, View, now_ms};
use crate::error::{Code, Error, Result};
use crate::kafka::TopicPartition;
use crate::kafka::admin::GroupState;
use crate::kafka::groups::Positions;
use crate::state::moved_groups::Moved;
use crate::status::GroupSyncState;

/// What an operator does about a group that has moved.
const UNTIL: &str = "its positions there are its own until `causeway offsets sync` is given for it";

/// Whether a group on the target is somebody's.
fn has_members(state: GroupState) -> bool {
    use GroupState::{CompletingRebalance, PreparingRebalance, Stable};
    matches!(state, Stable | PreparingRebalance | CompletingRebalance)
}

impl Translator {
    /// Groups that are gone from the source are reported, and deleted on the target if that is wanted and they
    /// are ours.
    pub(super) fn forget_deleted(&mut self, context: &FlowContext, listed: &[String]) -> Result<()> {
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
            if !is_gone(&group, &committed) {
                // A broker lists nothing that it does not let us describe.
                if let Some(Err(error)) = committed.get(&group) {
                    self.fail(&group, GroupSyncState::Unknown, error.clone());
                } else {
                    let known = self.groups.entry(group).or_default();
                    known.state = GroupSyncState::Unknown;
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

    /// Which groups are left alone, and which an operator has follow again.
    pub(super) fn hear_of_moves(&mut self, context: &FlowContext) -> Result<()> {
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
    pub(super) fn decide(
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
        let free = self.judge(write, now, &states, partial.is_empty());
        self.compare(view, now, &states, free)
    }

    /// The state of each group on the target; those that may be written, and need a look, are returned.
    fn judge(
        &mut self,
        write: bool,
        now: &BTreeMap<String, Group>,
        states: &BTreeMap<String, GroupState>,
        all_listed: bool,
    ) -> Vec<String> {
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
                    (GroupSyncState::Translated, None)
                }
                (None, _) if !all_listed => (
                    GroupSyncState::Unknown,
                    Some("a broker of the target did not list its groups".into()),
                ),
                (_, None) => (
                    GroupSyncState::Unknown,
                    Some("which groups have moved to the target could not be read".into()),
                ),
                (None | Some(GroupState::Empty | GroupState::Dead), Some(Some(moved))) => {
                    known.created = false;
                    (GroupSyncState::Moved, Some(format!("{}; {UNTIL}", moved.moved)))
                }
                (None | Some(GroupState::Empty | GroupState::Dead), Some(None)) => {
                    if known.is_settled(positions, states.contains_key(group)) {
                        known.stays();
                    } else {
                        free.push(group.clone());
                    }
                    (GroupSyncState::Written, None)
                }
                (Some(state), _) => {
                    known.created = false;
                    (
                        GroupSyncState::Active,
                        Some(format!(
                            "it has members on the target ({state:?}); its positions there are its own"
                        )),
                    )
                }
            };
        }
        free
    }

    /// Compares what groups have on the target with what they should have.
    fn compare(
        &mut self,
        view: &View,
        now: &BTreeMap<String, Group>,
        states: &BTreeMap<String, GroupState>,
        free: Vec<String>,
    ) -> Result<BTreeMap<String, Wanted>> {
        let remote = |tp: &TopicPartition| {
            let route = view.partitions.get(tp)?;
            Some(TopicPartition::new(route.remote.as_str(), tp.partition))
        };
        let there = match free.is_empty() {
            true => BTreeMap::new(),
            false => self.target.committed(&free, GROUPS_TIMEOUT)?,
        };
        let mut wanted = BTreeMap::new();
        for group in free {
            let there = match there.get(&group) {
                Some(Ok(there)) => there,
                Some(Err(error)) => {
                    self.fail(&group, GroupSyncState::Unknown, error.clone());
                    continue;
                }
                None => continue,
            };
            let known = self.groups.entry(group.clone()).or_default();
            let told = || self.told.as_ref()?.get(&group).cloned();
            known.placed = known.placed.take().or_else(told);
            match decide(&now[&group], known.placed.as_ref(), there, remote) {
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
                    known.state = GroupSyncState::Moved;
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

    /// Writes positions to the target's groups.
    pub(super) fn write(
        &mut self,
        now: &BTreeMap<String, Group>,
        mut wanted: BTreeMap<String, Wanted>,
    ) -> Result<()> {
        if wanted.is_empty() {
            return Ok(());
        }
        let mut positions = Positions::new();
        for (group, it) in &mut wanted {
            positions.insert(group.clone(), std::mem::take(&mut it.writes));
            let known = self.groups.entry(group.clone()).or_default();
            known.placed = Some(latest(known.placed.as_ref(), &it.placed));
        }
        let written = match self.target.commit(&positions, GROUPS_TIMEOUT) {
            Ok(written) => written,
            Err(error) => {
                for group in wanted.keys() {
                    let known = self.groups.entry(group.clone()).or_default();
                    (known.state, known.reason) = (GroupSyncState::Failed, Some(error.with_advice()));
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
                    known.state = GroupSyncState::Active;
                    known.reason =
                        Some("it has got members on the target; its positions there are its own".into());
                    self.has_moved(&group, "it has had members on the target".into());
                }
                Some((partition, error)) => {
                    let error = Error::new(error.code, format!("{partition} {}", error.detail));
                    self.fail(&group, GroupSyncState::Failed, error);
                }
            }
        }
        Ok(())
    }
}
