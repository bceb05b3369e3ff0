//! Finds conversations.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::home::Home;
use crate::uuid;

/// The conversation of an id: of this folder, else of any.
pub(crate) fn of_id(home: &Home, folder: &Path, id: &str) -> Option<PathBuf> {
    if !uuid::is_one(id) {
        return None;
    }
    let name = format!("{id}.jsonl");
    let here = home.conversations(folder).join(&name);
    if here.is_file() {
        return Some(here);
    }
    let all = fs::read_dir(home.projects()).into_iter().flatten().flatten();
    all.map(|entry| entry.path().join(&name)).find(|path| path.is_file())
}

/// The newest conversation of a folder, and its id.
pub(crate) fn newest(home: &Home, folder: &Path) -> Option<(PathBuf, String)> {
    let entries = fs::read_dir(home.conversations(folder)).into_iter().flatten().flatten();
    let one = |entry: fs::DirEntry| -> Option<(SystemTime, PathBuf, String)> {
        let path = entry.path();
        let id = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
        let about = entry.metadata().ok().filter(|about| about.is_file() && about.len() > 0)?;
        uuid::is_one(&id).then_some((about.modified().ok()?, path, id))
    };
    entries.filter_map(one).max().map(|(_, path, id)| (path, id))
}
