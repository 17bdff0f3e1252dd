//! `causeway import mm2-state`: a flow goes on where a stopped MM2 left off.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::cli::answer::{Execution, Outcome, Output, OutputFormat, failed, json, print};
use crate::cli::flows::{one, told};
use crate::cli::table::{count, table};
use crate::config::Config;
use crate::context::now_ms;
use crate::error::{Code, Error};
use crate::operations::stopped::{Ledgers, StoppedFlow};
use crate::operations::takeover::{
    Overlap, Plan, TakenOver, fence_mm2, plan, read_left, records, wait_for_open_transactions,
};
use crate::state::audit::Change;
use crate::state::audit::{Deed, login};
use crate::state::mm2_positions::running;
use crate::topology::FlowSpec;

const CLIENT_ID: &str = "causeway-import";

/// A Connect worker that ended without leaving keeps its seat for so long: its session timeout of 10 s, and a bit.
const WORKER_SEAT: Duration = Duration::from_secs(12);

/// `causeway import mm2-state`
#[derive(Debug, Args)]
pub struct Mm2State {
    /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one]
    #[arg(long, value_name = "FLOW")]
    flow: Option<String>,

    #[command(flatten)]
    execution: Execution,

    #[command(flatten)]
    output: Output,
}

/// Shows where a flow would go on and, with `--execute`, stores it.
///
/// # Errors
/// MM2 or a daemon runs the flow, a position is not there any more, or a cluster cannot be asked: nothing is stored.
pub fn import(config: &Config, flows: &[FlowSpec], arguments: &Mm2State) -> Outcome<()> {
    let spec = one(flows, arguments.flow.as_deref(), "all that", |_| true)?;
    let told = |error: Error| told(spec, error);
    let (source, target) = (
        &config.clusters[&spec.id.source],
        &config.clusters[&spec.id.target],
    );
    let mut flow = StoppedFlow::find(spec, source, target, CLIENT_ID).map_err(told)?;
    let seat = match arguments.execution.execute {
        true => WORKER_SEAT,
        false => Duration::ZERO,
    };
    if let Some(shown) = running(&flow.target, target, spec, seat).map_err(told)? {
        return Err(told(Error::new(Code::Mm2Running, shown)));
    }
    let mut left = read_left(&flow).map_err(told)?;
    if left.positions.is_empty() {
        let (topic, connector) = (&spec.mirror_maker.offsets_topic, &spec.mirror_maker.connector);
        return Err(failed(format_args!(
            "{topic} holds no position of connector {connector} and source `{}`\n  hint: mirror_maker in the topology names MirrorMaker 2's connector, its alias of the source, and its topics",
            spec.mirror_maker.source_alias
        )));
    }
    let selected = flow.selected().map_err(told)?;
    let mut ledgers = Ledgers::new();
    if arguments.execution.execute {
        let members = flow.members().map_err(told)?;
        if !members.is_empty() {
            return Err(failed(format_args!(
                "{} runs: {}; stop it first",
                spec.id,
                members.join(", ")
            )));
        }
        if let Some(tasks) = left.exactly_once {
            // Whatever still hangs on to the past ends here; then the positions are final.
            fence_mm2(&flow, tasks).map_err(told)?;
            left = read_left(&flow).map_err(told)?;
        }
        wait_for_open_transactions(&flow, &selected, &left).map_err(told)?;
        flow.create().map_err(told)?;
        ledgers = flow.fence(0..flow.tasks).map_err(told)?;
    }
    let slots = match arguments.execution.execute {
        true => flow.read(),
        false => flow.look(),
    };
    let slots = slots.map_err(told)?;
    let plan = plan(&flow, &selected, &left, &slots).map_err(told)?;
    if !plan.errors.is_empty() {
        for (partition, error) in &plan.errors {
            told(Error::new(error.code, format!("{partition}: {}", error.detail)));
        }
        return Err(failed("nothing was stored"));
    }
    if arguments.execution.execute {
        let at_ms = now_ms();
        let more = records(&flow, &plan, &slots, at_ms);
        let changes: Vec<Change> = plan.partitions.iter().map(|it| it.change.clone()).collect();
        let deed = Deed {
            action: "import mm2-state",
            by: &login(&config.instance),
            at_ms,
        };
        let (_, stored) = flow.store(&mut ledgers, &changes, &more, &deed);
        // What is stored already is what would be stored again: repeating the command completes it.
        stored.map_err(|error| {
            told(error);
            failed("not everything was stored; give the command again before the flow is started")
        })?;
    }
    for partition in &plan.foreign {
        eprintln!("note: {partition}: MirrorMaker 2 copied it, {} does not", spec.id);
    }
    print(&match arguments.output.format {
        OutputFormat::Table => as_text(spec, &plan, arguments.execution.execute),
        OutputFormat::Json => json(&as_json(spec, &plan, arguments.execution.execute)),
    })
}

fn as_text(spec: &FlowSpec, plan: &Plan, stored: bool) -> String {
    let partitions = count(plan.partitions.len(), "partition");
    let summary = match stored {
        true => format!("{partitions} taken over; start the flow with causeway run"),
        false => format!("{partitions} would be taken over; nothing was stored, give --execute"),
    };
    let header = [
        "PARTITION",
        "STORED BY MM2",
        "GOES ON AT",
        "SOURCE HAS",
        "COPIED BEYOND",
    ];
    let rows: Vec<_> = plan.partitions.iter().map(cells).collect();
    format!(
        "{} {}: {summary}\n{}",
        spec.id.topology,
        spec.id,
        table(2, header, &rows)
    )
}

fn cells(it: &TakenOver) -> [String; 5] {
    [
        it.change.partition.to_string(),
        it.last.map_or("none".to_owned(), |last| last.to_string()),
        it.change.after.next_source_offset.to_string(),
        format!("{} to {}", it.bounds.log_start, it.bounds.end),
        match &it.overlap {
            Overlap::Proven(copied) if copied.is_empty() => "nothing".to_owned(),
            Overlap::Proven(copied) => format!("{}, left out", count(copied.len(), "record")),
            Overlap::Unproven(why) => format!("not provable, may be copied again: {why}"),
        },
    ]
}

fn as_json(spec: &FlowSpec, plan: &Plan, stored: bool) -> Value {
    let position = |it: &TakenOver| {
        let (left_out, unproven) = match &it.overlap {
            Overlap::Proven(copied) => (Some(copied.len()), None),
            Overlap::Unproven(why) => (None, Some(why)),
        };
        json!({
            "topic": it.change.partition.topic.to_string(),
            "partition": it.change.partition.partition,
            "last_copied_by_mm2": it.last,
            "next_source_offset": it.change.after.next_source_offset,
            "source_log_start": it.bounds.log_start,
            "source_end": it.bounds.end,
            "left_out": left_out,
            "not_provable": unproven,
            "gaps": it.change.after.gaps.newest(),
        })
    };
    json!({
        "topology": spec.id.topology,
        "flow": spec.id.to_string(),
        "executed": stored,
        "positions": plan.partitions.iter().map(position).collect::<Vec<_>>(),
        "not_copied": plan.foreign.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
