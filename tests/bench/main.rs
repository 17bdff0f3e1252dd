//! What causeway costs and how soon it acts, measured on real clusters with the release binary as a process.
//!
//! `make bench ARGS="start sync drain [RECORDS] [BYTES] [--mm2] latency [SECONDS] idle stop stall
//! positions groups [GROUPS] [PARTITIONS] map [RUNS] reread [RECORDS] [LAG] [--mm2]"`; without arguments all of them,
//! without MirrorMaker 2. Prints a table, and one line of JSON per figure. A missed bound is a figure, not a
//! failure: the exit code tells only whether a measurement broke.

#[path = "../harness/mod.rs"]
mod harness;

mod drain;
mod figure;
mod idle;
mod latency;
mod map;
mod positions;
mod reader;
mod reread;
mod rig;
mod stall;
mod start;
mod stop;
mod sync;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

use figure::{Figure, print};

/// A benchmark; the numbers that followed its name on the command line.
type Run = fn(&[u64], bool) -> Vec<Figure>;

const BENCHMARKS: &[(&str, Run)] = &[
    ("start", |_, _| start::run()),
    ("sync", |_, _| sync::run()),
    ("drain", drain::run),
    ("latency", |numbers, _| latency::run(numbers)),
    ("idle", |_, _| idle::run()),
    ("stop", |_, _| stop::run()),
    ("stall", |_, _| stall::run()),
    ("positions", |_, _| positions::run()),
    ("groups", |numbers, _| positions::run_many(numbers)),
    ("map", |numbers, _| map::run(numbers)),
    ("reread", reread::run),
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (chosen, mm2) = match parse(&arguments) {
        Ok(parsed) => parsed,
        Err(unknown) => {
            let names: Vec<_> = BENCHMARKS.iter().map(|(name, _)| *name).collect();
            eprintln!("bench: what is {unknown}? Known are: {}, --mm2", names.join(", "));
            return ExitCode::from(2);
        }
    };
    let mut broken = vec![];
    for (name, run, numbers) in chosen {
        eprintln!("== {name}");
        // The panic says what broke; the other benchmarks still count.
        match catch_unwind(AssertUnwindSafe(|| run(&numbers, mm2))) {
            Ok(figures) => print(name, &figures),
            Err(_) => broken.push(name),
        }
    }
    if broken.is_empty() {
        return ExitCode::SUCCESS;
    }
    eprintln!("broken: {}", broken.join(", "));
    ExitCode::FAILURE
}

type Chosen = Vec<(&'static str, Run, Vec<u64>)>;

/// The benchmarks asked for, each with its numbers, and whether MirrorMaker 2 takes part.
fn parse(arguments: &[String]) -> Result<(Chosen, bool), &String> {
    let mut chosen: Chosen = vec![];
    let mut mm2 = false;
    for argument in arguments {
        if argument == "--mm2" {
            mm2 = true;
        } else if let Some((name, run)) = BENCHMARKS.iter().find(|(name, _)| name == argument) {
            chosen.push((name, *run, vec![]));
        } else if let (Ok(number), Some((_, _, numbers))) = (argument.parse(), chosen.last_mut()) {
            numbers.push(number);
        } else {
            return Err(argument);
        }
    }
    if chosen.is_empty() {
        chosen = BENCHMARKS
            .iter()
            .map(|(name, run)| (*name, *run, vec![]))
            .collect();
    }
    Ok((chosen, mm2))
}
