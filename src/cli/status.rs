//! `causeway status`: asks a running daemon and prints its snapshot.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use super::answer::{Outcome, OutputFormat, failed};
use super::table::{count, table};
use crate::status::{
    ConfigSyncStatus, DaemonStatus, FlowStatus, GroupStatus, GroupSyncState, GroupSyncStatus,
    HeartbeatStatus, PartState, PartStatus, PartitionState, PartitionStatus, TaskStatus,
};

/// A transaction that is open for longer deserves a look, in seconds.
const LONG_OPEN: f64 = 10.0;
/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the daemon at `address` says. `all` lists every partition.
pub fn report(address: &str, all: bool, format: OutputFormat) -> Outcome<String> {
    let body = fetch(address).map_err(|error| {
        failed(format_args!(
            "no causeway daemon answers at {address}: {error}\n  is it running? --address HOST:PORT asks elsewhere"
        ))
    })?;
    match format {
        OutputFormat::Json => Ok(body),
        OutputFormat::Table => serde_json::from_str(&body)
            .map(|status| as_text(&status, all))
            .map_err(|error| {
                failed(format_args!(
                    "what answers at {address} is no causeway daemon of this version: {error}"
                ))
            }),
    }
}

/// The address to ask when a daemon listens on `listen`: "every interface" is no destination.
pub fn reachable(listen: SocketAddr) -> SocketAddr {
    let host = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(host, listen.port())
}

fn fetch(address: &str) -> Result<String, ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .timeout_global(Some(PATIENCE))
        // The daemon is asked directly, whatever proxies the environment names.
        .proxy(None)
        .build()
        .into();
    let mut answer = agent.get(format!("http://{address}/status")).call()?;
    answer
        .body_mut()
        .with_config()
        // Every partition of a large daemon, a few hundred bytes each.
        .limit(1 << 30)
        .read_to_string()
}

fn as_text(status: &DaemonStatus, all: bool) -> String {
    let mut text = format!(
        "causeway {}, instance {}, up {}{}\n",
        status.version,
        status.instance,
        age(status.uptime_seconds as f64),
        if status.draining { ", draining" } else { "" },
    );
    if status.flows.is_empty() {
        text += "no flows\n";
    }
    for flow in &status.flows {
        text += "\n";
        text += &flow_block(flow, all);
    }
    text
}

fn flow_block(flow: &FlowStatus, all: bool) -> String {
    let mut text = format!(
        "{} {}: {} ({})\n",
        flow.topology, flow.flow, flow.state, flow.delivery
    );
    let mut line = |name: &str, value: &str| text += &format!("  {name:<12} {value}\n");
    if let Some(reason) = &flow.reason {
        line("reason", reason);
    }
    line("lag", &lag(flow.lag_records, flow.lag_seconds));
    if let Some(held_back) = held_back(flow.uncommitted_records, flow.open_transaction_seconds) {
        line("", &held_back);
    }
    let sync = flow.config_sync.as_ref();
    line("config sync", &sync.map_or("unknown here".into(), config_sync));
    for error in sync.iter().flat_map(|it| &it.errors) {
        line("", &format!("error: {error}"));
    }
    for warning in sync.iter().flat_map(|it| &it.warnings) {
        line("", &format!("warning: {warning}"));
    }
    if let Some(it) = &flow.groups {
        line("groups", &groups(it));
        for error in &it.errors {
            line("", &format!("error: {error}"));
        }
    }
    if let Some(it) = &flow.heartbeats {
        line("heartbeats", &heartbeats(it));
        for error in &it.errors {
            line("", &format!("error: {error}"));
        }
    }
    for it in flow
        .parts
        .iter()
        .filter(|it| it.state != PartState::Running || 0 < it.failures)
    {
        line(&it.part, &part(it));
    }
    let total = flow
        .tasks_total
        .map_or("unknown".into(), |total| total.to_string());
    line("tasks", &format!("{} of {total} here", flow.tasks.len()));
    if !flow.tasks.is_empty() {
        text += &tasks(&flow.tasks);
        text += &partitions(flow, all);
    }
    text
}

fn config_sync(sync: &ConfigSyncStatus) -> String {
    let pending = match sync.pending_changes {
        0 => "nothing pending".to_owned(),
        n => format!("{} pending", count(n as usize, "change")),
    };
    let excluded = match sync.excluded.len() {
        0 => String::new(),
        n => format!(", {} left out (causeway plan says why)", count(n, "topic")),
    };
    format!(
        "{}, {}, {pending}{excluded}",
        sync.mode,
        sync.seconds_since_last_pass
            .map_or("no pass yet".into(), |since| format!(
                "last pass {} ago",
                age(since)
            ))
    )
}

/// `3 written, 1 active`, and what deserves a look.
fn groups(sync: &GroupSyncStatus) -> String {
    let mut counts: BTreeMap<GroupSyncState, usize> = BTreeMap::new();
    for group in sync.groups.values() {
        *counts.entry(group.state).or_default() += 1;
    }
    let mut parts: Vec<String> = counts
        .iter()
        .map(|(state, count)| format!("{count} {state}"))
        .collect();
    let mut note = |what: &str, count: usize| {
        if 0 < count {
            parts.push(format!("{count} with positions {what}"));
        }
    };
    let with = |is: fn(&GroupStatus) -> bool| sync.groups.values().filter(|group| is(group)).count();
    note("held at the end of the copy", with(|group| 0 < group.held));
    note("in a thinned part of the map", with(|group| 0 < group.bounded));
    note("that cannot be translated", with(|group| 0 < group.untranslated));
    note(
        "that go without their metadata",
        with(|group| 0 < group.metadata_withheld),
    );
    match (sync.seconds_since_last_pass, parts.is_empty()) {
        (None, _) => "unknown until the first look".into(),
        (Some(_), true) => "none with positions in copied topics".into(),
        (Some(_), false) => parts.join(", "),
    }
}

/// What runs beside the tasks, where it is not well or was not.
fn part(part: &PartStatus) -> String {
    let reason = part.reason.as_deref().unwrap_or("no reason given");
    match part.state {
        PartState::Running => {
            let times = count(part.failures as usize, "time");
            format!("running, has failed {times}; the last time: {reason}")
        }
        PartState::Failed => format!("{}: {reason}", part.state),
    }
}

fn heartbeats(heartbeats: &HeartbeatStatus) -> String {
    let newest = match heartbeats.age_seconds {
        None => "none of the source's has arrived".to_owned(),
        Some(seconds) => format!("newest arrived is {} old", age(seconds)),
    };
    match heartbeats.lost {
        0 => newest,
        lost => format!("{newest}, {lost} lost"),
    }
}

fn tasks(tasks: &[TaskStatus]) -> String {
    let rows: Vec<_> = tasks
        .iter()
        .map(|task| {
            [
                task.task.to_string(),
                task.state.to_string(),
                task.seconds_since_published
                    .map_or("unknown".into(), |since| format!("{} ago", age(since))),
                size(task.in_flight_bytes),
                states(&task.partitions),
                task.waiting_for.clone().unwrap_or_default(),
                task.reason.clone().unwrap_or_default(),
            ]
        })
        .collect();
    let header = [
        "TASK",
        "STATE",
        "SAID",
        "IN FLIGHT",
        "PARTITIONS",
        "WAITING FOR",
        "REASON",
    ];
    table(4, header, &rows)
}

/// `3 running, 1 paused`
fn states(partitions: &[PartitionStatus]) -> String {
    let mut by_state = BTreeMap::<String, usize>::new();
    for partition in partitions {
        *by_state.entry(partition.state.to_string()).or_default() += 1;
    }
    let parts: Vec<_> = by_state.iter().map(|(state, n)| format!("{n} {state}")).collect();
    match parts.is_empty() {
        true => "none".to_owned(),
        false => parts.join(", "),
    }
}

fn partitions(flow: &FlowStatus, all: bool) -> String {
    let shown = flow.tasks.iter().flat_map(|task| &task.partitions).filter(|it| {
        let long_open = it.open_transaction_seconds.is_some_and(|open| LONG_OPEN <= open);
        all || it.state != PartitionState::Running || it.notice.is_some() || !it.gaps.is_empty() || long_open
    });
    let offset = |offset: Option<i64>| offset.map_or("unknown".into(), |offset| offset.to_string());
    let rows: Vec<_> = shown
        .map(|it| {
            let gaps = it.gaps.iter().map(|gap| format!("gap {gap}"));
            let replayed = (0 < it.replayed_records)
                .then(|| format!("{} replayed", count(it.replayed_records as usize, "record")));
            let held_back = held_back(it.uncommitted_records, it.open_transaction_seconds);
            let notes: Vec<_> = it
                .reason
                .iter()
                .chain(&it.notice)
                .cloned()
                .chain(held_back)
                .chain(gaps)
                .chain(replayed)
                .collect();
            [
                format!("{}-{}", it.topic, it.partition),
                it.state.to_string(),
                lag(it.lag_records, it.lag_seconds),
                offset(it.next_source_offset),
                offset(it.source_end_offset),
                offset(it.next_target_offset),
                notes.join("; "),
            ]
        })
        .collect();
    let header = [
        "PARTITION",
        "STATE",
        "LAG",
        "NEXT SOURCE",
        "SOURCE END",
        "NEXT TARGET",
        "NOTES",
    ];
    match rows.is_empty() {
        true => String::new(),
        false => table(4, header, &rows),
    }
}

/// What an open transaction at the source keeps from being copied.
fn held_back(records: Option<u64>, seconds: Option<f64>) -> Option<String> {
    let seconds = seconds?;
    let records = records.map_or("unknown records".into(), |n| count(n as usize, "record"));
    Some(format!(
        "{records} more behind a transaction that has been open at the source for {}",
        age(seconds)
    ))
}

/// `120 records, 0.5s`; what is not known is said so.
fn lag(records: Option<u64>, seconds: Option<f64>) -> String {
    match (records, seconds) {
        (None, None) => "unknown".to_owned(),
        (records, seconds) => {
            let records = records.map_or("unknown records".into(), |n| count(n as usize, "record"));
            let seconds = seconds.map_or("unknown age".into(), age);
            format!("{records}, {seconds}")
        }
    }
}

/// `0.5s`, `12m 03s`, `3h 05m`, `2d 04h`
fn age(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1}s"),
        60..3_600 => format!("{}m {:02}s", whole / 60, whole % 60),
        3_600..86_400 => format!("{}h {:02}m", whole / 3_600, whole / 60 % 60),
        _ => format!("{}d {:02}h", whole / 86_400, whole / 3_600 % 24),
    }
}

/// `512 B`, `12.0 KiB`, `3.4 MiB`
fn size(bytes: u64) -> String {
    let units = ["KiB", "MiB", "GiB", "TiB"];
    let mut value = bytes as f64 / 1024.0;
    if value < 1.0 {
        return format!("{bytes} B");
    }
    let mut unit = 0;
    while 1024.0 <= value && unit + 1 < units.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", units[unit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::{FlowState, TaskState};

    fn partition(number: i32, state: PartitionState, lag: Option<u64>) -> PartitionStatus {
        PartitionStatus {
            topic: "orders".into(),
            partition: number,
            state,
            reason: None,
            next_source_offset: Some(10),
            next_target_offset: None,
            source_end_offset: lag.map(|lag| 10 + lag as i64),
            source_high_watermark: None,
            lag_records: lag,
            lag_seconds: None,
            notice: None,
            uncommitted_records: None,
            open_transaction_seconds: None,
            replayed_records: 0,
            gaps: Vec::new(),
        }
    }

    fn daemon() -> DaemonStatus {
        let mut halted = partition(1, PartitionState::Halted, None);
        halted.reason = Some("S301 source_out_of_range".into());
        let mut with_gap = partition(2, PartitionState::Running, Some(0));
        with_gap.gaps = vec!["[5, 9) out_of_range".into()];
        DaemonStatus {
            instance: "host-1".into(),
            version: "0.1.0".into(),
            uptime_seconds: 3_900,
            draining: false,
            flows: vec![FlowStatus {
                topology: "korea-dr".into(),
                flow: "seoul->busan".into(),
                delivery: "exactly_once".into(),
                state: FlowState::Degraded,
                reason: Some("1 partition is halted".into()),
                tasks_total: Some(4),
                lag_records: None,
                lag_seconds: None,
                uncommitted_records: None,
                open_transaction_seconds: None,
                config_sync: Some(ConfigSyncStatus {
                    mode: "apply".into(),
                    seconds_since_last_pass: Some(2.14),
                    pending_changes: 1,
                    errors: vec!["orders: T201".into()],
                    ..ConfigSyncStatus::default()
                }),
                groups: Some(GroupSyncStatus {
                    seconds_since_last_pass: Some(1.0),
                    groups: [
                        ("a", GroupSyncState::Written),
                        ("b", GroupSyncState::Written),
                        ("c", GroupSyncState::Active),
                    ]
                    .map(|(name, state)| {
                        let status = GroupStatus {
                            state,
                            held: u64::from(name == "b"),
                            ..GroupStatus::default()
                        };
                        (name.to_owned(), status)
                    })
                    .into(),
                    errors: vec!["d: T203".into()],
                }),
                heartbeats: Some(HeartbeatStatus {
                    age_seconds: Some(0.42),
                    lost: 3,
                    errors: vec!["T205".into()],
                }),
                parts: vec![PartStatus {
                    part: "watch".into(),
                    state: PartState::Running,
                    reason: Some("L901 panicked: index out of bounds".into()),
                    seconds_busy: None,
                    failures: 2,
                }],
                tasks: vec![TaskStatus {
                    task: 2,
                    state: TaskState::Running,
                    reason: None,
                    seconds_since_published: Some(0.4),
                    waiting_for: Some("throttled".into()),
                    in_flight_bytes: 12 * 1024,
                    partitions: vec![partition(0, PartitionState::Running, Some(3)), halted, with_gap],
                }],
            }],
        }
    }

    #[test]
    fn the_table_names_what_needs_attention_and_counts_the_rest() {
        let expected = "\
causeway 0.1.0, instance host-1, up 1h 05m

korea-dr seoul->busan: degraded (exactly_once)
  reason       1 partition is halted
  lag          unknown
  config sync  apply, last pass 2.1s ago, 1 change pending
               error: orders: T201
  groups       2 written, 1 active, 1 with positions held at the end of the copy
               error: d: T203
  heartbeats   newest arrived is 0.4s old, 3 lost
               error: T205
  watch        running, has failed 2 times; the last time: L901 panicked: index out of bounds
  tasks        1 of 4 here
    TASK  STATE    SAID      IN FLIGHT  PARTITIONS           WAITING FOR  REASON
    2     running  0.4s ago  12.0 KiB   1 halted, 2 running  throttled
    PARTITION  STATE    LAG                     NEXT SOURCE  SOURCE END  NEXT TARGET  NOTES
    orders-1   halted   unknown                 10           unknown     unknown      S301 source_out_of_range
    orders-2   running  0 records, unknown age  10           10          unknown      gap [5, 9) out_of_range
";
        assert_eq!(as_text(&daemon(), false), expected);
    }

    #[test]
    fn an_open_transaction_that_holds_records_back_is_named_where_lag_is_zero() {
        let mut status = daemon();
        let flow = &mut status.flows[0];
        (flow.lag_records, flow.lag_seconds) = (Some(0), Some(0.0));
        (flow.uncommitted_records, flow.open_transaction_seconds) = (Some(105), Some(12.0));
        let partition = &mut flow.tasks[0].partitions[0];
        (partition.uncommitted_records, partition.open_transaction_seconds) = (Some(105), Some(12.0));
        let text = as_text(&status, false);
        let what = "105 records more behind a transaction that has been open at the source for 12.0s";
        assert!(
            text.contains(&format!("0 records, 0.0s\n               {what}\n")),
            "{text}"
        );
        let named = text.lines().find(|line| line.contains("orders-0"));
        assert!(named.is_some_and(|line| line.contains(what)), "{text}");
    }

    #[test]
    fn every_partition_is_listed_when_asked_for() {
        assert!(!as_text(&daemon(), false).contains("orders-0"));
        assert!(as_text(&daemon(), true).contains("orders-0"));
    }

    #[test]
    fn unknown_is_never_shown_as_zero() {
        assert_eq!(lag(None, None), "unknown");
        assert_eq!(lag(None, Some(0.0)), "unknown records, 0.0s");
        assert_eq!(lag(Some(0), None), "0 records, unknown age");
    }

    #[test]
    fn a_daemon_that_listens_everywhere_is_asked_on_this_host() {
        let ask = |listen: &str| reachable(listen.parse().expect(listen)).to_string();
        assert_eq!(ask("0.0.0.0:8083"), "127.0.0.1:8083");
        assert_eq!(ask("[::]:8083"), "[::1]:8083");
        assert_eq!(ask("10.1.2.3:8083"), "10.1.2.3:8083");
    }

    #[test]
    fn ages_and_sizes_read_well() {
        assert_eq!(
            [age(0.04), age(61.0), age(200_000.0)],
            ["0.0s", "1m 01s", "2d 07h"]
        );
        assert_eq!(
            [size(512), size(1024), size(5 << 30)],
            ["512 B", "1.0 KiB", "5.0 GiB"]
        );
    }
}
