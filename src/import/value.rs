//! The values of MM2's keys: Kafka's own kinds, and references to config providers.

use super::input::{Id, Keys, Sheet, clean};
use super::template::{UNFILLED, is_variable, name_of_template, variables};
use super::verdicts::{Class, Holds};
use crate::config::short;

/// Text as causeway's files hold it: a dollar sign is doubled where it would begin a variable.
pub fn literal(text: &str) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        result.push(c);
        if c == '$' && matches!(rest.peek(), Some('$' | '{')) {
            result.push('$');
        }
    }
    result
}

/// What a value refers to when it is `${…}` as a whole.
pub enum Reference {
    /// An environment variable: `${env:NAME}`, or `${NAME}` of a template.
    Environment(String),
    /// A file that holds this value and nothing else (`DirectoryConfigProvider`).
    File(String),
    /// Something causeway cannot ask; in words.
    Other(String),
}

/// Reads `${NAME}` and `${provider:path:key}`.
pub fn reference(value: &str, sheet: &Sheet) -> Option<Reference> {
    let inside = value.strip_prefix("${")?.strip_suffix('}')?;
    if inside.contains(['{', '}', '$']) {
        return None;
    }
    // A shell's default is not taken along: it may be a secret.
    let inside = inside.split_once(":-").map_or(inside, |(name, _)| name);
    let Some((provider, rest)) = inside.split_once(':') else {
        return is_variable(inside).then(|| Reference::Environment(inside.to_owned()));
    };
    let class = sheet
        .providers
        .get(provider)
        .map_or(provider, String::as_str)
        .to_lowercase();
    let (path, key) = rest.rsplit_once(':').unwrap_or(("", rest));
    Some(if class.contains("env") && is_variable(key) {
        Reference::Environment(key.to_owned())
    } else if class.contains("directory") && !path.is_empty() {
        Reference::File(format!("{path}/{key}"))
    } else {
        let place = if path.is_empty() {
            String::new()
        } else {
            format!(" of {}", short(path))
        };
        Reference::Other(format!(
            "`{}`{place} from config provider `{}`",
            short(key),
            short(provider)
        ))
    })
}

/// Whether a value can only be known where MM2 runs.
pub fn is_dynamic(value: &str) -> bool {
    value.contains("${")
}

impl Sheet {
    /// A value that is no secret, as our files hold it. References become variables: their own, or `name`.
    pub(super) fn text(&mut self, id: Id, name: &str, holds: Holds) -> String {
        let value = self.value(id).to_owned();
        let key = clean(&self.settings[id].key);
        match reference(&value, self) {
            None if is_dynamic(&value) && name_of_template(&value).is_some() => {
                for variable in name_of_template(&value).unwrap_or_default() {
                    self.variable(&variable, format!("a part of {key}"), holds);
                }
                self.different(id, "its variables are taken from causeway's own environment");
                value
            }
            None => literal(&value),
            Some(Reference::Environment(variable)) => {
                self.variable(&variable, key, holds);
                format!("${{{variable}}}")
            }
            Some(Reference::File(path)) => {
                self.elsewhere(id, name, holds, &format!("what {} holds", short(&path)))
            }
            Some(Reference::Other(what)) => self.elsewhere(id, name, holds, &what),
        }
    }

    fn elsewhere(&mut self, id: Id, name: &str, holds: Holds, what: &str) -> String {
        self.variable(name, what.to_owned(), holds);
        self.different(
            id,
            format!("causeway asks no config provider; set {name} to {what}"),
        );
        format!("${{{name}}}")
    }

    /// A secret, the value of a key or a part of it: never shown. Gives the suffix of our key (`_file` or none) and
    /// what to write.
    pub(super) fn secret(&mut self, id: Id, value: &str, ours: &str, name: &str) -> (&'static str, String) {
        match reference(value, self) {
            Some(Reference::Environment(variable)) => {
                self.variable(&variable, format!("{ours}, as for MirrorMaker 2"), Holds::Text);
                self.carried(id, format!("→ {ours}: ${{{variable}}}"));
                ("", format!("${{{variable}}}"))
            }
            Some(Reference::File(path)) => {
                self.carried(id, format!("→ {ours}_file"));
                ("_file", literal(&path))
            }
            Some(Reference::Other(what)) => ("", self.elsewhere(id, name, Holds::Text, &what)),
            None => {
                let at = self.at(id);
                let key = clean(&self.settings[id].key);
                self.variable(
                    name,
                    format!("the secret in {key}, line {}", at.line),
                    Holds::Text,
                );
                self.different(
                    id,
                    format!("→ {ours}: ${{{name}}}; the secret itself is not written: set {name}"),
                );
                ("", format!("${{{name}}}"))
            }
        }
    }

    /// The value of a key, unless it can only be known where MM2 runs.
    fn known(&mut self, keys: &Keys, key: &str) -> Option<(Id, String)> {
        let id = *keys.get(key)?;
        let value = self.value(id).trim().to_owned();
        let names = variables(&value);
        let why = match names.is_empty() {
            false => format!("{} is not filled in; {UNFILLED}", names.join(", ")),
            true if is_dynamic(&value) => {
                "its value comes from elsewhere; write it into the topology by hand".to_owned()
            }
            true => return Some((id, value)),
        };
        self.decide(id, Class::NoEquivalent, why);
        None
    }

    pub(super) fn word(&mut self, keys: &Keys, key: &str) -> Option<(Id, String)> {
        self.known(keys, key)
    }

    pub(super) fn boolean(&mut self, keys: &Keys, key: &str) -> Option<(Id, bool)> {
        let (id, value) = self.known(keys, key)?;
        match value.to_lowercase().as_str() {
            "true" => Some((id, true)),
            "false" => Some((id, false)),
            _ => self.mistake(id, key, "true or false"),
        }
    }

    /// An integer, as Kafka's INT and LONG are.
    pub(super) fn integer(&mut self, keys: &Keys, key: &str) -> Option<(Id, i64)> {
        let (id, value) = self.known(keys, key)?;
        match value.parse() {
            Ok(number) => Some((id, number)),
            Err(_) => self.mistake(id, key, "an integer"),
        }
    }

    /// A comma-separated list: nothing, or names and expressions.
    pub(super) fn list(&mut self, keys: &Keys, key: &str) -> Option<(Id, Vec<String>)> {
        let (id, value) = self.known(keys, key)?;
        let items = value.split(',').map(str::trim).filter(|item| !item.is_empty());
        Some((id, items.map(str::to_owned).collect()))
    }

    /// Shows that a value is not what `wanted` says, and what may have led to it; never the value itself.
    pub(super) fn mistake<T>(&mut self, id: Id, key: &str, wanted: &str) -> Option<T> {
        let at = self.at(id);
        let theirs = match key {
            // `MirrorMakerConfig.clusterPairs`.
            "enabled" => "MirrorMaker 2 takes anything but `true` as off when it chooses its flows",
            _ => "MirrorMaker 2 would refuse it too",
        };
        let hint = self.oddity(id).into_iter().chain([theirs.to_owned()]);
        let hint = hint.collect::<Vec<_>>().join("; ");
        self.problems
            .add(at, format!("`{}` must be {wanted}", short(key)))
            .hint = Some(format!("{hint}; correct it and import again"));
        None
    }
}
