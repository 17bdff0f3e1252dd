//! The daemon and its commands, as a user runs them: from the repository, with the repository's files.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use causeway::status::DaemonStatus;

use super::harness::free_port;
use super::harness::kafka::repository;
use super::harness::process::Process;
use super::screen::Screen;

const TOPOLOGY: &str = "topologies/active-standby.yaml";
const CONFIG: &str = "config/local.yaml";
/// The ports of [`CONFIG`]: seoul, busan, api.
const PORTS: [u16; 3] = [19_092, 29_092, 8_083];

/// Which files the demo runs with, and where it keeps its log.
pub struct Files {
    config: String,
    ports: [u16; 3],
    generated: Option<String>,
    binary: PathBuf,
    directory: PathBuf,
}

impl Files {
    /// The repository's own when their ports are free; the config is generated otherwise.
    pub fn choose() -> Self {
        let example = std::env::current_exe().expect("the path of this program");
        let built = example.ancestors().nth(2).expect("target/<profile>/examples");
        let directory = built.with_file_name("demo");
        fs::create_dir_all(&directory).expect("target can be written to");
        let taken = PORTS
            .into_iter()
            .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_err());
        let (config, ports) = match taken {
            None => (CONFIG.to_owned(), PORTS),
            Some(_) => {
                let ports = [free_port(), free_port(), free_port()];
                let text = format!(
                    "clusters:\n  seoul:\n    bootstrap_servers: 127.0.0.1:{}\n  busan:\n    \
                     bootstrap_servers: 127.0.0.1:{}\napi:\n  listen: 127.0.0.1:{}\n",
                    ports[0], ports[1], ports[2]
                );
                let config = directory.join("config.yaml");
                fs::write(&config, text).expect("target can be written to");
                (shown(&config), ports)
            }
        };
        Self {
            generated: taken.map(|port| {
                format!("Port {port} of {CONFIG} is in use, so {config} names free ones instead.")
            }),
            config,
            ports,
            binary: built.join("causeway"),
            directory,
        }
    }

    /// Where seoul and busan have to listen.
    pub fn ports(&self) -> [u16; 2] {
        [self.ports[0], self.ports[1]]
    }

    /// Why the repository's config file is not used, if it is not.
    pub fn why_generated(&self) -> Option<&str> {
        self.generated.as_deref()
    }

    /// Where the daemon's log is.
    pub fn log_shown(&self) -> String {
        shown(&self.log())
    }

    fn log(&self) -> PathBuf {
        self.directory.join("causeway.log")
    }

    /// Runs a command of causeway and shows it with what it prints; panics when it fails.
    pub fn show(&self, screen: &Screen, arguments: &[&str]) {
        let mut command = self.causeway(arguments);
        let output = command.output().expect("causeway has been built");
        let text = [output.stdout, output.stderr].concat();
        screen.command(&self.line(arguments), &String::from_utf8_lossy(&text));
        assert!(
            output.status.success(),
            "causeway {} ended with {}",
            arguments.join(" "),
            output.status
        );
    }

    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let mut all = arguments.to_vec();
        all.extend(["--config", &self.config]);
        if arguments != ["status"] {
            all.extend(["--topology", TOPOLOGY]);
        }
        all
    }

    fn causeway(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args(self.arguments(arguments))
            .env_remove("CAUSEWAY_CONFIG")
            .env_remove("CAUSEWAY_TOPOLOGY")
            .env_remove("CAUSEWAY_LOG")
            .current_dir(repository());
        command
    }

    fn line(&self, arguments: &[&str]) -> String {
        format!("{} {}", shown(&self.binary), self.arguments(arguments).join(" "))
    }
}

/// As one would type it in the repository.
fn shown(path: &Path) -> String {
    path.strip_prefix(repository())
        .unwrap_or(path)
        .display()
        .to_string()
}

/// A running `causeway run`. Killed when dropped or when this process ends, however it does.
pub struct Daemon {
    files: Files,
    command: Command,
    line: String,
    process: Process,
    peak: u64,
}

impl Daemon {
    /// Starts it; does not wait for anything.
    pub fn start(files: Files) -> Self {
        // Missing unless there was a run before.
        let _ = fs::remove_file(files.log());
        let command = files.causeway(&["run"]);
        Self {
            process: Process::start(&command, &files.log()),
            line: files.line(&["run"]),
            command,
            files,
            peak: 0,
        }
    }

    /// Its files.
    pub fn files(&self) -> &Files {
        &self.files
    }

    /// How it was started.
    pub fn command_line(&self) -> &str {
        &self.line
    }

    /// Kills it.
    pub fn kill9(&mut self) {
        self.peak = self.peak_rss_bytes();
        self.process.kill9();
    }

    /// Starts it again.
    pub fn restart(&mut self) {
        self.process = Process::start(&self.command, &self.files.log());
    }

    /// Asks it to stop; its exit code.
    pub fn terminate(self) -> i32 {
        self.process.signal("TERM");
        self.process.wait(Duration::from_secs(60))
    }

    /// Panics when it has ended by itself.
    pub fn assert_running(&self) {
        if let Some(code) = self.process.exit_code() {
            panic!("the daemon has ended with exit code {code}");
        }
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Memory in use, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.process.rss_bytes()
    }

    /// The most memory that it or one before it has used, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.peak.max(self.process.peak_rss_bytes())
    }

    /// `/status`; nothing while it does not answer.
    pub fn status(&self) -> Option<DaemonStatus> {
        serde_json::from_str(&self.get("/status")?).ok()
    }

    /// The sum of a counter over all its labels.
    pub fn counter(&self, name: &str) -> Option<u64> {
        let page = self.get("/metrics")?;
        let values: Vec<u64> = series(&page, name)
            .filter_map(|(_, value)| value.parse().ok())
            .collect();
        (!values.is_empty()).then(|| values.iter().sum())
    }

    /// The latency of replication over all tasks since the process started.
    pub fn latency_histogram(&self) -> LatencyHistogram {
        let mut buckets = Vec::<(f64, u64)>::new();
        let page = self.get("/metrics").unwrap_or_default();
        for (labels, value) in series(&page, "causeway_replication_latency_seconds_bucket") {
            let bound = labels
                .split_once("le=\"")
                .and_then(|(_, rest)| rest.split_once('"'));
            let (Some((bound, _)), Ok(count)) = (bound, value.parse::<u64>()) else {
                continue;
            };
            // `+Inf` is a number to Rust as well.
            let bound = bound.parse().expect("bounds are numbers");
            match buckets.iter_mut().find(|(it, _)| *it == bound) {
                Some((_, sum)) => *sum += count,
                None => buckets.push((bound, count)),
            }
        }
        LatencyHistogram(buckets)
    }

    fn get(&self, path: &str) -> Option<String> {
        let agent: ureq::Agent = ureq::Agent::config_builder()
            .timeout_global(Some(Duration::from_secs(2)))
            .proxy(None)
            .build()
            .into();
        let url = format!("http://127.0.0.1:{}{path}", self.files.ports[2]);
        agent.get(url).call().ok()?.body_mut().read_to_string().ok()
    }
}

/// The lines of a metric: labels and value.
fn series<'a>(page: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
    page.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(name)?.rsplit_once(' ')?;
        (labels.is_empty() || labels.starts_with('{')).then_some((labels, value))
    })
}

/// Records up to each bound in seconds, cumulative.
pub struct LatencyHistogram(Vec<(f64, u64)>);

impl LatencyHistogram {
    /// What has been added since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |bound: f64| {
            let found = earlier.0.iter().find(|(it, _)| *it == bound);
            found.map_or(0, |(_, count)| *count)
        };
        let added = self
            .0
            .iter()
            .map(|(bound, count)| (*bound, count - before(*bound)));
        Self(added.collect())
    }

    /// The bound below which this part of the records lies, in seconds.
    pub fn percentile(&self, part: f64) -> Option<f64> {
        let total = self.0.last()?.1;
        let enough = |(bound, count): &&(f64, u64)| bound.is_finite() && total as f64 * part <= *count as f64;
        (0 < total).then(|| self.0.iter().find(enough).map(|(bound, _)| *bound))?
    }
}
