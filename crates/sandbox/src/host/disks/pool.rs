//! Disks made in advance.
//!
//! ```text
//!   take ─▶ one of this size is ready? ── yes ─▶ renamed into the sandbox's folder
//!                     │                                   └─▶ another is made meanwhile
//!                     └── no ─▶ made now
//! ```

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use protocol::sandbox_host::LimitReport;

use super::image::{self, Image};
use super::kind::{self, Disk, DiskKind, DiskRecord};

/// How many are kept ready.
const READY: usize = 3;

/// What the names of files begin with that are ready for a sandbox.
const SPARE: &str = "spare-";

/// Makes disks in one folder.
#[derive(Debug)]
pub(crate) struct Disks {
    folder: PathBuf,
    found: OnceLock<(DiskKind, String)>,
    spare: Mutex<Spare>,
}

#[derive(Debug, Default)]
struct Spare {
    /// The size of all of them.
    bytes: u64,
    ready: Vec<(PathBuf, Image)>,
    /// Whether somebody makes more.
    being_made: bool,
    /// For names.
    made: u64,
}

impl Disks {
    /// Disks in this folder; what a predecessor had ready is removed.
    pub(crate) fn open(folder: PathBuf) -> Arc<Self> {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(SPARE) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Arc::new(Self { folder, found: OnceLock::new(), spare: Mutex::default() })
    }

    /// How disks are kept here, found out once.
    pub(crate) fn kind(&self) -> DiskKind {
        self.found().0
    }

    /// Whether a disk ends where it should, and by what.
    pub(crate) fn report(&self) -> LimitReport {
        let (kind, why_not) = self.found();
        let note = match (kind.is_limited(), why_not.is_empty()) {
            (true, _) => kind.note().to_owned(),
            (false, true) => "no limit was asked for".to_owned(),
            (false, false) => format!("what a sandbox writes is not limited ({why_not})"),
        };
        LimitReport { name: "disk".into(), enforced: kind.is_limited(), note }
    }

    fn found(&self) -> &(DiskKind, String) {
        self.found.get_or_init(|| {
            let trial = self.folder.join(format!("{SPARE}trial"));
            let _ = fs::remove_dir_all(&trial);
            let found = match fs::create_dir(&trial) {
                Ok(()) => kind::find(&trial),
                Err(error) => (DiskKind::Folder, error.to_string()),
            };
            let _ = fs::remove_dir_all(&trial);
            found
        })
    }

    /// A disk in a sandbox's folder. `number` is one that no other sandbox has.
    pub(crate) fn take(self: &Arc<Self>, home: &Path, bytes: u64, number: u32) -> io::Result<Disk> {
        let kind = self.kind();
        if kind != DiskKind::Image {
            return kind.make(home, bytes, number);
        }
        let spare = {
            let mut spare = self.spare();
            if spare.bytes == bytes { spare.ready.pop() } else { None }
        };
        self.fill(bytes);
        match spare {
            Some((path, Image { tree, device })) => {
                fs::rename(path, home.join(image::FILE))?;
                Ok(Disk { tree, record: DiskRecord { kind, device: Some(device) } })
            }
            None => kind.make(home, bytes, number),
        }
    }

    /// Makes spare disks of this size in the background.
    pub(crate) fn fill(self: &Arc<Self>, bytes: u64) {
        let mut spare = self.spare();
        if self.kind() != DiskKind::Image || spare.being_made {
            return;
        }
        spare.being_made = true;
        let this = Arc::clone(self);
        // Not on one of the threads for requests: those are for who waits.
        let started =
            std::thread::Builder::new().name("spare-disks".into()).spawn(move || this.make_spare(bytes));
        if started.is_err() {
            spare.being_made = false;
        }
    }

    fn make_spare(&self, bytes: u64) {
        loop {
            let path = {
                let mut spare = self.spare();
                if spare.bytes != bytes {
                    // Of another size: nobody asked for that last.
                    for (path, _) in spare.ready.drain(..) {
                        let _ = fs::remove_file(path);
                    }
                    spare.bytes = bytes;
                }
                if spare.ready.len() >= READY {
                    spare.being_made = false;
                    return;
                }
                spare.made += 1;
                self.folder.join(format!("{SPARE}{}-{}.img", std::process::id(), spare.made))
            };
            let made = image::make(&path, bytes).and_then(|image| kind::lay_out(&image.tree).map(|()| image));
            let mut spare = self.spare();
            match made {
                Ok(image) => spare.ready.push((path, image)),
                Err(error) => {
                    tracing::warn!(%error, "no disk could be made in advance");
                    let _ = fs::remove_file(path);
                    spare.being_made = false;
                    return;
                }
            }
        }
    }

    fn spare(&self) -> std::sync::MutexGuard<'_, Spare> {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Disks {
    fn drop(&mut self) {
        for (path, _) in self.spare().ready.drain(..) {
            let _ = fs::remove_file(path);
        }
    }
}
