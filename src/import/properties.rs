//! Java's `.properties` as `java.util.Properties` reads them, with the place of every key.

use crate::config::{At, Problems};

/// One `key = value`.
pub struct Property {
    pub key: String,
    pub value: String,
    /// Where the key begins.
    pub at: At,
}

/// Every property in the order of the file; a key may come twice.
pub fn parse(text: &str, problems: &mut Problems) -> Vec<Property> {
    let mut properties = Vec::new();
    let mut lines = text
        .split('\n')
        .map(|line| line.strip_suffix('\r').unwrap_or(line))
        .enumerate();
    while let Some((number, line)) = lines.next() {
        let start = line.trim_start_matches(BLANK);
        if start.is_empty() || start.starts_with(['#', '!']) {
            continue;
        }
        let indent = line.chars().count() - start.chars().count();
        let at = At::new(number + 1, indent + 1);
        let mut logical = start.to_owned();
        // A line goes on when it ends in an odd number of backslashes.
        while logical.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            logical.pop();
            match lines.next() {
                Some((_, next)) => logical.push_str(next.trim_start_matches(BLANK)),
                None => break,
            }
        }
        let (key, value) = split(&logical);
        match (unescape(key), unescape(value)) {
            (Some(key), Some(value)) => properties.push(Property {
                key,
                // Kafka's ConfigDef trims every value.
                value: value.trim().to_owned(),
                at,
            }),
            _ => {
                problems.add(at, "`\\u` needs four hexadecimal digits").hint =
                    Some("write `\\\\u` for a backslash and a u".into());
            }
        }
    }
    properties
}

const BLANK: [char; 3] = [' ', '\t', '\u{c}'];

/// The key ends at the first `=`, `:` or blank that is not escaped.
fn split(line: &str) -> (&str, &str) {
    let mut escaped = false;
    let end = line
        .char_indices()
        .find(|(_, c)| {
            let ends = !escaped && (matches!(c, '=' | ':') || BLANK.contains(c));
            escaped = *c == '\\' && !escaped;
            ends
        })
        .map_or(line.len(), |(at, _)| at);
    let (key, rest) = line.split_at(end);
    let rest = rest.trim_start_matches(BLANK);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANK))
}

fn unescape(text: &str) -> Option<String> {
    let mut units = Vec::new();
    let mut push = |c: char| units.extend_from_slice(c.encode_utf16(&mut [0; 2]));
    let mut unicode: Vec<(usize, u16)> = Vec::new();
    let mut length = 0;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let c = match c {
            '\\' => match rest.next() {
                Some('t') => '\t',
                Some('n') => '\n',
                Some('r') => '\r',
                Some('f') => '\u{c}',
                Some('u') => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let all = digits.len() == 4 && digits.chars().all(|d| d.is_ascii_hexdigit());
                    let unit = u16::from_str_radix(&digits, 16).ok().filter(|_| all)?;
                    unicode.push((length, unit));
                    '\0'
                }
                Some(other) => other,
                None => break,
            },
            c => c,
        };
        push(c);
        length += c.len_utf16();
    }
    // `\uD83D\uDE00` is one character in two units.
    for (at, unit) in unicode {
        units[at] = unit;
    }
    Some(String::from_utf16_lossy(&units))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Vec<(String, String, String)> {
        let mut problems = Problems::new(Path::new("p"));
        let found = parse(text, &mut problems);
        assert!(problems.into_vec().is_empty(), "{text}");
        found
            .into_iter()
            .map(|p| (p.key, p.value, p.at.to_string()))
            .collect()
    }

    #[test]
    fn lines_are_read_as_java_reads_them() {
        let text = "# c\n! c\n\n  a = b \nc:d\ne f\ng\\=\\ h\\:=i\\\n   j \\\\\nk=l\\u00e9\\uD83D\\uDE00\\\r\n m\\\nn";
        let expected = [
            ("a", "b", "4:3"),
            ("c", "d", "5:1"),
            ("e", "f", "6:1"),
            ("g= h:", "ij \\", "7:1"),
            ("k", "lé😀mn", "9:1"),
        ];
        let expected: Vec<_> = expected
            .iter()
            .map(|(a, b, c)| (a.to_string(), b.to_string(), c.to_string()))
            .collect();
        assert_eq!(read(text), expected);
        assert_eq!(read("a->b.topics = x, \\\n  y")[0].1, "x, y");
    }

    #[test]
    fn a_bad_escape_is_shown_where_its_key_is() {
        let mut problems = Problems::new(Path::new("p"));
        parse("a=1\n  b=\\u00g0", &mut problems);
        assert_eq!(
            problems.into_vec()[0].to_string().lines().next(),
            Some("p:2:3: `\\u` needs four hexadecimal digits")
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            parse(&text, &mut Problems::new(Path::new("p")));
        }

        #[test]
        fn what_is_escaped_comes_back(key in "[^\\s\\x00]{1,8}", value in "([^\\s\\x00]([ -~]{0,8}[^\\s\\x00])?)?") {
            let escape = |text: &str| -> String {
                text.chars().flat_map(|c| match c {
                    '\\' | '=' | ':' | ' ' | '#' | '!' => vec!['\\', c],
                    c => vec![c],
                }).collect()
            };
            prop_assume!(!key.starts_with(char::is_whitespace) && value.trim() == value);
            let found = read(&format!("{}={}\n", escape(&key), escape(&value)));
            prop_assert_eq!((&found[0].0, &found[0].1), (&key, &value));
        }
    }
}
