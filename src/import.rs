//! MirrorMaker 2's configuration → causeway's two files, and what became of every key. Text in, text out.
//!
//! A reader (`dedicated`, `strimzi`, `connectors`) turns its form into the same intermediate: clusters and flows,
//! whose settings point at the keys they were written as. `translate` turns that into the files and gives every key
//! its verdict; `java_pattern` knows what Java's expressions are in ours. No value of a key that may hold a secret
//! reaches a text.

use std::path::Path;

use crate::config::read::NOT_UTF8;
use crate::config::short;
use crate::config::yaml::{Entry, Kind as Yaml, Node};
use crate::config::{At, Problem, yaml};

mod connectors;
mod dedicated;
mod input;
mod java_pattern;
mod properties;
mod security;
mod strimzi;
mod template;
mod translate;
mod value;
mod verdicts;
mod write;

pub use verdicts::{Class, Form, Holds, Import, Item, Variable};

use input::{Input, Sheet, word};

#[cfg(test)]
mod tests;

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
    match aliases.flat_map(template::variables).next() {
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

fn is_resource(tree: &Node) -> bool {
    matches!(&tree.kind, Yaml::Map(entries) if entries.iter().any(|e| e.key == "apiVersion") && entries.iter().any(|e| e.key == "kind"))
}
