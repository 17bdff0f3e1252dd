//! The daemon as its user runs it: a process with files.

use std::fmt::Write;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use serde_json::Value;

use super::kafka::{Cluster, SASL_PASSWORD, SASL_USER};
use super::process::{Process, Scratch};
use super::{free_port, wait_until};

/// What to run.
#[derive(Clone, Debug)]
pub struct DaemonOptions {
    /// The config file without its `api:` block, which is added; see [`clusters_yaml`].
    pub config_yaml: String,
    /// The topology files.
    pub topology_yaml: Vec<String>,
    /// Name of this daemon in its groups.
    pub instance: Option<String>,
    /// Environment variables, for secrets.
    pub env: Vec<(String, String)>,
    /// More arguments of `causeway run`.
    pub args: Vec<String>,
    /// The `causeway` to run.
    pub binary: PathBuf,
}

impl DaemonOptions {
    /// Runs the `causeway` built with the tests, or beside the running example.
    pub fn new(config_yaml: impl Into<String>, topology_yaml: impl Into<String>) -> Self {
        Self {
            config_yaml: config_yaml.into(),
            topology_yaml: vec![topology_yaml.into()],
            instance: None,
            env: Vec::new(),
            args: Vec::new(),
            binary: causeway(),
        }
    }
}

/// The `causeway` built with the tests, or beside the running example.
pub fn causeway() -> PathBuf {
    option_env!("CARGO_BIN_EXE_causeway").map_or_else(
        || {
            let example = std::env::current_exe().expect("the path of this program");
            example
                .ancestors()
                .nth(2)
                .expect("target/<profile>/examples")
                .join("causeway")
        },
        PathBuf::from,
    )
}

/// The `clusters:` block of a config file for clusters without security.
pub fn clusters_yaml(clusters: &[(&str, &str)]) -> String {
    let mut yaml = "clusters:\n".to_owned();
    for (alias, bootstrap) in clusters {
        let _ = write!(yaml, "  {alias}:\n    bootstrap_servers: {bootstrap}\n");
    }
    yaml
}

/// As [`clusters_yaml`] for clusters that [`SASL_USER`] logs in to.
pub fn sasl_clusters_yaml(clusters: &[(&str, &Cluster)]) -> String {
    let mut yaml = "clusters:\n".to_owned();
    for (alias, cluster) in clusters {
        let bootstrap = cluster.sasl_bootstrap();
        let _ = write!(
            yaml,
            "  {alias}:\n    bootstrap_servers: {bootstrap}\n    security: {{ protocol: sasl_plaintext, \
             mechanism: PLAIN, username: {SASL_USER}, password: {SASL_PASSWORD} }}\n"
        );
    }
    yaml
}

/// A running daemon. Killed when dropped or when this process ends; a failing test shows the end of its log.
pub struct Daemon {
    command: Command,
    api: String,
    // Before the directory: a process is dropped before what it writes to.
    process: Process,
    directory: Scratch,
}

impl Daemon {
    /// Writes the files and starts the daemon; does not wait for anything.
    pub fn start(options: DaemonOptions) -> Self {
        let directory = Scratch::new("daemon");
        let api = format!("127.0.0.1:{}", free_port());
        let config = directory.path().join("config.yaml");
        let mut text = format!("{}\napi:\n  listen: {api}\n", options.config_yaml);
        if let Some(instance) = &options.instance {
            let _ = writeln!(text, "instance: {instance}");
        }
        fs::write(&config, text).expect("the directory is ours");
        let mut command = Command::new(&options.binary);
        command
            .env_remove("CAUSEWAY_CONFIG")
            .env_remove("CAUSEWAY_TOPOLOGY");
        command.arg("run").arg("--config").arg(config);
        for (number, yaml) in options.topology_yaml.iter().enumerate() {
            let topology = directory.path().join(format!("topology-{number}.yaml"));
            fs::write(&topology, yaml).expect("the directory is ours");
            command.arg("--topology").arg(topology);
        }
        command
            .args(options.args)
            .envs(options.env)
            .current_dir(directory.path());
        Self {
            process: Process::start(&command, &directory.path().join("daemon.log")),
            command,
            api,
            directory,
        }
    }

    /// Starts it again with the same files, after it has ended by itself or not.
    pub fn restart(&mut self) {
        self.process.kill9();
        self.process = Process::start(&self.command, &self.directory.path().join("daemon.log"));
    }

    /// `127.0.0.1:<port>` of its API.
    pub fn api(&self) -> &str {
        &self.api
    }

    /// The body of a page of its API, whatever its status code; nothing while it does not answer.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .http_status_as_error(false)
            .build()
            .into();
        let mut answer = agent.get(format!("http://{}{path}", self.api)).call().ok()?;
        let body = answer.body_mut().read_to_string().ok()?;
        Some((answer.status().as_u16(), body))
    }

    /// `/status`; nothing while it does not answer.
    pub fn status(&self) -> Option<Value> {
        let (_, body) = self.get("/status")?;
        serde_json::from_str(&body).ok()
    }

    /// Polls the status until `reached` says yes; panics with the last status after `timeout`, or when the
    /// daemon has ended.
    pub fn wait_for(&self, what: &str, timeout: Duration, mut reached: impl FnMut(&Value) -> bool) {
        let mut last = None;
        wait_until(what, timeout, || {
            if let Some(status) = self.status() {
                let yes = reached(&status);
                last = Some(status);
                return yes;
            }
            let ended = self.process.exit_code();
            assert!(
                ended.is_none(),
                "the daemon has ended with {ended:?} before: {what}; last status: {last:?}"
            );
            false
        });
    }

    /// Kills it.
    pub fn kill9(&self) {
        self.process.kill9();
    }

    /// Asks it to stop in good order; its exit code.
    pub fn terminate(&self, timeout: Duration) -> i32 {
        self.process.signal("TERM");
        self.process.wait(timeout)
    }

    /// The process: signals, memory, CPU time, log.
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Memory in use, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.process.rss_bytes()
    }

    /// All it has logged, over all its starts.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if thread::panicking() {
            let last = self
                .status()
                .map_or_else(|| "none".to_owned(), |status| status.to_string());
            eprintln!(
                "the daemon's status: {last}\nand its log ends with:\n{}",
                self.process.log_tail()
            );
        }
    }
}
