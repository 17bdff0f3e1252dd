//! `security:` of one cluster, line by line.

use crate::import::input::{Id, Sheet};
use crate::import::value::{literal, reference};
use crate::import::verdicts::Holds;
use crate::import::write::Map;

pub const OIDC: &str = "needs a causeway built with `--features oidc`";

pub struct Builder<'a> {
    prefix: &'a str,
    pub sheet: &'a mut Sheet,
    pub lines: Map,
}

impl<'a> Builder<'a> {
    pub fn new(prefix: &'a str, sheet: &'a mut Sheet) -> Self {
        Self {
            prefix,
            sheet,
            lines: Map::default(),
        }
    }

    pub fn line(&mut self, key: &str, text: impl Into<String>) {
        self.lines.put(key, text.into());
    }

    pub fn name(&self, end: &str) -> String {
        format!("{}_{end}", self.prefix)
    }

    /// A variable that stands for something the input does not hold as we need it.
    pub fn placeholder(&mut self, key: &str, end: &str, what: impl Into<String>, holds: Holds) -> String {
        let name = self.name(end);
        self.sheet.variable(&name, what.into(), holds);
        self.line(key, format!("${{{name}}}"));
        name
    }

    /// Something that the input should say; `who` does not.
    pub fn not_said(&mut self, key: &str, end: &str, who: &str) {
        let what = format!("security.{key}: the {who} does not say");
        self.placeholder(key, end, what, Holds::Text);
    }

    /// The value of a key, or a part of it, as it is.
    pub fn written(&mut self, id: Id, key: &str, value: &str) {
        self.line(key, literal(value));
        self.sheet.carried(id, format!("→ security.{key}"));
    }

    /// The value of a key, which may refer to another place.
    pub fn text(&mut self, id: Id, key: &str, end: &str) {
        let text = self.sheet.text(id, &self.name(end), Holds::Text);
        self.line(key, text);
        self.sheet.carried(id, format!("→ security.{key}"));
    }

    /// An option of `sasl.jaas.config` that is no secret.
    pub fn option(&mut self, key: &str, jaas: Option<Id>, value: Option<&String>, end: &str) {
        match (value.filter(|it| !it.is_empty()), jaas) {
            (Some(value), Some(id)) if reference(value, self.sheet).is_none() => self.written(id, key, value),
            (Some(value), Some(id)) => {
                let name = self.name(end);
                let (_, text) = self.sheet.secret(id, value, &format!("security.{key}"), &name);
                self.line(key, text);
            }
            _ => self.not_said(key, end, "input"),
        }
    }

    pub fn secret(&mut self, key: &str, id: Option<Id>, value: Option<&String>, end: &str) {
        let (Some(value), Some(id)) = (value, id) else {
            return self.not_said(key, end, "input");
        };
        let name = self.name(end);
        let (suffix, text) = self.sheet.secret(id, value, &format!("security.{key}"), &name);
        self.line(&format!("{key}{suffix}"), text);
    }
}
