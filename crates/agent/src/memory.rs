//! Instructions that a repository keeps for agents: `CLAUDE.md`, `AGENTS.md`, rules, and what they import.
//!
//! ```text
//!  paths of the repository ── Sources::of ──▶ per folder CLAUDE.md, else AGENTS.md; .claude/CLAUDE.md,
//!                                            .claude/rules/**/*.md, CLAUDE.local.md
//!                               │ read: `@docs/style.md` outside of code, 4 hops deep
//!                               ▼
//!  Memory   root     before the first prompt
//!           nested   of a folder below: with the first result about a file in it
//!           rules    with `paths`: with the first result about a file that they are for
//! ```
//!
//! Pure functions: the caller reads the files, from the repository at the base commit, so that nothing
//! that the sandbox writes changes the instructions of a running session.

use std::collections::{BTreeMap, HashSet};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

use crate::library::Frontmatter;

/// Files larger than this are passed over.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// How deep imports may import.
const MAX_HOPS: usize = 4;

/// Files of all folders that are read at the most, and rules.
const MAX_FILES: usize = 300;

/// Files that one file brings in at the most, itself among them.
const MAX_IMPORTS: usize = 50;

/// Bytes of all instructions for the whole repository together.
const MAX_ROOT: usize = 256 * 1024;

/// Bytes of those of one folder, or of one rule.
const MAX_PART: usize = 64 * 1024;

/// Patterns of one rule.
const MAX_PATTERNS: usize = 50;

/// One file of instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// Path in the repository.
    pub path: String,
    /// Its text, block comments of HTML taken out.
    pub text: String,
}

/// Instructions for some files.
#[derive(Debug, Clone)]
pub struct Rule {
    file: MemoryFile,
    globs: GlobSet,
}

/// All instructions of a repository.
#[derive(Debug, Clone, Default)]
pub struct Memory {
    /// For all of it.
    pub root: Vec<MemoryFile>,
    /// By folder, without a slash at the end: for the files in it.
    nested: BTreeMap<String, Vec<MemoryFile>>,
    rules: Vec<Rule>,
}

/// The files that hold instructions by their names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sources {
    /// For the whole repository, in the order in which they are read.
    root: Vec<String>,
    /// By folder.
    nested: BTreeMap<String, Vec<String>>,
    rules: Vec<String>,
}

impl Sources {
    /// Picks them out of all paths of a repository.
    pub fn of<'a>(paths: impl IntoIterator<Item = &'a str>) -> Self {
        let (mut found, mut rules) = (BTreeMap::<&str, [Option<&str>; 4]>::new(), Vec::new());
        for path in paths {
            let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
            let (folder, slot) = match name {
                "CLAUDE.md" if folder == ".claude" || folder.ends_with("/.claude") => {
                    (folder.strip_suffix(".claude").unwrap_or_default().trim_end_matches('/'), 2)
                }
                "CLAUDE.md" => (folder, 0),
                "AGENTS.md" => (folder, 1),
                "CLAUDE.local.md" => (folder, 3),
                _ if path.starts_with(".claude/rules/")
                    && path.ends_with(".md")
                    && rules.len() < MAX_FILES =>
                {
                    rules.push(path.to_owned());
                    continue;
                }
                _ => continue,
            };
            if found.len() < MAX_FILES || found.contains_key(folder) {
                found.entry(folder).or_default()[slot] = Some(path);
            }
        }
        rules.sort();
        let mut sources = Self { rules, ..Self::default() };
        for (folder, [claude, agents, inner, local]) in found {
            // AGENTS.md is the stand-in of CLAUDE.md.
            let files = claude.or(agents).into_iter().chain(inner).chain(local).map(str::to_owned).collect();
            if folder.is_empty() {
                sources.root = files;
            } else {
                sources.nested.insert(folder.to_owned(), files);
            }
        }
        sources
    }

    /// Reads them. `read` gives a file of the repository by its path; what it does not have stays a word in the
    /// text. What was left out for its size, and what cannot be used, is said, a sentence each.
    pub fn read(&self, mut read: impl FnMut(&str) -> Option<String>) -> (Memory, Vec<String>) {
        let (mut memory, mut remarks) = (Memory::default(), Vec::new());
        memory.root = resolve(&self.root, &mut read);
        remarks.extend(not_read(&self.root, &memory.root));
        for path in &self.rules {
            let Some(text) = read(path).filter(|text| text.len() <= MAX_FILE) else {
                remarks.extend(not_read(std::slice::from_ref(path), &[]));
                continue;
            };
            let (head, body) = Frontmatter::split(&text);
            let file = MemoryFile { path: path.clone(), text: without_comments(body) };
            match head.list("paths").filter(|patterns| !patterns.is_empty()) {
                None => memory.root.push(file),
                Some(patterns) => match globs(&patterns) {
                    Ok(globs) => memory.rules.push(Rule { file, globs }),
                    Err(why) => remarks.push(format!("{path}: {why}; it is left out")),
                },
            }
        }
        for (folder, paths) in &self.nested {
            let files = resolve(paths, &mut read);
            remarks.extend(not_read(paths, &files));
            memory.nested.insert(folder.clone(), files);
        }
        remarks.extend(bounded(&mut memory.root, MAX_ROOT));
        for files in memory.nested.values_mut() {
            remarks.extend(bounded(files, MAX_PART));
        }
        for rule in &mut memory.rules {
            remarks.extend(bounded(std::slice::from_mut(&mut rule.file), MAX_PART));
        }
        (memory, remarks)
    }
}

impl Memory {
    /// What is to be known about a file, by its path in the repository, besides what is for all of it: of its
    /// folders the outer first, then rules.
    #[must_use]
    pub fn about(&self, path: &str) -> Vec<&MemoryFile> {
        let folders = path.match_indices('/').filter_map(|(at, _)| self.nested.get(&path[..at])).flatten();
        let rules = self.rules.iter().filter(|rule| rule.globs.is_match(path));
        folders.chain(rules.map(|rule| &rule.file)).collect()
    }
}

fn globs(patterns: &[String]) -> Result<GlobSet, String> {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns.iter().take(MAX_PATTERNS) {
        let plain = pattern.trim_start_matches("./");
        let glob = GlobBuilder::new(plain).literal_separator(true).build();
        let shown: String = pattern.chars().filter(|character| !character.is_control()).take(80).collect();
        set.add(glob.map_err(|_| format!("`{shown}` is no pattern of paths"))?);
    }
    set.build().map_err(|error| error.to_string())
}

/// A file that is there and is not read must not pass for one that is not there.
fn not_read(paths: &[String], files: &[MemoryFile]) -> Vec<String> {
    let missing = paths.iter().filter(|path| !files.iter().any(|file| file.path == **path));
    missing.map(|path| format!("{path}: it is no text, a link, or too large; none of it is used")).collect()
}

/// Cuts texts where they are too long together.
fn bounded(files: &mut [MemoryFile], most: usize) -> Vec<String> {
    let (mut room, mut remarks) = (most, Vec::new());
    for file in files {
        if file.text.len() > room {
            file.text.truncate(file.text.floor_char_boundary(room));
            file.text.push_str("\n[the rest is left out: these instructions are too long]\n");
            remarks.push(format!(
                "{}: instructions are read up to {most} bytes; the rest is left out",
                file.path
            ));
            room = 0;
        } else {
            room -= file.text.len();
        }
    }
    remarks
}

/// Reads these files and, right after each, what it imports.
fn resolve(paths: &[String], read: &mut impl FnMut(&str) -> Option<String>) -> Vec<MemoryFile> {
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    for path in paths {
        add(path, 0, read, &mut seen, &mut files);
    }
    files
}

fn add(
    path: &str,
    hops: usize,
    read: &mut impl FnMut(&str) -> Option<String>,
    seen: &mut HashSet<String>,
    files: &mut Vec<MemoryFile>,
) {
    if seen.len() >= MAX_IMPORTS || !seen.insert(path.to_owned()) {
        return;
    }
    let Some(text) = read(path).filter(|text| text.len() <= MAX_FILE) else { return };
    let text = without_comments(&text);
    let imports = imports(path, &text);
    files.push(MemoryFile { path: path.to_owned(), text });
    if hops < MAX_HOPS {
        for import in imports {
            add(&import, hops + 1, read, seen, files);
        }
    }
}

/// The repository paths that a file imports with `@path`, outside of code and inside the repository.
fn imports(path: &str, text: &str) -> Vec<String> {
    let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut found = Vec::new();
    let mut fence: Option<&str> = None;
    for line in text.lines() {
        let trimmed = line.trim_start();
        let mark = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
        match (fence, mark) {
            (None, Some(mark)) => fence = Some(mark),
            (Some(open), Some(mark)) if open == mark => fence = None,
            (Some(_), _) => {}
            (None, None) => {
                // Every second part of a line between backticks is code.
                let prose = line.split('`').step_by(2).flat_map(str::split_whitespace);
                let words = prose.filter_map(|word| word.strip_prefix('@'));
                found.extend(words.filter_map(|word| inside(folder, word)));
            }
        }
    }
    found
}

/// The path in the repository that an import names, or `None` when it leads out of it.
fn inside(folder: &str, import: &str) -> Option<String> {
    let import = import.trim_end_matches(['.', ',', ';', ':', ')', ']']);
    if import.is_empty() || import.starts_with(['/', '~']) || import.contains(['\\', '\0']) {
        return None;
    }
    let mut parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
    for part in import.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

/// The text without `<!-- … -->` that begin a line; those inside code stay.
fn without_comments(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut in_comment = false;
    let mut in_fence = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim_start();
        if !in_comment && (trimmed.starts_with("```") || trimmed.starts_with("~~~")) {
            in_fence = !in_fence;
        }
        if !in_comment && (in_fence || !trimmed.starts_with("<!--")) {
            kept.push_str(line);
            continue;
        }
        in_comment = true;
        if let Some((_, rest)) = line.split_once("-->") {
            in_comment = false;
            if !rest.trim().is_empty() {
                kept.push_str(rest);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(files: &[MemoryFile]) -> Vec<&str> {
        files.iter().map(|file| file.path.as_str()).collect()
    }

    fn memory(files: &[(&str, &str)]) -> (Memory, Vec<String>) {
        let read = |path: &str| {
            let found = files.iter().find(|(other, _)| *other == path);
            found.map(|(_, text)| (*text).to_owned())
        };
        Sources::of(files.iter().map(|(path, _)| *path)).read(read)
    }

    /// Section 6: the order, and AGENTS.md as the stand-in in each folder.
    #[test]
    fn claude_md_comes_before_agents_md_which_is_its_stand_in() {
        for (files, selected) in [
            (&["src/a.rs", "AGENTS.md"][..], &["AGENTS.md"][..]),
            (&["AGENTS.md", "CLAUDE.md"], &["CLAUDE.md"]),
            (
                &["CLAUDE.local.md", ".claude/rules/a.md", ".claude/CLAUDE.md", "AGENTS.md"],
                &["AGENTS.md", ".claude/CLAUDE.md", "CLAUDE.local.md", ".claude/rules/a.md"],
            ),
            (&["sub/CLAUDE.md", "docs/AGENTS.md", "x/rules/a.md"], &[]),
        ] {
            let files: Vec<(&str, &str)> = files.iter().map(|path| (*path, "text")).collect();
            assert_eq!(paths(&memory(&files).0.root), selected);
        }
    }

    /// Section 6: of folders the outer first; rules by their patterns.
    #[test]
    fn a_file_has_the_instructions_of_its_folders_and_rules() {
        let (memory, remarks) = memory(&[
            ("CLAUDE.md", "root"),
            ("a/CLAUDE.md", "a, see @more.md"),
            ("a/more.md", "more"),
            ("a/AGENTS.md", "not this"),
            ("a/b/AGENTS.md", "b"),
            ("a/b/.claude/CLAUDE.md", "b inner"),
            (".claude/rules/ts.md", "---\npaths: [\"**/*.{ts,tsx}\", lib/*]\n---\nrule"),
            (".claude/rules/deep/all.md", "for all"),
            (".claude/rules/bad.md", "---\npaths: \"a[\"\n---\nrule"),
        ]);
        assert_eq!(paths(&memory.root), ["CLAUDE.md", ".claude/rules/deep/all.md"]);
        assert_eq!(remarks.len(), 1, "{remarks:?}");
        let about =
            |path: &str| -> Vec<String> { memory.about(path).iter().map(|file| file.path.clone()).collect() };
        assert_eq!(about("main.rs"), Vec::<String>::new());
        assert_eq!(about("a/x.rs"), ["a/CLAUDE.md", "a/more.md"]);
        assert_eq!(
            about("a/b/c/x.ts"),
            ["a/CLAUDE.md", "a/more.md", "a/b/AGENTS.md", "a/b/.claude/CLAUDE.md", ".claude/rules/ts.md"]
        );
        assert_eq!((about("lib/x"), about("lib/y/x")), (vec![".claude/rules/ts.md".to_owned()], vec![]));
        assert_eq!(about("ab/x.rs"), Vec::<String>::new());
    }

    #[test]
    fn imports_follow_their_file_and_stay_inside() {
        let read = |path: &str| {
            let text = match path {
                "CLAUDE.md" => {
                    "Use @docs/style.md, and see @docs/missing.md.\nNot `@docs/code.md` nor me@example.org\n\
                     ```\n@docs/code.md\n```\n@/etc/passwd @~/.ssh/id @../outside.md @CLAUDE.md"
                }
                "docs/style.md" => "<!-- hidden\n@docs/code.md -->\nTabs. @./deep/more.md @../AGENTS.md",
                "docs/deep/more.md" => "more",
                "AGENTS.md" => "agents",
                "docs/code.md" => panic!("an import in code was read"),
                _ => return None,
            };
            Some(text.to_owned())
        };
        let files = Sources::of(["CLAUDE.md"]).read(read).0.root;
        assert_eq!(paths(&files), ["CLAUDE.md", "docs/style.md", "docs/deep/more.md", "AGENTS.md"]);
        assert_eq!(files[1].text, "Tabs. @./deep/more.md @../AGENTS.md");
    }

    #[test]
    fn a_chain_of_imports_ends_after_four_hops() {
        let read = |path: &str| match path.strip_suffix(".md")?.parse::<u32>() {
            Ok(number) => Some(format!("@{}.md", number + 1)),
            Err(_) => Some("@0.md".into()),
        };
        assert_eq!(Sources::of(["CLAUDE.md"]).read(read).0.root.len(), 5);
    }

    /// Cycles, many imports, giant files, many folders: bounded and told.
    #[test]
    fn a_hostile_repository_is_bounded() {
        let wide: String = (0..10_000).map(|number| format!("@{number}.md\n")).collect();
        let mut reads = 0;
        let (memory, _) = Sources::of(["CLAUDE.md"]).read(|path| {
            reads += 1;
            Some(if path == "CLAUDE.md" { wide.clone() } else { "@CLAUDE.md @0.md".into() })
        });
        assert_eq!((memory.root.len(), reads), (MAX_IMPORTS, MAX_IMPORTS));
        let (memory, remarks) =
            Sources::of(["CLAUDE.md", "a/CLAUDE.md"]).read(|_| Some("ä".repeat(1_000_000)));
        assert!(memory.root[0].text.len() < MAX_ROOT + 100);
        assert!(memory.about("a/x")[0].text.len() < MAX_PART + 100);
        assert_eq!(remarks.len(), 2);
        let many: Vec<String> = (0..5_000).map(|number| format!("f{number}/CLAUDE.md")).collect();
        assert_eq!(Sources::of(many.iter().map(String::as_str)).nested.len(), MAX_FILES);
        let (memory, remarks) =
            Sources::of(["CLAUDE.md", "a/CLAUDE.md", ".claude/rules/a.md"]).read(|_| None);
        assert_eq!((memory.root.len(), remarks.len()), (0, 3), "{remarks:?}");
    }
}
