//! Consumer groups: their members, and which there are.

use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use rdkafka_sys as sys;
use sys::rd_kafka_admin_op_t as Op;
use sys::rd_kafka_resp_err_t as Err_t;

use super::{Admin, SLICE};
use crate::error::{Code, Error, Result};
use crate::kafka::objects::{c_string, describe, items, milliseconds, text};

/// A consumer group as a broker lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupListing {
    /// Its `group.id`.
    pub group: String,
    /// What it is doing.
    pub state: GroupState,
    /// Its protocol.
    pub kind: GroupKind,
    /// Whether it has never had members: its positions come from consumers that assign themselves, or from
    /// administration.
    pub simple: bool,
}

/// What a consumer group is doing. `Unknown` also stands for what librdkafka has no word for, such as
/// KIP-848's assigning and reconciling, and for brokers before Kafka 2.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has positions and no members.
    Empty,
    /// It has members, and each knows its partitions.
    Stable,
    /// Members join.
    PreparingRebalance,
    /// Members learn their partitions.
    CompletingRebalance,
    /// It is being removed.
    Dead,
    /// None of the above.
    Unknown,
}

/// The protocol of a consumer group. `Unknown` for brokers before Kafka 3.8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupKind {
    /// Members assign partitions among themselves.
    Classic,
    /// The broker assigns partitions (KIP-848).
    Consumer,
    /// None of the above.
    Unknown,
}

impl Admin {
    /// Client ids of the members of a consumer group. A group that does not exist has none.
    ///
    /// A coordinator that is just starting or moving is asked again until the timeout: librdkafka does not.
    pub fn group_members(&self, group: &str, timeout: Duration) -> Result<Vec<String>> {
        let holdings = self.group_holdings(group, "", timeout)?;
        Ok(holdings.into_iter().map(|(member, _)| member).collect())
    }

    /// As [`Admin::group_members`], each with the number of partitions of `topic` that it holds: none while the group
    /// hands them out.
    ///
    /// # Errors
    /// The coordinator cannot be asked.
    pub fn group_holdings(
        &self,
        group: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, usize)>> {
        let deadline = Instant::now() + timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.group_holdings_now(group, topic, left) {
                Err(error)
                    if matches!(error.code, Code::SourceUnavailable | Code::TargetUnavailable)
                        && Instant::now() + SLICE < deadline =>
                {
                    thread::sleep(SLICE);
                }
                outcome => return outcome,
            }
        }
    }

    fn group_holdings_now(
        &self,
        group: &str,
        topic: &str,
        timeout: Duration,
    ) -> Result<Vec<(String, usize)>> {
        // Not `DescribeConsumerGroups`: the admin calls that look for a coordinator abort the process when
        // their connection drops at the wrong moment (librdkafka 2.12, issue 4605).
        let name = c_string(group);
        let what = format!("describe group {group}");
        let mut list: *const sys::rd_kafka_group_list = ptr::null();
        // SAFETY: client, name and result pointer are valid for the call. The list, if there is one, is ours;
        // everything is copied out before it is destroyed.
        unsafe {
            let ms = milliseconds(timeout);
            let error = sys::rd_kafka_list_groups(self.client.ptr(), name.as_ptr(), &mut list, ms);
            let mut members = match error {
                Err_t::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(Vec::new()),
                error => Err(self.failure(&what, error, &describe(error))),
            };
            if list.is_null() {
                return members;
            }
            for number in 0..(*list).group_cnt as usize {
                let found = &*(*list).groups.add(number);
                if found.err != Err_t::RD_KAFKA_RESP_ERR_NO_ERROR {
                    members = Err(self.failure(&what, found.err, &describe(found.err)));
                } else if let Ok(members) = &mut members {
                    let of = |number| {
                        let member = &*found.members.add(number);
                        let assignment = member.member_assignment.cast::<u8>();
                        let assignment = match usize::try_from(member.member_assignment_size) {
                            Ok(length) if !assignment.is_null() => {
                                std::slice::from_raw_parts(assignment, length)
                            }
                            _ => &[],
                        };
                        (text(member.client_id), assigned(assignment, topic).unwrap_or(0))
                    };
                    members.extend((0..found.member_cnt as usize).map(of));
                }
            }
            sys::rd_kafka_group_list_destroy(list);
            members
        }
    }

    /// Every group of the consumer protocol and every group without a protocol, and with them what single
    /// brokers could not tell: a group they coordinate is missing then, which does not mean that it is gone.
    ///
    /// # Errors
    /// No broker could be asked.
    pub fn list_groups(&self, timeout: Duration) -> Result<(Vec<GroupListing>, Vec<Error>)> {
        let op = Op::RD_KAFKA_ADMIN_OP_LISTCONSUMERGROUPS;
        let event = self.call("list groups", op, timeout, |rk, options, queue| {
            // SAFETY: all pointers are valid for the call. Without a filter the brokers name all states and
            // types.
            unsafe { sys::rd_kafka_ListConsumerGroups(rk, options, queue) }
        })?;
        // SAFETY: the event holds a ListConsumerGroups result; everything is copied out before it ends.
        unsafe {
            let result = sys::rd_kafka_event_ListConsumerGroups_result(event.ptr());
            let groups = items(result, sys::rd_kafka_ListConsumerGroups_result_valid)
                .iter()
                .map(|&group| group_listing(group))
                .collect();
            let errors = items(result, sys::rd_kafka_ListConsumerGroups_result_errors)
                .iter()
                .map(|&error| self.error_of("list groups", error))
                .collect();
            Ok((groups, errors))
        }
    }
}

/// How many partitions of `topic` there are in a member's assignment (Kafka's `ConsumerProtocolAssignment`: a version,
/// then topics, each with its partitions).
fn assigned(mut bytes: &[u8], topic: &str) -> Option<usize> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
        let (number, rest) = bytes.split_first_chunk::<N>()?;
        *bytes = rest;
        Some(*number)
    }
    take::<2>(&mut bytes)?;
    let topics = i32::from_be_bytes(take(&mut bytes)?);
    let mut partitions = 0;
    for _ in 0..topics {
        let length = u16::from_be_bytes(take(&mut bytes)?);
        let (name, rest) = bytes.split_at_checked(length.into())?;
        bytes = rest;
        let count = usize::try_from(i32::from_be_bytes(take(&mut bytes)?)).ok()?;
        bytes = bytes.get(count.checked_mul(4)?..)?;
        if name == topic.as_bytes() {
            partitions += count;
        }
    }
    Some(partitions)
}

/// # Safety
/// `group` must be valid.
unsafe fn group_listing(group: *const sys::rd_kafka_ConsumerGroupListing_t) -> GroupListing {
    use sys::rd_kafka_consumer_group_state_t::*;
    use sys::rd_kafka_consumer_group_type_t::*;
    // SAFETY: demanded of the caller. States and types are librdkafka's own numbers: it translates from the
    // broker's words.
    unsafe {
        GroupListing {
            group: text(sys::rd_kafka_ConsumerGroupListing_group_id(group)),
            state: match sys::rd_kafka_ConsumerGroupListing_state(group) {
                RD_KAFKA_CONSUMER_GROUP_STATE_EMPTY => GroupState::Empty,
                RD_KAFKA_CONSUMER_GROUP_STATE_STABLE => GroupState::Stable,
                RD_KAFKA_CONSUMER_GROUP_STATE_PREPARING_REBALANCE => GroupState::PreparingRebalance,
                RD_KAFKA_CONSUMER_GROUP_STATE_COMPLETING_REBALANCE => GroupState::CompletingRebalance,
                RD_KAFKA_CONSUMER_GROUP_STATE_DEAD => GroupState::Dead,
                _ => GroupState::Unknown,
            },
            kind: match sys::rd_kafka_ConsumerGroupListing_type(group) {
                RD_KAFKA_CONSUMER_GROUP_TYPE_CLASSIC => GroupKind::Classic,
                RD_KAFKA_CONSUMER_GROUP_TYPE_CONSUMER => GroupKind::Consumer,
                _ => GroupKind::Unknown,
            },
            simple: sys::rd_kafka_ConsumerGroupListing_is_simple_consumer_group(group) == 1,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_assignment_the_partitions_of_one_topic_count_and_garbage_has_none() {
        // As Kafka writes it: version 1; `ab` with 0 and 1, `c` with 7; user data.
        let mut bytes = vec![0, 1, 0, 0, 0, 2];
        bytes.extend([0, 2, b'a', b'b', 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 1]);
        bytes.extend([0, 1, b'c', 0, 0, 0, 1, 0, 0, 0, 7]);
        bytes.extend([255, 255, 255, 255]);
        let counts = ["ab", "c", "b"].map(|topic| assigned(&bytes, topic));
        assert_eq!(counts, [Some(2), Some(1), Some(0)]);
        assert_eq!(assigned(&[0, 1, 0, 0, 0, 0, 255, 255, 255, 255], "ab"), Some(0));
        assert_eq!(assigned(&[], "ab"), None);
        assert_eq!(assigned(&bytes[..12], "ab"), None);
    }
}
