//! Clusters and flows of MM2 → causeway's two files. Each key is judged where it is used; what is left over
//! is judged by its name at the end.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::input::{Cluster, Flow, Id, Input, Keys, Sheet, is_security};
use super::java_pattern::{Branch, branches, overlap, with_flags_of_earlier};
use super::properties::Surprise;
use super::security;
use super::value::is_dynamic;
use super::verdicts::{Class, Form, Holds, Import, Item};
use super::write::{self, Settings};
use crate::config::read::{java_only, pattern};
use crate::config::schema::{ALIAS, Kind};
use crate::config::short;
use crate::config::value::{servers, show_duration};
use crate::config::{At, takes_property};
use crate::kafka::ClusterAlias;
use crate::kafka::client::{JavaClient, OWNED, from_java};
use crate::services::config_sync::plan::EXCLUDED;
use crate::topology::{MirrorMakerSpec, UNWANTED_GROUPS};

/// Why settings of Connect's workers are gone.
pub const WORKER_GONE: &str =
    "about Kafka Connect's workers; causeway has none and keeps its state on the target by itself";

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

/// Keys that several connectors of a flow must give alike; the source connector's count.
const SHARED: &[&str] = &[
    "topics",
    "topics.exclude",
    "topics.blacklist",
    "topic.filter.class",
    "replication.policy.class",
    "replication.policy.separator",
    "replication.policy.internal.topic.separator.enabled",
    "offset-syncs.topic.location",
    "emit.offset-syncs.enabled",
];

/// A cluster in causeway's words.
struct Named {
    alias: String,
    /// The alias, with what causeway does not take in one replaced.
    name: String,
    /// Begins the names of its variables.
    prefix: String,
}

/// librdkafka properties of one cluster: name, value, and the key they were.
type Tuning = BTreeMap<&'static str, (String, Id)>;

pub fn translate(input: Input, sheet: &mut Sheet) -> Option<Import> {
    let names = names(&input.clusters, sheet);
    let mut translator = Translator {
        sheet,
        clusters: &input.clusters,
        names: &names,
        form: input.form,
        tuning: BTreeMap::new(),
    };
    let mut flows: Vec<(&Flow, Settings)> = Vec::new();
    for flow in &input.flows {
        if let Some(settings) = translator.flow(flow) {
            flows.push((flow, settings));
        }
    }
    translator.keep_from_coming_back(&mut flows);
    let mut config = String::new();
    for (cluster, named) in input.clusters.iter().zip(&names) {
        config += &translator.cluster(cluster, named, &input);
    }
    for flow in &input.flows {
        translator.leftovers(flow);
    }
    if flows.is_empty() {
        nothing_left(&input, sheet);
        return None;
    }
    let name = topology_name(input.name.as_deref(), sheet);
    let file = sheet.file();
    let file = short(&file.file_name().unwrap_or_default().to_string_lossy());
    let items = sheet.items();
    let decide: Vec<String> = items
        .iter()
        .filter(|item| item.decide)
        .map(|item| {
            let place = item.at.map(|at| format!("{file}:{at}: ")).unwrap_or_default();
            format!("#   {place}{}: {}\n", item.key, one_line(&item.text))
        })
        .collect();
    let decide = match decide.is_empty() {
        true => String::new(),
        false => format!("# Decide before it runs:\n{}", decide.concat()),
    };
    let (shape, members) = shape(&flows, &names);
    let topology = format!(
        "# Written by `causeway import mm2` from {file}. What flows.\n\
         # A topology's name is part of what is stored: a new name is a new start.\n\
         {decide}name: {}\npattern: {shape}\n{members}{}",
        write::scalar(&name),
        flow_settings(&flows, shape, &names),
    );
    let list: Vec<String> = flows.iter().map(|(flow, _)| pair(flow, &names)).collect();
    Some(Import {
        form: input.form,
        config: format!(
            "# Written by `causeway import mm2` from {file}. How to connect; secrets come from the environment.\nclusters:\n{config}"
        ),
        topology,
        summary: format!("{shape}: {}", list.join(", ")),
        name,
        items,
        variables: std::mem::take(&mut sheet.variables),
    })
}

/// Expressions within a sentence.
fn listed(items: &[&String]) -> String {
    let items: Vec<&str> = items.iter().map(|it| it.as_str()).collect();
    items.join("`, `")
}

/// A list of expressions as our files hold it.
fn expressions(items: &[String]) -> String {
    let mut once: Vec<String> = Vec::new();
    for item in items.iter().map(|it| super::value::literal(it)) {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    write::list(&once)
}

/// Nothing can be written. What would have had to be decided is what is in the way, so it is shown in its places.
fn nothing_left(input: &Input, sheet: &mut Sheet) {
    let decide: Vec<Item> = sheet.items().into_iter().filter(|it| it.decide).collect();
    for item in decide {
        let Some(at) = item.at else { continue };
        sheet
            .problems
            .add(at, format!("`{}`: {}", item.key, one_line(&item.text)));
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

fn one_line(text: &str) -> String {
    text.chars()
        .map(|c| if write::is_unprintable(c) { ' ' } else { c })
        .collect()
}

/// The name of every cluster, and where they differ from MM2's aliases, that topic names will too.
fn names(clusters: &[Cluster], sheet: &mut Sheet) -> Vec<Named> {
    let Kind::Name { set, .. } = ALIAS else {
        unreachable!("an alias is a name")
    };
    let mut names: Vec<Named> = Vec::new();
    for cluster in clusters {
        let alias = &cluster.alias;
        let clean: String = alias.chars().map(|c| if set(c) { c } else { '-' }).collect();
        let clean = if clean.is_empty() {
            "cluster".to_owned()
        } else {
            clean
        };
        let name = unique(&clean, |it| names.iter().any(|other| other.name == *it));
        let upper: String = clean
            .to_uppercase()
            .chars()
            .map(|c| if c == '-' { '_' } else { c })
            .collect();
        let upper = if upper.starts_with(|c: char| c.is_ascii_digit()) {
            format!("_{upper}")
        } else {
            upper
        };
        let prefix = unique(&upper, |it| names.iter().any(|other| other.prefix == *it));
        if name != *alias
            && let Some(id) = cluster.bootstrap
        {
            let text = format!(
                "causeway's aliases are letters, digits, `_` and `-`: `{}` is written as `{name}`, so topics that MirrorMaker 2 called `{0}.…` get another name",
                short(alias)
            );
            sheet.decide(id, Class::Different, text);
        }
        names.push(Named {
            alias: alias.clone(),
            name,
            prefix,
        });
    }
    names
}

fn unique(wanted: &str, taken: impl Fn(&String) -> bool) -> String {
    let mut name = wanted.to_owned();
    let mut number = 2;
    while taken(&name) {
        name = format!("{wanted}_{number}");
        number += 1;
    }
    name
}

fn topology_name(given: Option<&str>, sheet: &Sheet) -> String {
    let file = sheet.file();
    let stem = file
        .file_stem()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let name: String = given
        .unwrap_or(&stem)
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_lowercase() || c.is_ascii_digit() {
                c
            } else {
                '-'
            }
        })
        .take(60)
        .collect();
    match name.trim_matches('-') {
        "" => "mm2".to_owned(),
        name => name.to_owned(),
    }
}

struct Translator<'a> {
    sheet: &'a mut Sheet,
    clusters: &'a [Cluster],
    names: &'a [Named],
    form: Form,
    /// By alias and section.
    tuning: BTreeMap<(String, &'static str), Tuning>,
}

impl Translator<'_> {
    fn of(&self, alias: &str) -> Option<&Cluster> {
        self.clusters.iter().find(|it| it.alias == alias)
    }

    /// What the flow does in causeway's words, or `None` when it copies nothing.
    fn flow(&mut self, flow: &Flow) -> Option<Settings> {
        for other in flow.checkpoints.iter().chain(&flow.heartbeats) {
            for key in SHARED {
                if let (Some(first), Some(id)) = (flow.records.get(*key), other.get(*key)) {
                    self.sheet.same(*first, *id);
                }
            }
        }
        let mut settings = Settings::new();
        let copies = self.topics(flow, &mut settings);
        self.naming(flow, &mut settings);
        self.tasks(&flow.records, &mut settings);
        self.config_sync(&flow.records, &mut settings);
        self.clients(flow, &mut settings);
        self.delivery(flow, &mut settings);
        self.positions(flow, &mut settings);
        self.heartbeats(flow, &mut settings);
        self.mirror_maker(flow, &mut settings);
        copies.then_some(settings)
    }

    fn set(
        &mut self,
        settings: &mut Settings,
        section: &'static str,
        key: &'static str,
        value: impl Into<String>,
    ) {
        settings.insert((section, key), value.into());
    }

    /// The expressions of a list of settings that causeway can read. The others are shown.
    fn patterns(&mut self, id: Id, items: Vec<String>, what: &str) -> Vec<String> {
        let mut good = Vec::new();
        for item in items {
            match pattern(&item) {
                Ok(_) => good.push(super::value::literal(&item)),
                Err(why) => self.left_out(id, &item, what, &why),
            }
        }
        good
    }

    fn left_out(&mut self, id: Id, item: &str, what: &str, why: &str) {
        let comma = match java_only(item) {
            Some(_) => "",
            None => " (MirrorMaker 2 splits at every comma)",
        };
        let text = format!("`{}` is left out, {what}: {why}{comma}", short(item));
        self.sheet.decide(id, Class::NoEquivalent, text);
    }

    /// The items of a list, each taken apart, with the flags that count for it.
    fn taken_apart(&mut self, id: Id, items: Vec<String>) -> Vec<(String, Result<Vec<Branch>, String>)> {
        let with_flags = with_flags_of_earlier(items.clone());
        let mut taken = Vec::new();
        for (item, with_flags) in items.into_iter().zip(with_flags) {
            let said = self.sheet.reads_otherwise(id, Surprise::Quoted);
            if !said && item.starts_with(['"', '\'']) {
                let text = format!(
                    "the quotes of `{}` belong to the expression, and no name has them: it selects nothing",
                    short(&item)
                );
                self.sheet.decide(id, Class::Different, text);
            }
            if item != with_flags {
                let text = format!(
                    "`{}` is written as `{}`: MirrorMaker 2 joins the items, so the flags of one count for those behind it",
                    short(&item),
                    short(&with_flags)
                );
                self.sheet.carried(id, text);
            }
            let branches = branches(&with_flags);
            taken.push((with_flags, branches));
        }
        taken
    }

    /// The expressions of a list that selects, and what to exclude besides, where that selects the same names.
    /// `anyway` knows what is excluded whatever the list says. Items that cannot be written are shown.
    fn included(
        &mut self,
        id: Id,
        items: Vec<String>,
        what: &str,
        anyway: &dyn Fn(&str) -> bool,
    ) -> (Vec<String>, Vec<String>) {
        let taken = self.taken_apart(id, items);
        let all: Vec<&Branch> = taken.iter().flat_map(|(_, it)| it.iter().flatten()).collect();
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for (item, branches) in &taken {
            let branches = match branches {
                Ok(branches) => branches,
                Err(why) => {
                    self.left_out(id, item, what, why);
                    continue;
                }
            };
            let all_out = branches.iter().flat_map(|it| &it.exclude);
            let (anyway, own): (Vec<&String>, Vec<&String>) = all_out.partition(|it| anyway(it));
            // An exclude counts for the whole list.
            let takes_more = own.iter().any(|out| {
                let mut others = all.iter().filter(|it| !it.exclude.contains(*out));
                others.any(|it| overlap(out, &it.include))
            });
            let construct = java_only(item).unwrap_or_default();
            if takes_more {
                let why = format!(
                    "{construct} exists in Java only, and `exclude` would take names from the rest of the list too"
                );
                self.left_out(id, item, what, &why);
                continue;
            }
            let written: Vec<&String> = branches.iter().map(|it| &it.include).collect();
            if !construct.is_empty() {
                let mut text = format!(
                    "{construct} exists in Java only: `{}` is written as `{}`",
                    short(item),
                    listed(&written)
                );
                if !own.is_empty() {
                    text += &format!(" and exclude `{}`", listed(&own));
                }
                if !anyway.is_empty() {
                    text += &format!("; `{}` is left out anyway", listed(&anyway));
                }
                self.sheet.carried(id, one_line(&text));
            }
            include.extend(written.into_iter().cloned());
            exclude.extend(own.into_iter().cloned());
        }
        (include, exclude)
    }

    /// The expressions of a list that excludes. One that excludes all but some names narrows an `include` of `.*`.
    fn excluded(&mut self, id: Id, items: Vec<String>, what: &str, include: &mut Vec<String>) -> Vec<String> {
        let mut exclude = Vec::new();
        for (item, branches) in self.taken_apart(id, items) {
            let construct = java_only(&item).unwrap_or_default();
            match branches {
                Err(why) => self.left_out(id, &item, what, &why),
                Ok(branches) if branches.iter().all(|it| it.exclude.is_empty()) => {
                    exclude.extend(branches.into_iter().map(|it| it.include));
                }
                Ok(branches) => match &branches[..] {
                    [
                        Branch {
                            include: all,
                            exclude: but,
                        },
                    ] if all.trim_start_matches("(?i)") == ".*" && *include == [".*"] => {
                        include.clone_from(but);
                        let text = format!(
                            "{construct} exists in Java only: `{}` excludes all but `{}`, which is written to include",
                            short(&item),
                            listed(&but.iter().collect::<Vec<_>>())
                        );
                        self.sheet.carried(id, one_line(&text));
                    }
                    _ => {
                        let why = format!(
                            "{construct} exists in Java only; say in the include list what is to be left"
                        );
                        self.left_out(id, &item, what, &why);
                    }
                },
            }
        }
        exclude
    }

    /// Names that causeway leaves out by themselves: internal ones, and with prefixes those that come from the target.
    fn never_copied(&self, flow: &Flow) -> impl Fn(&str) -> bool + use<> {
        let from_target =
            (self.policy(flow) == "default").then(|| format!("{}\\.", regex::escape(&flow.target)));
        move |exclude| {
            let internal = exclude.starts_with("__")
                || BUILT_IN.contains(&exclude)
                || ["\\.internal", "-internal"]
                    .iter()
                    .any(|it| exclude.ends_with(it));
            internal
                || from_target
                    .as_ref()
                    .is_some_and(|it| exclude.starts_with(it.as_str()))
        }
    }

    fn topics(&mut self, flow: &Flow, settings: &mut Settings) -> bool {
        let keys = &flow.records;
        let anyway = self.never_copied(flow);
        let (mut include, besides) = match self.sheet.list(keys, "topics") {
            Some((id, items)) if items.is_empty() => {
                self.sheet.decide(
                    id,
                    Class::NoEquivalent,
                    "an empty list copies nothing; the flow is left out",
                );
                return false;
            }
            Some((id, items)) => {
                let (good, besides) = self.included(id, items, "so its topics are not copied", &anyway);
                if good.is_empty() {
                    self.sheet.decide(
                        id,
                        Class::NoEquivalent,
                        "nothing is left of it, so the flow is left out",
                    );
                    return false;
                }
                self.sheet.carried(id, "→ replication.topics.include");
                let back = format!("{}.", flow.target);
                if self.policy(flow) == "default" && besides.iter().any(|it| it.starts_with(&back)) {
                    let text = format!(
                        "copies from `{}` do not go back in any case, for their prefix says where they are from",
                        short(&flow.target)
                    );
                    self.sheet.carried(id, text);
                }
                (good, besides)
            }
            None if keys.contains_key("topics") => return false,
            None => (vec![".*".to_owned()], Vec::new()),
        };
        let mut exclude = vec![".*\\.replica".to_owned()];
        match self.sheet.list(keys, "topics.exclude").or_else(|| self.sheet.list(keys, "topics.blacklist")) {
            Some((id, items)) => {
                let (built_in, items): (Vec<_>, Vec<_>) = items.into_iter().partition(|it| BUILT_IN.contains(&it.as_str()));
                exclude = self.excluded(id, items, "so more topics may be copied", &mut include);
                self.sheet.carried(
                    id,
                    match built_in.is_empty() {
                        true => "→ replication.topics.exclude",
                        false => "→ replication.topics.exclude; topics that begin with `__` or end in `.internal` or `-internal` are never copied anyway",
                    },
                );
            }
            None => self.sheet.default(
                "topics.exclude",
                "written: .*\\.replica; built in: names that begin with `__` or end in `.internal` or `-internal` (MirrorMaker 2 from 4.0 on copies user topics that end so)",
            ),
        }
        exclude.extend(besides);
        for (key, items) in [("topics", &include), ("topics.exclude", &exclude)] {
            // Where it was written by us, it was found in another key.
            let Some(id) = keys.get(key).copied() else {
                continue;
            };
            for item in items.iter().filter(|it| !overlap(it, TOPIC)) {
                let text = format!("no topic can have a name that `{}` matches", short(item));
                self.sheet.decide(id, Class::Different, text);
            }
        }
        self.set(settings, "topics", "include", expressions(&include));
        if !exclude.is_empty() {
            self.set(settings, "topics", "exclude", expressions(&exclude));
        }
        true
    }

    /// Where names stay although the policy is the default one: neither alias nor separator is anything.
    fn keeps_names(&self, flow: &Flow) -> bool {
        let separator = flow.records.get("replication.policy.separator");
        flow.mm2_source.is_empty() && separator.is_some_and(|id| self.sheet.value(*id).is_empty())
    }

    /// The policy whose names are those that MM2 gave.
    fn policy(&self, flow: &Flow) -> &'static str {
        let class = flow.records.get("replication.policy.class");
        match class.and_then(|id| self.sheet.value(*id).rsplit('.').next()) {
            // The policy of the samples of Amazon MSK keeps names.
            Some("IdentityReplicationPolicy" | "CustomMM2ReplicationPolicy") => "identity",
            Some("DefaultReplicationPolicy") | None if self.keeps_names(flow) => "identity",
            _ => "default",
        }
    }

    fn naming(&mut self, flow: &Flow, settings: &mut Settings) {
        let keys = &flow.records;
        let policy = self.policy(flow);
        if let Some((id, class)) = self.sheet.word(keys, "replication.policy.class") {
            match class.rsplit('.').next().unwrap_or_default() {
                "DefaultReplicationPolicy" | "IdentityReplicationPolicy" => self.sheet.carried(id, format!("→ replication.replication_policy: {policy}")),
                "CustomMM2ReplicationPolicy" => {
                    self.sheet.decide(id, Class::Different, "Java code; the class of this name in the samples of MSK keeps topic names, so identity is written: compare with the names on the target");
                }
                _ => self.sheet.decide(id, Class::NoEquivalent, "Java code cannot run in causeway, so topics would get other names: default writes `source.topic`, identity keeps the name"),
            }
        }
        if let Some((id, separator)) = self.sheet.word(keys, "replication.policy.separator") {
            match (policy, separator.as_str()) {
                _ if self.keeps_names(flow) => self.sheet.carried(
                    id,
                    "→ replication.replication_policy: identity; with neither alias nor separator names stay as they are",
                ),
                ("identity", _) => self
                    .sheet
                    .carried(id, "has no effect with the identity policy, but on heartbeats"),
                (_, ".") => self.sheet.carried(id, "the separator is `.`"),
                _ => {
                    let ours = named(&flow.source, self.names);
                    let mut text = format!(
                        "the separator is always `.`, so copies would go to new topics under other names: what MirrorMaker 2 calls `{}orders` would be `{ours}.orders`, or `orders` with replication_policy: identity",
                        short(&format!("{}{separator}", flow.mm2_source)),
                    );
                    if separator.is_empty() && self.form == Form::Strimzi {
                        text += "; names did not stay, because Strimzi writes its aliases over empty ones";
                    }
                    self.sheet.decide(id, Class::NoEquivalent, text);
                }
            }
        }
        self.aliases(flow, policy);
        if let Some((id, _)) = self
            .sheet
            .boolean(keys, "replication.policy.internal.topic.separator.enabled")
        {
            self.sheet
                .carried(id, "internal topics are always separated by `.`");
        }
        self.set(settings, "", "replication_policy", policy);
    }

    /// `source.cluster.alias` and `target.cluster.alias` of the connectors, where the form lets them be other than
    /// the names of the clusters.
    fn aliases(&mut self, flow: &Flow, policy: &str) {
        let connectors = [
            Some(&flow.records),
            flow.checkpoints.as_ref(),
            flow.heartbeats.as_ref(),
        ];
        for keys in connectors.into_iter().flatten() {
            for (key, ours) in [
                ("source.cluster.alias", &flow.source),
                ("target.cluster.alias", &flow.target),
            ] {
                let Some(id) = keys.get(key).copied() else {
                    continue;
                };
                if self.form == Form::Strimzi {
                    let text = format!("Strimzi writes `{}` over it", short(ours));
                    self.sheet.gone(id, text);
                } else if self.sheet.value(id) == ours {
                    self.sheet.carried(id, "→ clusters");
                } else if key == "target.cluster.alias" {
                    self.sheet.different(
                        id,
                        format!(
                            "MirrorMaker 2 calls its offset syncs so; causeway's are called after `{}`",
                            short(ours)
                        ),
                    );
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

    fn tasks(&mut self, keys: &Keys, settings: &mut Settings) {
        match self.sheet.integer(keys, "tasks.max") {
            Some((id, tasks)) => {
                let fits = tasks.clamp(1, 1000);
                self.set(settings, "", "tasks", fits.to_string());
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
            None => self.sheet.default(
                "tasks.max",
                "1 in MirrorMaker 2; causeway's default is 4 tasks for each flow, fixed when it first runs",
            ),
        }
    }

    fn config_sync(&mut self, keys: &Keys, settings: &mut Settings) {
        match self.sheet.integer(keys, "replication.factor") {
            Some((id, factor @ 1..=32_767)) => {
                self.set(settings, "config_sync", "replication_factor", factor.to_string());
                self.sheet.carried(id, "→ replication.config_sync.replication_factor");
            }
            Some((id, _)) => self.sheet.different(id, "new topics get the source's replication factor, at most one replica per live broker; there is no word for the broker's default"),
            None => self.sheet.default("replication.factor", "2 in MirrorMaker 2; causeway gives new topics the source's, at most one replica per live broker"),
        }

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
                    self.set(settings, "config_sync", "exclude", "[\".*\"]");
                    self.sheet.different(id, "→ replication.config_sync.exclude: [\".*\"]; new topics then begin with the target's defaults");
                }
                (None, _) => {}
            }
            match (seconds, on) {
                (Some((id, _)), Some((_, false))) => self.sheet.idle(id, "has no effect: it is switched off"),
                (Some(seconds), _) => intervals.push(seconds),
                (None, _) => {}
            }
        }
        self.interval(
            intervals,
            settings,
            "config_sync",
            "one interval for new topics, partitions and settings",
        );
        if !settings.contains_key(&("config_sync", "interval")) {
            self.sheet.default(
                "refresh.topics.interval.seconds, sync.topic.configs.interval.seconds",
                "600 s in MirrorMaker 2; 5 s in causeway",
            );
        }

        let exclude = self
            .sheet
            .list(keys, "config.properties.exclude")
            .or_else(|| self.sheet.list(keys, "config.properties.blacklist"));
        if let Some((id, items)) = exclude {
            let plain = |item: &str| item.replace('\\', "");
            let missing: Vec<&str> = EXCLUDED
                .iter()
                .filter(|name| !items.iter().any(|it| plain(it) == **name))
                .copied()
                .collect();
            let more: Vec<String> = items
                .into_iter()
                .filter(|it| !EXCLUDED.contains(&plain(it).as_str()))
                .collect();
            let more = self.patterns(id, more, "so these settings are copied");
            if !more.is_empty() && !settings.contains_key(&("config_sync", "exclude")) {
                self.set(settings, "config_sync", "exclude", write::list(&more));
            }
            match missing.is_empty() {
                true => self.sheet.carried(id, "→ replication.config_sync.exclude"),
                false => self.sheet.different(id, format!("→ replication.config_sync.exclude, which adds to MirrorMaker 2's list: {} are never copied", missing.join(", "))),
            }
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

    /// Seconds given in one or several places → one interval.
    fn interval(&mut self, given: Vec<(Id, i64)>, settings: &mut Settings, section: &'static str, why: &str) {
        let Some(least) = given
            .iter()
            .map(|(_, seconds)| *seconds)
            .filter(|it| 0 < *it)
            .min()
        else {
            for (id, _) in given {
                self.sheet.gone(id, "an interval must be positive");
            }
            return;
        };
        let seconds = least.clamp(1, 3600);
        let text = show_duration(Duration::from_secs(seconds.unsigned_abs()));
        for (id, given) in given {
            match given == seconds {
                true => self
                    .sheet
                    .carried(id, format!("→ replication.{section}.interval")),
                false => self.sheet.different(
                    id,
                    format!("→ replication.{section}.interval: {text}; {why}, at most 1h"),
                ),
            }
        }
        self.set(settings, section, "interval", text);
    }

    /// `consumer.*`, `producer.*` and `admin.*` of the flow, and the few that are settings of a flow here.
    fn clients(&mut self, flow: &Flow, settings: &mut Settings) {
        let mut reads: Keys = self
            .of(&flow.source)
            .map(|it| it.consumer.clone())
            .unwrap_or_default();
        let mut writes: Keys = self
            .of(&flow.target)
            .map(|it| it.producer.clone())
            .unwrap_or_default();
        for prefix in ["consumer.", "source.consumer."] {
            for (key, id) in &flow.records {
                if let Some(name) = key.strip_prefix(prefix)
                    && name != "poll.timeout.ms"
                    && !name.starts_with("override.")
                {
                    if let Some(below) = reads
                        .get(name)
                        .filter(|it| flow.records.values().any(|id| id == *it))
                    {
                        let line = self.sheet.at(*id).line;
                        self.sheet
                            .idle(*below, format!("has no effect: line {line} overrides it"));
                    }
                    self.sheet.put(&mut reads, name, *id);
                }
            }
        }
        for (key, id) in &flow.records {
            if let Some(name) = key.strip_prefix("producer.override.") {
                self.sheet.put(&mut writes, name, *id);
            }
        }
        match self.sheet.word(&reads, "auto.offset.reset") {
            Some((id, word)) => match word.as_str() {
                "latest" => {
                    self.set(settings, "", "start_from", "latest");
                    self.sheet.different(id, "→ replication.start_from: latest; it is for a new flow only, positions that are lost later are declared as gaps (on_gap)");
                }
                "earliest" => self.sheet.carried(id, "→ replication.start_from: earliest, the default"),
                _ => self.sheet.gone(id, "a new flow begins at the earliest record, at the latest or at a time (start_from)"),
            },
            None => self.sheet.default("consumer.auto.offset.reset", "earliest, as in causeway; MirrorMaker 2 also resets in silence when records are lost, causeway declares a gap (on_gap)"),
        }
        match self.sheet.word(&reads, "isolation.level") {
            Some((id, word)) if word == "read_committed" => {
                self.sheet.carried(id, "aborted records are never copied")
            }
            Some((id, _)) => self.sheet.different(id, "aborted records are never copied"),
            None => self.sheet.default(
                "consumer.isolation.level",
                "read_uncommitted in MirrorMaker 2; causeway never copies records of aborted transactions",
            ),
        }
        match self.sheet.word(&writes, "compression.type") {
            Some((id, codec)) if ["none", "gzip", "snappy", "lz4", "zstd"].contains(&codec.as_str()) => {
                self.set(settings, "", "compression", codec);
                self.sheet.carried(id, "→ replication.compression");
            }
            Some((id, _)) => self.sheet.gone(id, "no codec of this name"),
            None => self.sheet.default(
                "producer.compression.type",
                "none in MirrorMaker 2; lz4 in causeway",
            ),
        }
        self.tune(&flow.source, "consumer", JavaClient::Consumer, &reads);
        self.tune(&flow.target, "producer", JavaClient::Producer, &writes);
    }

    /// Java client settings → librdkafka properties of the cluster.
    fn tune(&mut self, alias: &str, section: &'static str, client: JavaClient, keys: &Keys) {
        let decided = ["auto.offset.reset", "isolation.level", "compression.type"];
        for (name, id) in keys.iter().filter(|(name, _)| !decided.contains(&name.as_str())) {
            let id = *id;
            if is_security(name) || name == "bootstrap.servers" {
                let cluster = self.of(alias);
                let first = cluster.and_then(|it| {
                    if name == "bootstrap.servers" {
                        it.bootstrap
                    } else {
                        it.security.get(name).copied()
                    }
                });
                match first {
                    Some(first) => self.sheet.same(first, id),
                    None => self.sheet.decide(id, Class::NoEquivalent, "causeway has one set of credentials for each cluster; write it at the cluster and import again"),
                }
                continue;
            }
            let Some(ours) = from_java(client, name) else {
                let owned = OWNED.iter().find(|(owned, _)| owned == name).map(|(_, why)| *why);
                self.sheet
                    .gone(id, owned.map_or_else(|| client_gone(name), str::to_owned));
                continue;
            };
            let value = self.sheet.value(id).to_owned();
            // Java's word for the system's choice of a buffer, or for never.
            let value = if value == "-1" && ours != "topic.metadata.refresh.interval.ms" {
                "0".to_owned()
            } else {
                value
            };
            if is_dynamic(&value) {
                self.sheet.gone(
                    id,
                    format!("its value comes from elsewhere; set {ours} under `{section}` by hand"),
                );
                continue;
            }
            // causeway sizes what it receives at 128 MiB and more.
            let too_large =
                ours == "fetch.max.bytes" && value.parse().is_ok_and(|bytes: u64| 128 << 20 < bytes);
            if too_large || !takes_property(ours, &value) {
                self.sheet
                    .gone(id, format!("librdkafka does not take this value as {ours}"));
                continue;
            }
            let tuning = self.tuning.entry((alias.to_owned(), section)).or_default();
            match tuning.get(ours) {
                Some((other, first)) if *other != value => {
                    let line = self.sheet.at(*first).line;
                    self.sheet.gone(
                        id,
                        format!("line {line} sets another value for the same cluster, which was taken"),
                    );
                }
                _ => {
                    tuning.insert(ours, (value, id));
                    let named = self
                        .names
                        .iter()
                        .find(|it| it.alias == alias)
                        .map_or("", |it| it.name.as_str());
                    self.sheet
                        .carried(id, format!("→ clusters.{named}.{section}.{ours}"));
                }
            }
        }
    }

    fn delivery(&mut self, flow: &Flow, settings: &mut Settings) {
        let worker = self
            .of(&flow.target)
            .map(|it| it.worker.clone())
            .unwrap_or_default();
        match self.sheet.word(&worker, "exactly.once.source.support") {
            Some((id, word)) if word == "enabled" => {
                self.set(settings, "", "delivery", "exactly_once");
                self.sheet.carried(id, "→ replication.delivery: exactly_once");
            }
            Some((id, _)) => self.sheet.different(id, "causeway's default, exactly_once, is kept; for MirrorMaker 2's guarantee set delivery: at_least_once"),
            None => self.sheet.default(
                "exactly.once.source.support",
                "off in MirrorMaker 2; causeway copies exactly once, which consumers see that read committed records: set delivery: at_least_once for MirrorMaker 2's guarantee",
            ),
        }
    }

    /// Groups, checkpoints and offset syncs.
    fn positions(&mut self, flow: &Flow, settings: &mut Settings) {
        let syncs = self.sheet.boolean(&flow.records, "emit.offset-syncs.enabled");
        if let Some((id, _)) = syncs {
            self.sheet.carried(id, "→ replication.offset_sync.offset_syncs");
        }
        self.set(
            settings,
            "offset_sync",
            "offset_syncs",
            syncs.is_none_or(|(_, on)| on).to_string(),
        );
        match self.sheet.word(&flow.records, "offset-syncs.topic.location") {
            Some((id, word)) if word.eq_ignore_ascii_case("target") => {
                self.sheet.carried(id, "offset syncs are always on the target")
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

        let none = Keys::new();
        let keys = flow.checkpoints.as_ref().unwrap_or(&none);
        let (mut emit, mut write) = (flow.checkpoints.is_some(), false);
        if flow.checkpoints.is_some() {
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
                    Some(seconds) if on => intervals.push(seconds),
                    Some((id, _)) => self.sheet.idle(id, "has no effect: it is switched off"),
                    None => {}
                }
            }
            self.interval(
                intervals,
                settings,
                "offset_sync",
                "one interval for checkpoints and group positions",
            );
            if !settings.contains_key(&("offset_sync", "interval")) {
                self.sheet.default(
                    "emit.checkpoints.interval.seconds, sync.group.offsets.interval.seconds",
                    "60 s in MirrorMaker 2; 5 s in causeway",
                );
            }
            let left_out_by_default = !["groups.exclude", "groups.blacklist"]
                .iter()
                .any(|it| keys.contains_key(*it));
            let anyway = |it: &str| left_out_by_default && UNWANTED_GROUPS.contains(&it);
            let (mut include, mut besides) = (vec![".*".to_owned()], Vec::new());
            let groups = self.sheet.list(keys, "groups");
            let given = groups.is_some();
            if let Some((id, items)) = groups {
                include.clear();
                if items.is_empty() {
                    (emit, write) = (false, false);
                    self.sheet.different(
                        id,
                        "an empty list means no group: write_groups and checkpoints are off",
                    );
                } else {
                    (include, besides) =
                        self.included(id, items, "so its groups are not translated", &anyway);
                    if include.is_empty() {
                        (emit, write) = (false, false);
                    } else {
                        self.sheet.carried(id, "→ replication.groups.include");
                    }
                }
            }
            if let Some((id, items)) = self
                .sheet
                .list(keys, "groups.exclude")
                .or_else(|| self.sheet.list(keys, "groups.blacklist"))
            {
                let mut good = self.excluded(id, items, "so more groups may be translated", &mut include);
                good.append(&mut besides);
                self.set(settings, "groups", "exclude", expressions(&good));
                self.sheet.carried(id, "→ replication.groups.exclude");
            } else if !besides.is_empty() {
                besides.extend(UNWANTED_GROUPS.map(str::to_owned));
                self.set(settings, "groups", "exclude", expressions(&besides));
            }
            if given && !include.is_empty() || include != [".*"] && !include.is_empty() {
                self.set(settings, "groups", "include", expressions(&include));
            }
            for (key, text) in [
                (
                    "refresh.groups.enabled",
                    "groups are listed anew at each offset_sync.interval",
                ),
                (
                    "refresh.groups.interval.seconds",
                    "groups are listed anew at each offset_sync.interval",
                ),
            ] {
                if let Some(id) = keys.get(key) {
                    self.sheet.different(*id, text);
                }
            }
        }
        self.set(settings, "offset_sync", "checkpoints", emit.to_string());
        self.set(settings, "offset_sync", "write_groups", write.to_string());
    }

    fn heartbeats(&mut self, flow: &Flow, settings: &mut Settings) {
        let mut on = flow.heartbeats.is_some();
        if let Some(keys) = &flow.heartbeats {
            if let Some((id, enabled)) = self.sheet.boolean(keys, "emit.heartbeats.enabled") {
                on = enabled;
                self.sheet.carried(id, "→ replication.heartbeats.enabled");
            }
            match self.sheet.integer(keys, "emit.heartbeats.interval.seconds") {
                Some(seconds) if on => {
                    self.interval(vec![seconds], settings, "heartbeats", "a second or more")
                }
                Some((id, _)) => self.sheet.idle(id, "has no effect: it is switched off"),
                None => {}
            }
            if on && self.form == Form::Dedicated {
                self.sheet.default(
                    "emit.heartbeats.enabled",
                    "a dedicated MirrorMaker 2 also writes heartbeats to the source, which it then copies; causeway does with heartbeats.on_source: true",
                );
            }
        }
        self.set(settings, "heartbeats", "enabled", on.to_string());
        let copied = "causeway copies the source's heartbeats exactly while heartbeats.enabled is true";
        match self.sheet.boolean(&flow.records, "heartbeats.replication.enabled") {
            Some((id, copies)) if copies == on => self.sheet.carried(id, copied),
            Some((id, _)) => self.sheet.different(id, copied),
            None if !on => self.sheet.default("heartbeats.replication.enabled", "on in MirrorMaker 2; causeway copies the source's heartbeats only with heartbeats.enabled: true"),
            None => {}
        }
    }

    /// Where MM2 keeps what it knows of the flow, so that `import mm2-state` finds it.
    fn mirror_maker(&mut self, flow: &Flow, settings: &mut Settings) {
        let expected = MirrorMakerSpec::dedicated(&ClusterAlias::new(named(&flow.source, self.names)));
        let theirs = match self.form {
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
        };
        let worker = self
            .of(&flow.target)
            .map(|it| it.worker.clone())
            .unwrap_or_default();
        // A dedicated MM2 and Strimzi name their connectors themselves.
        let none = Keys::new();
        let connector = match self.form {
            Form::Connectors => &flow.records,
            Form::Dedicated | Form::Strimzi => &none,
        };
        // A connector with a topic of its own reads it first, the worker's after it.
        let offsets = match flow.records.contains_key("offsets.storage.topic") {
            true => (&flow.records, "offsets.storage.topic"),
            false => (&worker, "offset.storage.topic"),
        };
        if flow.mm2_source != expected.source_alias {
            self.set(
                settings,
                "mirror_maker",
                "source_alias",
                write::scalar(&super::value::literal(&flow.mm2_source)),
            );
        }
        let join = |words: &mut dyn Iterator<Item = &'static str>| words.collect::<Vec<_>>().join(", ");
        let mut missing: Vec<(&str, &str)> = Vec::new();
        for (ours, (keys, key), expected, theirs) in [
            (
                "connector",
                (connector, "name"),
                expected.connector,
                theirs.connector,
            ),
            (
                "connect_group",
                (&worker, "group.id"),
                expected.connect_group,
                theirs.connect_group,
            ),
            (
                "offsets_topic",
                offsets,
                expected.offsets_topic,
                theirs.offsets_topic,
            ),
            (
                "configs_topic",
                (&worker, "config.storage.topic"),
                expected.configs_topic,
                theirs.configs_topic,
            ),
            (
                "status_topic",
                (&worker, "status.storage.topic"),
                expected.status_topic,
                theirs.status_topic,
            ),
        ] {
            let name = match self.sheet.word(keys, key) {
                Some((id, name)) if !name.is_empty() => {
                    self.sheet
                        .carried(id, format!("→ replication.mirror_maker.{ours}"));
                    name
                }
                // Its value comes from elsewhere, which has been said, or there is none.
                _ if keys.contains_key(key) => continue,
                _ if self.form == Form::Connectors => {
                    missing.push((ours, key));
                    continue;
                }
                _ if theirs == expected => continue,
                _ => theirs,
            };
            self.set(
                settings,
                "mirror_maker",
                ours,
                write::scalar(&super::value::literal(&name)),
            );
        }
        if !missing.is_empty() {
            let text = format!(
                "not in this file: set {} under replication.mirror_maker to what the Connect workers use, or `causeway import mm2-state` looks where a dedicated MirrorMaker 2 keeps its positions",
                join(&mut missing.iter().map(|(ours, _)| *ours))
            );
            self.sheet
                .missing(&join(&mut missing.iter().map(|(_, key)| *key)), &text);
        }
    }

    /// Flows that keep names and lead in a circle: MM2 copies their records round and round. causeway
    /// refuses such a topology unless records say where they come from.
    fn keep_from_coming_back(&mut self, flows: &mut [(&Flow, Settings)]) {
        let keeps: Vec<(String, String)> = flows
            .iter()
            .filter(|(_, settings)| {
                settings
                    .get(&("", "replication_policy"))
                    .is_some_and(|it| it == "identity")
            })
            .map(|(flow, _)| (flow.source.clone(), flow.target.clone()))
            .collect();
        for (flow, settings) in flows {
            let mut reached = BTreeSet::from([flow.target.as_str()]);
            while let Some((_, next)) = keeps
                .iter()
                .find(|(from, to)| reached.contains(from.as_str()) && !reached.contains(to.as_str()))
            {
                reached.insert(next);
            }
            let own = keeps
                .iter()
                .any(|(source, target)| *source == flow.source && *target == flow.target);
            if own && reached.contains(flow.source.as_str()) {
                settings.insert(("", "provenance"), "header".to_owned());
                let keys = ["replication.policy.class", "replication.policy.separator"];
                if let Some(id) = keys.iter().find_map(|key| flow.records.get(*key)) {
                    self.sheet.different(*id, "names that are kept in a circle would be copied round and round; provenance: header keeps records from coming back");
                }
            }
        }
    }

    /// One entry of `clusters:`.
    fn cluster(&mut self, cluster: &Cluster, named: &Named, input: &Input) -> String {
        let used = input
            .flows
            .iter()
            .find(|it| it.source == cluster.alias || it.target == cluster.alias);
        let Some(id) = cluster.bootstrap else {
            if let Some(flow) = used.filter(|_| input.form != Form::Dedicated) {
                let problem = self.sheet.problems.add(
                    flow.at,
                    format!("the addresses of cluster `{}` are missing", short(&cluster.alias)),
                );
                problem.hint = Some(match input.form {
                    Form::Strimzi => "write its `bootstrapServers`".into(),
                    _ => "write `source.cluster.bootstrap.servers` and `target.cluster.bootstrap.servers`"
                        .into(),
                });
            }
            return String::new();
        };
        if let Err(why) = servers(self.sheet.value(id))
            && !is_dynamic(self.sheet.value(id))
        {
            let at = self.sheet.at(id);
            self.sheet
                .problems
                .add(at, "the addresses must be host:port, separated by commas")
                .hint = Some(self.sheet.oddity(id).unwrap_or(why));
        }
        let addresses = self
            .sheet
            .text(id, &format!("{}_BOOTSTRAP_SERVERS", named.prefix), Holds::Servers);
        self.sheet
            .carried(id, format!("→ clusters.{}.bootstrap_servers", named.name));
        let mut text = format!(
            "  {}:\n    bootstrap_servers: {}\n",
            write::scalar(&named.name),
            write::scalar(&addresses)
        );
        let lines = security::security(cluster, &named.prefix, self.sheet);
        if !lines.is_empty() {
            text += "    security:\n";
            let mut inside = "";
            for (key, value) in &lines {
                let (section, key) = key.split_once('.').unwrap_or(("", key));
                if section != inside && !section.is_empty() {
                    text += &format!("      {section}:\n");
                }
                inside = section;
                let indent = if section.is_empty() { "" } else { "  " };
                text += &format!("      {indent}{key}: {}\n", write::scalar(value));
            }
        }
        for section in ["consumer", "producer"] {
            if let Some(tuning) = self.tuning.get(&(cluster.alias.clone(), section)) {
                text += &format!("    {section}:\n");
                for (name, (value, _)) in tuning {
                    text += &format!("      {name}: {}\n", write::scalar(value));
                }
            }
        }
        self.cluster_leftovers(cluster);
        text
    }

    fn cluster_leftovers(&mut self, cluster: &Cluster) {
        for (key, id) in &cluster.worker {
            if self.sheet.is_settled(*id) {
                continue;
            }
            if key == "exactly.once.source.support" {
                self.sheet.gone(*id, "no flow writes to this cluster");
            } else if key.ends_with("key.converter")
                || key.ends_with("value.converter")
                || key.ends_with("header.converter")
            {
                self.converter(*id);
            } else if worker_key(key) {
                self.sheet.gone(*id, WORKER_GONE);
            } else if leftover(key).is_some() || CONNECTOR.contains(&key.as_str()) {
                self.sheet.gone(*id, "MirrorMaker 2 does not read it at a cluster; it belongs to the top level or to `source->target.`");
            }
        }
        for (keys, text) in [
            (&cluster.consumer, "no flow reads from this cluster"),
            (&cluster.producer, "no flow writes to this cluster"),
            (
                &cluster.admin,
                "causeway's own administration needs no tuning; `client:` is for every client of a cluster",
            ),
        ] {
            for id in keys.values() {
                if !self.sheet.is_settled(*id) {
                    self.sheet.gone(*id, text);
                }
            }
        }
    }

    fn converter(&mut self, id: Id) {
        let bytes = self.sheet.value(id).trim().ends_with("ByteArrayConverter");
        match bytes {
            true => self
                .sheet
                .carried(id, "keys, values and headers are copied as bytes"),
            false => self.sheet.decide(
                id,
                Class::NoEquivalent,
                "keys, values and headers are copied as bytes, never converted",
            ),
        }
    }

    /// What no part of the translation has asked for.
    fn leftovers(&mut self, flow: &Flow) {
        let maps = [
            Some(&flow.records),
            flow.checkpoints.as_ref(),
            flow.heartbeats.as_ref(),
        ];
        for (number, keys) in maps.into_iter().enumerate() {
            for (key, id) in keys.into_iter().flatten() {
                if self.sheet.is_settled(*id) {
                    continue;
                }
                if 0 < number && SHARED.contains(&key.as_str()) {
                    self.sheet.gone(
                        *id,
                        "the source connector of the flow does not say so, and it counts",
                    );
                } else if 0 < number && key == "tasks.max" {
                    self.sheet.gone(*id, "one task of the flow does this work");
                } else if key.ends_with("key.converter")
                    || key.ends_with("value.converter")
                    || key.ends_with("header.converter")
                {
                    self.converter(*id);
                } else if let Some((default, text)) = plug_in(key) {
                    let is_default = self.sheet.value(*id).trim().rsplit('.').next() == Some(default);
                    match is_default {
                        true => self
                            .sheet
                            .carried(*id, "MirrorMaker 2's own class; causeway does what it does"),
                        false => self.sheet.decide(*id, Class::NoEquivalent, text),
                    }
                } else if let Some((decide, text)) = leftover(key) {
                    match decide {
                        true => self.sheet.decide(*id, Class::NoEquivalent, text),
                        false => self.sheet.gone(*id, text),
                    }
                } else if worker_key(key) {
                    self.sheet.gone(*id, WORKER_GONE);
                } else if CONNECTOR.contains(&key.as_str()) {
                    self.sheet.gone(
                        *id,
                        "this connector of MirrorMaker 2 does not read it, or another spelling of it counts",
                    );
                }
            }
        }
    }
}

/// Classes that MM2 lets users replace: the default one, and what a replacement means.
fn plug_in(key: &str) -> Option<(&'static str, &'static str)> {
    Some(match key {
        "topic.filter.class" => (
            "DefaultTopicFilter",
            "Java code cannot run in causeway: other topics would be copied; say it in `topics`",
        ),
        "group.filter.class" => (
            "DefaultGroupFilter",
            "Java code cannot run in causeway: other groups would be translated; say it in `groups`",
        ),
        "config.property.filter.class" => (
            "DefaultConfigPropertyFilter",
            "Java code cannot run in causeway: other settings would be copied; say it in config_sync.exclude",
        ),
        "forwarding.admin.class" => (
            "ForwardingAdmin",
            "Java code cannot run in causeway, which creates topics on the target itself; with config_sync.mode: report it only shows what is missing",
        ),
        _ => return None,
    })
}

/// Keys of MM2 that the translation reads; here they are of a connector that does not.
const CONNECTOR: &[&str] = &[
    "emit.checkpoints.enabled",
    "emit.checkpoints.interval.seconds",
    "emit.heartbeats.enabled",
    "emit.heartbeats.interval.seconds",
    "emit.offset-syncs.enabled",
    "groups",
    "groups.blacklist",
    "groups.exclude",
    "config.properties.blacklist",
    "config.properties.exclude",
    "heartbeats.replication.enabled",
    "offset-syncs.topic.location",
    "refresh.groups.enabled",
    "refresh.groups.interval.seconds",
    "refresh.topics.enabled",
    "refresh.topics.interval.seconds",
    "replication.factor",
    "replication.policy.class",
    "replication.policy.separator",
    "sync.group.offsets.enabled",
    "sync.group.offsets.interval.seconds",
    "sync.topic.acls.enabled",
    "sync.topic.configs.enabled",
    "sync.topic.configs.interval.seconds",
    "tasks.max",
    "topics",
    "topics.blacklist",
    "topics.exclude",
    "use.defaults.from",
];

/// Keys with no equivalent: whether that must not be overlooked, and why there is none.
fn leftover(key: &str) -> Option<(bool, &'static str)> {
    let starts = |beginnings: &[&str]| beginnings.iter().any(|it| key.starts_with(it));
    Some(match key {
        "sync.topic.acls.interval.seconds" => (false, "causeway copies no ACLs yet"),
        "offset.lag.max" => (
            false,
            "positions are translated exactly, by a map of every offset; nothing is spaced",
        ),
        "offset-syncs.topic.replication.factor"
        | "checkpoints.topic.replication.factor"
        | "heartbeats.topic.replication.factor" => (
            false,
            "causeway chooses the replication factor of the topics it creates for itself",
        ),
        "consumer.poll.timeout.ms" | "admin.timeout.ms" => (false, "causeway has no such wait"),
        "use.incremental.alter.configs" => (false, "settings are always changed one by one"),
        "add.source.alias.to.metrics"
        | "metric.names.formats"
        | "metric.reporters"
        | "auto.include.jmx.reporter" => (
            false,
            "causeway has Prometheus metrics of its own, see causeway reference metrics",
        ),
        "emit.heartbeats" | "emit.checkpoints" => (
            false,
            "MirrorMaker 2 does not know this key; the real one ends in `.enabled`",
        ),
        _ if is_security(key) => (
            false,
            "MirrorMaker 2 connects with what is said of each cluster; write it there",
        ),
        "bootstrap.servers" => (false, "each cluster has its own addresses"),
        "name" | "connector.class" | "clusters" => (false, "a name inside Kafka Connect"),
        "exactly.once.support" | "transaction.boundary" | "transaction.boundary.interval.ms" => (
            false,
            "a transaction closes when causeway has caught up, or after commit_interval",
        ),
        _ if starts(&["transforms", "predicates"]) => (
            true,
            "records are copied as they are: causeway changes and filters none",
        ),
        _ if starts(&["errors."]) => (
            false,
            "causeway drops no record: a partition that cannot go on stops and says why",
        ),
        _ if starts(&["topic.creation."]) => (false, "config sync creates topics as the source has them"),
        _ if starts(&[
            "producer.override.",
            "source.consumer.",
            "source.cluster.",
            "target.cluster.",
        ]) =>
        {
            (false, "say it at the cluster, or in the source connector")
        }
        _ if starts(&["producer.", "target.producer.", "source.producer."]) => (
            false,
            "MirrorMaker 2 uses it for offset syncs only; records are written with `producer.override.` or the worker's producer",
        ),
        _ if starts(&[
            "admin.",
            "source.admin.",
            "target.admin.",
            "target.consumer.",
            "consumer.",
        ]) =>
        {
            (
                false,
                "causeway's own clients for administration and state need no tuning; `client:` is for every client of a cluster",
            )
        }
        _ if starts(&["config.providers"]) => (
            false,
            "causeway takes secrets from the environment and from files",
        ),
        _ if starts(&["replication.policy."]) => (false, "an option of a class of Java"),
        "config.action.reload" | "header.converter" | "task.class" | "offsets.storage.topic" => {
            (false, WORKER_GONE)
        }
        _ => return None,
    })
}

fn worker_key(key: &str) -> bool {
    [
        "offset.",
        "offsets.",
        "config.storage.",
        "config.action.",
        "config.providers",
        "status.storage.",
        "group.id",
        "client.id",
        "listeners",
        "rest.",
        "admin.listeners",
        "plugin.",
        "task.",
        "worker.",
        "scheduled.rebalance.",
        "session.timeout",
        "heartbeat.interval",
        "rebalance.timeout",
        "connect.protocol",
        "connector.client.config.override.policy",
        "inter.worker.",
        "topic.tracking.",
        "topic.creation.",
        "exactly.once.source.support",
        "key.converter",
        "value.converter",
        "header.converter",
        "metrics.",
        "dedicated.mode.",
    ]
    .iter()
    .any(|it| key.starts_with(it))
}

fn client_gone(name: &str) -> String {
    match name {
        "poll.timeout.ms" => "causeway has no such wait".into(),
        "buffer.memory" => "set memory at the top of the config file".into(),
        "max.poll.records" => {
            "causeway takes what has arrived; memory at the top of the config file bounds it".into()
        }
        "max.request.size" => "the target topic decides how large a record may be, not the client".into(),
        "max.block.ms" => {
            "causeway waits for the target as long as it takes, and stops reading meanwhile".into()
        }
        "interceptor.classes"
        | "key.serializer"
        | "value.serializer"
        | "key.deserializer"
        | "value.deserializer"
        | "metric.reporters" => "Java code cannot run in causeway; records are copied as bytes".into(),
        "partitioner.class" => "records keep their partition".into(),
        "default.api.timeout.ms" => "causeway repeats what fails, with back-off".into(),
        _ => "librdkafka has no setting that means the same".into(),
    }
}

fn named<'a>(alias: &str, names: &'a [Named]) -> &'a str {
    names
        .iter()
        .find(|it| it.alias == alias)
        .map_or("", |it| it.name.as_str())
}

fn pair(flow: &Flow, names: &[Named]) -> String {
    format!("{}->{}", named(&flow.source, names), named(&flow.target, names))
}

/// The pattern whose flows are exactly these, and the keys that name its clusters.
fn shape(flows: &[(&Flow, Settings)], names: &[Named]) -> (&'static str, String) {
    let pairs: BTreeSet<(&str, &str)> = flows
        .iter()
        .map(|(flow, _)| (named(&flow.source, names), named(&flow.target, names)))
        .collect();
    let mut members: Vec<&str> = Vec::new();
    for named in names {
        if pairs
            .iter()
            .any(|(source, target)| *source == named.name || *target == named.name)
        {
            members.push(&named.name);
        }
    }
    if let (1, Some((source, target))) = (pairs.len(), pairs.first()) {
        let members = format!(
            "active: {}\nstandby: {}\n",
            write::scalar(source),
            write::scalar(target)
        );
        return ("active-standby", members);
    }
    let list = |members: &[&str]| write::list(&members.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>());
    if pairs.len() == members.len() * (members.len() - 1) {
        return ("active-active", format!("clusters: {}\n", list(&members)));
    }
    for hub in &members {
        let spokes: Vec<&str> = members.iter().filter(|it| *it != hub).copied().collect();
        let all = |into: bool| {
            spokes
                .iter()
                .all(|it| pairs.contains(&if into { (*it, *hub) } else { (*hub, *it) }))
        };
        let direction = match (all(true), all(false)) {
            (true, true) if pairs.len() == 2 * spokes.len() => "both",
            (true, false) if pairs.len() == spokes.len() => "in",
            (false, true) if pairs.len() == spokes.len() => "out",
            _ => continue,
        };
        let members = format!(
            "hub: {}\nspokes: {}\ndirection: {direction}\n",
            write::scalar(hub),
            list(&spokes)
        );
        return ("hub-and-spoke", members);
    }
    ("custom", String::new())
}

/// `replication:` with what all flows share, `flows:` with the rest.
fn flow_settings(flows: &[(&Flow, Settings)], shape: &str, names: &[Named]) -> String {
    let first = &flows[0].1;
    let shared: Settings = first
        .iter()
        .filter(|(key, value)| {
            flows
                .iter()
                .all(|(_, settings)| settings.get(*key) == Some(value))
        })
        .map(|(key, value)| (*key, value.clone()))
        .collect();
    let mut text = String::new();
    if !shared.is_empty() {
        text += &format!("replication:\n{}", write::settings(&shared, 2));
    }
    let mut own = String::new();
    for (flow, settings) in flows {
        let mut settings = settings.clone();
        settings.retain(|key, _| !shared.contains_key(key));
        let name = write::scalar(&pair(flow, names));
        if !settings.is_empty() {
            own += &format!("  {name}:\n{}", write::settings(&settings, 4));
        } else if shape == "custom" {
            own += &format!("  {name}: {{}}\n");
        }
    }
    if !own.is_empty() {
        text += &format!("flows:\n{own}");
    }
    text
}
