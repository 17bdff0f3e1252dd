//! A mistake in a file, with its place and a way out.

use std::fmt;
use std::path::{Path, PathBuf};

/// How bad a problem is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is done with the files.
    Mistake,
    /// Something that was written does nothing.
    Note,
}

/// One mistake, or a note. All those of all files are collected before any is shown.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file as it was named by the user.
    pub file: PathBuf,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Whether the files can be used all the same.
    pub severity: Severity,
    /// What is wrong. Never holds a secret.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    /// `file:line:column: message`, and the hint indented on its own line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}:{}:{}: {}",
            self.file.display(),
            self.line,
            self.column,
            self.message
        )?;
        match &self.hint {
            Some(hint) => write!(f, "\n  hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A place in a file; line and column count from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct At {
    /// From 1.
    pub(crate) line: usize,
    /// From 1, in characters.
    pub(crate) column: usize,
}

impl At {
    /// Where a file begins: the place of what is wrong with the file as a whole.
    pub const START: At = At { line: 1, column: 1 };

    pub(crate) fn new(line: usize, column: usize) -> Self {
        Self { line, column }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// The mistakes found so far in one file.
#[derive(Debug)]
pub struct Problems {
    file: PathBuf,
    found: Vec<Problem>,
}

impl Problems {
    /// None yet.
    pub fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            found: Vec::new(),
        }
    }

    /// The file they are about.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Adds one; the answer lets the caller add a hint.
    pub fn add(&mut self, at: At, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Mistake, at, message.into())
    }

    /// Adds a note; the answer lets the caller add a hint.
    pub fn note(&mut self, at: At, message: impl Into<String>) -> &mut Problem {
        self.push(Severity::Note, at, message.into())
    }

    fn push(&mut self, severity: Severity, at: At, message: String) -> &mut Problem {
        self.found.push(Problem {
            file: self.file.clone(),
            line: at.line,
            column: at.column,
            severity,
            message,
            hint: None,
        });
        self.found.last_mut().expect("just pushed")
    }

    /// Whether there is none, not even a note.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// Hands them over.
    pub fn into_vec(self) -> Vec<Problem> {
        self.found
    }
}

/// `did you mean …` when a known word is close, else the list of known words.
pub fn suggest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    match closest(word, known.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    }
}

/// The known word that a typing mistake may have been meant to be.
pub fn closest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let distance = |known: &'a str| (strsim::damerau_levenshtein(&word, &known.to_lowercase()), known);
    known
        .into_iter()
        .map(distance)
        .filter(|(distance, known)| *distance <= 1 + known.len().min(word.len()) / 4)
        .min()
        .map(|(_, known)| known)
}

/// Text from a file, cut and cleaned so that a message stays one line of text.
pub fn short(text: &str) -> String {
    const LONGEST: usize = 60;
    let line = text.trim_end().lines().next().unwrap_or_default();
    let cut: String = line
        .chars()
        .take(LONGEST)
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect();
    if cut.chars().count() < text.trim_end().chars().count() {
        format!("{cut}…")
    } else {
        cut
    }
}
