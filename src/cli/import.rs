//! `causeway import`: another replicator's configuration → causeway's files, and what became of every key.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::answer::{ExitCode, Outcome, Output, OutputFormat, failed, print, show_problems, usage};
use super::table::count;
use crate::config::{
    At, Problem, Problems,
    read::{read_bytes, read_text},
};
use crate::import::{Class, Holds, Import, Item, mm2};
use crate::topology;

pub mod state;

/// What to import.
#[derive(Debug, Subcommand)]
pub enum Source {
    /// MirrorMaker 2's configuration: mm2.properties, a Strimzi KafkaMirrorMaker2, or connectors (JSON, KafkaConnector)
    ///
    /// Says for every key whether it carries over, carries over with a difference, or has no equivalent, and
    /// why. Writes config/NAME.yaml and topologies/NAME.yaml below --output-dir; without it nothing is written.
    /// Secrets are never written: they become ${VAR}, and the report lists the variables to set.
    Mm2(Mm2),

    /// MirrorMaker 2's positions: a flow goes on where a stopped MirrorMaker 2 left off
    ///
    /// Reads where MirrorMaker 2 keeps its positions and offset syncs (mirror_maker in the topology says where),
    /// checks every position against both clusters, and leaves out what MirrorMaker 2 had copied beyond the position
    /// it stored, where the end of the target proves it. Shows what would be stored; --execute stores it. Refused
    /// while MirrorMaker 2 or a daemon runs the flow.
    Mm2State(state::Mm2State),
}

/// `causeway import mm2`
#[derive(Debug, Args)]
pub struct Mm2 {
    /// What MirrorMaker 2 was run with; the form is recognised by the content
    file: PathBuf,

    /// Where to write config/NAME.yaml and topologies/NAME.yaml
    #[arg(long, value_name = "DIR")]
    output_dir: Option<PathBuf>,

    /// Overwrite files that exist
    #[arg(long, requires = "output_dir")]
    force: bool,

    #[command(flatten)]
    output: Output,
}

/// One file of the result.
struct File<'a> {
    path: PathBuf,
    text: &'a str,
}

/// Imports and reports.
///
/// # Errors
/// [`ExitCode::Usage`] when the input is wrong or a file exists, [`ExitCode::Failed`] when writing fails.
pub fn import(arguments: &Mm2) -> Outcome<()> {
    let content = read_bytes(&arguments.file).map_err(|why| {
        let mut problems = Problems::new(&arguments.file);
        problems.add(At::START, why);
        show_problems(&problems.into_vec())
    })?;
    let import = mm2(&arguments.file, &content).map_err(|problems| show_problems(&problems))?;
    let below = arguments.output_dir.clone().unwrap_or_default();
    let file_name = format!("{}.yaml", import.name);
    let files = [
        File {
            path: below.join("config").join(&file_name),
            text: &import.config,
        },
        File {
            path: below.join("topologies").join(&file_name),
            text: &import.topology,
        },
    ];
    let left = left_to_do(&import, &files, &arguments.file);
    if arguments.output_dir.is_some() {
        write(&files, arguments.force)?;
    }
    let written = arguments.output_dir.is_some();
    print(&match arguments.output.format {
        OutputFormat::Table => as_text(&import, &files, written, &left, &arguments.file),
        OutputFormat::Json => super::answer::json(&as_json(&import, &files, written, &left)),
    })
}

/// What `causeway validate` would still say on this machine once the variables are set.
fn left_to_do(import: &Import, files: &[File; 2], input: &Path) -> Vec<Problem> {
    let some_file = fs::canonicalize(input).unwrap_or_else(|_| input.to_owned());
    let env = |name: &str| {
        let variable = import.variables.iter().find(|it| it.name == name)?;
        Some(match variable.holds {
            Holds::Text => "x".to_owned(),
            Holds::File => some_file.to_string_lossy().into_owned(),
            Holds::Servers => "localhost:9092".to_owned(),
        })
    };
    let read = |path: &Path| match files.iter().find(|file| file.path == path) {
        Some(file) => Ok(file.text.to_owned()),
        None => read_text(path),
    };
    topology::load_from(&files[0].path, &[files[1].path.clone()], &env, &read)
        .err()
        .unwrap_or_default()
}

/// Both files or none, as far as can be known before.
fn write(files: &[File; 2], force: bool) -> Outcome<()> {
    if let Some(file) = files.iter().find(|file| !force && file.path.exists()) {
        return Err(exists(file));
    }
    for file in files {
        let mut options = OpenOptions::new();
        options.write(true);
        match force {
            true => options.create(true).truncate(true),
            false => options.create_new(true),
        };
        let directory = file.path.parent().unwrap_or(Path::new(""));
        let done = fs::create_dir_all(directory)
            .and_then(|()| options.open(&file.path))
            .and_then(|mut open| open.write_all(file.text.as_bytes()));
        match done {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(file)),
            Err(error) => {
                return Err(failed(format_args!(
                    "cannot write {}: {error}",
                    file.path.display()
                )));
            }
            Ok(()) => {}
        }
    }
    Ok(())
}

fn exists(file: &File) -> ExitCode {
    usage(format_args!(
        "{} exists; give --force to overwrite it",
        file.path.display()
    ))
}

fn as_text(import: &Import, files: &[File; 2], written: bool, left: &[Problem], input: &Path) -> String {
    let did = if written { "wrote" } else { "would write" };
    let mut text = format!(
        "{}: {}\n{}\n",
        input.display(),
        import.form.as_str(),
        import.summary
    );
    for file in files {
        text += &format!("{did} {}\n", file.path.display());
    }
    let of = |class: Class| {
        import
            .items
            .iter()
            .filter(move |it| !it.decide && it.class == class)
    };
    let decide: Vec<&Item> = import.items.iter().filter(|it| it.decide).collect();
    let written_down = |class| of(class).filter(|it| it.at.is_some()).collect::<Vec<_>>();
    let defaults: Vec<&Item> = import
        .items
        .iter()
        .filter(|it| !it.decide && it.at.is_none())
        .collect();
    for (title, items) in [
        (
            "Decide before it runs: data, names or access would differ",
            decide,
        ),
        ("No equivalent", written_down(Class::NoEquivalent)),
        ("Carried over with a difference", written_down(Class::Different)),
        (
            "Defaults of MirrorMaker 2 that nobody wrote, and that differ",
            defaults,
        ),
        ("Carried over", written_down(Class::Carried)),
    ] {
        if items.is_empty() {
            continue;
        }
        text += &format!("\n{title} ({})\n", items.len());
        for item in items {
            let place = item.at.map(|at| format!("{at} ")).unwrap_or_default();
            text += &format!("  {place}{}\n      {}\n", item.key, item.text);
        }
    }
    if !import.variables.is_empty() {
        text += &format!("\nSet {}\n", count(import.variables.len(), "variable"));
        for variable in &import.variables {
            text += &format!("  {}\n      {}\n", variable.name, variable.what);
        }
    }
    if !left.is_empty() {
        text += &format!(
            "\nStill to do here before causeway validate is content ({})\n",
            left.len()
        );
        for problem in left {
            text += &format!("  {}\n", problem.to_string().replace('\n', "\n    "));
        }
    }
    if !written {
        text += "\nNothing was written; give --output-dir DIR.\n";
    }
    text
}

fn as_json(import: &Import, files: &[File; 2], written: bool, left: &[Problem]) -> serde_json::Value {
    let keys: Vec<_> = import
        .items
        .iter()
        .map(|item| {
            json!({
                "key": item.key,
                "line": item.at.map(|at| at.line),
                "column": item.at.map(|at| at.column),
                "class": item.class.as_str(),
                "decide": item.decide,
                "text": item.text,
            })
        })
        .collect();
    json!({
        "form": import.form.as_str(),
        "topology": import.name,
        "flows": import.summary,
        "written": written,
        "files": files.iter().map(|it| json!({ "path": it.path, "text": it.text })).collect::<Vec<_>>(),
        "keys": keys,
        "variables": import.variables.iter().map(|it| json!({ "name": it.name, "what": it.what, "holds": it.holds.as_str() })).collect::<Vec<_>>(),
        "left_to_do": left.iter().map(|it| json!({
            "file": it.file,
            "line": it.line,
            "column": it.column,
            "message": it.message,
            "hint": it.hint,
        })).collect::<Vec<_>>(),
    })
}
