//! The table of keys, written out: for people and for editors.

use std::fmt::Write;

use serde_json::{Map, Value, json};

use super::schema::{Key, Kind, Presence};

/// Every key of a file as YAML with comments that say its meaning, range and default.
pub fn write_table(text: &mut String, table: &'static [Key]) {
    write_keys(text, table, "", &mut Vec::new());
}

/// `margin` is what stands before every line: blanks, and `# ` inside what is commented out.
fn write_keys(
    text: &mut String,
    table: &'static [Key],
    margin: &str,
    above: &mut Vec<(*const Key, &'static str)>,
) {
    for (index, key) in table.iter().enumerate() {
        if index > 0 {
            let _ = writeln!(text, "{}", margin.trim_end());
        }
        wrap(text, margin, key.doc);
        let kind = what_stands(&key.kind);
        match (key.presence, &key.kind) {
            (_, Kind::Table(_) | Kind::Each { .. }) => {}
            (Presence::Required, _) => wrap(text, margin, &format!("Required: {kind}.")),
            (Presence::Optional, _) => wrap(text, margin, &format!("Optional: {kind}.")),
            (Presence::Default(value), _) => wrap(text, margin, &format!("Default `{value}`: {kind}.")),
        }
        if let Kind::Secret = key.kind {
            wrap(
                text,
                margin,
                &format!("Or {}_file: the path of a file that holds it.", key.name),
            );
        }
        let margin = match (&key.kind, key.presence) {
            (Kind::Table(_) | Kind::Each { .. }, _) | (_, Presence::Required | Presence::Default(_)) => {
                margin.to_owned()
            }
            _ => format!("{margin}# "),
        };
        match &key.kind {
            Kind::Table(inner) => {
                let inner = inner();
                above.push((inner.as_ptr(), key.name));
                let needs_more = inner.iter().any(|k| matches!(k.presence, Presence::Required));
                let margin = if needs_more { format!("{margin}# ") } else { margin };
                let _ = writeln!(text, "{margin}{}:", key.name);
                write_keys(text, inner, &format!("{margin}  "), above);
            }
            Kind::Each {
                name,
                value: Kind::Table(inner),
                ..
            } => {
                let inner = inner();
                let _ = writeln!(text, "{margin}{}:", key.name);
                match above.iter().find(|(table, _)| *table == inner.as_ptr()) {
                    Some((_, same)) => {
                        let _ = writeln!(text, "{margin}  # \"{name}\": {{ … }}   # the keys of {same}");
                    }
                    None => {
                        let _ = writeln!(text, "{margin}  <{name}>:");
                        write_keys(text, inner, &format!("{margin}    "), above);
                    }
                }
            }
            kind => {
                let value = match (key.presence, kind) {
                    (Presence::Default(value), _) => value,
                    (_, Kind::List(_)) => "[…]",
                    (_, Kind::Properties) => "{ … }",
                    _ => "…",
                };
                let _ = writeln!(text, "{margin}{}: {value}", key.name);
                if let Kind::WordOr(_, inner) = kind {
                    let margin = format!("{margin}# ");
                    let _ = writeln!(text, "{margin}or\n{margin}{}:", key.name);
                    write_keys(text, inner(), &format!("{margin}  "), above);
                }
            }
        }
    }
}

/// What may stand after a key, in words.
fn what_stands(kind: &Kind) -> String {
    match kind {
        Kind::List(item) => format!("a list; each item is {item}"),
        kind => kind.to_string(),
    }
}

/// The keys that stand together under one path, for pages.
#[derive(Debug)]
pub struct KeyTable {
    /// `replication.offset_sync`; empty for the keys of the file itself.
    pub path: String,
    /// Its keys, in the order of the reference.
    pub rows: Vec<KeyRow>,
}

/// One key of a [`KeyTable`].
#[derive(Debug)]
pub struct KeyRow {
    /// The key without its path.
    pub name: &'static str,
    /// What may stand after it; empty where only keys may.
    pub kind: String,
    /// The path of the table of the keys that may stand after it.
    pub keys: Option<String>,
    /// Whether it has to be there.
    pub is_required: bool,
    /// What holds where it is absent.
    pub default: Option<&'static str>,
    /// What it means.
    pub doc: &'static str,
}

/// Every table of keys of one kind of file, outer ones first. One that may stand at several places is there once.
pub fn key_tables(table: &'static [Key]) -> Vec<KeyTable> {
    let mut seen = vec![(table, String::new())];
    let mut done = vec![];
    // Tables are found while they are written; each is written behind the one that names it first.
    while done.len() < seen.len() {
        let (table, path) = seen[done.len()].clone();
        let rows = table.iter().map(|key| key_row(key, &path, &mut seen)).collect();
        done.push(KeyTable { path, rows });
    }
    done
}

fn key_row(key: &'static Key, path: &str, seen: &mut Vec<(&'static [Key], String)>) -> KeyRow {
    let at = match path {
        "" => key.name.to_owned(),
        path => format!("{path}.{}", key.name),
    };
    let inner = match &key.kind {
        Kind::Table(inner) | Kind::WordOr(_, inner) => Some((inner(), at)),
        Kind::Each {
            name,
            value: Kind::Table(inner),
            ..
        } => Some((inner(), format!("{at}.<{name}>"))),
        _ => None,
    };
    let keys = inner.map(|(table, at)| {
        let known = seen.iter().find(|(it, _)| std::ptr::eq(*it, table));
        let path = known.map_or_else(|| at.clone(), |(_, path)| path.clone());
        if known.is_none() {
            seen.push((table, at));
        }
        path
    });
    KeyRow {
        name: key.name,
        kind: match &key.kind {
            Kind::Table(_) | Kind::Each { .. } => String::new(),
            Kind::WordOr(words, _) => format!("one of {}", words.join(", ")),
            Kind::Secret => format!("text, or as `{}_file` the path of a file that holds it", key.name),
            kind => what_stands(kind),
        },
        keys,
        is_required: matches!(key.presence, Presence::Required),
        default: match key.presence {
            Presence::Default(value) => Some(value),
            Presence::Required | Presence::Optional => None,
        },
        doc: key.doc,
    }
}

fn wrap(text: &mut String, margin: &str, sentence: &str) {
    let mut line = String::new();
    for word in sentence.split(' ') {
        if line.len() + word.len() + margin.len() > 100 {
            let _ = writeln!(text, "{margin}#{line}");
            line.clear();
        }
        let _ = write!(line, " {word}");
    }
    let _ = writeln!(text, "{margin}#{line}");
}

/// A JSON schema (draft 2020-12) of one kind of file, for editors. It knows what the table knows;
/// relations between keys, clusters and flows are checked by `causeway validate` only.
pub fn json_schema(title: &str, table: &[Key]) -> Value {
    let mut schema = object(table);
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema".into();
    schema["title"] = title.into();
    schema
}

fn object(table: &[Key]) -> Value {
    let mut properties = Map::new();
    let mut required = Vec::new();
    let mut relations: Vec<Value> = Vec::new();
    for key in table {
        let mut schema = of_kind(&key.kind);
        schema["description"] = key.doc.into();
        if let Presence::Default(text) = key.presence {
            schema["default"] = match key.kind {
                Kind::Integer { .. } | Kind::Boolean => text.parse().unwrap_or_else(|_| text.into()),
                _ => text.into(),
            };
        }
        properties.insert(key.name.into(), schema);
        let is_required = matches!(key.presence, Presence::Required);
        if let Kind::Secret = key.kind {
            let file = format!("{}_file", key.name);
            relations.push(json!({ "not": { "required": [key.name, file] } }));
            if is_required {
                relations.push(json!({ "anyOf": [{ "required": [key.name] }, { "required": [file] }] }));
            }
            let doc = format!("The path of a file that holds {}.", key.name);
            properties.insert(file, json!({ "type": "string", "description": doc }));
        } else if is_required {
            required.push(key.name);
        }
    }
    let mut schema = json!({
        "type": ["object", "null"],
        "properties": properties,
        "additionalProperties": false,
    });
    if !required.is_empty() {
        schema["type"] = "object".into();
        schema["required"] = required.into();
    }
    if !relations.is_empty() {
        schema["allOf"] = relations.into();
    }
    schema
}

fn of_kind(kind: &Kind) -> Value {
    let scalar = json!(["string", "number", "boolean"]);
    match kind {
        Kind::Text | Kind::Secret => json!({ "type": scalar }),
        Kind::Name { pattern, .. } => or_variable(json!({ "type": "string", "pattern": pattern })),
        Kind::Integer { min, max } => {
            or_variable(json!({ "type": "integer", "minimum": min, "maximum": max }))
        }
        Kind::Bytes { min, max } => json!({ "anyOf": [
            { "type": "integer", "minimum": min, "maximum": max },
            { "type": "string", "pattern": "^[0-9]+ *(B|KiB|MiB|GiB|TiB)?$" },
            variable(),
        ] }),
        Kind::Duration { .. } => or_variable(json!({ "type": "string", "pattern": "^[0-9]+ *(ms|s|m|h)$" })),
        Kind::Boolean => or_variable(json!({ "type": "boolean" })),
        Kind::OneOf(words) => or_variable(json!({ "enum": words })),
        Kind::WordOr(words, table) => {
            let mut keys = object(table());
            keys["type"] = "object".into();
            json!({ "anyOf": [{ "enum": words }, keys, variable()] })
        }
        Kind::Time(words) => json!({ "anyOf": [
            { "enum": words },
            { "type": "string", "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ].+$" },
            variable(),
        ] }),
        Kind::Address | Kind::Servers | Kind::File | Kind::Pattern => json!({ "type": "string" }),
        Kind::List(item) => json!({ "type": "array", "items": of_kind(item) }),
        Kind::Table(table) => object(table()),
        Kind::Each { key, value, .. } => {
            let mut schema = json!({ "type": "object", "additionalProperties": of_kind(value) });
            if let Kind::Name { pattern, .. } = key {
                schema["propertyNames"] = json!({ "pattern": pattern });
            }
            schema
        }
        Kind::Properties => json!({ "type": ["object", "null"], "additionalProperties": { "type": scalar } }),
    }
}

/// `${VAR}` may stand for any value.
fn variable() -> Value {
    json!({ "type": "string", "pattern": "\\$\\{" })
}

fn or_variable(schema: Value) -> Value {
    json!({ "anyOf": [schema, variable()] })
}
