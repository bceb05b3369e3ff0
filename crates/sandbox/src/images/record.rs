//! What is written beside a tree, and in place of one.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::Path;

use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::digest::Digest;

/// How commands in an image are to be run, as its maker wished.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Variables by name, such as `PATH`.
    pub environment: BTreeMap<String, String>,
    /// Where commands start; absolute.
    pub working_dir: Option<String>,
    /// Who runs them: a name or number, perhaps with a group after a colon.
    pub user: Option<String>,
}

/// `.trees/<digest>/image.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct TreeRecord {
    pub(super) digest: Digest,
    /// Bytes of its files.
    pub(super) size: u64,
    /// When it was unpacked or built.
    pub(super) created: Timestamp,
    /// The manifest that it was unpacked from.
    #[serde(default)]
    pub(super) manifest: Option<Digest>,
    #[serde(default)]
    pub(super) config: ImageConfig,
}

/// `<name>/reference.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Reference {
    pub(super) digest: Digest,
    /// Where the image came from, for people.
    pub(super) source: String,
    /// When the name was given to it.
    pub(super) created: Timestamp,
    /// The digest of the recipe that it was built by.
    #[serde(default)]
    pub(super) recipe: Option<Digest>,
}

/// `<name>/.summary.json`, beside a tree made by hand: what it came to, as long as it looks the same.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct HandRecord {
    pub(super) fingerprint: Digest,
    pub(super) digest: Digest,
    pub(super) size: u64,
}

/// Reads a record; `None` when there is none that makes sense.
pub(super) fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// Writes a record whole or not at all.
pub(super) fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".record-").tempfile_in(folder)?;
    file.write_all(&serde_json::to_vec_pretty(record)?)?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    File::open(folder)?.sync_all()
}
