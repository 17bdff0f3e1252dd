//! The rules of the source tree that the compiler does not know. Each failure says what to do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use causeway::cli::reference::Page;
use causeway::error::Code;
use causeway::metrics;
use clap::ValueEnum;

/// Modules, lowest layer first. A module names modules of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["error", "status", "telemetry"],
    &["kafka"],
    &["mm2", "names", "offset_map"],
    &["config"],
    &["topology"],
    &["metrics", "state"],
    &["context"],
    &["copy"],
    &["services"],
    &["operations"],
    &["flow", "import"],
    &["supervisor"],
    &["api"],
    &["cli"],
];

/// The only files that may talk to librdkafka's C interface themselves.
const UNSAFE: &[&str] = &[
    "src/kafka/admin.rs",
    "src/kafka/consumer.rs",
    "src/kafka/groups/native.rs",
    "src/kafka/native.rs",
    "src/kafka/producer.rs",
];

/// Every source file with its path below the package and its text.
fn sources() -> Vec<(String, String)> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.is_dir() {
                collect(&path, files);
            } else if path.extension().is_some_and(|it| it == "rs") {
                files.push(path);
            }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    collect(&root.join("src"), &mut files);
    files.sort();
    files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).expect("UTF-8");
            let path = path.strip_prefix(root).expect("below the package");
            (path.to_str().expect("UTF-8").to_owned(), text)
        })
        .collect()
}

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).expect(path)
}

/// The text without its comment lines.
fn code(text: &str) -> String {
    text.lines()
        .filter(|line| !line.trim_start().starts_with("//"))
        .collect::<Vec<_>>()
        .join("\n")
}

/// `src/copy/task.rs` belongs to `copy`.
fn module(path: &str) -> &str {
    let inside = path.strip_prefix("src/").expect("a source file");
    inside.split(['/', '.']).next().expect("split gives one part")
}

/// The top-level modules named as `crate::name` or inside `crate::{…}`.
fn named(code: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    for (start, found) in code.match_indices("crate::") {
        let rest = &code[start + found.len()..];
        match rest.strip_prefix('{') {
            None => names.extend(first_word(rest)),
            Some(group) => {
                let mut depth = 0;
                let mut expects_name = true;
                for (at, c) in group.char_indices() {
                    match c {
                        '}' if depth == 0 => break,
                        '{' => depth += 1,
                        '}' => depth -= 1,
                        ',' if depth == 0 => expects_name = true,
                        c if expects_name && c.is_alphabetic() => {
                            names.extend(first_word(&group[at..]));
                            expects_name = false;
                        }
                        _ => {}
                    }
                }
            }
        }
    }
    names
}

fn first_word(text: &str) -> Option<&str> {
    let end = text
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(text.len());
    (0 < end).then(|| &text[..end])
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

#[test]
fn the_scanner_finds_the_modules_a_file_names() {
    let text =
        "use crate::kafka::{client, admin};\nuse crate::{error::Code, flow::{task, x}, api};\ncrate::cli";
    let expected = BTreeSet::from(["api", "cli", "error", "flow", "kafka"]);
    assert_eq!(named(text), expected);
}

#[test]
fn a_module_names_only_lower_layers() {
    let mut wrong = Vec::new();
    for (path, text) in sources() {
        let module = module(&path);
        if ["lib", "main"].contains(&module) {
            continue;
        }
        let Some(own) = layer(module) else {
            wrong.push(format!("{path}: `{module}` has no place in LAYERS; give it one"));
            continue;
        };
        for name in named(&code(&text)) {
            if name != module && layer(name).is_none_or(|it| own <= it) {
                wrong.push(format!(
                    "{path}: `{module}` must not name `{name}`; move what it needs to a lower layer"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_code_stays_at_the_c_interface_and_gives_its_reason() {
    for (path, text) in sources() {
        let lines: Vec<_> = text.lines().collect();
        for (number, line) in lines.iter().enumerate() {
            let words = line.split("//").next().unwrap_or_default();
            let has = |forms: &[&str]| forms.iter().any(|form| words.contains(form));
            let at = format!("{path}:{}", number + 1);
            if has(&["unsafe {", "unsafe fn", "unsafe impl", "unsafe extern"]) {
                assert!(
                    UNSAFE.contains(&path.as_str()),
                    "{at}: unsafe code belongs into {UNSAFE:?}"
                );
            }
            if has(&["unsafe {", "unsafe impl"]) {
                let above = &lines[number.saturating_sub(8)..=number];
                let reason = above.iter().any(|line| line.contains("SAFETY:"));
                assert!(reason, "{at}: say above why this is sound, with `// SAFETY:`");
            }
        }
    }
}

#[test]
fn every_error_code_is_listed() {
    let text = read("src/error.rs");
    let (_, table) = text.split_once("pub fn page(self)").expect("the table of pages");
    let (table, _) = table.split_once("\n    }\n").expect("the end of the table");
    let rows = table.matches("Code::").count();
    assert_eq!(rows, Code::ALL.len(), "add the new code to Code::ALL");
}

#[test]
fn the_pages_of_the_reference_say_what_the_code_says() {
    for page in Page::value_variants() {
        let path = format!("docs/reference/{}.md", page.name());
        assert!(
            read(&path) == page.markdown(),
            "{path} is not what the code says; run: cargo run -- reference {} > {path}",
            page.name()
        );
    }
}

/// The pages for people, with their paths.
fn pages() -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = vec![];
    for directory in ["", "docs", "docs/reference"] {
        for entry in fs::read_dir(root.join(directory)).expect("a readable directory") {
            let path = entry.expect("a readable entry").path();
            if path.extension().is_some_and(|it| it == "md") {
                let path = path.strip_prefix(root).expect("below the package");
                paths.push(path.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    assert!(10 < paths.len(), "the pages were not found");
    paths
        .into_iter()
        .map(|path| (path.clone(), read(&path)))
        .collect()
}

/// The lines of a page that are no code.
fn prose(page: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    page.lines().filter(move |line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !inside && !fence
    })
}

/// The anchors of a page's headings, as Markdown viewers make them.
fn anchors(page: &str) -> BTreeSet<String> {
    let headings = prose(page).filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let words = line.trim_start_matches('#').trim().to_lowercase();
            let kept = words
                .chars()
                .filter(|c| c.is_alphanumeric() || " -_".contains(*c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn every_link_between_the_pages_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (path, page) in pages() {
        let text: String = prose(&page).collect::<Vec<_>>().join("\n");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        for link in links.filter(|link| !link.contains("://")) {
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let there = match file {
                "" => root.join(&path),
                file => root.join(&path).with_file_name("").join(file),
            };
            assert!(there.exists(), "{path} links to {link}, which does not exist");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&there).expect("UTF-8");
                assert!(
                    anchors(&there).contains(anchor),
                    "{path} links to {link}, a heading that does not exist"
                );
            }
        }
    }
}

#[test]
fn every_row_of_a_table_has_the_cells_of_its_header() {
    for (path, page) in pages() {
        let mut cells = None;
        for line in prose(&page) {
            let number = line.replace("\\|", "").matches('|').count();
            match line.starts_with('|') {
                true => assert_eq!(*cells.get_or_insert(number), number, "{path}: {line}"),
                false => cells = None,
            }
        }
    }
}

#[test]
fn the_pages_name_only_metrics_and_codes_that_exist() {
    let metrics: BTreeSet<_> = metrics::ALL.iter().map(|it| it.name).collect();
    let codes: BTreeSet<_> = Code::ALL.iter().map(|it| it.page().id).collect();
    let is_code = |word: &str| {
        word.len() == 4 && word.starts_with(['S', 'T', 'L']) && word[1..].chars().all(|c| c.is_ascii_digit())
    };
    for (path, page) in pages() {
        for word in page.split(|c: char| !c.is_alphanumeric() && c != '_') {
            // A name that ends in `_` stands for several.
            let is_metric = word.starts_with("causeway_") && !word.ends_with('_');
            assert!(
                !is_metric || metrics.contains(word),
                "{path} names {word}, which does not exist"
            );
            assert!(
                !is_code(word) || codes.contains(word),
                "{path} names {word}, which does not exist"
            );
        }
    }
}

#[test]
fn every_dependency_has_its_reason() {
    let reasons = read("CONTRIBUTING.md");
    let manifest = read("Cargo.toml");
    let mut dependencies = Vec::new();
    let mut section = "";
    for line in manifest.lines() {
        if line.starts_with('[') {
            section = line;
        } else if section.ends_with("dependencies]")
            && let Some((name, _)) = line.split_once(" = ")
        {
            dependencies.push(name);
        }
    }
    assert!(10 < dependencies.len(), "the manifest was not understood");
    for name in dependencies {
        assert!(
            reasons.contains(&format!("| `{name}` | ")),
            "say in CONTRIBUTING.md why `{name}` is here"
        );
    }
}

#[test]
fn the_readmes_first_files_are_valid() {
    let readme = read("README.md");
    let mut blocks = readme
        .split("```yaml\n")
        .skip(1)
        .filter_map(|rest| rest.split("```").next());
    let directory = tempfile::tempdir().expect("a directory");
    let mut file = |name: &str| {
        let path = directory.path().join(name);
        fs::write(&path, blocks.next().expect("two blocks of YAML")).expect("the directory is ours");
        path
    };
    let (config, topology) = (file("config.yaml"), file("topology.yaml"));
    let (_, topologies) = causeway::topology::load(&config, &[topology], &|_| None).expect("no problems");
    assert_eq!(topologies[0].flows[0].id.to_string(), "seoul->busan");
}
