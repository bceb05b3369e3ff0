//! Instructions that a repository keeps for agents: `CLAUDE.md`, `AGENTS.md` and what they import.
//!
//! ```text
//!  paths of the repository ── select ──▶ CLAUDE.md, else AGENTS.md · .claude/CLAUDE.md
//!                                            │ resolve: `@docs/style.md` outside of code, 4 hops deep
//!                                            ▼
//!                                        [MemoryFile { path, text }]
//! ```
//!
//! Pure functions: the caller reads the files, from the repository at the base commit, so that nothing
//! that the sandbox writes changes the instructions of a running session.

use std::collections::HashSet;

/// Files larger than this are passed over.
const MAX_FILE: usize = 4 * 1024 * 1024;

/// How deep imports may import.
const MAX_HOPS: usize = 4;

/// One file of instructions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryFile {
    /// Path in the repository.
    pub path: String,
    /// Its text, block comments of HTML taken out.
    pub text: String,
}

/// Which of a repository's files hold instructions for all of it, in the order in which they are read.
pub fn select<'a>(paths: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let (mut claude, mut agents, mut nested) = (false, false, false);
    for path in paths {
        match path {
            "CLAUDE.md" => claude = true,
            "AGENTS.md" => agents = true,
            ".claude/CLAUDE.md" => nested = true,
            _ => {}
        }
    }
    let root = if claude { Some("CLAUDE.md") } else { agents.then_some("AGENTS.md") };
    root.into_iter().chain(nested.then_some(".claude/CLAUDE.md")).map(str::to_owned).collect()
}

/// Reads these files and, right after each, what it imports. `read` gives a file of the repository by
/// its path; what it does not have stays a word in the text.
pub fn resolve(paths: &[String], mut read: impl FnMut(&str) -> Option<String>) -> Vec<MemoryFile> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for path in paths {
        add(path, 0, &mut read, &mut seen, &mut files);
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
    if seen.contains(path) {
        return;
    }
    let Some(text) = read(path).filter(|text| text.len() <= MAX_FILE) else { return };
    seen.insert(path.to_owned());
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
#[must_use]
pub fn imports(path: &str, text: &str) -> Vec<String> {
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

    #[test]
    fn claude_md_comes_before_agents_md_which_is_its_stand_in() {
        for (paths, selected) in [
            (&["src/a.rs", "AGENTS.md"][..], &["AGENTS.md"][..]),
            (&["AGENTS.md", "CLAUDE.md"], &["CLAUDE.md"]),
            (&[".claude/CLAUDE.md", "AGENTS.md"], &["AGENTS.md", ".claude/CLAUDE.md"]),
            (&["sub/CLAUDE.md", "docs/AGENTS.md"], &[]),
        ] {
            assert_eq!(select(paths.iter().copied()), selected);
        }
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
        let files = resolve(&["CLAUDE.md".into()], read);
        let paths: Vec<&str> = files.iter().map(|file| file.path.as_str()).collect();
        assert_eq!(paths, ["CLAUDE.md", "docs/style.md", "docs/deep/more.md", "AGENTS.md"]);
        assert_eq!(files[1].text, "Tabs. @./deep/more.md @../AGENTS.md");
    }

    #[test]
    fn a_chain_of_imports_ends_after_four_hops() {
        let read = |path: &str| {
            let number: u32 = path.strip_suffix(".md")?.parse().ok()?;
            Some(format!("@{}.md", number + 1))
        };
        assert_eq!(resolve(&["0.md".into()], read).len(), 5);
    }
}
