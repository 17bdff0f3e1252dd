//! `make demo`: two real Kafka clusters, a shop that writes to one of them, and causeway between them. Shows what
//! a user would do and see, and ends with what was proven. The exit code is 0 only if every check held.

#[path = "../harness/mod.rs"]
mod harness;
mod daemon;
mod reader;
mod screen;
mod shop;

use std::collections::BTreeMap;
use std::panic::{self, AssertUnwindSafe};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use causeway::context::now_ms;
use causeway::status::FlowState;

use daemon::{Daemon, Files};
use harness::kafka::kafka_version;
use harness::oracle::{self, Digest, Isolation, NewRecord};
use harness::{Cluster, ClusterOptions, wait_for, wait_until};
use reader::{Reader, percentile};
use screen::{Proven, Screen, grouped, span};
use shop::{Books, CLICKS, CUSTOMERS, PAID, PAYMENTS, PLACED, Shop};

const BACKLOG: u64 = 300_000;
const BACKLOG_TRANSACTIONS: u64 = 200;
const REFUNDS: &str = "orders.refunds";
const REFUND_COUNT: usize = 500;
const KILLS: u32 = 3;
/// For what takes seconds; a busy machine may take its time.
const PATIENCE: Duration = Duration::from_secs(90);

fn main() -> ExitCode {
    // What went wrong is said once and in one place, below.
    panic::set_hook(Box::new(|_| {}));
    let mut screen = Screen::new();
    let files = Files::choose();
    let log = files.log_shown();
    let proof = match panic::catch_unwind(AssertUnwindSafe(|| play(&mut screen, files))) {
        Ok(proof) => proof,
        Err(panic) => {
            let why = panic
                .downcast_ref::<String>()
                .map(String::as_str)
                .or_else(|| panic.downcast_ref::<&str>().copied());
            screen.say(&screen.red(&format!("\nfailed: {}", why.unwrap_or("no reason given"))));
            screen.say(&format!("The daemon's log: {log}"));
            return ExitCode::FAILURE;
        }
    };
    screen.boxed("What was proven", &proof);
    let failed: Vec<_> = proof.iter().filter(|it| !it.holds).collect();
    if failed.is_empty() {
        screen.say(&format!(
            "All {} checks held, in {:.0} s.",
            proof.len(),
            screen.elapsed().as_secs_f64()
        ));
        return ExitCode::SUCCESS;
    }
    for it in failed {
        screen.say(&screen.red(&format!("failed: {}: {}", it.what, it.value)));
    }
    screen.say(&format!("The daemon's log: {log}"));
    ExitCode::FAILURE
}

/// Checks and measurements, in the order of the last page.
#[derive(Default)]
struct Proof(Vec<Proven>);

impl Proof {
    fn add(&mut self, what: &str, value: impl Into<String>, holds: bool) {
        self.0.push(Proven {
            what: what.to_owned(),
            value: value.into(),
            holds,
        });
    }
}

/// The clusters of the topology.
struct Clusters {
    seoul: Cluster,
    busan: Cluster,
}

fn play(screen: &mut Screen, files: Files) -> Vec<Proven> {
    let clusters = start_clusters(screen, &files);
    let (shop, groups) = open_shop(screen, &clusters);
    screen.act("What would causeway do?");
    screen.say("The files of this repository: how to connect, and what flows. Nothing has run yet.");
    files.show(screen, &["validate"]);
    files.show(screen, &["plan"]);

    let daemon = catch_up(screen, files);
    let observer = Reader::start(
        &clusters.busan.bootstrap(),
        "demo-observer",
        &[PLACED, PAID],
        "latest",
    );
    let mut proof = Proof::default();
    let latency = watch_stream(screen, &daemon, &groups[0], &observer);
    let arrivals = change_source(screen, &clusters);
    let daemon = kill(screen, daemon, &observer, &mut proof);
    let books = close_shop(screen, &clusters, shop, groups, &daemon, &mut proof);
    let peak = daemon.peak_rss_bytes();
    let code = daemon.terminate();
    screen.say(&format!("SIGTERM: drained, exit code {code}"));
    drop(observer);

    let mut compared = compare(screen, &clusters, books);
    compared.append(&mut proof.0);
    let mut proof = Proof(compared);
    for (what, after) in arrivals {
        proof.add(what, format!("{} after the source", span(after)), true);
    }
    proof.0.extend(latency);
    let mib = peak as f64 / f64::from(1 << 20);
    proof.add("memory of the daemon, peak", format!("{mib:.0} MiB"), true);
    proof.add("SIGTERM: drained, exit code", code.to_string(), code == 0);
    proof.0
}

fn start_clusters(screen: &mut Screen, files: &Files) -> Clusters {
    screen.act("Two Kafka clusters");
    if let Some(why) = files.why_generated() {
        screen.say(why);
    }
    let [seoul_port, busan_port] = files.ports();
    let start = |name, port| ClusterOptions::new(name).port(port).start();
    let clusters = thread::scope(|scope| {
        let seoul = scope.spawn(|| start("seoul", seoul_port));
        let busan = start("busan", busan_port);
        let seoul = seoul.join().unwrap_or_else(|why| panic::resume_unwind(why));
        Clusters { seoul, busan }
    });
    for (name, role, it) in [
        ("seoul", "active ", &clusters.seoul),
        ("busan", "standby", &clusters.busan),
    ] {
        screen.say(&format!(
            "{name}  {role}  Kafka {}  {}  cluster id {}  up in {}",
            kafka_version(),
            it.bootstrap(),
            it.cluster_id(),
            span(it.start_time()),
        ));
    }
    clusters
}

fn open_shop(screen: &mut Screen, clusters: &Clusters) -> (Shop, [Reader; 2]) {
    screen.act("A shop in seoul");
    let seoul = &clusters.seoul;
    seoul.create_topic(PLACED, 6, &[]);
    seoul.create_topic(PAID, 3, &[("retention.ms", "604800000")]);
    seoul.create_topic(CUSTOMERS, 2, &[("cleanup.policy", "compact")]);
    seoul.create_topic(PAYMENTS, 3, &[]);
    seoul.create_topic(CLICKS, 1, &[]);
    let at = seoul.bootstrap();
    shop::click(&at);
    let started = Instant::now();
    let shop = Shop::open(&at, BACKLOG, BACKLOG_TRANSACTIONS);
    let books = shop.books();
    screen.say(&format!(
        "{} records in {}: the backlog, written while busan was not yet there",
        grouped(books.committed() + books.aborted),
        span(started.elapsed())
    ));
    for (topic, what) in [
        (PLACED, "6 partitions, keyed by order, with headers"),
        (PAID, "3 partitions, retention.ms=604800000"),
        (CUSTOMERS, "2 partitions, compacted, with tombstones"),
        (
            PAYMENTS,
            "3 partitions, in transactions; every eighth one is aborted",
        ),
        (CLICKS, "matches no filter of the topology: to be left alone"),
    ] {
        screen.say(&format!("  {topic:<17} {what}"));
    }
    screen.say(&format!("An order: {}", shop::order(2)));
    let groups = [
        Reader::start(&at, "billing", &[PLACED, PAID], "earliest"),
        Reader::start(&at, "fraud-check", &[PAYMENTS], "earliest"),
    ];
    screen.say("Two consumer groups, billing and fraud-check, have begun to read.");
    screen.say(&format!(
        "The shop stays open: from now on {} orders and 20 transactions a second.",
        grouped(shop::ORDERS_PER_SECOND)
    ));
    (shop, groups)
}

fn catch_up(screen: &mut Screen, files: Files) -> Daemon {
    screen.act("The daemon starts, and the lag falls");
    let daemon = Daemon::start(files);
    screen.command(daemon.command_line(), "");
    let started = Instant::now();
    // Below what the shop writes in half a second it is not a backlog any more.
    let caught_up = shop::ORDERS_PER_SECOND / 2;
    let mut next_line = Instant::now();
    let mut most = 1;
    wait_until("the backlog is copied", PATIENCE, || {
        daemon.assert_running();
        let flow = daemon.status().and_then(|mut it| it.flows.pop());
        let lag = flow.as_ref().and_then(|it| it.lag_records);
        let running = flow.as_ref().is_some_and(|it| it.state == FlowState::Running);
        let copying = flow
            .iter()
            .flat_map(|it| &it.tasks)
            .any(|it| !it.partitions.is_empty());
        let done = running && copying && lag.is_some_and(|lag| lag < caught_up);
        most = most.max(lag.unwrap_or(0));
        if next_line <= Instant::now() || done {
            next_line = Instant::now() + Duration::from_millis(500);
            let state = flow.map_or("starting".to_owned(), |it| it.state.to_string());
            let shown = lag.map_or("unknown".to_owned(), |lag| grouped(lag) + " records");
            let bar = "#".repeat((lag.unwrap_or(0) * 50).div_ceil(most) as usize);
            let seconds = started.elapsed().as_secs_f64();
            screen.say(format!("  {seconds:4.1} s  {state:<9} lag {shown:>15}  {bar}").trim_end());
        }
        done
    });
    daemon.files().show(screen, &["status"]);
    daemon
}

/// What the daemon adds to the time from a producer to a consumer, watched for some seconds.
fn watch_stream(screen: &mut Screen, daemon: &Daemon, billing: &Reader, observer: &Reader) -> Vec<Proven> {
    const SECONDS: i64 = 6;
    screen.act("Every order, some milliseconds later, in busan");
    screen.say("Both sides are read by a consumer of committed records: time from the order to the reader.");
    wait_until("the reader in busan gets orders", PATIENCE, || {
        observer.first_written_after(0).is_some()
    });
    let histogram = daemon.latency_histogram();
    let from = now_ms();
    let line = |what: &str, from: i64, to: i64| {
        let (at_seoul, at_busan) = (billing.latencies(from, to), observer.latencies(from, to));
        let show = |sorted: &[i64], percent| {
            percentile(sorted, percent).map_or("unknown".to_owned(), |it| format!("{it} ms"))
        };
        screen.say(&format!(
            "  {what:<8}{:>6} orders  seoul p50 {:>7} p99 {:>7}  busan p50 {:>7} p99 {:>7}  {:>3.0} MiB",
            at_busan.len(),
            show(&at_seoul, 50),
            show(&at_seoul, 99),
            show(&at_busan, 50),
            show(&at_busan, 99),
            daemon.rss_bytes() as f64 / f64::from(1 << 20),
        ));
        (at_seoul, at_busan)
    };
    for second in 0..SECONDS {
        thread::sleep(Duration::from_secs(1));
        // One second back, so that even slow ones have arrived.
        line(&format!("{} s", second + 1), now_ms() - 2_000, now_ms() - 1_000);
    }
    let to = now_ms() - 1_000;
    let (at_seoul, at_busan) = line("all", from, to);
    let window = daemon.latency_histogram().since(&histogram);
    let bound = |percent| {
        window
            .percentile(percent)
            .map_or("unknown".to_owned(), |it| format!("{:.0} ms", it * 1e3))
    };
    screen.say(&format!(
        "The daemon's own histogram, order to acknowledged in busan: p50 <= {}, p99 <= {}",
        bound(0.5),
        bound(0.99)
    ));
    let added = |percent| Some(percentile(&at_busan, percent)? - percentile(&at_seoul, percent)?);
    let text = |percent| added(percent).map_or("unknown".to_owned(), |it| format!("{it} ms"));
    vec![Proven {
        what: "latency added, to a committed reader".to_owned(),
        value: format!("p50 {}, p99 {}", text(50), text(99)),
        holds: added(50).is_some(),
    }]
}

/// Changes three things on the source and waits for each on the target.
fn change_source(screen: &mut Screen, clusters: &Clusters) -> Vec<(&'static str, Duration)> {
    let Clusters { seoul, busan } = clusters;
    screen.act("The source changes; busan follows");
    screen.say(&format!("  seoul: {PLACED} grows from 6 to 9 partitions"));
    screen.say(&format!("  seoul: {PAID} gets retention.ms=86400000"));
    screen.say(&format!(
        "  seoul: {REFUNDS} is created, {REFUND_COUNT} records follow"
    ));
    let at = busan.bootstrap();
    let changed = Instant::now();
    seoul.grow_topic(PLACED, 9);
    seoul.alter_topic(PAID, &[("retention.ms", "86400000")], &[]);
    seoul.create_topic(REFUNDS, 2, &[("max.message.bytes", "2000000")]);
    let refunds: Vec<_> = (0..REFUND_COUNT)
        .map(|n| {
            let (key, partition) = (format!("R-{n:06}"), i32::from(n % 2 == 1));
            NewRecord::new(
                REFUNDS,
                partition,
                &key,
                &format!("{{\"refund\":\"{key}\",\"amount\":{}}}", 1_000 * (n + 1)),
            )
        })
        .collect();
    oracle::produce(&seoul.bootstrap(), &refunds, "gzip");
    let has_records = |topic: &str, partitions: std::ops::Range<usize>| {
        oracle::try_describe_topic(&at, topic).is_ok_and(|it| partitions.end <= it.partitions as usize)
            && oracle::end_offsets(&at, topic, Isolation::ReadCommitted)[partitions]
                .iter()
                .all(|end| 0 < *end)
    };
    type Arrived<'a> = Box<dyn Fn() -> bool + 'a>;
    let mut awaited: Vec<(&'static str, Arrived<'_>)> = vec![
        (
            "more partitions in busan",
            Box::new(|| oracle::describe_topic(&at, PLACED).partitions == 9),
        ),
        (
            "a changed setting in busan",
            Box::new(|| {
                let configs = oracle::topic_configs(&at, PAID);
                configs.get("retention.ms").is_some_and(|it| it == "86400000")
            }),
        ),
        (
            "a new topic in busan, with records",
            Box::new(|| has_records(REFUNDS, 0..2)),
        ),
        (
            "orders in each new partition in busan",
            Box::new(|| has_records(PLACED, 6..9)),
        ),
    ];
    let mut arrived = Vec::new();
    wait_until("the changes arrive in busan", PATIENCE, || {
        awaited.retain(|(what, reached)| {
            let here = reached();
            if here {
                arrived.push((*what, changed.elapsed()));
                screen.checked(what, format!("after {}", span(changed.elapsed())), true);
            }
            !here
        });
        awaited.is_empty()
    });
    screen.say("The topology sets config_sync.interval: 5s; what arrives sooner had luck with the moment.");
    arrived
}

/// Kills the daemon while orders flow, more than once.
fn kill(screen: &mut Screen, mut daemon: Daemon, observer: &Reader, proof: &mut Proof) -> Daemon {
    screen.act("kill -9 under load");
    let mut slowest = Duration::ZERO;
    for number in 1..=KILLS {
        // At another moment of a transaction each time.
        thread::sleep(Duration::from_millis(700 + u64::from(number) * 137));
        let pid = daemon.pid();
        daemon.kill9();
        let killed = now_ms();
        screen.say(&format!("  $ kill -9 {pid}"));
        let restarted = Instant::now();
        daemon.restart();
        // A record written after the kill can only have been copied by the new process.
        let restarted_at = now_ms();
        let arrived = wait_for("an order passes after the restart", PATIENCE, || {
            daemon.assert_running();
            observer.first_written_after(killed)
        });
        let took = Duration::from_millis(u64::try_from(arrived - restarted_at).unwrap_or(0));
        slowest = slowest.max(took);
        screen.say(&format!(
            "    restarted as {}; the first order written after the kill is readable in busan {} later",
            daemon.pid(),
            span(took)
        ));
        wait_until("the daemon has caught up", PATIENCE, || {
            daemon.assert_running();
            let flow = daemon.status().and_then(|mut it| it.flows.pop());
            flow.is_some_and(|it| {
                it.state == FlowState::Running
                    && it.lag_records.is_some_and(|lag| lag < shop::ORDERS_PER_SECOND)
            })
        });
        screen.say(&format!(
            "    caught up {} after the restart",
            span(restarted.elapsed())
        ));
    }
    daemon.files().show(screen, &["status"]);
    proof.add("kill -9 under load", format!("{KILLS} times"), true);
    proof.add(
        "restart to the first record, slowest",
        span(slowest),
        slowest < Duration::from_secs(30),
    );
    daemon
}

fn close_shop(
    screen: &mut Screen,
    clusters: &Clusters,
    shop: Shop,
    groups: [Reader; 2],
    daemon: &Daemon,
    proof: &mut Proof,
) -> Books {
    screen.act("The shop closes; the daemon finishes");
    let books = shop.close();
    screen.say(&format!(
        "seoul has acknowledged {} records and {} payments; {} more payments were aborted",
        grouped(books.orders),
        grouped(books.payments),
        grouped(books.aborted)
    ));
    let at = clusters.seoul.bootstrap();
    let ends: BTreeMap<_, _> = [PLACED, PAID, CUSTOMERS, PAYMENTS, REFUNDS]
        .into_iter()
        .flat_map(|topic| {
            let ends = oracle::end_offsets(&at, topic, Isolation::ReadCommitted);
            (0..)
                .zip(ends)
                .map(move |(partition, end)| ((topic.to_owned(), partition), end))
        })
        .collect();
    let started = Instant::now();
    wait_until("the daemon has copied everything", PATIENCE, || {
        daemon.assert_running();
        let status = daemon.status();
        let flows = status.iter().flat_map(|it| &it.flows);
        let reached: BTreeMap<_, _> = flows
            .flat_map(|flow| &flow.tasks)
            .flat_map(|task| &task.partitions)
            .filter(|it| it.lag_records == Some(0))
            .map(|it| ((it.topic.clone(), it.partition), it.source_end_offset))
            .collect();
        let at_end = |(partition, end): (&(String, i32), &i64)| {
            reached
                .get(partition)
                .is_some_and(|reached| reached.is_some_and(|it| *end <= it))
        };
        ends.iter().all(at_end)
    });
    screen.say(&format!(
        "lag 0 in all {} partitions after {}",
        ends.len(),
        span(started.elapsed())
    ));
    let gaps = daemon.counter("causeway_gaps_total");
    proof.add(
        "declared gaps",
        gaps.map_or("unknown".to_owned(), |it| it.to_string()),
        gaps == Some(0),
    );
    let [billing, fraud_check] = groups.map(Reader::close);
    screen.say(&format!(
        "In seoul, billing has read {} records and fraud-check {}.",
        grouped(billing),
        grouped(fraud_check)
    ));
    books
}

/// The independent check: Kafka's Java client reads both sides from end to end.
fn compare(screen: &mut Screen, clusters: &Clusters, books: Books) -> Vec<Proven> {
    screen.act("Both sides, read by Kafka's own Java client");
    let (seoul, busan) = (clusters.seoul.bootstrap(), clusters.busan.bootstrap());
    let topics = [PLACED, PAID, CUSTOMERS, PAYMENTS, REFUNDS];
    screen.say("  TOPIC             PARTITIONS    IN SEOUL    IN BUSAN  LOST  DUPLICATED  ORDER AND CONTENT");
    let mut sum = Compared::default();
    for topic in topics {
        let (from, to) = thread::scope(|scope| {
            let from = scope.spawn(|| oracle::digest(&seoul, topic, Isolation::ReadCommitted));
            let to = oracle::digest(&busan, topic, Isolation::ReadCommitted);
            (from.join().unwrap_or_else(|why| panic::resume_unwind(why)), to)
        });
        let it = Compared::of(&from, &to, topic != CUSTOMERS);
        screen.say(&format!(
            "  {topic:<17} {:>10}  {:>10}  {:>10}  {:>4}  {:>10}  {}",
            it.partitions,
            grouped(it.in_source),
            grouped(it.in_target),
            it.lost,
            it.duplicated,
            if it.equal == it.partitions {
                "equal"
            } else {
                "DIFFERENT"
            },
        ));
        sum.add(it);
    }
    let committed = oracle::digest(&seoul, PAYMENTS, Isolation::ReadCommitted).records;
    let all = oracle::digest(&seoul, PAYMENTS, Isolation::ReadUncommitted).records;
    let aborted = all - committed;
    let copied = oracle::dump(&busan, PAYMENTS, Isolation::ReadCommitted)
        .iter()
        .filter(|it| it.key.as_ref().is_some_and(|key| key.starts_with(b"declined")))
        .count();
    let expected = books.committed() + REFUND_COUNT as u64;
    let source_topics = oracle::topics(&seoul);
    let target_topics = oracle::topics(&busan);
    let mut ours = [&topics[..], &[CLICKS]].concat();
    ours.sort_unstable();

    let mut proof = Proof::default();
    proof.add(
        "records compared, seoul with busan",
        format!("{} with {}", grouped(sum.in_source), grouped(sum.in_target)),
        sum.in_source == sum.in_target && sum.in_source == expected,
    );
    proof.add(
        "acknowledged to the shop, and in busan",
        grouped(expected),
        sum.in_target == expected,
    );
    proof.add("lost", grouped(sum.lost), sum.lost == 0);
    proof.add("duplicated", grouped(sum.duplicated), sum.duplicated == 0);
    proof.add(
        "aborted payments in seoul, copied",
        format!("{}, {copied}", grouped(aborted)),
        copied == 0 && aborted == books.aborted && 0 < aborted,
    );
    proof.add(
        "partitions equal in order and content",
        format!("{} of {}, by SHA-256", sum.equal, sum.partitions),
        sum.equal == sum.partitions,
    );
    let untouched = source_topics == ours && !target_topics.iter().any(|it| it == CLICKS);
    proof.add(
        "no new topic in seoul, no web.clicks in busan",
        format!("{} and {} topics", source_topics.len(), target_topics.len()),
        untouched,
    );
    proof.0
}

/// What the comparison of a topic, or of several, has shown.
#[derive(Clone, Copy, Debug, Default)]
struct Compared {
    partitions: usize,
    equal: usize,
    in_source: u64,
    in_target: u64,
    lost: u64,
    duplicated: u64,
}

impl Compared {
    /// Equal partitions have neither lost nor gained anything. Otherwise the counts say what they can; where
    /// every key is unique, a repeated one is a duplicate.
    fn of(from: &Digest, to: &Digest, unique_keys: bool) -> Self {
        let pairs = || from.partitions.iter().zip(&to.partitions);
        let repeated = to.records - to.distinct_keys;
        let extra = to.records.saturating_sub(from.records);
        Self {
            partitions: from.partitions.len().max(to.partitions.len()),
            equal: pairs().filter(|(a, b)| a.sha256 == b.sha256).count(),
            in_source: from.records,
            in_target: to.records,
            lost: pairs().map(|(a, b)| a.records.saturating_sub(b.records)).sum(),
            duplicated: if unique_keys { extra.max(repeated) } else { extra },
        }
    }

    fn add(&mut self, it: Self) {
        self.partitions += it.partitions;
        self.equal += it.equal;
        self.in_source += it.in_source;
        self.in_target += it.in_target;
        self.lost += it.lost;
        self.duplicated += it.duplicated;
    }
}
