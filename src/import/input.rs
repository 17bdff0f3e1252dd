//! What the readers give and `translate` takes: clusters and flows, whose settings point at the keys they were written
//! as; and the sheet on which every key gets its verdict.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use super::properties::{Property, Surprise};
use super::template;
use super::verdicts::{Class, Form, Holds, Item, Variable};
use crate::config::yaml::{Entry, Kind as Yaml};
use crate::config::{At, Problems};

/// A key as it was written.
pub(super) struct Setting {
    /// The whole key, or the path to it.
    pub(super) key: String,
    /// What it is set to; may be a secret.
    pub(super) value: String,
    pub(super) at: At,
}

/// Index of a [`Setting`].
pub(super) type Id = usize;

/// MM2's keys and the settings that give them.
pub(super) type Keys = BTreeMap<String, Id>;

/// What the three forms have in common.
pub(super) struct Input {
    pub(super) form: Form,
    /// A name for the topology, if the input has one.
    pub(super) name: Option<String>,
    pub(super) clusters: Vec<Cluster>,
    pub(super) flows: Vec<Flow>,
}

/// One cluster of the input.
#[derive(Default)]
pub(super) struct Cluster {
    pub(super) alias: String,
    pub(super) bootstrap: Option<Id>,
    /// `security.protocol`, `sasl.*`, `ssl.*`
    pub(super) security: Keys,
    /// Strimzi's `tls` and `authentication`, by their paths below the cluster.
    pub(super) strimzi: Keys,
    /// Java client settings, without their prefix.
    pub(super) consumer: Keys,
    pub(super) producer: Keys,
    pub(super) admin: Keys,
    /// Settings of the Connect worker whose target this cluster is.
    pub(super) worker: Keys,
}

/// One direction between two clusters, by their aliases. A connector that is absent does not run.
pub(super) struct Flow {
    pub(super) source: String,
    pub(super) target: String,
    /// The alias that MM2's connectors have of the source: in the names of copies, and in stored positions.
    pub(super) mm2_source: String,
    pub(super) at: At,
    pub(super) records: Keys,
    pub(super) checkpoints: Option<Keys>,
    pub(super) heartbeats: Option<Keys>,
}

impl Flow {
    /// The keys of the connectors that run, the source connector's first.
    pub(super) fn connectors(&self) -> impl Iterator<Item = &Keys> {
        let others = self.checkpoints.iter().chain(&self.heartbeats);
        std::iter::once(&self.records).chain(others)
    }
}

/// The input's keys, and what is said about each.
pub(super) struct Sheet {
    pub(super) problems: Problems,
    pub(super) settings: Vec<Setting>,
    pub(super) verdicts: Vec<Option<Verdict>>,
    /// Settings that another one replaces.
    pub(super) shadows: Vec<(Id, Id)>,
    /// Why a setting has no effect in some place; counts when nobody else says anything of it.
    pub(super) idle: BTreeMap<Id, String>,
    /// Settings that say once more what another says.
    pub(super) repeats: Vec<(Id, Id)>,
    pub(super) defaults: Vec<Item>,
    pub(super) variables: Vec<Variable>,
    /// `config.providers`: short name and class.
    pub(super) providers: BTreeMap<String, String>,
    /// Where the format of the file reads something else than most people do.
    pub(super) surprises: BTreeMap<Id, Vec<Surprise>>,
}

pub(super) struct Verdict {
    pub(super) class: Class,
    pub(super) decide: bool,
    pub(super) texts: Vec<String>,
}

impl Sheet {
    pub(super) fn new(path: &Path) -> Self {
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
    pub(super) fn oddity(&self, id: Id) -> Option<String> {
        let unfilled =
            (!template::variables(self.value(id)).is_empty()).then_some(template::UNFILLED.to_owned());
        let surprises = self.surprises.get(&id).into_iter().flatten();
        let surprises = surprises.map(|it| it.text(&clean(&self.settings[id].key)));
        let texts: Vec<String> = unfilled.into_iter().chain(surprises).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }

    pub(super) fn reads_otherwise(&self, id: Id, surprise: Surprise) -> bool {
        self.surprises.get(&id).is_some_and(|it| it.contains(&surprise))
    }

    /// Shows every variable of a template, in keys and values, where one stands in the way.
    pub(super) fn unfilled(&mut self) {
        for setting in &self.settings {
            let mut names = template::variables(&setting.key);
            names.extend(template::variables(&setting.value));
            if !names.is_empty() {
                let text = format!("{} is not filled in", names.join(", "));
                self.problems.add(setting.at, text).hint = Some(template::UNFILLED.into());
            }
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.problems.file().to_owned()
    }

    pub(super) fn add(&mut self, key: impl Into<String>, value: impl Into<String>, at: At) -> Id {
        self.settings.push(Setting {
            key: key.into(),
            value: value.into(),
            at,
        });
        self.verdicts.push(None);
        self.settings.len() - 1
    }

    /// A key whose value, whatever it holds, is spoken of as a whole.
    pub(super) fn leaf(&mut self, entry: &Entry, path: &str) -> Id {
        self.add(format!("{path}{}", entry.key), word(entry).trim(), entry.key_at)
    }

    /// The keys of a properties file. Java keeps the last of two equal ones.
    pub(super) fn properties(&mut self, properties: Vec<Property>) -> Keys {
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

    pub(super) fn value(&self, id: Id) -> &str {
        &self.settings[id].value
    }

    pub(super) fn at(&self, id: Id) -> At {
        self.settings[id].at
    }

    /// Sets a key of a map, over what is there.
    pub(super) fn put(&mut self, keys: &mut Keys, key: &str, id: Id) {
        if let Some(below) = keys.insert(key.to_owned(), id)
            && below != id
        {
            self.shadows.push((below, id));
        }
    }

    /// Sets a key that several places may give, if all give the same.
    pub(super) fn agree(&mut self, keys: &mut Keys, key: &str, id: Id) {
        match keys.get(key) {
            None => {
                keys.insert(key.to_owned(), id);
            }
            Some(first) => self.same(*first, id),
        }
    }

    /// Says that `id` is about the same as `first`, which counts.
    pub(super) fn same(&mut self, first: Id, id: Id) {
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

    pub(super) fn carried(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::Carried, false, text.into());
    }

    pub(super) fn different(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::Different, false, text.into());
    }

    pub(super) fn gone(&mut self, id: Id, text: impl Into<String>) {
        self.mark(id, Class::NoEquivalent, false, text.into());
    }

    /// For what has no effect in one place, and may have one in another.
    pub(super) fn idle(&mut self, id: Id, text: impl Into<String>) {
        self.idle.entry(id).or_insert_with(|| text.into());
    }

    /// For what must not be overlooked: data, names or access differ.
    pub(super) fn decide(&mut self, id: Id, class: Class, text: impl Into<String>) {
        self.mark(id, class, true, text.into());
    }

    /// The worst that is said of a key counts, and each thing is said once.
    pub(super) fn mark(&mut self, id: Id, class: Class, decide: bool, text: String) {
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

    pub(super) fn is_marked(&self, id: Id) -> bool {
        self.verdicts[id].is_some()
    }

    /// Whether something is known of a setting, be it that it has no effect.
    pub(super) fn is_settled(&self, id: Id) -> bool {
        self.is_marked(id) || self.idle.contains_key(&id) || self.repeats.iter().any(|(it, _)| *it == id)
    }

    /// A default of MM2 that nobody wrote and that causeway does not share.
    pub(super) fn default(&mut self, key: &str, text: &str) {
        self.unwritten(key, Class::Different, false, text);
    }

    /// For what the input cannot say, and somebody must.
    pub(super) fn missing(&mut self, key: &str, text: &str) {
        self.unwritten(key, Class::NoEquivalent, true, text);
    }

    pub(super) fn unwritten(&mut self, key: &str, class: Class, decide: bool, text: &str) {
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

    pub(super) fn variable(&mut self, name: &str, what: String, holds: Holds) {
        if !self.variables.iter().any(|it| it.name == name) {
            self.variables.push(Variable {
                name: name.to_owned(),
                what,
                holds,
            });
        }
    }

    /// Every key once. What has no verdict by now is overridden everywhere, or unknown.
    pub(super) fn items(&mut self) -> Vec<Item> {
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

/// The text of a value, if it is one.
pub(super) fn word(entry: &Entry) -> &str {
    match &entry.value.kind {
        Yaml::Scalar(text) => text,
        _ => "",
    }
}

/// A key from a file, as one line of text.
pub(super) fn clean(key: &str) -> String {
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
pub(super) fn is_security(key: &str) -> bool {
    key.starts_with("ssl.") || key.starts_with("sasl.") || key.starts_with("security.")
}

/// `consumer.`, `producer.` or `admin.`, and what follows.
pub(super) fn client_key(key: &str) -> Option<(&str, &str)> {
    key.split_once('.')
        .filter(|(client, _)| ["consumer", "producer", "admin"].contains(client))
}
