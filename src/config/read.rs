//! A tree held against the table of keys: what comes out has the right keys with the right kinds of
//! values, and everything else is a problem.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::problem::{At, Problems, short, suggest};
use super::schema::{Key, Kind, Presence};
use super::value;
use super::yaml::{Entry, Kind as Yaml, Node};
use crate::kafka::client::Secret;

/// Largest file read, secrets included.
const MAX_FILE: u64 = 4 << 20;

/// Something of the right kind, and where it stood.
#[derive(Clone, Debug)]
pub struct Value {
    /// Where it stood: a scalar itself, else the key before it.
    pub at: At,
    /// What it is.
    pub data: Data,
}

/// A checked value.
#[derive(Clone, Debug)]
pub enum Data {
    /// Text, name, one of some words, path, server list.
    Text(String),
    /// Integer or bytes.
    Number(u64),
    /// A duration.
    Duration(Duration),
    /// Yes or no.
    Boolean(bool),
    /// Milliseconds since the epoch.
    Timestamp(i64),
    /// Where to listen.
    Address(SocketAddr),
    /// Never shown.
    Secret(Secret),
    /// As written, and compiled to match whole names.
    Pattern(String, Regex),
    /// Items that are fine; the others are reported.
    List(Vec<Value>),
    /// Known keys.
    Section(Section),
    /// Free keys: name, its place, value.
    Entries(Vec<(String, At, Value)>),
    /// librdkafka properties.
    Properties(Vec<Property>),
    /// Reported already.
    Invalid,
}

/// One pass-through property.
#[derive(Clone, Debug)]
pub struct Property {
    /// Its name in librdkafka.
    pub name: String,
    /// Where the name stands.
    pub at: At,
    /// The value.
    pub value: PropertyValue,
}

/// The value of a pass-through property; it may be a secret.
#[derive(Clone)]
pub struct PropertyValue {
    pub text: String,
    /// Whether it was written in the file as it is.
    pub literal: bool,
}

impl std::fmt::Debug for PropertyValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[secret]")
    }
}

/// A mapping with known keys.
#[derive(Clone, Debug)]
pub struct Section {
    /// The key it stands under.
    pub at: At,
    table: &'static [Key],
    values: BTreeMap<&'static str, Value>,
}

impl Section {
    /// A section without a word in it.
    pub fn empty(table: &'static [Key], at: At) -> Self {
        Self {
            at,
            table,
            values: BTreeMap::new(),
        }
    }

    /// The value of a key, written or by default.
    pub fn get(&self, key: &str) -> Option<&Value> {
        debug_assert!(self.table.iter().any(|k| k.name == key), "{key}");
        self.values.get(key)
    }

    /// Takes a value out.
    pub fn take(&mut self, key: &str) -> Option<Value> {
        self.values.remove(key)
    }

    /// Where a key stands, else where the section does.
    pub fn place(&self, key: &str) -> At {
        self.get(key).map_or(self.at, |v| v.at)
    }

    /// Text of any kind.
    pub fn text(&self, key: &str) -> Option<&str> {
        match &self.get(key)?.data {
            Data::Text(text) => Some(text),
            _ => None,
        }
    }

    /// An integer or bytes.
    pub fn number(&self, key: &str) -> Option<u64> {
        match self.get(key)?.data {
            Data::Number(number) => Some(number),
            _ => None,
        }
    }

    /// A duration.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        match self.get(key)?.data {
            Data::Duration(duration) => Some(duration),
            _ => None,
        }
    }

    /// Whether something is wanted.
    pub fn boolean(&self, key: &str) -> Option<bool> {
        match self.get(key)?.data {
            Data::Boolean(boolean) => Some(boolean),
            _ => None,
        }
    }

    /// A secret.
    pub fn secret(&self, key: &str) -> Option<&Secret> {
        match &self.get(key)?.data {
            Data::Secret(secret) => Some(secret),
            _ => None,
        }
    }

    /// The items of a list; none when it is absent.
    pub fn list(&self, key: &str) -> &[Value] {
        match self.get(key).map(|v| &v.data) {
            Some(Data::List(items)) => items,
            _ => &[],
        }
    }

    /// A section inside this one.
    pub fn section(&self, key: &str) -> Option<&Section> {
        match &self.get(key)?.data {
            Data::Section(section) => Some(section),
            _ => None,
        }
    }

    /// Lays `over` on top, key by key, sections within sections.
    pub fn merge(&mut self, over: Section) {
        for (name, value) in over.values {
            match (self.values.get_mut(name).map(|v| &mut v.data), value) {
                (
                    Some(Data::Section(below)),
                    Value {
                        data: Data::Section(above),
                        ..
                    },
                ) => below.merge(above),
                (_, value) => {
                    self.values.insert(name, value);
                }
            }
        }
    }

    /// Fills in defaults and reports what is required and absent, in sections inside too. An absent
    /// section appears when nothing in it is required.
    pub fn complete(&mut self, problems: &mut Problems) {
        for key in self.table {
            let at = self.at;
            match (self.values.get_mut(key.name), key.presence, &key.kind) {
                (Some(value), ..) => complete_value(value, problems),
                (None, Presence::Default(text), kind) => {
                    let data =
                        default(kind, text).expect("every default in the table is valid, as a test shows");
                    self.values.insert(key.name, Value { at, data });
                }
                (None, Presence::Required, _) => {
                    problems.add(at, format!("`{}` is missing", key.name)).hint = Some(key.doc.to_owned());
                }
                (None, Presence::Optional, Kind::Table(table))
                    if !table.iter().any(|k| matches!(k.presence, Presence::Required)) =>
                {
                    let mut section = Section::empty(table, at);
                    section.complete(problems);
                    self.values.insert(
                        key.name,
                        Value {
                            at,
                            data: Data::Section(section),
                        },
                    );
                }
                (None, Presence::Optional, _) => {}
            }
        }
    }
}

fn complete_value(value: &mut Value, problems: &mut Problems) {
    match &mut value.data {
        Data::Section(section) => section.complete(problems),
        Data::Entries(entries) => {
            for (_, _, value) in entries {
                complete_value(value, problems);
            }
        }
        _ => {}
    }
}

/// The value that a default in the table stands for.
pub fn default(kind: &Kind, text: &str) -> Option<Data> {
    scalar(kind, text).ok()
}

/// Reads files and holds them against the table.
pub struct Reader<'a> {
    /// Environment variables by name.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Where problems of this file go.
    pub problems: &'a mut Problems,
}

impl Reader<'_> {
    /// The whole file as a section.
    pub fn document(&mut self, node: &Node, table: &'static [Key]) -> Option<Section> {
        match &node.kind {
            Yaml::Map(entries) => Some(self.section(At::START, entries, table)),
            Yaml::Unusable => None,
            Yaml::Null => Some(Section::empty(table, At::START)),
            Yaml::Scalar(_) | Yaml::List(_) => {
                self.problems.add(node.at, "a file holds keys and values").hint =
                    Some(format!("begin with `{}:`", table[0].name));
                None
            }
        }
    }

    fn section(&mut self, at: At, entries: &[Entry], table: &'static [Key]) -> Section {
        let mut section = Section::empty(table, at);
        for entry in entries {
            if let Some(key) = table.iter().find(|k| k.name == entry.key) {
                let value = self.value(entry, key);
                self.store(&mut section, key, entry, value);
            } else if let Some(key) = secret_file(table, &entry.key) {
                let value = self.secret_from_file(entry);
                self.store(&mut section, key, entry, value);
            } else {
                self.unknown(entry, table);
            }
        }
        section
    }

    fn store(&mut self, section: &mut Section, key: &'static Key, entry: &Entry, data: Data) {
        // Two words for one key: `password` and `password_file`. The same word twice is reported earlier.
        let at = match entry.value.kind {
            Yaml::Scalar(_) => entry.value.at,
            _ => entry.key_at,
        };
        if section.values.insert(key.name, Value { at, data }).is_some() {
            self.problems
                .add(
                    entry.key_at,
                    format!("both `{0}` and `{0}_file` are given", key.name),
                )
                .hint = Some("keep one of them".into());
        }
    }

    fn unknown(&mut self, entry: &Entry, table: &'static [Key]) {
        self.problems
            .add(entry.key_at, format!("unknown key `{}`", short(&entry.key)))
            .hint = suggest(&entry.key, table.iter().map(|k| k.name));
    }

    fn value(&mut self, entry: &Entry, key: &Key) -> Data {
        self.of_kind(&entry.value, entry.key_at, &format!("`{}`", key.name), &key.kind)
    }

    /// `key_at` is where problems with a value as a whole are shown, `what` is how it is called there.
    fn of_kind(&mut self, node: &Node, key_at: At, what: &str, kind: &Kind) -> Data {
        match (&node.kind, kind) {
            (Yaml::Unusable, _) => Data::Invalid,
            (Yaml::Map(entries), Kind::Table(table) | Kind::WordOr(_, table)) => {
                Data::Section(self.section(key_at, entries, table))
            }
            (Yaml::Null, Kind::Table(table)) => Data::Section(Section::empty(table, key_at)),
            (Yaml::Map(entries), Kind::Each { key, value, .. }) => {
                Data::Entries(self.entries(entries, key, value))
            }
            (Yaml::Null, Kind::Each { .. }) => Data::Entries(Vec::new()),
            (Yaml::Map(entries), Kind::Properties) => Data::Properties(self.properties(entries)),
            (Yaml::Null, Kind::Properties) => Data::Properties(Vec::new()),
            (Yaml::List(items), Kind::List(kind)) => {
                let item = format!("an item of {what}");
                let read = |item_node: &Node| Value {
                    at: item_node.at,
                    data: self.of_kind(item_node, item_node.at, &item, kind),
                };
                Data::List(items.iter().map(read).collect())
            }
            (Yaml::Null, _) => {
                self.problems.add(key_at, format!("{what} has no value")).hint =
                    Some(format!("write {}, or remove the key", describe(kind)));
                Data::Invalid
            }
            (Yaml::Scalar(text), Kind::List(_)) => {
                let items: Vec<String> = text
                    .split(',')
                    .map(|item| format!("\"{}\"", item.trim()))
                    .collect();
                self.problems.add(node.at, format!("{what} must be a list")).hint =
                    Some(format!("write `[{}]`", short(&items.join(", "))));
                Data::Invalid
            }
            (Yaml::Scalar(_), Kind::Table(_) | Kind::Each { .. } | Kind::Properties)
            | (Yaml::List(_), _)
            | (Yaml::Map(_), _) => {
                let found = match node.kind {
                    Yaml::List(_) => "a list",
                    Yaml::Map(_) => "keys and values",
                    _ => "a single value",
                };
                self.problems
                    .add(node.at, format!("{what} must be {}, not {found}", describe(kind)));
                Data::Invalid
            }
            (Yaml::Scalar(text), _) => self.scalar(text, node.at, what, kind),
        }
    }

    fn entries(&mut self, entries: &[Entry], key: &Kind, kind: &Kind) -> Vec<(String, At, Value)> {
        let mut result = Vec::new();
        for entry in entries {
            let what = format!("`{}`", short(&entry.key));
            if let Err(expected) = scalar(key, &entry.key) {
                self.problems
                    .add(entry.key_at, format!("the name {what} must be {}", expected.what));
            }
            let data = self.of_kind(&entry.value, entry.key_at, &what, kind);
            result.push((
                entry.key.clone(),
                entry.key_at,
                Value {
                    at: entry.key_at,
                    data,
                },
            ));
        }
        result
    }

    fn properties(&mut self, entries: &[Entry]) -> Vec<Property> {
        let mut result = Vec::new();
        for entry in entries {
            let Yaml::Scalar(text) = &entry.value.kind else {
                if !matches!(entry.value.kind, Yaml::Unusable) {
                    self.problems.add(
                        entry.key_at,
                        format!("`{}` must be a single value", short(&entry.key)),
                    );
                }
                continue;
            };
            if let Some(expanded) = self.expand(text, entry.value.at) {
                let value = PropertyValue {
                    literal: expanded == *text,
                    text: expanded,
                };
                result.push(Property {
                    name: entry.key.clone(),
                    at: entry.key_at,
                    value,
                });
            }
        }
        result
    }

    fn expand(&mut self, text: &str, at: At) -> Option<String> {
        value::expand(text, self.env)
            .map_err(|(message, hint)| self.problems.add(at, message).hint = Some(hint))
            .ok()
    }

    fn scalar(&mut self, text: &str, at: At, what: &str, kind: &Kind) -> Data {
        let Some(expanded) = self.expand(text, at) else {
            return Data::Invalid;
        };
        if expanded.is_empty() && !matches!(kind, Kind::AnyText) {
            self.problems.add(at, format!("{what} is empty"));
            return Data::Invalid;
        }
        if let Kind::File = kind {
            return self.existing_file(&expanded, text, at, what);
        }
        scalar(kind, &expanded).unwrap_or_else(|expected| {
            // What came from the environment may be a secret; it is shown as it was written.
            let literal = expanded == text;
            self.problems
                .add(
                    at,
                    format!("{what} must be {}, not `{}`", expected.what, short(text)),
                )
                .hint = expected.hint.filter(|_| literal);
            Data::Invalid
        })
    }

    /// A file named in a file stands relative to it.
    fn beside(&self, path: &str) -> PathBuf {
        self.problems.file().parent().unwrap_or(Path::new("")).join(path)
    }

    fn existing_file(&mut self, path: &str, written: &str, at: At, what: &str) -> Data {
        let path = self.beside(path);
        match std::fs::File::open(&path) {
            Ok(_) => Data::Text(path.to_string_lossy().into_owned()),
            Err(error) => {
                self.problems
                    .add(at, format!("{what}: cannot read `{}`: {error}", short(written)))
                    .hint = Some("a relative path starts at the directory of this file".into());
                Data::Invalid
            }
        }
    }

    /// `password_file: path`; one newline at the end of the file does not belong to the secret.
    fn secret_from_file(&mut self, entry: &Entry) -> Data {
        let what = format!("`{}`", entry.key);
        let path = match self.of_kind(&entry.value, entry.key_at, &what, &Kind::Text) {
            Data::Text(path) => self.beside(&path),
            _ => return Data::Invalid,
        };
        match read_text(&path) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                match text.strip_suffix('\r').unwrap_or(text) {
                    "" => self
                        .problems
                        .add(entry.value.at, format!("{what}: the file is empty")),
                    text => return Data::Secret(Secret::new(text)),
                };
            }
            Err(error) => {
                self.problems.add(entry.value.at, format!("{what}: {error}")).hint =
                    Some("a relative path starts at the directory of this file".into());
            }
        }
        Data::Invalid
    }
}

/// The key whose secret `name` says to read from a file.
fn secret_file(table: &'static [Key], name: &str) -> Option<&'static Key> {
    let name = name.strip_suffix("_file")?;
    table
        .iter()
        .find(|k| k.name == name && matches!(k.kind, Kind::Secret))
}

/// Reads a text file of bounded size. The error says what is wrong with the file.
pub fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| NOT_UTF8.to_owned())
}

/// What is wrong with a text of other bytes.
pub(crate) const NOT_UTF8: &str = "the file is not UTF-8";

/// What a file holds, up to the size that a file of ours may have.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(|error| format!("cannot read the file: {error}"))?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {}", value::show_bytes(MAX_FILE)));
    }
    Ok(content)
}

/// What a scalar should have been.
struct Expected {
    what: String,
    hint: Option<String>,
}

fn scalar(kind: &Kind, text: &str) -> Result<Data, Expected> {
    let expected = |hint: Option<String>| Expected {
        what: describe(kind),
        hint,
    };
    match kind {
        Kind::Text | Kind::AnyText => Ok(Data::Text(text.to_owned())),
        Kind::Secret => Ok(Data::Secret(Secret::new(text))),
        Kind::Name { set, .. } => match text.chars().all(set) {
            true => Ok(Data::Text(text.to_owned())),
            false => Err(expected(None)),
        },
        Kind::Integer { min, max } => match text.parse() {
            Ok(number) if (*min..=*max).contains(&number) => Ok(Data::Number(number)),
            _ => Err(expected(None)),
        },
        Kind::Bytes { min, max } => match value::bytes(text) {
            Ok(number) if (*min..=*max).contains(&number) => Ok(Data::Number(number)),
            Ok(_) => Err(expected(None)),
            Err(hint) => Err(expected(hint)),
        },
        Kind::Duration { min, max } => match value::duration(text) {
            Ok(time) if (u128::from(*min)..=u128::from(*max)).contains(&time.as_millis()) => {
                Ok(Data::Duration(time))
            }
            Ok(_) => Err(expected(None)),
            Err(hint) => Err(expected(hint)),
        },
        Kind::Boolean => match text {
            "true" => Ok(Data::Boolean(true)),
            "false" => Ok(Data::Boolean(false)),
            _ => Err(expected(None)),
        },
        Kind::OneOf(words) | Kind::WordOr(words, _) => match words.contains(&text) {
            true => Ok(Data::Text(text.to_owned())),
            false => {
                let near = super::problem::closest(text, words);
                Err(expected(near.map(|near| format!("did you mean `{near}`?"))))
            }
        },
        Kind::Time(words) => match text.parse::<jiff::Timestamp>() {
            _ if words.contains(&text) => Ok(Data::Text(text.to_owned())),
            // Kafka's own words for "latest" and "earliest" are the times -1 and -2.
            Ok(time) if time.as_millisecond() >= 0 => Ok(Data::Timestamp(time.as_millisecond())),
            _ => Err(expected(None)),
        },
        Kind::Address => text.parse().map(Data::Address).map_err(|_| {
            expected(Some(
                "a host name will not do: write `127.0.0.1:8083` or `[::]:8083`".into(),
            ))
        }),
        Kind::Servers => match value::servers(text) {
            Ok(servers) => Ok(Data::Text(servers)),
            Err(why) => Err(expected(Some(why))),
        },
        Kind::Pattern => match pattern(text) {
            Ok(regex) => Ok(Data::Pattern(text.to_owned(), regex)),
            Err(why) => Err(expected(Some(why))),
        },
        Kind::File | Kind::List(_) | Kind::Table(_) | Kind::Each { .. } | Kind::Properties => {
            Err(expected(None))
        }
    }
}

/// A kind in words, after "must be".
pub fn describe(kind: &Kind) -> String {
    match kind {
        Kind::Text | Kind::AnyText | Kind::Secret => "text".into(),
        Kind::Name { rule, .. } => format!("made of {rule}"),
        Kind::Integer { min, max } => format!("an integer from {min} to {max}"),
        Kind::Bytes { min, max } => {
            format!(
                "a size from {} to {}",
                value::show_bytes(*min),
                value::show_bytes(*max)
            )
        }
        Kind::Duration { min, max } => format!(
            "a duration from {} to {}",
            value::show_duration(Duration::from_millis(*min)),
            value::show_duration(Duration::from_millis(*max))
        ),
        Kind::Boolean => "true or false".into(),
        Kind::OneOf(words) => format!("one of {}", words.join(", ")),
        Kind::WordOr(words, _) => format!("one of {}, or keys and values", words.join(", ")),
        Kind::Time(words) => format!("{} or a time like 2026-01-31T12:00:00Z", words.join(", ")),
        Kind::Address => "an address and port".into(),
        Kind::Servers => "host:port, separated by commas".into(),
        Kind::File => "the path of a file".into(),
        Kind::Pattern => "a regular expression".into(),
        Kind::List(_) => "a list".into(),
        Kind::Table(_) | Kind::Each { .. } | Kind::Properties => "keys and values".into(),
    }
}

/// Compiles a pattern to match whole names. The error says what to write instead.
pub(crate) fn pattern(text: &str) -> Result<Regex, String> {
    if let Some(construct) = java_only(text) {
        return Err(format!(
            "{construct} exists in Java only; write it without, or use `exclude`"
        ));
    }
    let short_reason = |error: regex::Error| match error {
        regex::Error::CompiledTooBig(_) => "it is too large when compiled".to_owned(),
        other => {
            let text = other.to_string();
            let last = text.lines().last().unwrap_or_default();
            last.trim_start_matches("error: ").to_owned()
        }
    };
    // By itself first, so that `a)|(b` cannot become right by what is put around it.
    Regex::new(text).map_err(|error| match text.starts_with('*') {
        true => format!("{}; for any name write `.*`", short_reason(error)),
        false => short_reason(error),
    })?;
    Regex::new(&anchored(text)).map_err(short_reason)
}

/// The expression that matches exactly the names which `text` matches as a whole.
pub fn anchored(text: &str) -> String {
    format!("^(?:{text})$")
}

/// A construct that MM2's (Java's) expressions have and that means nothing or something else here.
pub(crate) fn java_only(text: &str) -> Option<&'static str> {
    let mut rest = text;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        if let Some(escaped) = rest.strip_prefix('\\') {
            match escaped.chars().next() {
                Some('1'..='9' | 'k') => return Some("a back reference"),
                Some('Q') => return Some("quoting with `\\Q`"),
                Some(next) => rest = &escaped[next.len_utf8()..],
                None => return None,
            }
            continue;
        }
        if !in_class {
            for (start, name) in [
                ("(?=", "look-ahead"),
                ("(?!", "look-ahead"),
                ("(?<=", "look-behind"),
                ("(?<!", "look-behind"),
                ("(?>", "an atomic group"),
                ("*+", "a possessive quantifier"),
                ("++", "a possessive quantifier"),
                ("?+", "a possessive quantifier"),
                ("}+", "a possessive quantifier"),
            ] {
                if rest.starts_with(start) {
                    return Some(name);
                }
            }
        }
        match c {
            '[' => in_class = true,
            ']' => in_class = false,
            _ => {}
        }
        rest = &rest[c.len_utf8()..];
    }
    None
}
