//! Groups, checkpoints, offset syncs and heartbeats, and where MM2 keeps what it knows.

use super::draft::{Draft, NO_KEYS, SWITCHED_OFF};
use super::expressions::expressions;
use super::names::named;
use crate::import::input::{Flow, Keys};
use crate::import::value::literal;
use crate::import::verdicts::Form;
use crate::kafka::ClusterAlias;
use crate::topology::{MirrorMakerSpec, UNWANTED_GROUPS};

impl Draft<'_> {
    pub fn offset_syncs(&mut self, flow: &Flow) {
        let keys = &flow.records;
        let syncs = self.sheet.boolean(keys, "emit.offset-syncs.enabled");
        if let Some((id, _)) = syncs {
            self.sheet.carried(id, "→ replication.offset_sync.offset_syncs");
        }
        let on = syncs.is_none_or(|(_, on)| on);
        self.set("offset_sync.offset_syncs", on.to_string());
        match self.sheet.word(keys, "offset-syncs.topic.location") {
            Some((id, word)) if word.eq_ignore_ascii_case("target") => {
                self.sheet.carried(id, "offset syncs are always on the target");
            }
            Some((id, _)) => self.sheet.different(
                id,
                "offset syncs are always on the target: causeway writes nothing to the source",
            ),
            None => self.sheet.default(
                "offset-syncs.topic.location",
                "source in MirrorMaker 2; always target in causeway, which writes nothing to the source",
            ),
        }
    }

    pub fn checkpoints(&mut self, flow: &Flow) {
        let (mut emit, mut write) = (flow.checkpoints.is_some(), false);
        if let Some(keys) = &flow.checkpoints {
            if let Some((id, on)) = self.sheet.boolean(keys, "emit.checkpoints.enabled") {
                emit = on;
                self.sheet.carried(id, "→ replication.offset_sync.checkpoints");
            }
            match self.sheet.boolean(keys, "sync.group.offsets.enabled") {
                Some((id, on)) => {
                    write = on;
                    self.sheet.carried(id, "→ replication.offset_sync.write_groups");
                }
                None => self.sheet.default(
                    "sync.group.offsets.enabled",
                    "off in MirrorMaker 2, and written so; set offset_sync.write_groups: true and groups continue on the target where they stopped",
                ),
            }
            let mut intervals = Vec::new();
            for (key, on) in [
                ("emit.checkpoints.interval.seconds", emit),
                ("sync.group.offsets.interval.seconds", write),
            ] {
                match self.sheet.integer(keys, key) {
                    Some((id, _)) if !on => self.sheet.idle(id, SWITCHED_OFF),
                    seconds => intervals.extend(seconds),
                }
            }
            let why = "one interval for checkpoints and group positions";
            self.interval(intervals, "offset_sync.interval", why);
            if !self.settings.contains_key("offset_sync.interval") {
                self.sheet.default(
                    "emit.checkpoints.interval.seconds, sync.group.offsets.interval.seconds",
                    "60 s in MirrorMaker 2; 5 s in causeway",
                );
            }
            if !self.groups(keys) {
                (emit, write) = (false, false);
            }
        }
        self.set("offset_sync.checkpoints", emit.to_string());
        self.set("offset_sync.write_groups", write.to_string());
    }

    /// Which groups; whether there can be any.
    fn groups(&mut self, keys: &Keys) -> bool {
        let exclude = ["groups.exclude", "groups.blacklist"];
        let left_out_by_default = !exclude.iter().any(|it| keys.contains_key(*it));
        let anyway = |it: &str| left_out_by_default && UNWANTED_GROUPS.contains(&it);
        let (mut include, mut besides) = (vec![".*".to_owned()], Vec::new());
        let given = self.sheet.list(keys, "groups");
        let is_given = given.is_some();
        if let Some((id, items)) = given {
            if items.is_empty() {
                include.clear();
                let text = "an empty list means no group: write_groups and checkpoints are off";
                self.sheet.different(id, text);
            } else {
                let what = "so its groups are not translated";
                (include, besides) = self.sheet.included(id, items, what, &anyway);
                if !include.is_empty() {
                    self.sheet.carried(id, "→ replication.groups.include");
                }
            }
        }
        if let Some((id, items)) = self.list(keys, exclude[0], exclude[1]) {
            let what = "so more groups may be translated";
            let mut good = self.sheet.excluded(id, items, what, &mut include);
            good.append(&mut besides);
            self.set("groups.exclude", expressions(&good));
            self.sheet.carried(id, "→ replication.groups.exclude");
        } else if !besides.is_empty() {
            besides.extend(UNWANTED_GROUPS.map(str::to_owned));
            self.set("groups.exclude", expressions(&besides));
        }
        let any = !include.is_empty();
        if any && (is_given || include != [".*"]) {
            self.set("groups.include", expressions(&include));
        }
        for key in ["refresh.groups.enabled", "refresh.groups.interval.seconds"] {
            if let Some(id) = keys.get(key) {
                let text = "groups are listed anew at each offset_sync.interval";
                self.sheet.different(*id, text);
            }
        }
        any
    }

    pub fn heartbeats(&mut self, flow: &Flow) {
        let mut on = flow.heartbeats.is_some();
        if let Some(keys) = &flow.heartbeats {
            if let Some((id, enabled)) = self.sheet.boolean(keys, "emit.heartbeats.enabled") {
                on = enabled;
                self.sheet.carried(id, "→ replication.heartbeats.enabled");
            }
            match self.sheet.integer(keys, "emit.heartbeats.interval.seconds") {
                Some(seconds) if on => {
                    self.interval(vec![seconds], "heartbeats.interval", "a second or more");
                }
                Some((id, _)) => self.sheet.idle(id, SWITCHED_OFF),
                None => {}
            }
            if on && self.form() == Form::Dedicated {
                self.sheet.default(
                    "emit.heartbeats.enabled",
                    "a dedicated MirrorMaker 2 also writes heartbeats to the source, which it then copies; causeway does with heartbeats.on_source: true",
                );
            }
        }
        self.set("heartbeats.enabled", on.to_string());
        let copied = "causeway copies the source's heartbeats exactly while heartbeats.enabled is true";
        match self.sheet.boolean(&flow.records, "heartbeats.replication.enabled") {
            Some((id, copies)) if copies == on => self.sheet.carried(id, copied),
            Some((id, _)) => self.sheet.different(id, copied),
            None if !on => self.sheet.default("heartbeats.replication.enabled", "on in MirrorMaker 2; causeway copies the source's heartbeats only with heartbeats.enabled: true"),
            None => {}
        }
    }

    /// Where MM2 keeps what it knows of the flow, so that `import mm2-state` finds it.
    pub fn mirror_maker(&mut self, flow: &Flow) {
        let expected = MirrorMakerSpec::dedicated(&ClusterAlias::new(named(&flow.source, self.names)));
        let theirs = kept_by_mm2(flow, self.form(), &expected);
        let worker = self.worker(&flow.target);
        // A dedicated MM2 and Strimzi name their connectors themselves.
        let connector = match self.form() {
            Form::Connectors => &flow.records,
            Form::Dedicated | Form::Strimzi => NO_KEYS,
        };
        // A connector with a topic of its own reads it first, the worker's after it.
        let (offsets, offsets_topic) = match flow.records.contains_key("offsets.storage.topic") {
            true => (&flow.records, "offsets.storage.topic"),
            false => (worker, "offset.storage.topic"),
        };
        if flow.mm2_source != expected.source_alias {
            self.set("mirror_maker.source_alias", literal(&flow.mm2_source));
        }
        let mut missing: Vec<(&str, &str)> = Vec::new();
        type Of = fn(&MirrorMakerSpec) -> &String;
        let kept: [(&str, &Keys, &str, Of); 5] = [
            ("mirror_maker.connector", connector, "name", |it| &it.connector),
            ("mirror_maker.connect_group", worker, "group.id", |it| {
                &it.connect_group
            }),
            ("mirror_maker.offsets_topic", offsets, offsets_topic, |it| {
                &it.offsets_topic
            }),
            (
                "mirror_maker.configs_topic",
                worker,
                "config.storage.topic",
                |it| &it.configs_topic,
            ),
            (
                "mirror_maker.status_topic",
                worker,
                "status.storage.topic",
                |it| &it.status_topic,
            ),
        ];
        for (path, keys, key, of) in kept {
            let name = match self.sheet.word(keys, key) {
                Some((id, name)) if !name.is_empty() => {
                    self.sheet.carried(id, format!("→ replication.{path}"));
                    name
                }
                // Its value comes from elsewhere, which has been said, or there is none.
                _ if keys.contains_key(key) => continue,
                _ if self.form() == Form::Connectors => {
                    missing.push((path.trim_start_matches("mirror_maker."), key));
                    continue;
                }
                _ if of(&theirs) == of(&expected) => continue,
                _ => of(&theirs).clone(),
            };
            self.set(path, literal(&name));
        }
        if !missing.is_empty() {
            let (ours, keys): (Vec<&str>, Vec<&str>) = missing.into_iter().unzip();
            let text = format!(
                "not in this file: set {} under replication.mirror_maker to what the Connect workers use, or `causeway import mm2-state` looks where a dedicated MirrorMaker 2 keeps its positions",
                ours.join(", ")
            );
            self.sheet.missing(&keys.join(", "), &text);
        }
    }
}

/// What MM2 uses where nobody says otherwise.
fn kept_by_mm2(flow: &Flow, form: Form, expected: &MirrorMakerSpec) -> MirrorMakerSpec {
    match form {
        Form::Dedicated => MirrorMakerSpec::dedicated(&ClusterAlias::new(&flow.source)),
        Form::Strimzi => MirrorMakerSpec {
            // Defaults of Strimzi's `KafkaMirrorMaker2Configuration`; of `v1` each is required.
            connector: format!("{}->{}.MirrorSourceConnector", flow.source, flow.target),
            connect_group: "mirrormaker2-cluster".to_owned(),
            offsets_topic: "mirrormaker2-cluster-offsets".to_owned(),
            configs_topic: "mirrormaker2-cluster-configs".to_owned(),
            status_topic: "mirrormaker2-cluster-status".to_owned(),
            ..expected.clone()
        },
        Form::Connectors => expected.clone(),
    }
}
