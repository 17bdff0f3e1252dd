//! Single-node KRaft clusters from Maven's jars.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant};

use super::process::{Process, Scratch};
use super::{free_port, oracle, random};

/// What an acceptable start takes on a busy machine.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// What tests want to happen soon; each of these takes seconds to minutes by default.
const FAST: &[(&str, &str)] = &[
    ("group.initial.rebalance.delay.ms", "0"),
    ("offsets.topic.num.partitions", "4"),
    ("transaction.state.log.num.partitions", "4"),
    ("log.retention.check.interval.ms", "1000"),
    // Records of any age may be written; a topic that is to lose some sets its own.
    ("log.retention.ms", "-1"),
    ("log.initial.task.delay.ms", "1000"),
    ("log.cleaner.backoff.ms", "200"),
    ("log.cleaner.dedupe.buffer.size", "16777216"),
    ("log.segment.delete.delay.ms", "1000"),
    // A restarted broker is let in only when the session of the killed one has ended.
    ("broker.session.timeout.ms", "3000"),
    ("broker.heartbeat.interval.ms", "500"),
    ("num.network.threads", "2"),
    ("num.io.threads", "4"),
];

/// What one broker cannot do without, whatever else is left at Kafka's defaults.
const SINGLE_NODE: &[(&str, &str)] = &[
    ("offsets.topic.replication.factor", "1"),
    ("transaction.state.log.replication.factor", "1"),
    ("transaction.state.log.min.isr", "1"),
    ("auto.create.topics.enable", "false"),
];

/// What kind of cluster to start.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    name: String,
    port: Option<u16>,
    properties: Vec<(String, String)>,
    default_broker_settings: bool,
    default_jit: bool,
    archiving: Option<PathBuf>,
    sasl: bool,
    acls: bool,
    strict: bool,
}

impl ClusterOptions {
    /// A cluster on which what takes its time by default happens soon. The name shows in logs and paths.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            port: None,
            properties: Vec::new(),
            default_broker_settings: false,
            default_jit: false,
            archiving: None,
            sasl: false,
            acls: false,
            strict: false,
        }
    }

    /// Listens on this port instead of a free one.
    pub fn port(mut self, port: u16) -> Self {
        self.port = Some(port);
        self
    }

    /// Adds a broker property; it wins over those of the harness.
    pub fn property(mut self, key: &str, value: &str) -> Self {
        self.properties.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Leaves the broker at Kafka's defaults where one broker can live with them.
    pub fn default_broker_settings(mut self) -> Self {
        self.default_broker_settings = true;
        self
    }

    /// Runs the broker as in production (G1, 1 GB, full JIT) instead of for a quick start.
    pub fn default_jit(mut self) -> Self {
        self.default_jit = true;
        self
    }

    /// Adds a SASL_PLAINTEXT listener with PLAIN for [`SASL_USER`]; see [`Cluster::sasl_bootstrap`].
    pub fn sasl(mut self) -> Self {
        self.sasl = true;
        self
    }

    /// As [`sasl`](Self::sasl), and that user may do nothing but what it is [granted](Cluster::grant). The listener
    /// without SASL stays all-powerful.
    pub fn acls(mut self) -> Self {
        self.acls = true;
        self.sasl()
    }

    /// Takes few settings of topics, as managed Kafka does; see `tests/kafka/StrictPolicy.java`.
    pub fn strict(mut self) -> Self {
        self.strict = true;
        for policy in ["create.topic", "alter.config"] {
            let key = format!("{policy}.policy.class.name");
            self.properties.push((key, "StrictPolicy".to_owned()));
        }
        self
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Cluster {
        Cluster::start_with(self)
    }
}

/// The user of the SASL listener.
pub const SASL_USER: &str = "causeway";
/// The password of that user.
pub const SASL_PASSWORD: &str = "right-password";

/// What rights are about: one resource, or all whose names begin alike.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Resource {
    /// Kafka's word: `Topic`, `Group`, `TransactionalId`, `Cluster`.
    pub kind: &'static str,
    /// Its name, or how the names begin.
    pub name: String,
    /// `Literal` or `Prefixed`.
    pub pattern: &'static str,
}

impl Resource {
    /// One topic; `*` stands for all.
    pub fn topic(name: &str) -> Self {
        Self::literal("Topic", name)
    }

    /// One consumer group; `*` stands for all.
    pub fn group(name: &str) -> Self {
        Self::literal("Group", name)
    }

    /// One resource of this kind.
    pub fn literal(kind: &'static str, name: &str) -> Self {
        Self {
            kind,
            name: name.to_owned(),
            pattern: "Literal",
        }
    }

    /// All resources of this kind whose names begin so.
    pub fn prefixed(kind: &'static str, name: &str) -> Self {
        Self {
            pattern: "Prefixed",
            ..Self::literal(kind, name)
        }
    }
}

/// A running cluster. Killed, and its data removed, when dropped or when this process ends.
pub struct Cluster {
    name: String,
    id: Mutex<String>,
    port: u16,
    sasl_port: u16,
    /// Where its only controller listens.
    controller: String,
    start_time: Duration,
    default_jit: bool,
    archiving: Option<PathBuf>,
    // Before the directory: a process is dropped before what it writes to.
    process: Mutex<Option<Process>>,
    directory: Scratch,
}

impl Cluster {
    /// Starts a cluster with the options of [`ClusterOptions::new`].
    pub fn start(name: &str) -> Self {
        ClusterOptions::new(name).start()
    }

    fn start_with(options: ClusterOptions) -> Self {
        setup();
        // Another process may take a port between our look and the broker's; then others are tried.
        let mut attempts = 3;
        loop {
            attempts -= 1;
            match Self::attempt(&options) {
                Ok(cluster) => return cluster,
                Err(error) => assert!(attempts > 0 && error.contains("already in use"), "{error}"),
            }
        }
    }

    fn attempt(options: &ClusterOptions) -> Result<Self, String> {
        let started = Instant::now();
        let mut cluster = Self {
            name: options.name.clone(),
            id: Mutex::new(new_id()),
            port: options.port.unwrap_or_else(free_port),
            sasl_port: free_port(),
            controller: format!("127.0.0.1:{}", free_port()),
            start_time: Duration::ZERO,
            default_jit: options.default_jit,
            archiving: options.archiving.clone(),
            process: Mutex::new(None),
            directory: Scratch::new(&options.name),
        };
        cluster.format(options);
        cluster.launch(&mut cluster.slot())?;
        cluster.start_time = started.elapsed();
        Ok(cluster)
    }

    /// Writes the settings and what `kafka-storage format` would.
    fn format(&self, options: &ClusterOptions) {
        let data = self.format_data();
        if options.strict {
            let mut javac = Command::new("javac");
            javac.arg("-cp").arg(classpath()).arg("-d").arg(self.classes());
            javac.arg(repository().join("tests/kafka/StrictPolicy.java"));
            assert!(
                javac.status().expect("javac starts").success(),
                "the policy compiles"
            );
        }
        let mut listeners = format!("PLAINTEXT://{}", self.bootstrap());
        if options.sasl {
            let _ = write!(listeners, ",SASL_PLAINTEXT://{}", self.sasl_bootstrap());
        }
        let controller = &self.controller;
        let mut properties = vec![
            ("process.roles".to_owned(), "broker,controller".to_owned()),
            ("node.id".to_owned(), "1".to_owned()),
            ("controller.quorum.voters".to_owned(), format!("1@{controller}")),
            ("controller.listener.names".to_owned(), "CONTROLLER".to_owned()),
            (
                "listener.security.protocol.map".to_owned(),
                "PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,CONTROLLER:PLAINTEXT".to_owned(),
            ),
            (
                "listeners".to_owned(),
                format!("{listeners},CONTROLLER://{controller}"),
            ),
            ("advertised.listeners".to_owned(), listeners),
            ("log.dirs".to_owned(), data.display().to_string()),
        ];
        if options.sasl {
            let jaas = format!(
                "org.apache.kafka.common.security.plain.PlainLoginModule required \
                 user_{SASL_USER}=\"{SASL_PASSWORD}\";"
            );
            properties.push(("sasl.enabled.mechanisms".to_owned(), "PLAIN".to_owned()));
            properties.push((
                "listener.name.sasl_plaintext.plain.sasl.jaas.config".to_owned(),
                jaas,
            ));
        }
        if options.acls {
            for (key, value) in [
                (
                    "authorizer.class.name",
                    "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
                ),
                // The harness and the broker itself.
                ("super.users", "User:ANONYMOUS"),
            ] {
                properties.push((key.to_owned(), value.to_owned()));
            }
        }
        let fast = if options.default_broker_settings {
            &[]
        } else {
            FAST
        };
        for (key, value) in SINGLE_NODE.iter().chain(fast) {
            properties.push(((*key).to_owned(), (*value).to_owned()));
        }
        // Of two lines with one key the last one counts.
        properties.extend_from_slice(&options.properties);
        let text: String = properties
            .iter()
            .map(|(key, value)| format!("{key}={value}\n"))
            .collect();
        fs::write(self.settings_file(), text).expect("the directory is ours");
    }

    /// Classes of this broker's own.
    fn classes(&self) -> PathBuf {
        self.directory.path().join("classes")
    }

    /// An empty directory for data, as `kafka-storage format` leaves it.
    fn format_data(&self) -> PathBuf {
        let data = self.directory.path().join("data");
        copy_directory(&kafka_home().join("formatted"), &data);
        // An id is any 16 bytes in base64, and one of a cluster does for its only directory.
        let meta = format!(
            "version=1\nnode.id=1\ncluster.id={0}\ndirectory.id={0}\n",
            self.cluster_id()
        );
        fs::write(data.join("meta.properties"), meta).expect("the directory is ours");
        data
    }

    /// Kills the broker and starts another, empty cluster at its address.
    pub fn replace(&self) {
        self.kill9();
        fs::remove_dir_all(self.directory.path().join("data")).expect("the directory is ours");
        *self.id.lock().expect("no panic while held") = new_id();
        self.format_data();
        self.restart();
    }

    fn settings_file(&self) -> PathBuf {
        self.directory.path().join("server.properties")
    }

    fn launch(&self, slot: &mut Option<Process>) -> Result<(), String> {
        let started = self.start_process(self.directory.path(), &self.bootstrap());
        *slot = Some(started?);
        Ok(())
    }

    /// Starts a broker by the settings in its directory, and waits until it answers.
    fn start_process(&self, directory: &Path, bootstrap: &str) -> Result<Process, String> {
        let mut java = Command::new("java");
        if self.default_jit {
            java.args(["-Xms1g", "-Xmx1g", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20"]);
        } else {
            java.args([
                "-Xms256m",
                "-Xmx512m",
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
            ]);
            java.arg(match &self.archiving {
                Some(archive) => format!("-XX:ArchiveClassesAtExit={}", archive.display()),
                None => class_archive(),
            });
        }
        java.args(["-Xshare:auto", "-Djava.awt.headless=true", "-cp"])
            .arg(format!("{}:{}", classpath(), self.classes().display()))
            .arg("kafka.Kafka")
            .arg(directory.join("server.properties"))
            .current_dir(directory);
        let process = Process::start(&java, &directory.join("broker.log"));
        let deadline = Instant::now() + START_TIMEOUT;
        loop {
            let reason = match oracle::try_cluster_id(bootstrap, Duration::from_secs(2)) {
                // Another cluster may have come to answer at this port.
                Ok(id) if id == self.cluster_id() => return Ok(process),
                Ok(id) => format!("cluster {id} answers in its place: the address is already in use"),
                Err(error) => error,
            };
            let ended = process.exit_code();
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!(
                    "cluster {} does not come up: {reason}; exit code {ended:?}; its log ends with:\n{}",
                    self.name,
                    process.log_tail()
                ));
            }
        }
    }

    /// Adds a second broker to it. Topics that exist keep their replicas.
    pub fn second_broker(&self) -> Broker<'_> {
        let directory = Scratch::new(&format!("{}-2", self.name));
        let (data, bootstrap) = (
            directory.path().join("data"),
            format!("127.0.0.1:{}", free_port()),
        );
        fs::create_dir(&data).expect("the directory is ours");
        let meta = format!(
            "version=1\nnode.id=2\ncluster.id={}\ndirectory.id=causeway{:014x}\n",
            self.cluster_id(),
            random() >> 8
        );
        fs::write(data.join("meta.properties"), meta).expect("the directory is ours");
        let first = fs::read_to_string(self.settings_file()).expect("the first broker has settings");
        // Of two lines with one key the last one counts.
        let settings = format!(
            "{first}process.roles=broker\nnode.id=2\nlisteners=PLAINTEXT://{bootstrap}\n\
             advertised.listeners=PLAINTEXT://{bootstrap}\nlog.dirs={}\n",
            data.display()
        );
        fs::write(directory.path().join("server.properties"), settings).expect("the directory is ours");
        let mut broker = Broker {
            cluster: self,
            bootstrap,
            process: None,
            directory,
        };
        broker.start();
        broker
    }

    /// `127.0.0.1:<port>`, the same across restarts.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where [`SASL_USER`] may log in, with [`ClusterOptions::sasl`].
    pub fn sasl_bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.sasl_port)
    }

    /// Kafka's id of it.
    pub fn cluster_id(&self) -> String {
        self.id.lock().expect("no panic while held").clone()
    }

    /// How long it took to start.
    pub fn start_time(&self) -> Duration {
        self.start_time
    }

    /// Kills the broker; its data stays.
    pub fn kill9(&self) {
        self.with_process(Process::kill9);
    }

    /// Stops the broker in good order.
    pub fn terminate(&self) {
        self.with_process(|process| {
            process.signal("TERM");
            process.wait(START_TIMEOUT);
        });
    }

    /// Freezes the broker: connections stay open and nobody answers.
    pub fn stop(&self) {
        self.with_process(|process| process.signal("STOP"));
    }

    /// Goes on after [`stop`](Self::stop).
    pub fn cont(&self) {
        self.with_process(|process| process.signal("CONT"));
    }

    /// Starts a killed or terminated broker on its data and ports, and waits until it answers.
    pub fn restart(&self) {
        let mut slot = self.slot();
        assert!(
            slot.take().is_none_or(|process| !process.is_running()),
            "restart of cluster {}, which runs",
            self.name
        );
        if let Err(error) = self.launch(&mut slot) {
            panic!("{error}");
        }
    }

    /// The log of a partition as it is now: the names and contents of its files, without indexes, which the broker
    /// makes anew. For [`Cluster::cut_back`].
    pub fn copy_log(&self, topic: &str, partition: i32) -> Vec<(PathBuf, Vec<u8>)> {
        let kept = |path: &PathBuf| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.ends_with(".log") || name == "leader-epoch-checkpoint" || name == "partition.metadata"
        };
        self.log_files(topic, partition)
            .filter(kept)
            .map(|path| {
                (
                    path.clone(),
                    fs::read(path).expect("the broker's file can be read"),
                )
            })
            .collect()
    }

    /// Gives a partition of a broker that does not run an earlier log again, as the election of a replica that was
    /// behind does.
    pub fn cut_back(&self, topic: &str, partition: i32, earlier: &[(PathBuf, Vec<u8>)]) {
        for file in self.log_files(topic, partition) {
            fs::remove_file(file).expect("the directory is ours");
        }
        for (path, content) in earlier {
            fs::write(path, content).expect("the directory is ours");
        }
    }

    fn log_files(&self, topic: &str, partition: i32) -> impl Iterator<Item = PathBuf> {
        let log = self.directory.path().join(format!("data/{topic}-{partition}"));
        let files = fs::read_dir(log).expect("the broker has the partition");
        files.map(|file| file.expect("the directory is ours").path())
    }

    /// The end of what the broker has written, over all its starts.
    pub fn log_tail(&self) -> String {
        self.with_process(Process::log_tail)
    }

    /// Process id of the broker.
    pub fn pid(&self) -> u32 {
        self.with_process(Process::pid)
    }

    fn slot(&self) -> MutexGuard<'_, Option<Process>> {
        // A test that failed while it held this does not concern the others.
        self.process
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn with_process<T>(&self, act: impl FnOnce(&Process) -> T) -> T {
        act(self
            .slot()
            .as_ref()
            .expect("a cluster has a process from its start on"))
    }

    /// What Kafka's own `kafka-consumer-groups.sh` prints.
    pub fn consumer_groups(&self, arguments: &[&str]) -> String {
        let at = ["--bootstrap-server", &self.bootstrap()];
        kafka_tool("kafka-consumer-groups.sh", &[&at, arguments].concat())
    }

    /// Allows [`SASL_USER`] these operations, by Kafka's words (`Read`, `DescribeConfigs`…). With
    /// [`ClusterOptions::acls`]; brokers follow within moments.
    pub fn grant(&self, resource: &Resource, operations: &[&str]) {
        oracle::change_acls(&self.bootstrap(), "create_acls", "Allow", resource, operations);
    }

    /// Forbids [`SASL_USER`] these operations, whatever is granted.
    pub fn deny(&self, resource: &Resource, operations: &[&str]) {
        oracle::change_acls(&self.bootstrap(), "create_acls", "Deny", resource, operations);
    }

    /// Takes back what was granted or forbidden by the same words.
    pub fn revoke(&self, resource: &Resource, operations: &[&str]) {
        oracle::change_acls(&self.bootstrap(), "delete_acls", "Any", resource, operations);
    }

    /// [`oracle::create_topic`] here.
    pub fn create_topic(&self, topic: &str, partitions: i32, configs: &[(&str, &str)]) {
        oracle::create_topic(&self.bootstrap(), topic, partitions, configs);
    }

    /// [`oracle::delete_topic`] here.
    pub fn delete_topic(&self, topic: &str) {
        oracle::delete_topic(&self.bootstrap(), topic);
    }

    /// [`oracle::grow_topic`] here.
    pub fn grow_topic(&self, topic: &str, partitions: i32) {
        oracle::grow_topic(&self.bootstrap(), topic, partitions);
    }

    /// [`oracle::alter_topic_config`] here.
    pub fn alter_topic(&self, topic: &str, set: &[(&str, &str)], delete: &[&str]) {
        oracle::alter_topic_config(&self.bootstrap(), topic, set, delete);
    }
}

/// A second broker of a cluster; see [`Cluster::second_broker`].
pub struct Broker<'a> {
    cluster: &'a Cluster,
    bootstrap: String,
    process: Option<Process>,
    directory: Scratch,
}

impl Broker<'_> {
    /// Starts it, again on its data and port, and waits until it answers.
    pub fn start(&mut self) {
        match self.cluster.start_process(self.directory.path(), &self.bootstrap) {
            Ok(process) => self.process = Some(process),
            Err(error) => panic!("{error}"),
        }
    }

    /// Kills it; its data stays.
    pub fn kill9(&mut self) {
        self.process.take().expect("it runs").kill9();
    }

    /// Stops it in good order.
    pub fn terminate(&mut self) {
        let process = self.process.take().expect("it runs");
        process.signal("TERM");
        process.wait(START_TIMEOUT);
    }
}

/// What `setup.sh` has formatted. Where the first settings of a cluster lie in it depends on Kafka's version.
fn copy_directory(from: &Path, to: &Path) {
    fs::create_dir(to).expect("the directory is ours");
    for entry in fs::read_dir(from).expect("setup.sh has formatted a directory") {
        let entry = entry.expect("a readable entry");
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        if from.is_dir() {
            copy_directory(&from, &to);
        } else {
            fs::copy(from, to).expect("the directory is ours");
        }
    }
}

/// What one of Kafka's own tools prints, by the name of its script.
pub fn kafka_tool(script: &str, arguments: &[&str]) -> String {
    let class = match script {
        "kafka-consumer-groups.sh" => "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
        "kafka-configs.sh" if is_before_4_4() => "kafka.admin.ConfigCommand",
        "kafka-configs.sh" => "org.apache.kafka.tools.ConfigCommand",
        "kafka-topics.sh" => "org.apache.kafka.tools.TopicCommand",
        "kafka-transactions.sh" => "org.apache.kafka.tools.TransactionsCommand",
        other => panic!("{other}: say here which class it runs"),
    };
    let mut java = Command::new("java");
    java.args([
        "-XX:+UseSerialGC",
        "-Xshare:auto",
        &class_archive(),
        // What the JVM has to say about the archive is no output of the tool.
        "-Xlog:disable",
        "-Dfile.encoding=UTF-8",
        "-Dstdout.encoding=UTF-8",
    ])
    .arg("-cp")
    .arg(classpath())
    .arg(class)
    .args(arguments)
    // Java takes the encoding of arguments from here.
    .env("LC_ALL", "C.UTF-8");
    let output = java.output().expect("java starts");
    let (stdout, stderr) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    // Some tools tell of some failures in their output only.
    assert!(
        output.status.success() && !stdout.contains("Error: "),
        "{arguments:?}\n{stdout}\n{stderr}"
    );
    stdout.into_owned()
}

fn new_id() -> String {
    format!("causeway{:014x}", random() >> 8)
}

/// The root of the repository.
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Kafka everything here runs: `KAFKA_VERSION`, or the one of `tests/kafka/pom.xml`.
pub fn kafka_version() -> String {
    let chosen = std::env::var("KAFKA_VERSION").unwrap_or_default();
    if !chosen.is_empty() {
        return chosen;
    }
    version_in_pom("kafka.version")
}

fn version_in_pom(name: &str) -> String {
    let pom = include_str!("../kafka/pom.xml");
    let (_, rest) = pom
        .split_once(&format!("<{name}>"))
        .expect("the pom names a version");
    rest.split_once('<').expect("the pom is XML").0.to_owned()
}

fn is_before_4_4() -> bool {
    numbers(&kafka_version()) < vec![4, 4]
}

fn numbers(version: &str) -> Vec<u32> {
    version.split('.').map(|it| it.parse().unwrap_or(0)).collect()
}

fn kafka_home() -> PathBuf {
    home(&kafka_version())
}

fn home(version: &str) -> PathBuf {
    repository().join(".kafka").join(version)
}

/// Class path of brokers and the oracle; fetched if it is not there yet.
pub fn classpath() -> String {
    setup();
    classpath_in(&kafka_home())
}

/// Class path of MM2: with the Kafka that it belongs to, because it uses more of that than its public classes.
pub fn mirror_maker_classpath() -> String {
    let version = version_in_pom("mm2.version");
    if numbers(&kafka_version()) <= numbers(&version) {
        return classpath();
    }
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| fetch(&version));
    classpath_in(&home(&version))
}

fn classpath_in(home: &Path) -> String {
    let libs = home.join("libs");
    let log_settings = repository().join("tests/kafka");
    format!("{}/*:{}", libs.display(), log_settings.display())
}

/// The option by which a JVM for a quick start finds Kafka's classes as another one left them: a broker starts with
/// half the work. The file lies with the jars and is made by whoever misses it; a JVM that does not like it does
/// without.
pub fn class_archive() -> String {
    static ARCHIVE: OnceLock<PathBuf> = OnceLock::new();
    let archive = ARCHIVE.get_or_init(|| {
        setup();
        let archive = kafka_home().join("classes.jsa");
        if !archive.exists() {
            make_class_archive(&archive);
        }
        archive
    });
    format!("-XX:SharedArchiveFile={}", archive.display())
}

/// Lets a broker do a little of everything, and keep its classes when it ends.
fn make_class_archive(archive: &Path) {
    let ours = archive.with_extension(format!("{:x}", random()));
    let mut options = ClusterOptions::new("archiving").acls();
    options.archiving = Some(ours.clone());
    let cluster = options.start();
    let at = cluster.bootstrap();
    cluster.create_topic("topic", 1, &[]);
    oracle::produce(&at, &[oracle::NewRecord::new("topic", 0, "k", "v")], "lz4");
    oracle::dump(&at, "topic", oracle::Isolation::ReadCommitted);
    let steps = [oracle::Step::Begin, oracle::Step::Commit, oracle::Step::Close];
    oracle::transaction(&at, "id", &steps);
    oracle::set_group_offset(&at, "group", "topic", 0, 1);
    cluster.grant(&Resource::topic("topic"), &["Read"]);
    cluster.terminate();
    // Another process may have made one meanwhile, or this JVM makes none: it only takes longer then.
    let _ = fs::rename(ours, archive);
}

/// What `make setup` does, so that a bare `cargo test` works as well.
fn setup() {
    static DONE: OnceLock<()> = OnceLock::new();
    DONE.get_or_init(|| fetch(&kafka_version()));
}

fn fetch(version: &str) {
    let mut script = Command::new(repository().join("tests/kafka/setup.sh"));
    let status = script.arg(version).status().expect("bash runs setup.sh");
    assert!(status.success(), "setup.sh failed; it says why");
}
