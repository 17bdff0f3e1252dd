//! The daemon's end of the pipe: starts the process, asks, and gives each asker its answer.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use tracing::{debug, warn};

use crate::error::{Code, Error, Result};

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
        let running = self.running.lock();
        let running = running.as_ref()?;
        running.shared.waiting.lock().as_ref()?;
        Some(running.pid)
    }

    /// Sends one request and waits for its answer.
    pub(super) fn ask(&self, request: &str, patience: Duration) -> Result<String> {
        let (asked, shared) = self.send(request)?;
        match asked.recv_timeout(patience) {
            Ok(answer) => Ok(answer),
            Err(RecvTimeoutError::Disconnected) => {
                let how = shared.end.lock().clone();
                Err(ended(format!("it ended during the call: {how}")))
            }
            Err(RecvTimeoutError::Timeout) => {
                // By its handle and so by its id. Whoever else waits for it learns of it as of any other end.
                let _ = shared.child.lock().kill();
                Err(ended(format!("no answer within {patience:?}, so it was ended")))
            }
        }
    }

    fn send(&self, request: &str) -> Result<(Receiver<String>, Arc<Shared>)> {
        let mut running = self.running.lock();
        loop {
            let current = match &mut *running {
                Some(current) => current,
                none => none.insert(Running::start(&self.program).map_err(|error| {
                    ended(format!("{} cannot be started: {error}", self.program.display()))
                })?),
            };
            if let Some(waiting) = &mut *current.shared.waiting.lock() {
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

/// The process ended, or its answer is none.
pub(super) fn ended(detail: String) -> Error {
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
                .and_then(|id: u64| self.waiting.lock().as_mut()?.remove(&id));
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
            let mut child = self.child.lock();
            // It may have closed its stdout without ending.
            let _ = child.kill();
            child.wait()
        };
        let how = status.map_or_else(|error| error.to_string(), |status| status.to_string());
        debug!(pid, how, "the process for groups has ended");
        *self.end.lock() = how;
        // Their senders are dropped.
        *self.waiting.lock() = None;
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

#[cfg(test)]
mod tests {
    use super::*;

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
