//! What an import gives: texts, and what became of every key.

use crate::config::At;

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
