//! The topology whose flows are exactly these.

use std::collections::BTreeSet;

use super::names::{Named, named};
use crate::import::input::Flow;
use crate::import::write::{Map, Settings, Value, settings};

pub fn title(flow: &Flow, names: &[Named]) -> String {
    format!("{}->{}", named(&flow.source, names), named(&flow.target, names))
}

/// The topology file, and its pattern: `replication:` holds what all flows share, `flows:` the rest.
pub fn topology(name: &str, flows: &[(&Flow, Settings)], names: &[Named]) -> (&'static str, Map) {
    let mut file = Map::default();
    file.push("name", name);
    let shape = shape(flows, names, &mut file);
    let shared = |path: &str, value: &Value| flows.iter().all(|(_, it)| it.get(path) == Some(value));
    let replication = settings(&flows[0].1, shared);
    if !replication.is_empty() {
        file.push("replication", replication);
    }
    let mut rest = Map::default();
    for (flow, all) in flows {
        let own = settings(all, |path, value| !shared(path, value));
        if !own.is_empty() || shape == "custom" {
            rest.push(&title(flow, names), own);
        }
    }
    if !rest.is_empty() {
        file.push("flows", rest);
    }
    (shape, file)
}

/// The pattern whose flows are exactly these, written with the keys that name its clusters.
fn shape(flows: &[(&Flow, Settings)], names: &[Named], file: &mut Map) -> &'static str {
    let pairs = flows
        .iter()
        .map(|(flow, _)| (named(&flow.source, names), named(&flow.target, names)));
    let pairs: BTreeSet<(&str, &str)> = pairs.collect();
    let takes_part = |name: &str| {
        pairs
            .iter()
            .any(|(source, target)| [*source, *target].contains(&name))
    };
    let members = names.iter().map(|it| it.name.clone());
    let members: Vec<String> = members.filter(|it| takes_part(it)).collect();
    let mut pattern = |pattern: &'static str, keys: Vec<(&str, Value)>| {
        file.push("pattern", pattern);
        keys.into_iter().for_each(|(key, value)| file.push(key, value));
        pattern
    };
    if let (1, Some((source, target))) = (pairs.len(), pairs.first()) {
        let keys = vec![("active", (*source).into()), ("standby", (*target).into())];
        return pattern("active-standby", keys);
    }
    if pairs.len() == members.len() * (members.len() - 1) {
        return pattern("active-active", vec![("clusters", members.into())]);
    }
    for hub in &members {
        let spokes: Vec<String> = members.iter().filter(|it| *it != hub).cloned().collect();
        let into = spokes.iter().all(|it| pairs.contains(&(it, hub)));
        let out = spokes.iter().all(|it| pairs.contains(&(hub, it)));
        let direction = match (into, out) {
            (true, true) if pairs.len() == 2 * spokes.len() => "both",
            (true, false) if pairs.len() == spokes.len() => "in",
            (false, true) if pairs.len() == spokes.len() => "out",
            _ => continue,
        };
        let hub = hub.as_str().into();
        let keys = vec![
            ("hub", hub),
            ("spokes", spokes.into()),
            ("direction", direction.into()),
        ];
        return pattern("hub-and-spoke", keys);
    }
    pattern("custom", Vec::new())
}
