//! What our files hold, as YAML that a person would have written.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use serde_yaml::FlowSeq;

/// A value of our files.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Also a number or a word such as `true`.
    Text(String),
    /// Written in one line.
    List(Vec<String>),
    Map(Map),
}

/// Keys in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Map(Vec<(String, Value)>);

impl Map {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn push(&mut self, key: &str, value: impl Into<Value>) {
        self.0.push((key.to_owned(), value.into()));
    }

    /// A key of a section, `section.key`, or one beside the sections.
    pub fn put(&mut self, path: &str, value: impl Into<Value>) {
        let Some((section, key)) = path.split_once('.') else {
            return self.push(path, value);
        };
        if !self.0.iter().any(|(it, _)| it == section) {
            self.push(section, Map::default());
        }
        let section = self.0.iter_mut().find(|(it, _)| it == section);
        if let Some((_, Value::Map(inside))) = section {
            inside.push(key, value);
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(items: Vec<String>) -> Self {
        Self::List(items)
    }
}

impl From<Map> for Value {
    fn from(map: Map) -> Self {
        Self::Map(map)
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            // Our reader takes the text either way; without quotes it looks like what it is.
            Self::Text(text) => match (text.parse::<bool>(), text.parse::<i64>()) {
                (Ok(word), _) => to.serialize_bool(word),
                (_, Ok(number)) if number.to_string() == *text => to.serialize_i64(number),
                _ => to.serialize_str(text),
            },
            Self::List(items) => FlowSeq(items).serialize(to),
            Self::Map(map) => map.serialize(to),
        }
    }
}

impl Serialize for Map {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(key, value)| (key, value)))
    }
}

/// The lines of a file, or of a part of it.
pub fn yaml(map: &Map) -> String {
    // A long or strange text stays on its line.
    let options = serde_yaml::ser_options! { prefer_block_scalars: false };
    serde_yaml::to_string_with_options(map, options).expect("texts have a form in YAML")
}

/// A text as a comment holds it.
pub fn one_line(text: &str) -> String {
    let strange = ['\u{2028}', '\u{2029}', '\u{feff}', '\u{fffe}', '\u{ffff}'];
    text.replace(|c: char| c.is_control() || strange.contains(&c), " ")
}

/// Keys of `replication:`, dotted where they are nested, with the values to write.
pub type Settings = BTreeMap<&'static str, Value>;

/// `replication:` or one of `flows:`, of the settings that `takes` wants, in the order in which a person would
/// write them.
pub fn settings(all: &Settings, takes: impl Fn(&str, &Value) -> bool) -> Map {
    let order = [
        "topics",
        "groups",
        "",
        "config_sync",
        "offset_sync",
        "heartbeats",
        "mirror_maker",
    ];
    let first = ["include", "interval", "enabled", "replication_policy"];
    let mut sorted: Vec<_> = all.iter().filter(|(path, value)| takes(path, value)).collect();
    sorted.sort_by_key(|(path, _)| {
        let (section, key) = path.split_once('.').unwrap_or(("", path));
        (order.iter().position(|it| *it == section), !first.contains(&key))
    });
    let mut map = Map::default();
    for (path, value) in sorted {
        map.put(path, value.clone());
    }
    map
}
