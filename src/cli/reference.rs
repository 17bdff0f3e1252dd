//! `causeway reference`: what the tables in the code say, as pages. `docs/reference` holds them; a test compares.

use std::fmt::{self, Write};

use clap::ValueEnum;
use strum::VariantArray;

use crate::config::{self, KeyRow, key_tables, write_table};
use crate::error::{Code, Remedy};
use crate::metrics;
use crate::status::PartitionState;
use crate::topology;

/// A page of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// Every key of both files.
    Configuration,
    /// Every metric.
    Metrics,
    /// Every error code, and what to do about it.
    Errors,
    /// Every command, as --help shows it.
    Commands,
}

impl Page {
    /// Its name on the command line, and as a file.
    pub fn name(self) -> &'static str {
        match self {
            Page::Configuration => "configuration",
            Page::Metrics => "metrics",
            Page::Errors => "errors",
            Page::Commands => "commands",
        }
    }

    /// The page, in Markdown. `cli`: the command line that it tells of.
    pub fn markdown(self, cli: &clap::Command) -> String {
        let mut text = format!(
            "<!-- Written by `causeway reference {}`: change what the code says, then `make expect`. -->\n\n",
            self.name()
        );
        let written = match self {
            Page::Configuration => configuration(&mut text),
            Page::Metrics => metrics(&mut text),
            Page::Errors => errors(&mut text),
            Page::Commands => commands(&mut text, cli),
        };
        written.expect("writing to a string cannot fail");
        text
    }
}

/// What holds for the values of all keys.
const VALUES: [&str; 2] = [
    "In any value ${VAR} is taken from the environment, ${VAR:-default} has a default, and $$ is a dollar sign.",
    "Sizes are bytes or have a unit: B, KiB, MiB, GiB, TiB. Durations have a unit: ms, s, m, h.",
];

/// Every key of both kinds of file, with its meaning, range and default, as YAML with comments.
pub fn example() -> String {
    let [variables, units] = VALUES;
    let mut text = format!(
        "\
# Every key of causeway's files. Required keys and keys with a default are written out; optional ones are
# commented out. `…` stands for a value of yours.
#
# {variables}
# {units}

# ---- A config file: how to connect ----

"
    );
    write_table(&mut text, config::table());
    text.push_str("\n---\n# ---- A topology file: what flows ----\n\n");
    write_table(&mut text, topology::table());
    text
}

fn configuration(text: &mut String) -> fmt::Result {
    let [variables, units] = VALUES;
    writeln!(text, "# Configuration\n")?;
    writeln!(
        text,
        "A config file says how to connect, topology files say what flows. `causeway validate` checks them offline. \
         `causeway reference` prints the same as YAML to start from, and `causeway reference --schema config` or \
         `topology` a JSON schema for editors.\n\n{variables} {units} Paths are relative to the file that names them."
    )?;
    for (table, title, first) in [
        (config::table(), "Config files", "config"),
        (topology::table(), "Topology files", "topology"),
    ] {
        writeln!(text, "\n## {title}")?;
        for table in key_tables(table) {
            if !table.path.is_empty() {
                writeln!(text, "\n### {first}: `{}`", table.path)?;
            }
            writeln!(text, "\n| key | value | default | meaning |\n|---|---|---|---|")?;
            for row in &table.rows {
                key(text, first, row)?;
            }
        }
    }
    Ok(())
}

fn key(text: &mut String, document: &str, row: &KeyRow) -> fmt::Result {
    let mut value = row.kind.clone();
    if let Some(path) = &row.keys {
        if !value.is_empty() {
            value.push_str(", or ");
        }
        let anchor = anchor(&format!("{document}: {path}"));
        write!(value, "[keys](#{anchor})")?;
    }
    let default = match row.default {
        Some(default) => format!("`{default}`"),
        None if row.is_required => "required".to_owned(),
        None => String::new(),
    };
    let (name, value, doc) = (row.name, cell(&value), cell(row.doc));
    writeln!(text, "| `{name}` | {value} | {default} | {doc} |")
}

/// The anchor that Markdown viewers give a heading.
fn anchor(heading: &str) -> String {
    let kept = heading
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() })
        .collect()
}

/// Text that stays in its cell, with `<name>` shown as it is.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

fn metrics(text: &mut String) -> fmt::Result {
    writeln!(text, "# Metrics\n")?;
    writeln!(
        text,
        "`/metrics` on `api.listen` serves these in Prometheus' text format. All carry the labels `topology` and \
         `flow`. Counters start at 0 with the process. A gauge that is not known is `NaN`, never 0.\n\n\
         `state` is one of {}. `part` is one of {}. `code` is an [error code](errors.md).\n",
        PartitionState::VARIANTS
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(", "),
        metrics::PARTS.join(", "),
    )?;
    writeln!(
        text,
        "| name | kind | unit | more labels | meaning |\n|---|---|---|---|---|"
    )?;
    for it in metrics::ALL {
        let kind = match it.kind {
            metrics::Kind::Counter => "counter",
            metrics::Kind::Gauge => "gauge",
            metrics::Kind::Histogram => "histogram",
        };
        let (labels, help) = (it.labels.join(", "), cell(it.help));
        writeln!(
            text,
            "| `{}` | {kind} | {} | {labels} | {help} |",
            it.name, it.unit
        )?;
    }
    Ok(())
}

fn errors(text: &mut String) -> fmt::Result {
    writeln!(text, "# Error codes\n")?;
    writeln!(
        text,
        "Status, log and metrics name problems by code and name: `S104 source_topic_missing`. What causeway does by \
         itself is one of these:\n\n| causeway | that is |\n|---|---|"
    )?;
    let mut remedies: Vec<Remedy> = vec![];
    for code in Code::ALL {
        let remedy = code.page().remedy;
        if !remedies.contains(&remedy) {
            remedies.push(remedy);
        }
    }
    for remedy in remedies {
        let (word, meaning) = words(remedy);
        writeln!(text, "| {word} | {meaning} |")?;
    }
    for (letter, title) in [
        ('S', "S: the source"),
        ('T', "T: the target"),
        ('L', "L: this process, or its own state"),
    ] {
        writeln!(
            text,
            "\n## {title}\n\n| code | name | causeway | you |\n|---|---|---|---|"
        )?;
        for page in Code::ALL.iter().map(|code| code.page()) {
            if page.id.starts_with(letter) {
                let (word, _) = words(page.remedy);
                let advice = cell(page.advice);
                writeln!(text, "| {} | {} | {word} | {advice} |", page.id, page.name)?;
            }
        }
    }
    Ok(())
}

/// What causeway does, in a word and in a sentence.
fn words(remedy: Remedy) -> (&'static str, &'static str) {
    match remedy {
        Remedy::Retry => (
            "retries",
            "The task starts again from its stored progress, with back-off.",
        ),
        Remedy::PausePartition => (
            "pauses the partition",
            "This partition waits, the others go on. It is tried again alone, ever more rarely (at most 5 minutes apart), \
             and at once when what its target topic takes has changed.",
        ),
        Remedy::HaltPartition => (
            "halts the partition",
            "This partition waits for you, the others go on: see [Gaps](../moving-a-flow.md#gaps).",
        ),
        Remedy::GiveUpTask => ("gives the task up", "Another daemon owns the task now."),
        Remedy::NextPass => (
            "waits for the next pass",
            "A consumer group stays as it is until the next pass; records are not affected.",
        ),
    }
}

fn commands(text: &mut String, cli: &clap::Command) -> fmt::Result {
    writeln!(text, "# Commands\n")?;
    writeln!(
        text,
        "What `--help` says. The options of `causeway` itself may be given before or after any command."
    )?;
    // What a variable holds where the page is written is nobody's business.
    let cli = cli.clone().mut_args(|it| it.hide_env_values(true));
    command(text, &cli, "causeway")
}

fn command(text: &mut String, it: &clap::Command, path: &str) -> fmt::Result {
    let mut shown = it
        .clone()
        .bin_name(path)
        .term_width(100)
        .disable_help_flag(true)
        .disable_help_subcommand(true);
    let help = shown.render_long_help().to_string();
    let lines: Vec<&str> = help.lines().map(str::trim_end).collect();
    writeln!(
        text,
        "\n## {path}\n\n```text\n{}\n```",
        lines.join("\n").trim_end()
    )?;
    for inner in it.get_subcommands().filter(|it| !it.is_hide_set()) {
        command(text, inner, &format!("{path} {}", inner.get_name()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn a_page_is_called_on_the_command_line_as_its_file() {
        for page in Page::value_variants() {
            let value = page.to_possible_value().expect("no page is hidden");
            assert_eq!(value.get_name(), page.name());
        }
    }

    #[test]
    fn every_table_of_keys_is_written_once_and_linked() {
        let page = Page::Configuration.markdown(&clap::Command::new("causeway"));
        let headings: Vec<_> = page
            .lines()
            .filter_map(|line| line.strip_prefix("### "))
            .collect();
        for heading in &headings {
            let link = format!("(#{})", anchor(heading));
            assert!(page.contains(&link), "{heading}");
            assert_eq!(
                headings.iter().filter(|it| *it == heading).count(),
                1,
                "{heading}"
            );
        }
        assert_eq!(
            page.matches("(#topology-replication)").count(),
            2,
            "replication and flows"
        );
    }

    #[test]
    fn the_commands_are_the_same_wherever_they_are_written() {
        let page = Page::Commands.markdown(&Cli::command());
        assert!(page.contains("[env: CAUSEWAY_CONFIG]"), "{page}");
        assert!(page.contains("\nUsage: causeway offsets reset "), "{page}");
        assert!(!page.contains("group-process"));
    }
}
