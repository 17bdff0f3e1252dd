//! The ledger of one task: the transactional producer that fences its former owners and writes what the flow
//! knows about itself. Exactly once, data goes through it too.

use std::time::Duration;

use rdkafka::error::RDKafkaErrorCode;

use crate::error::{Code, Error, Result, Side};
use crate::kafka::client::ClusterConnection;
use crate::kafka::codes::code;
use crate::kafka::producer::{Producer, TopicNumber, TransactionError};
use crate::topology::{FlowId, FlowSpec};

/// A record of causeway's own, for one of its topics on the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateRecord {
    /// Which topic.
    pub topic: StateTopic,
    /// Its key.
    pub key: Vec<u8>,
    /// Its value.
    pub value: Vec<u8>,
}

/// How long one attempt to fence former owners may take.
pub const FENCE_TIMEOUT: Duration = Duration::from_secs(5);

/// The topics that the ledger of a task writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StateTopic {
    /// `….progress.internal`; the partition is the task's number.
    Progress,
    /// `….offset-map.internal`; the partition is the task's number.
    OffsetMap,
    /// `….failover.internal`, which has one partition.
    Audit,
    /// MM2's positions ([`MirrorMakerSpec::offsets_topic`]), in this partition.
    ///
    /// [`MirrorMakerSpec::offsets_topic`]: crate::topology::MirrorMakerSpec::offsets_topic
    Mm2Positions(i32),
}

impl StateTopic {
    fn index(self) -> usize {
        match self {
            Self::Progress => 0,
            Self::OffsetMap => 1,
            Self::Audit => 2,
            Self::Mm2Positions(_) => 3,
        }
    }
}

/// The transactional id by which the owner of a task fences whoever owned it before.
///
/// A transaction in which a partition takes nothing any more cannot end, not even by an abort: its marker must reach
/// every partition (Kafka's `TransactionMarkerChannelManager` retries for ever), and until then the id cannot be used.
/// The spare lets the task go on without that partition; `copy/session` says when it is safe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fence {
    /// The task's own.
    Own(u32),
    /// While the task's own is held up.
    Spare(u32),
}

impl Fence {
    /// Whose it is.
    pub fn task(self) -> u32 {
        match self {
            Self::Own(task) | Self::Spare(task) => task,
        }
    }

    fn transactional_id(self, flow: &FlowId) -> String {
        match self {
            Self::Own(task) => flow.transactional_id(task),
            Self::Spare(task) => format!("{}.spare", flow.transactional_id(task)),
        }
    }
}

/// Why a former owner is not fenced.
#[derive(Clone, Debug)]
pub enum NotFenced {
    /// The target did not answer in time; the call may be repeated.
    Waiting(Error),
    /// A transaction of this id is ending, says its coordinator, and nobody can use the id before; may be repeated.
    HeldUp(Error),
    /// Repeating changes nothing.
    Refused(Error),
}

/// Repeats an attempt to fence for as long as the answer is to wait and `goes_on`, which hears of each, says so.
///
/// # Errors
/// What the last attempt met.
pub fn fence_patiently(
    mut fence: impl FnMut(Duration) -> std::result::Result<(), NotFenced>,
    goes_on: impl Fn(&Error) -> bool,
) -> std::result::Result<(), NotFenced> {
    loop {
        match fence(FENCE_TIMEOUT) {
            Err(NotFenced::Waiting(error) | NotFenced::HeldUp(error)) if goes_on(&error) => {}
            end => return end,
        }
    }
}

/// See the [module](self).
pub struct Ledger {
    producer: Producer,
    task: i32,
    /// By [`StateTopic`]: the name, and its number at the producer once it was used.
    topics: [(String, Option<TopicNumber>); 4],
}

impl Ledger {
    /// Creates the client, whose batches stay within `batch_bytes`. Nothing is fenced yet.
    ///
    /// # Errors
    /// When librdkafka refuses a setting.
    pub fn new(
        spec: &FlowSpec,
        fence: Fence,
        target: &ClusterConnection,
        batch_bytes: Option<u64>,
    ) -> Result<Self> {
        let id = &spec.id;
        let (task, transactional_id) = (fence.task(), fence.transactional_id(id));
        let mut ledger = Self {
            producer: producer(spec, task, target, batch_bytes, Some(&transactional_id))?,
            task: task as i32,
            topics: [
                id.progress_topic(),
                id.offset_map_topic(),
                id.failover_topic(),
                spec.mirror_maker.offsets_topic.clone(),
            ]
            .map(|name| (name, None)),
        };
        // The client learns of these while it looks for its coordinator.
        for topic in [StateTopic::Progress, StateTopic::OffsetMap] {
            ledger.number(topic)?;
        }
        Ok(ledger)
    }

    fn number(&mut self, topic: StateTopic) -> Result<TopicNumber> {
        let (name, number) = &mut self.topics[topic.index()];
        match number {
            Some(number) => Ok(*number),
            None => {
                let new = self.producer.topic(name);
                let new = new.map_err(|text| Error::new(Code::TargetTopicMissing, text))?;
                Ok(*number.insert(new))
            }
        }
    }

    /// The producer behind it.
    pub fn producer(&mut self) -> &mut Producer {
        &mut self.producer
    }

    /// Fences every former owner of this task.
    ///
    /// # Errors
    /// Says whether the call may be repeated.
    pub fn fence(&mut self, timeout: Duration) -> std::result::Result<(), NotFenced> {
        // A client that knows a broker finds its coordinator at once.
        self.producer.learn_leaders(timeout);
        let fenced = self.producer.init_transactions(timeout);
        fenced.map_err(|e| match (e.code, e.retriable) {
            (_, false) => NotFenced::Refused(self.error(&e)),
            (RDKafkaErrorCode::ConcurrentTransactions, true) => NotFenced::HeldUp(self.error(&e)),
            (_, true) => NotFenced::Waiting(self.error(&e)),
        })
    }

    /// Opens a transaction, which the next [`Ledger::commit`] ends.
    pub fn begin(&mut self) -> Result<()> {
        let begun = self.producer.begin_transaction();
        begun.map_err(|e| self.error(&e))
    }

    /// Stores `records` in a transaction: the one that is open, or one of its own.
    /// On an error the outcome may be unknown: drop the ledger and read the stored progress again.
    pub fn commit(&mut self, records: &[StateRecord], open: bool, timeout: Duration) -> Result<()> {
        if !open {
            self.begin()?;
        }
        for record in records {
            let topic = self.number(record.topic)?;
            let partition = match record.topic {
                StateTopic::Progress | StateTopic::OffsetMap => self.task,
                StateTopic::Audit => 0,
                StateTopic::Mm2Positions(partition) => partition,
            };
            self.producer
                .send_state(topic, partition, &record.key, Some(&record.value))
                .map_err(|err| Error::new(code(Side::Target, err), format!("state record: {err}")))?;
        }
        let committed = self.producer.commit_transaction(timeout);
        let committed = committed.map_err(|e| match e.code {
            // Which of the topics in it may not be written is not told; it need not be one of ours.
            RDKafkaErrorCode::TopicAuthorizationFailed if open => {
                Error::new(Code::TargetTransactionFailed, format!("transaction: {}", e.text))
            }
            _ => self.error(&e),
        });
        match self.producer.take_state_error() {
            // Whoever was fenced loses what it had sent, too.
            Some(_) if committed.as_ref().is_err_and(|e| e.code == Code::TargetFenced) => committed,
            Some(err) => Err(Error::new(
                state_code(code(Side::Target, err)),
                format!("state record: {err}"),
            )),
            None => committed,
        }
    }

    /// What the failure of a transaction means. Of a client that is out of order for good, the reason for that counts.
    fn error(&self, e: &TransactionError) -> Error {
        let cause = match e.code {
            RDKafkaErrorCode::Fatal | RDKafkaErrorCode::State => self.producer.fatal_error(),
            _ => None,
        };
        Error::new(
            state_code(code(Side::Target, cause.unwrap_or(e.code))),
            format!("transaction: {}", e.text),
        )
    }

    /// Gives the open transaction up, so that readers of the target need not wait for it.
    pub fn abort(&mut self, timeout: Duration) -> Result<()> {
        let aborted = self.producer.abort_transaction(timeout);
        aborted.map_err(|e| self.error(&e))
    }
}

/// A producer of task `task`; see [`ClusterConnection::task_producer`].
///
/// # Errors
/// When librdkafka refuses a setting.
pub fn producer(
    spec: &FlowSpec,
    task: u32,
    target: &ClusterConnection,
    batch_bytes: Option<u64>,
    transactional_id: Option<&str>,
) -> Result<Producer> {
    let client_id = spec.id.transactional_id(task);
    let mut config = target.task_producer(&client_id, spec.compression.as_str(), transactional_id);
    if let Some(bytes) = batch_bytes {
        ClusterConnection::limit_batches(&mut config, bytes);
    }
    let label = format!("{} {}/{task}", spec.id.topology, spec.id);
    Producer::new(&config, &label).map_err(|text| Error::new(Code::TargetAuthentication, text))
}

/// Codes about a topic mean our own topics here, which is no partition's fault.
fn state_code(code: Code) -> Code {
    match code {
        Code::TargetNotAuthorized => Code::TargetStateNotAuthorized,
        Code::TargetTopicMissing | Code::TargetRecordTooLarge | Code::TargetRecordRejected => {
            Code::TargetTransactionFailed
        }
        other => other,
    }
}
