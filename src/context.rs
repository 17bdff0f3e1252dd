//! What the parts of a flow share: its clients, its limits, and the view of what can be copied.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::error::{Code, Error, Result, Side};
use crate::kafka::admin::Admin;
use crate::kafka::client::{ClusterConnection, TaskMemory};
use crate::kafka::groups::GroupProcess;
use crate::kafka::{ClusterAlias, TopicId, TopicPartition};
use crate::metrics::FlowMetrics;
use crate::topology::FlowSpec;

use throttle::FlowThrottle;

pub mod throttle;

/// How long a question to a cluster may take.
pub const ADMIN_TIMEOUT: Duration = Duration::from_secs(10);

/// What the tasks of a flow share.
#[derive(Debug)]
pub struct FlowContext {
    /// What the flow is.
    pub spec: FlowSpec,
    /// Where records come from.
    pub source: ClusterConnection,
    /// Where they go.
    pub target: ClusterConnection,
    /// Asks the source.
    pub source_admin: Arc<Admin>,
    /// Asks and changes the target.
    pub target_admin: Arc<Admin>,
    /// What each task may hold.
    pub memory: TaskMemory,
    /// Limits of the flow.
    pub throttle: FlowThrottle,
    /// Metrics of the flow.
    pub metrics: FlowMetrics,
    /// Which alias leads to which cluster, over all flows of this daemon.
    pub clusters: Arc<ClusterIds>,
    /// Where calls about group positions are made, for all flows of this daemon.
    pub group_process: Arc<GroupProcess>,
    /// The partitions that can be copied; replaced as a whole by the sync loop.
    pub view: ArcSwapOption<View>,
    /// Wakes the sync loop: a task has met a topic that is not there.
    pub look: Notify,
}

/// Which alias leads to which cluster. The proof that nothing loops rests on aliases being different clusters.
#[derive(Debug, Default)]
pub struct ClusterIds(Mutex<BTreeMap<String, ClusterAlias>>);

impl ClusterIds {
    /// Notes what an alias leads to.
    ///
    /// # Errors
    /// Another alias leads there too.
    pub fn note(&self, id: &str, alias: &ClusterAlias) -> Result<()> {
        let mut known = self.0.lock();
        let first = known.entry(id.to_owned()).or_insert_with(|| alias.clone());
        if first == alias {
            return Ok(());
        }
        Err(Error::new(
            Code::SameCluster,
            format!("{first} and {alias} are both the cluster with id {id}"),
        ))
    }
}

/// What can be copied at the moment: selected, and present on both sides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// By source partition.
    pub partitions: BTreeMap<TopicPartition, Route>,
    /// Every selected source partition, whether or not the target has it yet.
    pub selected: BTreeMap<TopicPartition, TopicId>,
    /// Selected partitions that the target does not get, and why.
    pub held: BTreeMap<TopicPartition, Error>,
    /// Topics that the source does not let us see at present, and why. One that was deleted is not among them.
    pub hidden: BTreeMap<String, Error>,
    /// Tasks of the flow: the partition count of its progress topic.
    pub tasks: u32,
    /// Kafka's id of the source cluster.
    pub source_cluster_id: String,
    /// Kafka's id of the target cluster.
    pub target_cluster_id: String,
}

impl View {
    /// Whether a partition that was copied is none of ours any more: its topic was deleted, or is left out now. Nothing
    /// hides it from us.
    pub fn is_gone(&self, tp: &TopicPartition) -> bool {
        !self.selected.contains_key(tp) && !self.hidden.contains_key(&*tp.topic)
    }
}

/// Where a source partition goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Topic on the target.
    pub remote: String,
    /// Kafka's id of the source topic.
    pub topic_id: TopicId,
    /// Kafka's id of the target topic.
    pub target_topic_id: TopicId,
    /// What the target topic takes.
    pub accepts: Accepts,
}

/// The settings of a target topic that decide which records it takes. Empty where they are not told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accepts {
    /// `key=value`, one a line: a partition that waits because of a refusal is tried again when this changes.
    pub settings: Arc<str>,
    /// `max.message.bytes`, which bounds whole batches; `None`: not known.
    pub batch_bytes: Option<u64>,
    /// `min.insync.replicas`; `None`: not known.
    pub min_in_sync: Option<usize>,
}

impl FlowContext {
    /// Makes what the parts of a flow share. Contacts nobody yet.
    ///
    /// # Errors
    /// When librdkafka refuses the settings of a cluster.
    pub fn connect(
        spec: &FlowSpec,
        source: &ClusterConnection,
        target: &ClusterConnection,
        memory: TaskMemory,
        clusters: &Arc<ClusterIds>,
        group_process: &Arc<GroupProcess>,
    ) -> Result<Self> {
        let client_id = spec.id.group();
        Ok(Self {
            source_admin: Arc::new(Admin::new(source, &client_id, Side::Source)?),
            target_admin: Arc::new(Admin::new(target, &client_id, Side::Target)?),
            throttle: FlowThrottle::new(spec.throttle),
            metrics: FlowMetrics::new(&spec.id),
            clusters: clusters.clone(),
            group_process: group_process.clone(),
            view: ArcSwapOption::empty(),
            look: Notify::new(),
            spec: spec.clone(),
            source: source.clone(),
            target: target.clone(),
            memory,
        })
    }
}

/// Milliseconds since 1970.
pub fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
