//! `causeway offsets diff`: the positions that groups have on the target, held against what the offset map says they
//! should be. What decides is a function of values; a position that is behind is asked for once more.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use super::positions::note_outdated;
use crate::cli::table::{count, table};
use crate::config::Config;
use crate::error::{Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::admin::GroupState;
use crate::kafka::groups::{Commit, GroupProcess, Read};
use crate::offset_map::Translation;
use crate::operations::group_positions::{Look, Now, Place, look, positions_on, selected_groups};
use crate::topology::FlowSpec;

/// Group sync runs once per interval, and may have begun a pass just before the group moved.
const INTERVALS: u32 = 2;

/// How a position on the target stands to the one it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the one, or within the bound of a thinned map.
    Equal,
    /// It is the replicated end, because the group on the source is ahead of that.
    Held,
    /// So many target offsets would be read again.
    Behind(i64),
    /// So many target offsets would be skipped.
    Ahead(i64),
    /// The group has no position there.
    Missing,
    /// The group has no position on the source.
    OnlyOnTarget,
    /// The group has members on the target: its positions there are its own.
    Active,
    /// The map has no answer, and why.
    NoAnswer(String),
    /// The target did not tell.
    Unknown,
}

impl Verdict {
    /// `None`: the flow does not copy the topic.
    fn of(place: &Place, now: Now, active: bool) -> Option<Self> {
        let translation = place.translation?;
        if active {
            return Some(Self::Active);
        }
        // The truth lies somewhere in between.
        let (Some(from), Some(to)) = (translation.target(), translation.latest()) else {
            return Some(Self::NoAnswer(place.how()));
        };
        Some(match now {
            Now::Unknown => Self::Unknown,
            Now::None => Self::Missing,
            Now::At(now) if now < from => Self::Behind(from - now),
            Now::At(now) if to < now => Self::Ahead(now - to),
            Now::At(_) => match translation {
                Translation::Ahead { .. } => Self::Held,
                _ => Self::Equal,
            },
        })
    }

    /// Whether the group would not continue where it stopped.
    pub fn is_negative(&self) -> bool {
        matches!(
            self,
            Self::Behind(_) | Self::Ahead(_) | Self::Missing | Self::NoAnswer(_)
        )
    }

    /// The word programs get.
    fn word(&self) -> &'static str {
        match self {
            Self::Equal => "equal",
            Self::Held => "held",
            Self::Behind(_) => "behind",
            Self::Ahead(_) => "ahead",
            Self::Missing => "missing",
            Self::OnlyOnTarget => "only_on_target",
            Self::Active => "active",
            Self::NoAnswer(_) => "no_answer",
            Self::Unknown => "unknown",
        }
    }

    /// What people get.
    fn how(&self) -> String {
        let offsets = |by: i64| count(by as usize, "offset");
        match self {
            Self::Equal => "equal".to_owned(),
            Self::Held => "held at the replicated end".to_owned(),
            Self::Behind(by) => format!("behind by {}", offsets(*by)),
            Self::Ahead(by) => format!("ahead by {}", offsets(*by)),
            Self::Missing => "missing on the target".to_owned(),
            Self::OnlyOnTarget => "only on the target".to_owned(),
            Self::Active => "active on the target".to_owned(),
            Self::NoAnswer(why) => format!("no answer: {why}"),
            Self::Unknown => "the target did not tell".to_owned(),
        }
    }
}

/// One position of a group on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compared {
    pub group: String,
    source: TopicPartition,
    remote: TopicPartition,
    /// On the source.
    position: Option<i64>,
    /// What it should be on the target.
    expected: Option<i64>,
    now: Now,
    pub verdict: Verdict,
}

impl Compared {
    pub fn json(&self, flow: &FlowSpec) -> Value {
        let mut value = json!({
            "topology": flow.id.topology,
            "flow": flow.id.to_string(),
            "group": self.group,
            "topic": self.source.topic.to_string(),
            "partition": self.source.partition,
            "source_offset": self.position,
            "target_topic": self.remote.topic.to_string(),
            "target_offset": self.expected,
            "target_group_offset": self.now.json(),
            "verdict": self.verdict.word(),
        });
        match &self.verdict {
            Verdict::Behind(by) | Verdict::Ahead(by) => value["by"] = (*by).into(),
            Verdict::NoAnswer(why) => value["reason"] = why.as_str().into(),
            _ => {}
        }
        value
    }

    /// What can still arrive by itself.
    fn is_late(&self) -> bool {
        matches!(self.verdict, Verdict::Behind(_) | Verdict::Missing)
    }

    /// Takes in what the target says after a while: what has arrived is as it should be. The source may have gone on.
    fn arrive(&mut self, now: &BTreeMap<TopicPartition, Commit>) {
        let Some(commit) = now.get(&self.remote) else {
            return;
        };
        self.now = Now::At(commit.offset);
        if let Some(expected) = self.expected {
            self.verdict = match expected.cmp(&commit.offset) {
                Ordering::Greater => Verdict::Behind(expected - commit.offset),
                _ => Verdict::Equal,
            };
        }
    }
}

/// Holds every position in a partition that the flow copies against the map, in order of group and partition.
fn compare(flow: &FlowSpec, look: &Look, active: &BTreeSet<String>) -> Vec<Compared> {
    let mut compared = vec![];
    for row in &look.rows {
        let place = &row.place;
        if let Some(verdict) = Verdict::of(place, row.now, active.contains(&row.group)) {
            compared.push(Compared {
                group: row.group.clone(),
                remote: TopicPartition::new(place.remote.as_str(), place.source.partition),
                source: place.source.clone(),
                position: Some(place.position),
                expected: place.target(),
                now: row.now,
                verdict,
            });
        }
    }
    let on_both: BTreeSet<_> = compared.iter().map(|it| (&*it.group, &it.remote)).collect();
    let mut only_there = vec![];
    for source in &look.copied {
        let remote = flow.naming().format_remote_topic(&source.topic);
        let remote = TopicPartition::new(remote, source.partition);
        for (group, positions) in &look.on_target {
            let Some(commit) = positions.get(&remote) else {
                continue;
            };
            if !on_both.contains(&(group.as_str(), &remote)) && !look.untold.contains(group) {
                only_there.push(Compared {
                    group: group.clone(),
                    source: source.clone(),
                    remote: remote.clone(),
                    position: None,
                    expected: None,
                    now: Now::At(commit.offset),
                    verdict: Verdict::OnlyOnTarget,
                });
            }
        }
    }
    compared.extend(only_there);
    compared.sort_by(|a, b| (&a.group, &a.source).cmp(&(&b.group, &b.source)));
    compared
}

/// Compares these groups, or without any all that the flow selects on either side. With it what could not be asked.
pub fn diff(
    config: &Config,
    flow: &FlowSpec,
    groups: &[String],
    process: &Arc<GroupProcess>,
) -> Result<(Vec<Compared>, Vec<Error>)> {
    let (on_target, mut errors) = selected_groups(config, flow, Side::Target)?;
    let active = on_target
        .iter()
        .filter(|it| !matches!(it.state, GroupState::Empty | GroupState::Dead))
        .map(|it| it.group.clone())
        .collect();
    let groups: BTreeSet<String> = match groups {
        [] => {
            let (on_source, unheard) = selected_groups(config, flow, Side::Source)?;
            errors.extend(unheard);
            on_source
                .into_iter()
                .chain(on_target)
                .map(|it| it.group)
                .collect()
        }
        groups => groups.iter().cloned().collect(),
    };
    let groups: Vec<_> = groups.into_iter().collect();
    let mut look = look(config, flow, &groups, process)?;
    note_outdated(&look);
    errors.append(&mut look.errors);
    let mut compared = compare(flow, &look, &active);
    let late: BTreeSet<_> = compared
        .iter()
        .filter(|it| it.is_late())
        .map(|it| &it.group)
        .collect();
    let late: Vec<String> = late.into_iter().cloned().collect();
    if flow.offset_sync.write_groups && !late.is_empty() {
        thread::sleep(flow.offset_sync.interval * INTERVALS);
        let now = positions_on(config, flow, Side::Target, &late, process).unwrap_or_else(|error| {
            errors.push(error);
            Read::new()
        });
        for (group, now) in now {
            match now {
                Ok(now) => {
                    let late = compared.iter_mut().filter(|it| it.group == group && it.is_late());
                    late.for_each(|it| it.arrive(&now));
                }
                Err(error) => errors.push(error),
            }
        }
    }
    Ok((compared, errors))
}

/// What is not as it should be, for people.
pub fn block(flow: &FlowSpec, compared: &[Compared]) -> String {
    let negative = compared.iter().filter(|it| it.verdict.is_negative()).count();
    let verb = if negative == 1 { "differs" } else { "differ" };
    let mut text = format!(
        "{} {}: {}, {negative} {verb}\n",
        flow.id.topology,
        flow.id,
        count(compared.len(), "position"),
    );
    let header = [
        "GROUP",
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "SHOULD BE AT",
        "GROUP IS AT",
        "VERDICT",
    ];
    let number = |number: Option<i64>| number.map_or("none".to_owned(), |it| it.to_string());
    let rows: Vec<_> = compared
        .iter()
        .filter(|it| it.verdict != Verdict::Equal)
        .map(|it| {
            [
                it.group.clone(),
                it.source.to_string(),
                number(it.position),
                it.remote.to_string(),
                number(it.expected),
                it.now.cell(),
                it.verdict.how(),
            ]
        })
        .collect();
    if !rows.is_empty() {
        text += &table(2, header, &rows);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::offsets::tests::{commit, copied};
    use crate::operations::group_positions::rows_of_group;

    fn at(topic: &str, partition: i32, offset: i64) -> (TopicPartition, Commit) {
        (TopicPartition::new(topic, partition), commit(offset))
    }

    /// What is said of group `shop` at 103, where the map says 44, for its position on the target.
    fn said(source: i64, now: Now, active: bool) -> Option<Verdict> {
        let (flow, maps) = copied();
        let place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), source);
        Verdict::of(&place, now, active)
    }

    #[test]
    fn a_position_is_equal_behind_ahead_or_missing() {
        for (now, verdict) in [
            (Now::At(44), Verdict::Equal),
            (Now::At(43), Verdict::Behind(1)),
            (Now::At(50), Verdict::Ahead(6)),
            (Now::None, Verdict::Missing),
            (Now::Unknown, Verdict::Unknown),
        ] {
            assert_eq!(said(103, now, false), Some(verdict.clone()));
            assert_eq!(
                verdict.is_negative(),
                !matches!(now, Now::At(44) | Now::Unknown),
                "{verdict:?}"
            );
        }
    }

    #[test]
    fn a_group_with_members_on_the_target_has_its_own_positions() {
        for now in [Now::At(1), Now::At(1000), Now::None, Now::Unknown] {
            assert_eq!(said(103, now, true), Some(Verdict::Active));
            assert_eq!(said(99, now, true), Some(Verdict::Active));
        }
        assert!(!Verdict::Active.is_negative());
    }

    #[test]
    fn what_is_ahead_of_replication_should_be_held_at_its_end() {
        assert_eq!(said(120, Now::At(46), false), Some(Verdict::Held));
        assert_eq!(said(120, Now::At(45), false), Some(Verdict::Behind(1)));
        assert!(!Verdict::Held.is_negative());
    }

    #[test]
    fn what_the_map_does_not_know_has_no_answer_and_what_is_not_copied_no_verdict() {
        let too_old = said(99, Now::At(7), false).expect("it is copied");
        assert!(matches!(&too_old, Verdict::NoAnswer(why) if why.starts_with("too old")));
        assert!(too_old.is_negative());
        let (flow, maps) = copied();
        let private = Place::of(&flow, &maps, TopicPartition::new("private", 0), 1);
        assert_eq!(Verdict::of(&private, Now::None, false), None);
    }

    #[test]
    fn a_position_within_the_bound_of_a_thinned_map_is_equal() {
        let (flow, maps) = copied();
        let mut place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), 103);
        place.translation = Some(Translation::Bound {
            target: 40,
            reread: 4,
        });
        let said = |now| Verdict::of(&place, Now::At(now), false).expect("it is copied");
        assert_eq!(said(39), Verdict::Behind(1));
        assert_eq!((said(40), said(44)), (Verdict::Equal, Verdict::Equal));
        assert_eq!(said(45), Verdict::Ahead(1));
    }

    /// `shop` on both sides, `other` only on the target, `untold` not told by the source.
    fn looked() -> (FlowSpec, Look) {
        let (flow, maps) = copied();
        let there = |offset| BTreeMap::from([at("seoul.orders", 0, offset), at("local", 0, 5)]);
        let committed = [at("orders", 0, 103), at("private", 0, 1)].into();
        let look = Look {
            rows: rows_of_group(&flow, &maps, "shop", committed, Some(&there(41))),
            on_target: [("shop", 41), ("other", 45), ("untold", 3)]
                .map(|(group, offset)| (group.to_owned(), there(offset)))
                .into(),
            untold: ["untold".to_owned()].into(),
            copied: maps.into_keys().collect(),
            outdated: BTreeMap::new(),
            errors: vec![],
        };
        (flow, look)
    }

    #[test]
    fn positions_in_copied_partitions_are_compared_from_both_sides() {
        let (flow, look) = looked();
        let compared = compare(&flow, &look, &BTreeSet::new());
        let said: Vec<_> = compared.iter().map(|it| (&*it.group, &it.verdict)).collect();
        assert_eq!(
            said,
            [("other", &Verdict::OnlyOnTarget), ("shop", &Verdict::Behind(3))]
        );
        assert!(!Verdict::OnlyOnTarget.is_negative());
        let json = compared[1].json(&flow);
        assert_eq!(json["verdict"], "behind");
        assert_eq!(json["by"], 3);
        assert_eq!(json["target_offset"], 44);
        assert_eq!(json["target_group_offset"], 41);
        let text = block(&flow, &compared);
        assert!(text.contains(": 2 positions, 1 differs\n"), "{text}");
        assert!(
            text.contains("44            41           behind by 3 offsets"),
            "{text}"
        );
        assert!(
            text.contains("none          45           only on the target"),
            "{text}"
        );
    }

    #[test]
    fn what_arrives_within_the_time_given_is_equal() {
        let (flow, look) = looked();
        let late = compare(&flow, &look, &BTreeSet::new()).remove(1);
        assert!(late.is_late());
        let after = |offset: Option<i64>| {
            let mut late = late.clone();
            late.arrive(
                &offset
                    .map(|offset| at("seoul.orders", 0, offset))
                    .into_iter()
                    .collect(),
            );
            late.verdict
        };
        assert_eq!(after(Some(44)), Verdict::Equal);
        assert_eq!(after(Some(46)), Verdict::Equal);
        assert_eq!(after(Some(42)), Verdict::Behind(2));
        assert_eq!(after(None), Verdict::Behind(3));
    }
}
