//! `causeway validate`: the flows the files ask for.

use serde_json::json;

use super::OutputFormat;
use super::table::{count, table};
use crate::replication_policy::ReplicationPolicy;
use crate::topology::{Delivery, FlowSpec, Selection, SyncMode, Topology};

/// What is printed when all files are right.
pub fn report(topologies: &[Topology], format: OutputFormat) -> String {
    match format {
        OutputFormat::Table => as_table(topologies),
        OutputFormat::Json => super::json(&as_json(topologies)),
    }
}

fn as_table(topologies: &[Topology]) -> String {
    let rows: Vec<_> = flows(topologies)
        .map(|flow| {
            [
                flow.id.topology.clone(),
                flow.id.to_string(),
                delivery(flow).to_owned(),
                policy(flow).to_owned(),
                flow.tasks.to_string(),
                sync_mode(flow).to_owned(),
                topics(&flow.topics),
            ]
        })
        .collect();
    let header = [
        "TOPOLOGY",
        "FLOW",
        "DELIVERY",
        "NAMES",
        "TASKS",
        "CONFIG SYNC",
        "TOPICS",
    ];
    format!(
        "{}{} in {}: ok\n",
        table(0, header, &rows),
        count(rows.len(), "flow"),
        count(topologies.len(), "topology"),
    )
}

fn as_json(topologies: &[Topology]) -> serde_json::Value {
    let written = |patterns: &[(String, regex::Regex)]| -> Vec<String> {
        patterns.iter().map(|(text, _)| text.clone()).collect()
    };
    let flows: Vec<_> = flows(topologies)
        .map(|flow| {
            json!({
                "topology": flow.id.topology,
                "flow": flow.id.to_string(),
                "delivery": delivery(flow),
                "replication_policy": policy(flow),
                "tasks": flow.tasks,
                "config_sync": sync_mode(flow),
                "topics": {
                    "include": written(&flow.topics.include),
                    "exclude": written(&flow.topics.exclude),
                },
            })
        })
        .collect();
    json!({ "ok": true, "flows": flows })
}

fn flows(topologies: &[Topology]) -> impl Iterator<Item = &FlowSpec> {
    topologies.iter().flat_map(|topology| &topology.flows)
}

fn delivery(flow: &FlowSpec) -> &'static str {
    match flow.delivery {
        Delivery::ExactlyOnce => "exactly_once",
        Delivery::AtLeastOnce => "at_least_once",
    }
}

fn policy(flow: &FlowSpec) -> &'static str {
    match flow.replication_policy {
        ReplicationPolicy::Default => "default",
        ReplicationPolicy::Identity => "identity",
    }
}

fn sync_mode(flow: &FlowSpec) -> &'static str {
    match flow.config_sync.mode {
        SyncMode::Apply => "apply",
        SyncMode::Report => "report",
    }
}

/// `orders.*, payments except tmp-.*`
fn topics(selection: &Selection) -> String {
    let list = |patterns: &[(String, regex::Regex)]| {
        let texts: Vec<_> = patterns.iter().map(|(text, _)| text.as_str()).collect();
        texts.join(", ")
    };
    let include = list(&selection.include);
    match selection.exclude.is_empty() {
        true => include,
        false => format!("{include} except {}", list(&selection.exclude)),
    }
}
