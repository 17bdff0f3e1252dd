//! `causeway plan`: what config sync would do, without doing it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::answer::{ExitCode, Outcome, OutputFormat, failed, print};
use super::table::count;
use crate::config::Config;
use crate::error::{Error, Side};
use crate::kafka::admin::Admin;
use crate::kafka::{ClusterAlias, TopicPartition};
use crate::operations::stopped::StoppedFlow;
use crate::services::config_sync::plan::Views;
use crate::services::config_sync::{Origins, Pass, Syncer};
use crate::state::resume::NO_PROGRESS;
use crate::topology::{FlowSpec, SyncMode};

/// As the brokers know this command.
const CLIENT_ID: &str = "causeway-plan";

/// One look at a flow.
struct Look {
    pass: Pass,
    /// By source topic.
    unexplained: BTreeMap<String, Unexplained>,
}

/// A topic on the target that holds records although nothing is stored about where the flow stands there.
struct Unexplained {
    remote: String,
    /// By partition.
    offsets: BTreeMap<i32, i64>,
}

/// Compares both sides of every flow and prints the differences.
///
/// # Errors
/// When a flow or one of its topics cannot be judged; the others are printed all the same.
pub fn plan(config: &Config, flows: &[FlowSpec], format: OutputFormat) -> Outcome<()> {
    let passes = look(config, flows);
    let judged: Vec<(&FlowSpec, Look)> = flows
        .iter()
        .zip(passes)
        .filter_map(|(flow, look)| match look {
            Ok(look) => Some((flow, look)),
            Err(why) => {
                failed(format_args!("{} {}: {why}", flow.id.topology, flow.id));
                None
            }
        })
        .collect();
    print(&match format {
        OutputFormat::Table => judged.iter().map(|(flow, look)| block(flow, look)).collect(),
        OutputFormat::Json => super::answer::json(&as_json(&judged)),
    })?;
    let complete =
        judged.len() == flows.len() && judged.iter().all(|(_, look)| look.pass.plan.errors.is_empty());
    if complete { Ok(()) } else { Err(ExitCode::Failed) }
}

/// One look at each flow, all at once: a cluster that does not answer costs its timeout only once.
fn look(config: &Config, flows: &[FlowSpec]) -> Vec<Result<Look, String>> {
    thread::scope(|scope| {
        let looks: Vec<_> = flows
            .iter()
            .map(|flow| scope.spawn(|| look_at(config, flow)))
            .collect();
        looks
            .into_iter()
            .map(|look| {
                look.join()
                    .unwrap_or_else(|_| Err("this is a bug in causeway: it panicked".to_owned()))
            })
            .collect()
    })
}

fn look_at(config: &Config, flow: &FlowSpec) -> Result<Look, String> {
    let advise = |error: Error| format!("{error}\n  hint: {}", error.code.page().advice);
    let admin = |alias: &ClusterAlias, side: Side| {
        let cluster = &config.clusters[alias];
        Admin::new(cluster, CLIENT_ID, side).map(Arc::new).map_err(advise)
    };
    let source = admin(&flow.id.source, Side::Source)?;
    let target = admin(&flow.id.target, Side::Target)?;
    let origins = Origins::new(config.clusters[&flow.id.source].clone());
    let pass = Syncer::new(source, target, origins, flow.clone())
        .pass(None)
        .map_err(advise)?;
    let unexplained = unexplained(config, flow, &pass).map_err(advise)?;
    Ok(Look { pass, unexplained })
}

/// Partitions that would be copied from their beginning behind records that are there already.
fn unexplained(
    config: &Config,
    flow: &FlowSpec,
    pass: &Pass,
) -> Result<BTreeMap<String, Unexplained>, Error> {
    let (source, target) = (
        &config.clusters[&flow.id.source],
        &config.clusters[&flow.id.target],
    );
    let stored = StoppedFlow::find(flow, source, target, CLIENT_ID)?;
    let slots = stored.look()?;
    let count = |views: &Views, name: &str| views.get(name)?.as_ref().ok().map(|view| view.partitions);
    let mut asked = vec![];
    for (topic, remote) in &pass.reading.topics {
        let both = count(&pass.reading.source, topic).zip(count(&pass.reading.target, remote));
        for partition in 0..both.map_or(0, |(here, there)| here.min(there)) {
            asked.push((TopicPartition::new(topic.as_str(), partition), remote.clone()));
        }
    }
    let mut unexplained: BTreeMap<String, Unexplained> = BTreeMap::new();
    for (partition, offsets) in stored.unexplained(&slots, &asked)? {
        unexplained
            .entry(partition.topic.to_string())
            .or_insert_with(|| Unexplained {
                remote: pass.reading.topics[&*partition.topic].clone(),
                offsets: BTreeMap::new(),
            })
            .offsets
            .insert(partition.partition, offsets);
    }
    Ok(unexplained)
}

fn block(flow: &FlowSpec, look: &Look) -> String {
    let Look { pass, unexplained } = look;
    let mode = match flow.config_sync.mode {
        SyncMode::Apply => "",
        SyncMode::Report => ", which mode: report leaves to you",
    };
    let mut text = format!(
        "{} {}: {} selected, {}{mode}\n",
        flow.id.topology,
        flow.id,
        count(pass.reading.topics.len(), "topic"),
        count(pass.plan.changes.len(), "change"),
    );
    for line in pass.plan.to_string().lines() {
        text += &format!("  {line}\n");
    }
    for (topic, it) in unexplained {
        text += &format!(
            "  warning: {} holds {} that no progress of this flow explains, and {topic} would be copied behind them\n",
            it.remote,
            count(it.offsets.values().sum::<i64>() as usize, "offset"),
        );
    }
    if !unexplained.is_empty() {
        text += &format!("    {NO_PROGRESS}\n");
    }
    for (topic, reason) in &pass.reading.excluded {
        text += &format!("  leave out {topic}: {reason}\n");
    }
    text
}

fn as_json(judged: &[(&FlowSpec, Look)]) -> serde_json::Value {
    judged
        .iter()
        .map(|(flow, Look { pass, unexplained })| {
            let unexplained: BTreeMap<_, _> = unexplained
                .iter()
                .map(|(topic, it)| (topic, json!({ "target": it.remote, "offsets": it.offsets })))
                .collect();
            let excluded: BTreeMap<_, _> = pass
                .reading
                .excluded
                .iter()
                .map(|(topic, why)| (topic, why.to_string()))
                .collect();
            json!({
                "topology": flow.id.topology,
                "flow": flow.id.to_string(),
                "mode": flow.config_sync.mode.to_string(),
                "topics": pass.reading.topics,
                "plan": pass.plan,
                "excluded": excluded,
                "unexplained": unexplained,
            })
        })
        .collect()
}
