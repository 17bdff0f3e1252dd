//! Regular expressions of users: they match whole names, and must not mean another thing than to MM2.

use regex::Regex;

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
