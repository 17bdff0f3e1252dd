use std::path::{Path, PathBuf};

use super::*;
use crate::config::{Config, Problem};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn example(config: &str, topology: &str) -> Result<(Config, Vec<Topology>), Vec<Problem>> {
    load(&repository(config), &[repository(topology)], &|_| None)
}

#[test]
fn every_example_loads() {
    for (config, topology, expected) in [
        (
            "config/local.yaml",
            "topologies/active-standby.yaml",
            &["korea-dr seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*, payments"][..],
        ),
        (
            "config/local.yaml",
            "topologies/active-active.yaml",
            &[
                "korea-active busan->seoul: default names, exactly_once, 4 tasks, topics orders.*, payments",
                "korea-active seoul->busan: default names, exactly_once, 4 tasks, topics orders.*, payments",
            ],
        ),
        (
            "config/local.yaml",
            "topologies/active-active-same-names.yaml",
            &[
                "korea-same-names busan->seoul: identity names, exactly_once, 4 tasks, topics orders.*, payments",
                "korea-same-names seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*, payments",
            ],
        ),
        (
            "config/hub.yaml",
            "topologies/hub-and-spoke-in.yaml",
            &[
                "collect busan->central: default names, exactly_once, 4 tasks, topics orders.*",
                "collect daegu->central: default names, exactly_once, 4 tasks, topics orders.*",
                "collect seoul->central: default names, exactly_once, 4 tasks, topics orders.*",
            ],
        ),
        (
            "config/hub.yaml",
            "topologies/hub-and-spoke-out.yaml",
            &[
                "distribute central->busan: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
                "distribute central->daegu: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
                "distribute central->seoul: identity names, exactly_once, 4 tasks, topics prices, catalogue.*",
            ],
        ),
        (
            "config/local.yaml",
            "topologies/custom.yaml",
            &[
                "exchange busan->seoul: identity names, at_least_once, 4 tasks, topics refunds.* except .*-test",
                "exchange seoul->busan: identity names, exactly_once, 4 tasks, topics orders.*",
            ],
        ),
    ] {
        match example(config, topology) {
            Ok((_, topologies)) => assert_eq!(topologies[0].announcement(), expected, "{topology}"),
            Err(problems) => panic!(
                "{}",
                problems.iter().map(|p| format!("{p}\n")).collect::<String>()
            ),
        }
    }
}

#[test]
fn a_flow_overrides_key_by_key_and_keeps_the_rest() {
    let (_, topologies) = example("config/local.yaml", "topologies/active-standby.yaml").unwrap();
    let flow = &topologies[0].flows[0];
    assert_eq!(
        flow.throttle,
        Throttle {
            bytes_per_second: Some(20 << 20),
            records_per_second: None
        }
    );
    assert_eq!(flow.config_sync.interval, Duration::from_secs(5));
    assert_eq!(flow.commit_interval, Duration::from_millis(500));
    assert_eq!(
        (flow.compression, flow.start_from),
        (Compression::Lz4, StartFrom::Earliest)
    );
}
