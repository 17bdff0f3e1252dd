//! YAML as a small tree that remembers where everything stood. Only the part of YAML that a reader
//! sees at a glance: no anchors, aliases, merge keys, tags or further documents.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError};

use super::problem::short;
use super::problem::{At, Problems};

/// Deepest nesting accepted; real files need six.
const MAX_DEPTH: usize = 32;

/// Most values in one file; real files have hundreds.
const MAX_VALUES: usize = 100_000;

/// One value and where it begins.
#[derive(Debug)]
pub struct Node {
    pub at: At,
    pub kind: Kind,
}

/// What a node is.
#[derive(Debug)]
pub enum Kind {
    /// Nothing after the key, `~` or `null`.
    Null,
    /// Text as written, without its quotes.
    Scalar(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
    /// Reported already; whoever meets it stays silent.
    Unusable,
}

/// One `key: value` of a mapping. Keys of a mapping are distinct.
#[derive(Debug)]
pub struct Entry {
    pub key: String,
    pub key_at: At,
    pub value: Node,
}

/// A list or mapping whose end has not been seen.
enum Open {
    List(At, Vec<Node>),
    Map(At, Mapping),
}

/// A mapping so far.
#[derive(Default)]
struct Mapping {
    entries: Vec<Entry>,
    /// Where each key was first seen.
    seen: HashMap<String, At>,
    /// A key whose value comes next.
    key: Option<Node>,
}

/// Reads one document. `None` when the file holds no usable document, which is reported.
pub fn parse(text: &str, problems: &mut Problems) -> Option<Node> {
    read(text, false, problems)?.pop()
}

/// Reads every document. `None` when the file holds none that is usable, which is reported.
pub fn documents(text: &str, problems: &mut Problems) -> Option<Vec<Node>> {
    read(text, true, problems)
}

fn read(text: &str, several: bool, problems: &mut Problems) -> Option<Vec<Node>> {
    let mut open: Vec<Open> = Vec::new();
    let mut roots: Vec<Node> = Vec::new();
    let mut values = 0;
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(event) => event,
            Err(error) => {
                not_yaml(&error, text, problems);
                return None;
            }
        };
        let at = At::new(span.start.line(), span.start.col() + 1);
        let done = match event {
            Event::DocumentStart(_) if !several && !roots.is_empty() => {
                problems
                    .add(at, "several documents in one file are not supported")
                    .hint = Some("remove the `---`, or write two files".into());
                return Some(roots);
            }
            Event::Alias(_) => {
                problems.add(at, "aliases are not supported").hint = Some("write the value out".into());
                let kind = Kind::Unusable;
                Node { at, kind }
            }
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = matches!(style, ScalarStyle::Plain);
                let kind = match text.as_ref() {
                    _ if !plain_yaml(at, anchor, tag.is_some(), problems) => Kind::Unusable,
                    "" | "~" | "null" if is_plain => Kind::Null,
                    text => Kind::Scalar(text.to_owned()),
                };
                Node { at, kind }
            }
            Event::SequenceStart(..) | Event::MappingStart(..) if open.len() == MAX_DEPTH => {
                problems.add(at, format!("nested deeper than {MAX_DEPTH} levels"));
                return None;
            }
            Event::SequenceStart(anchor, tag) => {
                plain_yaml(at, anchor, tag.is_some(), problems);
                open.push(Open::List(at, Vec::new()));
                continue;
            }
            Event::MappingStart(anchor, tag) => {
                plain_yaml(at, anchor, tag.is_some(), problems);
                open.push(Open::Map(at, Mapping::default()));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(done) => done.into(),
                None => continue,
            },
            _ => continue,
        };
        values += 1;
        if values > MAX_VALUES {
            problems.add(
                at,
                format!("the file holds more than {MAX_VALUES} keys and values"),
            );
            return None;
        }
        match open.last_mut() {
            None => roots.push(done),
            Some(Open::List(_, items)) => items.push(done),
            Some(Open::Map(_, mapping)) => match mapping.key.take() {
                None => mapping.key = Some(done),
                Some(key) => mapping.add(key, done, problems),
            },
        }
    }
    if roots.is_empty() {
        problems.add(At::START, "the file is empty");
        return None;
    }
    Some(roots)
}

fn not_yaml(error: &ScanError, text: &str, problems: &mut Problems) {
    let mark = error.marker();
    let line = text.lines().nth(mark.line().saturating_sub(1));
    let found = problems.add(
        At::new(mark.line(), mark.col() + 1),
        format!("this is not YAML: {}", error.info()),
    );
    if error.info().contains("anchor or alias") {
        found.hint = Some("quote what begins with `*` or `&`; `\".*\"` is any name".into());
    } else if line.is_some_and(|line| line.contains("${")) {
        found.hint = Some("inside `{ … }` and `[ … ]`, quote it: \"${VAR}\"".into());
    }
}

impl From<Open> for Node {
    fn from(open: Open) -> Self {
        let (at, kind) = match open {
            Open::List(at, items) => (at, Kind::List(items)),
            Open::Map(at, mapping) => (at, Kind::Map(mapping.entries)),
        };
        Self { at, kind }
    }
}

impl Mapping {
    /// A key and its value, unless the key is one we refuse.
    fn add(&mut self, key: Node, value: Node, problems: &mut Problems) {
        let text = match key.kind {
            Kind::Scalar(text) => text,
            Kind::Unusable => return,
            Kind::Null | Kind::List(_) | Kind::Map(_) => {
                problems.add(key.at, "a key must be a word");
                return;
            }
        };
        if text == "<<" {
            problems.add(key.at, "merge keys are not supported").hint = Some("write the keys out".into());
        } else if let Some(first) = self.seen.get(&text) {
            problems
                .add(key.at, format!("duplicate key `{}`", short(&text)))
                .hint = Some(format!("it is first given at {first}"));
        } else {
            self.seen.insert(text.clone(), key.at);
            self.entries.push(Entry {
                key: text,
                key_at: key.at,
                value,
            });
        }
    }
}

/// Reports anchors and tags.
fn plain_yaml(at: At, anchor: usize, tagged: bool, problems: &mut Problems) -> bool {
    if anchor > 0 {
        problems.add(at, "anchors are not supported").hint = Some("remove the `&name`".into());
    }
    if tagged {
        problems.add(at, "tags are not supported").hint = Some("remove the `!tag`".into());
    }
    anchor == 0 && !tagged
}
