//! Commands of causeway as an operator runs them.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{causeway, clusters_yaml};
use super::process::Scratch;
use super::{Pair, pair};

/// Files in a directory of their own, and commands that read them.
pub struct Files {
    directory: Scratch,
}

impl Files {
    /// Files of these texts.
    pub fn new(config: &str, topologies: &[&str]) -> Self {
        let files = Self {
            directory: Scratch::new("commands"),
        };
        fs::write(files.config(), config).expect("the directory is ours");
        for (number, text) in topologies.iter().enumerate() {
            fs::write(files.topology(number), text).expect("the directory is ours");
        }
        files
    }

    fn config(&self) -> PathBuf {
        self.directory.path().join("config.yaml")
    }

    fn topology(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("topology-{number}.yaml"))
    }

    /// Runs a command that reads them.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        let mut command = command();
        command.args(arguments).arg("--config").arg(self.config());
        for number in 0.. {
            let topology = self.topology(number);
            if !topology.exists() {
                break;
            }
            command.arg("--topology").arg(topology);
        }
        ran(command)
    }
}

/// The program, without what the environment says of its files.
pub fn command() -> Command {
    let mut command = Command::new(causeway());
    for variable in ["CAUSEWAY_CONFIG", "CAUSEWAY_TOPOLOGY", "CAUSEWAY_LOG"] {
        command.env_remove(variable);
    }
    command
}

/// How a command ended and what it said.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

/// Runs a command to its end.
pub fn ran(mut command: Command) -> Ran {
    let started = Instant::now();
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("causeway starts");
    Ran {
        code: status.code().expect("no signal ended it"),
        stdout: String::from_utf8(stdout).expect("text"),
        stderr: String::from_utf8(stderr).expect("text"),
        took: started.elapsed(),
    }
}

impl Ran {
    /// Its data.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {}", self.stdout))
    }

    /// All it said.
    pub fn all(&self) -> String {
        format!("{}\n{}", self.stdout, self.stderr)
    }
}

/// The shared clusters as `seoul` and `busan`.
pub fn shared_clusters() -> String {
    let Pair { source, target } = pair();
    clusters_yaml(&[("seoul", &source.bootstrap()), ("busan", &target.bootstrap())])
}
