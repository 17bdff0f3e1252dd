//! `causeway offsets`: where consumer groups of the source continue on the target, and the flow's own position.
//! Asks the clusters; only `reset --execute` writes.

use std::sync::Arc;
use std::thread;

use clap::Subcommand;
use serde_json::Value;

use self::positions::{Look, Place, Row, block, group_runs, look, offset_run, positions, read_maps};
use super::{ExitCode, Outcome, Output, OutputFormat, failed, print, usage};
use crate::config::Config;
use crate::error::{Code, Error};
use crate::kafka::TopicPartition;
use crate::kafka::groups::GroupProcess;
use crate::topology::FlowSpec;

mod positions;
mod reset;

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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    /// Both directions of the example, which renames topics and selects `orders.*` and `payments`.
    pub fn flows() -> Vec<FlowSpec> {
        let path = |name: &str| Path::new(env!("CARGO_MANIFEST_DIR")).join(name);
        let topology = path("topologies/active-active.yaml");
        let (_, topologies) = crate::topology::load(&path("config/local.yaml"), &[topology], &|_| None)
            .expect("an example without mistakes");
        topologies.into_iter().flat_map(|it| it.flows).collect()
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
