//! Positions of consumer groups through the process for groups, against real brokers, and its deaths.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use causeway::error::{Code, Side};
use causeway::kafka::admin::{Admin, GroupKind, GroupState};
use causeway::kafka::client::{ClusterConnection, Properties, Secret};
use causeway::kafka::groups::{Commit, GroupProcess, Groups, Positions};
use causeway::kafka::{ClusterAlias, TopicPartition};

use crate::harness::daemon::causeway;
use crate::harness::flow::connection;
use crate::harness::kafka::{SASL_PASSWORD, SASL_USER, kafka_version};
use crate::harness::oracle::{self, GroupCommit};
use crate::harness::{Cluster, ClusterOptions, free_port, pair, unique, wait_until};

const LONG: Duration = Duration::from_secs(30);

fn process() -> Arc<GroupProcess> {
    Arc::new(GroupProcess::of_program(causeway()))
}

fn groups_of(process: &Arc<GroupProcess>, cluster: &Cluster) -> Groups {
    let connection = connection("target", cluster);
    Groups::new(Arc::clone(process), connection, "test", Side::Target)
}

/// A cluster that does not answer.
fn nobody(alias: &str) -> ClusterConnection {
    ClusterConnection {
        alias: ClusterAlias::new(alias),
        bootstrap_servers: "127.0.0.1:1".into(),
        security: Properties::new(),
        client: Properties::new(),
        consumer: Properties::new(),
        producer: Properties::new(),
    }
}

fn target() -> Groups {
    groups_of(&process(), &pair().target)
}

fn topic(partitions: i32) -> String {
    let name = unique("positions");
    pair().target.create_topic(&name, partitions, &[]);
    name
}

fn at(offset: i64) -> Commit {
    Commit {
        offset,
        leader_epoch: None,
        metadata: String::new(),
    }
}

/// The same position in each partition.
fn everywhere(topic: &str, partitions: i32, commit: &Commit) -> BTreeMap<TopicPartition, Commit> {
    let topic: Arc<str> = topic.into();
    (0..partitions)
        .map(|number| (TopicPartition::new(Arc::clone(&topic), number), commit.clone()))
        .collect()
}

/// The newest protocol that brokers speak without being told to: KIP-848's since Kafka 4.0.
fn newest_protocol() -> (&'static str, GroupKind) {
    match kafka_version().starts_with("3.") {
        true => ("classic", GroupKind::Classic),
        false => ("consumer", GroupKind::Consumer),
    }
}

fn names(groups: &[&str]) -> Vec<String> {
    groups.iter().map(|&it| it.to_owned()).collect()
}

fn is_alive(pid: u32) -> bool {
    // A zombie would still be there.
    fs::exists(format!("/proc/{pid}")).unwrap()
}

fn kill9(pid: u32) {
    let status = Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
    assert!(status.unwrap().success());
}

#[test]
fn positions_of_all_kinds_of_groups_are_read_as_they_were_committed() {
    let cluster = &pair().target;
    let bootstrap = cluster.bootstrap();
    let topic = topic(2);
    let (simple, classic, newer, never) = (
        unique("simple"),
        unique("classic"),
        unique("newer"),
        unique("never"),
    );
    let records: Vec<_> = (0..7)
        .map(|n| oracle::NewRecord::new(&topic, n % 2, "k", "v"))
        .collect();
    oracle::produce(&bootstrap, &records, "none");
    let commit = GroupCommit {
        topic: topic.clone(),
        partition: 1,
        offset: 2,
        metadata: "líne\n\"quoted\" \u{1F980}\\ \u{7f}".into(),
        leader_epoch: Some(0),
    };
    oracle::assign_and_commit(&bootstrap, &simple, &commit);
    oracle::join_group(&bootstrap, &classic, &topic, "classic");
    oracle::join_group(&bootstrap, &newer, &topic, newest_protocol().0);

    let groups = names(&[&simple, &classic, &newer, &never]);
    let read = target().committed(&groups, LONG).unwrap();
    assert_eq!(read.len(), 4);
    let partition = |number| TopicPartition::new(topic.as_str(), number);
    let expected = Commit {
        offset: 2,
        leader_epoch: Some(0),
        metadata: commit.metadata.clone(),
    };
    assert_eq!(read[&simple], Ok([(partition(1), expected)].into()));
    assert_eq!(read[&never], Ok(BTreeMap::new()));
    for group in [&classic, &newer] {
        let offsets: Vec<_> = read[group]
            .as_ref()
            .unwrap()
            .values()
            .map(|it| it.offset)
            .collect();
        let witness: Vec<_> = oracle::group_commits(&bootstrap, group);
        assert_eq!(
            offsets,
            witness.iter().map(|it| it.offset).collect::<Vec<_>>(),
            "{group}"
        );
        assert_eq!(offsets.len(), 2, "{group}");
    }

    let admin = Admin::new(&connection("target", cluster), "test", Side::Target).unwrap();
    let listed = |group: &str| {
        let (groups, errors) = admin.list_groups(LONG).unwrap();
        assert_eq!(errors, []);
        groups.into_iter().find(|it| it.group == group)
    };
    let seen = |group| listed(group).map(|it| (it.state, it.kind, it.simple));
    wait_until("the members have their partitions", LONG, || {
        seen(&newer) == Some((GroupState::Stable, newest_protocol().1, false))
            && seen(&classic) == Some((GroupState::Stable, GroupKind::Classic, false))
    });
    assert_eq!(seen(&simple), Some((GroupState::Empty, GroupKind::Classic, true)));
    assert_eq!(seen(&never), None);
    oracle::leave_group(&bootstrap, &classic);
    oracle::leave_group(&bootstrap, &newer);
    wait_until("the members have left", LONG, || {
        seen(&newer) == Some((GroupState::Empty, newest_protocol().1, false))
            && seen(&classic) == Some((GroupState::Empty, GroupKind::Classic, false))
    });
}

#[test]
fn written_positions_carry_metadata_and_leader_epoch_byte_for_byte() {
    let topic = topic(3);
    let group = unique("written");
    let commits: BTreeMap<_, _> = [
        (0, 0, None, String::new()),
        (
            1,
            i64::MAX - 1,
            Some(0),
            "a\u{0}b\r\n\t\"\\ ünï \u{1F980}".to_owned(),
        ),
        (2, 5, Some(7), "x".repeat(4_000)),
    ]
    .map(|(number, offset, leader_epoch, metadata)| {
        let commit = Commit {
            offset,
            leader_epoch,
            metadata,
        };
        (TopicPartition::new(topic.as_str(), number), commit)
    })
    .into();
    let groups = target();
    // A coordinator that has just been given the group still loads.
    let mut written = groups
        .commit(&[(group.clone(), commits.clone())].into(), LONG)
        .unwrap();
    wait_until("the coordinator has loaded", LONG, || {
        let loads = matches!(&written[&group], Err(error) if error.code == Code::TargetUnavailable);
        if loads {
            written = groups
                .commit(&[(group.clone(), commits.clone())].into(), LONG)
                .unwrap();
        }
        !loads
    });
    assert_eq!(
        written[&group],
        Ok(commits.keys().map(|it| (it.clone(), Ok(()))).collect())
    );
    let witness: BTreeMap<_, _> = oracle::group_commits(&pair().target.bootstrap(), &group)
        .into_iter()
        .map(|it| {
            let commit = Commit {
                offset: it.offset,
                leader_epoch: it.leader_epoch,
                metadata: it.metadata,
            };
            (TopicPartition::new(it.topic, it.partition), commit)
        })
        .collect();
    assert_eq!(witness, commits);
    let read = groups.committed(&names(&[&group]), LONG).unwrap();
    assert_eq!(read[&group], Ok(commits));
}

#[test]
fn a_group_with_members_is_refused_and_others_in_the_same_call_are_written_and_deleted() {
    let bootstrap = pair().target.bootstrap();
    let topic = topic(1);
    let (classic, newer, free) = (unique("classic"), unique("newer"), unique("free"));
    oracle::join_group(&bootstrap, &classic, &topic, "classic");
    oracle::join_group(&bootstrap, &newer, &topic, newest_protocol().0);
    let groups = target();
    let positions: Positions = [&classic, &newer, &free]
        .map(|group| (group.clone(), everywhere(&topic, 1, &at(3))))
        .into();
    let written = groups.commit(&positions, LONG).unwrap();
    let deleted = groups.delete(&names(&[&classic, &newer]), LONG).unwrap();
    for group in [&classic, &newer] {
        for error in [
            written[group].as_ref().unwrap_err(),
            deleted[group].as_ref().unwrap_err(),
        ] {
            assert_eq!(error.code, Code::TargetGroupActive, "{error}");
            assert!(error.detail.contains(group.as_str()), "{error}");
        }
        assert_eq!(oracle::group_offsets(&bootstrap, group)[0].offset, 0);
    }
    let partition = TopicPartition::new(topic.as_str(), 0);
    assert_eq!(written[&free], Ok([(partition, Ok(()))].into()));
    assert_eq!(oracle::group_offsets(&bootstrap, &free)[0].offset, 3);

    oracle::leave_group(&bootstrap, &classic);
    oracle::leave_group(&bootstrap, &newer);
    let all = names(&[&classic, &newer, &free]);
    wait_until("groups without members are deleted", LONG, || {
        let deleted = groups.delete(&all, LONG).unwrap();
        assert_eq!(deleted.len(), 3);
        deleted.values().all(Result::is_ok)
    });
    let read = groups.committed(&all, LONG).unwrap();
    assert!(read.values().all(|it| *it == Ok(BTreeMap::new())), "{read:?}");
    // Deleted already: nothing is left to do.
    assert!(groups.delete(&all, LONG).unwrap().values().all(Result::is_ok));
}

#[test]
fn a_partition_that_cannot_be_written_does_not_hold_back_the_others() {
    let topic = topic(1);
    let (group, none) = (unique("partly"), unique("none"));
    let good = TopicPartition::new(topic.as_str(), 0);
    let missing = TopicPartition::new(unique("missing"), 0);
    let positions: Positions = [
        (
            group.clone(),
            [(good.clone(), at(1)), (missing.clone(), at(1))].into(),
        ),
        (none.clone(), everywhere(&topic, 1, &at(-1))),
    ]
    .into();
    let written = target().commit(&positions, LONG).unwrap();
    let partly = written[&group].as_ref().unwrap();
    assert_eq!(partly[&good], Ok(()));
    let error = partly[&missing].as_ref().unwrap_err();
    assert_eq!(error.code, Code::TargetTopicMissing, "{error}");
    assert!(written[&none].as_ref().unwrap()[&good].is_err());
}

#[test]
fn nothing_asked_is_nothing_answered_by_no_cluster() {
    let groups = target();
    assert!(groups.committed(&[], LONG).unwrap().is_empty());
    assert!(groups.delete(&[], LONG).unwrap().is_empty());
    assert!(groups.commit(&Positions::new(), LONG).unwrap().is_empty());
    let nothing: Positions = [("g".to_owned(), BTreeMap::new())].into();
    assert_eq!(groups.commit(&nothing, LONG).unwrap()["g"], Ok(BTreeMap::new()));
}

#[test]
fn a_cluster_that_is_away_is_an_error_of_the_call_and_holds_up_no_other_cluster() {
    let process = process();
    let here = groups_of(&process, &pair().target);
    here.committed(&names(&["a"]), LONG).unwrap();
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut away = nobody("nowhere");
    away.bootstrap_servers = mute.local_addr().unwrap().to_string();
    let away = Groups::new(Arc::clone(&process), away, "test", Side::Source);
    let waiting = thread::spawn(move || away.committed(&names(&["a", "b"]), Duration::from_secs(10)));
    // Somebody connects, so the request is being worked on.
    let _connection = mute.accept().unwrap();
    here.committed(&names(&["a"]), LONG).unwrap();
    assert!(!waiting.is_finished(), "the other cluster was waited for");
    let error = waiting.join().unwrap().unwrap_err();
    assert_eq!(error.code, Code::SourceUnreachable, "{error}");
    assert!(error.detail.contains("nowhere"), "{error}");
}

#[test]
fn a_process_that_is_killed_is_started_again_by_the_next_call() {
    let process = process();
    let groups = groups_of(&process, &pair().target);
    let all = names(&["a"]);
    assert_eq!(process.pid(), None, "nobody has needed it yet");
    groups.committed(&all, LONG).unwrap();
    let first = process.pid().unwrap();
    kill9(first);
    // Between calls: either nobody has noticed, or the call comes just in time to see it.
    wait_until("the next call works", LONG, || {
        groups.committed(&all, LONG).is_ok()
    });
    let second = process.pid().unwrap();
    assert_ne!(first, second);
    assert!(!is_alive(first), "no zombie");

    // During a call: nobody answers for this cluster, so the call lasts.
    let mut mute = connection("mute", &pair().target);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    mute.bootstrap_servers = listener.local_addr().unwrap().to_string();
    let mute = Groups::new(Arc::clone(&process), mute, "test", Side::Target);
    let asked = thread::spawn(move || mute.committed(&names(&["a"]), LONG));
    // The child connects, so it has the request.
    let connection = listener.accept().unwrap();
    let killed = Instant::now();
    kill9(second);
    let error = asked.join().unwrap().unwrap_err();
    assert!(killed.elapsed() < Duration::from_secs(10));
    assert_eq!(error.code, Code::GroupProcessEnded, "{error}");
    assert!(error.detail.contains("signal: 9"), "{error}");
    drop(connection);
    groups.committed(&all, LONG).unwrap();
    let third = process.pid().unwrap();
    assert!(!is_alive(second) && third != second);

    drop(groups);
    drop(process);
    wait_until("it ends when nobody needs it any more", LONG, || !is_alive(third));
}

#[test]
fn a_process_that_hangs_is_killed_and_replaced() {
    let process = process();
    let groups = groups_of(&process, &pair().target);
    let all = names(&["a"]);
    groups.committed(&all, LONG).unwrap();
    let first = process.pid().unwrap();
    let stopped = Command::new("kill").arg("-STOP").arg(first.to_string()).status();
    assert!(stopped.unwrap().success());
    // More than the pipe takes: whoever writes must not hang with it.
    let many: Vec<String> = (0..50_000).map(|n| format!("group-{n}")).collect();
    let error = groups.committed(&many, Duration::from_millis(100)).unwrap_err();
    assert_eq!(error.code, Code::GroupProcessEnded, "{error}");
    wait_until("the next call works", LONG, || {
        groups.committed(&all, LONG).is_ok()
    });
    assert_ne!(process.pid().unwrap(), first);
    assert!(!is_alive(first));
}

#[test]
fn the_process_ends_with_a_parent_that_is_killed() {
    let mut parent = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "groups::a_parent", "--ignored", "--nocapture"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pid = BufReader::new(parent.stdout.take().unwrap())
        .lines()
        .map_while(io::Result::ok)
        .find_map(|line| line.split_once("process for groups ")?.1.parse().ok())
        .unwrap();
    assert!(is_alive(pid));
    kill9(parent.id());
    parent.wait().unwrap();
    wait_until("the process ends too", LONG, || !is_alive(pid));
}

#[test]
#[ignore = "the parent that is killed in the_process_ends_with_a_parent_that_is_killed"]
fn a_parent() {
    let process = process();
    let away = Groups::new(Arc::clone(&process), nobody("away"), "test", Side::Target);
    let asked = thread::spawn(move || away.committed(&names(&["a"]), LONG));
    wait_until("the process runs", LONG, || process.pid().is_some());
    println!("process for groups {}", process.pid().unwrap());
    let _ = asked.join();
}

#[test]
fn refused_credentials_and_missing_rights_are_told_apart_and_the_password_is_nowhere_to_be_seen() {
    // Nothing is granted.
    let cluster = ClusterOptions::new("rights").acls().start();
    let process = process();
    let groups = |password: &str, side| {
        let mut connection = connection("rights", &cluster);
        connection.bootstrap_servers = cluster.sasl_bootstrap();
        for (key, value) in [
            ("security.protocol", "sasl_plaintext"),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", SASL_USER),
            ("sasl.password", password),
        ] {
            connection.security.insert(key.into(), Secret::new(value));
        }
        Groups::new(Arc::clone(&process), connection, "test", side)
    };
    let all = names(&["a", "b"]);
    for (side, code) in [
        (Side::Source, Code::SourceGroupNotAuthorized),
        (Side::Target, Code::TargetGroupNotAuthorized),
    ] {
        let read = groups(SASL_PASSWORD, side).committed(&all, LONG).unwrap();
        assert_eq!(read.len(), 2);
        for outcome in read.values() {
            let error = outcome.as_ref().unwrap_err();
            assert_eq!(error.code, code, "{error}");
        }
    }
    let wrong = groups("hunter2", Side::Target);
    let error = wrong.committed(&all, Duration::from_secs(2)).unwrap_err();
    assert_eq!(error.code, Code::TargetAuthentication, "{error}");

    assert!(!format!("{error} {wrong:?}").contains("hunter2"));
    let pid = process.pid().unwrap();
    for file in ["cmdline", "environ"] {
        let shown = fs::read(format!("/proc/{pid}/{file}")).unwrap();
        let shown = String::from_utf8_lossy(&shown);
        assert!(
            !shown.contains("hunter2") && !shown.contains(SASL_PASSWORD),
            "{file}"
        );
    }
}

/// Passes connections on to a broker, and cuts them all when told to.
struct Proxy {
    port: u16,
    connections: Arc<Mutex<Vec<TcpStream>>>,
}

impl Proxy {
    fn to(broker: u16) -> Self {
        let listener = loop {
            if let Ok(listener) = TcpListener::bind(("127.0.0.1", free_port())) {
                break listener;
            }
        };
        let port = listener.local_addr().unwrap().port();
        let connections: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let known = Arc::clone(&connections);
        thread::spawn(move || {
            for client in listener.incoming().map_while(io::Result::ok) {
                let Ok(server) = TcpStream::connect(("127.0.0.1", broker)) else {
                    continue;
                };
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                known.lock().unwrap().push(client);
            }
        });
        Self { port, connections }
    }

    fn cut(&self) {
        for connection in self.connections.lock().unwrap().drain(..) {
            let _ = connection.shutdown(Shutdown::Both);
        }
    }
}

#[test]
fn connections_that_drop_during_hundreds_of_calls_end_at_most_the_process_for_groups() {
    let port = free_port();
    let proxy = Proxy::to(port);
    let advertised = format!("PLAINTEXT://127.0.0.1:{}", proxy.port);
    let cluster = ClusterOptions::new("cut")
        .port(port)
        .property("advertised.listeners", &advertised)
        .start();
    cluster.create_topic("t", 1, &[]);
    let process = process();
    let mut connection = connection("cut", &cluster);
    connection.bootstrap_servers = format!("127.0.0.1:{}", proxy.port);
    let groups = Groups::new(Arc::clone(&process), connection, "test", Side::Target);
    let positions: Positions = (0..600)
        .map(|n| (format!("g-{n}"), everywhere("t", 1, &at(n))))
        .collect();
    let all: Vec<String> = positions.keys().cloned().collect();
    wait_until("the coordinator is there", LONG, || {
        let written = groups.commit(&positions, LONG);
        written.is_ok_and(|it| it.values().all(Result::is_ok))
    });

    let (mut failed, mut ended, mut whole) = (0, 0, 0);
    for round in 0..60_u64 {
        thread::scope(|scope| {
            let asked = scope.spawn(|| match round % 3 {
                0 => groups.commit(&positions, Duration::from_secs(2)).map(|it| {
                    let failed = it.values().filter(|it| it.is_err()).count();
                    (it.len(), failed)
                }),
                _ => groups.committed(&all, Duration::from_secs(2)).map(|it| {
                    let failed = it.values().filter(|it| it.is_err()).count();
                    (it.len(), failed)
                }),
            });
            for cut in 0..3 {
                thread::sleep(Duration::from_millis(5 + (round * 7 + cut * 13) % 40));
                proxy.cut();
            }
            match asked.join().unwrap() {
                Ok((answered, with_errors)) => {
                    assert_eq!(answered, 600);
                    failed += usize::from(0 < with_errors);
                    whole += usize::from(with_errors == 0);
                }
                Err(error) if error.code == Code::GroupProcessEnded => ended += 1,
                Err(error) => {
                    assert_eq!(error.code, Code::TargetUnreachable, "{error}");
                    failed += 1;
                }
            }
        });
    }
    println!("{whole} rounds whole, {failed} with errors, the process ended in {ended}");
    assert!(0 < failed + ended, "the cuts came at the wrong time");
    wait_until("all is well again", LONG, || {
        let read = groups.committed(&all, LONG);
        read.is_ok_and(|it| it.len() == 600 && it.values().all(Result::is_ok))
    });

    // A broker that dies and comes back.
    let asked = thread::spawn({
        let (groups, all) = (groups.clone(), all.clone());
        move || groups.committed(&all, Duration::from_secs(2))
    });
    cluster.kill9();
    drop(asked.join().unwrap());
    let error = groups.committed(&all, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.code, Code::TargetUnreachable, "{error}");
    cluster.restart();
    wait_until("the broker is asked again", 2 * LONG, || {
        let read = groups.committed(&all, LONG);
        read.is_ok_and(|it| it.values().all(|it| it.as_ref().is_ok_and(|it| it.len() == 1)))
    });
}

#[test]
#[ignore = "a measurement; run it alone"]
fn five_thousand_groups_and_ten_thousand_partitions_are_read_in_a_second() {
    let cluster = ClusterOptions::new("many").start();
    cluster.create_topic("t", 3, &[]);
    // A broker takes no more at once.
    cluster.create_topic("wide", 5_000, &[]);
    cluster.grow_topic("wide", 10_000);
    let process = process();
    let groups = groups_of(&process, &cluster);
    let positions: Positions = (0..5_000)
        .map(|n| (format!("group-{n:05}"), everywhere("t", 3, &at(n))))
        .collect();
    let all: Vec<String> = positions.keys().cloned().collect();
    let measured = |what: &str, act: &mut dyn FnMut()| {
        let pid = process.pid().unwrap();
        let cpu = || {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            let fields: Vec<u64> = stat
                .rsplit_once(')')
                .unwrap()
                .1
                .split_whitespace()
                .skip(11)
                .take(2)
                .map(|it| it.parse().unwrap())
                .collect();
            Duration::from_millis((fields[0] + fields[1]) * 10)
        };
        let rss = || {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
            let of = |name: &str| status.lines().find(|l| l.starts_with(name)).unwrap().to_owned();
            (of("VmRSS"), of("VmHWM"))
        };
        let (started, before) = (Instant::now(), cpu());
        act();
        println!(
            "{what}: {:?}, CPU of the process {:?}, {:?}",
            started.elapsed(),
            cpu() - before,
            rss()
        );
    };
    wait_until("the coordinator is there", LONG, || {
        groups
            .commit(&[("first".into(), everywhere("t", 3, &at(0)))].into(), LONG)
            .is_ok_and(|it| it["first"].is_ok())
    });
    for _ in 0..3 {
        measured("5,000 groups × 3 written", &mut || {
            let written = groups.commit(&positions, LONG).unwrap();
            assert!(
                written
                    .values()
                    .all(|it| it.as_ref().unwrap().values().all(Result::is_ok))
            );
        });
    }
    for _ in 0..5 {
        measured("5,000 groups × 3 read", &mut || {
            let read = groups.committed(&all, LONG).unwrap();
            assert!(
                read.iter()
                    .all(|(group, it)| *it.as_ref().unwrap() == positions[group])
            );
        });
    }
    let wide: Positions = [("wide".to_owned(), everywhere("wide", 10_000, &at(1)))].into();
    for _ in 0..3 {
        measured("1 group × 10,000 written", &mut || {
            let written = groups.commit(&wide, LONG).unwrap();
            assert!(written["wide"].as_ref().unwrap().values().all(Result::is_ok));
        });
        measured("1 group × 10,000 read", &mut || {
            let read = groups.committed(&names(&["wide"]), LONG).unwrap();
            assert_eq!(*read["wide"].as_ref().unwrap(), wide["wide"]);
        });
    }
    let admin = Admin::new(&connection("target", &cluster), "test", Side::Target).unwrap();
    let started = Instant::now();
    assert_eq!(admin.list_groups(LONG).unwrap().0.len(), 5_002);
    println!("5,002 groups listed: {:?}", started.elapsed());
    measured("5,000 groups deleted", &mut || {
        assert!(groups.delete(&all, LONG).unwrap().values().all(Result::is_ok));
    });
    io::stdout().flush().unwrap();
}
