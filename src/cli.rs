//! The words and exit codes an operator sees. Data goes to stdout, everything else to stderr.

use std::path::PathBuf;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::config::{self, Config};
use crate::kafka::groups;
use crate::telemetry::LogFormat;
use crate::topology::{self, FlowSpec, Topology};

mod answer;
mod flows;
mod import;
mod offsets;
mod plan;
pub mod reference;
mod run;
mod status;
mod table;
mod validate;

pub use answer::ExitCode;

use answer::{Outcome, Output, failed, json, print, show, show_problems, usage};

/// The command line.
#[derive(Debug, Parser)]
#[command(
    version,
    about = "Copies Kafka data between clusters and proves what it did",
    long_about = "causeway copies Kafka topics from one cluster to another, record by record, in order and \
                  exactly once, and keeps the target's topics like the source's.\n\n\
                  A config file says how to connect. Topology files say what flows. Both are checked \
                  completely before any cluster is contacted.",
    after_help = "Exit codes: 0 done, 1 failed while running, 2 usage or configuration, 3 drain deadline passed, 4 a verdict was negative.\n\n\
                  First steps:\n  \
                  causeway reference                                        every key of both files\n  \
                  causeway validate --config c.yaml --topology t.yaml       check them, offline\n  \
                  causeway plan     --config c.yaml --topology t.yaml       what would change on the target\n  \
                  causeway run      --config c.yaml --topology t.yaml       copy\n  \
                  causeway status   --config c.yaml                         lag, states, reasons\n  \
                  causeway offsets list --config c.yaml --topology t.yaml   groups: source and target"
)]
pub struct Cli {
    #[command(flatten)]
    files: Files,

    /// What to log: a level, or a filter such as info,librdkafka=debug [default: info for run]
    #[arg(long, global = true, value_name = "FILTER", env = "CAUSEWAY_LOG")]
    log: Option<String>,

    /// How to write the log
    #[arg(long, global = true, value_name = "FORMAT", default_value = "text")]
    log_format: LogFormat,

    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Args)]
struct Files {
    /// How to connect: clusters, their addresses and credentials
    #[arg(long, global = true, value_name = "FILE", env = "CAUSEWAY_CONFIG")]
    config: Option<PathBuf>,

    /// What flows: one topology per file; repeat the option, or separate files with commas
    #[arg(
        long = "topology",
        global = true,
        value_name = "FILE",
        env = "CAUSEWAY_TOPOLOGY",
        value_delimiter = ','
    )]
    topologies: Vec<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy: runs every flow until SIGTERM or SIGINT, then drains
    ///
    /// Runs every flow of the given topologies and serves /live, /ready, /status and /metrics on api.listen.
    /// Start it on several hosts to share the tasks and to take over from each other; give each its own
    /// instance name. SIGTERM or SIGINT finishes what is in flight, for drain_timeout at most; a second
    /// signal gives up at once. Either way it is safe to start again.
    Run,

    /// Check the files; contacts no cluster
    ///
    /// Prints each flow that would run, or every problem of every file with its line, column and a hint. Notes what was
    /// written and does nothing.
    Validate {
        #[command(flatten)]
        output: Output,
    },

    /// Show what config sync would change on the target; changes nothing
    ///
    /// Connects to both clusters of each flow, compares topics, partition counts and topic settings, and prints the
    /// changes that `run` would make, and each topic that is left out with the reason. Warns of topics on the target
    /// that hold records which no progress of the flow explains: theirs would be copied behind them. The exit code is
    /// 1 if a topic cannot be copied.
    Plan {
        #[command(flatten)]
        output: Output,
    },

    /// Ask a running daemon for states, reasons and lag
    ///
    /// Shows the flows, tasks and partitions owned by that one daemon. A lag that is not known is shown as
    /// unknown, never as 0.
    Status {
        /// Where the daemon listens [default: api.listen of the config file]
        #[arg(long, value_name = "HOST:PORT")]
        address: Option<String>,

        /// List every partition, not only those that need attention
        #[arg(long)]
        partitions: bool,

        #[command(flatten)]
        output: Output,
    },

    /// Show where consumer groups continue on the target; move the position of a flow, or accept its gaps
    ///
    /// Asks both clusters and the flow's own topics there, no daemon. Only `--execute` changes anything.
    Offsets {
        #[command(subcommand)]
        command: offsets::Command,
    },

    /// Administer consumer groups for the daemon that started this: requests on stdin, answers on stdout
    #[command(hide = true)]
    GroupProcess,

    /// Take over from another replicator: its configuration, then its positions
    Import {
        #[command(subcommand)]
        source: import::Source,
    },

    /// Print every key of both files, with default, unit and meaning; or metrics, error codes, commands
    ///
    /// Prints both files as YAML to start from or, with PAGE, a page of the reference in Markdown.
    Reference {
        /// The page to print
        #[arg(value_name = "PAGE")]
        page: Option<reference::Page>,

        /// Print the JSON schema of one file instead, for editors
        #[arg(long, value_name = "FILE", conflicts_with = "page")]
        schema: Option<Schema>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Schema {
    /// The config file.
    Config,
    /// A topology file.
    Topology,
}

impl Cli {
    /// The log filter: what was asked for, or the command's default.
    pub fn log(&self) -> &str {
        let default = match self.command {
            Command::Run => "info",
            // What the client has to say is part of the command's own error.
            _ => "warn,librdkafka=off",
        };
        self.log.as_deref().unwrap_or(default)
    }

    /// How to write the log.
    pub fn log_format(&self) -> LogFormat {
        self.log_format
    }

    /// Does what was asked.
    pub fn execute(self) -> ExitCode {
        let files = &self.files;
        let result = match self.command {
            Command::Run => files.check().and_then(|(config, topologies)| {
                for note in topologies.iter().flat_map(|it| &it.notes) {
                    tracing::warn!("{note}");
                }
                run::run(config, flows(topologies))
            }),
            Command::Validate { output } => files.check().and_then(|(_, topologies)| {
                for note in topologies.iter().flat_map(|it| &it.notes) {
                    show(note);
                }
                print(&validate::report(&topologies, output.format))
            }),
            Command::Plan { output } => files
                .load()
                .and_then(|(config, flows)| plan::plan(&config, &flows, output.format)),
            Command::Status {
                address,
                partitions,
                output,
            } => address
                .map_or_else(|| files.api_address(), Ok)
                .and_then(|address| status::report(&address, partitions, output.format))
                .and_then(|text| print(&text)),
            Command::Offsets { command } => files
                .load()
                .and_then(|(config, flows)| offsets::run(&config, &flows, command)),
            Command::GroupProcess => groups::serve().map_err(failed),
            Command::Import { source } => match source {
                import::Source::Mm2(arguments) => import::import(&arguments),
                import::Source::Mm2State(arguments) => files
                    .load()
                    .and_then(|(config, flows)| import::state::import(&config, &flows, &arguments)),
            },
            Command::Reference { page: Some(page), .. } => print(&page.markdown(&Self::command())),
            Command::Reference { page: None, schema } => print(&match schema {
                None => reference::example(),
                Some(Schema::Config) => {
                    json(&config::json_schema("causeway: how to connect", config::table()))
                }
                Some(Schema::Topology) => json(&topology::json_schema()),
            }),
        };
        result.err().unwrap_or(ExitCode::Done)
    }
}

impl Files {
    /// Both kinds of files, at least one topology.
    fn check(&self) -> Outcome<(Config, Vec<Topology>)> {
        if self.topologies.is_empty() {
            return Err(usage(
                "no topology file: give --topology FILE or set CAUSEWAY_TOPOLOGY",
            ));
        }
        self.read(&self.topologies)
    }

    /// Both kinds of files, as the flows that should run.
    fn load(&self) -> Outcome<(Config, Vec<FlowSpec>)> {
        let (config, topologies) = self.check()?;
        Ok((config, flows(topologies)))
    }

    /// Where a daemon with this config file can be asked from this host.
    fn api_address(&self) -> Outcome<String> {
        let (config, _) = self.read(&[])?;
        Ok(status::reachable(config.listen).to_string())
    }

    fn read(&self, topologies: &[PathBuf]) -> Outcome<(Config, Vec<Topology>)> {
        let Some(config) = &self.config else {
            return Err(usage("no config file: give --config FILE or set CAUSEWAY_CONFIG"));
        };
        topology::load(config, topologies, &|name| std::env::var(name).ok())
            .map_err(|problems| show_problems(&problems))
    }
}

fn flows(topologies: Vec<Topology>) -> Vec<FlowSpec> {
    topologies.into_iter().flat_map(|it| it.flows).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn files_may_be_given_before_or_after_the_command() {
        for line in [
            "causeway --config c.yaml --topology a.yaml --topology b.yaml validate",
            "causeway validate --config c.yaml --topology a.yaml,b.yaml",
        ] {
            let cli = Cli::try_parse_from(line.split(' ')).expect(line);
            assert_eq!(cli.files.config, Some("c.yaml".into()), "{line}");
            assert_eq!(
                cli.files.topologies,
                [PathBuf::from("a.yaml"), "b.yaml".into()],
                "{line}"
            );
        }
    }

    #[test]
    fn the_daemon_logs_life_events_and_other_commands_only_trouble() {
        let log = |line: &str| Cli::try_parse_from(line.split(' ')).expect(line).log().to_owned();
        assert_eq!(log("causeway run"), "info");
        assert_eq!(log("causeway plan"), "warn,librdkafka=off");
        assert_eq!(log("causeway plan --log debug"), "debug");
    }

    #[test]
    fn every_command_and_option_has_a_help_text() {
        let cli = Cli::command();
        let nested = cli.get_subcommands().flat_map(clap::Command::get_subcommands);
        for command in std::iter::once(&cli).chain(cli.get_subcommands()).chain(nested) {
            assert!(command.get_about().is_some(), "{}", command.get_name());
            for argument in command.get_arguments() {
                assert!(
                    argument.get_help().is_some(),
                    "{} {}",
                    command.get_name(),
                    argument.get_id()
                );
            }
        }
    }
}
