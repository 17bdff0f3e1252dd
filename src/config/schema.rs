//! What a table of keys says about each, for checks, texts, the reference and the JSON schema.

use std::fmt;
use std::time::Duration;

use super::value::{show_bytes, show_duration};

/// One key.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub presence: Presence,
    /// One or two sentences for people.
    pub doc: &'static str,
}

/// The keys that may stand together.
pub type Keys = fn() -> &'static [Key];

/// What happens when a key is absent.
#[derive(Clone, Copy, Debug)]
pub enum Presence {
    Required,
    Optional,
    /// The value taken instead, in the words of the file itself.
    Default(&'static str),
}

/// What may stand after a key.
#[derive(Debug)]
pub enum Kind {
    Text,
    /// Text of which every character is in the set; the sentence says so.
    Name {
        set: fn(char) -> bool,
        pattern: &'static str,
        rule: &'static str,
    },
    Integer {
        min: u64,
        max: u64,
    },
    /// Bytes.
    Bytes {
        min: u64,
        max: u64,
    },
    /// Milliseconds.
    Duration {
        min: u64,
        max: u64,
    },
    Boolean,
    OneOf(&'static [&'static str]),
    /// One of these words, or keys that say more.
    WordOr(&'static [&'static str], Keys),
    /// One of these words or an RFC 3339 time.
    Time(&'static [&'static str]),
    /// `host:port` with a numeric host.
    Address,
    /// `host:port,…`
    Servers,
    /// May be given as `<key>_file` instead; never shown.
    Secret,
    /// A file that exists. Relative to the file that names it.
    File,
    /// A regular expression that must match the whole name.
    Pattern,
    List(&'static Kind),
    Table(Keys),
    /// Any names, all with the same kind of value.
    Each {
        name: &'static str,
        key: &'static Kind,
        value: &'static Kind,
    },
    /// librdkafka properties; values are scalars and may be secrets.
    Properties,
}

/// `clusters.<alias>` and every place that names a cluster.
pub const ALIAS: Kind = Kind::Name {
    set: |c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'),
    pattern: "^[A-Za-z0-9_-]+$",
    rule: "letters, digits, `_` and `-`; a dot would make `alias.topic` ambiguous",
};

impl Kind {
    /// Whether a text is a name of this kind.
    pub fn allows(&self, text: &str) -> bool {
        matches!(self, Kind::Name { set, .. } if text.chars().all(set))
    }
}

impl fmt::Display for Kind {
    /// In words, after "must be".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Kind::Text | Kind::Secret => f.write_str("text"),
            Kind::Name { rule, .. } => write!(f, "made of {rule}"),
            Kind::Integer { min, max } => write!(f, "an integer from {min} to {max}"),
            Kind::Bytes { min, max } => {
                write!(f, "a size from {} to {}", show_bytes(*min), show_bytes(*max))
            }
            Kind::Duration { min, max } => {
                let [min, max] = [min, max].map(|it| show_duration(Duration::from_millis(*it)));
                write!(f, "a duration from {min} to {max}")
            }
            Kind::Boolean => f.write_str("true or false"),
            Kind::OneOf(words) => write!(f, "one of {}", words.join(", ")),
            Kind::WordOr(words, _) => write!(f, "one of {}, or keys and values", words.join(", ")),
            Kind::Time(words) => write!(f, "{} or a time like 2026-01-31T12:00:00Z", words.join(", ")),
            Kind::Address => f.write_str("an address and port"),
            Kind::Servers => f.write_str("host:port, separated by commas"),
            Kind::File => f.write_str("the path of a file"),
            Kind::Pattern => f.write_str("a regular expression"),
            Kind::List(_) => f.write_str("a list"),
            Kind::Table(_) | Kind::Each { .. } | Kind::Properties => f.write_str("keys and values"),
        }
    }
}
