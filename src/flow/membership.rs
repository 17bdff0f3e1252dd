//! Who owns which task: this daemon's membership of the consumer group whose partitions are the tasks.
//!
//! The group's topic is the flow's progress topic; owning partition *i* is owning task *i*. Rebalance
//! callbacks only leave a note. The partition is handed back by `incremental_unassign` after its task has
//! drained: the group waits for that call.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::client::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::topic_partition_list::TopicPartitionList;
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientConfig, Offset as RdOffset};
use tracing::{debug, error, info, warn};

use crate::error::{Code, Error, Result as Outcome};
use crate::kafka::client::LogContext;

/// What the group decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// These tasks are ours, besides those we own already. Sent once per join, even when empty.
    Gained(BTreeSet<u32>),
    /// These tasks go to somebody else once they are released.
    Revoked(BTreeSet<u32>),
}

/// Membership of one flow's group. Leaves (without telling the group: membership is static) when dropped.
#[derive(Debug)]
pub struct Membership {
    thread: Option<JoinHandle<()>>,
    closing: Arc<AtomicBool>,
    released: mpsc::Sender<BTreeSet<u32>>,
}

impl Membership {
    /// Joins the group of `config` with the tasks of `topic`; reports to `notify` from a thread of its own.
    ///
    /// # Errors
    /// When librdkafka refuses the settings, or the system another thread.
    pub fn join(
        config: &ClientConfig,
        topic: &str,
        label: &str,
        notify: impl Fn(Change) + Send + 'static,
    ) -> Outcome<Self> {
        let closing = Arc::new(AtomicBool::new(false));
        let (released, releases) = mpsc::channel();
        let member = Member {
            consumer: subscribe(config, topic, label, &closing)
                .map_err(|e| Error::new(Code::TargetAuthentication, e.to_string()))?,
            config: config.clone(),
            label: label.to_owned(),
            owned: BTreeSet::new(),
            topic: topic.to_owned(),
            closing: closing.clone(),
            releases,
        };
        let thread = std::thread::Builder::new()
            .name("membership".into())
            .spawn(move || member.run(notify))
            .map_err(|error| Error::new(Code::NoThread, format!("membership: {error}")))?;
        Ok(Self {
            thread: Some(thread),
            closing,
            released,
        })
    }

    /// Hands drained tasks back to the group.
    pub fn release(&self, tasks: BTreeSet<u32>) {
        // The thread is gone only while everything ends.
        let _ = self.released.send(tasks);
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.closing.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            error!("the membership thread panicked");
        }
    }
}

/// A consumer that subscribes to the flow's tasks.
fn subscribe(
    config: &ClientConfig,
    topic: &str,
    label: &str,
    closing: &Arc<AtomicBool>,
) -> Result<BaseConsumer<Notes>, KafkaError> {
    let notes = Notes {
        log: LogContext {
            label: label.to_owned(),
        },
        closing: closing.clone(),
        replaced: AtomicBool::new(false),
        queue: Mutex::default(),
    };
    let consumer: BaseConsumer<Notes> = config.create_with_context(notes)?;
    consumer.subscribe(&[topic])?;
    Ok(consumer)
}

/// Pause before joining again, so that two daemons under one instance name do not fence each other in a loop.
const REJOIN: Duration = Duration::from_secs(1);

struct Member {
    consumer: BaseConsumer<Notes>,
    config: ClientConfig,
    label: String,
    /// Given by the group and not released since.
    owned: BTreeSet<u32>,
    topic: String,
    closing: Arc<AtomicBool>,
    releases: mpsc::Receiver<BTreeSet<u32>>,
}

impl Member {
    fn run(mut self, notify: impl Fn(Change)) {
        while !self.closing.load(Ordering::SeqCst) {
            // Partitions are paused, so nothing but events and errors comes.
            if let Some(Err(e)) = self.consumer.poll(Duration::from_millis(50)) {
                debug!(error = %e, "group membership");
            }
            for note in self.consumer.context().take() {
                match note {
                    Note::Assign(tasks) => {
                        let list = self.list(&tasks);
                        let assigned = self.consumer.incremental_assign(&list);
                        if let Err(e) = assigned.and_then(|()| self.consumer.pause(&list)) {
                            warn!(error = %e, "the group's assignment could not be taken over");
                        }
                        info!(?tasks, "tasks owned");
                        self.owned.extend(&tasks);
                        notify(Change::Gained(tasks));
                    }
                    Note::Revoke(tasks) => {
                        info!(?tasks, "tasks revoked");
                        notify(Change::Revoked(tasks));
                    }
                }
            }
            while let Ok(tasks) = self.releases.try_recv() {
                if let Err(e) = self.consumer.incremental_unassign(&self.list(&tasks)) {
                    warn!(error = %e, ?tasks, "tasks could not be handed back");
                }
                self.owned.retain(|task| !tasks.contains(task));
            }
            if let Some((_, why)) = self.consumer.client().fatal_error() {
                warn!(why, "the group has shut this member out; it joins again");
                self.rejoin(&notify);
            }
        }
    }

    /// A member that was shut out (fenced by a request of its own that a stalled broker answered late, for
    /// one) stays so for good: what it owned is given up, then a new one takes its place.
    fn rejoin(&mut self, notify: &impl Fn(Change)) {
        if !self.owned.is_empty() {
            notify(Change::Revoked(self.owned.clone()));
        }
        let mut next = None;
        while next.is_none() && !self.closing.load(Ordering::SeqCst) {
            if let Ok(tasks) = self.releases.recv_timeout(REJOIN) {
                self.owned.retain(|task| !tasks.contains(task));
                continue;
            }
            if self.owned.is_empty() {
                match subscribe(&self.config, &self.topic, &self.label, &self.closing) {
                    Ok(consumer) => next = Some(consumer),
                    Err(e) => warn!(error = %e, "the group cannot be joined"),
                }
            }
        }
        if let Some(next) = next {
            self.consumer.context().replaced.store(true, Ordering::SeqCst);
            self.consumer = next;
        }
    }

    fn list(&self, tasks: &BTreeSet<u32>) -> TopicPartitionList {
        let mut list = TopicPartitionList::with_capacity(tasks.len());
        for task in tasks {
            // Nothing is read through this consumer: an explicit position keeps it from asking for one.
            list.add_partition_offset(&self.topic, *task as i32, RdOffset::End)
                .expect("the end is an offset that lists accept");
        }
        list
    }
}

#[derive(Debug)]
enum Note {
    Assign(BTreeSet<u32>),
    Revoke(BTreeSet<u32>),
}

/// The consumer's context: writes down what the group says.
struct Notes {
    log: LogContext,
    closing: Arc<AtomicBool>,
    /// Another consumer takes this one's place.
    replaced: AtomicBool,
    queue: Mutex<Vec<Note>>,
}

impl Notes {
    fn take(&self) -> Vec<Note> {
        std::mem::take(&mut *self.queue.lock())
    }
}

impl ClientContext for Notes {
    fn log(&self, level: RDKafkaLogLevel, fac: &str, text: &str) {
        self.log.log(level, fac, text);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.log.error(error, reason);
    }
}

impl ConsumerContext for Notes {
    fn rebalance(
        &self,
        consumer: &BaseConsumer<Self>,
        err: RDKafkaRespErr,
        partitions: &mut TopicPartitionList,
    ) {
        if self.closing.load(Ordering::SeqCst) || self.replaced.load(Ordering::SeqCst) {
            // Nobody comes back to do it: the consumer is being dropped.
            let _ = consumer.incremental_unassign(partitions);
            return;
        }
        let tasks: BTreeSet<u32> = partitions
            .elements()
            .iter()
            .map(|it| it.partition() as u32)
            .collect();
        let note = match err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS => Note::Assign(tasks),
            _ => Note::Revoke(tasks),
        };
        self.queue.lock().push(note);
    }
}
