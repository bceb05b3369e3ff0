//! One bounded look at a folder before a command runs: the repositories in it, and what globs mean.
//!
//! Breadth first, no link followed, nothing read but names. When a bound is reached the rest is not
//! known, and that is told.

use std::collections::VecDeque;
use std::fs;
use std::path::{Path, PathBuf};

use policy::local::Matcher;

const MAX_FOLDERS: usize = 4_000;
const MAX_ENTRIES: usize = 60_000;
const MAX_DEPTH: usize = 16;

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    /// Folders below the first one that hold a `.git`.
    pub(crate) repositories: Vec<PathBuf>,
    /// Folders `.claude` below those, where skills may be.
    pub(crate) claude: Vec<PathBuf>,
    /// For each glob what it means.
    pub(crate) meant: Vec<Vec<PathBuf>>,
    /// Whether everything was seen.
    pub(crate) is_complete: bool,
}

/// Looks at a folder and what is below.
pub(crate) fn survey(folder: &Path, globs: &[Matcher]) -> Survey {
    let mut found = Survey { meant: vec![Vec::new(); globs.len()], is_complete: true, ..Survey::default() };
    let mut waiting = VecDeque::from([(folder.to_owned(), 0)]);
    let (mut folders, mut entries) = (0, 0);
    while let Some((dir, depth)) = waiting.pop_front() {
        folders += 1;
        if folders > MAX_FOLDERS || entries > MAX_ENTRIES || depth > MAX_DEPTH {
            found.is_complete = false;
            break;
        }
        // A folder that the caller cannot read is none that the command could.
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            entries += 1;
            let name = entry.file_name();
            let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let is_git = name.eq_ignore_ascii_case(".git");
            if !globs.is_empty() {
                let path = entry.path();
                for (glob, meant) in globs.iter().zip(&mut found.meant) {
                    if glob.matches(&path) {
                        meant.push(path.clone());
                    }
                }
            }
            if is_git && depth > 0 {
                found.repositories.push(dir.clone());
            }
            if is_folder && depth > 0 && name.eq_ignore_ascii_case(".claude") {
                found.claude.push(entry.path());
            }
            if is_folder && !is_git {
                waiting.push_back((entry.path(), depth + 1));
            }
        }
    }
    found
}
