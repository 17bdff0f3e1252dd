//! librdkafka's error codes → our table. The only place that matches on them.

use rdkafka::types::RDKafkaErrorCode as K;

use crate::error::{Code, Side};

/// What a client's error means for the side it came from.
///
/// `Fatal` says nothing by itself: the engine asks the producer for the error behind it and passes that one.
/// Unknown codes become [`Code::SourceUnexpected`] or [`Code::TargetUnexpected`], which are retried.
pub fn code(side: Side, error: K) -> Code {
    let (source, target) = match error {
        K::BrokerTransportFailure
        | K::AllBrokersDown
        | K::Resolve
        | K::OperationTimedOut
        | K::TimedOutQueue
        | K::MessageTimedOut
        | K::RequestTimedOut
        | K::NetworkException
        | K::UnknownBroker => (Code::SourceUnreachable, Code::TargetUnreachable),
        K::Authentication
        | K::SSL
        | K::SaslAuthenticationFailed
        | K::UnsupportedSASLMechanism
        | K::IllegalSASLState => (Code::SourceAuthentication, Code::TargetAuthentication),
        // `Partial` is an answer about the cluster that names neither a broker nor a topic; `DestroyBroker` that the
        // broker that was asked has left the cluster.
        K::LeaderNotAvailable
        | K::NotLeaderForPartition
        | K::BrokerNotAvailable
        | K::Partial
        | K::DestroyBroker
        | K::ReplicaNotAvailable
        | K::NotController
        | K::StaleControllerEpoch
        | K::StaleBrokerEpoch
        | K::CoordinatorLoadInProgress
        | K::CoordinatorNotAvailable
        | K::NotCoordinator
        | K::WaitingForCoordinator
        | K::NotEnoughReplicas
        | K::NotEnoughReplicasAfterAppend
        | K::KafkaStorageError
        | K::FencedLeaderEpoch
        | K::UnknownLeaderEpoch
        | K::OffsetNotAvailable
        | K::ThrottlingQuotaExceeded => (Code::SourceUnavailable, Code::TargetUnavailable),
        K::UnknownTopicOrPartition | K::UnknownPartition | K::UnknownTopic | K::UnknownTopicId => {
            (Code::SourceTopicMissing, Code::TargetTopicMissing)
        }
        K::TopicAuthorizationFailed => (Code::SourceNotAuthorized, Code::TargetNotAuthorized),
        K::GroupAuthorizationFailed
        | K::TransactionalIdAuthorizationFailed
        | K::ClusterAuthorizationFailed => (Code::SourceNotAuthorized, Code::TargetStateNotAuthorized),
        error => (source_code(error), target_code(error)),
    };
    match side {
        Side::Source => source,
        Side::Target => target,
    }
}

/// What only a source can mean by it.
fn source_code(error: K) -> Code {
    match error {
        K::OffsetOutOfRange | K::AutoOffsetReset => Code::SourceOutOfRange,
        K::LogTruncation => Code::SourceTruncated,
        // `InvalidMessage` is the broker's CORRUPT_MESSAGE, the others are the client's own checks.
        // A batch whose format the client does not know cannot be read either.
        K::BadMessage | K::BadCompression | K::InvalidMessage | K::NotImplemented => Code::SourceCorrupt,
        _ => Code::SourceUnexpected,
    }
}

/// What only a target can mean by it.
fn target_code(error: K) -> Code {
    match error {
        K::MessageSizeTooLarge | K::MessageBatchTooLarge | K::InvalidMessageSize => {
            Code::TargetRecordTooLarge
        }
        K::InvalidRecord | K::InvalidTimestamp => Code::TargetRecordRejected,
        K::InvalidConfig
        | K::InvalidTopic
        | K::InvalidPartitions
        | K::InvalidReplicationFactor
        | K::InvalidReplicaAssignment
        | K::InvalidRequest
        | K::InvalidArgument
        | K::PolicyViolation => Code::TargetSettingRefused,
        K::ProducerFenced | K::InvalidProducerEpoch | K::Fenced | K::FencedInstanceId => Code::TargetFenced,
        // `InvalidDifferentRecord` is what the records around a refused one get.
        K::InvalidTransactionalState
        | K::InvalidProducerIdMapping
        | K::InvalidTransactionTimeout
        | K::ConcurrentTransactions
        | K::TransactionCoordinatorFenced
        | K::OutOfOrderSequenceNumber
        | K::DuplicateSequenceNumber
        | K::UnknownProducerId
        | K::PurgeQueue
        | K::PurgeInflight
        | K::InvalidDifferentRecord
        | K::Inconsistent
        | K::State => Code::TargetTransactionFailed,
        _ => Code::TargetUnexpected,
    }
}

/// What an error means that came while a group of the user's was read, written or deleted, where that differs
/// from [`code`]. The broker answers "unknown member" to a commit from outside a group that has members.
pub fn group_code(side: Side, error: K) -> Code {
    use Side::*;
    match (error, side) {
        (K::GroupAuthorizationFailed | K::TopicAuthorizationFailed, Source) => Code::SourceGroupNotAuthorized,
        (K::GroupAuthorizationFailed | K::TopicAuthorizationFailed, Target) => Code::TargetGroupNotAuthorized,
        (
            K::UnknownMemberId
            | K::IllegalGeneration
            | K::RebalanceInProgress
            | K::NonEmptyGroup
            | K::StaleMemberEpoch
            | K::FencedMemberEpoch,
            Target,
        ) => Code::TargetGroupActive,
        (error, side) => code(side, error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_that_does_not_answer_and_one_that_refuses_us_are_told_apart_on_both_sides() {
        assert_eq!(
            code(Side::Source, K::BrokerTransportFailure),
            Code::SourceUnreachable
        );
        assert_eq!(code(Side::Target, K::OperationTimedOut), Code::TargetUnreachable);
        assert_eq!(code(Side::Source, K::SSL), Code::SourceAuthentication);
        assert_eq!(code(Side::Target, K::Authentication), Code::TargetAuthentication);
        assert_eq!(
            code(Side::Source, K::TopicAuthorizationFailed),
            Code::SourceNotAuthorized
        );
        assert_eq!(
            code(Side::Target, K::GroupAuthorizationFailed),
            Code::TargetStateNotAuthorized
        );
    }

    #[test]
    fn a_lost_source_position_is_never_taken_for_a_passing_trouble() {
        assert_eq!(code(Side::Source, K::OffsetOutOfRange), Code::SourceOutOfRange);
        assert_eq!(code(Side::Source, K::AutoOffsetReset), Code::SourceOutOfRange);
        assert_eq!(code(Side::Source, K::LogTruncation), Code::SourceTruncated);
        assert_eq!(code(Side::Source, K::BadMessage), Code::SourceCorrupt);
    }

    #[test]
    fn a_superseded_producer_gives_up_instead_of_retrying() {
        for error in [K::ProducerFenced, K::InvalidProducerEpoch, K::Fenced] {
            assert_eq!(code(Side::Target, error), Code::TargetFenced);
        }
    }

    #[test]
    fn a_group_that_has_members_or_is_not_ours_to_see_is_told_apart_from_a_cluster_in_trouble() {
        assert_eq!(
            group_code(Side::Target, K::UnknownMemberId),
            Code::TargetGroupActive
        );
        assert_eq!(
            group_code(Side::Target, K::NonEmptyGroup),
            Code::TargetGroupActive
        );
        assert_eq!(
            group_code(Side::Source, K::GroupAuthorizationFailed),
            Code::SourceGroupNotAuthorized
        );
        assert_eq!(
            group_code(Side::Target, K::TopicAuthorizationFailed),
            Code::TargetGroupNotAuthorized
        );
        assert_eq!(
            group_code(Side::Source, K::OperationTimedOut),
            Code::SourceUnreachable
        );
    }

    #[test]
    fn what_follows_from_a_failure_ranks_behind_every_cause() {
        for consequence in [
            K::State,
            K::PurgeQueue,
            K::PurgeInflight,
            K::InvalidDifferentRecord,
        ] {
            for cause in [
                K::MessageSizeTooLarge,
                K::InvalidTimestamp,
                K::MessageTimedOut,
                K::ProducerFenced,
            ] {
                assert!(
                    code(Side::Target, cause).rank() < code(Side::Target, consequence).rank(),
                    "{cause} before {consequence}"
                );
            }
        }
    }

    #[test]
    fn an_unknown_code_stays_on_its_side() {
        assert_eq!(code(Side::Source, K::Unknown), Code::SourceUnexpected);
        assert_eq!(code(Side::Target, K::Unknown), Code::TargetUnexpected);
        assert_eq!(code(Side::Source, K::ProducerFenced), Code::SourceUnexpected);
    }
}
