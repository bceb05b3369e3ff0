//! What keeps the tree in shape: prose rules do not hold, a failing test does.
//!
//! - only the allowed edges between crates (`docs/ARCHITECTURE.md` has the picture);
//! - no source file over 800 lines, no function over 100, no logic in `lib.rs` and `mod.rs`;
//! - `unsafe` forbidden everywhere but in `sandbox` and `guest`;
//! - no name that says nothing (`utils`, `helpers`, `manager`, `common`, `misc`);
//! - no open end (`TODO`, `FIXME`) in the source.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use cargo_metadata::{DependencyKind, MetadataCommand};
use syn::spanned::Spanned as _;
use syn::visit::Visit;

/// What each crate may depend on inside the workspace; nothing else.
const EDGES: &[(&str, &[&str])] = &[
    ("protocol", &[]),
    ("failpoint", &[]),
    ("archive", &[]),
    ("policy", &["protocol"]),
    ("store", &["protocol", "failpoint"]),
    ("sandbox", &["protocol", "policy", "failpoint"]),
    ("guest", &["protocol", "archive"]),
    ("model-gateway", &["protocol", "failpoint"]),
    ("git-proxy", &["protocol", "policy", "failpoint"]),
    ("forge", &["policy", "failpoint"]),
    ("egress", &["protocol", "policy", "failpoint"]),
    ("agent", &["protocol", "policy", "model-gateway"]),
    (
        "session",
        &[
            "protocol",
            "policy",
            "store",
            "sandbox",
            "model-gateway",
            "git-proxy",
            "forge",
            "egress",
            "agent",
            "failpoint",
        ],
    ),
    (
        "server",
        &[
            "protocol",
            "policy",
            "store",
            "session",
            "sandbox",
            "model-gateway",
            "git-proxy",
            "forge",
            "egress",
        ],
    ),
    // The hands of a machine speak the guest's wire, so that there is one executor.
    ("local", &["protocol", "policy", "model-gateway", "agent", "sandbox"]),
    ("client", &["protocol"]),
    // The binary: the client's commands, and the processes that it starts.
    (
        "cli",
        &[
            "archive",
            "client",
            "protocol",
            "policy",
            "agent",
            "server",
            "sandbox",
            "egress",
            "guest",
            "local",
            "model-gateway",
        ],
    ),
];

/// Crates for development only: they may use anything, nothing may use them outside of tests.
const DEV: &[&str] = &["testkit", "xtask", "benches"];

const MAX_FILE_LINES: usize = 800;
const MAX_FUNCTION_LINES: usize = 100;
const UNSAFE_ALLOWED: &[&str] = &["sandbox", "guest"];
const EMPTY_NAMES: &[&str] = &["utils", "util", "helpers", "helper", "manager", "common", "misc", "core"];

/// Everything that is not in shape, one line each.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let mut findings = edges(root);
    let crates = root.join("crates");
    for file in sources(&crates) {
        findings.extend(check_file(root, &file));
    }
    findings
}

fn edges(root: &Path) -> Vec<String> {
    let metadata = match MetadataCommand::new().manifest_path(root.join("Cargo.toml")).no_deps().exec() {
        Ok(metadata) => metadata,
        Err(error) => return vec![format!("cargo metadata failed: {error}")],
    };
    let members: BTreeSet<&str> = metadata.packages.iter().map(|package| package.name.as_str()).collect();
    let mut findings = Vec::new();
    for package in &metadata.packages {
        let name = package.name.as_str();
        if DEV.contains(&name) {
            continue;
        }
        let Some((_, allowed)) = EDGES.iter().find(|(known, _)| *known == name) else {
            findings.push(format!("{name}: a crate that the table of edges does not know"));
            continue;
        };
        for dependency in &package.dependencies {
            let to = dependency.name.as_str();
            let inside = members.contains(to) && dependency.kind != DependencyKind::Development;
            if inside && !allowed.contains(&to) {
                findings.push(format!("{name} → {to}: not an allowed edge; see docs/ARCHITECTURE.md"));
            }
        }
    }
    findings
}

/// Every Rust source below the folder.
fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() && path.file_name().is_some_and(|name| name != "target" && name != "corpus") {
                dirs.push(path);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

fn check_file(root: &Path, file: &Path) -> Vec<String> {
    let shown = file.strip_prefix(root).unwrap_or(file).display().to_string();
    let Ok(text) = fs::read_to_string(file) else { return vec![format!("{shown}: cannot be read")] };
    let mut findings = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_FILE_LINES {
        findings.push(format!("{shown}: {lines} lines, {MAX_FILE_LINES} at most; split it by noun"));
    }
    let stem = file.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    if EMPTY_NAMES.contains(&stem) {
        findings.push(format!("{shown}: `{stem}` says nothing; name the thing"));
    }
    let is_tidy = shown.ends_with("xtask/src/tidy.rs");
    for (number, line) in text.lines().enumerate().filter(|_| !is_tidy) {
        if ["TODO", "FIXME", "XXX"].iter().any(|mark| line.contains(mark)) {
            findings.push(format!("{shown}:{}: an open end; do it, or file it", number + 1));
        }
    }
    match syn::parse_file(&text) {
        Ok(parsed) => findings.extend(check_syntax(&shown, file, &parsed)),
        Err(error) => findings.push(format!("{shown}: does not parse: {error}")),
    }
    findings
}

fn check_syntax(shown: &str, path: &Path, file: &syn::File) -> Vec<String> {
    let mut findings = Vec::new();
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let is_root = shown.ends_with("src/lib.rs") || shown.ends_with("src/main.rs");
    let of_unsafe_crate = UNSAFE_ALLOWED.iter().any(|name| shown.starts_with(&format!("crates/{name}/")));
    if is_root && !of_unsafe_crate && !forbids_unsafe(file) {
        findings.push(format!("{shown}: `#![forbid(unsafe_code)]` is missing"));
    }
    let is_index = matches!(name, "lib.rs" | "mod.rs") && shown.contains("/src/");
    if is_index && let Some(item) = file.items.iter().find(|item| is_logic(item)) {
        let line = item.span().start().line;
        findings.push(format!("{shown}:{line}: logic in an index file; give it a file of its own"));
    }
    let mut functions = Functions { shown, findings: Vec::new() };
    functions.visit_file(file);
    findings.extend(functions.findings);
    findings
}

fn forbids_unsafe(file: &syn::File) -> bool {
    file.attrs.iter().any(|attribute| {
        attribute.path().is_ident("forbid")
            && attribute.parse_args::<syn::Ident>().is_ok_and(|lint| lint == "unsafe_code")
    })
}

fn is_logic(item: &syn::Item) -> bool {
    matches!(item, syn::Item::Fn(_) | syn::Item::Impl(_) | syn::Item::Trait(_))
}

/// Finds functions that do not fit on a screen or two.
struct Functions<'a> {
    shown: &'a str,
    findings: Vec<String>,
}

impl Functions<'_> {
    fn measure(&mut self, name: &syn::Ident, block: &syn::Block) {
        let (start, end) = (block.span().start().line, block.span().end().line);
        let lines = end.saturating_sub(start) + 1;
        if lines > MAX_FUNCTION_LINES {
            self.findings.push(format!(
                "{}:{start}: `{name}` has {lines} lines, {MAX_FUNCTION_LINES} at most",
                self.shown
            ));
        }
    }
}

impl<'ast> Visit<'ast> for Functions<'_> {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.measure(&function.sig.ident, &function.block);
        syn::visit::visit_impl_item_fn(self, function);
    }
}
