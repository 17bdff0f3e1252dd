//! `causeway import mm2` as an operator runs it. What it writes and says for each example in `tests/import/`
//! stands in `tests/import/expected/`; `make expect` writes that anew, to be read before it is committed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use expect_test::expect_file;
use serde_json::Value;

use crate::harness::daemon::causeway;
use crate::harness::process::Scratch;

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/import")
}

/// Runs in the directory of the examples, so that they are named without it.
fn run(arguments: &[&str]) -> (i32, String, String) {
    let mut command = Command::new(causeway());
    for variable in ["CAUSEWAY_CONFIG", "CAUSEWAY_TOPOLOGY", "CAUSEWAY_LOG"] {
        command.env_remove(variable);
    }
    ran(command.args(arguments).current_dir(examples()))
}

fn ran(command: &mut Command) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().expect("causeway starts");
    let text = |bytes| String::from_utf8(bytes).expect("text");
    (
        status.code().expect("no signal ended it"),
        text(stdout),
        text(stderr),
    )
}

fn json(name: &str) -> Value {
    let (code, stdout, stderr) = run(&["import", "mm2", name, "--output", "json"]);
    assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
    serde_json::from_str(&stdout).expect("JSON")
}

fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(examples())
        .expect("a readable directory")
        .map(|entry| entry.expect("a readable entry"))
        .filter(|entry| entry.path().is_file())
        .map(|entry| entry.file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    assert!(6 <= names.len(), "{names:?}");
    names
}

#[test]
fn each_example_gives_the_files_and_the_report_that_are_expected() {
    for name in names() {
        let (code, report, stderr) = run(&["import", "mm2", &name]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        let found = json(&name);
        let text = |number: usize| {
            found["files"][number]["text"]
                .as_str()
                .expect("a text")
                .to_owned()
        };
        for (end, text) in [
            ("config.yaml", text(0)),
            ("topology.yaml", text(1)),
            ("report.txt", report),
        ] {
            let path = examples().join("expected").join(format!("{name}.{end}"));
            expect_file![path].assert_eq(&text);
        }
    }
}

#[test]
fn what_is_written_validates_once_its_variables_are_set() {
    for name in names() {
        let directory = Scratch::new("import");
        let below = directory.path().to_str().expect("UTF-8");
        let (code, _, stderr) = run(&["import", "mm2", &name, "--output-dir", below]);
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        let found = json(&name);
        let topology = found["topology"].as_str().expect("a name");
        let file = directory.path().join("some.pem");
        fs::write(&file, "x").expect("the directory is ours");
        let mut command = Command::new(causeway());
        for variable in found["variables"].as_array().expect("a list") {
            let value = match variable["holds"].as_str().expect("a word") {
                "path" => file.to_str().expect("UTF-8"),
                "addresses" => "localhost:9092",
                _ => "x",
            };
            command.env(variable["name"].as_str().expect("a name"), value);
        }
        let (code, stdout, stderr) = ran(command
            .arg("validate")
            .arg("--config")
            .arg(directory.path().join(format!("config/{topology}.yaml")))
            .arg("--topology")
            .arg(directory.path().join(format!("topologies/{topology}.yaml"))));
        assert_eq!((code, stderr.as_str()), (0, ""), "{name}");
        assert!(stdout.ends_with(": ok\n"), "{stdout}");
        assert_eq!(found["left_to_do"], Value::Array(Vec::new()), "{name}");
    }
}

#[test]
fn the_flow_wins_over_the_cluster_and_the_cluster_over_the_top() {
    let found = json("hub.properties");
    let of = |line: u64| {
        let keys = found["keys"].as_array().expect("a list");
        let key = keys
            .iter()
            .find(|it| it["line"] == line)
            .expect("a key of that line");
        (
            key["key"].as_str().expect("text").to_owned(),
            key["class"].as_str().expect("text").to_owned(),
            key["text"].as_str().expect("text").to_owned(),
        )
    };
    for (line, key, class, says) in [
        (10, "tasks.max", "no_equivalent", "line 65 overrides it"),
        (
            27,
            "producer.linger.ms",
            "no_equivalent",
            "ignores client settings at the top level",
        ),
        (
            28,
            "exactly.once.source.support",
            "no_equivalent",
            "<target>.exactly.once",
        ),
        (
            37,
            "central.producer.linger.ms",
            "carried_over",
            "clusters.central.producer.linger.ms",
        ),
        (54, "busan->central.topics", "carried_over", "topics.include"),
        (
            56,
            "daegu->central.consumer.fetch.max.wait.ms",
            "no_equivalent",
            "line 57 overrides it",
        ),
        (
            59,
            "daegu->central.producer.linger.ms",
            "no_equivalent",
            "offset syncs only",
        ),
    ] {
        let (found_key, found_class, text) = of(line);
        assert_eq!((found_key.as_str(), found_class.as_str()), (key, class));
        assert!(text.contains(says), "{text}");
    }
}

#[test]
fn secrets_appear_in_nothing_that_is_written_or_said() {
    let input = fs::read_to_string(examples().join("secrets.properties")).expect("an example");
    assert!(8 <= input.matches("hunter2").count());
    let directory = Scratch::new("import");
    let below = directory.path().to_str().expect("UTF-8");
    let (_, report, stderr) = run(&[
        "import",
        "mm2",
        "secrets.properties",
        "--output-dir",
        below,
        "--log",
        "trace",
    ]);
    let mut all = report + &stderr + &json("secrets.properties").to_string();
    for file in ["config/secrets.yaml", "topologies/secrets.yaml"] {
        all += &fs::read_to_string(directory.path().join(file)).expect("it was written");
    }
    // And when the file has a mistake on every line that holds one.
    let broken = directory.path().join("broken.properties");
    fs::write(
        &broken,
        format!(
            "{input}\na->b.tasks.max = hunter2\na.security.protocol = hunter2\nb.bootstrap.servers=hunter2\n"
        ),
    )
    .expect("the directory is ours");
    let (code, stdout, stderr) = run(&["import", "mm2", broken.to_str().expect("UTF-8")]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    // An address is no secret: it is shown, as `causeway validate` shows it.
    all += &stderr.replace("`hunter2` has no port", "");
    assert!(!all.contains("hunter2"), "{all}");
    assert!(all.contains("A_PASSWORD"));
}

#[test]
fn nothing_is_written_unasked_and_nothing_is_overwritten_unforced() {
    let directory = Scratch::new("import");
    let input = directory.path().join("mm2.properties");
    let text = fs::read_to_string(examples().join("connect-mirror-maker.properties")).expect("an example");
    fs::write(&input, text).expect("the directory is ours");
    let import = |more: &[&str]| {
        let mut command = Command::new(causeway());
        ran(command
            .args(["import", "mm2", "mm2.properties"])
            .args(more)
            .current_dir(directory.path()))
    };
    let files = || {
        fs::read_dir(directory.path())
            .expect("a readable directory")
            .count()
    };

    let (code, stdout, _) = import(&[]);
    assert_eq!((code, files()), (0, 1));
    assert!(stdout.contains("would write config/mm2.yaml\n"), "{stdout}");

    let (code, stdout, _) = import(&["--output-dir", "out"]);
    assert_eq!(code, 0);
    assert!(
        stdout.contains("\nwrote out/config/mm2.yaml\nwrote out/topologies/mm2.yaml\n"),
        "{stdout}"
    );

    // One of the two is enough to leave both alone.
    let (config, topology) = (
        directory.path().join("out/config/mm2.yaml"),
        directory.path().join("out/topologies/mm2.yaml"),
    );
    fs::remove_file(&config).expect("it was written");
    fs::write(&topology, "mine").expect("it was written");
    let (code, stdout, stderr) = import(&["--output-dir", "out"]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    assert!(
        stderr.contains("topologies/mm2.yaml exists; give --force"),
        "{stderr}"
    );
    assert!(!config.exists());
    assert_eq!(fs::read_to_string(&topology).expect("it is there"), "mine");

    let (code, ..) = import(&["--output-dir", "out", "--force"]);
    assert_eq!(code, 0);
    assert!(
        config.exists()
            && fs::read_to_string(&topology)
                .expect("it is there")
                .contains("pattern:")
    );

    let (code, _, stderr) = import(&["--output-dir", "mm2.properties"]);
    assert_eq!(code, 1, "a directory that cannot be made is a failure: {stderr}");
}

#[test]
fn bad_input_is_shown_with_its_places_and_exit_code_2() {
    let directory = Scratch::new("import");
    let path = directory.path().join("bad.properties");
    fs::write(
        &path,
        "clusters = a, b\na.bootstrap.servers = a:1\nb.bootstrap.servers = b\n\n  a->b.enabled = perhaps\n",
    )
    .expect("the directory is ours");
    let (code, stdout, stderr) = run(&["import", "mm2", path.to_str().expect("UTF-8")]);
    assert_eq!((code, stdout.as_str()), (2, ""));
    for expected in [
        "bad.properties:5:3: `enabled` must be true or false",
        "\n  hint: ",
        "bad.properties:3:1: the addresses must be host:port",
    ] {
        assert!(stderr.contains(expected), "{expected}\n{stderr}");
    }
    let (code, _, stderr) = run(&["import", "mm2", "absent.properties"]);
    assert_eq!(code, 2);
    assert!(
        stderr.contains("absent.properties:1:1: cannot read the file"),
        "{stderr}"
    );
}
