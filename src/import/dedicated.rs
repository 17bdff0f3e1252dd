//! `mm2.properties`: keys at four levels, folded as MM2's `MirrorMakerConfig` folds them.

use std::collections::BTreeMap;

use super::input::{Cluster, Flow, Id, Input, Keys, Sheet, client_key, is_security};
use super::properties::Surprise;
use super::template::variables;
use super::verdicts::{Class, Form};
use crate::config::At;
use crate::config::short;

/// Top-level keys that reach the Connect worker of every flow, by their beginnings. (Converters do too, and
/// the connectors besides.)
const WORKER: &[&str] = &[
    "offset.storage",
    "config.storage",
    "status.storage",
    "task",
    "worker",
];

/// Of these, the ones that name the topics in which a worker keeps what it knows.
const STORAGE: &[&str] = &[
    "offset.storage.topic",
    "config.storage.topic",
    "status.storage.topic",
];

pub fn read(keys: Keys, sheet: &mut Sheet) -> Option<Input> {
    let Some(clusters) = keys.get("clusters").copied() else {
        sheet
            .problems
            .add(
                At::START,
                "this is no configuration of MirrorMaker 2: `clusters` is missing",
            )
            .hint = Some(
            "give an mm2.properties, a Strimzi KafkaMirrorMaker2 resource (YAML), or connectors as JSON"
                .into(),
        );
        return None;
    };
    // Which clusters and flows there are cannot be known while one of these is open.
    let open = |key: &str, id: Id| {
        let decides =
            key == "clusters" || key == "enabled" || key.ends_with(".enabled") && key.contains("->");
        !variables(key).is_empty() || decides && !variables(sheet.value(id)).is_empty()
    };
    if keys.iter().any(|(key, id)| open(key, *id)) {
        sheet.unfilled();
        return None;
    }
    let mut aliases: Vec<String> = Vec::new();
    for alias in sheet
        .value(clusters)
        .split(',')
        .map(str::trim)
        .filter(|it| !it.is_empty())
    {
        if !aliases.iter().any(|it| it == alias) {
            aliases.push(alias.to_owned());
        }
    }
    if aliases.is_empty() {
        let at = sheet.at(clusters);
        sheet.problems.add(at, "`clusters` names no cluster").hint = Some("write `clusters = a, b`".into());
        return None;
    }
    if let Some(why) = sheet.oddity(clusters) {
        let at = sheet.at(clusters);
        sheet
            .problems
            .add(at, "`clusters` names clusters that cannot be")
            .hint = Some(why);
        return None;
    }
    sheet.carried(clusters, "→ clusters");
    for (key, id) in &keys {
        if let Some(name) = key
            .strip_prefix("config.providers.")
            .and_then(|it| it.strip_suffix(".class"))
        {
            let class = sheet.value(*id).to_owned();
            sheet.providers.insert(name.to_owned(), class);
        }
    }

    let mut folded = Folded {
        clusters: aliases
            .iter()
            .map(|alias| Cluster {
                alias: alias.clone(),
                ..Cluster::default()
            })
            .collect(),
        flows: BTreeMap::new(),
        top: Keys::new(),
        security: Keys::new(),
        storage: Keys::new(),
    };
    for (key, id) in &keys {
        if key != "clusters" {
            folded.take(key, *id, &aliases, sheet);
        }
    }
    Some(folded.input(&aliases, sheet))
}

/// The levels of the file, apart.
struct Folded {
    clusters: Vec<Cluster>,
    flows: BTreeMap<(String, String), Keys>,
    top: Keys,
    security: Keys,
    /// The topics of every Connect worker.
    storage: Keys,
}

impl Folded {
    fn take(&mut self, key: &str, id: Id, aliases: &[String], sheet: &mut Sheet) {
        if let Some((source, rest)) = key.split_once("->") {
            // An alias may hold dots, so the longest that fits is meant.
            let target = aliases
                .iter()
                .filter(|it| rest.strip_prefix(it.as_str()).is_some_and(|k| k.starts_with('.')));
            match target.max_by_key(|it| it.len()) {
                Some(target) if aliases.iter().any(|it| it == source) => {
                    let inner = &rest[target.len() + 1..];
                    let flow = self.flows.entry((source.to_owned(), target.clone())).or_default();
                    sheet.put(flow, inner, id);
                }
                // Said when everything else has been.
                _ if sheet.reads_otherwise(id, Surprise::KeyEndsAtBlank) => {}
                _ => sheet.gone(id, "`clusters` does not name both clusters of this flow"),
            }
            return;
        }
        let owner = aliases
            .iter()
            .filter(|it| key.strip_prefix(it.as_str()).is_some_and(|k| k.starts_with('.')));
        if let Some(alias) = owner.max_by_key(|it| it.len()) {
            let inner = &key[alias.len() + 1..];
            let cluster = self
                .clusters
                .iter_mut()
                .find(|it| it.alias == *alias)
                .expect("one cluster per alias");
            if inner == "bootstrap.servers" {
                cluster.bootstrap = Some(id);
            } else if is_security(inner) {
                sheet.put(&mut cluster.security, inner, id);
            } else if let Some((client, name)) = client_key(inner) {
                let keys = match client {
                    "consumer" => &mut cluster.consumer,
                    "producer" => &mut cluster.producer,
                    _ => &mut cluster.admin,
                };
                sheet.put(keys, name, id);
            } else {
                sheet.put(&mut cluster.worker, inner, id);
            }
        } else if is_security(key) {
            sheet.put(&mut self.security, key, id);
        } else if key == "config.providers" || key.starts_with("config.providers.") {
            sheet.carried(id, "`${env:…}` and `${directory:…}` are written as `${VAR}` and `…_file`; what other providers hold must be set by hand");
        } else if key == "dedicated.mode.enable.internal.rest"
            || key == "listeners"
            || key.starts_with("rest.")
            || key.starts_with("admin.listeners")
        {
            sheet.gone(id, "daemons of causeway meet through the target's brokers; they have no REST interface among each other");
        } else if key == "exactly.once.source.support" {
            sheet.gone(id, "MirrorMaker 2 reads it as `<target>.exactly.once.source.support` only; causeway's default is exactly_once");
        } else if client_key(key).is_some()
            && !["consumer.poll.timeout.ms", "admin.timeout.ms"].contains(&key)
        {
            sheet.gone(
                id,
                "MirrorMaker 2 ignores client settings at the top level; they belong to `<cluster>.`",
            );
        } else if STORAGE.contains(&key) {
            sheet.put(&mut self.storage, key, id);
        } else if WORKER.iter().any(|it| key.starts_with(it)) && key != "tasks.max" {
            sheet.gone(id, super::translate::WORKER_GONE);
        } else {
            sheet.put(&mut self.top, key, id);
        }
    }

    fn input(mut self, aliases: &[String], sheet: &mut Sheet) -> Input {
        for cluster in &mut self.clusters {
            if cluster.bootstrap.is_none() {
                let alias = short(&cluster.alias);
                sheet
                    .problems
                    .add(At::START, format!("`{alias}.bootstrap.servers` is missing"))
                    .hint = Some(format!(
                    "`clusters` names {alias}; say where it is, or remove it there"
                ));
            }
            // The cluster's own word wins over the top level's.
            let own = std::mem::replace(&mut cluster.security, self.security.clone());
            for (key, id) in own {
                sheet.put(&mut cluster.security, &key, id);
            }
            // Here it is the other way round (`MirrorMakerConfig.workerConfig`).
            for (key, id) in &self.storage {
                sheet.put(&mut cluster.worker, key, *id);
            }
        }
        let mut flows = Vec::new();
        for source in aliases {
            for target in aliases.iter().filter(|it| *it != source) {
                let own = self
                    .flows
                    .remove(&(source.clone(), target.clone()))
                    .unwrap_or_default();
                let mut keys = self.top.clone();
                for (key, id) in &own {
                    sheet.put(&mut keys, key, *id);
                }
                let enabled = sheet.boolean(&keys, "enabled");
                if let Some((id, on)) = enabled {
                    sheet.carried(
                        id,
                        if on {
                            "→ a flow of the topology"
                        } else {
                            "the topology has no such flow"
                        },
                    );
                }
                let Some((id, true)) = enabled else {
                    for id in own
                        .values()
                        .filter(|it| enabled.is_none_or(|(enabled, _)| **it != enabled))
                    {
                        sheet.idle(
                            *id,
                            format!("the flow {}->{} is not enabled", short(source), short(target)),
                        );
                    }
                    continue;
                };
                keys.remove("enabled");
                // The driver's own aliases give way (`MirrorMakerConfig.connectorBaseConfig`).
                let alias = keys.get("source.cluster.alias");
                flows.push(Flow {
                    mm2_source: alias.map_or(source.clone(), |id| sheet.value(*id).to_owned()),
                    source: source.clone(),
                    target: target.clone(),
                    at: sheet.at(id),
                    checkpoints: Some(keys.clone()),
                    heartbeats: Some(keys.clone()),
                    records: keys,
                });
            }
        }
        // A flow to itself.
        for keys in self.flows.values() {
            for id in keys.values() {
                sheet.decide(*id, Class::NoEquivalent, "a flow needs two different clusters");
            }
        }
        Input {
            form: Form::Dedicated,
            name: None,
            clusters: self.clusters,
            flows,
        }
    }
}
