//! Clusters and flows of MM2 → causeway's two files. Each key is judged where it is used; what is left over
//! is judged by its name at the end.

use super::input::{Flow, Input, Sheet};
use super::verdicts::{Import, Item};
use super::write::{self, Map, Settings, one_line};
use crate::config::At;
use crate::config::short;
use draft::Draft;
use names::names;

mod clients;
mod cluster;
mod draft;
mod expressions;
mod leftovers;
mod names;
mod naming;
mod positions;
mod shape;
mod sync;
mod topics;

pub use leftovers::WORKER_GONE;

pub fn translate(input: Input, sheet: &mut Sheet) -> Option<Import> {
    let names = names(&input.clusters, sheet);
    let mut draft = Draft::new(&input, &names, sheet);
    let mut flows: Vec<(&Flow, Settings)> = Vec::new();
    for flow in &input.flows {
        flows.extend(draft.of(flow).map(|settings| (flow, settings)));
    }
    naming::keep_from_coming_back(&mut flows, draft.sheet);
    let mut clusters = Map::default();
    for named in &names {
        if let Some(cluster) = draft.cluster(named) {
            clusters.push(&named.name, cluster);
        }
    }
    for flow in &input.flows {
        leftovers::of_flow(flow, draft.sheet);
    }
    if flows.is_empty() {
        nothing_left(&input, sheet);
        return None;
    }
    let name = topology_name(input.name.as_deref(), sheet);
    let file = sheet.file();
    let file = short(&file.file_name().unwrap_or_default().to_string_lossy());
    let items = sheet.items();
    let mut config = Map::default();
    config.push("clusters", clusters);
    let (shape, topology) = shape::topology(&name, &flows, &names);
    let pairs: Vec<String> = flows.iter().map(|(flow, _)| shape::title(flow, &names)).collect();
    Some(Import {
        form: input.form,
        config: format!(
            "# Written by `causeway import mm2` from {file}. How to connect; secrets come from the environment.\n{}",
            write::yaml(&config)
        ),
        topology: format!(
            "# Written by `causeway import mm2` from {file}. What flows.\n\
             # A topology's name is part of what is stored: a new name is a new start.\n{}{}",
            to_decide(&items, &file),
            write::yaml(&topology)
        ),
        summary: format!("{shape}: {}", pairs.join(", ")),
        name,
        items,
        variables: std::mem::take(&mut sheet.variables),
    })
}

impl Draft<'_> {
    /// What the flow does in causeway's words, or `None` when it copies nothing.
    fn of(&mut self, flow: &Flow) -> Option<Settings> {
        leftovers::shared(flow, self.sheet);
        let copies = self.topics(flow);
        self.naming(flow);
        self.tasks(&flow.records);
        self.config_sync(&flow.records);
        self.clients(flow);
        self.delivery(flow);
        self.offset_syncs(flow);
        self.checkpoints(flow);
        self.heartbeats(flow);
        self.mirror_maker(flow);
        let settings = std::mem::take(&mut self.settings);
        copies.then_some(settings)
    }
}

/// The comment of what must be decided.
fn to_decide(items: &[Item], file: &str) -> String {
    let mut text = String::new();
    for item in items.iter().filter(|item| item.decide) {
        if text.is_empty() {
            text += "# Decide before it runs:\n";
        }
        let place = item.at.map(|at| format!("{file}:{at}: ")).unwrap_or_default();
        text += &format!("#   {place}{}: {}\n", item.key, one_line(&item.text));
    }
    text
}

/// Nothing can be written. What would have had to be decided is what is in the way, so it is shown in its places.
fn nothing_left(input: &Input, sheet: &mut Sheet) {
    for item in sheet.items().into_iter().filter(|it| it.decide) {
        let Some(at) = item.at else { continue };
        let text = format!("`{}`: {}", item.key, one_line(&item.text));
        sheet.problems.add(at, text);
    }
    if !sheet.problems.is_empty() {
        return;
    }
    let (what, hint) = match input.flows.is_empty() {
        true => (
            "no flow is enabled",
            "write `a->b.enabled = true` for each direction",
        ),
        false => (
            "no flow is left that copies anything",
            "`topics` must name a topic, with an expression that causeway can read",
        ),
    };
    sheet.problems.add(At::START, what).hint = Some(hint.into());
}

fn topology_name(given: Option<&str>, sheet: &Sheet) -> String {
    let file = sheet.file();
    let stem = file.file_stem().unwrap_or_default().to_string_lossy();
    let name = given.unwrap_or(&stem).to_lowercase();
    let name = name.replace(|c: char| !c.is_ascii_lowercase() && !c.is_ascii_digit(), "-");
    let name: String = name.chars().take(60).collect();
    match name.trim_matches('-') {
        "" => "mm2".to_owned(),
        name => name.to_owned(),
    }
}
