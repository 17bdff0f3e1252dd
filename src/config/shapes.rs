//! What may stand after a key: text that means something.

use std::net::SocketAddr;
use std::time::Duration;

use super::problem::{At, closest, short};
use super::read::{BESIDE, Reader, Refused, Scalar, Shape, Words};
use super::schema::{ALIAS, Kind};
use super::value::{self, bytes, duration};
use super::yaml::Node;
use crate::kafka::ClusterAlias;
use crate::kafka::client::Secret;

/// Text.
pub struct Text;

impl Scalar for Text {
    type Value = String;
    const KIND: Kind = Kind::Text;

    fn parse(text: &str) -> Result<String, Option<String>> {
        Ok(text.to_owned())
    }
}

/// Text that may also be empty, `""`.
pub struct AnyText;

impl Scalar for AnyText {
    type Value = String;
    const KIND: Kind = Kind::Text;
    const MAY_BE_EMPTY: bool = true;

    fn parse(text: &str) -> Result<String, Option<String>> {
        Ok(text.to_owned())
    }
}

impl Scalar for Secret {
    type Value = Self;
    const KIND: Kind = Kind::Secret;

    fn parse(text: &str) -> Result<Self, Option<String>> {
        Ok(Secret::new(text))
    }
}

impl Scalar for ClusterAlias {
    type Value = Self;
    const KIND: Kind = ALIAS;
    const PLACEHOLDER: &'static str = "alias";

    fn parse(text: &str) -> Result<Self, Option<String>> {
        match ALIAS.allows(text) {
            true => Ok(ClusterAlias::new(text)),
            false => Err(None),
        }
    }
}

/// An integer in a range.
pub struct Integer<T, const MIN: u64, const MAX: u64>(std::marker::PhantomData<T>);

impl<T: TryFrom<u64> + Copy + std::fmt::Debug, const MIN: u64, const MAX: u64> Scalar
    for Integer<T, MIN, MAX>
{
    type Value = T;
    const KIND: Kind = Kind::Integer { min: MIN, max: MAX };

    fn parse(text: &str) -> Result<T, Option<String>> {
        let number = text.parse().map_err(|_| None)?;
        within::<MIN, MAX>(number)?.try_into().map_err(|_| None)
    }
}

/// Bytes in a range.
pub struct Bytes<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Scalar for Bytes<MIN, MAX> {
    type Value = u64;
    const KIND: Kind = Kind::Bytes { min: MIN, max: MAX };

    fn parse(text: &str) -> Result<u64, Option<String>> {
        within::<MIN, MAX>(bytes(text)?)
    }
}

/// A duration in a range of milliseconds.
pub struct Milliseconds<const MIN: u64, const MAX: u64>;

impl<const MIN: u64, const MAX: u64> Scalar for Milliseconds<MIN, MAX> {
    type Value = Duration;
    const KIND: Kind = Kind::Duration { min: MIN, max: MAX };

    fn parse(text: &str) -> Result<Duration, Option<String>> {
        let milliseconds = duration(text)?.as_millis().try_into().map_err(|_| None)?;
        within::<MIN, MAX>(milliseconds).map(Duration::from_millis)
    }
}

fn within<const MIN: u64, const MAX: u64>(number: u64) -> Result<u64, Option<String>> {
    (MIN..=MAX).contains(&number).then_some(number).ok_or(None)
}

impl Scalar for bool {
    type Value = bool;
    const KIND: Kind = Kind::Boolean;

    fn parse(text: &str) -> Result<bool, Option<String>> {
        text.parse().map_err(|_| None)
    }
}

impl<W: Words> Scalar for W {
    type Value = W;
    const KIND: Kind = Kind::OneOf(W::WORDS);

    fn parse(text: &str) -> Result<W, Option<String>> {
        match W::WORDS.iter().position(|word| *word == text) {
            Some(index) => Ok(W::VALUES[index]),
            None => {
                Err(closest(text, W::WORDS.iter().copied()).map(|near| format!("did you mean `{near}`?")))
            }
        }
    }
}

impl Scalar for SocketAddr {
    type Value = Self;
    const KIND: Kind = Kind::Address;

    fn parse(text: &str) -> Result<Self, Option<String>> {
        let hint = "a host name will not do: write `127.0.0.1:8083` or `[::]:8083`";
        text.parse().map_err(|_| Some(hint.to_owned()))
    }
}

/// `host:port,…`
pub struct Servers;

impl Scalar for Servers {
    type Value = String;
    const KIND: Kind = Kind::Servers;

    fn parse(text: &str) -> Result<String, Option<String>> {
        value::servers(text).map_err(Some)
    }
}

/// A regular expression, as written and compiled to match whole names.
pub struct Pattern;

impl Scalar for Pattern {
    type Value = (String, regex::Regex);
    const KIND: Kind = Kind::Pattern;

    fn parse(text: &str) -> Result<Self::Value, Option<String>> {
        let regex = super::pattern::pattern(text).map_err(Some)?;
        Ok((text.to_owned(), regex))
    }
}

/// Regular expressions that others compile.
pub struct Patterns;

impl Shape for Patterns {
    type Value = Vec<String>;
    const KIND: Kind = <Vec<Pattern>>::KIND;

    fn accept(reader: &mut Reader<'_>, node: &Node, at: At, what: &str) -> Result<Vec<String>, Refused> {
        let items = <Vec<Pattern>>::accept(reader, node, at, what)?.into_iter();
        Ok(items.filter_map(|(_, item)| Some(item?.0)).collect())
    }

    fn absent(_: At) -> Option<Vec<String>> {
        Some(Vec::new())
    }
}

/// The path of a file that can be read.
pub struct File;

impl Shape for File {
    type Value = String;
    const KIND: Kind = Kind::File;

    fn accept(reader: &mut Reader<'_>, node: &Node, _: At, what: &str) -> Result<String, Refused> {
        let (written, path) = reader.text(node, what, false)?;
        let path = reader.beside(&path);
        match std::fs::File::open(&path) {
            Ok(_) => Ok(path.to_string_lossy().into_owned()),
            Err(error) => {
                let message = format!("{what}: cannot read `{}`: {error}", short(written));
                reader.problems.add(node.at, message).hint = Some(BESIDE.to_owned());
                Err(Refused::Told)
            }
        }
    }
}
