//! `causeway offsets`: where consumer groups of the source continue on the target, and the flow's own position and
//! gaps. Asks the clusters; only `--execute` writes.

use std::collections::BTreeSet;
use std::sync::Arc;

use clap::{ArgGroup, Subcommand};
use serde_json::Value;

use self::positions::{block, group_runs, offset_run, positions, told_rows};
use super::answer::{ExitCode, Outcome, Output, OutputFormat, failed, print, usage, verdict};
use super::flows::{named, of_each, of_groups, one, told};
use crate::config::Config;
use crate::error::{Result, Side};
use crate::kafka::TopicPartition;
use crate::kafka::groups::GroupProcess;
use crate::operations::group_positions::{Look, Place, Row, look, read_maps, selected_groups};
use crate::topology::FlowSpec;

mod diff;
mod gaps;
mod positions;
mod reset;
mod selection;
mod sync;

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

    /// Hold the groups' positions on the target against what they should be; exit code 4 if one differs
    ///
    /// A position differs if it is behind (records would be read again) or ahead (records would be skipped), if it is
    /// missing, or if the offset map has no answer. No difference: a group with members on the target, a position
    /// held at the replicated end because the source group is ahead of it, and a position that only the target has.
    /// Where the daemon writes positions, one that is behind or missing has two intervals of offset_sync to arrive.
    /// The table leaves out what is equal. The exit code is 1 if something could not be asked.
    Diff {
        /// Only this flow, such as 'seoul->busan' (mind the quotes) [default: every flow]
        #[arg(long, value_name = "FLOW")]
        flow: Option<String>,

        /// Only this consumer group; repeat the option for several [default: all that the flow selects]
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,

        #[command(flatten)]
        output: Output,
    },

    /// Print positions on the target as kafka-consumer-groups --reset-offsets --from-file reads them
    ///
    /// Lines of topic,partition,offset for one --group, else of group,topic,partition,offset. Give that tool the same
    /// --group options: its --all-groups means those that exist on the target already. A position without a place on
    /// the target is left out; stderr says why. The exit code is 1 if that is one in a topic that the flow copies.
    #[command(group = ArgGroup::new("which").required(true).args(["groups", "all_groups"]))]
    Export {
        /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one that selects the groups]
        #[arg(long, value_name = "FLOW")]
        flow: Option<String>,

        /// A consumer group; repeat the option for several
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,

        /// Every group that the flow selects
        #[arg(long)]
        all_groups: bool,
    },

    /// Move the position of a flow that does not run
    ///
    /// Shows what would change; --execute changes it, while no daemon may run the flow. Backward, records are
    /// copied again behind what is there. Forward, what is left out is declared as a gap. An offset that the source
    /// does not have becomes the nearest that it has.
    Reset(reset::Reset),

    /// Show what can no longer be copied, and go on at gaps that wait for a decision
    ///
    /// Lists the declared gaps, and the partitions that stopped because going on would lose or repeat records: why,
    /// which gap would be declared, and where copying would go on. --accept names those that are to go on, as on_gap:
    /// continue would; --execute does it, also while daemons run the flow: only the tasks of these partitions pause
    /// for a moment, and nothing is copied twice for it.
    Gaps(gaps::Gaps),

    /// Give a group on the target the positions of its source group, and follow that again
    ///
    /// Shows what would change; --execute writes it once, also back, while the group has no members on the target. A
    /// group that has been used on the target has moved, and is left alone there until this is given for it.
    Sync(sync::Sync),
}

/// Does what was asked.
///
/// # Errors
/// When something of it cannot be told, or a verdict is negative; the rest is printed all the same.
pub fn run(config: &Config, flows: &[FlowSpec], command: Command) -> Outcome<()> {
    match command {
        Command::List { flow, output } => list(config, &named(flows, flow.as_deref())?, output.format),
        Command::Translate {
            flow,
            group: Some(group),
            output,
            ..
        } => {
            let groups = [group];
            let flow = of_groups(flows, flow.as_deref(), &groups)?;
            let (rows, complete) = rows_of(config, flow, &groups)?;
            print(&match output.format {
                OutputFormat::Table => block(flow, &group_runs(&rows), rows.len()),
                OutputFormat::Json => super::answer::json(&rows.iter().map(|row| row.json(flow)).collect()),
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
                OutputFormat::Json => super::answer::json(&place.json(flow)),
            })
        }
        // The arguments refuse this.
        Command::Translate { .. } => Err(usage("give --group, or --topic, --partition and --offset")),
        Command::Reset(arguments) => reset::run(config, flows, &arguments),
        Command::Gaps(arguments) => gaps::run(config, flows, &arguments),
        Command::Sync(arguments) => sync::run(config, flows, &arguments),
        Command::Diff { flow, groups, output } => {
            diff(config, &named(flows, flow.as_deref())?, &groups, output.format)
        }
        Command::Export { flow, groups, .. } => export(config, flows, flow.as_deref(), &groups),
    }
}

/// Prints the positions of these groups for Kafka's tool; without any, of all that the flow selects.
fn export(config: &Config, flows: &[FlowSpec], flow: Option<&str>, groups: &[String]) -> Outcome<()> {
    let (rows, mut complete) = match groups {
        [] => {
            let flow = one(flows, flow, "the groups", |_| true)?;
            let process = Arc::new(GroupProcess::new());
            let look = look_at_all(config, flow, &process).map_err(|error| told(flow, error))?;
            told_rows(flow, look)
        }
        groups => {
            let flow = of_groups(flows, flow, groups)?;
            rows_of(config, flow, groups)?
        }
    };
    if rows.is_empty() && complete {
        return Err(failed("no selected group has positions on the source"));
    }
    // Kafka's tool goes by the number of --group options too.
    let with_group = groups.len() != 1;
    let mut lines = String::new();
    for row in &rows {
        if with_group && row.group.contains('\n') {
            failed(format_args!(
                "left out: {:?}: a line break has no place in the file",
                row.group
            ));
            complete = false;
            continue;
        }
        if let Some(remark) = row.place.remark() {
            match with_group {
                true => eprintln!("{}: {remark}", row.group),
                false => eprintln!("{remark}"),
            }
        }
        complete &= !row.place.is_missed();
        lines += &match with_group {
            true => row.csv(),
            false => row.place.csv(),
        }
        .unwrap_or_default();
    }
    print(&lines)?;
    verdict(complete)
}

fn list(config: &Config, flows: &[&FlowSpec], format: OutputFormat) -> Outcome<()> {
    let looks = of_each(flows, |flow, process| look_at_all(config, flow, process));
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
                let (rows, asked) = told_rows(flow, look);
                complete &= asked;
                text += &block(flow, &positions(&rows), rows.len());
                values.extend(rows.iter().map(|row| row.json(flow)));
            }
        }
    }
    print(&match format {
        OutputFormat::Table => text,
        OutputFormat::Json => super::answer::json(&Value::Array(values)),
    })?;
    verdict(complete)
}

fn diff(config: &Config, flows: &[&FlowSpec], groups: &[String], format: OutputFormat) -> Outcome<()> {
    // Of several flows those that select a group are meant.
    let selects = |flow: &FlowSpec, group: &&String| flows.len() == 1 || flow.groups.matches(group);
    let fits: Vec<&FlowSpec> = flows
        .iter()
        .copied()
        .filter(|flow| groups.is_empty() || groups.iter().any(|group| selects(flow, &group)))
        .collect();
    if fits.is_empty() {
        return Err(usage(format_args!("no flow selects {}", groups.join(", "))));
    }
    let compared = of_each(&fits, |flow, process| {
        let groups: Vec<_> = groups
            .iter()
            .filter(|group| selects(flow, group))
            .cloned()
            .collect();
        diff::diff(config, flow, &groups, process)
    });
    let (mut complete, mut differs) = (true, false);
    let mut found = BTreeSet::new();
    let mut text = String::new();
    let mut values: Vec<Value> = vec![];
    for (flow, compared) in fits.iter().zip(compared) {
        match compared {
            Err(error) => {
                told(flow, error);
                complete = false;
            }
            Ok((compared, errors)) => {
                for error in errors {
                    told(flow, error);
                    complete = false;
                }
                text += &diff::block(flow, &compared);
                values.extend(compared.iter().map(|it| it.json(flow)));
                differs |= compared.iter().any(|it| it.verdict.is_negative());
                found.extend(compared.into_iter().map(|it| it.group));
            }
        }
    }
    print(&match format {
        OutputFormat::Table => text,
        OutputFormat::Json => super::answer::json(&Value::Array(values)),
    })?;
    if complete {
        for group in groups.iter().filter(|group| !found.contains(*group)) {
            failed(format_args!(
                "group {group} has no positions in topics that are copied"
            ));
            complete = false;
        }
    }
    match (complete, differs) {
        (false, _) => Err(ExitCode::Failed),
        (true, true) => Err(ExitCode::Negative),
        (true, false) => Ok(()),
    }
}

/// Looks at every group that the flow selects.
fn look_at_all(config: &Config, flow: &FlowSpec, process: &Arc<GroupProcess>) -> Result<Look> {
    let (listed, unheard) = selected_groups(config, flow, Side::Source)?;
    let groups: Vec<_> = listed.into_iter().map(|it| it.group).collect();
    let mut look = look(config, flow, &groups, process)?;
    look.errors.extend(unheard);
    Ok(look)
}

/// The rows of groups, of which each must have some, and whether nothing is missing.
fn rows_of(config: &Config, flow: &FlowSpec, groups: &[String]) -> Outcome<(Vec<Row>, bool)> {
    let process = Arc::new(GroupProcess::new());
    let look = look(config, flow, groups, &process).map_err(|error| told(flow, error))?;
    let (rows, mut complete) = told_rows(flow, look);
    if complete {
        for group in groups {
            if !rows.iter().any(|row| row.group == *group) {
                failed(format_args!(
                    "group {group} has no positions on {}",
                    flow.id.source
                ));
                complete = false;
            }
        }
    }
    match rows.is_empty() {
        true => Err(ExitCode::Failed),
        false => Ok((rows, complete)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use super::*;
    use crate::kafka::TopicId;
    use crate::kafka::groups::Commit;
    use crate::offset_map::{PartitionMap, Run, Segment};
    use crate::state::resume::{Bounds, StoredProgress};

    /// Both directions of the example, which renames topics and selects `orders.*` and `payments`.
    pub fn flows() -> Vec<FlowSpec> {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let topology = path("topologies/active-active.yaml");
        let (_, topologies) = crate::topology::load(&path("config/local.yaml"), &[topology], &|_| None)
            .expect("an example without mistakes");
        topologies.into_iter().flat_map(|it| it.flows).collect()
    }

    /// `seoul->busan`, and a map of `orders-0` that knows of 100..103 → 40, 104..106 → 44, covered to 107.
    pub fn copied() -> (FlowSpec, BTreeMap<TopicPartition, PartitionMap>) {
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

    /// Progress of a partition whose topic has the id `id`, and whose target ends at 40.
    pub fn stored(next: i64) -> StoredProgress {
        StoredProgress {
            next_target_offset: Some(40),
            ..StoredProgress::new(next, &TopicId("id".into()))
        }
    }

    /// What both sides have of it: source offsets 10 to 100.
    pub fn bounds() -> Bounds {
        Bounds {
            topic_id: TopicId("id".into()),
            log_start: 10,
            end: 100,
            target_topic_id: TopicId("there".into()),
            target_end: 40,
            replicas: 1,
            in_sync: 1,
            writable: None,
        }
    }

    pub fn commit(offset: i64) -> Commit {
        Commit {
            offset,
            leader_epoch: None,
            metadata: String::new(),
        }
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
