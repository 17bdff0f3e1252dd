//! The harness itself: what every other test trusts.

use crate::harness::{ClusterOptions, pair};

#[test]
fn a_cluster_starts_in_ten_seconds() {
    let cluster = ClusterOptions::new("start").start();
    eprintln!(
        "source {:?}, target {:?}, alone {:?}",
        pair().source.start_time(),
        pair().target.start_time(),
        cluster.start_time()
    );
    assert!(cluster.start_time().as_secs() < 10);
}
