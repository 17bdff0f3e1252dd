use std::collections::BTreeSet;

use proptest::prelude::*;

use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaConfRes;

use super::cluster::COMMON_PROPERTIES;
use super::schema::{Key, Kind, Presence};
use super::*;
use crate::cli::reference::example;
use crate::kafka::client::OWNED;
use crate::topology::{self, keys::TopologyFile};

/// Calls `see` with every key of a table and of the tables inside.
fn every_key(table: &'static [Key], see: &mut dyn FnMut(&'static Key)) {
    for key in table {
        see(key);
        match &key.kind {
            Kind::Table(inner)
            | Kind::WordOr(_, inner)
            | Kind::Each {
                value: Kind::Table(inner),
                ..
            } => every_key(inner(), see),
            _ => {}
        }
    }
}

#[test]
fn every_default_is_a_valid_value_of_its_key() {
    // A section takes its defaults when it is read, whatever else is wrong.
    parse_anything("clusters: { a: }\nflows: { a->b: { on_gap: {} } }");
}

#[test]
fn the_reference_is_yaml_and_holds_every_key_with_its_default() {
    let reference = example();
    for table in [table(), topology::table()] {
        every_key(table, &mut |key| {
            assert!(reference.contains(&format!("{}:", key.name)), "{}", key.name);
            if let Presence::Default(text) = key.presence {
                assert!(
                    reference.contains(&format!("{}: {text}\n", key.name)),
                    "{}",
                    key.name
                );
            }
        });
    }
    let (config, topology) = reference.split_once("\n---\n").unwrap();
    for text in [config, topology] {
        let mut problems = Problems::new(Path::new("reference"));
        assert!(yaml::parse(text, &mut problems).is_some());
        assert_eq!(problems.into_vec(), []);
    }
    assert!(reference.lines().all(|line| line.chars().count() <= 110));
}

#[test]
fn the_json_schema_has_the_same_keys_as_the_table() {
    fn keys_of(schema: &serde_json::Value, keys: &mut BTreeSet<String>) {
        if let Some(properties) = schema["properties"].as_object() {
            for (name, inner) in properties {
                keys.insert(name.clone());
                keys_of(inner, keys);
            }
        }
        for inner in schema["anyOf"].as_array().into_iter().flatten() {
            keys_of(inner, keys);
        }
        if schema["additionalProperties"].is_object() {
            keys_of(&schema["additionalProperties"], keys);
        }
    }
    let topology = topology::json_schema();
    for (schema, table) in [
        (&json_schema("", table()), table()),
        (&topology, topology::table()),
    ] {
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
        assert_eq!(schema["additionalProperties"], false);
        let mut expected = BTreeSet::new();
        every_key(table, &mut |key| {
            expected.insert(key.name.to_owned());
            if let Kind::Secret = key.kind {
                expected.insert(format!("{}_file", key.name));
            }
        });
        let mut found = BTreeSet::new();
        keys_of(schema, &mut found);
        assert_eq!(found, expected);
    }
    assert_eq!(topology["required"], serde_json::json!(["name", "pattern"]));
    let tasks = &topology["properties"]["replication"]["properties"]["tasks"];
    assert_eq!(tasks["default"], 4);
    assert_eq!(tasks["anyOf"][0]["maximum"], 1000);
    assert_eq!(
        topology["allOf"][2]["then"]["required"],
        serde_json::json!(["hub", "spokes"])
    );
}

#[test]
fn every_property_suggested_exists_and_is_not_one_of_ours() {
    for name in COMMON_PROPERTIES.split_whitespace() {
        let result = ClientConfig::new().set(name, "x").create_native_config();
        let unknown = matches!(
            result,
            Err(KafkaError::ClientConfig(
                RDKafkaConfRes::RD_KAFKA_CONF_UNKNOWN,
                ..
            ))
        );
        assert!(!unknown, "{name}");
        assert!(OWNED.iter().all(|(owned, _)| *owned != name), "{name}");
    }
}

/// Loads a config file from text.
fn config(text: &str, env: &[(&str, &str)]) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("c.yaml");
    std::fs::write(&path, text).unwrap();
    let env = |name: &str| {
        env.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, value)| (*value).to_owned())
    };
    let (config, mut problems) = load(&path, &env, &read::read_text);
    problems.sort();
    for problem in &mut problems {
        problem.file = "c.yaml".into();
    }
    let shown: Vec<String> = problems.iter().map(|p| format!("{p}\n")).collect();
    match config {
        Some(config) if shown.is_empty() => Ok(config),
        _ => Err(shown.concat()),
    }
}

#[test]
fn the_secure_example_loads_and_shows_no_secret() {
    let directory = tempfile::tempdir().unwrap();
    for file in [
        "seoul-ca.pem",
        "busan-ca.pem",
        "daegu-ca.pem",
        "causeway.pem",
        "causeway.key",
    ] {
        std::fs::write(directory.path().join(file), "x").unwrap();
    }
    std::fs::write(directory.path().join("busan-password"), "from-a-file\n").unwrap();
    let certificates = directory.path().to_str().unwrap();
    let env = |name: &str| match name {
        "CERTIFICATES" => Some(certificates.to_owned()),
        "SEOUL_PASSWORD" => Some("hunter2".to_owned()),
        "KEY_PASSWORD" => Some("sesame".to_owned()),
        _ => None,
    };
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config/secure.yaml");
    let (config, problems) = load(&path, &env, &read::read_text);
    assert_eq!(problems, []);
    let config = config.unwrap();
    let client = |alias: &str| config.clusters[&ClusterAlias::new(alias)].admin("c");
    let seoul = client("seoul");
    for (property, value) in [
        (
            "bootstrap.servers",
            "seoul-1.example.com:9093,seoul-2.example.com:9093",
        ),
        ("security.protocol", "sasl_ssl"),
        ("sasl.mechanism", "SCRAM-SHA-512"),
        ("sasl.username", "causeway"),
        ("sasl.password", "hunter2"),
        ("ssl.ca.location", &format!("{certificates}/seoul-ca.pem")),
        ("ssl.endpoint.identification.algorithm", "https"),
        ("client.rack", "seoul-a"),
    ] {
        assert_eq!(seoul.get(property), Some(value), "{property}");
    }
    assert_eq!(client("busan").get("sasl.password"), Some("from-a-file"));
    assert_eq!(client("daegu").get("ssl.key.password"), Some("sesame"));
    let shown = format!("{config:?}");
    assert!(
        ["hunter2", "sesame", "from-a-file"]
            .iter()
            .all(|secret| !shown.contains(secret))
    );
    for alias in ["seoul", "busan", "daegu"] {
        assert!(client(alias).create_native_config().is_ok(), "{alias}");
    }
}

#[test]
fn absent_keys_take_their_defaults() {
    let config = config("clusters: { a: { bootstrap_servers: 'h:1' } }", &[]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:8083");
    assert_eq!(config.memory_budget, 256 << 20);
    assert_eq!(config.drain_timeout, Duration::from_secs(10));
    assert!(!config.instance.is_empty());
    let client = config.clusters[&ClusterAlias::new("a")].admin("c");
    assert_eq!(client.get("security.protocol"), Some("plaintext"));
}

/// What `shown` says of each case of a file like `mistakes.txt`, below what was written. It is told what is expected.
pub(crate) fn mistakes(file: &str, shown: impl Fn(&str, &str) -> String) -> String {
    let cases = file.split("=====\n").map(|case| {
        let (text, expected) = case.split_once(">>>>>\n").expect("an input and what it leads to");
        format!("{text}>>>>>\n{}", shown(text, expected))
    });
    cases.collect::<Vec<_>>().join("=====\n")
}

#[test]
fn every_mistake_has_its_place_and_a_way_out() {
    let shown = mistakes(include_str!("mistakes.txt"), |text, expected| {
        let env = [("EMPTY", ""), ("SECRET", "hunter2")];
        let found = config(text, &env).expect_err(text);
        assert!(!found.contains("hunter2"), "{found}");
        let other_build = cfg!(any(feature = "oidc", feature = "gssapi"));
        if other_build && expected.contains("built without") {
            return expected.to_owned();
        }
        found
    });
    expect_test::expect_file!["mistakes.txt"].assert_eq(&shown);
}

const VALID: &str = include_str!("../../config/secure.yaml");

fn parse_anything(text: &str) {
    let mut problems = Problems::new(Path::new("x"));
    let env = |name: &str| name.len().is_multiple_of(2).then(|| name.to_owned());
    let Some(tree) = yaml::parse(text, &mut problems) else {
        assert!(!problems.is_empty(), "no tree and no reason");
        return;
    };
    let mut reader = Reader {
        env: &env,
        problems: &mut problems,
    };
    reader.document::<ConfigFile>(&tree);
    reader.document::<TopologyFile>(&tree);
}

#[test]
fn hostile_files_end_in_a_problem_and_soon() {
    let started = std::time::Instant::now();
    for text in [
        "[".repeat(1 << 20),
        "{".repeat(1 << 20),
        "a: ".repeat(1 << 18),
        "- ".repeat(1 << 18),
        "? ".repeat(1 << 18),
        " ".repeat(1 << 20),
        "\t".repeat(1 << 16),
        "&a ".repeat(1 << 16),
        "!".repeat(1 << 16),
        "\"".repeat(1 << 16),
        format!("a: {}", "x".repeat(1 << 20)),
        format!("a: \"{}", "\\x".repeat(1 << 16)),
        "a: 1\n".repeat(1 << 14),
        (0..200_000).map(|i| format!("k{i}: 1\n")).collect(),
        "\u{feff}clusters: {}".to_owned(),
        "a: &x [*x, *x]".to_owned(),
        "%YAML 9.9\n---\na".to_owned(),
        "a: |\n  x\n b".to_owned(),
    ] {
        parse_anything(&text);
    }
    assert!(
        started.elapsed() < Duration::from_secs(20),
        "{:?}",
        started.elapsed()
    );
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in any::<String>()) {
        parse_anything(&text);
    }

    #[test]
    fn no_yaml_like_text_makes_the_reader_panic(text in r##"([a-z]{0,3}|[ \n\t:?&*!|>%@`'"#\[\]{},$-]|clusters|name|\$\{|\}|- |: |\n  ){0,60}"##) {
        parse_anything(&text);
    }

    #[test]
    fn no_damage_to_a_valid_file_makes_the_reader_panic(
        cuts in prop::collection::vec((any::<prop::sample::Index>(), any::<char>(), any::<bool>()), 1..8),
    ) {
        let mut text: Vec<char> = VALID.chars().collect();
        for (index, c, replace) in cuts {
            let at = index.index(text.len());
            if replace { text[at] = c; } else { text.remove(at); }
        }
        parse_anything(&text.into_iter().collect::<String>());
    }
}
