//! Variables of templates, which somebody should have filled in.

use crate::config::short;

/// Whether a text can be the name of a variable.
pub fn is_variable(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What to do about [`variables`].
pub const UNFILLED: &str = "fill in the template's variables first, and import the result";

/// Variables of a template that nobody has filled in, as they are written: `${NAME}`, `$NAME`, `{{ name }}`.
/// MM2 knows none of them; its own references name a provider (`${env:NAME}`).
pub fn variables(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices('$') {
        let rest = &text[at + 1..];
        if let Some((inside, _)) = rest.strip_prefix('{').and_then(|it| it.split_once('}')) {
            let name = inside.split_once(":-").map_or(inside, |(name, _)| name);
            if is_variable(name) {
                found.push(format!("${{{name}}}"));
            }
        } else {
            let end = rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let name = &rest[..end.unwrap_or(rest.len())];
            if is_variable(name) {
                found.push(format!("${name}"));
            }
        }
    }
    for (at, _) in text.match_indices("{{") {
        let name = text[at + 2..].split("}}").next().unwrap_or_default();
        found.push(format!("{{{{ {} }}}}", short(name.trim())));
    }
    found
}

/// The variables of a text in which every `${…}` is a plain name, as templates have them.
pub fn name_of_template(text: &str) -> Option<Vec<String>> {
    let parts: Vec<&str> = text.split("${").skip(1).collect();
    parts
        .into_iter()
        .map(|part| {
            part.split_once('}')
                .map(|(inside, _)| inside.split_once(":-").map_or(inside, |(name, _)| name))
                .filter(|name| is_variable(name))
                .map(str::to_owned)
        })
        .collect()
}
