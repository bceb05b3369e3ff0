//! Commands that only look, and files that are never changed without a question.

use std::path::{Component, Path};

use super::word::Word;

/// Commands of git that only look, whatever their arguments but those of [`WRITING`].
const GIT: &[&str] = &[
    "blame",
    "cat-file",
    "describe",
    "diff",
    "log",
    "ls-files",
    "ls-tree",
    "merge-base",
    "rev-list",
    "rev-parse",
    "shortlog",
    "show",
    "status",
];

/// Programs that only look, whatever their arguments but those of [`WRITING`].
const LOOKING: &[&str] = &[
    "[",
    "basename",
    "cat",
    "cmp",
    "comm",
    "cut",
    "diff",
    "dirname",
    "du",
    "df",
    "echo",
    "egrep",
    "false",
    "fgrep",
    "file",
    "find",
    "grep",
    "head",
    "hexdump",
    "id",
    "ls",
    "md5sum",
    "nl",
    "od",
    "printf",
    "pwd",
    "readlink",
    "realpath",
    "rev",
    "rg",
    "seq",
    "sha256sum",
    "sort",
    "stat",
    "tac",
    "tail",
    "test",
    "tr",
    "tree",
    "true",
    "type",
    "uname",
    "wc",
    "which",
    "whoami",
    "xxd",
];

/// Arguments by which some of them write or run something.
const WRITING: &[&str] = &[
    "-exec",
    "-execdir",
    "-ok",
    "-okdir",
    "-delete",
    "-fprint",
    "-fprint0",
    "-fprintf",
    "-fls",
    "-o",
    "--output",
    "--pre",
    "--compress-program",
    "-T",
    "-C",
    "--compile",
    "-O",
    "--open-files-in-pager",
    "--ext-diff",
    "--textconv",
];

/// Commands that change files and nothing else: those that the mode `acceptEdits` takes.
const FILES: &[&str] = &["cp", "mkdir", "mv", "rm", "rmdir", "sed", "touch"];

/// Folders and files that other programs trust or run.
const PROTECTED_FOLDERS: &[&str] =
    &[".git", ".claude", ".vscode", ".idea", ".husky", ".cargo", ".devcontainer", ".yarn", ".mvn", ".github"];
const PROTECTED_FILES: &[&str] = &[
    ".bashrc",
    ".bash_profile",
    ".bash_login",
    ".bash_logout",
    ".profile",
    ".zshrc",
    ".zshenv",
    ".zprofile",
    ".zlogin",
    ".envrc",
    ".gitconfig",
    ".gitmodules",
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".mcp.json",
    ".ripgreprc",
    ".pre-commit-config.yaml",
    "lefthook.yml",
    "lefthook.yaml",
    "gradle-wrapper.properties",
    "maven-wrapper.properties",
];

/// Whether a command only looks at what is inside of the working folder.
pub(super) fn only_looks(words: &[Word]) -> bool {
    let Some(program) = words.first().and_then(Word::plain) else { return false };
    let arguments = match program {
        "git" => match words.get(1).and_then(Word::plain) {
            Some(command) if GIT.contains(&command) => &words[2..],
            _ => return false,
        },
        program if LOOKING.contains(&program) => &words[1..],
        _ => return false,
    };
    let fine = |word: &Word| {
        let text = word.text.as_str();
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        !word.dynamic && !is_writing(name) && stays_inside(text)
    };
    arguments.iter().all(fine)
}

fn is_writing(name: &str) -> bool {
    let short = name.len() > 2 && name.starts_with('-') && !name.starts_with("--");
    // `-no x` is `-n -o x`, and `-ofile` is `-o file`.
    WRITING.contains(&name) || (short && name[1..].contains(['o', 'T', 'C', 'O']))
}

/// Whether an argument, if it is a path, leads nowhere else.
fn stays_inside(text: &str) -> bool {
    let path = text.split_once('=').map_or(text, |(_, path)| path);
    if text.starts_with('-') && !text.contains('=') && text.contains('/') {
        return false;
    }
    !path.starts_with(['/', '~']) && Path::new(path).components().all(|part| part != Component::ParentDir)
}

/// Whether a command only changes files, and which ones are named; `acceptEdits` looks at them.
pub(super) fn changes_files(words: &[Word]) -> bool {
    words.first().and_then(Word::plain).is_some_and(|program| FILES.contains(&program))
        && words.iter().all(|word| !word.dynamic)
}

/// Whether other programs would trust or run what is written there.
#[must_use]
pub fn is_protected(path: &Path) -> bool {
    let name = |part: Component<'_>| match part {
        Component::Normal(name) => name.to_str().map(str::to_ascii_lowercase),
        _ => None,
    };
    path.components().filter_map(name).any(|name| PROTECTED_FOLDERS.contains(&name.as_str()))
        || path
            .components()
            .next_back()
            .and_then(name)
            .is_some_and(|name| PROTECTED_FILES.contains(&name.as_str()))
}
