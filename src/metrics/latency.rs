//! The histogram of replication latency.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Label;
use parking_lot::Mutex;

use super::table::{BUCKETS, Definition, REPLICATION_LATENCY};

/// The histogram of one task's replication latency. The library's histograms keep each sample until they are
/// folded: at a million records per second that is memory and time the data plane must not pay. Here a span
/// of records costs two additions.
#[derive(Debug, Default)]
pub(super) struct Latency {
    /// Records by the first bound of [`BUCKETS`] that they reach; the last is beyond all bounds.
    buckets: [AtomicU64; BUCKETS.len() + 1],
    microseconds: AtomicU64,
}

/// Every task's latency in this process, by its rendered labels.
static LATENCIES: Mutex<BTreeMap<String, Arc<Latency>>> = Mutex::new(BTreeMap::new());

impl Latency {
    pub(super) fn of(labels: &[Label]) -> Arc<Self> {
        // Names of topologies, clusters and tasks need no escaping: the configuration allows letters,
        // digits, `_` and `-` only.
        let labels: Vec<_> = labels
            .iter()
            .map(|label| format!("{}=\"{}\"", label.key(), label.value()))
            .collect();
        let mut all = LATENCIES.lock();
        all.entry(labels.join(",")).or_default().clone()
    }

    pub(super) fn record(&self, seconds: f64, count: u64) {
        let bucket = BUCKETS.partition_point(|bound| *bound < seconds);
        self.buckets[bucket].fetch_add(count, Ordering::Relaxed);
        // Clocks of producers run ahead at times; the sum of a histogram may only grow.
        let microseconds = (seconds.max(0.0) * 1e6) as u64;
        self.microseconds
            .fetch_add(microseconds.saturating_mul(count), Ordering::Relaxed);
    }

    pub(super) fn render_all() -> String {
        let all = LATENCIES.lock();
        let Definition { name, help, .. } = REPLICATION_LATENCY;
        let mut text = format!("# HELP {name} {help}\n# TYPE {name} histogram\n");
        for (labels, latency) in &*all {
            // Writing to a string cannot fail.
            let _ = latency.render(&mut text, name, labels);
        }
        text
    }

    fn render(&self, text: &mut String, name: &str, labels: &str) -> std::fmt::Result {
        let bounds = BUCKETS.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut total = 0;
        for (bound, records) in bounds.zip(&self.buckets) {
            total += records.load(Ordering::Relaxed);
            writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {total}")?;
        }
        let sum = self.microseconds.load(Ordering::Relaxed) as f64 / 1e6;
        writeln!(text, "{name}_sum{{{labels}}} {sum}")?;
        writeln!(text, "{name}_count{{{labels}}} {total}")
    }
}
