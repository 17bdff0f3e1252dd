//! Positions of consumer groups, read, written and deleted by a process of its own.
//!
//! librdkafka 2.12 can abort the process in every call that looks for a group's coordinator when a connection
//! drops at the wrong moment (issue 4605). The data plane must not die of that. So these calls run in a child:
//! this program once more, with the hidden command `group-process`. It is started by the first call, started
//! again when it has died, and ends by itself when its stdin does, and so with its parent, however that ends.
//!
//! On its stdin and stdout are lines: a number, a space, JSON. An answer has the number of its request; answers
//! come in the order they are ready, so that a slow cluster holds up nobody else. How to reach a cluster, secrets
//! included, is part of each request and in no argument and no environment variable. Both ends are one program
//! file, so the JSON is no format that needs to last.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rdkafka::ClientConfig;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tracing::{debug, warn};

use super::TopicPartition;
use super::client::ClusterConnection;
use crate::error::{Code, Error, Result, Side};

use native::GroupAdmin;

#[allow(unsafe_code)]
mod native;

/// A position of a group in one partition.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// The next offset the group reads, ≥ 0.
    pub offset: i64,
    /// Leader epoch of the last record the group has read, if it told.
    pub leader_epoch: Option<i32>,
    /// What the group stored with it; empty for none. Bytes that are not UTF-8 are replaced.
    pub metadata: String,
}

/// Positions by group.
pub type Positions = BTreeMap<String, BTreeMap<TopicPartition, Commit>>;

/// Positions by group, or why they cannot be told.
pub type Read = BTreeMap<String, Result<BTreeMap<TopicPartition, Commit>>>;

/// What became of each position, by group.
pub type Written = BTreeMap<String, Result<BTreeMap<TopicPartition, Result<()>>>>;

/// What became of each group.
pub type Deleted = BTreeMap<String, Result<()>>;

/// Groups of one cluster. Every call blocks, is bounded by its timeout and some seconds, and may be made from
/// several threads at once.
#[derive(Clone, Debug)]
pub struct Groups {
    process: Arc<GroupProcess>,
    cluster: Cluster,
}

impl Groups {
    /// Contacts nobody yet. `side` decides whether errors are `S` or `T` codes: a cluster whose groups are
    /// written or deleted is a target.
    pub fn new(process: Arc<GroupProcess>, cluster: ClusterConnection, client_id: &str, side: Side) -> Self {
        let config = cluster.group_admin(client_id);
        // The map hides secrets, `get` does not.
        let property = |key: &&str| Some(((*key).to_owned(), config.get(key)?.to_owned()));
        Self {
            process,
            cluster: Cluster {
                alias: cluster.alias.as_str().to_owned(),
                side,
                properties: config.config_map().keys().filter_map(property).collect(),
            },
        }
    }

    /// Positions of each group, or why they cannot be told. A partition for which the group has no position is
    /// not there, nor are partitions of topics we may not describe; a group that does not exist has no positions.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group.
    pub fn committed(&self, groups: &[String], timeout: Duration) -> Result<Read> {
        let answer: ByGroup<Result<ByTopic<Commit>>> = self.ask(Call::Committed(groups.to_vec()), timeout)?;
        Ok(from_wire(answer))
    }

    /// Writes positions. A group that has members on the cluster is refused with
    /// [`Code::TargetGroupActive`]; a group that does not exist is created.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group; part of the positions
    /// may have been written then. So they may for a group whose error is about the whole of it.
    pub fn commit(&self, positions: &Positions, timeout: Duration) -> Result<Written> {
        let positions = positions.iter().map(|(group, it)| (group.clone(), by_topic(it)));
        let answer: ByGroup<Result<ByTopic<Result<()>>>> =
            self.ask(Call::Commit(positions.collect()), timeout)?;
        Ok(from_wire(answer))
    }

    /// Deletes groups with all their positions. One that has members is refused with
    /// [`Code::TargetGroupActive`]; one that does not exist counts as deleted.
    ///
    /// # Errors
    /// The outer error is about the process, or about a cluster that answered for no group.
    pub fn delete(&self, groups: &[String], timeout: Duration) -> Result<Deleted> {
        self.ask(Call::Delete(groups.to_vec()), timeout)
    }

    fn ask<T: DeserializeOwned>(&self, call: Call, timeout: Duration) -> Result<T> {
        let request = Request {
            cluster: &self.cluster,
            timeout,
            call,
        };
        let request = serde_json::to_string(&request).expect("texts and numbers");
        let answer = self.process.ask(&request, timeout + PATIENCE)?;
        let answer: Result<T> = serde_json::from_str(&answer)
            .map_err(|error| ended(format!("its answer cannot be read: {error}")))?;
        answer
    }
}

/// What a call may take beyond its timeout before the process counts as hung. The calls themselves end after 2 s.
const PATIENCE: Duration = Duration::from_secs(10);

/// The process for groups. One serves all clusters of a daemon; it runs only while somebody needs it.
pub struct GroupProcess {
    program: PathBuf,
    running: Mutex<Option<Running>>,
}

impl GroupProcess {
    /// A process of this program, whose command line must have the command `group-process`.
    pub fn new() -> Self {
        // Not its path: the file there may be another version by now.
        let own = if cfg!(target_os = "linux") {
            Ok("/proc/self/exe".into())
        } else {
            std::env::current_exe()
        };
        Self::of_program(own.unwrap_or_else(|_| "causeway".into()))
    }

    /// A process of another program: for tests, whose own command line is another.
    pub fn of_program(program: PathBuf) -> Self {
        Self {
            program,
            running: Mutex::new(None),
        }
    }

    /// Id of the process that runs now.
    pub fn pid(&self) -> Option<u32> {
        let running = lock(&self.running);
        let running = running.as_ref()?;
        lock(&running.shared.waiting).as_ref()?;
        Some(running.pid)
    }

    /// Sends one request and waits for its answer.
    fn ask(&self, request: &str, patience: Duration) -> Result<String> {
        let (asked, shared) = self.send(request)?;
        match asked.recv_timeout(patience) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => {
                let how = lock(&shared.end).clone();
                Err(ended(format!("it ended during the call: {how}")))
            }
            Err(RecvTimeoutError::Timeout) => {
                // By its handle and so by its id. Whoever else waits for it learns of it as of any other end.
                let _ = lock(&shared.child).kill();
                Err(ended(format!("no answer within {patience:?}, so it was ended")))
            }
        }
    }

    fn send(&self, request: &str) -> Result<(Receiver<String>, Arc<Shared>)> {
        let mut running = lock(&self.running);
        loop {
            let current = match &mut *running {
                Some(current) => current,
                none => none.insert(Running::start(&self.program).map_err(|error| {
                    ended(format!("{} cannot be started: {error}", self.program.display()))
                })?),
            };
            if let Some(waiting) = &mut *lock(&current.shared.waiting) {
                let (asker, asked) = mpsc::channel();
                current.last_id += 1;
                waiting.insert(current.last_id, asker);
                // A pipe that is broken shows as the end of the process.
                let _ = current.requests.send(format!("{} {request}\n", current.last_id));
                return Ok((asked, Arc::clone(&current.shared)));
            }
            *running = None;
        }
    }
}

impl Default for GroupProcess {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for GroupProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupProcess").field("pid", &self.pid()).finish()
    }
}

fn ended(detail: String) -> Error {
    Error::new(
        Code::GroupProcessEnded,
        format!("the process for groups: {detail}"),
    )
}

/// One life of the process. Dropping it ends its stdin, and so the process.
struct Running {
    pid: u32,
    last_id: u64,
    requests: Sender<String>,
    shared: Arc<Shared>,
}

/// What askers and the thread that reads answers share.
struct Shared {
    /// Who waits for which answer; nothing once the process has ended.
    waiting: Mutex<Option<HashMap<u64, Sender<String>>>>,
    child: Mutex<Child>,
    /// How it ended, for people.
    end: Mutex<String>,
}

impl Running {
    fn start(program: &PathBuf) -> io::Result<Self> {
        let mut child = Command::new(program)
            .arg0("causeway")
            .args(["--log", "off", "group-process"])
            // Out of reach of a Ctrl-C in the terminal: a drain may still need it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let pid = child.id();
        debug!(pid, "the process for groups starts");
        let missing = "it is piped";
        let stdin = child.stdin.take().expect(missing);
        let stdout = child.stdout.take().expect(missing);
        let stderr = child.stderr.take().expect(missing);
        let shared = Arc::new(Shared {
            waiting: Mutex::new(Some(HashMap::new())),
            child: Mutex::new(child),
            end: Mutex::default(),
        });
        let (requests, queue) = mpsc::channel();
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            thread::Builder::new().name(name.into()).spawn(work).map(drop)
        };
        let readers = Arc::clone(&shared);
        let started = spawn("groups-out", Box::new(move || readers.read_answers(stdout, pid)))
            .and_then(|()| spawn("groups-in", Box::new(move || write_requests(stdin, &queue))))
            .and_then(|()| spawn("groups-log", Box::new(move || log(stderr, pid))));
        if let Err(error) = started {
            shared.finish(pid);
            return Err(error);
        }
        Ok(Self {
            pid,
            last_id: 0,
            requests,
            shared,
        })
    }
}

impl Shared {
    fn read_answers(&self, stdout: ChildStdout, pid: u32) {
        for line in BufReader::new(stdout).lines().map_while(io::Result::ok) {
            let Some((id, answer)) = line.split_once(' ') else {
                break;
            };
            let asker = id
                .parse()
                .ok()
                .and_then(|id: u64| lock(&self.waiting).as_mut()?.remove(&id));
            if let Some(asker) = asker {
                // Who no longer waits needs no answer.
                let _ = asker.send(answer.to_owned());
            }
        }
        self.finish(pid);
    }

    /// Leaves no zombie, and tells everybody who waits.
    fn finish(&self, pid: u32) {
        let status = {
            let mut child = lock(&self.child);
            // It may have closed its stdout without ending.
            let _ = child.kill();
            child.wait()
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        debug!(pid, how, "the process for groups has ended");
        *lock(&self.end) = how;
        // Their senders are dropped.
        *lock(&self.waiting) = None;
    }
}

/// Ends stdin when nobody can ask any more. In a thread of its own: a stopped process must block no asker.
fn write_requests(mut stdin: ChildStdin, queue: &Receiver<String>) {
    for request in queue {
        if stdin.write_all(request.as_bytes()).is_err() {
            break;
        }
    }
}

/// Its own log is off: what comes is a panic, or librdkafka's last words.
fn log(stderr: ChildStderr, pid: u32) {
    for line in BufReader::new(stderr).lines().map_while(io::Result::ok) {
        warn!(pid, "process for groups: {line}");
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The other end: answers the requests on stdin until it ends.
///
/// # Errors
/// stdin cannot be read.
pub fn serve() -> io::Result<()> {
    // Never dropped: clients take their time to end, and this process ends at once, with them in it.
    let clients: &'static Clients = Box::leak(Box::default());
    for line in io::stdin().lock().lines() {
        let line = line?;
        let Some((id, request)) = line.split_once(' ') else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let id = id.to_owned();
        let request: Request<Cluster> = serde_json::from_str(request)?;
        thread::spawn(move || {
            let client = clients.get(&request.cluster);
            let answer = match &client {
                Ok(client) => answer(client, request),
                Err(error) => to_json::<()>(Err(error.clone())),
            };
            let mut stdout = io::stdout().lock();
            // Without a parent stdin ends as well.
            let _ = writeln!(stdout, "{id} {answer}").and_then(|()| stdout.flush());
            drop(stdout);
            // After the answer: a client takes its time to end.
            if let Ok(client) = client
                && client.is_misled()
            {
                clients.forget(&client);
            }
        });
    }
    Ok(())
}

/// JSON of the result.
fn answer(client: &GroupAdmin, request: Request<Cluster>) -> String {
    let timeout = request.timeout;
    match request.call {
        Call::Committed(groups) => to_json(client.committed(&groups, timeout).map(to_wire)),
        Call::Commit(positions) => {
            let positions = positions.into_iter().map(|(group, it)| (group, by_partition(it)));
            to_json(client.commit(&positions.collect(), timeout).map(to_wire))
        }
        Call::Delete(groups) => to_json(client.delete(&groups, timeout)),
    }
}

/// One client per cluster and way to reach it.
#[derive(Default)]
struct Clients(Mutex<BTreeMap<Cluster, Arc<GroupAdmin>>>);

impl Clients {
    fn get(&self, cluster: &Cluster) -> Result<Arc<GroupAdmin>> {
        let mut clients = lock(&self.0);
        if let Some(client) = clients.get(cluster) {
            return Ok(Arc::clone(client));
        }
        let mut config = ClientConfig::new();
        for (key, value) in &cluster.properties {
            config.set(key, value);
        }
        let client = Arc::new(GroupAdmin::new(&cluster.alias, &config, cluster.side)?);
        clients.insert(cluster.clone(), Arc::clone(&client));
        Ok(client)
    }

    fn forget(&self, client: &Arc<GroupAdmin>) {
        lock(&self.0).retain(|_, it| !Arc::ptr_eq(it, client));
    }
}

#[derive(Serialize, Deserialize)]
struct Request<C> {
    cluster: C,
    timeout: Duration,
    call: Call,
}

#[derive(Serialize, Deserialize)]
enum Call {
    Committed(Vec<String>),
    Commit(ByGroup<ByTopic<Commit>>),
    Delete(Vec<String>),
}

/// How a cluster is reached. Some properties are secrets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Cluster {
    alias: String,
    side: Side,
    properties: BTreeMap<String, String>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cluster")
            .field("alias", &self.alias)
            .field("side", &self.side)
            .finish_non_exhaustive()
    }
}

type ByGroup<T> = BTreeMap<String, T>;

/// JSON has no objects with partitions as keys.
type ByTopic<T> = BTreeMap<String, Vec<(i32, T)>>;

fn to_json<T: Serialize>(answer: Result<T>) -> String {
    serde_json::to_string(&answer).expect("texts and numbers")
}

fn by_topic<T: Clone>(partitions: &BTreeMap<TopicPartition, T>) -> ByTopic<T> {
    let mut topics = ByTopic::<T>::new();
    for (partition, value) in partitions {
        let value = (partition.partition, value.clone());
        match topics.get_mut(&*partition.topic) {
            Some(values) => values.push(value),
            None => drop(topics.insert(partition.topic.to_string(), vec![value])),
        }
    }
    topics
}

fn by_partition<T>(topics: ByTopic<T>) -> BTreeMap<TopicPartition, T> {
    let of_topic = |(topic, values): (String, Vec<(i32, T)>)| {
        let topic: Arc<str> = topic.into();
        values
            .into_iter()
            .map(move |(number, value)| (TopicPartition::new(Arc::clone(&topic), number), value))
    };
    topics.into_iter().flat_map(of_topic).collect()
}

fn to_wire<T: Clone>(groups: ByGroup<Result<BTreeMap<TopicPartition, T>>>) -> ByGroup<Result<ByTopic<T>>> {
    let of_group = |(group, it): (String, Result<BTreeMap<_, _>>)| (group, it.map(|it| by_topic(&it)));
    groups.into_iter().map(of_group).collect()
}

fn from_wire<T>(groups: ByGroup<Result<ByTopic<T>>>) -> ByGroup<Result<BTreeMap<TopicPartition, T>>> {
    let of_group = |(group, it): (String, Result<ByTopic<T>>)| (group, it.map(by_partition));
    groups.into_iter().map(of_group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn commit() -> impl Strategy<Value = Commit> {
        (0..i64::MAX, proptest::option::of(0..i32::MAX), any::<String>()).prop_map(
            |(offset, leader_epoch, metadata)| Commit {
                offset,
                leader_epoch,
                metadata,
            },
        )
    }

    fn positions() -> impl Strategy<Value = BTreeMap<TopicPartition, Commit>> {
        let partition = ("[a-c.]{1,3}", 0..5).prop_map(|(topic, number)| TopicPartition::new(topic, number));
        proptest::collection::btree_map(partition, commit(), 0..10)
    }

    proptest! {
        #[test]
        fn positions_survive_the_pipe(positions in positions()) {
            let read: Read = [("g".to_owned(), Ok(positions))].into();
            let line = to_json(Ok(to_wire(read.clone())));
            prop_assert!(!line.contains('\n'));
            let answer: Result<ByGroup<Result<ByTopic<Commit>>>> = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(from_wire(answer.unwrap()), read);
        }
    }

    #[test]
    fn a_program_that_cannot_be_started_or_says_nothing_of_use_is_an_error_and_leaves_no_process() {
        for (program, why) in [
            ("/nonexistent", "cannot be started"),
            ("/bin/true", "exit status: 0"),
        ] {
            let process = GroupProcess::of_program(program.into());
            let error = process.ask("{}", Duration::from_secs(10)).unwrap_err();
            assert_eq!(error.code, Code::GroupProcessEnded);
            assert!(error.detail.contains(why), "{error}");
            assert_eq!(process.pid(), None);
        }
    }
}
