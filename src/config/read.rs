//! A tree read as the values of the keys it may hold. Whatever does not fit is a problem, and all are told.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::problem::{At, Problems, short, suggest};
use super::schema::{Key, Kind, Presence};
use super::value;
use super::yaml::{Entry, Kind as Yaml, Node};

/// Largest file read, secrets included.
const MAX_FILE: u64 = 4 << 20;

/// Where a key stands, and whether.
#[derive(Clone, Copy, Debug)]
pub struct Spot {
    pub name: &'static str,
    /// A scalar itself, else the key before it. Where the key is absent, the section.
    pub at: At,
    pub is_written: bool,
    /// What is written has been reported; the value is that of an absent key.
    pub is_wrong: bool,
}

/// The value of a key, written or not.
#[derive(Clone, Debug)]
pub struct Setting<T> {
    pub spot: Spot,
    pub value: T,
}

impl<T> Deref for Setting<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

impl<T> Setting<T> {
    /// What is written, if it is right.
    pub fn written(&self) -> Option<&T> {
        (self.spot.is_written && !self.spot.is_wrong).then_some(&self.value)
    }

    /// Lays `over` on top. `merge` gives back what replaces the value below.
    pub fn lay(&mut self, over: Self, merge: impl FnOnce(&mut T, T) -> Option<T>) {
        if !self.spot.is_written {
            *self = over;
        } else if over.spot.is_written
            && let Some(value) = merge(&mut self.value, over.value)
        {
            let spot = over.spot;
            *self = Self { spot, value };
        }
    }
}

/// Why there is no value.
pub enum Refused {
    /// It has been said.
    Told,
    /// Something of this kind cannot stand here.
    Misfit,
}

/// What may stand after a key, and what it is read as.
pub trait Shape {
    type Value: Clone + Debug;
    const KIND: Kind;

    /// `key_at` is the place of the value as a whole, `what` its name in messages.
    fn accept(reader: &mut Reader<'_>, node: &Node, key_at: At, what: &str) -> Result<Self::Value, Refused>;

    /// The value of a text that is no place for variables: a default, or what a file holds.
    fn of_text(_text: &str) -> Option<Self::Value> {
        None
    }

    /// The value of a key without a default that is not there, or wrong. What holds others is there, and empty.
    fn absent(_at: At) -> Option<Self::Value> {
        None
    }

    /// Lays `over` on top; gives back what does not merge with what is there but replaces it.
    fn merge(_below: &mut Self::Value, over: Self::Value) -> Option<Self::Value> {
        Some(over)
    }
}

/// A value that is one word of text.
pub trait Scalar {
    type Value: Clone + Debug;
    const KIND: Kind;
    const MAY_BE_EMPTY: bool = false;
    /// What stands for it in the reference, where it is the key.
    const PLACEHOLDER: &'static str = "name";

    /// The error is a hint: what was meant.
    fn parse(text: &str) -> Result<Self::Value, Option<String>>;
}

impl<S: Scalar> Shape for S {
    type Value = S::Value;
    const KIND: Kind = S::KIND;

    fn accept(reader: &mut Reader<'_>, node: &Node, _: At, what: &str) -> Result<S::Value, Refused> {
        reader.scalar(node, what, S::MAY_BE_EMPTY, &S::KIND, S::parse)
    }

    fn of_text(text: &str) -> Option<S::Value> {
        S::parse(text).ok()
    }
}

/// What a table of keys says of one: its shape, and whether there is a value if it is absent or wrong.
pub trait Field {
    type Shape: Shape;
    type Value: Clone + Debug;
    const PRESENCE: Presence = Presence::Optional;

    fn value(read: Option<<Self::Shape as Shape>::Value>, at: At, default: &'static str) -> Self::Value;

    fn merge(_below: &mut Self::Value, over: Self::Value) -> Option<Self::Value> {
        Some(over)
    }
}

/// A key with a default, or of a shape that may be empty.
impl<S: Shape> Field for S {
    type Shape = S;
    type Value = S::Value;

    fn value(read: Option<S::Value>, at: At, default: &'static str) -> S::Value {
        read.or_else(|| S::of_text(default))
            .or_else(|| S::absent(at))
            .expect("every default in a table is valid, as a test shows")
    }

    fn merge(below: &mut S::Value, over: S::Value) -> Option<S::Value> {
        S::merge(below, over)
    }
}

impl<S: Shape> Field for Option<S> {
    type Shape = S;
    type Value = Option<S::Value>;

    fn value(read: Option<S::Value>, _: At, _: &'static str) -> Self::Value {
        read
    }
}

/// A key that has to be there; without it there is no value.
pub struct Required<S>(PhantomData<S>);

impl<S: Shape> Field for Required<S> {
    type Shape = S;
    type Value = Option<S::Value>;
    const PRESENCE: Presence = Presence::Required;

    fn value(read: Option<S::Value>, _: At, _: &'static str) -> Self::Value {
        read
    }
}

/// Keys that stand together. [`keys!`](super::keys::keys) writes these.
pub trait Section: Clone + Debug + Sized {
    fn keys() -> &'static [Key];

    fn read(entries: Entries<'_, '_>) -> Self;

    /// Lays `over` on top, key by key, sections within sections.
    fn merge(&mut self, over: Self);

    /// Nothing of it is written, at this place.
    fn absent(at: At) -> Self {
        Self::read(Entries { at, found: None })
    }
}

/// A section under a key. It is there even if the key is not.
pub struct Table<T>(PhantomData<T>);

impl<T: Section> Shape for Table<T> {
    type Value = T;
    const KIND: Kind = Kind::Table(T::keys);

    fn accept(reader: &mut Reader<'_>, node: &Node, key_at: At, _: &str) -> Result<T, Refused> {
        Ok(reader.section(node.entries()?, key_at))
    }

    fn absent(at: At) -> Option<T> {
        Some(T::absent(at))
    }

    fn merge(below: &mut T, over: T) -> Option<T> {
        below.merge(over);
        None
    }
}

/// One of some words that stand for values.
pub trait Words: Copy + Debug + 'static {
    const WORDS: &'static [&'static str];
    /// In the same order.
    const VALUES: &'static [Self];
}

/// A word, or keys that say more.
#[derive(Clone, Debug)]
pub enum WordOr<W, T> {
    Word(W),
    Keys(T),
}

impl<W: Words + Scalar<Value = W>, T: Section> Shape for WordOr<W, T> {
    type Value = Self;
    const KIND: Kind = Kind::WordOr(W::WORDS, T::keys);

    fn accept(reader: &mut Reader<'_>, node: &Node, key_at: At, what: &str) -> Result<Self, Refused> {
        if let Yaml::Map(entries) = &node.kind {
            return Ok(Self::Keys(reader.section(entries, key_at)));
        }
        let word = reader.scalar(node, what, false, &<Self as Shape>::KIND, W::parse);
        word.map(Self::Word)
    }

    fn of_text(text: &str) -> Option<Self> {
        W::parse(text).ok().map(Self::Word)
    }

    fn merge(below: &mut Self, over: Self) -> Option<Self> {
        match (below, over) {
            (Self::Keys(below), Self::Keys(over)) => {
                below.merge(over);
                None
            }
            (_, over) => Some(over),
        }
    }
}

/// The items with their places; without a value where one has been reported.
impl<S: Shape> Shape for Vec<S> {
    type Value = Vec<(At, Option<S::Value>)>;
    const KIND: Kind = Kind::List(&S::KIND);

    fn accept(reader: &mut Reader<'_>, node: &Node, _: At, what: &str) -> Result<Self::Value, Refused> {
        let Yaml::List(items) = &node.kind else {
            return Err(Refused::Misfit);
        };
        let what = format!("an item of {what}");
        let read = |item: &Node| (item.at, reader.value::<S>(item, item.at, &what));
        Ok(items.iter().map(read).collect())
    }

    fn absent(_: At) -> Option<Self::Value> {
        Some(Vec::new())
    }
}

/// Any names, each with a value of the same shape.
pub struct Each<K, V>(PhantomData<(K, V)>);

/// One of them. Its name has been reported if it is not a `K`; it is there all the same.
#[derive(Clone, Debug)]
pub struct Named<T> {
    pub name: String,
    pub at: At,
    pub value: Option<T>,
}

impl<K: Scalar, V: Shape> Shape for Each<K, V> {
    type Value = Vec<Named<V::Value>>;
    const KIND: Kind = Kind::Each {
        name: K::PLACEHOLDER,
        key: &K::KIND,
        value: &V::KIND,
    };

    fn accept(reader: &mut Reader<'_>, node: &Node, _: At, _: &str) -> Result<Self::Value, Refused> {
        let read = |entry: &Entry| {
            let (name, at) = (entry.key.clone(), entry.key_at);
            let what = format!("`{}`", short(&name));
            if K::parse(&name).is_err() {
                let message = format!("the name {what} must be {}", K::KIND);
                reader.problems.add(at, message);
            }
            let value = reader.value::<V>(&entry.value, at, &what);
            Named { name, at, value }
        };
        Ok(node.entries()?.iter().map(read).collect())
    }

    fn absent(_: At) -> Option<Self::Value> {
        Some(Vec::new())
    }
}

/// The entries of a section, or that there is none.
pub struct Entries<'a, 'r> {
    at: At,
    found: Option<(&'a [Entry], &'a mut Reader<'r>)>,
}

impl Entries<'_, '_> {
    /// The value of the key with this name.
    pub fn setting<F: Field>(&mut self, name: &'static str, default: &'static str) -> Setting<F::Value> {
        let mut spot = Spot {
            name,
            at: self.at,
            is_written: false,
            is_wrong: false,
        };
        let mut value = None;
        if let Some((entries, reader)) = &mut self.found {
            for entry in *entries {
                value = if entry.key == name {
                    reader.value::<F::Shape>(&entry.value, entry.key_at, &format!("`{name}`"))
                } else if names(&F::Shape::KIND, name, &entry.key) {
                    let secret = reader.secret_from_file(entry);
                    secret.and_then(|secret| F::Shape::of_text(&secret))
                } else {
                    continue;
                };
                // Two words for one key. The same word twice is reported earlier.
                if spot.is_written {
                    let message = format!("both `{name}` and `{name}_file` are given");
                    reader.problems.add(entry.key_at, message).hint = Some("keep one of them".into());
                }
                spot.at = match entry.value.kind {
                    Yaml::Scalar(_) => entry.value.at,
                    _ => entry.key_at,
                };
                spot.is_written = true;
                spot.is_wrong = value.is_none();
            }
        }
        Setting {
            spot,
            value: F::value(value, spot.at, default),
        }
    }
}

/// Whether a key in a file is a key of the table: a secret may also be in a file.
fn names(kind: &Kind, name: &str, written: &str) -> bool {
    written == name || matches!(kind, Kind::Secret) && written.strip_suffix("_file") == Some(name)
}

/// Reads one file.
pub struct Reader<'a> {
    /// Environment variables by name.
    pub env: &'a dyn Fn(&str) -> Option<String>,
    /// Where problems of this file go.
    pub problems: &'a mut Problems,
}

impl<'r> Reader<'r> {
    /// The whole file as a section.
    pub fn document<T: Section>(&mut self, node: &Node) -> Option<T> {
        match node.entries() {
            Ok(entries) => return Some(self.section(entries, At::START)),
            Err(Refused::Told) => {}
            Err(Refused::Misfit) => {
                self.problems.add(node.at, "a file holds keys and values").hint =
                    Some(format!("begin with `{}:`", T::keys()[0].name));
            }
        }
        None
    }

    fn section<T: Section>(&mut self, entries: &[Entry], at: At) -> T {
        let table = T::keys();
        for entry in entries {
            if !table.iter().any(|key| names(&key.kind, key.name, &entry.key)) {
                self.problems
                    .add(entry.key_at, format!("unknown key `{}`", short(&entry.key)))
                    .hint = suggest(&entry.key, table.iter().map(|key| key.name));
            }
        }
        for key in table {
            if matches!(key.presence, Presence::Required)
                && !entries.iter().any(|entry| names(&key.kind, key.name, &entry.key))
            {
                let message = format!("`{}` is missing", key.name);
                self.problems.add(at, message).hint = Some(key.doc.to_owned());
            }
        }
        T::read(Entries {
            at,
            found: Some((entries, self)),
        })
    }

    /// What a node is read as; `None` when that is reported.
    pub fn value<S: Shape>(&mut self, node: &Node, key_at: At, what: &str) -> Option<S::Value> {
        if let Yaml::Unusable = node.kind {
            return None;
        }
        match S::accept(self, node, key_at, what) {
            Ok(value) => return Some(value),
            Err(Refused::Told) => {}
            Err(Refused::Misfit) => self.misfit(node, key_at, what, &S::KIND),
        }
        None
    }

    fn misfit(&mut self, node: &Node, key_at: At, what: &str, wanted: &Kind) {
        let at = node.at;
        let found = match (&node.kind, wanted) {
            (Yaml::Null, _) => {
                self.problems.add(key_at, format!("{what} has no value")).hint =
                    Some(format!("write {wanted}, or remove the key"));
                return;
            }
            (Yaml::Scalar(text), Kind::List(_)) => {
                let items: Vec<String> = text
                    .split(',')
                    .map(|item| format!("\"{}\"", item.trim()))
                    .collect();
                self.problems.add(at, format!("{what} must be a list")).hint =
                    Some(format!("write `[{}]`", short(&items.join(", "))));
                return;
            }
            (Yaml::List(_), _) => "a list",
            (Yaml::Map(_), _) => "keys and values",
            (Yaml::Scalar(_), _) => "a single value",
            (Yaml::Unusable, _) => return,
        };
        self.problems
            .add(at, format!("{what} must be {wanted}, not {found}"));
    }

    /// What a scalar of this kind says.
    fn scalar<T>(
        &mut self,
        node: &Node,
        what: &str,
        may_be_empty: bool,
        kind: &Kind,
        parse: fn(&str) -> Result<T, Option<String>>,
    ) -> Result<T, Refused> {
        let (text, expanded) = self.text(node, what, may_be_empty)?;
        parse(&expanded).map_err(|hint| {
            let message = format!("{what} must be {kind}, not `{}`", short(text));
            // What came from the environment may be a secret; it is shown as it was written.
            self.problems.add(node.at, message).hint = hint.filter(|_| expanded == text);
            Refused::Told
        })
    }

    /// The text of a scalar, as written and with its variables replaced.
    pub fn text<'n>(
        &mut self,
        node: &'n Node,
        what: &str,
        may_be_empty: bool,
    ) -> Result<(&'n str, String), Refused> {
        let Yaml::Scalar(text) = &node.kind else {
            return Err(Refused::Misfit);
        };
        let expanded = value::expand(text, self.env).map_err(|(message, hint)| {
            self.problems.add(node.at, message).hint = Some(hint);
            Refused::Told
        })?;
        if expanded.is_empty() && !may_be_empty {
            self.problems.add(node.at, format!("{what} is empty"));
            return Err(Refused::Told);
        }
        Ok((text, expanded))
    }

    /// A file named in a file stands relative to it.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.problems.file().parent().unwrap_or(Path::new("")).join(path)
    }

    /// `password_file: path`; one newline at the end of the file does not belong to the secret.
    fn secret_from_file(&mut self, entry: &Entry) -> Option<String> {
        let what = format!("`{}`", entry.key);
        let path = match self.text(&entry.value, &what, false) {
            Ok((_, path)) => path,
            Err(refused) => {
                if let Refused::Misfit = refused {
                    self.misfit(&entry.value, entry.key_at, &what, &Kind::Text);
                }
                return None;
            }
        };
        let (message, hint) = match read_text(&self.beside(&path)) {
            Ok(text) => {
                let text = text.strip_suffix('\n').unwrap_or(&text);
                match text.strip_suffix('\r').unwrap_or(text) {
                    "" => ("the file is empty".to_owned(), None),
                    text => return Some(text.to_owned()),
                }
            }
            Err(error) => (error, Some(BESIDE.to_owned())),
        };
        self.problems
            .add(entry.value.at, format!("{what}: {message}"))
            .hint = hint;
        None
    }
}

/// The hint at a file that cannot be read.
pub const BESIDE: &str = "a relative path starts at the directory of this file";

impl Node {
    /// The entries of a mapping; none where nothing stands after the key.
    pub fn entries(&self) -> Result<&[Entry], Refused> {
        match &self.kind {
            Yaml::Map(entries) => Ok(entries),
            Yaml::Null => Ok(&[]),
            Yaml::Unusable => Err(Refused::Told),
            Yaml::Scalar(_) | Yaml::List(_) => Err(Refused::Misfit),
        }
    }
}

/// Reads a text file of bounded size. The error says what is wrong with the file.
pub fn read_text(path: &Path) -> Result<String, String> {
    String::from_utf8(read_bytes(path)?).map_err(|_| NOT_UTF8.to_owned())
}

/// What is wrong with a text of other bytes.
pub(crate) const NOT_UTF8: &str = "the file is not UTF-8";

/// What a file holds, up to the size that a file of ours may have.
pub(crate) fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    use std::io::Read;
    let mut content = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(MAX_FILE + 1).read_to_end(&mut content))
        .map_err(|error| format!("cannot read the file: {error}"))?;
    if content.len() as u64 > MAX_FILE {
        return Err(format!("the file is larger than {}", value::show_bytes(MAX_FILE)));
    }
    Ok(content)
}
