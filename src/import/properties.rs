//! Java's `.properties` as `java.util.Properties` reads them, with the place of every key.

use crate::config::{At, Problems};

/// One `key = value`.
pub struct Property {
    pub key: String,
    pub value: String,
    /// Where the key begins.
    pub at: At,
    /// Where the format reads something else than most people do.
    pub surprises: Vec<Surprise>,
}

/// Something that Java reads in another way than it looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surprise {
    /// `east -> west.enabled = true`: the key is `east`.
    KeyEndsAtBlank,
    /// `tasks.max = 4 # many`: only whole lines are comments.
    CommentBehind,
    /// `a\.b` is `a.b`.
    BackslashGone,
    /// `"orders"`: the value has quotes.
    Quoted,
    /// Letters beyond ASCII in UTF-8, each of which Java takes for two or more.
    NotLatin1,
}

impl Surprise {
    /// What Java reads, and what to write; never the value.
    pub fn text(self, key: &str) -> String {
        match self {
            Self::KeyEndsAtBlank => {
                format!("a key ends at the first blank, so the key is `{key}`; write it without blanks")
            }
            Self::CommentBehind => {
                "a `#` behind a value is part of it; comments stand on lines of their own".into()
            }
            Self::BackslashGone => {
                "the format takes a single backslash away, so MirrorMaker 2 does not see it; one that counts is written `\\\\`"
                    .into()
            }
            Self::Quoted => "quotes belong to the value; write it without them".into(),
            Self::NotLatin1 => "MirrorMaker 2 reads the file as ISO-8859-1, not as UTF-8, so that letters beyond ASCII are others to it; write them as \\uXXXX".into(),
        }
    }

    /// Whether the value is another than the reader believes.
    pub fn misleads(self) -> bool {
        self != Self::BackslashGone
    }
}

/// Every property in the order of the file; a key may come twice. Java reads a stream of bytes as ISO-8859-1.
pub fn parse(content: &[u8], problems: &mut Problems) -> Vec<Property> {
    let utf8 = std::str::from_utf8(content).is_ok();
    let text: String = content.iter().map(|byte| char::from(*byte)).collect();
    let text = text.replace("\r\n", "\n");
    let mut properties = Vec::new();
    let mut lines = text.split(['\n', '\r']).enumerate();
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
        let (key, value, blank) = split(&logical);
        let surprises = [
            (Surprise::KeyEndsAtBlank, blank && value.contains('=')),
            (
                Surprise::CommentBehind,
                [" #", "\t#"].iter().any(|it| value.contains(it)),
            ),
            (Surprise::BackslashGone, loses_backslash(value)),
            (Surprise::Quoted, value.starts_with(['"', '\''])),
            (Surprise::NotLatin1, utf8 && !logical.is_ascii()),
        ];
        match (unescape(key), unescape(value)) {
            (Some(key), Some(value)) => properties.push(Property {
                key,
                // Kafka's ConfigDef trims every value.
                value: value.trim().to_owned(),
                at,
                surprises: surprises
                    .into_iter()
                    .filter_map(|(surprise, is)| is.then_some(surprise))
                    .collect(),
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

/// Whether a backslash stands before a character that needs none, and so means nothing.
fn loses_backslash(value: &str) -> bool {
    let mut rest = value.chars();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.next().is_some_and(|next| !"\\tnrfu=:#! ".contains(next)) {
            return true;
        }
    }
    false
}

/// The key ends at the first `=`, `:` or blank that is not escaped; whether it was a blank and none of the others
/// comes next.
fn split(line: &str) -> (&str, &str, bool) {
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
    let value = rest.strip_prefix(['=', ':']);
    (
        key,
        value.unwrap_or(rest).trim_start_matches(BLANK),
        value.is_none(),
    )
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
        let found = parse(text.as_bytes(), &mut problems);
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
    fn bytes_are_latin_1_and_a_return_alone_ends_a_line() {
        let mut problems = Problems::new(Path::new("p"));
        let found = parse(b"# \xf1\rcaf\xe9=\xe9\\u00e9\r\nb=1", &mut problems);
        let found: Vec<_> = found
            .iter()
            .map(|it| (&*it.key, &*it.value, it.at.line))
            .collect();
        assert_eq!(found, [("caf\u{e9}", "\u{e9}\u{e9}", 2), ("b", "1", 3)]);
    }

    #[test]
    fn what_java_reads_in_another_way_than_it_looks_is_noticed() {
        use Surprise::*;
        for (line, expected) in [
            ("a=b#c", &[][..]),
            ("a b", &[]),
            ("a = b \\# c", &[]),
            ("a = b\\\\.c\\:\\u0041", &[]),
            ("a -> b.enabled = true", &[KeyEndsAtBlank]),
            ("a = true  # on", &[CommentBehind]),
            ("a = true\t# on", &[CommentBehind]),
            ("a = b\\.c", &[BackslashGone]),
            ("a = \"b\"", &[Quoted]),
            ("a = \u{e9}", &[NotLatin1]),
        ] {
            let found = parse(line.as_bytes(), &mut Problems::new(Path::new("p")));
            assert_eq!(found[0].surprises, expected, "{line}");
        }
    }

    #[test]
    fn a_bad_escape_is_shown_where_its_key_is() {
        let mut problems = Problems::new(Path::new("p"));
        parse(b"a=1\n  b=\\u00g0", &mut problems);
        assert_eq!(
            problems.into_vec()[0].to_string().lines().next(),
            Some("p:2:3: `\\u` needs four hexadecimal digits")
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String) {
            parse(text.as_bytes(), &mut Problems::new(Path::new("p")));
        }

        #[test]
        fn what_is_escaped_comes_back(key in "[^\\s\\x00]{1,8}", value in "([^\\s\\x00]([ -~]{0,8}[^\\s\\x00])?)?") {
            let escape = |text: &str| -> String {
                text.chars().flat_map(|c| match c {
                    '\\' | '=' | ':' | ' ' | '#' | '!' => format!("\\{c}"),
                    c if c.is_ascii() => c.to_string(),
                    c => c.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect(),
                }.chars().collect::<Vec<_>>()).collect()
            };
            prop_assume!(!key.starts_with(char::is_whitespace) && value.trim() == value);
            let found = read(&format!("{}={}\n", escape(&key), escape(&value)));
            prop_assert_eq!((&found[0].0, &found[0].1), (&key, &value));
        }
    }
}
