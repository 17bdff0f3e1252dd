//! MirrorMaker 2's configuration → causeway's two files, and what became of every key. Text in, text out.
//!
//! A reader (`dedicated`, `strimzi`, `connectors`) turns its form into the same intermediate: clusters and
//! flows, whose settings point at the keys they were written as. `translate` turns that into the files and
//! gives every key its verdict; `java_pattern` knows what Java's expressions are in ours. No value of a key that may hold a secret reaches a text.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::read::{NOT_UTF8, short};
use crate::config::yaml::{Entry, Kind as Yaml, Node};
use crate::config::{At, Problem, Problems, yaml};

mod connectors;
mod dedicated;
mod java_pattern;
mod properties;
mod security;
mod strimzi;
mod translate;
mod value;
mod write;

use properties::{Property, Surprise};

#[cfg(test)]
mod tests;

/// What an import gives.
#[derive(Debug)]
pub struct Import {
    /// In which form the file was.
    pub form: Form,
    /// Name of the topology, and of both files.
    pub name: String,
    /// Text of the config file.
    pub config: String,
    /// Text of the topology file.
    pub topology: String,
    /// `active-standby: a->b`
    pub summary: String,
    /// Every key of the input once, in the order of the file, then MM2's defaults that differ.
    pub items: Vec<Item>,
    /// Environment variables that the config file expects.
    pub variables: Vec<Variable>,
}

/// How MM2 was run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `connect-mirror-maker.sh mm2.properties`
    Dedicated,
    /// A Strimzi `KafkaMirrorMaker2` resource.
    Strimzi,
    /// Connectors on a Connect cluster: as JSON, as Strimzi's `KafkaConnector`, or as properties.
    Connectors,
}

impl Form {
    /// In words, for reports.
    pub fn as_str(self) -> &'static str {
        match self {
            Form::Dedicated => "mm2.properties of a dedicated MirrorMaker 2",
            Form::Strimzi => "Strimzi KafkaMirrorMaker2 resource",
            Form::Connectors => "connectors of MirrorMaker 2 on a Connect cluster",
        }
    }
}

/// What became of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The key as written, without its value.
    pub key: String,
    /// Where it stands; `None` for what nobody wrote: a default of MM2, or what only its workers know.
    pub at: Option<At>,
    /// What became of it.
    pub class: Class,
    /// Whether data, names or access would differ until somebody decides.
    pub decide: bool,
    /// Where it went, or why not.
    pub text: String,
}

/// The three things that can become of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// It means the same in causeway.
    Carried,
    /// It is there, and behaves differently in a way that the text says.
    Different,
    /// It is gone; the text says why.
    NoEquivalent,
}

impl Class {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Carried => "carried_over",
            Class::Different => "carried_over_with_a_difference",
            Class::NoEquivalent => "no_equivalent",
        }
    }
}

/// An environment variable that the written config file refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What it must hold, and where that was.
    pub what: String,
    /// What kind of value it is.
    pub holds: Holds,
}

/// What an environment variable stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// A secret or another text.
    Text,
    /// The path of a file.
    File,
    /// `host:port,…`
    Servers,
}

impl Holds {
    /// The word used in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Holds::Text => "text",
            Holds::File => "path",
            Holds::Servers => "addresses",
        }
    }
}

/// Reads MM2's configuration in any of its forms and writes causeway's.
///
/// `path` names the file in problems. The form is recognised by the content.
///
/// # Errors
/// Every mistake with its place, when the text is none of the forms or holds what MM2 itself would refuse.
pub fn mm2(path: &Path, content: &[u8]) -> Result<Import, Vec<Problem>> {
    let mut sheet = Sheet::new(path);
    let import = read(content, &mut sheet).and_then(|input| translate::translate(input, &mut sheet));
    let mut problems = sheet.problems.into_vec();
    problems.sort();
    problems.dedup();
    match import {
        Some(import) if problems.is_empty() => Ok(import),
        _ => Err(problems),
    }
}

fn read(content: &[u8], sheet: &mut Sheet) -> Option<Input> {
    let content = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    let input = read_form(content, sheet)?;
    let aliases = input.clusters.iter().map(|it| it.alias.as_str());
    match aliases.flat_map(value::variables).next() {
        Some(_) => {
            sheet.unfilled();
            None
        }
        None => Some(input),
    }
}

fn read_form(content: &[u8], sheet: &mut Sheet) -> Option<Input> {
    let text = String::from_utf8_lossy(content);
    let utf8 = |sheet: &mut Sheet| {
        let text = std::str::from_utf8(content);
        text.inspect_err(|_| {
            sheet.problems.add(At::START, NOT_UTF8);
        })
        .ok()
    };
    let json = text.trim_start().starts_with(['{', '[']);
    if json {
        // A tab may stand between the words of JSON, where our reader of YAML does not expect it. Inside
        // the strings of JSON there is none.
        let tree = yaml::parse(&utf8(sheet)?.replace('\t', " "), &mut sheet.problems)?;
        return match is_resource(&tree) {
            true => resources(&[tree], sheet),
            false => connectors::read(&tree, sheet),
        };
    }
    let begins = |word: &str| {
        text.lines().any(|line| {
            line.strip_prefix(word)
                .is_some_and(|it| it.trim_start().starts_with(':'))
        })
    };
    if begins("kind") && begins("apiVersion") {
        let documents = yaml::documents(utf8(sheet)?, &mut sheet.problems)?;
        return resources(&documents, sheet);
    }
    let properties = properties::parse(content, &mut sheet.problems);
    let keys = sheet.properties(properties);
    match keys.contains_key("connector.class") {
        true => connectors::read_properties(keys, sheet),
        false => dedicated::read(keys, sheet),
    }
}

/// What a file of Kubernetes resources holds of MM2: several documents, and lists as `kubectl get` gives them.
fn resources(documents: &[Node], sheet: &mut Sheet) -> Option<Input> {
    let mut found: Vec<(&Entry, &[Entry])> = Vec::new();
    let mut other: Vec<&Entry> = Vec::new();
    let mut rest: Vec<&Node> = documents.iter().rev().collect();
    while let Some(node) = rest.pop() {
        let Yaml::Map(entries) = &node.kind else {
            continue;
        };
        let items = entries
            .iter()
            .find(|it| it.key == "items")
            .map(|it| &it.value.kind);
        match (entries.iter().find(|it| it.key == "kind"), items) {
            (Some(kind), Some(Yaml::List(items))) if word(kind).ends_with("List") => {
                rest.extend(items.iter().rev());
                other.extend(entries.iter().filter(|it| it.key != "items"));
            }
            (Some(kind), _) => found.push((kind, entries)),
            (None, _) => other.extend(entries),
        }
    }
    let of = |name: &str| {
        let found = found.iter().filter(move |(kind, _)| word(kind) == name);
        found.map(|(kind, entries)| (*kind, *entries)).collect::<Vec<_>>()
    };
    let (mirrors, connectors) = (of("KafkaMirrorMaker2"), of("KafkaConnector"));
    let read = match mirrors.is_empty() {
        true => "KafkaConnector",
        false => "KafkaMirrorMaker2",
    };
    other.extend(
        found
            .iter()
            .filter(|(kind, _)| word(kind) != read)
            .flat_map(|(_, entries)| *entries),
    );
    for entry in other {
        let id = sheet.add(&entry.key, "", entry.key_at);
        sheet.gone(id, "of another resource than the one that is read");
    }
    match (&mirrors[..], &connectors[..]) {
        ([(_, entries)], _) => strimzi::read(entries, sheet),
        ([(first, _), (second, _), ..], _) => {
            let line = first.key_at.line;
            sheet
                .problems
                .add(second.key_at, "a second KafkaMirrorMaker2")
                .hint = Some(format!(
                "the first is on line {line}; give each by itself, for each becomes a topology"
            ));
            None
        }
        ([], []) => {
            let kinds: Vec<String> = found
                .iter()
                .map(|(kind, _)| format!("`{}`", short(word(kind))))
                .collect();
            let at = found.first().map_or(At::START, |(kind, _)| kind.value.at);
            sheet
                .problems
                .add(
                    at,
                    format!(
                        "the kind is {}, not KafkaMirrorMaker2 or KafkaConnector",
                        kinds.join(", ")
                    ),
                )
                .hint = Some("give a KafkaMirrorMaker2, or the KafkaConnectors of MirrorMaker 2; what a ConfigMap holds, as a file of its own".into());
            None
        }
        ([], _) => {
            let resources: Vec<&[Entry]> = connectors.iter().map(|(_, entries)| *entries).collect();
            connectors::read_resources(&resources, sheet)
        }
    }
}

/// The text of a value, if it is one.
fn word(entry: &Entry) -> &str {
    match &entry.value.kind {
        Yaml::Scalar(text) => text,
        _ => "",
    }
}

fn is_resource(tree: &Node) -> bool {
    matches!(&tree.kind, Yaml::Map(entries) if entries.iter().any(|e| e.key == "apiVersion") && entries.iter().any(|e| e.key == "kind"))
}

/// A key as it was written.
struct Setting {
    /// The whole key, or the path to it.
    key: String,
    /// What it is set to; may be a secret.
    value: String,
    at: At,
}

/// Index of a [`Setting`].
type Id = usize;

/// MM2's keys and the settings that give them.
type Keys = BTreeMap<String, Id>;

/// What the three forms have in common.
struct Input {
    form: Form,
    /// A name for the topology, if the input has one.
    name: Option<String>,
    clusters: Vec<Cluster>,
    flows: Vec<Flow>,
}

/// One cluster of the input.
#[derive(Default)]
struct Cluster {
    alias: String,
    bootstrap: Option<Id>,
    /// `security.protocol`, `sasl.*`, `ssl.*`
    security: Keys,
    /// Strimzi's `tls` and `authentication`, by their paths below the cluster.
    strimzi: Keys,
    /// Java client settings, without their prefix.
    consumer: Keys,
    producer: Keys,
    admin: Keys,
    /// Settings of the Connect worker whose target this cluster is.
    worker: Keys,
}

/// One direction between two clusters, by their aliases. A connector that is absent does not run.
struct Flow {
    source: String,
    target: String,
    /// The alias that MM2's connectors have of the source: in the names of copies, and in stored positions.
    mm2_source: String,
    at: At,
    records: Keys,
    checkpoints: Option<Keys>,
    heartbeats: Option<Keys>,
}

/// The input's keys, and what is said about each.
struct Sheet {
    problems: Problems,
    settings: Vec<Setting>,
    verdicts: Vec<Option<Verdict>>,
    /// Settings that another one replaces.
    shadows: Vec<(Id, Id)>,
    /// Why a setting has no effect in some place; counts when nobody else says anything of it.
    idle: BTreeMap<Id, String>,
    /// Settings that say once more what another says.
    repeats: Vec<(Id, Id)>,
    defaults: Vec<Item>,
    variables: Vec<Variable>,
    /// `config.providers`: short name and class.
    providers: BTreeMap<String, String>,
    /// Where the format of the file reads something else than most people do.
    surprises: BTreeMap<Id, Vec<Surprise>>,
}

struct Verdict {
    class: Class,
    decide: bool,
    texts: Vec<String>,
}

impl Sheet {
    fn new(path: &Path) -> Self {
        Self {
            problems: Problems::new(path),
            settings: Vec::new(),
            verdicts: Vec::new(),
            shadows: Vec::new(),
            idle: BTreeMap::new(),
            repeats: Vec::new(),
            defaults: Vec::new(),
            variables: Vec::new(),
            providers: BTreeMap::new(),
            surprises: BTreeMap::new(),
        }
    }

    /// What explains that a value is not what it should be: variables that nobody has filled in, and how the
    /// format reads the line.
    fn oddity(&self, id: Id) -> Option<String> {
        let unfilled = (!value::variables(self.value(id)).is_empty()).then_some(value::UNFILLED.to_owned());
        let surprises = self.surprises.get(&id).into_iter().flatten();
        let surprises = surprises.map(|it| it.text(&clean(&self.settings[id].key)));
        let texts: Vec<String> = unfilled.into_iter().chain(surprises).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    fn reads_otherwise(&self, id: Id, surprise: Surprise) -> bool {
        self.surprises.get(&id).is_some_and(|it| it.contains(&surprise))
    }

    /// Shows every variable of a template, in keys and values, where one stands in the way.
    fn unfilled(&mut self) {
        for setting in &self.settings {
            let mut names = value::variables(&setting.key);
            names.extend(value::variables(&setting.value));
            if !names.is_empty() {
                let text = format!("{} is not filled in", names.join(", "));
                self.problems.add(setting.at, text).hint = Some(value::UNFILLED.into());
            }
        }
    }

    fn file(&self) -> PathBuf {
        self.problems.file().to_owned()
    }

    fn add(&mut self, key: impl Into<String>, value: impl Into<String>, at: At) -> Id {
        self.settings.push(Setting {
            key: key.into(),
            value: value.into(),
            at,
        });
        self.verdicts.push(None);
        self.settings.len() - 1
    }

    /// The keys of a properties file. Java keeps the last of two equal ones.
    fn properties(&mut self, properties: Vec<Property>) -> Keys {
        let mut keys = Keys::new();
        for Property {
            key,
            value,
            at,
            surprises,
        } in properties
        {
            let id = self.add(&key, value, at);
            self.surprises.insert(id, surprises);
            self.put(&mut keys, &key, id);
        }
        keys
    }

    fn value(&self, id: Id) -> &str {
        &self.settings[id].value
    }

    fn at(&self, id: Id) -> At {
        self.settings[id].at
    }

    /// Sets a key of a map, over what is there.
    fn put(&mut self, keys: &mut Keys, key: &str, id: Id) {
        if let Some(below) = keys.insert(key.to_owned(), id)
            && below != id
        {
            self.shadows.push((below, id));
        }
    }

    /// Sets a key that several places may give, if all give the same.
    fn agree(&mut self, keys: &mut Keys, key: &str, id: Id) {
        match keys.get(key) {
            None => {
                keys.insert(key.to_owned(), id);
            }
            Some(first) => self.same(*first, id),
        }
    }

    /// Says that `id` is about the same as `first`, which counts.
    fn same(&mut self, first: Id, id: Id) {
        if first == id {
        } else if self.value(first) == self.value(id) {
            self.repeats.push((id, first));
        } else {
            let line = self.at(first).line;
            self.decide(
                id,
                Class::NoEquivalent,
                format!("line {line} gives another value, which was taken"),
            );
        }
    }

    fn carried(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::Carried, false, text.into());
    }

    fn different(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::Different, false, text.into());
    }

    fn gone(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::NoEquivalent, false, text.into());
    }

    /// For what has no effect in one place, and may have one in another.
    fn idle(&mut self, id: Id, text: impl Into<String>) {
        self.idle.entry(id).or_insert_with(|| text.into());
    }

    /// For what must not be overlooked: data, names or access differ.
    fn decide(&mut self, id: Id, class: Class, text: impl Into<String>) {
        self.mark(id, class, true, text.into());
    }

    /// The worst that is said of a key counts, and each thing is said once.
    fn mark(&mut self, id: Id, class: Class, decide: bool, text: String) {
        match &mut self.verdicts[id] {
            None => {
                self.verdicts[id] = Some(Verdict {
                    class,
                    decide,
                    texts: vec![text],
                });
            }
            Some(verdict) => {
                verdict.class = verdict.class.max(class);
                verdict.decide |= decide;
                if !verdict.texts.contains(&text) {
                    verdict.texts.push(text);
                }
            }
        }
    }

    fn is_marked(&self, id: Id) -> bool {
        self.verdicts[id].is_some()
    }

    /// Whether something is known of a setting, be it that it has no effect.
    fn is_settled(&self, id: Id) -> bool {
        self.is_marked(id) || self.idle.contains_key(&id) || self.repeats.iter().any(|(it, _)| *it == id)
    }

    /// A default of MM2 that nobody wrote and that causeway does not share.
    fn default(&mut self, key: &str, text: &str) {
        self.unwritten(key, Class::Different, false, text);
    }

    /// For what the input cannot say, and somebody must.
    fn missing(&mut self, key: &str, text: &str) {
        self.unwritten(key, Class::NoEquivalent, true, text);
    }

    fn unwritten(&mut self, key: &str, class: Class, decide: bool, text: &str) {
        let item = Item {
            key: key.to_owned(),
            at: None,
            class,
            decide,
            text: text.to_owned(),
        };
        if !self.defaults.contains(&item) {
            self.defaults.push(item);
        }
    }

    fn variable(&mut self, name: &str, what: String, holds: Holds) {
        if !self.variables.iter().any(|it| it.name == name) {
            self.variables.push(Variable {
                name: name.to_owned(),
                what,
                holds,
            });
        }
    }

    /// Every key once. What has no verdict by now is overridden everywhere, or unknown.
    fn items(&mut self) -> Vec<Item> {
        for (id, first) in std::mem::take(&mut self.repeats) {
            if let Some(Verdict { class, decide, texts }) = &self.verdicts[first] {
                let (class, decide, text) = (*class, *decide, texts.join("; "));
                self.mark(id, class, decide, text);
            }
        }
        for (id, text) in std::mem::take(&mut self.idle) {
            if !self.is_marked(id) {
                self.gone(id, text);
            }
        }
        for (id, surprises) in std::mem::take(&mut self.surprises) {
            let key = clean(&self.settings[id].key);
            let class = self.verdicts[id].as_ref().map(|it| it.class);
            let counts = class.is_some_and(|it| it != Class::NoEquivalent);
            for surprise in surprises {
                match (surprise, class) {
                    // A key that means something as it was read was meant so.
                    (Surprise::KeyEndsAtBlank, _) if counts => {}
                    (Surprise::KeyEndsAtBlank, _) => {
                        self.decide(id, Class::NoEquivalent, surprise.text(&key))
                    }
                    (_, None) => {}
                    (_, Some(class)) if !counts || !surprise.misleads() => {
                        self.mark(id, class, false, surprise.text(&key));
                    }
                    _ => self.decide(id, Class::Different, surprise.text(&key)),
                }
            }
        }
        for (below, above) in std::mem::take(&mut self.shadows) {
            if !self.is_marked(below) {
                let line = self.at(above).line;
                self.gone(below, format!("has no effect: line {line} overrides it"));
            }
        }
        let settings = self.settings.iter().zip(&self.verdicts);
        let mut items: Vec<Item> = settings
            .map(|(setting, verdict)| {
                let (class, decide, text) = match verdict {
                    Some(verdict) => (verdict.class, verdict.decide, verdict.texts.join("; ")),
                    None => (
                        Class::NoEquivalent,
                        false,
                        "neither MirrorMaker 2 nor causeway knows this key".to_owned(),
                    ),
                };
                Item {
                    key: clean(&setting.key),
                    at: Some(setting.at),
                    class,
                    decide,
                    text,
                }
            })
            .collect();
        items.sort_by_key(|item| item.at);
        items.append(&mut self.defaults);
        items
    }
}

/// A key from a file, as one line of text.
fn clean(key: &str) -> String {
    key.chars()
        .take(250)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

impl fmt::Debug for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.key, self.at)
    }
}

/// Keys that say how to reach a cluster rather than what to do with it (Kafka's `CLIENT_CONFIG_DEF` of
/// `MirrorClientConfig`).
fn is_security(key: &str) -> bool {
    key.starts_with("ssl.") || key.starts_with("sasl.") || key.starts_with("security.")
}

/// `consumer.`, `producer.` or `admin.`, and what follows.
fn client_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('.')
        .filter(|(client, _)| ["consumer", "producer", "admin"].contains(client))
}
