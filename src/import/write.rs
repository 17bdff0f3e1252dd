//! YAML as causeway's own reader takes it.

use std::collections::BTreeMap;

/// A scalar or key: plain where nothing can be misread, else in double quotes.
pub fn scalar(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | '/'))
        && !["null", "Null", "NULL"].contains(&text);
    if plain {
        return text.to_owned();
    }
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\t' => quoted.push_str("\\t"),
            c if is_unprintable(c) => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// What YAML calls a break or refuses to print.
pub fn is_unprintable(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// `[a, "b.*"]`
pub fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| scalar(item)).collect();
    format!("[{}]", items.join(", "))
}

/// Keys of `replication:` with the values to write: section (empty for none), key.
pub type Settings = BTreeMap<(&'static str, &'static str), String>;

/// The order in which a person would write them.
const ORDER: &[&str] = &[
    "topics",
    "groups",
    "",
    "config_sync",
    "offset_sync",
    "heartbeats",
    "mirror_maker",
];

/// `replication:` or one of `flows:`, indented by `indent`.
pub fn settings(settings: &Settings, indent: usize) -> String {
    let blanks = " ".repeat(indent);
    let mut text = String::new();
    for section in ORDER {
        let keys = settings.iter().filter(|((it, _), _)| it == section);
        let mut keys: Vec<(&str, &str)> = keys.map(|((_, key), value)| (*key, value.as_str())).collect();
        // `include` before `exclude`, `interval` before the rest.
        keys.sort_by_key(|(key, _)| !["include", "interval", "enabled", "replication_policy"].contains(key));
        if keys.is_empty() {
            continue;
        }
        let blanks = match section {
            &"" => blanks.clone(),
            section => {
                text += &format!("{blanks}{section}:\n");
                format!("{blanks}  ")
            }
        };
        for (key, value) in keys {
            text += &format!("{blanks}{key}: {value}\n");
        }
    }
    text
}
