//! What can go wrong, and the one remedy for each. One table decides; nobody else matches on client codes.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which cluster of a flow something is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Side {
    /// Where records come from: `S` codes.
    Source,
    /// Where they go: `T` codes.
    Target,
}

/// What the daemon does about a [`Code`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// The task starts again from its stored progress, with back-off. Nobody needs to act.
    Retry,
    /// This partition stops, says why, and is tried again with back-off; the others go on.
    PausePartition,
    /// This partition stops until the operator decides (`on_gap`); the others go on.
    HaltPartition,
    /// The task stops here: somebody else owns it now.
    GiveUpTask,
    /// The group stays as it is and is looked at again in the next pass; other groups and records go on.
    NextPass,
}

/// How much a failure says of several that came together, the most telling first: a cause must not be hidden by
/// what follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The task is somebody else's: nothing else matters.
    Fenced,
    /// One partition is to blame.
    Partition,
    /// Something else that has a name.
    Cause,
    /// What a client answers for everything else once something has failed: purged, wrong state, refused along
    /// with another record.
    Consequence,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    /// The code as shown to operators: `T104`.
    pub id: &'static str,
    /// The word used in status and metrics: `target_topic_missing`.
    pub name: &'static str,
    /// What the daemon does.
    pub remedy: Remedy,
    /// What the operator can do, in one sentence.
    pub advice: &'static str,
}

/// The table: what a code is about; its id, its name, what the daemon does, what the operator can do.
macro_rules! codes {
    ($($(#[$about:meta])* $code:ident = $id:literal $name:literal $remedy:ident $advice:literal;)*) => {
        /// Everything that can go wrong while running. `S` codes are about the source cluster, `T` about the
        /// target, `L` about this process or its own state.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum Code {
            $($(#[$about])* $code,)*
        }

        impl Code {
            /// Every code, in the order of the table.
            pub const ALL: &'static [Self] = &[$(Self::$code,)*];

            /// What the table says of it.
            pub fn page(self) -> Page {
                let (id, name, remedy, advice) = match self {
                    $(Self::$code => ($id, $name, Remedy::$remedy, $advice),)*
                };
                Page { id, name, remedy, advice }
            }
        }
    };
}

codes! {
    /// The source does not answer.
    SourceUnreachable = "S101" "source_unreachable" Retry
        "check that the source's bootstrap_servers and its advertised listeners can be reached from here";
    /// The source refused our credentials, or the TLS handshake failed.
    SourceAuthentication = "S102" "source_authentication_failed" Retry
        "check the source's security section: protocol, mechanism, username, password, ca_file";
    /// The source answers, but cannot serve this at present (no leader, a coordinator that moves, …).
    SourceUnavailable = "S103" "source_unavailable" Retry
        "the source is up but cannot serve this now; look for partitions without a leader and brokers that are down";
    /// A source topic does not exist (any more).
    SourceTopicMissing = "S104" "source_topic_missing" PausePartition
        "the source topic was deleted; create it again or remove it from replication.topics";
    /// Another cluster answers at the source's address.
    SourceReplaced = "S110" "source_replaced" Retry
        "another cluster answers at the source's address, where stored positions mean nothing; correct bootstrap_servers, or give the topology another name to copy the new cluster behind what is there";
    /// We may not read this source topic.
    SourceNotAuthorized = "S201" "source_not_authorized" PausePartition
        "grant Read, Describe and DescribeConfigs on the source topic to causeway's principal; with heartbeats.on_source also Create and Write on heartbeats";
    /// We may not read the positions of a source group, or of the topics it reads.
    SourceGroupNotAuthorized = "S202" "source_group_not_authorized" NextPass
        "grant Describe on the group and on the topics it reads to causeway's principal on the source";
    /// The position we would copy next is older than the source's log start.
    SourceOutOfRange = "S301" "source_out_of_range" HaltPartition
        "retention removed records before they were copied; to declare the gap and go on, either set `on_gap: continue` for the topic or give `causeway offsets gaps --accept`";
    /// The source's log ends before our position, or its leader epoch went back.
    SourceTruncated = "S302" "source_truncated" HaltPartition
        "the source lost records that were already copied (unclean leader election); compare both sides, then either set `on_gap: continue` for the topic or give `causeway offsets gaps --accept`";
    /// The source topic was deleted and created again.
    SourceRecreated = "S303" "source_recreated" HaltPartition
        "the source topic was deleted and created again; to copy the new one behind what is there, either set `on_gap: continue` for the topic or give `causeway offsets gaps --accept`; or copy it under another topology name";
    /// A source batch fails its checksum or cannot be decoded.
    SourceCorrupt = "S401" "source_corrupt" PausePartition
        "a source batch fails its checksum; check the source broker's disks and replicas";
    /// The source answered with an error that has no meaning of its own here.
    SourceUnexpected = "S901" "source_unexpected_answer" Retry
        "the source's answer is not one causeway knows; the detail names Kafka's error, the broker's log says more";
    /// The target does not answer.
    TargetUnreachable = "T101" "target_unreachable" Retry
        "check that the target's bootstrap_servers and its advertised listeners can be reached from here";
    /// The target refused our credentials, or the TLS handshake failed.
    TargetAuthentication = "T102" "target_authentication_failed" Retry
        "check the target's security section: protocol, mechanism, username, password, ca_file";
    /// The target answers, but cannot serve this at present (no leader, too few in-sync replicas, …).
    TargetUnavailable = "T103" "target_unavailable" Retry
        "the target is up but cannot serve this now; look for partitions without a leader or below min.insync.replicas";
    /// The target topic or partition does not exist.
    TargetTopicMissing = "T104" "target_topic_missing" PausePartition
        "config sync creates target topics; if it is in mode report, create the topic by hand";
    /// The target answers, but not about records of this partition: too few in-sync replicas, or a leader that hangs.
    TargetNoAnswer = "T105" "target_no_answer" PausePartition
        "the target partition takes no records: bring its replicas back until it has min.insync.replicas of them and a leader, or lower that setting of the topic";
    /// Another cluster answers at the target's address.
    TargetReplaced = "T110" "target_replaced" Retry
        "another cluster answers at the target's address; correct bootstrap_servers, or start causeway again to copy to the new cluster what its own progress there does not have yet";
    /// We may not write this target topic.
    TargetNotAuthorized = "T201" "target_not_authorized" PausePartition
        "grant Write and Describe on the target topic to causeway's principal, and for config sync Create, Alter, DescribeConfigs and AlterConfigs";
    /// Our transactional id, group or internal topics are not authorised on the target.
    TargetStateNotAuthorized = "T202" "target_state_not_authorized" Retry
        "grant causeway's principal its transactional ids, its groups, its *.internal topics and heartbeats on the target, as docs/access-rights.md lists them";
    /// We may not read or write the positions of a target group.
    TargetGroupNotAuthorized = "T203" "target_group_not_authorized" NextPass
        "grant Read on the group and on the topics it will read to causeway's principal on the target, and Delete on the group where it is to be deleted";
    /// The record is larger than the target allows.
    TargetRecordTooLarge = "T301" "target_record_too_large" PausePartition
        "raise max.message.bytes of the target topic, where config sync keeps a larger value, to the size of the record; or choose a stronger compression for the flow";
    /// The target refused the record (timestamp bounds, null key on a compacted topic, …).
    TargetRecordRejected = "T302" "target_record_rejected" PausePartition
        "the target refuses this record: give the topic there the message.timestamp.* and cleanup.policy of the source's";
    /// The target refused a topic's name, partition count, replication factor or setting.
    TargetSettingRefused = "T303" "target_setting_refused" PausePartition
        "the target does not take this topic or setting; add the setting to config_sync.exclude, or create the topic by hand";
    /// The target topic ends before what was copied: it was deleted and created again, or it lost records.
    TargetLostRecords = "T304" "target_lost_records" HaltPartition
        "the target topic was deleted or lost records that had been copied; compare both sides, then, to go on without them, either set `on_gap: continue` for the topic or give `causeway offsets gaps --accept`";
    /// The target has a topic whose name Kafka takes for this one's.
    TargetNameCollides = "T305" "target_name_collides" PausePartition
        "Kafka takes `.` and `_` for the same and refuses the second name; exclude the topic here and copy it by a topology of its own under the other replication_policy, or delete the topic that came first if nobody needs it";
    /// Another owner of this task has taken over.
    TargetFenced = "T401" "target_fenced" GiveUpTask
        "another daemon owns this task now; nothing to do unless two daemons share one instance name";
    /// The transaction was aborted or its outcome is unknown.
    TargetTransactionFailed = "T402" "target_transaction_failed" Retry
        "the transaction was aborted and is repeated; if this goes on, look at the target's transaction coordinator";
    /// The group has members on the target: its positions are theirs.
    TargetGroupActive = "T501" "target_group_active" NextPass
        "the group has members on the target, so its positions are left alone; nothing to do unless they should not be running";
    /// One of the flow's own topics cannot serve it, and cannot be mended from here.
    OwnTopicUnfit = "T601" "own_topic_unfit" Retry
        "one of the flow's own topics would lose progress or has too few partitions; run the command that the detail ends with";
    /// One of the flow's own topics was deleted.
    OwnTopicLost = "T602" "own_topic_lost" Retry
        "the flow no longer knows what it has copied; delete the flow's offset-map topic too and start causeway again: it copies everything again or, with start_from: latest, what comes from then on";
    /// The target answered with an error that has no meaning of its own here.
    TargetUnexpected = "T901" "target_unexpected_answer" Retry
        "the target's answer is not one causeway knows; the detail names Kafka's error, the broker's log says more";
    /// Two aliases name one cluster.
    SameCluster = "L201" "same_cluster" Retry
        "two aliases lead to one cluster, so records would come back to where they are from; correct bootstrap_servers";
    /// MirrorMaker 2 runs on the flow whose positions it is to find where we stop.
    Mm2Running = "L202" "mirror_maker_running" Retry
        "MirrorMaker 2 copies the same flow, so records would arrive twice; stop it (its Connect workers, or its source connector), or correct the topology's mirror_maker section";
    /// The progress we stored cannot be read.
    ProgressUnreadable = "L301" "progress_unreadable" Retry
        "the progress topic holds a record this version cannot read; look at it with kcat";
    /// Stored progress ends in a transaction that is open and not ours: what was committed last cannot be read.
    ProgressHidden = "L302" "progress_hidden" Retry
        "somebody else's transaction is open on the flow's progress topic, and what was committed behind it cannot be read: find out whose it is and end it, or, if it hangs, run the command that the detail ends with (kafka-transactions.sh find-hanging lists such transactions)";
    /// The process that administers groups ended, or did not answer, during a call.
    GroupProcessEnded = "L401" "group_process_ended" NextPass
        "the process that administers groups ended or hung, and is started again for the next call; if this goes on, report what it wrote to the log";
    /// The system refuses another thread.
    NoThread = "L501" "no_thread" Retry
        "the system refuses another thread and is asked again; raise its limit (ulimit -u, TasksMax of systemd, pids of the container), or give this daemon fewer flows or tasks";
    /// The group of the flow gives its tasks to nobody.
    TasksUnassigned = "L502" "tasks_unassigned" Retry
        "the flow's group gives its tasks to nobody, and is joined again; look whether the flow's progress topic is on the target";
    /// A bug in causeway: a part of it panicked, or ended unasked.
    Panicked = "L901" "panicked" Retry
        "this is a bug in causeway; please report the log line";
}

impl Code {
    /// Its weight among failures that came together.
    pub fn rank(self) -> Rank {
        match (self, self.page().remedy) {
            (_, Remedy::GiveUpTask) => Rank::Fenced,
            (_, Remedy::PausePartition | Remedy::HaltPartition) => Rank::Partition,
            (Code::TargetTransactionFailed, _) => Rank::Consequence,
            (_, Remedy::Retry | Remedy::NextPass) => Rank::Cause,
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let page = self.page();
        write!(f, "{} {}", page.id, page.name)
    }
}

/// Something that went wrong while running: a code and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Error {
    /// Decides the remedy.
    pub code: Code,
    /// What was seen, for people. Never holds a secret.
    pub detail: String,
}

impl Error {
    /// An error with its observation.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self {
            code,
            detail: detail.into(),
        }
    }

    /// The error, and what the operator can do: a reason as `status` shows it.
    pub fn with_advice(&self) -> String {
        format!("{self}; {}", self.code.page().advice)
    }

    /// The same about a topic on the target that is causeway's or MM2's own: a right to it that is missing stops what
    /// it is for, and no partition.
    #[must_use]
    pub fn of_own_topic(self) -> Self {
        match self.code {
            Code::TargetNotAuthorized => Self::new(Code::TargetStateNotAuthorized, self.detail),
            _ => self,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.detail)
    }
}

impl std::error::Error for Error {}

/// The result of anything that talks to a cluster.
pub type Result<T> = std::result::Result<T, Error>;

/// What a panic said.
pub fn panic_text(panic: &(dyn std::any::Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "a panic without a text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_code_has_its_own_id_name_and_advice() {
        let ids: BTreeSet<_> = Code::ALL.iter().map(|c| c.page().id).collect();
        let names: BTreeSet<_> = Code::ALL.iter().map(|c| c.page().name).collect();
        assert_eq!(ids.len(), Code::ALL.len());
        assert_eq!(names.len(), Code::ALL.len());
        assert!(Code::ALL.iter().all(|c| 20 < c.page().advice.len()));
    }

    #[test]
    fn codes_stand_in_order_source_target_this_process() {
        let place = |code: &Code| {
            let (side, number) = code.page().id.split_at(1);
            ("STL".find(side), number)
        };
        assert!(Code::ALL.is_sorted_by_key(place));
        assert!(Code::ALL.is_sorted(), "the enum has the order of the table");
    }
}
