//! Which partitions of a flow a command means, in the words of `kafka-consumer-groups`.

use std::collections::BTreeSet;

use clap::Args;

use crate::cli::answer::{Outcome, usage};
use crate::kafka::TopicPartition;
use crate::topology::FlowSpec;

/// What is meant. The command that takes it has the group `what`, and says whether it must be given.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Selection {
    /// A source topic, or some of its partitions; may be given several times
    #[arg(long, group = "what", value_name = "TOPIC[:PARTITION,...]", value_parser = selection)]
    topic: Vec<(String, BTreeSet<i32>)>,

    /// Everything that the flow copies
    #[arg(long, group = "what")]
    all_topics: bool,
}

impl Selection {
    /// Whether no part of a flow is named: all of it is meant.
    pub fn is_everything(&self) -> bool {
        self.all_topics || self.topic.is_empty()
    }

    /// Whether a flow copies the topics that are named.
    pub fn fits(&self, flow: &FlowSpec) -> bool {
        self.topic.iter().all(|(topic, _)| flow.topics.matches(topic))
    }

    /// Whether a partition is meant.
    pub fn selects(&self, partition: &TopicPartition) -> bool {
        self.is_everything()
            || self.topic.iter().any(|(topic, partitions)| {
                *topic == *partition.topic
                    && (partitions.is_empty() || partitions.contains(&partition.partition))
            })
    }

    /// Leaves the partitions that are meant of those that `flow` copies.
    ///
    /// # Errors
    /// It does not copy what is named.
    pub fn narrow(&self, flow: &FlowSpec, copied: &mut Vec<(TopicPartition, String)>) -> Outcome<()> {
        copied.retain(|(partition, _)| self.selects(partition));
        for (topic, partitions) in &self.topic {
            let has = |number: Option<i32>| {
                let fits = |it: &TopicPartition| {
                    *it.topic == **topic && number.is_none_or(|number| it.partition == number)
                };
                copied.iter().any(|(partition, _)| fits(partition))
            };
            if !has(None) {
                return Err(usage(format_args!("{} does not copy {topic}", flow.id)));
            }
            if let Some(number) = partitions.iter().find(|number| !has(Some(**number))) {
                return Err(usage(format_args!("{topic} has no partition {number}")));
            }
        }
        Ok(())
    }
}

/// `orders`, `orders:0,2`
fn selection(text: &str) -> Result<(String, BTreeSet<i32>), String> {
    let Some((topic, partitions)) = text.split_once(':') else {
        return Ok((text.to_owned(), BTreeSet::new()));
    };
    let number = |text: &str| text.parse::<u16>().map(i32::from);
    let partitions: Result<_, _> = partitions.split(',').map(number).collect();
    partitions
        .map(|partitions| (topic.to_owned(), partitions))
        .map_err(|_| "partitions are numbers, such as orders:0,2".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_as_kafkas_tool_names_them() {
        assert_eq!(selection("orders"), Ok(("orders".to_owned(), BTreeSet::new())));
        assert_eq!(selection("orders:0,2"), Ok(("orders".to_owned(), [0, 2].into())));
        assert!(selection("orders:x").is_err());
    }
}
