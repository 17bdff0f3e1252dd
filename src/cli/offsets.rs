//! `causeway offsets`: where consumer groups of the source continue on the target, and the flow's own position.
//! Asks the clusters; only `reset --execute` writes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use clap::Subcommand;
use serde_json::{Value, json};

use super::table::{count, table};
use super::{ExitCode, Outcome, Output, OutputFormat, failed, print, usage};
use crate::config::Config;
use crate::error::{Code, Error, Side};
use crate::flow::map_reader::MapReader;
use crate::kafka::TopicPartition;
use crate::kafka::admin::Admin;
use crate::kafka::groups::{Commit, GroupProcess, Groups};
use crate::offset_map::{PartitionMap, Run, Translation};
use crate::topology::FlowSpec;

mod reset;

/// How long one request, and reading the maps, may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A look at the offset map may go on while nothing new comes. A busy flow is never quiet for long.
const LOOK: Duration = Duration::from_secs(1);

const CLIENT_ID: &str = "causeway-offsets";

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the positions of every selected group, and where they are on the target
    List {
        /// Only this flow, such as 'seoul->busan' (mind the quotes) [default: every flow]
        #[arg(long, value_name = "FLOW")]
        flow: Option<String>,

        #[command(flatten)]
        output: Output,
    },

    /// Translate the positions of one group, or one offset, and show the run that was used
    Translate {
        /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one that selects it]
        #[arg(long, value_name = "FLOW")]
        flow: Option<String>,

        /// The consumer group
        #[arg(long, required_unless_present = "topic", conflicts_with = "topic")]
        group: Option<String>,

        /// The source topic
        #[arg(long, requires_all = ["partition", "offset"])]
        topic: Option<String>,

        /// Its partition
        #[arg(long, value_name = "NUMBER", requires = "topic", value_parser = clap::value_parser!(i32).range(0..))]
        partition: Option<i32>,

        /// The source offset that would be read next
        #[arg(long, requires = "topic", value_parser = clap::value_parser!(i64).range(0..))]
        offset: Option<i64>,

        #[command(flatten)]
        output: Output,
    },

    /// Print a group's positions on the target as kafka-consumer-groups --reset-offsets --from-file reads them
    ///
    /// Lines of topic,partition,offset. A position without a place on the target is left out; stderr says why.
    Export {
        /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one that selects the group]
        #[arg(long, value_name = "FLOW")]
        flow: Option<String>,

        /// The consumer group
        #[arg(long)]
        group: String,
    },

    /// Move the position of a flow that does not run
    ///
    /// Shows what would change; --execute changes it, while no daemon may run the flow. Backward, records are
    /// copied again behind what is there. Forward, what is left out is declared as a gap. An offset that the source
    /// does not have becomes the nearest that it has.
    Reset(reset::Reset),
}

/// Does what was asked.
///
/// # Errors
/// When something of it cannot be told; the rest is printed all the same.
pub fn run(config: &Config, flows: &[FlowSpec], command: Command) -> Outcome<()> {
    match command {
        Command::List { flow, output } => list(config, &named(flows, flow.as_deref())?, output.format),
        Command::Translate {
            flow,
            group: Some(group),
            output,
            ..
        } => {
            let flow = of_group(flows, flow.as_deref(), &group)?;
            let (rows, complete) = rows_of(config, flow, &group)?;
            print(&match output.format {
                OutputFormat::Table => block(flow, &group_runs(&rows), rows.len()),
                OutputFormat::Json => super::json(&rows.iter().map(|row| row.json(flow)).collect()),
            })?;
            verdict(complete)
        }
        Command::Translate {
            flow,
            topic: Some(topic),
            partition: Some(partition),
            offset: Some(offset),
            output,
            ..
        } => {
            let fits = |flow: &FlowSpec| flow.topics.matches(&topic);
            let flow = one(flows, flow.as_deref(), &format!("topic {topic}"), fits)?;
            let maps = read_maps(config, flow).map_err(|error| told(flow, error))?;
            let at = TopicPartition::new(topic.as_str(), partition);
            let place = Place::of(flow, maps.maps(), at, offset);
            print(&match output.format {
                OutputFormat::Table => block(flow, &offset_run(&place), 1),
                OutputFormat::Json => super::json(&place.json(flow)),
            })
        }
        // The arguments refuse this.
        Command::Translate { .. } => Err(usage("give --group, or --topic, --partition and --offset")),
        Command::Reset(arguments) => reset::run(config, flows, &arguments),
        Command::Export { flow, group } => {
            let flow = of_group(flows, flow.as_deref(), &group)?;
            let (rows, _) = rows_of(config, flow, &group)?;
            for row in &rows {
                if let Some(remark) = row.place.remark() {
                    eprintln!("{remark}");
                }
            }
            print(&rows.iter().filter_map(|row| row.place.csv()).collect::<String>())?;
            verdict(rows.iter().all(|row| !row.place.is_missed()))
        }
    }
}

fn verdict(complete: bool) -> Outcome<()> {
    if complete { Ok(()) } else { Err(ExitCode::Failed) }
}

/// Says what went wrong with a flow.
fn told(flow: &FlowSpec, error: Error) -> ExitCode {
    failed(format_args!(
        "{} {}: {error}\n  hint: {}",
        flow.id.topology,
        flow.id,
        error.code.page().advice
    ))
}

/// The flows of this name; all without one.
fn named<'a>(flows: &'a [FlowSpec], name: Option<&str>) -> Outcome<Vec<&'a FlowSpec>> {
    let fits: Vec<_> = flows
        .iter()
        .filter(|flow| name.is_none_or(|name| flow.id.to_string() == name))
        .collect();
    match (name, fits.is_empty()) {
        (Some(name), true) => Err(usage(format_args!(
            "no flow {name}; there is {}",
            names(flows.iter())
        ))),
        _ => Ok(fits),
    }
}

/// The one flow that is meant: of several of this name, the only one that `selects` what is asked for.
fn one<'a>(
    flows: &'a [FlowSpec],
    name: Option<&str>,
    what: &str,
    selects: impl Fn(&FlowSpec) -> bool,
) -> Outcome<&'a FlowSpec> {
    let all = named(flows, name)?;
    if let [only] = all[..] {
        return Ok(only);
    }
    let fits: Vec<_> = all.iter().copied().filter(|flow| selects(flow)).collect();
    match fits[..] {
        [only] => Ok(only),
        [] => Err(usage(format_args!(
            "no flow selects {what}: give --flow, one of {}",
            names(all.into_iter())
        ))),
        _ => Err(usage(format_args!(
            "several flows select {what}: give --flow, or one --topology: {}",
            names(fits.into_iter())
        ))),
    }
}

fn of_group<'a>(flows: &'a [FlowSpec], name: Option<&str>, group: &str) -> Outcome<&'a FlowSpec> {
    let selects = |flow: &FlowSpec| flow.groups.matches(group);
    one(flows, name, &format!("group {group}"), selects)
}

/// `korea-dr seoul->busan, korea-dr busan->seoul`
fn names<'a>(flows: impl Iterator<Item = &'a FlowSpec>) -> String {
    let names: Vec<_> = flows
        .map(|flow| format!("{} {}", flow.id.topology, flow.id))
        .collect();
    names.join(", ")
}

fn list(config: &Config, flows: &[&FlowSpec], format: OutputFormat) -> Outcome<()> {
    let process = Arc::new(GroupProcess::new());
    // All at once: a cluster that does not answer costs its timeout only once.
    let looks: Vec<crate::error::Result<Look>> = thread::scope(|scope| {
        let looks: Vec<_> = flows
            .iter()
            .map(|flow| scope.spawn(|| look(config, flow, None, Arc::clone(&process))))
            .collect();
        looks
            .into_iter()
            .map(|look| {
                look.join()
                    .unwrap_or_else(|_| Err(Error::new(Code::Panicked, "offsets list")))
            })
            .collect()
    });
    let mut complete = true;
    let mut text = String::new();
    let mut values: Vec<Value> = vec![];
    for (flow, look) in flows.iter().zip(looks) {
        match look {
            Err(error) => {
                told(flow, error);
                complete = false;
            }
            Ok(look) => {
                for error in look.errors {
                    told(flow, error);
                    complete = false;
                }
                text += &block(flow, &positions(&look.rows), look.rows.len());
                values.extend(look.rows.iter().map(|row| row.json(flow)));
            }
        }
    }
    print(&match format {
        OutputFormat::Table => text,
        OutputFormat::Json => super::json(&Value::Array(values)),
    })?;
    verdict(complete)
}

/// The rows of one group, which must have some, and whether nothing is missing.
fn rows_of(config: &Config, flow: &FlowSpec, group: &str) -> Outcome<(Vec<Row>, bool)> {
    let process = Arc::new(GroupProcess::new());
    let look = look(config, flow, Some(group), process).map_err(|error| told(flow, error))?;
    let complete = look.errors.is_empty();
    for error in look.errors {
        told(flow, error);
    }
    match (look.rows.is_empty(), complete) {
        (true, true) => Err(failed(format_args!(
            "group {group} has no positions on {}",
            flow.id.source
        ))),
        (true, false) => Err(ExitCode::Failed),
        (false, _) => Ok((look.rows, complete)),
    }
}

/// What one flow's clusters say.
struct Look {
    rows: Vec<Row>,
    /// About single groups and brokers.
    errors: Vec<Error>,
}

/// Looks at one group, or at all that the flow selects.
fn look(
    config: &Config,
    flow: &FlowSpec,
    group: Option<&str>,
    process: Arc<GroupProcess>,
) -> crate::error::Result<Look> {
    let (source, target) = (
        &config.clusters[&flow.id.source],
        &config.clusters[&flow.id.target],
    );
    let mut errors = vec![];
    let groups = match group {
        Some(group) => vec![group.to_owned()],
        None => {
            let (listed, unheard) = Admin::new(source, CLIENT_ID, Side::Source)?.list_groups(PATIENCE)?;
            errors.extend(unheard);
            let selected = listed
                .into_iter()
                .map(|it| it.group)
                .filter(|it| flow.groups.matches(it));
            selected.collect()
        }
    };
    let ask = |process, cluster: &crate::kafka::client::ClusterConnection, side| {
        Groups::new(process, cluster.clone(), CLIENT_ID, side).committed(&groups, PATIENCE)
    };
    // Before the map is read: what the groups have read has more time to be copied.
    let on_source = ask(Arc::clone(&process), source, Side::Source)?;
    let on_target = ask(process, target, Side::Target)?;
    let maps = read_maps(config, flow)?;
    let mut rows = vec![];
    for (group, committed) in on_source {
        let committed = match committed {
            Ok(committed) => committed,
            Err(error) => {
                errors.push(error);
                continue;
            }
        };
        let now = match on_target.get(&group) {
            Some(Ok(now)) => Some(now),
            Some(Err(error)) => {
                errors.push(error.clone());
                None
            }
            None => None,
        };
        rows.extend(rows_of_group(flow, maps.maps(), &group, committed, now));
    }
    Ok(Look { rows, errors })
}

fn read_maps(config: &Config, flow: &FlowSpec) -> crate::error::Result<MapReader> {
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
    let mut reader = MapReader::open(target, &topic, described.partitions as u32)?;
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
struct Place {
    source: TopicPartition,
    position: i64,
    /// The topic's name on the target.
    remote: String,
    /// `None`: the flow does not copy the topic.
    translation: Option<Translation>,
}

impl Place {
    fn of(
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
            remote: flow
                .replication_policy
                .format_remote_topic(&flow.id.source, &source.topic),
            source,
            position,
            translation,
        }
    }

    fn target(&self) -> Option<i64> {
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
    fn how(&self) -> String {
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
    fn is_missed(&self) -> bool {
        self.translation.is_some() && self.target().is_none()
    }

    /// What an operator must know about an exported position, or about one that is left out.
    fn remark(&self) -> Option<String> {
        let at = format!("{} at {}", self.source, self.position);
        match (self.translation, self.target()) {
            (Some(Translation::Exact { .. }), _) => None,
            (_, Some(_)) => Some(format!("note: {at}: {}", self.how())),
            (_, None) => Some(format!("left out: {at}: {}", self.how())),
        }
    }

    /// `topic,partition,offset` as `kafka-consumer-groups --export` writes it: Jackson's CSV quotes what is longer
    /// than 24 characters, and no character of a topic's name needs quotes.
    fn csv(&self) -> Option<String> {
        let quote = if 24 < self.remote.len() { "\"" } else { "" };
        self.target().map(|target| {
            format!(
                "{quote}{}{quote},{},{target}\n",
                self.remote, self.source.partition
            )
        })
    }

    fn json(&self, flow: &FlowSpec) -> Value {
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
struct Row {
    group: String,
    place: Place,
    now: Now,
}

/// The position the group has on the target now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Now {
    At(i64),
    None,
    Unknown,
}

impl Row {
    fn json(&self, flow: &FlowSpec) -> Value {
        let mut value = self.place.json(flow);
        value["group"] = self.group.as_str().into();
        value["target_group_offset"] = match self.now {
            Now::At(offset) => offset.into(),
            Now::None => Value::Null,
            Now::Unknown => "unknown".into(),
        };
        value
    }

    fn now_cell(&self) -> String {
        match self.now {
            Now::At(offset) => offset.to_string(),
            Now::None => "none".to_owned(),
            Now::Unknown => "unknown".to_owned(),
        }
    }
}

/// One row per position on the source. `now` is what the target says of the group, if it is known.
fn rows_of_group(
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
            now,
        }
    };
    committed.into_iter().map(row).collect()
}

fn block(flow: &FlowSpec, table: &str, rows: usize) -> String {
    let positions = count(rows, "position");
    format!("{} {}: {positions}\n{table}", flow.id.topology, flow.id)
}

fn positions(rows: &[Row]) -> String {
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
        [group, partition, position, remote, target, how, row.now_cell()]
    });
    match rows.is_empty() {
        true => String::new(),
        false => table(2, header, &cells.collect::<Vec<_>>()),
    }
}

fn group_runs(rows: &[Row]) -> String {
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
        let (now, run) = (row.now_cell(), row.place.run_cell());
        [partition, position, remote, target, how, now, run]
    });
    table(2, header, &cells.collect::<Vec<_>>())
}

fn offset_run(place: &Place) -> String {
    let header = ["PARTITION", "POSITION", "ON TARGET", "CONTINUES AT", "HOW", "RUN"];
    let [partition, position, remote, target, how] = place.cells();
    table(
        2,
        header,
        &[[partition, position, remote, target, how, place.run_cell()]],
    )
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::offset_map::Segment;

    /// Both directions of the example, which renames topics and selects `orders.*` and `payments`.
    fn flows() -> Vec<FlowSpec> {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let topology = path("topologies/active-active.yaml");
        let (_, topologies) = crate::topology::load(&path("config/local.yaml"), &[topology], &|_| None)
            .expect("an example without mistakes");
        topologies.into_iter().flat_map(|it| it.flows).collect()
    }

    /// `seoul->busan`, and a map of `orders-0` that knows of 100..103 → 40, 104..106 → 44, covered to 107.
    fn copied() -> (FlowSpec, BTreeMap<TopicPartition, PartitionMap>) {
        let flow = one(&flows(), Some("seoul->busan"), "it", |_| true)
            .expect("it is there")
            .clone();
        let run = |source, target, length| Run {
            source,
            target,
            length,
        };
        let partition = TopicPartition::new("orders", 0);
        let mut map = PartitionMap::new(partition.clone());
        let segment = Segment::new(0, (100, 40), 107, false, &[run(100, 40, 3), run(104, 44, 2)]);
        map.apply(&segment.key(&partition), Some((segment, 0)));
        (flow, [(partition, map)].into())
    }

    fn rows(now: Option<&BTreeMap<TopicPartition, Commit>>) -> Vec<Row> {
        let (flow, maps) = copied();
        let at = |(topic, partition, offset): (&str, i32, i64)| {
            (TopicPartition::new(topic, partition), commit(offset))
        };
        let positions = [("orders", 0, 103), ("orders", 1, 5), ("private", 0, 7)];
        rows_of_group(&flow, &maps, "shop", positions.map(at).into(), now)
    }

    fn commit(offset: i64) -> Commit {
        Commit {
            offset,
            leader_epoch: None,
            metadata: String::new(),
        }
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
        assert!(rows(None).iter().all(|row| row.now_cell() == "unknown"));
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

    #[test]
    fn a_flow_is_asked_for_only_when_several_select_the_group() {
        let flows = flows();
        let pick = |name, selected: &[&str]| {
            let selects = |flow: &FlowSpec| selected.contains(&flow.id.to_string().as_str());
            one(&flows, name, "group g", selects).map(|flow| flow.id.to_string())
        };
        let (there, back) = ("seoul->busan", "busan->seoul");
        assert_eq!(pick(None, &[back]), Ok(back.to_owned()));
        assert_eq!(pick(Some(there), &[]), Ok(there.to_owned()));
        assert_eq!(pick(None, &[there, back]), Err(ExitCode::Usage));
        assert_eq!(pick(None, &[]), Err(ExitCode::Usage));
        assert_eq!(pick(Some("a->b"), &[there]), Err(ExitCode::Usage));
    }
}
