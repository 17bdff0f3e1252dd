//! Lists of Java's expressions → lists of ours.

use crate::config::pattern::{java_only, pattern};
use crate::config::short;
use crate::import::input::{Id, Sheet};
use crate::import::java_pattern::{Branch, branches, overlap, with_flags_of_earlier};
use crate::import::properties::Surprise;
use crate::import::value::literal;
use crate::import::verdicts::Class;
use crate::import::write::one_line;

/// A list of expressions as our files hold it.
pub fn expressions(items: &[String]) -> Vec<String> {
    let mut once: Vec<String> = Vec::new();
    for item in items.iter().map(|it| literal(it)) {
        if !once.contains(&item) {
            once.push(item);
        }
    }
    once
}

/// Expressions within a sentence.
fn listed<'a>(items: impl IntoIterator<Item = &'a String>) -> String {
    let items: Vec<&str> = items.into_iter().map(String::as_str).collect();
    items.join("`, `")
}

impl Sheet {
    /// The expressions of a list of settings that causeway can read. The others are shown.
    pub fn patterns(&mut self, id: Id, mut items: Vec<String>, what: &str) -> Vec<String> {
        items.retain(|item| match pattern(item) {
            Ok(_) => true,
            Err(why) => {
                self.left_out(id, item, what, &why);
                false
            }
        });
        items.iter().map(|it| literal(it)).collect()
    }

    fn left_out(&mut self, id: Id, item: &str, what: &str, why: &str) {
        let comma = match java_only(item) {
            Some(_) => "",
            None => " (MirrorMaker 2 splits at every comma)",
        };
        let text = format!("`{}` is left out, {what}: {why}{comma}", short(item));
        self.decide(id, Class::NoEquivalent, text);
    }

    /// The items of a list, with the flags that count for them, each taken apart. Items that cannot be written are
    /// shown.
    fn taken_apart(&mut self, id: Id, items: Vec<String>, what: &str) -> Vec<(String, Vec<Branch>)> {
        let with_flags = with_flags_of_earlier(items.clone());
        let mut taken = Vec::new();
        for (item, with_flags) in items.into_iter().zip(with_flags) {
            let said = self.reads_otherwise(id, Surprise::Quoted);
            if !said && item.starts_with(['"', '\'']) {
                let text = format!(
                    "the quotes of `{}` belong to the expression, and no name has them: it selects nothing",
                    short(&item)
                );
                self.decide(id, Class::Different, text);
            }
            if item != with_flags {
                let text = format!(
                    "`{}` is written as `{}`: MirrorMaker 2 joins the items, so the flags of one count for those behind it",
                    short(&item),
                    short(&with_flags)
                );
                self.carried(id, text);
            }
            match branches(&with_flags) {
                Ok(branches) => taken.push((with_flags, branches)),
                Err(why) => self.left_out(id, &with_flags, what, &why),
            }
        }
        taken
    }

    /// The expressions of a list that selects, and what to exclude besides, where that selects the same names.
    /// `anyway` knows what is excluded whatever the list says.
    pub fn included(
        &mut self,
        id: Id,
        items: Vec<String>,
        what: &str,
        anyway: &dyn Fn(&str) -> bool,
    ) -> (Vec<String>, Vec<String>) {
        let taken = self.taken_apart(id, items, what);
        let all: Vec<&Branch> = taken.iter().flat_map(|(_, it)| it).collect();
        let (mut include, mut exclude) = (Vec::new(), Vec::new());
        for (item, branches) in &taken {
            let all_out = branches.iter().flat_map(|it| &it.exclude);
            let (anyway, own): (Vec<&String>, Vec<&String>) = all_out.partition(|it| anyway(it));
            // An exclude counts for the whole list.
            let takes_more = own.iter().any(|out| {
                let mut others = all.iter().filter(|it| !it.exclude.contains(*out));
                others.any(|it| overlap(out, &it.include))
            });
            let construct = java_only(item).unwrap_or_default();
            if takes_more {
                let why = format!(
                    "{construct} exists in Java only, and `exclude` would take names from the rest of the list too"
                );
                self.left_out(id, item, what, &why);
                continue;
            }
            let written: Vec<&String> = branches.iter().map(|it| &it.include).collect();
            if !construct.is_empty() {
                let mut text = format!(
                    "{construct} exists in Java only: `{}` is written as `{}`",
                    short(item),
                    listed(written.iter().copied())
                );
                if !own.is_empty() {
                    text += &format!(" and exclude `{}`", listed(own.iter().copied()));
                }
                if !anyway.is_empty() {
                    text += &format!("; `{}` is left out anyway", listed(anyway));
                }
                self.carried(id, one_line(&text));
            }
            include.extend(written.into_iter().cloned());
            exclude.extend(own.into_iter().cloned());
        }
        (include, exclude)
    }

    /// The expressions of a list that excludes. One that excludes all but some names narrows an `include` of `.*`.
    pub fn excluded(
        &mut self,
        id: Id,
        items: Vec<String>,
        what: &str,
        include: &mut Vec<String>,
    ) -> Vec<String> {
        let mut exclude = Vec::new();
        for (item, branches) in self.taken_apart(id, items, what) {
            let construct = java_only(&item).unwrap_or_default();
            if branches.iter().all(|it| it.exclude.is_empty()) {
                exclude.extend(branches.into_iter().map(|it| it.include));
            } else if let [only] = &branches[..]
                && only.include.trim_start_matches("(?i)") == ".*"
                && *include == [".*"]
            {
                include.clone_from(&only.exclude);
                let text = format!(
                    "{construct} exists in Java only: `{}` excludes all but `{}`, which is written to include",
                    short(&item),
                    listed(&only.exclude)
                );
                self.carried(id, one_line(&text));
            } else {
                let why =
                    format!("{construct} exists in Java only; say in the include list what is to be left");
                self.left_out(id, &item, what, &why);
            }
        }
        exclude
    }
}
