//! The rules of the source tree that the compiler does not know. Each failure says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use causeway::cli::Cli;
use causeway::cli::reference::Page;
use causeway::error::Code;
use causeway::metrics;
use clap::{CommandFactory, ValueEnum};
use expect_test::expect_file;
use quote::ToTokens;
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Item, ItemUse, UseTree, Visibility};

/// Modules, lowest layer first. A module names modules of lower layers only.
const LAYERS: &[&[&str]] = &[
    &["error", "seeds", "status", "telemetry"],
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
    "src/kafka/admin/configs.rs",
    "src/kafka/admin/groups.rs",
    "src/kafka/admin/offsets.rs",
    "src/kafka/admin/topics.rs",
    "src/kafka/consumer.rs",
    "src/kafka/groups/native.rs",
    "src/kafka/native.rs",
    "src/kafka/objects.rs",
    "src/kafka/producer.rs",
];

/// The longest file, without its tests, and the longest function.
const FILE: usize = 700;
const FUNCTION: usize = 90;
/// The widest comment, in characters.
const WIDTH: usize = 120;

/// The Rust files below a directory.
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

/// Every source file with its path below the package and its text.
fn sources() -> Vec<(String, String)> {
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

/// `src/copy/task.rs` is the module `copy::task`.
fn module(path: &str) -> String {
    let inside = path
        .strip_prefix("src/")
        .and_then(|it| it.strip_suffix(".rs"))
        .expect("a source file");
    inside.replace('/', "::")
}

/// Whether the whole module is for tests.
fn is_test(module: &str) -> bool {
    module.ends_with("::tests") || module.ends_with("::simulation")
}

/// The room of a module: `copy` of `copy::task`.
fn room(module: &str) -> &str {
    module.split("::").next().expect("split gives one part")
}

/// The paths that the program part of a file names, as they are written.
#[derive(Default)]
struct Named {
    used: BTreeSet<Vec<String>>,
    /// Named only to be handed on: `pub use`, `pub(crate) use`.
    handed_on: BTreeSet<Vec<String>>,
}

impl Named {
    fn of(text: &str) -> Self {
        let mut named = Self::default();
        named.visit_file(&syn::parse_file(text).expect("the compiler takes it"));
        named
    }

    fn tree(tree: &UseTree, before: &[String], into: &mut BTreeSet<Vec<String>>) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(it) => Self::tree(&it.tree, &with(&it.ident), into),
            UseTree::Name(it) => _ = into.insert(with(&it.ident)),
            UseTree::Rename(it) => _ = into.insert(with(&it.ident)),
            UseTree::Glob(_) => _ = into.insert(before.to_vec()),
            UseTree::Group(it) => it.items.iter().for_each(|item| Self::tree(item, before, into)),
        }
    }
}

fn is_of_tests(item: &Item) -> bool {
    let attributes = match item {
        Item::Mod(it) => &it.attrs,
        Item::Fn(it) => &it.attrs,
        Item::Use(it) => &it.attrs,
        _ => return false,
    };
    let of_tests = |it: &syn::Attribute| it.meta.to_token_stream().to_string() == "cfg (test)";
    attributes.iter().any(of_tests)
}

/// From the first token to the last, both counted.
fn lines(first: &impl Spanned, last: &impl Spanned) -> usize {
    last.span().end().line - first.span().start().line + 1
}

/// How long the parts of a file are.
#[derive(Default)]
struct Lengths {
    tests: usize,
    functions: Vec<(String, usize)>,
}

impl Lengths {
    fn function(&mut self, signature: &syn::Signature, body: &syn::Block) {
        let length = lines(&signature.fn_token, body);
        self.functions.push((signature.ident.to_string(), length));
    }
}

impl<'a> Visit<'a> for Lengths {
    fn visit_item(&mut self, item: &'a Item) {
        match is_of_tests(item) {
            true => self.tests += lines(item, item),
            false => visit::visit_item(self, item),
        }
    }

    fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
        self.function(&it.sig, &it.block);
        visit::visit_item_fn(self, it);
    }

    fn visit_impl_item_fn(&mut self, it: &'a syn::ImplItemFn) {
        self.function(&it.sig, &it.block);
        visit::visit_impl_item_fn(self, it);
    }
}

impl<'a> Visit<'a> for Named {
    fn visit_item(&mut self, item: &'a Item) {
        if !is_of_tests(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'a ItemUse) {
        let into = match item.vis {
            Visibility::Inherited => &mut self.used,
            _ => &mut self.handed_on,
        };
        Self::tree(&item.tree, &[], into);
    }

    fn visit_path(&mut self, path: &'a syn::Path) {
        let names = path.segments.iter().map(|it| it.ident.to_string());
        self.used.insert(names.collect());
        visit::visit_path(self, path);
    }

    fn visit_visibility(&mut self, _: &'a Visibility) {}
}

/// The module that a path in `own` leads to.
fn resolve(own: &str, path: &[String], modules: &BTreeSet<String>) -> Option<String> {
    let mut at: Vec<&str> = own.split("::").collect();
    let mut rest = path.iter().map(String::as_str).peekable();
    match *rest.peek()? {
        "crate" => {
            at.clear();
            rest.next();
        }
        "self" => _ = rest.next(),
        "super" => {}
        // A child, or a crate.
        child if modules.contains(&format!("{own}::{child}")) => {}
        _ => return None,
    }
    while rest.next_if_eq(&"super").is_some() {
        at.pop();
    }
    at.extend(rest);
    while !at.is_empty() && !modules.contains(&at.join("::")) {
        at.pop();
    }
    let found = at.join("::");
    (!found.is_empty() && found != own).then_some(found)
}

/// Of other modules, what each uses and what it hands on besides.
type Uses = BTreeMap<String, (BTreeSet<String>, BTreeSet<String>)>;

fn uses() -> Uses {
    let sources: Vec<_> = sources()
        .into_iter()
        .map(|(path, text)| (module(&path), text))
        .filter(|(module, _)| !["lib", "main"].contains(&module.as_str()) && !is_test(module))
        .collect();
    let modules: BTreeSet<String> = sources.iter().map(|(module, _)| module.clone()).collect();
    let uses = sources.iter().map(|(own, text)| {
        let named = Named::of(text);
        let resolved = |paths: &BTreeSet<Vec<String>>| {
            paths
                .iter()
                .filter_map(|path| resolve(own, path, &modules))
                .collect()
        };
        (own.clone(), (resolved(&named.used), resolved(&named.handed_on)))
    });
    uses.collect()
}

fn layer(room: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&room))
}

#[test]
fn the_scanner_finds_the_modules_a_file_names() {
    let modules = ["a", "a::b", "a::b::c", "a::d", "e", "f", "f::g"]
        .map(str::to_owned)
        .into();
    let found = |text: &str| -> Vec<String> {
        let named = Named::of(text).used;
        let found: BTreeSet<_> = named
            .iter()
            .filter_map(|path| resolve("a::b", path, &modules))
            .collect();
        found.into_iter().collect()
    };
    assert_eq!(
        found("use crate::{e::X, f::{self, g::Y}}; use std::fmt;"),
        ["e", "f", "f::g"]
    );
    assert_eq!(found("use super::{d, Z}; use c::W;"), ["a", "a::b::c", "a::d"]);
    assert_eq!(
        found("fn f(x: &crate::e::X) -> c::W { super::d::g(x) }"),
        ["a::b::c", "a::d", "e"]
    );
    assert!(found("pub use c::W; pub(super) struct S; #[cfg(test)] mod tests { use crate::e; }").is_empty());
}

#[test]
fn a_file_names_only_lower_layers() {
    let mut wrong = Vec::new();
    for (own, (used, handed_on)) in uses() {
        let Some(at) = layer(room(&own)) else {
            wrong.push(format!("`{own}` has no place in LAYERS; give it one"));
            continue;
        };
        for name in used.union(&handed_on) {
            if room(name) != room(&own) && layer(room(name)).is_none_or(|it| at <= it) {
                wrong.push(format!(
                    "`{own}` must not name `{name}`; move what it needs to a lower layer"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn no_files_name_each_other_in_a_circle() {
    let uses = uses();
    // The way back to where the trail began, if there is one. What leads nowhere does so from wherever it is reached.
    fn closes(uses: &Uses, trail: &mut Vec<String>, seen: &mut BTreeSet<String>) -> bool {
        let Some(at) = trail.last().cloned() else {
            return false;
        };
        for next in &uses[&at].0 {
            if *next == trail[0] {
                return true;
            }
            if seen.insert(next.clone()) {
                trail.push(next.clone());
                if closes(uses, trail, seen) {
                    return true;
                }
                trail.pop();
            }
        }
        false
    }
    let circles: BTreeSet<String> = uses
        .keys()
        .filter_map(|own| {
            let mut trail = vec![own.clone()];
            closes(&uses, &mut trail, &mut BTreeSet::new()).then(|| format!("{} → {own}", trail.join(" → ")))
        })
        .collect();
    let all: Vec<_> = circles.into_iter().collect();
    assert!(
        all.is_empty(),
        "give what both need a file of its own:\n{}",
        all.join("\n")
    );
}

#[test]
fn files_and_functions_are_short_enough_to_be_read_at_once() {
    let mut long = BTreeSet::new();
    for (path, text) in sources().into_iter().filter(|(path, _)| !is_test(&module(path))) {
        let mut lengths = Lengths::default();
        lengths.visit_file(&syn::parse_file(&text).expect("the compiler takes it"));
        if FILE < text.lines().count() - lengths.tests {
            long.insert(path.clone());
        }
        let functions = lengths.functions.into_iter();
        let functions = functions.filter(|(_, length)| FUNCTION < *length);
        long.extend(functions.map(|(name, _)| format!("{path}: {name}")));
    }
    assert!(
        long.is_empty(),
        "cut to {FILE} lines a file and {FUNCTION} a function: {long:#?}"
    );
}

#[test]
fn comments_are_as_wide_as_a_page() {
    for (path, text) in sources() {
        for (number, line) in text.lines().enumerate() {
            let comment = line.trim_start().starts_with("//");
            let at = format!("{path}:{}", number + 1);
            assert!(
                !comment || line.chars().count() <= WIDTH,
                "{at}: break it at {WIDTH}"
            );
        }
    }
}

/// What is declared for others and named by nobody: a function, a type or a constant that no source file and no test
/// has a second time.
#[test]
fn what_is_declared_is_used() {
    let sources = sources();
    let mut tests = vec![];
    collect(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut tests);
    let tests = tests.iter().map(|path| fs::read_to_string(path).expect("UTF-8"));
    let mut times = BTreeMap::<String, usize>::new();
    for text in sources.iter().map(|(_, text)| text.clone()).chain(tests) {
        let code = text
            .lines()
            .map(|line| line.split("//").next().unwrap_or_default());
        for word in code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_')) {
            *times.entry(word.to_owned()).or_default() += 1;
        }
    }
    for (path, text) in &sources {
        let mut declared = Declared::default();
        declared.visit_file(&syn::parse_file(text).expect("it compiles"));
        for name in declared.names {
            assert!(1 < times[&name], "{path}: nobody names {name}: take it out");
        }
    }
}

/// The names of functions, types and constants that other files may use.
#[derive(Default)]
struct Declared {
    names: Vec<String>,
}

impl Declared {
    fn add(&mut self, visibility: &Visibility, name: &syn::Ident) {
        if !matches!(visibility, Visibility::Inherited) {
            self.names.push(name.to_string());
        }
    }
}

impl<'a> Visit<'a> for Declared {
    fn visit_item_fn(&mut self, it: &'a syn::ItemFn) {
        self.add(&it.vis, &it.sig.ident);
    }

    fn visit_impl_item_fn(&mut self, it: &'a syn::ImplItemFn) {
        self.add(&it.vis, &it.sig.ident);
    }

    fn visit_item_struct(&mut self, it: &'a syn::ItemStruct) {
        self.add(&it.vis, &it.ident);
    }

    fn visit_item_enum(&mut self, it: &'a syn::ItemEnum) {
        self.add(&it.vis, &it.ident);
    }

    fn visit_item_const(&mut self, it: &'a syn::ItemConst) {
        self.add(&it.vis, &it.ident);
    }

    fn visit_item_type(&mut self, it: &'a syn::ItemType) {
        self.add(&it.vis, &it.ident);
    }

    fn visit_item_trait(&mut self, it: &'a syn::ItemTrait) {
        self.add(&it.vis, &it.ident);
        visit::visit_item_trait(self, it);
    }
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
fn the_pages_of_the_reference_say_what_the_code_says() {
    for page in Page::value_variants() {
        let path = format!("../docs/reference/{}.md", page.name());
        expect_file![path].assert_eq(&page.markdown(&Cli::command()));
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
