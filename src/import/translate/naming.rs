//! What topics are called on the target.

use std::collections::BTreeSet;

use super::draft::Draft;
use super::names::named;
use crate::config::short;
use crate::import::input::{Flow, Id, Sheet};
use crate::import::verdicts::{Class, Form};
use crate::import::write::Settings;

/// Where names stay although the policy is the default one: neither alias nor separator is anything.
fn keeps_names(flow: &Flow, sheet: &Sheet) -> bool {
    let separator = flow.records.get("replication.policy.separator");
    flow.mm2_source.is_empty() && separator.is_some_and(|id| sheet.value(*id).is_empty())
}

/// The policy whose names are those that MM2 gave.
pub fn policy(flow: &Flow, sheet: &Sheet) -> &'static str {
    let class = flow.records.get("replication.policy.class");
    match class.and_then(|id| sheet.value(*id).rsplit('.').next()) {
        // The policy of the samples of Amazon MSK keeps names.
        Some("IdentityReplicationPolicy" | "CustomMM2ReplicationPolicy") => "identity",
        Some("DefaultReplicationPolicy") | None if keeps_names(flow, sheet) => "identity",
        _ => "default",
    }
}

impl Draft<'_> {
    pub fn naming(&mut self, flow: &Flow) {
        let keys = &flow.records;
        let policy = policy(flow, self.sheet);
        if let Some((id, class)) = self.sheet.word(keys, "replication.policy.class") {
            match class.rsplit('.').next().unwrap_or_default() {
                "DefaultReplicationPolicy" | "IdentityReplicationPolicy" => {
                    self.sheet.carried(id, format!("→ replication.replication_policy: {policy}"));
                }
                "CustomMM2ReplicationPolicy" => {
                    self.sheet.decide(id, Class::Different, "Java code; the class of this name in the samples of MSK keeps topic names, so identity is written: compare with the names on the target");
                }
                _ => self.sheet.decide(id, Class::NoEquivalent, "Java code cannot run in causeway, so topics would get other names: default writes `source.topic`, identity keeps the name"),
            }
        }
        if let Some((id, separator)) = self.sheet.word(keys, "replication.policy.separator") {
            match (policy, separator.as_str()) {
                _ if keeps_names(flow, self.sheet) => self.sheet.carried(
                    id,
                    "→ replication.replication_policy: identity; with neither alias nor separator names stay as they are",
                ),
                ("identity", _) => self
                    .sheet
                    .carried(id, "has no effect with the identity policy, but on heartbeats"),
                (_, ".") => self.sheet.carried(id, "the separator is `.`"),
                _ => self.another_separator(flow, id, &separator),
            }
        }
        self.aliases(flow, policy);
        let internal = "replication.policy.internal.topic.separator.enabled";
        if let Some((id, _)) = self.sheet.boolean(keys, internal) {
            self.sheet
                .carried(id, "internal topics are always separated by `.`");
        }
        self.set("replication_policy", policy);
    }

    fn another_separator(&mut self, flow: &Flow, id: Id, separator: &str) {
        let ours = named(&flow.source, self.names);
        let mut text = format!(
            "the separator is always `.`, so copies would go to new topics under other names: what MirrorMaker 2 calls `{}orders` would be `{ours}.orders`, or `orders` with replication_policy: identity",
            short(&format!("{}{separator}", flow.mm2_source)),
        );
        if separator.is_empty() && self.form() == Form::Strimzi {
            text += "; names did not stay, because Strimzi writes its aliases over empty ones";
        }
        self.sheet.decide(id, Class::NoEquivalent, text);
    }

    /// `source.cluster.alias` and `target.cluster.alias` of the connectors, where the form lets them be other than
    /// the names of the clusters.
    fn aliases(&mut self, flow: &Flow, policy: &str) {
        for keys in flow.connectors() {
            for (key, ours) in [
                ("source.cluster.alias", &flow.source),
                ("target.cluster.alias", &flow.target),
            ] {
                let Some(id) = keys.get(key).copied() else {
                    continue;
                };
                if self.form() == Form::Strimzi {
                    let text = format!("Strimzi writes `{}` over it", short(ours));
                    self.sheet.gone(id, text);
                } else if self.sheet.value(id) == ours {
                    self.sheet.carried(id, "→ clusters");
                } else if key == "target.cluster.alias" {
                    let ours = short(ours);
                    let text = format!(
                        "MirrorMaker 2 calls its offset syncs so; causeway's are called after `{ours}`"
                    );
                    self.sheet.different(id, text);
                } else if policy == "identity" {
                    self.sheet.carried(
                        id,
                        "→ replication.mirror_maker.source_alias: `causeway import mm2-state` looks for the positions under it",
                    );
                } else {
                    let ours = named(ours, self.names);
                    let alias = short(&flow.mm2_source);
                    let mut text = format!(
                        "MirrorMaker 2 calls copies after it, `{alias}.orders`, and causeway after the cluster, `{ours}.orders`: these are new topics",
                    );
                    if !alias.is_empty() {
                        text += &format!(", unless the cluster is called `{alias}` in both files");
                    }
                    self.sheet.decide(id, Class::Different, text);
                }
            }
        }
    }
}

/// Flows that keep names and lead in a circle: MM2 copies their records round and round. causeway
/// refuses such a topology unless records say where they come from.
pub fn keep_from_coming_back(flows: &mut [(&Flow, Settings)], sheet: &mut Sheet) {
    let keeps = |settings: &Settings| settings.get("replication_policy") == Some(&"identity".into());
    let kept = flows.iter().filter(|(_, settings)| keeps(settings));
    let kept: Vec<&Flow> = kept.map(|(flow, _)| *flow).collect();
    for (flow, settings) in flows.iter_mut().filter(|(_, settings)| keeps(settings)) {
        let mut reached = BTreeSet::from([&flow.target]);
        while let Some(next) = kept
            .iter()
            .find(|it| reached.contains(&it.source) && !reached.contains(&it.target))
        {
            reached.insert(&next.target);
        }
        if reached.contains(&flow.source) {
            settings.insert("provenance", "header".into());
            let keys = ["replication.policy.class", "replication.policy.separator"];
            if let Some(id) = keys.iter().find_map(|key| flow.records.get(*key)) {
                sheet.different(*id, "names that are kept in a circle would be copied round and round; provenance: header keeps records from coming back");
            }
        }
    }
}
