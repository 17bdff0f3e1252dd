//! What the clusters are called in causeway's files.

use crate::config::schema::{ALIAS, Kind};
use crate::config::short;
use crate::import::input::{Cluster, Sheet};
use crate::import::verdicts::Class;

/// A cluster in causeway's words.
pub struct Named<'a> {
    pub cluster: &'a Cluster,
    /// The alias, with what causeway does not take in one replaced.
    pub name: String,
    /// Begins the names of its variables.
    pub prefix: String,
}

/// The name of every cluster, and where they differ from MM2's aliases, that topic names will too.
pub fn names<'a>(clusters: &'a [Cluster], sheet: &mut Sheet) -> Vec<Named<'a>> {
    let Kind::Name { set, .. } = ALIAS else {
        unreachable!("an alias is a name")
    };
    let mut names: Vec<Named> = Vec::new();
    for cluster in clusters {
        let mut clean = cluster.alias.replace(|c| !set(c), "-");
        if clean.is_empty() {
            "cluster".clone_into(&mut clean);
        }
        let name = unique(&clean, |it| names.iter().any(|other| other.name == it));
        let mut upper = clean.to_uppercase().replace('-', "_");
        if upper.starts_with(|c: char| c.is_ascii_digit()) {
            upper.insert(0, '_');
        }
        let prefix = unique(&upper, |it| names.iter().any(|other| other.prefix == it));
        if name != cluster.alias
            && let Some(id) = cluster.bootstrap
        {
            let text = format!(
                "causeway's aliases are letters, digits, `_` and `-`: `{}` is written as `{name}`, so topics that MirrorMaker 2 called `{0}.…` get another name",
                short(&cluster.alias)
            );
            sheet.decide(id, Class::Different, text);
        }
        names.push(Named {
            cluster,
            name,
            prefix,
        });
    }
    names
}

fn unique(wanted: &str, taken: impl Fn(&str) -> bool) -> String {
    let others = (2..).map(|number| format!("{wanted}_{number}"));
    std::iter::once(wanted.to_owned())
        .chain(others)
        .find(|it| !taken(it))
        .expect("numbers do not end")
}

/// What causeway calls the cluster of an alias.
pub fn named<'a>(alias: &str, names: &'a [Named]) -> &'a str {
    let named = names.iter().find(|it| it.cluster.alias == alias);
    named.map_or("", |it| it.name.as_str())
}
