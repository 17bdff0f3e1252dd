//! `causeway offsets sync`: gives a group on the target the positions of its source group once, also back, and has the
//! flow follow the source group again.

use std::sync::Arc;

use clap::Args;
use serde_json::{Value, json};

use super::positions::told_rows;
use crate::cli::answer::verdict;
use crate::cli::answer::{Execution, Outcome, Output, OutputFormat, failed, json, print};
use crate::cli::flows::of_groups;
use crate::cli::flows::told;
use crate::cli::table::{count, table};
use crate::config::Config;
use crate::context::now_ms;
use crate::error::{Error, Side};
use crate::kafka::TopicPartition;
use crate::kafka::admin::GroupState;
use crate::kafka::groups::{Commit, GroupProcess, Groups};
use crate::operations::group_positions::{CLIENT_ID, Now, Row, look, selected_groups};
use crate::services::group_sync::decide::metadata;
use crate::state::audit::{Deed, login};
use crate::state::moved_groups::{Given, follow_again};
use crate::topology::FlowSpec;

/// Which group, and whether it is done.
#[derive(Debug, Args)]
pub struct Sync {
    /// The flow, such as 'seoul->busan' (mind the quotes) [default: the only one that selects the group]
    #[arg(long, value_name = "FLOW")]
    flow: Option<String>,

    /// The consumer group
    #[arg(long)]
    group: String,

    #[command(flatten)]
    execution: Execution,

    #[command(flatten)]
    output: Output,
}

/// What becomes of a position.
fn effect(row: &Row) -> String {
    let Some(target) = row.place.target() else {
        return row.place.how();
    };
    match row.now {
        Now::At(now) if target < now => {
            format!("{} read again", count((now - target) as usize, "offset"))
        }
        Now::At(now) if now < target => format!("{} skipped", count((target - now) as usize, "offset")),
        Now::At(_) => "stays".to_owned(),
        Now::None | Now::Unknown => "new".to_owned(),
    }
}

fn given(flow: &FlowSpec, row: &Row) -> Option<Given> {
    let place = &row.place;
    let metadata = metadata(flow.offset_sync.metadata, &row.commit, place.translation?);
    Some(Given {
        source_offset: place.position,
        remote: TopicPartition::new(place.remote.as_str(), place.source.partition),
        before: match row.now {
            Now::At(now) => Some(now),
            Now::None | Now::Unknown => None,
        },
        commit: Commit {
            offset: place.target()?,
            // The target's epochs are its own.
            leader_epoch: None,
            metadata: metadata.to_owned(),
        },
    })
}

fn text(flow: &FlowSpec, group: &str, rows: &[Row], executed: bool) -> String {
    let positions = count(
        rows.iter().filter(|row| row.place.target().is_some()).count(),
        "position",
    );
    let summary = match executed {
        true => format!("{positions} of {group} written, and the flow follows its source group again"),
        false => format!("{positions} of {group} would be written; nothing was, give --execute"),
    };
    let header = [
        "PARTITION",
        "POSITION",
        "ON TARGET",
        "NOW AT",
        "BECOMES",
        "EFFECT",
    ];
    let cells = rows.iter().map(|row| {
        let place = &row.place;
        let becomes = place.target().map_or(row.now.cell(), |target| target.to_string());
        [
            place.source.to_string(),
            place.position.to_string(),
            format!("{}-{}", place.remote, place.source.partition),
            row.now.cell(),
            becomes,
            effect(row),
        ]
    });
    let table = table(2, header, &cells.collect::<Vec<_>>());
    format!("{} {}: {summary}\n{table}", flow.id.topology, flow.id)
}

fn value(flow: &FlowSpec, group: &str, rows: &[Row], active: bool, executed: bool) -> Value {
    json!({
        "topology": flow.id.topology,
        "flow": flow.id.to_string(),
        "group": group,
        "executed": executed,
        "active": active,
        "positions": rows.iter().map(|row| row.json(flow)).collect::<Vec<_>>(),
    })
}

/// Shows what the group would get on the target and, with `--execute`, gives it.
///
/// # Errors
/// The group has members on the target, or a cluster cannot be asked: nothing is changed then. Or a position has no
/// place on the target; the others are written.
pub fn run(config: &Config, flows: &[FlowSpec], arguments: &Sync) -> Outcome<()> {
    let group = &arguments.group;
    let groups = std::slice::from_ref(group);
    let flow = of_groups(flows, arguments.flow.as_deref(), groups)?;
    let told = |error: Error| told(flow, error);
    let (listed, unheard) = selected_groups(config, flow, Side::Target).map_err(told)?;
    let active = listed
        .iter()
        .any(|it| it.group == *group && !matches!(it.state, GroupState::Empty | GroupState::Dead));
    let process = Arc::new(GroupProcess::new());
    let mut look = look(config, flow, groups, &process).map_err(told)?;
    look.errors.extend(unheard);
    // What the flow does not copy is none of its business.
    look.rows.retain(|row| row.place.translation.is_some());
    let (rows, asked) = told_rows(flow, look);
    verdict(asked)?;
    let (given, missed): (Vec<Given>, Vec<&Row>) = (
        rows.iter().filter_map(|row| given(flow, row)).collect(),
        rows.iter().filter(|row| row.place.is_missed()).collect(),
    );
    if rows.is_empty() {
        let source = &flow.id.source;
        return Err(failed(format_args!(
            "group {group} has no positions on {source} in topics that are copied"
        )));
    }
    let members = format!("group {group} has members on {}", flow.id.target);
    if arguments.execution.execute {
        if active {
            return Err(failed(format_args!(
                "{members}\n  hint: stop them first; they would commit over what is written"
            )));
        }
        if !given.is_empty() {
            let target = &config.clusters[&flow.id.target];
            let groups = Groups::new(process, target.clone(), CLIENT_ID, Side::Target);
            let (by, at_ms) = (login(&config.instance), now_ms());
            let deed = Deed {
                action: "offsets sync",
                by: &by,
                at_ms,
            };
            follow_again(flow, target, &groups, group, &given, &deed).map_err(told)?;
        }
    } else if active {
        eprintln!("note: {members}; --execute will be refused");
    }
    print(&match arguments.output.format {
        OutputFormat::Table => text(flow, group, &rows, arguments.execution.execute),
        OutputFormat::Json => json(&value(flow, group, &rows, active, arguments.execution.execute)),
    })?;
    for row in &missed {
        eprintln!("{}", row.place.remark().unwrap_or_default());
    }
    verdict(missed.is_empty())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::tests::{commit, copied};
    use super::*;
    use crate::operations::group_positions::rows_of_group;

    #[test]
    fn each_position_says_what_it_costs() {
        let (flow, maps) = copied();
        let row = |position, now: Option<i64>| {
            let at = TopicPartition::new("orders", 0);
            let there = now.map(|now| (TopicPartition::new("seoul.orders", 0), commit(now)));
            let there: BTreeMap<_, _> = there.into_iter().collect();
            let committed = [(at, commit(position))].into();
            rows_of_group(&flow, &maps, "shop", committed, Some(&there)).remove(0)
        };
        for (position, now, says, becomes) in [
            (103, Some(50), "6 offsets read again", Some(44)),
            (103, Some(43), "1 offset skipped", Some(44)),
            (103, Some(44), "stays", Some(44)),
            (103, None, "new", Some(44)),
            (99, Some(44), "too old: the map begins at source offset 100", None),
        ] {
            let row = row(position, now);
            assert_eq!(effect(&row), says);
            assert_eq!(
                given(&flow, &row).map(|it| (it.before, it.commit.offset)),
                becomes.map(|it| (now, it))
            );
        }
    }
}
