//! Strimzi's `KafkaMirrorMaker2`, of `v1beta2` (`spec.clusters`) and of `v1` (`spec.target`, `mirrors[].source`).
//!
//! What each field becomes in MM2's words: `KafkaMirrorMaker2Connectors` of Strimzi's operator.

use super::connectors::{cluster_key, handling};
use super::input::{Cluster, Flow, Input, Keys, Sheet, client_key, is_security};
use super::verdicts::{Class, Form};
use crate::config::At;
use crate::config::short;
use crate::config::yaml::{Entry, Kind as Yaml};

const POD: &str = "about the pods of a Connect cluster; run causeway in a Deployment of its own";

/// Reads one resource, whose kind is known to be right.
pub fn read(root: &[Entry], sheet: &mut Sheet) -> Option<Input> {
    let mut reader = Reader {
        sheet,
        clusters: Vec::new(),
        worker: None,
    };
    let mut name = None;
    let mut spec = None;
    for entry in root {
        match (entry.key.as_str(), &entry.value.kind) {
            ("apiVersion" | "kind", _) => {
                let id = reader.sheet.leaf(entry, "");
                reader.sheet.carried(id, "read as a Strimzi resource");
            }
            ("metadata", Yaml::Map(metadata)) => {
                for entry in metadata {
                    let id = reader.sheet.leaf(entry, "metadata.");
                    if let ("name", Yaml::Scalar(text)) = (entry.key.as_str(), &entry.value.kind) {
                        name = Some(text.clone());
                        reader.sheet.carried(id, "→ the topology's name");
                    } else {
                        reader.sheet.gone(id, "about the Kubernetes resource itself");
                    }
                }
            }
            ("spec", Yaml::Map(entries)) => spec = Some((entry.key_at, entries)),
            _ => {
                let id = reader.sheet.leaf(entry, "");
                reader.sheet.gone(id, "about the Kubernetes resource itself");
            }
        }
    }
    let Some((at, spec)) = spec else {
        reader.sheet.problems.add(
            root.first().map_or(At::START, |it| it.key_at),
            "`spec` is missing",
        );
        return None;
    };
    let flows = reader.spec(at, spec);
    let clusters = reader.clusters;
    if flows.is_empty() && sheet.problems.is_empty() {
        sheet
            .problems
            .add(at, "`mirrors` holds no mirror with a sourceConnector")
            .hint = Some("list them: source and target cluster, and `sourceConnector: {}`".into());
    }
    Some(Input {
        form: Form::Strimzi,
        name,
        clusters,
        flows,
    })
}

struct Reader<'a> {
    sheet: &'a mut Sheet,
    clusters: Vec<Cluster>,
    /// The alias of the cluster that runs Connect.
    worker: Option<String>,
}

impl Reader<'_> {
    fn spec(&mut self, at: At, spec: &[Entry]) -> Vec<Flow> {
        let mut mirrors = None;
        for entry in spec {
            match (entry.key.as_str(), &entry.value.kind) {
                ("connectCluster", Yaml::Scalar(alias)) => {
                    self.worker = Some(alias.clone());
                    let id = self.sheet.leaf(entry, "spec.");
                    self.sheet
                        .carried(id, "causeway keeps its state on the target, as Connect does");
                }
                ("target", Yaml::Map(entries)) => {
                    self.worker = self.cluster(entry.key_at, entries, "spec.target.");
                }
                ("clusters", Yaml::List(items)) => {
                    for (number, item) in items.iter().enumerate() {
                        if let Yaml::Map(entries) = &item.kind {
                            self.cluster(item.at, entries, &format!("spec.clusters[{number}]."));
                        }
                    }
                }
                ("mirrors", Yaml::List(items)) => mirrors = Some(items),
                _ => {
                    let id = self.sheet.leaf(entry, "spec.");
                    self.sheet.gone(id, POD);
                }
            }
        }
        let Some(mirrors) = mirrors else {
            self.sheet.problems.add(at, "`mirrors` is missing");
            return Vec::new();
        };
        // Both shapes give the worker's settings in the cluster's `config`, once it is known which it is.
        let mut flows = Vec::new();
        for (number, item) in mirrors.iter().enumerate() {
            if let Yaml::Map(entries) = &item.kind {
                flows.extend(self.mirror(item.at, entries, &format!("spec.mirrors[{number}].")));
            }
        }
        for cluster in &mut self.clusters {
            if Some(&cluster.alias) == self.worker.as_ref() {
                continue;
            }
            for id in cluster
                .worker
                .values()
                .chain(cluster.producer.values())
                .chain(cluster.consumer.values())
                .chain(cluster.admin.values())
            {
                self.sheet.gone(*id, "MirrorMaker 2 reads addresses and security from here, nothing else; it belongs to `sourceConnector.config`");
            }
            cluster.worker.clear();
            cluster.producer.clear();
            cluster.consumer.clear();
            cluster.admin.clear();
        }
        flows
    }

    /// One cluster; gives its alias.
    fn cluster(&mut self, at: At, entries: &[Entry], path: &str) -> Option<String> {
        let alias = entries.iter().find_map(|e| match (&e.key[..], &e.value.kind) {
            ("alias", Yaml::Scalar(alias)) => Some(alias.clone()),
            _ => None,
        });
        let Some(alias) = alias else {
            self.sheet.problems.add(at, "a cluster has no `alias`");
            return None;
        };
        let index = match self.clusters.iter().position(|it| it.alias == alias) {
            Some(index) => index,
            None => {
                self.clusters.push(Cluster {
                    alias: alias.clone(),
                    ..Cluster::default()
                });
                self.clusters.len() - 1
            }
        };
        let mut cluster = std::mem::take(&mut self.clusters[index]);
        for entry in entries {
            match (entry.key.as_str(), &entry.value.kind) {
                ("alias", _) => {
                    let id = self.sheet.leaf(entry, path);
                    self.sheet.carried(id, "→ clusters");
                }
                ("bootstrapServers", _) => {
                    let id = self.sheet.leaf(entry, path);
                    cluster_key(&mut cluster, "bootstrap.servers", id, self.sheet);
                }
                ("config", Yaml::Map(config)) => {
                    for entry in config {
                        let id = self.sheet.leaf(entry, &format!("{path}config."));
                        if is_security(&entry.key) {
                            let mut keys = std::mem::take(&mut cluster.security);
                            self.sheet.agree(&mut keys, &entry.key, id);
                            cluster.security = keys;
                            continue;
                        }
                        let (keys, name) = match client_key(&entry.key) {
                            Some(("consumer", name)) => (&mut cluster.consumer, name),
                            Some(("producer", name)) => (&mut cluster.producer, name),
                            Some((_, name)) => (&mut cluster.admin, name),
                            None => (&mut cluster.worker, entry.key.as_str()),
                        };
                        self.sheet.agree(keys, name, id);
                    }
                }
                ("tls" | "authentication", _) => {
                    let mut keys = std::mem::take(&mut cluster.strimzi);
                    self.security(entry, path, &entry.key, &mut keys);
                    cluster.strimzi = keys;
                }
                (
                    field @ ("groupId" | "configStorageTopic" | "offsetStorageTopic" | "statusStorageTopic"),
                    _,
                ) => {
                    let id = self.sheet.leaf(entry, path);
                    let key = match field {
                        "groupId" => "group.id",
                        "configStorageTopic" => "config.storage.topic",
                        "offsetStorageTopic" => "offset.storage.topic",
                        _ => "status.storage.topic",
                    };
                    self.sheet.put(&mut cluster.worker, key, id);
                }
                ("config", Yaml::Null) => {
                    let id = self.sheet.leaf(entry, path);
                    self.sheet.carried(id, "empty");
                }
                _ => {
                    self.sheet.leaf(entry, path);
                }
            }
        }
        self.clusters[index] = cluster;
        Some(alias)
    }

    /// `tls` and `authentication`: every scalar inside by its path below the cluster.
    fn security(&mut self, entry: &Entry, path: &str, name: &str, keys: &mut Keys) {
        match &entry.value.kind {
            Yaml::Map(entries) if !entries.is_empty() => {
                for inner in entries {
                    self.security(
                        inner,
                        &format!("{path}{}.", entry.key),
                        &format!("{name}.{}", inner.key),
                        keys,
                    );
                }
            }
            Yaml::List(items) if items.iter().any(|it| matches!(it.kind, Yaml::Map(_))) => {
                for (number, item) in items.iter().enumerate() {
                    if let Yaml::Map(entries) = &item.kind {
                        for inner in entries {
                            let below = format!("{path}{}[{number}].", entry.key);
                            self.security(inner, &below, &format!("{name}.{number}.{}", inner.key), keys);
                        }
                    }
                }
            }
            _ => {
                let id = self.sheet.leaf(entry, path);
                self.sheet.agree(keys, name, id);
            }
        }
    }

    fn mirror(&mut self, at: At, entries: &[Entry], path: &str) -> Option<Flow> {
        let (mut source, mut target, mut target_id) = (None, self.worker.clone(), None);
        let (mut records, mut checkpoints, mut heartbeats) = (None, None, None);
        let mut patterns = Vec::new();
        for entry in entries {
            match (entry.key.as_str(), &entry.value.kind) {
                (field @ ("sourceCluster" | "targetCluster"), Yaml::Scalar(alias)) => {
                    let id = self.sheet.leaf(entry, path);
                    self.sheet.carried(id, "→ a flow of the topology");
                    self.known(entry, alias)?;
                    match field {
                        "sourceCluster" => source = Some(alias.clone()),
                        _ => (target, target_id) = (Some(alias.clone()), Some(id)),
                    }
                }
                ("source", Yaml::Map(entries)) => {
                    source = self.cluster(entry.key_at, entries, &format!("{path}source."))
                }
                ("sourceConnector", _) => records = Some(self.connector(entry, path)),
                ("checkpointConnector", _) => checkpoints = Some(self.connector(entry, path)),
                ("heartbeatConnector", _) => heartbeats = Some(self.connector(entry, path)),
                (field, _) => {
                    let id = self.sheet.leaf(entry, path);
                    patterns.extend(pattern(field).map(|key| (key, id)));
                }
            }
        }
        let (source, target) = self.ends(at, source, target)?;
        if let (Some(id), Some(worker)) = (target_id, &self.worker)
            && *worker != target
        {
            let text = format!(
                "Kafka Connect runs at `{0}` and writes to no other cluster, so this mirror cannot have filled `{1}`, and its records are on `{0}` if anywhere; causeway's flow does write to `{1}`",
                short(worker),
                short(&target)
            );
            self.sheet.decide(id, Class::Different, text);
        }
        // The operator writes the patterns over what the connectors' own `config` says.
        for (key, id) in patterns {
            let source = records.as_mut().filter(|_| key.starts_with("topics"));
            let readers: Vec<&mut Keys> = source.into_iter().chain(&mut checkpoints).collect();
            if readers.is_empty() {
                self.sheet.gone(id, "there is no connector that would read it");
            }
            for keys in readers {
                self.sheet.put(keys, key, id);
            }
        }
        let Some(records) = records else {
            for id in checkpoints.iter().chain(&heartbeats).flat_map(Keys::values) {
                self.sheet
                    .gone(*id, "this mirror has no sourceConnector, so it copies nothing");
            }
            return None;
        };
        Some(Flow {
            mm2_source: source.clone(),
            source,
            target,
            at,
            records,
            checkpoints,
            heartbeats,
        })
    }

    /// Refuses an alias that `clusters` does not name.
    fn known(&mut self, entry: &Entry, alias: &str) -> Option<()> {
        let known: Vec<&str> = self.clusters.iter().map(|it| it.alias.as_str()).collect();
        if known.contains(&alias) {
            return Some(());
        }
        let text = format!("there is no cluster `{}`", short(alias));
        let hint = format!("`clusters` names {}", short(&known.join(", ")));
        self.sheet.problems.add(entry.value.at, text).hint = Some(hint);
        None
    }

    /// Source and target of a mirror, which must be two.
    fn ends(&mut self, at: At, source: Option<String>, target: Option<String>) -> Option<(String, String)> {
        let (Some(source), Some(target)) = (source, target) else {
            let text = "a mirror needs a source and a target cluster";
            let hint = "v1beta2: `sourceCluster` and `targetCluster`; v1: `source` here and `spec.target`";
            self.sheet.problems.add(at, text).hint = Some(hint.into());
            return None;
        };
        if source == target {
            let text = "a mirror needs two different clusters";
            self.sheet.problems.add(at, text);
            return None;
        }
        Some((source, target))
    }

    fn connector(&mut self, entry: &Entry, path: &str) -> Keys {
        let mut keys = Keys::new();
        let entries = match &entry.value.kind {
            Yaml::Map(entries) if !entries.is_empty() => entries,
            _ => {
                let id = self.sheet.leaf(entry, path);
                self.sheet.carried(id, "→ the flow's defaults");
                return keys;
            }
        };
        let path = format!("{path}{}.", entry.key);
        for entry in entries {
            match (entry.key.as_str(), &entry.value.kind) {
                ("config", Yaml::Map(config)) => {
                    for entry in config {
                        let id = self.sheet.leaf(entry, &format!("{path}config."));
                        self.sheet.put(&mut keys, &entry.key, id);
                    }
                }
                ("config", Yaml::Null) => {
                    let id = self.sheet.leaf(entry, &path);
                    self.sheet.carried(id, "empty");
                }
                ("tasksMax", _) => {
                    let id = self.sheet.leaf(entry, &path);
                    self.sheet.put(&mut keys, "tasks.max", id);
                }
                _ => {
                    let id = self.sheet.leaf(entry, &path);
                    handling(entry, id, self.sheet);
                }
            }
        }
        keys
    }
}

/// MM2's key of a field that holds a pattern.
fn pattern(field: &str) -> Option<&'static str> {
    Some(match field {
        "topicsPattern" => "topics",
        "topicsExcludePattern" | "topicsBlacklistPattern" => "topics.exclude",
        "groupsPattern" => "groups",
        "groupsExcludePattern" | "groupsBlacklistPattern" => "groups.exclude",
        _ => return None,
    })
}
