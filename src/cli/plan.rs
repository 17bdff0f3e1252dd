//! `causeway plan`: what config sync would do, without doing it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;

use serde_json::json;

use super::table::count;
use super::{ExitCode, Outcome, OutputFormat, failed, print};
use crate::config::Config;
use crate::config_sync::{Origins, Pass, Syncer};
use crate::error::{Error, Side};
use crate::kafka::ClusterAlias;
use crate::kafka::admin::Admin;
use crate::topology::{FlowSpec, SyncMode};

/// Compares both sides of every flow and prints the differences.
///
/// # Errors
/// When a flow or one of its topics cannot be judged; the others are printed all the same.
pub fn plan(config: &Config, flows: &[FlowSpec], format: OutputFormat) -> Outcome<()> {
    let passes = look(config, flows);
    let judged: Vec<(&FlowSpec, Pass)> = flows
        .iter()
        .zip(passes)
        .filter_map(|(flow, pass)| match pass {
            Ok(pass) => Some((flow, pass)),
            Err(why) => {
                failed(format_args!("{} {}: {why}", flow.id.topology, flow.id));
                None
            }
        })
        .collect();
    print(&match format {
        OutputFormat::Table => judged.iter().map(|(flow, pass)| block(flow, pass)).collect(),
        OutputFormat::Json => super::json(&as_json(&judged)),
    })?;
    let complete = judged.len() == flows.len() && judged.iter().all(|(_, pass)| pass.plan.errors.is_empty());
    if complete { Ok(()) } else { Err(ExitCode::Failed) }
}

/// One look at each flow, all at once: a cluster that does not answer costs its timeout only once.
fn look(config: &Config, flows: &[FlowSpec]) -> Vec<Result<Pass, String>> {
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

fn look_at(config: &Config, flow: &FlowSpec) -> Result<Pass, String> {
    let advise = |error: Error| format!("{error}\n  hint: {}", error.code.page().advice);
    let admin = |alias: &ClusterAlias, side: Side| {
        let cluster = &config.clusters[alias];
        Admin::new(cluster, "causeway-plan", side)
            .map(Arc::new)
            .map_err(advise)
    };
    let source = admin(&flow.id.source, Side::Source)?;
    let target = admin(&flow.id.target, Side::Target)?;
    let origins = Origins::new(config.clusters[&flow.id.source].clone());
    Syncer::new(source, target, origins, flow.clone())
        .pass(false)
        .map_err(advise)
}

fn block(flow: &FlowSpec, pass: &Pass) -> String {
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
    for (topic, reason) in &pass.reading.excluded {
        text += &format!("  leave out {topic}: {reason}\n");
    }
    text
}

fn as_json(judged: &[(&FlowSpec, Pass)]) -> serde_json::Value {
    judged
        .iter()
        .map(|(flow, pass)| {
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
            })
        })
        .collect()
}
