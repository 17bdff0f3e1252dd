//! Tasks, and how the target's topics follow the source's.

use super::draft::{Draft, SWITCHED_OFF};
use crate::import::input::{Id, Keys};
use crate::services::config_sync::plan::EXCLUDED;

impl Draft<'_> {
    pub fn tasks(&mut self, keys: &Keys) {
        let Some((id, tasks)) = self.sheet.integer(keys, "tasks.max") else {
            self.sheet.default(
                "tasks.max",
                "1 in MirrorMaker 2; causeway's default is 4 tasks for each flow, fixed when it first runs",
            );
            return;
        };
        let fits = tasks.clamp(1, 1000);
        self.set("tasks", fits.to_string());
        match fits == tasks {
            true => self.sheet.carried(
                id,
                "→ replication.tasks, which are fixed when the flow first runs",
            ),
            false => self
                .sheet
                .different(id, format!("→ replication.tasks: {fits}; 1 to 1000")),
        }
    }

    pub fn config_sync(&mut self, keys: &Keys) {
        match self.sheet.integer(keys, "replication.factor") {
            Some((id, factor @ 1..=32_767)) => {
                self.set("config_sync.replication_factor", factor.to_string());
                self.sheet.carried(id, "→ replication.config_sync.replication_factor");
            }
            Some((id, _)) => self.sheet.different(id, "new topics get the source's replication factor, at most one replica per live broker; there is no word for the broker's default"),
            None => self.sheet.default("replication.factor", "2 in MirrorMaker 2; causeway gives new topics the source's, at most one replica per live broker"),
        }
        self.sync_interval(keys);
        if let Some((id, items)) = self.list(keys, "config.properties.exclude", "config.properties.blacklist")
        {
            self.settings_left_out(id, items);
        }
        if let Some((id, word)) = self.sheet.word(keys, "use.defaults.from") {
            match word.as_str() {
                "source" => self.sheet.gone(id, "only settings made on a topic itself are copied; the defaults of the source's brokers are not"),
                _ => self.sheet.carried(id, "only settings made on a topic itself are copied"),
            }
        }
        match self.sheet.boolean(keys, "sync.topic.acls.enabled") {
            Some((id, false)) => self.sheet.carried(id, "causeway copies no ACLs"),
            Some((id, true)) => self
                .sheet
                .gone(id, "causeway copies no ACLs yet; grant them on the target"),
            None => self.sheet.default(
                "sync.topic.acls.enabled",
                "on in MirrorMaker 2; causeway copies no ACLs yet: grant them on the target",
            ),
        }
    }

    fn sync_interval(&mut self, keys: &Keys) {
        let mut intervals = Vec::new();
        for (enabled, interval) in [
            ("refresh.topics.enabled", "refresh.topics.interval.seconds"),
            (
                "sync.topic.configs.enabled",
                "sync.topic.configs.interval.seconds",
            ),
        ] {
            let on = self.sheet.boolean(keys, enabled);
            let seconds = self.sheet.integer(keys, interval);
            match (on, enabled) {
                (Some((id, true)), _) => self.sheet.carried(id, "config sync always runs"),
                (Some((id, false)), "refresh.topics.enabled") => self.sheet.gone(id, "causeway always looks for new topics and partitions; config_sync.mode: report would only show them"),
                (Some((id, false)), _) => {
                    self.set("config_sync.exclude", vec![".*".to_owned()]);
                    self.sheet.different(id, "→ replication.config_sync.exclude: [\".*\"]; new topics then begin with the target's defaults");
                }
                (None, _) => {}
            }
            match (seconds, on) {
                (Some((id, _)), Some((_, false))) => self.sheet.idle(id, SWITCHED_OFF),
                (seconds, _) => intervals.extend(seconds),
            }
        }
        let why = "one interval for new topics, partitions and settings";
        self.interval(intervals, "config_sync.interval", why);
        if !self.settings.contains_key("config_sync.interval") {
            self.sheet.default(
                "refresh.topics.interval.seconds, sync.topic.configs.interval.seconds",
                "600 s in MirrorMaker 2; 5 s in causeway",
            );
        }
    }

    fn settings_left_out(&mut self, id: Id, mut items: Vec<String>) {
        let plain = |item: &String| item.replace('\\', "");
        let plain_items: Vec<String> = items.iter().map(plain).collect();
        let mut missing = EXCLUDED.to_vec();
        missing.retain(|name| !plain_items.iter().any(|it| it == name));
        items.retain(|it| !EXCLUDED.contains(&plain(it).as_str()));
        let more = self.sheet.patterns(id, items, "so these settings are copied");
        if !more.is_empty() && !self.settings.contains_key("config_sync.exclude") {
            self.set("config_sync.exclude", more);
        }
        match missing.is_empty() {
            true => self.sheet.carried(id, "→ replication.config_sync.exclude"),
            false => self.sheet.different(id, format!("→ replication.config_sync.exclude, which adds to MirrorMaker 2's list: {} are never copied", missing.join(", "))),
        }
    }
}
