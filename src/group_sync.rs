//! Which positions of consumer groups are written to the target. Pure: committed positions and offset maps in,
//! decisions out.

use std::collections::BTreeMap;

use crate::kafka::TopicPartition;
use crate::kafka::groups::{Commit, Read};
use crate::mm2::Checkpoint;
use crate::offset_map::{PartitionMap, Translation};

/// A group's position in one partition of the source, and what it is on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Translated {
    /// What the group committed on the source.
    pub source: Commit,
    /// Where it continues on the target.
    pub translation: Translation,
}

/// Positions of one group by partition of the source.
pub type Group = BTreeMap<TopicPartition, Translated>;

/// Translates a group's positions in partitions that this flow copies; `copied` maps those to their names on the
/// target. Positions elsewhere are not this flow's.
pub fn translate(
    committed: &BTreeMap<TopicPartition, Commit>,
    maps: &BTreeMap<TopicPartition, PartitionMap>,
    copied: impl Fn(&TopicPartition) -> bool,
) -> Group {
    let ours = committed
        .iter()
        .filter(|(tp, commit)| copied(tp) && 0 <= commit.offset);
    ours.map(|(tp, source)| {
        let translation = maps
            .get(tp)
            .map_or(Translation::Unknown, |map| map.translate(source.offset));
        let source = source.clone();
        (tp.clone(), Translated { source, translation })
    })
    .collect()
}

/// What checkpoints, oldest first, say of groups, by the partitions of the source that `source` names.
pub fn remember(
    checkpoints: &[Checkpoint],
    source: impl Fn(&TopicPartition) -> Option<TopicPartition>,
) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for checkpoint in checkpoints {
        let Some(partition) = source(&checkpoint.topic_partition) else {
            continue;
        };
        let told = Translated {
            source: Commit {
                offset: checkpoint.upstream.0.0,
                leader_epoch: None,
                metadata: checkpoint.metadata.clone(),
            },
            translation: Translation::Exact {
                target: checkpoint.downstream.0.0,
                run: None,
            },
        };
        let group = groups.entry(checkpoint.group.clone()).or_default();
        group.insert(partition, told);
    }
    groups
}

/// Which positions of a group without members on the target are written there.
///
/// Positions go forward only, so that what the group has read on the target since stays read. The exception is a
/// position that went back on the source since `before`, our last look, as after a reset: it follows.
pub fn writes(
    now: &Group,
    before: Option<&Group>,
    on_target: &BTreeMap<TopicPartition, Commit>,
    remote: impl Fn(&TopicPartition) -> Option<TopicPartition>,
) -> BTreeMap<TopicPartition, Commit> {
    let mut writes = BTreeMap::new();
    for (tp, it) in now {
        let (Some(target), Some(remote)) = (it.translation.target(), remote(tp)) else {
            continue;
        };
        let went_back = before
            .and_then(|before| before.get(tp))
            .is_some_and(|before| it.source.offset < before.source.offset);
        let there = on_target.get(&remote);
        let behind = there.is_none_or(|there| there.offset < target);
        let elsewhere = there.is_some_and(|there| there.offset != target);
        if behind || (went_back && elsewhere) {
            let commit = Commit {
                offset: target,
                // The target's epochs are its own.
                leader_epoch: None,
                metadata: it.source.metadata.clone(),
            };
            writes.insert(remote, commit);
        }
    }
    writes
}

/// Whether a group that is not listed any more is gone: only where its coordinator says that it has no positions.
/// While a group's coordinator is no broker at all, a listing of all brokers leaves the group out without a word.
pub fn is_gone(group: &str, committed: &Read) -> bool {
    matches!(committed.get(group), Some(Ok(positions)) if positions.is_empty())
}

/// Which positions are told as MM2's checkpoints, given those told before: the first, those that moved on on the
/// target, and those that went back on the source (the filter of MM2's `MirrorCheckpointTask`).
pub fn checkpoints<'a>(
    now: &'a Group,
    told: Option<&'a Group>,
) -> impl Iterator<Item = (&'a TopicPartition, &'a Translated)> {
    now.iter().filter(move |(tp, it)| {
        let Some(target) = it.translation.target() else {
            return false;
        };
        let before = told.and_then(|told| told.get(*tp));
        before.is_none_or(|before| {
            it.source.offset < before.source.offset || before.translation.target() < Some(target)
        })
    })
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
        let source = commit(source);
        [(
            TopicPartition::new("orders", 0),
            Translated { source, translation },
        )]
        .into()
    }

    fn exact(target: i64) -> Translation {
        Translation::Exact { target, run: None }
    }

    fn written(now: &Group, before: Option<&Group>, there: Option<i64>) -> Option<i64> {
        let remote = TopicPartition::new("a.orders", 0);
        let on_target = there
            .map(|offset| (remote.clone(), commit(offset)))
            .into_iter()
            .collect();
        let writes = writes(now, before, &on_target, |_| Some(remote.clone()));
        for commit in writes.values() {
            assert_eq!((commit.metadata.as_str(), commit.leader_epoch), ("m", None));
        }
        writes.get(&remote).map(|commit| commit.offset)
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
        let exact = |source, target| group(source, Translation::Exact { target, run: None });
        let remote = |tp: &TopicPartition| Some(tp.clone());
        let there = [(TopicPartition::new("orders", 0), commit(200))].into();
        assert_eq!(
            writes(&exact(50, 150), Some(&groups["g"]), &there, remote).len(),
            1
        );
        assert_eq!(
            writes(&exact(100, 199), Some(&groups["g"]), &there, remote).len(),
            0
        );
        assert_eq!(remember(&[told(90, 190)], |_| None).len(), 0, "of another flow");
    }

    #[test]
    fn a_position_goes_forward_only_unless_the_source_group_went_back() {
        let now = group(10, exact(100));
        assert_eq!(written(&now, None, None), Some(100));
        assert_eq!(written(&now, None, Some(99)), Some(100));
        assert_eq!(written(&now, None, Some(100)), None);
        assert_eq!(written(&now, None, Some(101)), None);
        assert_eq!(written(&now, Some(&group(9, exact(90))), Some(101)), None);
        assert_eq!(written(&now, Some(&group(11, exact(110))), Some(110)), Some(100));
        assert_eq!(written(&now, Some(&group(11, exact(110))), Some(100)), None);
    }

    #[test]
    fn what_cannot_be_translated_is_not_written_and_what_is_ahead_is_held_at_the_end() {
        assert_eq!(written(&group(10, Translation::Unknown), None, None), None);
        assert_eq!(
            written(&group(10, Translation::TooOld { kept_from: 11 }), None, None),
            None
        );
        let ahead = Translation::Ahead {
            target: 70,
            copied_to: 7,
        };
        assert_eq!(written(&group(10, ahead), None, None), Some(70));
    }

    #[test]
    fn checkpoints_are_monotonic_unless_the_source_group_went_back() {
        let told = |now: &Group, before: &Group| checkpoints(now, Some(before)).count() == 1;
        assert!(told(&group(10, exact(100)), &group(9, exact(90))));
        assert!(!told(&group(10, exact(90)), &group(9, exact(90))));
        assert!(!told(&group(10, exact(80)), &group(10, exact(90))));
        assert!(told(&group(8, exact(80)), &group(9, exact(90))));
        assert_eq!(checkpoints(&group(1, Translation::Unknown), None).count(), 0);
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
        let group = translate(&committed.into(), &BTreeMap::new(), |tp| &*tp.topic == "orders");
        assert_eq!(group.len(), 1);
        assert_eq!(
            group[&TopicPartition::new("orders", 0)].translation,
            Translation::Unknown
        );
    }
}
