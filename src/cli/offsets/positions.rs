//! Where a group's positions continue on the target: asks both clusters, reads the offset map, translates.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::cli::flows::told;
use crate::cli::table::{count, table};
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

pub const CLIENT_ID: &str = "causeway-offsets";

/// What one flow's clusters say of some groups.
pub struct Look {
    pub rows: Vec<Row>,
    /// The groups' positions on the target, also those that nothing on the source corresponds to; none of a group
    /// that cannot be told.
    pub on_target: BTreeMap<String, BTreeMap<TopicPartition, Commit>>,
    /// Groups whose positions on the source cannot be told.
    pub untold: BTreeSet<String>,
    /// Every partition that the flow has copied from.
    pub copied: Vec<TopicPartition>,
    /// About single groups and brokers.
    pub errors: Vec<Error>,
}

/// Looks at these groups.
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
    for (partition, why) in outdated(config, flow, &maps, &on_source)? {
        eprintln!("note: {partition}: {why}");
        maps.forget(&partition);
    }
    let mut look = Look {
        rows: vec![],
        on_target: BTreeMap::new(),
        untold: BTreeSet::new(),
        copied: maps.maps().keys().cloned().collect(),
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
    pub source: TopicPartition,
    pub position: i64,
    /// The topic's name on the target.
    pub remote: String,
    /// `None`: the flow does not copy the topic.
    pub translation: Option<Translation>,
}

impl Place {
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

    pub fn target(&self) -> Option<i64> {
        self.translation.and_then(Translation::target)
    }

    fn run(&self) -> Option<Run> {
        match self.translation {
            Some(Translation::Exact { run, .. }) => run,
            _ => None,
        }
    }

    /// The word programs get.
    fn exactness(&self) -> &'static str {
        match self.translation {
            Some(Translation::Exact { .. }) => "exact",
            Some(Translation::Bound { .. }) => "bound",
            Some(Translation::Ahead { .. }) => "ahead",
            Some(Translation::TooOld { .. }) => "too_old",
            Some(Translation::Unknown) => "unknown",
            None => "not_copied",
        }
    }

    /// What people get.
    pub fn how(&self) -> String {
        match self.translation {
            Some(Translation::Exact { .. }) => "exact".to_owned(),
            Some(Translation::Bound { reread, .. }) => {
                format!("at most {} read again", count(reread as usize, "offset"))
            }
            Some(Translation::Ahead { copied_to, .. }) => {
                format!("held at the replicated end, source offset {copied_to}")
            }
            Some(Translation::TooOld { kept_from }) => {
                format!("too old: the map begins at source offset {kept_from}")
            }
            Some(Translation::Unknown) => "unknown: the map does not know the partition".to_owned(),
            None => "the flow does not copy the topic".to_owned(),
        }
    }

    /// Whether the target should have the position, and has not.
    pub fn is_missed(&self) -> bool {
        self.translation.is_some() && self.target().is_none()
    }

    /// What an operator must know about an exported position, or about one that is left out.
    pub fn remark(&self) -> Option<String> {
        let at = format!("{} at {}", self.source, self.position);
        match (self.translation, self.target()) {
            (Some(Translation::Exact { .. }), _) => None,
            (_, Some(_)) => Some(format!("note: {at}: {}", self.how())),
            (_, None) => Some(format!("left out: {at}: {}", self.how())),
        }
    }

    /// `topic,partition,offset` as `kafka-consumer-groups --export` writes it (`CsvUtils` of Kafka's tools).
    pub fn csv(&self) -> Option<String> {
        let (topic, partition) = (csv_text(&self.remote), self.source.partition);
        self.target()
            .map(|target| format!("{topic},{partition},{target}\n"))
    }

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

    fn cells(&self) -> [String; 5] {
        let target = self.target();
        [
            self.source.to_string(),
            self.position.to_string(),
            match self.translation {
                Some(_) => format!("{}-{}", self.remote, self.source.partition),
                None => "none".to_owned(),
            },
            target.map_or("none".into(), |it| it.to_string()),
            self.how(),
        ]
    }

    /// `100 → 40, 3 records`
    fn run_cell(&self) -> String {
        self.run().map_or("none".into(), |run| {
            let records = count(run.length as usize, "record");
            format!("{} → {}, {records}", run.source, run.target)
        })
    }
}

/// A position of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub group: String,
    pub place: Place,
    /// The position on the source.
    pub commit: Commit,
    pub now: Now,
}

/// The position the group has on the target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Now {
    At(i64),
    None,
    Unknown,
}

impl Now {
    pub fn json(self) -> Value {
        match self {
            Self::At(offset) => offset.into(),
            Self::None => Value::Null,
            Self::Unknown => "unknown".into(),
        }
    }

    pub fn cell(self) -> String {
        match self {
            Self::At(offset) => offset.to_string(),
            Self::None => "none".to_owned(),
            Self::Unknown => "unknown".to_owned(),
        }
    }
}

impl Row {
    pub fn json(&self, flow: &FlowSpec) -> Value {
        let mut value = self.place.json(flow);
        value["group"] = self.group.as_str().into();
        value["target_group_offset"] = self.now.json();
        value
    }

    /// `group,topic,partition,offset`, which that tool writes and reads for several groups.
    pub fn csv(&self) -> Option<String> {
        let group = csv_text(&self.group);
        self.place.csv().map(|place| format!("{group},{place}"))
    }
}

/// A text as Jackson's CSV writes it: quoted when it is longer than 24 UTF-16 units, or has a character up to the
/// comma, as no topic has.
fn csv_text(text: &str) -> Cow<'_, str> {
    let plain = text.encode_utf16().count() <= 24 && text.chars().all(|c| ',' < c);
    match plain {
        true => text.into(),
        false => format!("\"{}\"", text.replace('"', "\"\"")).into(),
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

pub fn block(flow: &FlowSpec, table: &str, rows: usize) -> String {
    let positions = count(rows, "position");
    format!("{} {}: {positions}\n{table}", flow.id.topology, flow.id)
}

pub fn positions(rows: &[Row]) -> String {
    let header = [
        "GROUP",
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "CONTINUES AT",
        "HOW",
        "GROUP IS AT",
    ];
    let cells = rows.iter().map(|row| {
        let [partition, position, remote, target, how] = row.place.cells();
        let group = row.group.clone();
        [group, partition, position, remote, target, how, row.now.cell()]
    });
    match rows.is_empty() {
        true => String::new(),
        false => table(2, header, &cells.collect::<Vec<_>>()),
    }
}

pub fn group_runs(rows: &[Row]) -> String {
    let header = [
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "CONTINUES AT",
        "HOW",
        "GROUP IS AT",
        "RUN",
    ];
    let cells = rows.iter().map(|row| {
        let [partition, position, remote, target, how] = row.place.cells();
        let (now, run) = (row.now.cell(), row.place.run_cell());
        [partition, position, remote, target, how, now, run]
    });
    table(2, header, &cells.collect::<Vec<_>>())
}

pub fn offset_run(place: &Place) -> String {
    let header = ["PARTITION", "POSITION", "ON TARGET", "CONTINUES AT", "HOW", "RUN"];
    let [partition, position, remote, target, how] = place.cells();
    table(
        2,
        header,
        &[[partition, position, remote, target, how, place.run_cell()]],
    )
}

/// The rows, and whether everything could be asked; says what could not.
pub fn told_rows(flow: &FlowSpec, look: Look) -> (Vec<Row>, bool) {
    let complete = look.errors.is_empty();
    for error in look.errors {
        told(flow, error);
    }
    (look.rows, complete)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::offsets::tests::{commit, copied};

    fn rows(now: Option<&BTreeMap<TopicPartition, Commit>>) -> Vec<Row> {
        let (flow, maps) = copied();
        let at = |(topic, partition, offset): (&str, i32, i64)| {
            (TopicPartition::new(topic, partition), commit(offset))
        };
        let positions = [("orders", 0, 103), ("orders", 1, 5), ("private", 0, 7)];
        rows_of_group(&flow, &maps, "shop", positions.map(at).into(), now)
    }

    #[test]
    fn the_table_says_where_a_group_continues_and_how_exactly() {
        let now = [(TopicPartition::new("seoul.orders", 0), commit(41))].into();
        let expected = "
  GROUP  PARTITION  POSITION  ON TARGET       CONTINUES AT  HOW                                          GROUP IS AT
  shop   orders-0   103       seoul.orders-0  44        exact                                        41
  shop   orders-1   5         seoul.orders-1  none      unknown: the map does not know the partition  none
  shop   private-0  7         none            none      the flow does not copy the topic             none
";
        let words = |text: &str| -> Vec<Vec<String>> {
            let lines = text.lines().filter(|line| !line.is_empty());
            lines
                .map(|line| line.split_whitespace().map(str::to_owned).collect())
                .collect()
        };
        assert_eq!(words(&positions(&rows(Some(&now)))), words(expected));
        assert!(group_runs(&rows(Some(&now))).contains("41           104 → 44, 2 records"));
    }

    #[test]
    fn what_the_target_does_not_tell_is_neither_a_position_nor_none() {
        assert!(rows(None).iter().all(|row| row.now.cell() == "unknown"));
        let (flow, _) = copied();
        assert_eq!(rows(None)[0].json(&flow)["target_group_offset"], "unknown");
    }

    #[test]
    fn every_answer_of_the_map_has_its_words() {
        let (flow, maps) = copied();
        let words = |position| {
            let place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), position);
            (place.target(), place.exactness(), place.how(), place.is_missed())
        };
        let held = "held at the replicated end, source offset 107".to_owned();
        let old = "too old: the map begins at source offset 100".to_owned();
        assert_eq!(words(101), (Some(41), "exact", "exact".to_owned(), false));
        assert_eq!(words(120), (Some(46), "ahead", held, false));
        assert_eq!(words(99), (None, "too_old", old, true));
        let mut place = Place::of(&flow, &maps, TopicPartition::new("orders", 0), 101);
        place.translation = Some(Translation::Bound {
            target: 40,
            reread: 2,
        });
        assert_eq!(place.how(), "at most 2 offsets read again");
        assert_eq!(place.json(&flow)["reread"], 2);
    }

    #[test]
    fn texts_are_quoted_as_jackson_does() {
        for (text, csv) in [
            ("a-group.of_24_characters", "a-group.of_24_characters"),
            ("a-group.of_25.characters_", "\"a-group.of_25.characters_\""),
            ("two words", "\"two words\""),
            ("a\"b", "\"a\"\"b\""),
            ("한국", "한국"),
            // Twelve characters beyond the 16 bits of Java's are 24.
            ("😀😀😀😀😀😀😀😀😀😀😀😀", "😀😀😀😀😀😀😀😀😀😀😀😀"),
            ("😀😀😀😀😀😀😀😀😀😀😀😀x", "\"😀😀😀😀😀😀😀😀😀😀😀😀x\""),
        ] {
            assert_eq!(csv_text(text), csv);
        }
        let rows = rows(None);
        assert_eq!(rows[0].csv().as_deref(), Some("shop,seoul.orders,0,44\n"));
    }

    #[test]
    fn an_export_has_the_positions_with_a_place_and_remarks_the_others() {
        let lines: Vec<_> = rows(None).iter().map(|row| row.place.csv()).collect();
        assert_eq!(lines, [Some("seoul.orders,0,44\n".to_owned()), None, None]);
        let remarks: Vec<_> = rows(None).iter().map(|row| row.place.remark()).collect();
        assert_eq!(
            remarks,
            [
                None,
                Some("left out: orders-1 at 5: unknown: the map does not know the partition".to_owned()),
                Some("left out: private-0 at 7: the flow does not copy the topic".to_owned()),
            ]
        );
        let missed: Vec<_> = rows(None).iter().map(|row| row.place.is_missed()).collect();
        assert_eq!(
            missed,
            [false, true, false],
            "what is not copied on purpose is not missed"
        );
    }
}
