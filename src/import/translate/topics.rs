//! Which topics are copied.

use super::draft::Draft;
use super::expressions::expressions;
use super::naming::policy;
use crate::config::short;
use crate::import::input::{Flow, Id};
use crate::import::java_pattern::overlap;
use crate::import::verdicts::Class;

/// Exclude patterns that say what causeway never copies anyway (`replication_policy::is_internal_topic`).
const BUILT_IN: &[&str] = &[
    "__.*",
    ".*[\\-\\.]internal",
    ".*[-.]internal",
    ".*\\.internal",
    ".*-internal",
    "mm2.*\\.internal",
];

/// What Kafka takes as the name of a topic.
const TOPIC: &str = "[a-zA-Z0-9._-]+";

impl Draft<'_> {
    /// Whether the flow copies anything.
    pub fn topics(&mut self, flow: &Flow) -> bool {
        let keys = &flow.records;
        let (mut include, besides) = match self.sheet.list(keys, "topics") {
            Some((id, items)) => match self.selected_topics(flow, id, items) {
                Ok(found) => found,
                Err(why) => {
                    self.sheet.decide(id, Class::NoEquivalent, why);
                    return false;
                }
            },
            None if keys.contains_key("topics") => return false,
            None => (vec![".*".to_owned()], Vec::new()),
        };
        let mut exclude = vec![".*\\.replica".to_owned()];
        match self.list(keys, "topics.exclude", "topics.blacklist") {
            Some((id, mut items)) => {
                let all = items.len();
                items.retain(|it| !BUILT_IN.contains(&it.as_str()));
                let text = match items.len() == all {
                    true => "→ replication.topics.exclude",
                    false => "→ replication.topics.exclude; topics that begin with `__` or end in `.internal` or `-internal` are never copied anyway",
                };
                exclude = self.sheet.excluded(id, items, "so more topics may be copied", &mut include);
                self.sheet.carried(id, text);
            }
            None => self.sheet.default(
                "topics.exclude",
                "written: .*\\.replica; built in: names that begin with `__` or end in `.internal` or `-internal` (MirrorMaker 2 from 4.0 on copies user topics that end so)",
            ),
        }
        exclude.extend(besides);
        for (key, items) in [("topics", &include), ("topics.exclude", &exclude)] {
            // Where it was written by us, it was found in another key.
            let Some(id) = keys.get(key) else { continue };
            for item in items.iter().filter(|it| !overlap(it, TOPIC)) {
                let text = format!("no topic can have a name that `{}` matches", short(item));
                self.sheet.decide(*id, Class::Different, text);
            }
        }
        self.set("topics.include", expressions(&include));
        if !exclude.is_empty() {
            self.set("topics.exclude", expressions(&exclude));
        }
        true
    }

    /// What `topics` includes, and what to exclude besides; or why that is nothing.
    fn selected_topics(
        &mut self,
        flow: &Flow,
        id: Id,
        items: Vec<String>,
    ) -> Result<(Vec<String>, Vec<String>), &'static str> {
        if items.is_empty() {
            return Err("an empty list copies nothing; the flow is left out");
        }
        let prefixed = policy(flow, self.sheet) == "default";
        // Names that causeway leaves out by itself: internal ones, and with prefixes those that come from the target.
        let from_target = format!("{}\\.", regex::escape(&flow.target));
        let anyway = |exclude: &str| {
            let ends = ["\\.internal", "-internal"];
            exclude.starts_with("__")
                || BUILT_IN.contains(&exclude)
                || ends.iter().any(|it| exclude.ends_with(it))
                || prefixed && exclude.starts_with(&from_target)
        };
        let what = "so its topics are not copied";
        let (include, besides) = self.sheet.included(id, items, what, &anyway);
        if include.is_empty() {
            return Err("nothing is left of it, so the flow is left out");
        }
        self.sheet.carried(id, "→ replication.topics.include");
        let back = format!("{}.", flow.target);
        if prefixed && besides.iter().any(|it| it.starts_with(&back)) {
            let text = format!(
                "copies from `{}` do not go back in any case, for their prefix says where they are from",
                short(&flow.target)
            );
            self.sheet.carried(id, text);
        }
        Ok((include, besides))
    }
}
