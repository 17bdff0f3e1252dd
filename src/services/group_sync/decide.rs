//! Which positions of consumer groups are written to the target. Pure: committed positions and offset maps in,
//! decisions out.

use std::collections::BTreeMap;

use crate::kafka::TopicPartition;
use crate::kafka::groups::{Commit, Read};
use crate::mm2::Checkpoint;
use crate::offset_map::{PartitionMap, Translation};
use crate::topology::MetadataSync;

/// A group's position in one partition of the source, and what it is on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// What the group committed on the source.
    pub source: Commit,
    /// Where it continues on the target.
    pub translation: Translation,
    /// The metadata that goes along.
    pub metadata: String,
}

impl Translated {
    fn new(source: Commit, translation: Translation, rule: MetadataSync) -> Self {
        Self {
            metadata: metadata(rule, &source, translation).to_owned(),
            source,
            translation,
        }
    }

    /// Whether the position goes without the metadata that it has on the source.
    pub fn is_bare(&self) -> bool {
        self.translation.target().is_some() && self.metadata != self.source.metadata
    }
}

/// What of a position's metadata goes along with it. It may count from the offset, as the record of those that finish
/// records out of order does; on the target the same records may lie closer, and would be taken for finished.
pub fn metadata(rule: MetadataSync, source: &Commit, translation: Translation) -> &str {
    let is_same = matches!(translation, Translation::Exact { target, .. } if target == source.offset);
    match rule {
        MetadataSync::Always => &source.metadata,
        MetadataSync::Exact if is_same => &source.metadata,
        MetadataSync::Exact | MetadataSync::Never => "",
    }
}

/// Positions of one group by partition of the source.
pub type Group = BTreeMap<TopicPartition, Translated>;

/// Translates a group's positions in partitions that this flow copies; `copied` maps those to their names on the
/// target. Positions elsewhere are not this flow's.
pub fn translate<'a>(
    committed: &BTreeMap<TopicPartition, Commit>,
    map: impl Fn(&TopicPartition) -> Option<&'a PartitionMap>,
    metadata: MetadataSync,
    copied: impl Fn(&TopicPartition) -> bool,
) -> Group {
    let ours = committed
        .iter()
        .filter(|(tp, commit)| copied(tp) && 0 <= commit.offset);
    ours.map(|(tp, source)| {
        let translation = map(tp).map_or(Translation::Unknown, |map| map.translate(source.offset));
        (tp.clone(), Translated::new(source.clone(), translation, metadata))
    })
    .collect()
}

/// A position of a group as the target has it from us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placed {
    /// What the group had committed on the source.
    pub source: i64,
    /// What we made of it.
    pub target: i64,
}

/// Placed positions of one group by partition of the source.
pub type Placements = BTreeMap<TopicPartition, Placed>;

/// What checkpoints, oldest first, say of groups, by the partitions of the source that `source` names.
pub fn remember(
    checkpoints: &[Checkpoint],
    source: impl Fn(&TopicPartition) -> Option<TopicPartition>,
) -> BTreeMap<String, Placements> {
    let mut groups: BTreeMap<String, Placements> = BTreeMap::new();
    for checkpoint in checkpoints {
        let Some(partition) = source(&checkpoint.topic_partition) else {
            continue;
        };
        let told = Placed {
            source: checkpoint.upstream.0.0,
            target: checkpoint.downstream.0.0,
        };
        let group = groups.entry(checkpoint.group.clone()).or_default();
        group.insert(partition, told);
    }
    groups
}

/// What becomes of a group without members on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It has nothing on the target but what we placed, and follows its source group.
    Follow {
        /// What is written, by partition of the target.
        writes: BTreeMap<TopicPartition, Commit>,
        /// What the target has of it then.
        placed: Placements,
    },
    /// It has moved: it was read on there, and its positions are its own.
    Moved(Ahead),
}

/// A position on the target that somebody else has committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// The partition of the target.
    pub partition: TopicPartition,
    /// The position.
    pub there: i64,
    /// What we placed last; `None`: that is not known, and the position is ahead of the source group's.
    pub placed: Option<i64>,
}

/// Decides what is written of a group without members on the target, where we `placed` positions before.
///
/// Positions go forward only, so that what the group has read on the target since stays read. The exception is a
/// position that went back on the source, as after a reset: it follows, if it stands where we placed it. One that
/// stands further on was committed by somebody else, who has moved the whole group.
pub fn decide(
    now: &Group,
    placed: Option<&Placements>,
    on_target: &BTreeMap<TopicPartition, Commit>,
    remote: impl Fn(&TopicPartition) -> Option<TopicPartition>,
) -> Decision {
    let mut writes = BTreeMap::new();
    let mut becomes = Placements::new();
    for (tp, it) in now {
        let Some(remote) = remote(tp) else {
            continue;
        };
        let before = placed.and_then(|placed| placed.get(tp));
        let there = on_target.get(&remote).map(|there| there.offset);
        if let Some(there) = there
            && is_ahead(there, before, it.translation)
        {
            return Decision::Moved(Ahead {
                partition: remote,
                there,
                placed: before.map(|before| before.target),
            });
        }
        let went_back = before.is_some_and(|before| it.source.offset < before.source);
        let Some(target) = it.translation.target() else {
            becomes.extend(before.map(|before| (tp.clone(), *before)));
            continue;
        };
        let target = match there {
            Some(there) if target < there && !went_back => there,
            _ => target,
        };
        let source = it.source.offset;
        becomes.insert(tp.clone(), Placed { source, target });
        if there != Some(target) {
            let commit = Commit {
                offset: target,
                // The target's epochs are its own.
                leader_epoch: None,
                metadata: it.metadata.clone(),
            };
            writes.insert(remote, commit);
        }
    }
    Decision::Follow {
        writes,
        placed: becomes,
    }
}

/// Whether a position on the target lies where only somebody else can have committed it.
fn is_ahead(there: i64, placed: Option<&Placed>, translation: Translation) -> bool {
    match placed {
        Some(placed) => placed.target < there && translation.target() != Some(there),
        None => translation.latest().is_some_and(|latest| latest < there),
    }
}

/// What the target may have of a group while it is not known whether a write has arrived: of each position the later
/// one. So what is ahead of it was committed by somebody else.
pub fn latest(before: Option<&Placements>, becomes: &Placements) -> Placements {
    let mut latest = before.cloned().unwrap_or_default();
    for (tp, becomes) in becomes {
        if latest
            .get(tp)
            .is_none_or(|before| before.target <= becomes.target)
        {
            latest.insert(tp.clone(), *becomes);
        }
    }
    latest
}

/// Whether a group that is not listed any more is gone: only where its coordinator says that it has no positions.
/// While a group's coordinator is no broker at all, a listing of all brokers leaves the group out without a word.
pub fn is_gone(group: &str, committed: &Read) -> bool {
    matches!(committed.get(group), Some(Ok(positions)) if positions.is_empty())
}

/// Which positions are told as MM2's checkpoints, given those told before: the first, those that moved on on the
/// target, and those that went back on the source (the filter of MM2's `MirrorCheckpointTask`).
pub fn checkpoints(now: &Group, told: Option<&Placements>) -> Placements {
    let due = now.iter().filter_map(|(tp, it)| {
        let is = Placed {
            source: it.source.offset,
            target: it.translation.target()?,
        };
        let before = told.and_then(|told| told.get(tp));
        let due = before.is_none_or(|before| is.source < before.source || before.target < is.target);
        due.then(|| (tp.clone(), is))
    });
    due.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Code, Error};
    use crate::kafka::groups::{Commit, Read};
    use crate::kafka::{NextOffset, Source, Target};
    use crate::mm2::Checkpoint;

    fn commit(offset: i64) -> Commit {
        Commit {
            offset,
            leader_epoch: Some(3),
            metadata: "m".into(),
        }
    }

    fn group(source: i64, translation: Translation) -> Group {
        let translated = Translated::new(commit(source), translation, MetadataSync::Always);
        [(TopicPartition::new("orders", 0), translated)].into()
    }

    fn exact(target: i64) -> Translation {
        Translation::Exact { target, run: None }
    }

    fn remote() -> TopicPartition {
        TopicPartition::new("a.orders", 0)
    }

    /// What becomes of a group in one partition, where it was placed before, as (source, target), and stands there.
    fn decided(now: &Group, placed: Option<(i64, i64)>, there: Option<i64>) -> Decision {
        let placed = placed.map(|(source, target)| placements(source, target));
        let on_target = there
            .map(|offset| (remote(), commit(offset)))
            .into_iter()
            .collect();
        decide(now, placed.as_ref(), &on_target, |_| Some(remote()))
    }

    fn placements(source: i64, target: i64) -> Placements {
        [(TopicPartition::new("orders", 0), Placed { source, target })].into()
    }

    /// What is written, and where the target has it then.
    fn followed(now: &Group, placed: Option<(i64, i64)>, there: Option<i64>) -> (Option<i64>, Option<i64>) {
        let Decision::Follow { writes, placed } = decided(now, placed, there) else {
            panic!("it follows: {now:?} {placed:?} {there:?}");
        };
        for commit in writes.values() {
            assert_eq!((commit.metadata.as_str(), commit.leader_epoch), ("m", None));
        }
        let placed = placed.values().next().map(|placed| placed.target);
        (writes.get(&remote()).map(|commit| commit.offset), placed)
    }

    #[test]
    fn what_was_told_before_shows_what_went_back_since() {
        let told = |upstream, downstream| Checkpoint {
            group: "g".into(),
            topic_partition: TopicPartition::new("seoul.orders", 0),
            upstream: Source(NextOffset(upstream)),
            downstream: Target(NextOffset(downstream)),
            metadata: String::new(),
        };
        let source = |tp: &TopicPartition| {
            let topic = tp.topic.strip_prefix("seoul.")?;
            Some(TopicPartition::new(topic, tp.partition))
        };
        let groups = remember(&[told(90, 190), told(100, 200)], source);
        assert_eq!(groups["g"], placements(100, 200));
        assert_eq!(remember(&[told(90, 190)], |_| None).len(), 0, "of another flow");
    }

    #[test]
    fn a_group_follows_its_source_group_forward_and_back_only_where_that_went_back() {
        let placed = Some((10, 100));
        for (now, placed, there, expected) in [
            ((10, 100), None, None, (Some(100), Some(100))),
            ((10, 100), None, Some(99), (Some(100), Some(100))),
            ((10, 100), None, Some(100), (None, Some(100))),
            ((10, 100), placed, Some(100), (None, Some(100))),
            // Forward, also where the last write did not arrive, or the position has expired.
            ((11, 110), placed, Some(100), (Some(110), Some(110))),
            ((11, 110), placed, Some(90), (Some(110), Some(110))),
            ((11, 110), placed, None, (Some(110), Some(110))),
            // The answer became earlier by itself.
            ((10, 90), placed, Some(100), (None, Some(100))),
            ((11, 90), placed, Some(100), (None, Some(100))),
            // The source group went back.
            ((9, 90), placed, Some(100), (Some(90), Some(90))),
            ((9, 90), placed, Some(95), (Some(90), Some(90))),
            ((9, 90), placed, Some(90), (None, Some(90))),
            ((9, 90), placed, Some(80), (Some(90), Some(90))),
            ((9, 90), placed, None, (Some(90), Some(90))),
        ] {
            let now = group(now.0, exact(now.1));
            assert_eq!(followed(&now, placed, there), expected, "{placed:?} {there:?}");
        }
    }

    #[test]
    fn a_group_that_stands_ahead_of_what_was_placed_has_moved() {
        let placed = Some((10, 100));
        for now in [(10, 100), (9, 90), (11, 110), (200, 2000)] {
            let moved = Decision::Moved(Ahead {
                partition: remote(),
                there: 1000,
                placed: Some(100),
            });
            assert_eq!(
                decided(&group(now.0, exact(now.1)), placed, Some(1000)),
                moved,
                "{now:?}"
            );
        }
        // Nothing was read where it stands as its source group does.
        assert_eq!(
            followed(&group(99, exact(1000)), placed, Some(1000)),
            (None, Some(1000))
        );
        let untranslated = group(9, Translation::Unknown);
        assert!(matches!(
            decided(&untranslated, placed, Some(101)),
            Decision::Moved(_)
        ));
        assert_eq!(followed(&untranslated, placed, Some(100)), (None, Some(100)));
    }

    #[test]
    fn where_it_is_not_known_what_was_placed_nothing_goes_back() {
        let ahead = Decision::Moved(Ahead {
            partition: remote(),
            there: 1000,
            placed: None,
        });
        assert_eq!(decided(&group(9, exact(90)), None, Some(1000)), ahead);
        let thinned = Translation::Bound {
            target: 90,
            reread: 10,
        };
        assert_eq!(followed(&group(9, thinned), None, Some(100)), (None, Some(100)));
        assert!(matches!(
            decided(&group(9, thinned), None, Some(101)),
            Decision::Moved(_)
        ));
    }

    #[test]
    fn a_group_has_moved_as_a_whole() {
        let (one, two) = (TopicPartition::new("orders", 0), TopicPartition::new("orders", 1));
        let mut now = group(20, exact(20));
        now.insert(two.clone(), now[&one].clone());
        let placed = Placed {
            source: 10,
            target: 10,
        };
        let placed = [(one.clone(), placed), (two.clone(), placed)].into();
        let there = [(one, commit(10)), (two, commit(15))].into();
        let decision = decide(&now, Some(&placed), &there, |tp| Some(tp.clone()));
        assert!(matches!(decision, Decision::Moved(_)), "{decision:?}");
    }

    #[test]
    fn a_write_that_may_have_arrived_is_not_taken_for_somebody_elses() {
        let before = placements(10, 100);
        assert_eq!(latest(Some(&before), &placements(11, 110)), placements(11, 110));
        assert_eq!(latest(Some(&before), &placements(9, 90)), before);
        assert_eq!(latest(None, &before), before);
    }

    #[test]
    fn what_cannot_be_translated_is_not_written_and_what_is_ahead_is_held_at_the_end() {
        let nothing = (None, None);
        assert_eq!(followed(&group(10, Translation::Unknown), None, None), nothing);
        assert_eq!(
            followed(&group(10, Translation::TooOld { kept_from: 11 }), None, None),
            nothing
        );
        let ahead = Translation::Ahead {
            target: 70,
            copied_to: 7,
        };
        assert_eq!(followed(&group(10, ahead), None, None), (Some(70), Some(70)));
    }

    #[test]
    fn metadata_goes_along_where_it_means_the_same_or_the_user_says_so() {
        use MetadataSync::{Always, Exact, Never};
        let bound = Translation::Bound {
            target: 10,
            reread: 1,
        };
        let ahead = Translation::Ahead {
            target: 10,
            copied_to: 8,
        };
        for (rule, translation, goes) in [
            (Exact, exact(10), true),
            (Exact, exact(7), false),
            (Exact, exact(11), false),
            (Exact, bound, false),
            (Exact, ahead, false),
            (Always, exact(7), true),
            (Always, bound, true),
            (Never, exact(10), false),
        ] {
            let it = Translated::new(commit(10), translation, rule);
            assert_eq!(it.metadata == "m", goes, "{rule} {translation:?}");
            assert_eq!(it.is_bare(), !goes, "{rule} {translation:?}");
        }
        let without = Commit {
            metadata: String::new(),
            ..commit(10)
        };
        assert!(!Translated::new(without, exact(7), Exact).is_bare());
        assert!(!Translated::new(commit(10), Translation::Unknown, Exact).is_bare());
    }

    #[test]
    fn checkpoints_are_monotonic_unless_the_source_group_went_back() {
        let told =
            |now: &Group, source, target| checkpoints(now, Some(&placements(source, target))).len() == 1;
        assert!(told(&group(10, exact(100)), 9, 90));
        assert!(!told(&group(10, exact(90)), 9, 90));
        assert!(!told(&group(10, exact(80)), 10, 90));
        assert!(told(&group(8, exact(80)), 9, 90));
        assert_eq!(checkpoints(&group(1, Translation::Unknown), None).len(), 0);
    }

    #[test]
    fn a_group_whose_coordinator_does_not_say_so_is_not_gone() {
        let positions = [(TopicPartition::new("orders", 0), commit(1))];
        let unavailable = Error::new(Code::SourceUnavailable, "no coordinator");
        let committed: Read = [
            ("gone".to_owned(), Ok(BTreeMap::new())),
            ("there".to_owned(), Ok(positions.into())),
            ("unheard".to_owned(), Err(unavailable)),
        ]
        .into();
        let gone = |group: &str| is_gone(group, &committed);
        assert!(gone("gone"));
        assert!(!gone("there") && !gone("unheard") && !gone("not asked for"));
    }

    #[test]
    fn positions_in_topics_that_are_not_copied_are_left_alone() {
        let committed = [
            (TopicPartition::new("orders", 0), commit(1)),
            (TopicPartition::new("other", 0), commit(1)),
        ];
        let copied = |tp: &TopicPartition| &*tp.topic == "orders";
        let group = translate(&committed.into(), |_| None, MetadataSync::Exact, copied);
        assert_eq!(group.len(), 1);
        assert_eq!(
            group[&TopicPartition::new("orders", 0)].translation,
            Translation::Unknown
        );
    }
}
