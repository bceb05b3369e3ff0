//! Saved layers: what a sandbox wrote, for later ones to stand on.
//!
//! ```text
//!   <data>/layers/<layer>/disk.img, or disk/    upper: the layer, ids from 0
//!                         layer.json            what it stands on itself
//!
//!   seal: sandbox ended, its disk free ─▶ .<layer>/ ─▶ written down ─ rename ─▶ <layer>/
//! ```
//!
//! A layer is never written again. An image is mounted once, however many sandboxes stand on it, and
//! stays for them when it is removed.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use protocol::ids::LayerId;
use protocol::sandbox_host::SavedLayer;
use serde::{Deserialize, Serialize};

use super::disks::{DiskKind, DiskRecord, disk_folder, reopen_image};
use crate::mounts;

/// The name of the record in a layer's folder.
const FILE: &str = "layer.json";

/// Layers below each other at the most; the kernel takes a page of options.
const MAX_DEPTH: usize = 16;

/// What is written down of a layer.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    disk: DiskRecord,
    /// What it stands on; an image below the last.
    below: Option<LayerId>,
    /// The image at the bottom.
    image: String,
    /// The id that root has in it.
    root: u32,
    /// Bytes on the host's disk.
    bytes: u64,
}

/// A tree that a sandbox stands on.
#[derive(Debug)]
pub(crate) struct Lower {
    /// The folder of the disk.
    pub(crate) tree: PathBuf,
    /// The id that root has in it.
    pub(crate) root: u32,
}

/// All layers of one data directory.
#[derive(Debug)]
pub(crate) struct Layers {
    folder: PathBuf,
    /// Where images of layers are mounted, in our own namespace.
    mounts: PathBuf,
    mounted: Mutex<HashMap<LayerId, PathBuf>>,
}

impl Layers {
    /// The layers in a folder that only root may enter. What was half made is removed.
    pub(crate) fn open(folder: PathBuf, mounts: PathBuf) -> Self {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with('.') {
                super::disks::remove(&entry.path());
            }
        }
        Self { folder, mounts, mounted: Mutex::default() }
    }

    /// All of them.
    pub(crate) fn list(&self) -> Vec<SavedLayer> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let ids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        ids.filter_map(|layer| Some(SavedLayer { layer, bytes: self.record(layer)?.bytes })).collect()
    }

    /// The folders that a sandbox on this layer stands on, the topmost first; `None` when there is no
    /// such layer, or it stands on another image.
    pub(crate) fn stack(&self, layer: LayerId, image: &str) -> io::Result<Option<Vec<Lower>>> {
        let mut folders = Vec::new();
        let mut next = Some(layer);
        while let Some(layer) = next {
            let Some(record) = self.record(layer).filter(|record| record.image == image) else {
                return Ok(None);
            };
            if folders.len() == MAX_DEPTH {
                return Err(io::Error::other("too many layers stand on each other"));
            }
            folders.push(Lower { tree: self.tree(layer, &record)?, root: record.root });
            next = record.below;
        }
        Ok(Some(folders))
    }

    /// Keeps the disk of a sandbox that was ended. `home` is the sandbox's folder, `root` the id that root has
    /// on it.
    pub(crate) fn keep(
        &self,
        layer: LayerId,
        home: &Path,
        disk: DiskRecord,
        below: Option<LayerId>,
        image: &str,
        root: u32,
    ) -> io::Result<SavedLayer> {
        let (new, kept) = (self.folder.join(format!(".{layer}")), self.folder.join(layer.to_string()));
        fs::create_dir(&new)?;
        let outcome = (|| {
            let name = disk_folder(disk.kind);
            fs::rename(home.join(name), new.join(name))?;
            let bytes = size(&new.join(name), disk.kind)?;
            let record = Record { disk, below, image: image.to_owned(), root, bytes };
            fs::write(new.join(FILE), serde_json::to_vec(&record)?)?;
            fs::rename(&new, &kept)?;
            Ok(SavedLayer { layer, bytes })
        })();
        if outcome.is_err() {
            super::disks::remove(&new);
        }
        outcome
    }

    /// Removes a layer; an error when another one stands on it.
    pub(crate) fn remove(&self, layer: LayerId) -> io::Result<()> {
        let others = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let mut others = others.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        if let Some(above) =
            others.find(|other| self.record(*other).is_some_and(|record| record.below == Some(layer)))
        {
            return Err(io::Error::other(format!("{above} stands on it; remove that first")));
        }
        if let Some(mounted) = self.mounted.lock().unwrap_or_else(PoisonError::into_inner).remove(&layer) {
            mounts::detach(&mounted);
            let _ = fs::remove_dir(mounted);
        }
        let (kept, gone) = (self.folder.join(layer.to_string()), self.folder.join(format!(".{layer}")));
        match fs::rename(kept, &gone) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            renamed => renamed?,
        }
        super::disks::remove(&gone);
        Ok(())
    }

    fn record(&self, layer: LayerId) -> Option<Record> {
        serde_json::from_slice(&fs::read(self.folder.join(layer.to_string()).join(FILE)).ok()?).ok()
    }

    /// The folder of what the layer's sandbox wrote.
    fn tree(&self, layer: LayerId, record: &Record) -> io::Result<PathBuf> {
        let disk = self.folder.join(layer.to_string()).join(disk_folder(record.disk.kind));
        if record.disk.kind != DiskKind::Image {
            return Ok(disk);
        }
        let mut mounted = self.mounted.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = mounted.get(&layer) {
            return Ok(path.clone());
        }
        let path = self.mounts.join(layer.to_string());
        match fs::create_dir(&path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        mounts::attach(reopen_image(&disk)?.as_fd(), &path)?;
        mounted.insert(layer, path.clone());
        Ok(path)
    }
}

/// Bytes that a disk takes on the host.
fn size(path: &Path, kind: DiskKind) -> io::Result<u64> {
    if kind == DiskKind::Image {
        return Ok(fs::metadata(path)?.blocks() * 512);
    }
    let mut bytes = 0;
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += metadata.blocks() * 512;
        if metadata.is_dir() {
            bytes += size(&entry.path(), kind)?;
        }
    }
    Ok(bytes)
}
