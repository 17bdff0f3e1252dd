//! Connector configurations as Connect's REST interface, MSK Connect and their tools hold them.

use std::collections::BTreeMap;

use super::input::{Cluster, Flow, Id, Input, Keys, Sheet, client_key, is_security};
use super::verdicts::{Class, Form};
use crate::config::At;
use crate::config::short;
use crate::config::yaml::{Entry, Kind as Yaml, Node};

/// Keys under which tools put the configuration itself: Connect, MSK Connect, Terraform.
const CONFIG: &[&str] = &[
    "config",
    "connectorConfiguration",
    "connector_configuration",
    "configs",
];

/// One connector and where it begins.
struct Connector {
    at: At,
    keys: Keys,
}

/// JSON of Connect and of its tools.
pub fn read(tree: &Node, sheet: &mut Sheet) -> Option<Input> {
    let mut connectors = Vec::new();
    find(tree, "", sheet, &mut connectors);
    flows(tree.at, connectors, sheet)
}

/// Strimzi's `KafkaConnector` resources.
pub fn read_resources(resources: &[&[Entry]], sheet: &mut Sheet) -> Option<Input> {
    let connectors: Vec<Connector> = resources.iter().map(|it| resource(it, sheet)).collect();
    flows(At::START, connectors, sheet)
}

/// One connector as the standalone Connect takes it.
pub fn read_properties(keys: Keys, sheet: &mut Sheet) -> Option<Input> {
    let connector = Connector { at: At::START, keys };
    flows(At::START, vec![connector], sheet)
}

/// The flows of the connectors, of which those that belong to one pair of clusters make one.
fn flows(start: At, connectors: Vec<Connector>, sheet: &mut Sheet) -> Option<Input> {
    let mut input = Input {
        form: Form::Connectors,
        name: None,
        clusters: Vec::new(),
        flows: Vec::new(),
    };
    let mut roles: BTreeMap<(String, String), BTreeMap<Role, Connector>> = BTreeMap::new();
    let mut found = false;
    for connector in connectors {
        let class = connector.keys.get("connector.class").copied();
        let Some(role) = class.and_then(|id| Role::of(sheet.value(id))) else {
            for id in connector.keys.values() {
                sheet.gone(*id, "its connector is not one of MirrorMaker 2's");
            }
            continue;
        };
        found = true;
        if let Some(id) = class {
            sheet.carried(id, role.carried());
        }
        driver_keys(&connector, role, sheet);
        let Some((source, target)) = pair(&connector, sheet) else {
            continue;
        };
        let inside = roles.entry((source, target)).or_default();
        if let Some(first) = inside.get(&role) {
            let line = first.at.line;
            sheet
                .problems
                .add(connector.at, format!("a second {} of this flow", role.class()))
                .hint = Some(format!("the first is on line {line}; leave the one that runs"));
        } else {
            inside.insert(role, connector);
        }
    }
    if !found {
        sheet.problems.add(start, "there is no connector of MirrorMaker 2 here").hint =
            Some("give a connector's configuration, or an array of them: MirrorSourceConnector, and its MirrorCheckpointConnector and MirrorHeartbeatConnector".into());
        return None;
    }
    for ((source, target), mut inside) in roles {
        for connector in inside.values_mut() {
            connect(&source, "source", connector, &mut input.clusters, sheet);
            connect(&target, "target", connector, &mut input.clusters, sheet);
        }
        let mut keys = |role| inside.remove(&role).map(|it| (it.at, it.keys));
        let (checkpoints, heartbeats) = (keys(Role::Checkpoint), keys(Role::Heartbeat));
        match keys(Role::Source) {
            Some((at, records)) => input.flows.push(Flow {
                mm2_source: records
                    .get("source.cluster.alias")
                    .map_or(String::new(), |id| sheet.value(*id).to_owned()),
                source,
                target,
                at,
                records,
                checkpoints: checkpoints.map(|(_, keys)| keys),
                heartbeats: heartbeats.map(|(_, keys)| keys),
            }),
            None => {
                for (_, keys) in checkpoints.into_iter().chain(heartbeats) {
                    for id in keys.values() {
                        sheet.gone(*id, "this file holds no MirrorSourceConnector for its flow");
                    }
                }
            }
        }
    }
    if input.flows.is_empty() && sheet.problems.is_empty() {
        sheet
            .problems
            .add(start, "there is no MirrorSourceConnector here")
            .hint = Some("put the connectors of a flow into one file, as an array".into());
    }
    Some(input)
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Source,
    Checkpoint,
    Heartbeat,
}

impl Role {
    fn of(class: &str) -> Option<Self> {
        let name = class.rsplit('.').next().unwrap_or_default();
        // Connect also takes the name without its last word (`PluginUtils.prunedName`).
        [Role::Source, Role::Checkpoint, Role::Heartbeat]
            .into_iter()
            .find(|role| role.class() == name || role.class().strip_suffix("Connector") == Some(name))
    }

    fn class(self) -> &'static str {
        match self {
            Role::Source => "MirrorSourceConnector",
            Role::Checkpoint => "MirrorCheckpointConnector",
            Role::Heartbeat => "MirrorHeartbeatConnector",
        }
    }

    fn carried(self) -> &'static str {
        match self {
            Role::Source => "→ a flow of the topology",
            Role::Checkpoint => "→ replication.offset_sync",
            Role::Heartbeat => "→ replication.heartbeats",
        }
    }
}

/// Walks down to the configurations.
fn find(node: &Node, path: &str, sheet: &mut Sheet, found: &mut Vec<Connector>) {
    match &node.kind {
        Yaml::List(items) => {
            for (number, item) in items.iter().enumerate() {
                find(item, &format!("{path}[{number}]."), sheet, found);
            }
        }
        Yaml::Map(entries) if entries.iter().any(|e| e.key == "connector.class") => {
            found.push(connector(node.at, entries, path, sheet));
        }
        Yaml::Map(entries) => {
            // The connector's name stands beside its configuration.
            let wraps = |entry: &Entry| {
                matches!(entry.value.kind, Yaml::Map(_)) && CONFIG.contains(&entry.key.as_str())
            };
            let mut name = None;
            if entries.iter().any(wraps) {
                for entry in entries {
                    if let ("name" | "connectorName", Yaml::Scalar(_)) =
                        (entry.key.as_str(), &entry.value.kind)
                    {
                        name = Some(sheet.leaf(entry, path));
                    }
                }
            }
            for entry in entries {
                let below = format!("{path}{}.", entry.key);
                match &entry.value.kind {
                    Yaml::Map(config) if CONFIG.contains(&entry.key.as_str()) => {
                        let mut connector = connector(entry.key_at, config, &below, sheet);
                        if let Some(id) = name {
                            sheet.agree(&mut connector.keys, "name", id);
                        }
                        found.push(connector);
                    }
                    Yaml::Scalar(_)
                        if name.is_some() && ["name", "connectorName"].contains(&entry.key.as_str()) => {}
                    Yaml::Map(_) => find(&entry.value, &below, sheet, found),
                    Yaml::List(items) if items.iter().any(|it| matches!(it.kind, Yaml::Map(_))) => {
                        find(&entry.value, &format!("{path}{}", entry.key), sheet, found);
                    }
                    _ => {
                        let id = sheet.add(format!("{path}{}", entry.key), "", entry.key_at);
                        sheet.gone(
                            id,
                            "belongs to the Connect cluster that runs the connector; causeway has none",
                        );
                    }
                }
            }
        }
        Yaml::Scalar(_) | Yaml::Null | Yaml::Unusable => {
            if !matches!(node.kind, Yaml::Unusable) {
                sheet
                    .problems
                    .add(node.at, "expected a connector's configuration");
            }
        }
    }
}

fn connector(at: At, entries: &[Entry], path: &str, sheet: &mut Sheet) -> Connector {
    let mut keys = Keys::new();
    for entry in entries {
        let value = match &entry.value.kind {
            Yaml::Scalar(text) => text.trim(),
            Yaml::Null => "",
            Yaml::Unusable => continue,
            Yaml::List(_) | Yaml::Map(_) => {
                let name = short(&entry.key);
                sheet
                    .problems
                    .add(entry.key_at, format!("`{name}` must be a single value"))
                    .hint = Some("Connect takes texts, numbers, true and false".into());
                continue;
            }
        };
        let id = sheet.add(format!("{path}{}", entry.key), value, entry.key_at);
        sheet.put(&mut keys, &entry.key, id);
    }
    Connector { at, keys }
}

/// A `KafkaConnector`.
fn resource(entries: &[Entry], sheet: &mut Sheet) -> Connector {
    let mut connector = Connector {
        at: entries.first().map_or(At::START, |it| it.key_at),
        keys: Keys::new(),
    };
    for entry in entries {
        match (entry.key.as_str(), &entry.value.kind) {
            ("apiVersion" | "kind", _) => {
                let id = sheet.leaf(entry, "");
                sheet.carried(id, "read as a Strimzi resource");
            }
            ("metadata", Yaml::Map(metadata)) => {
                for entry in metadata {
                    let id = sheet.leaf(entry, "metadata.");
                    match entry.key.as_str() {
                        "name" => sheet.put(&mut connector.keys, "name", id),
                        _ => sheet.gone(id, "about the Kubernetes resource itself"),
                    }
                }
            }
            ("spec", Yaml::Map(spec)) => {
                for entry in spec {
                    match (entry.key.as_str(), &entry.value.kind) {
                        ("config", Yaml::Map(config)) => {
                            let inner = self::connector(entry.key_at, config, "spec.config.", sheet);
                            for (key, id) in inner.keys {
                                sheet.put(&mut connector.keys, &key, id);
                            }
                        }
                        (field, _) => {
                            let id = sheet.leaf(entry, "spec.");
                            match field {
                                "class" => sheet.put(&mut connector.keys, "connector.class", id),
                                "tasksMax" => sheet.put(&mut connector.keys, "tasks.max", id),
                                _ => handling(entry, id, sheet),
                            }
                        }
                    }
                }
            }
            _ => {
                let id = sheet.leaf(entry, "");
                sheet.gone(id, "about the Kubernetes resource itself");
            }
        }
    }
    connector
}

/// Keys of the dedicated driver, which a connector does not read: it does what it would do without them.
fn driver_keys(connector: &Connector, role: Role, sheet: &mut Sheet) {
    for (key, id) in &connector.keys {
        let Some((_, rest)) = key.split_once("->") else {
            continue;
        };
        // An alias may hold dots, and so may a key.
        let meant = ["topics", "groups"]
            .into_iter()
            .find(|it| rest.ends_with(&format!(".{it}")));
        let off = rest.ends_with(".enabled") && sheet.value(*id).eq_ignore_ascii_case("false");
        match meant {
            Some(name)
                if !connector.keys.contains_key(name) && (name == "topics") == (role == Role::Source) =>
            {
                let text = format!(
                    "a connector does not read it: without `{name}` MirrorMaker 2 takes all {name}, and so does what is written here; call the key `{name}` for these only"
                );
                sheet.decide(*id, Class::NoEquivalent, text);
            }
            None if off => sheet.decide(
                *id,
                Class::NoEquivalent,
                "a connector does not read it, so MirrorMaker 2 copies, and so does the flow that is written",
            ),
            _ => sheet.gone(
                *id,
                "a key of the dedicated MirrorMaker 2: a connector does not read it",
            ),
        }
    }
}

/// The names of both clusters: their aliases, or what they are where an alias is empty.
fn pair(connector: &Connector, sheet: &mut Sheet) -> Option<(String, String)> {
    let Some(source) = connector.keys.get("source.cluster.alias").copied() else {
        sheet
            .problems
            .add(connector.at, "`source.cluster.alias` is missing")
            .hint = Some("it is part of the names of the copied topics".into());
        return None;
    };
    sheet.carried(source, "→ clusters");
    let target = match connector.keys.get("target.cluster.alias").copied() {
        Some(id) => {
            sheet.carried(id, "→ clusters");
            sheet.value(id).to_owned()
        }
        None => {
            sheet.default(
                "target.cluster.alias",
                "not given, so the target is called `target`",
            );
            "target".to_owned()
        }
    };
    let or = |alias: String, otherwise: &str| match alias.is_empty() {
        true => otherwise.to_owned(),
        false => alias,
    };
    let source = or(sheet.value(source).to_owned(), "source");
    let target = or(target, "target");
    if source == target {
        sheet
            .problems
            .add(connector.at, "source and target have one alias")
            .hint = Some("set `target.cluster.alias` to another name".into());
        return None;
    }
    Some((source, target))
}

/// Takes what is about one cluster out of a connector's keys.
fn connect(
    alias: &str,
    side: &str,
    connector: &mut Connector,
    clusters: &mut Vec<Cluster>,
    sheet: &mut Sheet,
) {
    if !clusters.iter().any(|it| it.alias == alias) {
        clusters.push(Cluster {
            alias: alias.to_owned(),
            ..Cluster::default()
        });
    }
    let cluster = clusters
        .iter_mut()
        .find(|it| it.alias == alias)
        .expect("just pushed");
    let prefix = format!("{side}.cluster.");
    for (key, id) in connector.keys.clone() {
        // The alias is of the flow as well.
        let Some(inner) = key.strip_prefix(&prefix).filter(|it| *it != "alias") else {
            continue;
        };
        cluster_key(cluster, inner, id, sheet);
        connector.keys.remove(&key);
    }
}

/// `source.cluster.*` and `target.cluster.*`: MM2 reads addresses and security from them, nothing else.
pub fn cluster_key(cluster: &mut Cluster, key: &str, id: Id, sheet: &mut Sheet) {
    if key == "bootstrap.servers" {
        match cluster.bootstrap {
            None => cluster.bootstrap = Some(id),
            Some(first) => sheet.same(first, id),
        }
    } else if is_security(key) {
        let mut security = std::mem::take(&mut cluster.security);
        sheet.agree(&mut security, key, id);
        cluster.security = security;
    } else if client_key(key).is_some() {
        sheet.gone(id, "MirrorMaker 2 reads addresses and security from here, nothing else; it belongs to `consumer.` or `producer.override.`");
    } else {
        sheet.gone(
            id,
            "MirrorMaker 2 reads addresses and security from here, nothing else",
        );
    }
}

/// What the operator does with a connector, of either kind of resource.
pub fn handling(entry: &Entry, id: Id, sheet: &mut Sheet) {
    match (entry.key.as_str(), &entry.value.kind) {
        ("state" | "pause", Yaml::Scalar(word)) if ["running", "false"].contains(&word.as_str()) => {
            sheet.carried(id, "causeway runs every flow of its files");
        }
        ("state" | "pause", Yaml::Scalar(_)) => sheet.decide(
            id,
            Class::NoEquivalent,
            "causeway runs every flow of its files; start it when this connector should run",
        ),
        ("autoRestart", _) => sheet.gone(id, "a task of causeway always starts again, with back-off"),
        _ => sheet.gone(id, "about the operator's handling of the connector"),
    }
}
