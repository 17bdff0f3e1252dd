//! What the daemon says about itself: the one snapshot behind `/status`, `/ready` and `causeway status`.
//! Unknown is `None` and stays visible as unknown; it is never zero.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use strum::{Display, VariantArray};

/// What has not been said again for so long may not be true any more.
pub const STALE: Duration = Duration::from_secs(30);

/// What a flow is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum FlowState {
    /// It is on its way to run: the reason says what it waits for.
    #[default]
    Starting,
    /// All that is selected is being copied.
    Running,
    /// Another daemon has the tasks.
    Standby,
    /// A part of it is not being done.
    Degraded,
    /// It finishes what is in flight.
    Draining,
    /// Everything has ended after a drain.
    Stopped,
    /// A task or a part of it is dead, or cannot be made.
    Failed,
}

/// What a task is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum TaskState {
    /// It is on its way to copy.
    #[default]
    Starting,
    /// It copies.
    Running,
    /// It waits before it starts again.
    BackingOff,
    /// It is dead, or says nothing any more.
    Failed,
    /// It finishes what is in flight.
    Draining,
    /// It has ended.
    Stopped,
}

/// What a partition is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display, VariantArray)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PartitionState {
    /// It is on its way to be copied.
    #[default]
    Starting,
    /// It is being copied.
    Running,
    /// It waits, and is tried again by itself.
    Paused,
    /// It waits until an operator decides.
    Halted,
}

/// What becomes of the positions of a consumer group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum GroupSyncState {
    /// They were written to the target.
    Written,
    /// They were translated and not written: `write_groups: false`.
    Translated,
    /// It has members on the target and is left alone.
    Active,
    /// It was used on the target, and is left alone until `causeway offsets sync`.
    Moved,
    /// They could not be written.
    Failed,
    /// A cluster did not tell what it takes to decide.
    #[default]
    Unknown,
}

/// What a part of a flow that is no task is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, Display)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum PartState {
    /// It is there, at work or waiting for its turn.
    #[default]
    Running,
    /// It waits to be started again, or does not come back from what it does.
    Failed,
}

/// The whole daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DaemonStatus {
    /// Name of this daemon in its groups.
    pub instance: String,
    /// Version of the binary.
    pub version: String,
    /// Seconds since the process started.
    pub uptime_seconds: u64,
    /// Set once a stop was asked for.
    pub draining: bool,
    /// Every flow, in a stable order.
    pub flows: Vec<FlowStatus>,
}

/// One flow in this daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct FlowStatus {
    /// Name of the topology.
    pub topology: String,
    /// `seoul->busan`
    pub flow: String,
    /// `exactly_once` or `at_least_once`.
    pub delivery: String,
    /// One of `starting`, `standby`, `running`, `degraded`, `failed`, `draining`, `stopped`.
    pub state: FlowState,
    /// Why the state is not `running`.
    pub reason: Option<String>,
    /// Tasks of the flow in all daemons.
    pub tasks_total: Option<u32>,
    /// Sum over the partitions owned here; unknown if one of them is unknown.
    pub lag_records: Option<u64>,
    /// Oldest uncopied record over the partitions owned here; unknown if one of them is unknown.
    pub lag_seconds: Option<f64>,
    /// Sum of [`PartitionStatus::uncommitted_records`]; unknown if one of them is unknown.
    #[serde(default)]
    pub uncommitted_records: Option<u64>,
    /// The longest [`PartitionStatus::open_transaction_seconds`]; absent where no records wait for a transaction.
    #[serde(default)]
    pub open_transaction_seconds: Option<f64>,
    /// The last pass of the config syncer seen here.
    pub config_sync: Option<ConfigSyncStatus>,
    /// The positions of consumer groups; absent when another daemon writes them.
    #[serde(default)]
    pub groups: Option<GroupSyncStatus>,
    /// The heartbeats of the flow; absent when another daemon or flow carries them.
    pub heartbeats: Option<HeartbeatStatus>,
    /// What runs beside the tasks.
    #[serde(default)]
    pub parts: Vec<PartStatus>,
    /// The tasks owned by this daemon.
    pub tasks: Vec<TaskStatus>,
}

/// A part of a flow that is no task. It runs until the flow drains; when it ends before, it is started again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartStatus {
    /// `ownership`, `config_sync`, `groups`, `heartbeats` or `watch`.
    pub part: String,
    /// `running`; `failed` while it waits to be started again, or does not come back from what it does.
    pub state: PartState,
    /// Why it has failed, with code and advice; of one that runs, why it failed the last time.
    pub reason: Option<String>,
    /// How long it has been at what it does at this moment; absent while it waits for its next turn.
    pub seconds_busy: Option<f64>,
    /// How often it has failed since the process started.
    pub failures: u64,
}

/// The last pass of the config syncer.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ConfigSyncStatus {
    /// `apply` or `report`.
    pub mode: String,
    /// Seconds since the last pass that read both sides; unknown before the first.
    pub seconds_since_last_pass: Option<f64>,
    /// Changes still wanted after the last pass (report mode, or failed).
    pub pending_changes: u64,
    /// What failed in the last pass, one line each.
    pub errors: Vec<String>,
    /// Differences that are reported but never repaired (more partitions on the target, …).
    pub warnings: Vec<String>,
    /// Source topics that are not copied although a filter could have meant them: topic → reason.
    pub excluded: BTreeMap<String, String>,
}

/// The positions of consumer groups, in the daemon that owns task 0 of the flow.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupSyncStatus {
    /// Age of the last complete look at the groups; unknown before the first.
    pub seconds_since_last_pass: Option<f64>,
    /// By name: the source's groups that have positions in copied topics.
    pub groups: BTreeMap<String, GroupStatus>,
    /// What failed in the last look, with code and advice.
    pub errors: Vec<String>,
}

/// One consumer group of the source.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// What became of its positions.
    pub state: GroupSyncState,
    /// Why it is not written.
    pub reason: Option<String>,
    /// Partitions with positions that were last written; that are translated, where nothing is written.
    pub partitions: u64,
    /// Of these, held at the end of what is copied.
    pub held: u64,
    /// Of these, in a part of the offset map that was thinned.
    pub bounded: u64,
    /// Of these, without a position on the target.
    pub untranslated: u64,
    /// Of these, without the metadata that they have on the source: see `offset_sync.metadata`.
    #[serde(default)]
    pub metadata_withheld: u64,
    /// Time since its positions on the target were last those of the source; unknown before the first.
    pub staleness_seconds: Option<f64>,
}

/// The heartbeats of a flow, in the daemon that owns its task 0.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HeartbeatStatus {
    /// Age of the newest heartbeat of the source that has arrived on the target, by its own timestamp;
    /// unknown while none has.
    pub age_seconds: Option<f64>,
    /// Heartbeats written to the source by this daemon that have not arrived although later ones have.
    pub lost: u64,
    /// Why heartbeats could not be written or watched, with code and advice.
    pub errors: Vec<String>,
}

/// One task in this daemon.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TaskStatus {
    /// Slot number, from 0.
    pub task: u32,
    /// One of `starting`, `running`, `backing_off`, `failed`, `draining`, `stopped`.
    pub state: TaskState,
    /// Why it is not running, with code and advice.
    pub reason: Option<String>,
    /// Age of what is said here; a task that is well says it again twice a second. Absent where no thread runs.
    #[serde(default)]
    pub seconds_since_published: Option<f64>,
    /// What keeps it from taking more at this moment: `throttled`, `buffer_full`, or nothing.
    pub waiting_for: Option<String>,
    /// Bytes taken and not yet acknowledged.
    pub in_flight_bytes: u64,
    /// Its partitions.
    pub partitions: Vec<PartitionStatus>,
}

/// One source partition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct PartitionStatus {
    /// Source topic.
    pub topic: String,
    /// Partition number.
    pub partition: i32,
    /// One of `starting`, `running`, `paused`, `halted`.
    pub state: PartitionState,
    /// Why it is not running, with code and advice.
    pub reason: Option<String>,
    /// Next source offset to copy, as committed on the target.
    pub next_source_offset: Option<i64>,
    /// Where the next record will go, as far as known.
    pub next_target_offset: Option<i64>,
    /// Source end (last stable offset), as last heard. What lies behind it cannot be copied yet.
    pub source_end_offset: Option<i64>,
    /// The source's high watermark, as last heard.
    #[serde(default)]
    pub source_high_watermark: Option<i64>,
    /// Records that a committed reader could take now: those between the position and the end; unknown when the end has
    /// not been heard lately.
    pub lag_records: Option<u64>,
    /// Offsets between the end and the high watermark: of transactions that are open at the source, or behind them.
    #[serde(default)]
    pub uncommitted_records: Option<u64>,
    /// How long the oldest of these transactions has been seen open: the end has not moved for so long although records
    /// lie behind it. Absent where none do.
    #[serde(default)]
    pub open_transaction_seconds: Option<f64>,
    /// Age of the oldest record that is not copied.
    pub lag_seconds: Option<f64>,
    /// What the operator should know although it runs.
    #[serde(default)]
    pub notice: Option<String>,
    /// Records written more than once after crashes, since the flow was created (at_least_once).
    pub replayed_records: u64,
    /// Declared gaps, as text.
    pub gaps: Vec<String>,
}
