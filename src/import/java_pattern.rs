//! Expressions of Java → expressions of ours. What looks around becomes an include and excludes, where both
//! select the same names. Text in, text out.

use std::collections::{HashSet, VecDeque};

use regex_automata::Anchored;
use regex_automata::dfa::Automaton;
use regex_automata::util::start;

use crate::config::pattern::pattern;
use crate::topology::automaton;

/// One alternative of an expression: the names that `include` matches and none of `exclude` does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    pub include: String,
    pub exclude: Vec<String>,
}

/// The alternatives of an expression, each in words that we read.
///
/// # Errors
/// Why that cannot be done, as `causeway validate` would say it.
pub fn branches(text: &str) -> Result<Vec<Branch>, String> {
    let text = unquoted(text);
    let (flags, rest) = leading_flags(&text);
    let found = match looks_around(rest) {
        false => Some(vec![Branch {
            include: rest.to_owned(),
            exclude: Vec::new(),
        }]),
        true => alternatives(rest).and_then(|found| {
            let found: Option<Vec<Vec<Branch>>> = found.into_iter().map(|it| branch(&it)).collect();
            Some(found?.concat())
        }),
    };
    let mut found = found.ok_or_else(|| reason(&text))?;
    if found.iter().any(|it| it.include.is_empty()) {
        return Err(reason(&text));
    }
    // No name is empty, so nobody need exclude it.
    found
        .iter_mut()
        .for_each(|it| it.exclude.retain(|it| !it.is_empty()));
    for expression in found
        .iter_mut()
        .flat_map(|it| std::iter::once(&mut it.include).chain(&mut it.exclude))
    {
        *expression = format!("{flags}{expression}");
        // A part that is wrong would be so for Java too; the whole is what its writer knows.
        pattern(expression).map_err(|_| reason(&text))?;
    }
    Ok(found)
}

fn reason(text: &str) -> String {
    match pattern(text) {
        Err(why) => why,
        Ok(_) => "it cannot be taken apart".into(),
    }
}

/// MM2 joins the items of a list with `|`, so a flag such as `(?i)` counts for every later item too.
pub fn with_flags_of_earlier(items: Vec<String>) -> Vec<String> {
    let mut flags = String::new();
    items
        .into_iter()
        .map(|item| {
            let own: Vec<String> = atoms(&item)
                .unwrap_or_default()
                .into_iter()
                .filter(|it| is_flags(it))
                .map(str::to_owned)
                .collect();
            let item = format!("{flags}{item}");
            flags += &own.concat();
            item
        })
        .collect()
}

/// Whether some name matches both expressions; when in doubt, yes.
pub fn overlap(a: &str, b: &str) -> bool {
    const MAX_STATES: usize = 20_000;
    let (Ok(a), Ok(b)) = (automaton(a), automaton(b)) else {
        return true;
    };
    let anchored = start::Config::new().anchored(Anchored::Yes);
    let (Ok(first), Ok(second)) = (a.start_state(&anchored), b.start_state(&anchored)) else {
        return true;
    };
    let mut classes = HashSet::new();
    let alphabet: Vec<u8> = (0..=u8::MAX)
        .filter(|c| classes.insert((a.byte_classes().get(*c), b.byte_classes().get(*c))))
        .collect();
    let mut seen = HashSet::from([(first, second)]);
    let mut queue = VecDeque::from([(first, second)]);
    while let Some((x, y)) = queue.pop_front() {
        if a.is_match_state(a.next_eoi_state(x)) && b.is_match_state(b.next_eoi_state(y)) {
            return true;
        }
        for c in &alphabet {
            let next = (a.next_state(x, *c), b.next_state(y, *c));
            let dead = a.is_dead_state(next.0) || b.is_dead_state(next.1);
            if !dead && seen.insert(next) {
                queue.push_back(next);
            }
        }
        if MAX_STATES < seen.len() {
            return true;
        }
    }
    false
}

const LOOKS: [&str; 4] = ["(?!", "(?=", "(?<!", "(?<="];

fn looks_around(text: &str) -> bool {
    LOOKS.iter().any(|it| text.contains(it))
}

/// `\Q…\E` as characters that mean themselves.
fn unquoted(text: &str) -> String {
    let mut result = String::new();
    let mut rest = text;
    while let Some((before, quoted)) = rest.split_once("\\Q") {
        // In `\\Q` the backslash is the quoted one.
        if before.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1 {
            result += before;
            result += "\\Q";
            rest = quoted;
            continue;
        }
        let (inside, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
        result += before;
        result += &regex::escape(inside);
        rest = after;
    }
    result + rest
}

/// Flags that count for the whole, without those that we have no use for: `d`, `u` and `U` are about lines and
/// letters beyond ASCII.
fn leading_flags(text: &str) -> (String, &str) {
    let mut flags = String::new();
    let mut rest = text;
    while let Some(group) = atoms(rest)
        .and_then(|it| it.first().copied())
        .filter(|it| is_flags(it))
    {
        let kept: String = group.chars().filter(|c| !"duU".contains(*c)).collect();
        if kept != "(?)" {
            flags += &kept;
        }
        rest = &rest[group.len()..];
    }
    (flags, rest)
}

fn is_flags(atom: &str) -> bool {
    atom.strip_prefix("(?")
        .and_then(|it| it.strip_suffix(')'))
        .is_some_and(|it| !it.is_empty() && it.chars().all(|c| c.is_ascii_alphabetic() || c == '-'))
}

/// The parts of an expression: groups, classes, escaped and plain characters. `None`: it is not balanced, or
/// longer than anybody writes.
fn atoms(text: &str) -> Option<Vec<&str>> {
    const LONGEST: usize = 4096;
    if LONGEST < text.len() {
        return None;
    }
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = at + atom(&text[at..])?;
        found.push(&text[at..end]);
        at = end;
    }
    Some(found)
}

/// How long the part is that begins here.
fn atom(text: &str) -> Option<usize> {
    let first = text.chars().next()?;
    match first {
        '\\' => Some(1 + text[1..].chars().next()?.len_utf8()),
        '(' | '[' => {
            let close = if first == '(' { ')' } else { ']' };
            let mut at = 1;
            while !text[at..].starts_with(close) {
                let next = text[at..].chars().next()?;
                // Inside a class a parenthesis means itself.
                at += match first == '[' && next == '(' {
                    true => 1,
                    false => atom(&text[at..])?,
                };
            }
            Some(at + 1)
        }
        other => Some(other.len_utf8()),
    }
}

fn alternatives(text: &str) -> Option<Vec<String>> {
    let atoms = atoms(text)?;
    Some(atoms.split(|it| *it == "|").map(<[&str]>::concat).collect())
}

/// What a plain or a non-capturing group holds.
fn inside(atom: &str) -> Option<&str> {
    let inside = atom.strip_prefix('(')?.strip_suffix(')')?;
    match inside.strip_prefix('?') {
        None => Some(inside),
        Some(rest) => rest.strip_prefix(':'),
    }
}

fn looking<'a>(atom: &'a str, how: &str) -> Option<&'a str> {
    atom.strip_prefix(how)?.strip_suffix(')')
}

fn is_quantifier(atom: &str) -> bool {
    matches!(atom, "*" | "+" | "?" | "{")
}

/// One alternative, which matches whole names.
fn branch(text: &str) -> Option<Vec<Branch>> {
    let all = atoms(text)?;
    let mut atoms = &all[..];
    while let ["^", rest @ ..] = atoms {
        atoms = rest;
    }
    while let [rest @ .., "$"] = atoms {
        atoms = rest;
    }
    if !looks_around(text) {
        return Some(vec![Branch {
            include: text.to_owned(),
            exclude: Vec::new(),
        }]);
    }
    if let [group] = atoms
        && let Some(inside) = inside(group)
    {
        let found: Option<Vec<Vec<Branch>>> = alternatives(inside)?.iter().map(|it| branch(it)).collect();
        return Some(found?.concat());
    }
    if let [group, many @ ("*" | "+")] = atoms
        && let Some(exclude) = tempered(group)
    {
        return Some(vec![Branch {
            include: format!(".{many}"),
            exclude,
        }]);
    }
    let mut exclude = Vec::new();
    while let [rest @ .., last] = atoms
        && let Some(ends) = looking(last, "(?<!")
    {
        for end in alternatives(ends)? {
            exclude.push(format!(".*{}", without_anchors(&end)?.0));
        }
        atoms = rest;
    }
    let first = atoms.iter().position(|it| looks_around(it));
    let (before, rest) = atoms.split_at(first.unwrap_or(0));
    // Only behind a fixed number of characters is it clear from where the look is taken.
    if before.iter().any(|it| is_quantifier(it) || it.starts_with('(')) {
        return None;
    }
    let before = before.concat();
    let mut must = None;
    let mut rest = rest;
    while let [look, after @ ..] = rest {
        if let Some(never) = looking(look, "(?!") {
            for begin in alternatives(never)? {
                exclude.push(format!("{before}{}", beginning(&begin)?));
            }
        } else if let Some(always) = looking(look, "(?=")
            && must.is_none()
        {
            must = Some(always);
        } else {
            break;
        }
        rest = after;
    }
    if rest.first().is_some_and(|it| is_quantifier(it)) || rest.iter().any(|it| looks_around(it)) {
        return None;
    }
    let includes = match must {
        None => vec![format!("{before}{}", rest.concat())],
        Some(begins) if rest.concat() == ".*" => {
            let begins: Option<Vec<String>> = alternatives(begins)?.iter().map(|it| beginning(it)).collect();
            begins?.iter().map(|it| format!("{before}{it}")).collect()
        }
        Some(_) => return None,
    };
    let branches = includes.into_iter().map(|include| Branch {
        include,
        exclude: exclude.clone(),
    });
    Some(branches.collect())
}

/// `((?!test).)`: with `*` behind it, every name that does not hold `test` anywhere.
fn tempered(group: &str) -> Option<Vec<String>> {
    let atoms = atoms(inside(group)?)?;
    let [look, "."] = atoms[..] else {
        return None;
    };
    let held = alternatives(looking(look, "(?!")?)?;
    held.iter()
        .map(|it| Some(format!(".*{}", beginning(it)?)))
        .collect()
}

/// The names that begin so: of `a$` it is the whole name.
fn beginning(text: &str) -> Option<String> {
    let (text, whole) = without_anchors(text)?;
    Some(match whole || text.ends_with(".*") && !text.ends_with("\\.*") {
        true => text,
        false => text + ".*",
    })
}

/// Without `^` in front and `$` behind; whether there was a `$`.
fn without_anchors(text: &str) -> Option<(String, bool)> {
    if looks_around(text) {
        return None;
    }
    let all = atoms(text)?;
    let atoms = all.strip_prefix(&["^"]).unwrap_or(&all);
    Some(match atoms.strip_suffix(&["$"]) {
        Some(atoms) => (atoms.concat(), true),
        None => (atoms.concat(), false),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_looks_around_is_written_with_excludes() {
        for (java, expected) in [
            ("orders.*", &[("orders.*", &[][..])][..]),
            ("^(?!__.*$).*", &[(".*", &["__.*"])]),
            ("(?!dev-).*", &[(".*", &["dev-.*"])]),
            (
                "^(?!mm2|strimzi|__).*$",
                &[(".*", &["mm2.*", "strimzi.*", "__.*"])],
            ),
            ("(?!a)(?!b$).+", &[(".+", &["a.*", "b"])]),
            ("(^(?!a).*$)", &[(".*", &["a.*"])]),
            ("x.*|(?!a).*", &[("x.*", &[]), (".*", &["a.*"])]),
            ("orders\\.(?!tmp).*", &[("orders\\..*", &["orders\\.tmp.*"])]),
            ("[ab]\\d(?!x)\\w+", &[("[ab]\\d\\w+", &["[ab]\\dx.*"])]),
            ("^((?!test|tmp$).)*$", &[(".*", &[".*test.*", ".*tmp"])]),
            ("(?:(?!test).)+", &[(".+", &[".*test.*"])]),
            ("^(?!.*test).*$", &[(".*", &[".*test.*"])]),
            (".*(?<!-tmp)$", &[(".*", &[".*-tmp"])]),
            ("(?!a).*(?<!-tmp|-old)", &[(".*", &[".*-tmp", ".*-old", "a.*"])]),
            ("(?=a|b).*", &[("a.*", &[]), ("b.*", &[])]),
            ("(?=.*shop)(?!dev).*", &[(".*shop.*", &["dev.*"])]),
            ("(?i)(?!dev).*", &[("(?i).*", &["(?i)dev.*"])]),
            ("(?iu).*-TMP$", &[("(?i).*-TMP$", &[])]),
            ("\\Qa.b\\E.*", &[("a\\.b.*", &[])]),
            ("(?!$).*", &[(".*", &[])]),
            ("(?!a\\.*).*", &[(".*", &["a\\.*.*"])]),
        ] {
            let found = branches(java).unwrap_or_else(|why| panic!("{java}: {why}"));
            let found: Vec<(&str, Vec<&str>)> = found
                .iter()
                .map(|it| (&*it.include, it.exclude.iter().map(String::as_str).collect()))
                .collect();
            let expected: Vec<(&str, Vec<&str>)> = expected.iter().map(|(a, b)| (*a, b.to_vec())).collect();
            assert_eq!(found, expected, "{java}");
        }
    }

    #[test]
    fn what_cannot_be_written_so_keeps_its_reason() {
        for (java, why) in [
            (".*(?!a).*", "look-ahead"),
            ("a+(?!b).*", "look-ahead"),
            ("(a|b)(?!c).*", "look-ahead"),
            ("(?!a)*b", "look-ahead"),
            ("(?!a)", "look-ahead"),
            ("(?!a(?!b)).*", "look-ahead"),
            ("(?=a)b.*", "look-ahead"),
            ("(?<=a)b", "look-behind"),
            ("(?<!a)b", "look-behind"),
            ("a*+", "possessive"),
            ("(a)\\1", "back reference"),
            ("(?!a", "look-ahead"),
            ("*.x", "for any name write"),
        ] {
            let found = branches(java).expect_err(java);
            assert!(found.contains(why), "{java}: {found}");
        }
    }

    #[test]
    fn flags_count_for_the_items_behind_them() {
        let list = |items: &[&str]| with_flags_of_earlier(items.iter().map(|it| (*it).to_owned()).collect());
        assert_eq!(list(&["a", "(?i)b", "c"]), ["a", "(?i)b", "(?i)c"]);
        assert_eq!(list(&["(a(?i)b)", "c"]), ["(a(?i)b)", "c"]);
    }

    #[test]
    fn expressions_overlap_when_one_name_matches_both() {
        assert!(overlap("orders.*", ".*-tmp"));
        assert!(!overlap("billing.*|camunda.*", "dev-.*"));
        assert!(overlap("(?i)DEV.*", "dev-.*"));
        assert!(overlap("caf\u{e9}.*", ".*\u{e9}"));
    }

    proptest! {
        #[test]
        fn no_expression_panics(text: String) {
            let _ = branches(&text);
            let _ = branches(&format!("(?!{text}).*"));
            let _ = with_flags_of_earlier(vec![text]);
        }

    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(40))]

        /// The names beginning, ending and holding a word, by what the words themselves say.
        #[test]
        fn the_same_names_are_selected(
            name in "[ab-]{0,6}", prefix in "[ab]?", begins in "[ab-]{1,2}", holds in "[ab-]{1,3}", ends in "[ab-]{1,2}",
        ) {
            let select = |java: &str| branches(java).expect(java).iter().any(|it| {
                let matches = |text: &String| pattern(text).expect("it was tried").is_match(&name);
                matches(&it.include) && !it.exclude.iter().any(matches)
            });
            let behind = name.strip_prefix(prefix.as_str());
            prop_assert_eq!(
                select(&format!("{prefix}(?!{begins}|b-).*")),
                behind.is_some_and(|it| !it.starts_with(&begins) && !it.starts_with("b-"))
            );
            prop_assert_eq!(select(&format!("^((?!{holds}).)*$")), !name.contains(&holds));
            prop_assert_eq!(select(&format!(".*(?<!{ends})$")), !name.ends_with(&ends));
            prop_assert_eq!(select(&format!("(?=.*{holds})(?!{begins}$).*")), name.contains(&holds) && name != begins);
        }
    }
}
