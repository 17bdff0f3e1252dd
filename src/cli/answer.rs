//! How commands answer: exit codes, results on stdout, everything else on stderr.

use std::fmt::Display;
use std::io::Write;

use clap::{Args, ValueEnum};

use crate::config::{Problem, Severity};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ExitCode {
    /// It did what was asked.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// The command line or a file is wrong; no cluster has been contacted.
    Usage = 2,
    /// The drain deadline passed. Safe to start again.
    DrainDeadline = 3,
    /// A verdict was negative.
    Negative = 4,
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The option that says how to print.
#[derive(Debug, Args)]
pub struct Output {
    /// How to print the result
    #[arg(long = "output", value_name = "FORMAT", default_value = "table")]
    pub format: OutputFormat,
}

/// Whether a command changes anything, in the words of `kafka-consumer-groups`.
#[derive(Debug, Args)]
pub struct Execution {
    /// Show what would change (the default)
    #[arg(long, conflicts_with = "execute")]
    pub dry_run: bool,

    /// Change it
    #[arg(long)]
    pub execute: bool,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What a command gives when it was not [`ExitCode::Done`]; the reason has been printed.
pub type Outcome<T> = Result<T, ExitCode>;

/// Says one problem of a file.
pub fn show(problem: &Problem) {
    match problem.severity {
        Severity::Mistake => eprintln!("error: {problem}"),
        Severity::Note => eprintln!("note: {problem}"),
    }
}

/// Says every problem of the files, and how many there are.
pub fn show_problems(problems: &[Problem]) -> ExitCode {
    problems.iter().for_each(show);
    let mistakes = problems.iter().filter(|it| it.severity == Severity::Mistake);
    let mistakes = mistakes.count();
    let noun = if mistakes == 1 { "problem" } else { "problems" };
    eprintln!("{mistakes} {noun}; no cluster was contacted");
    ExitCode::Usage
}

/// The command line is wrong.
pub fn usage(message: impl Display) -> ExitCode {
    eprintln!("error: {message}\nsee causeway --help");
    ExitCode::Usage
}

/// The command has failed.
pub fn failed(message: impl Display) -> ExitCode {
    eprintln!("error: {message}");
    ExitCode::Failed
}

/// Writes data to stdout. A reader that has seen enough (`| head`) is no failure.
pub fn print(text: &str) -> Outcome<()> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(failed(format_args!("cannot write to stdout: {error}")))
        }
        _ => Ok(()),
    }
}

/// A value as indented JSON with a newline at the end.
pub fn json(value: &serde_json::Value) -> String {
    format!("{value:#}\n")
}

/// Fails unless everything could be asked; what could not has been said.
pub fn verdict(complete: bool) -> Outcome<()> {
    if complete { Ok(()) } else { Err(ExitCode::Failed) }
}
