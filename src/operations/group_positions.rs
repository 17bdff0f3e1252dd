//! Where consumer groups continue on the target: asks both clusters, reads the offset maps, translates. The one road to
//! these answers, for whoever shows them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::config::Config;
use crate::error::{Code, Error, Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::admin::{Admin, GroupListing};
use crate::kafka::client::ClusterConnection;
use crate::kafka::groups::{Commit, GroupProcess, Groups, Read};
use crate::offset_map::{PartitionMap, Run, Translation};
use crate::state::map_reader::MapReader;
use crate::topology::FlowSpec;

/// How long one request, and reading the maps, may take.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A look at the offset map may go on while nothing new comes. A busy flow is never quiet for long.
const LOOK: Duration = Duration::from_secs(1);

/// By which the clusters know who asks.
pub const CLIENT_ID: &str = "causeway-offsets";

/// What one flow's clusters say of some groups.
pub struct Look {
    /// One for each position on the source.
    pub rows: Vec<Row>,
    /// The groups' positions on the target, also those that nothing on the source corresponds to; none of a group
    /// that cannot be told.
    pub on_target: BTreeMap<String, BTreeMap<TopicPartition, Commit>>,
    /// Groups whose positions on the source cannot be told.
    pub untold: BTreeSet<String>,
    /// Every partition that the flow has copied from.
    pub copied: Vec<TopicPartition>,
    /// Partitions whose map is not about the topics that are there now, and why.
    pub outdated: BTreeMap<TopicPartition, String>,
    /// About single groups and brokers.
    pub errors: Vec<Error>,
}

/// Looks at these groups.
///
/// # Errors
/// A cluster cannot be asked, or the offset map not be read.
pub fn look(
    config: &Config,
    flow: &FlowSpec,
    groups: &[String],
    process: &Arc<GroupProcess>,
) -> Result<Look> {
    // A daemon may write positions between the questions. In this order they can only look older than they are: on
    // the target than on the source, on the source than in the map.
    let on_target = positions_on(config, flow, Side::Target, groups, process)?;
    let on_source = positions_on(config, flow, Side::Source, groups, process)?;
    let mut maps = read_maps(config, flow)?;
    let outdated = outdated(config, flow, &maps, &on_source)?;
    outdated.keys().for_each(|partition| maps.forget(partition));
    let mut look = Look {
        rows: vec![],
        on_target: BTreeMap::new(),
        untold: BTreeSet::new(),
        copied: maps.maps().keys().cloned().collect(),
        outdated,
        errors: vec![],
    };
    for (group, now) in on_target {
        match now {
            Ok(now) => drop(look.on_target.insert(group, now)),
            Err(error) => look.errors.push(error),
        }
    }
    for (group, committed) in on_source {
        match committed {
            Ok(committed) => {
                let now = look.on_target.get(&group);
                let rows = rows_of_group(flow, maps.maps(), &group, committed, now);
                look.rows.extend(rows);
            }
            Err(error) => {
                look.errors.push(error);
                look.untold.insert(group);
            }
        }
    }
    Ok(look)
}

/// The partitions of positions whose map is not about the topics that are there now, and why.
fn outdated(
    config: &Config,
    flow: &FlowSpec,
    maps: &MapReader,
    on_source: &Read,
) -> Result<BTreeMap<TopicPartition, String>> {
    let positions = on_source.values().flatten().flat_map(BTreeMap::keys);
    let remote = |tp: &TopicPartition| flow.naming().format_remote_topic(&tp.topic);
    let partitions = positions
        .filter(|tp| maps.maps().contains_key(*tp))
        .map(|tp| (tp.clone(), remote(tp)));
    let admin = |side| Admin::new(cluster(config, flow, side), CLIENT_ID, side);
    let (source, target) = (admin(Side::Source)?, admin(Side::Target)?);
    maps.outdated(&source, &target, &partitions.collect(), PATIENCE)
}

/// The positions of groups on one side of the flow.
///
/// # Errors
/// The cluster cannot be asked.
pub fn positions_on(
    config: &Config,
    flow: &FlowSpec,
    side: Side,
    groups: &[String],
    process: &Arc<GroupProcess>,
) -> Result<Read> {
    if groups.is_empty() {
        return Ok(Read::new());
    }
    let cluster = cluster(config, flow, side).clone();
    Groups::new(Arc::clone(process), cluster, CLIENT_ID, side).committed(groups, PATIENCE)
}

/// The groups on one side of the flow that it selects, and what single brokers could not tell.
///
/// # Errors
/// The cluster cannot be asked.
pub fn selected_groups(
    config: &Config,
    flow: &FlowSpec,
    side: Side,
) -> Result<(Vec<GroupListing>, Vec<Error>)> {
    let admin = Admin::new(cluster(config, flow, side), CLIENT_ID, side)?;
    let (mut listed, unheard) = admin.list_groups(PATIENCE)?;
    listed.retain(|it| flow.groups.matches(&it.group));
    Ok((listed, unheard))
}

fn cluster<'a>(config: &'a Config, flow: &FlowSpec, side: Side) -> &'a ClusterConnection {
    match side {
        Side::Source => &config.clusters[&flow.id.source],
        Side::Target => &config.clusters[&flow.id.target],
    }
}

/// The offset maps of the flow, as far as they are written now.
///
/// # Errors
/// The target cannot be asked, or does not have them.
pub fn read_maps(config: &Config, flow: &FlowSpec) -> Result<MapReader> {
    let target = &config.clusters[&flow.id.target];
    let topic = flow.id.offset_map_topic();
    let admin = Admin::new(target, CLIENT_ID, Side::Target)?;
    let mut described = admin.describe_topics(&[&topic], PATIENCE)?;
    let described = described.remove(&topic).unwrap_or_else(|| {
        Err(Error::new(
            Code::TargetUnexpected,
            format!("nothing is said about {topic}"),
        ))
    })?;
    let mut reader = MapReader::open(target, &flow.id, described.partitions as u32)?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        match reader.catch_up(LOOK) {
            Err(error) if error.code == Code::TargetUnreachable && Instant::now() < deadline => {}
            outcome => return outcome.map(|()| reader),
        }
    }
}

/// A source position and its place on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Of the source.
    pub source: TopicPartition,
    /// The source offset that is read next.
    pub position: i64,
    /// The topic's name on the target.
    pub remote: String,
    /// `None`: the flow does not copy the topic.
    pub translation: Option<Translation>,
}

impl Place {
    /// Where a position continues, by these maps.
    pub fn of(
        flow: &FlowSpec,
        maps: &BTreeMap<TopicPartition, PartitionMap>,
        source: TopicPartition,
        position: i64,
    ) -> Self {
        let translation = match maps.get(&source) {
            Some(map) => Some(map.translate(position)),
            None => flow.topics.matches(&source.topic).then_some(Translation::Unknown),
        };
        Self {
            remote: flow.naming().format_remote_topic(&source.topic),
            source,
            position,
            translation,
        }
    }

    /// The target offset that is read next.
    pub fn target(&self) -> Option<i64> {
        self.translation.and_then(Translation::target)
    }

    /// The run that gave the answer.
    pub fn run(&self) -> Option<Run> {
        match self.translation {
            Some(Translation::Exact { run, .. }) => run,
            _ => None,
        }
    }

    /// The word programs get.
    pub fn exactness(&self) -> &'static str {
        match self.translation {
            Some(Translation::Exact { .. }) => "exact",
            Some(Translation::Bound { .. }) => "bound",
            Some(Translation::Ahead { .. }) => "ahead",
            Some(Translation::TooOld { .. }) => "too_old",
            Some(Translation::Unknown) => "unknown",
            None => "not_copied",
        }
    }

    /// Whether the target should have the position, and has not.
    pub fn is_missed(&self) -> bool {
        self.translation.is_some() && self.target().is_none()
    }

    /// For programs.
    pub fn json(&self, flow: &FlowSpec) -> Value {
        let mut value = json!({
            "topology": flow.id.topology,
            "flow": flow.id.to_string(),
            "topic": self.source.topic.to_string(),
            "partition": self.source.partition,
            "source_offset": self.position,
            "target_topic": self.remote,
            "target_offset": self.target(),
            "exactness": self.exactness(),
            "run": self.run().map(|run| json!({
                "source": run.source, "target": run.target, "length": run.length,
            })),
        });
        match self.translation {
            Some(Translation::Bound { reread, .. }) => value["reread"] = reread.into(),
            Some(Translation::Ahead { copied_to, .. }) => value["copied_to"] = copied_to.into(),
            Some(Translation::TooOld { kept_from }) => value["kept_from"] = kept_from.into(),
            _ => {}
        }
        value
    }
}

/// A position of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// The group.
    pub group: String,
    /// Where it continues.
    pub place: Place,
    /// The position on the source.
    pub commit: Commit,
    /// Where it is on the target.
    pub now: Now,
}

/// The position the group has on the target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    /// There.
    At(i64),
    /// It has none.
    None,
    /// The target does not tell.
    Unknown,
}

impl Now {
    /// For programs.
    pub fn json(self) -> Value {
        match self {
            Self::At(offset) => offset.into(),
            Self::None => Value::Null,
            Self::Unknown => "unknown".into(),
        }
    }
}

impl Row {
    /// For programs.
    pub fn json(&self, flow: &FlowSpec) -> Value {
        let mut value = self.place.json(flow);
        value["group"] = self.group.as_str().into();
        value["target_group_offset"] = self.now.json();
        value
    }
}

/// One row per position on the source. `now` is what the target says of the group, if it is known.
pub fn rows_of_group(
    flow: &FlowSpec,
    maps: &BTreeMap<TopicPartition, PartitionMap>,
    group: &str,
    committed: BTreeMap<TopicPartition, Commit>,
    now: Option<&BTreeMap<TopicPartition, Commit>>,
) -> Vec<Row> {
    let row = |(source, commit): (TopicPartition, Commit)| {
        let partition = source.partition;
        let place = Place::of(flow, maps, source, commit.offset);
        let there = TopicPartition::new(place.remote.as_str(), partition);
        let now = match now.map(|now| now.get(&there)) {
            Some(Some(commit)) => Now::At(commit.offset),
            Some(None) => Now::None,
            None => Now::Unknown,
        };
        Row {
            group: group.to_owned(),
            place,
            commit,
            now,
        }
    };
    committed.into_iter().map(row).collect()
}
