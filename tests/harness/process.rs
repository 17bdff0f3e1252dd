//! Processes and directories that are gone when this process is, however it ends.
//!
//! The guardian of each is a small shell that reads from a pipe whose other end only we hold: the pipe ends
//! when we do, even by kill -9, and the shell then kills or removes what it guards.

use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::wait_for;

/// Runs `"$@"` with its output in the log, says its process id, and exits as it does.
const GUARD_PROCESS: &str = r#"
log=$1
shift
exec 3<&0
"$@" </dev/null >>"$log" 2>&1 3<&- &
pid=$!
echo "$pid"
exec >/dev/null
( read -r _ <&3; kill -KILL "$pid" ) &
watch=$!
wait "$pid"
code=$?
kill -KILL "$watch"
exit "$code"
"#;

/// A process may still be dying and writing when the pipe ends, hence more than one try.
const GUARD_DIRECTORY: &str = r#"
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && exit 0
    sleep 0.1
done
"#;

/// A child process with its output in a file.
pub struct Process {
    guardian: Mutex<Child>,
    pid: u32,
    log: PathBuf,
}

impl Process {
    /// Starts `command` (program, arguments, environment and directory count); output is appended to `log`.
    pub fn start(command: &Command, log: &Path) -> Self {
        let mut guardian = guardian(GUARD_PROCESS);
        guardian
            .arg(log)
            .arg(command.get_program())
            .args(command.get_args())
            .stdout(Stdio::piped());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => guardian.env(name, value),
                None => guardian.env_remove(name),
            };
        }
        if let Some(directory) = command.get_current_dir() {
            guardian.current_dir(directory);
        }
        let mut guardian = guardian.spawn().expect("sh starts");
        let mut line = String::new();
        BufReader::new(guardian.stdout.take().expect("it is piped"))
            .read_line(&mut line)
            .expect("sh says the process id");
        Self {
            pid: line.trim().parse().expect("sh says the process id"),
            guardian: Mutex::new(guardian),
            log: log.to_owned(),
        }
    }

    /// The process itself, not the shell that guards it.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it has not ended yet; a stopped process is running.
    pub fn is_running(&self) -> bool {
        self.exit_code().is_none()
    }

    /// How it ended: its code, or 128 + the signal that killed it.
    pub fn exit_code(&self) -> Option<i32> {
        let mut guardian = self.guardian.lock().expect("no panic while held");
        let status = guardian.try_wait().expect("it is our child")?;
        Some(status.code().unwrap_or(-1))
    }

    /// Waits for the end; panics with the log when it does not come.
    pub fn wait(&self, timeout: Duration) -> i32 {
        let what = format!(
            "the end of process {}; its log ends with:\n{}",
            self.pid,
            self.log_tail()
        );
        wait_for(&what, timeout, || self.exit_code())
    }

    /// Sends a signal by its name, `TERM`, `STOP`, `CONT`, `HUP`…
    pub fn signal(&self, name: &str) {
        assert!(
            self.is_running(),
            "process {} has ended:\n{}",
            self.pid,
            self.log_tail()
        );
        let status = Command::new("kill")
            .arg(format!("-{name}"))
            .arg(self.pid.to_string())
            .status();
        assert!(
            status.expect("kill starts").success(),
            "kill -{name} {}",
            self.pid
        );
    }

    /// Kills it and waits until it is gone.
    pub fn kill9(&self) {
        if self.is_running() {
            self.signal("KILL");
            self.wait(Duration::from_secs(10));
        }
    }

    /// Memory in use, in bytes.
    pub fn rss_bytes(&self) -> u64 {
        self.status_bytes("VmRSS:")
    }

    /// The most memory it has had in use so far, in bytes.
    pub fn peak_rss_bytes(&self) -> u64 {
        self.status_bytes("VmHWM:")
    }

    fn status_bytes(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("the process runs");
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        1024 * kib.and_then(|kib| kib.parse::<u64>().ok()).expect("memory in kB")
    }

    /// CPU time used so far, user and system, all threads.
    pub fn cpu_time(&self) -> Duration {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).expect("the process runs");
        // The name, in parentheses, may contain anything; user and system time are fields 14 and 15.
        let after_name = stat.rsplit_once(')').expect("a name in parentheses").1;
        let ticks: u64 = after_name
            .split_whitespace()
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number"))
            .sum();
        // Linux shows 100 ticks a second to user space on every architecture it runs on today.
        Duration::from_millis(ticks * 10)
    }

    /// All it has written so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map_or_else(
            |e| format!("({}: {e})", self.log.display()),
            |log| String::from_utf8_lossy(&log).into_owned(),
        )
    }

    /// The last 8 KiB it has written.
    pub fn log_tail(&self) -> String {
        let tail = fs::File::open(&self.log).and_then(|mut file| {
            let length = file.metadata()?.len();
            file.seek(SeekFrom::Start(length.saturating_sub(8 << 10)))?;
            let mut tail = Vec::new();
            file.read_to_end(&mut tail)?;
            Ok(tail)
        });
        tail.map_or_else(
            |e| format!("({}: {e})", self.log.display()),
            |tail| String::from_utf8_lossy(&tail).into_owned(),
        )
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let_go(&self.guardian);
    }
}

/// A temporary directory.
pub struct Scratch {
    guardian: Mutex<Child>,
    path: PathBuf,
}

impl Scratch {
    /// Makes one; `name` shows in its path.
    pub fn new(name: &str) -> Self {
        let directory = tempfile::Builder::new()
            .prefix(&format!("causeway-{name}-"))
            .tempdir();
        // The guardian removes it: a destructor would not run in a static or after kill -9.
        let path = directory.expect("a temporary directory").keep();
        let mut guardian = guardian(GUARD_DIRECTORY);
        guardian.arg(&path).stdout(Stdio::null());
        Self {
            guardian: Mutex::new(guardian.spawn().expect("sh starts")),
            path,
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let_go(&self.guardian);
    }
}

fn guardian(script: &str) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", script, "guardian"])
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        // Out of reach of a Ctrl-C in the terminal, which ends us and so the pipe.
        .process_group(0);
    command
}

/// Ends the pipe and waits until the guardian has done its duty.
fn let_go(guardian: &Mutex<Child>) {
    let mut guardian = guardian.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    // `wait` closes the pipe first. An error means that it has been waited for already.
    let _ = guardian.wait();
}
