//! `causeway validate`: the flows the files ask for.

use serde_json::json;

use super::answer::OutputFormat;
use super::table::count;
use crate::topology::Topology;

/// What is printed when all files are right.
pub fn report(topologies: &[Topology], format: OutputFormat) -> String {
    match format {
        OutputFormat::Table => as_text(topologies),
        OutputFormat::Json => super::answer::json(&as_json(topologies)),
    }
}

fn as_text(topologies: &[Topology]) -> String {
    let flows: Vec<_> = topologies.iter().flat_map(Topology::announcement).collect();
    let lines: String = flows.iter().map(|line| format!("{line}\n")).collect();
    format!(
        "{lines}{} in {}: ok\n",
        count(flows.len(), "flow"),
        count(topologies.len(), "topology"),
    )
}

fn as_json(topologies: &[Topology]) -> serde_json::Value {
    let written = |patterns: &[(String, regex::Regex)]| -> Vec<String> {
        patterns.iter().map(|(text, _)| text.clone()).collect()
    };
    let flows: Vec<_> = topologies
        .iter()
        .flat_map(|topology| &topology.flows)
        .map(|flow| {
            json!({
                "topology": flow.id.topology,
                "flow": flow.id.to_string(),
                "delivery": flow.delivery.to_string(),
                "replication_policy": flow.replication_policy.to_string(),
                "tasks": flow.tasks,
                "topics": {
                    "include": written(&flow.topics.include),
                    "exclude": written(&flow.topics.exclude),
                },
            })
        })
        .collect();
    let notes = topologies.iter().flat_map(|it| &it.notes);
    let notes: Vec<String> = notes.map(ToString::to_string).collect();
    json!({ "ok": true, "flows": flows, "notes": notes })
}
