//! What stands where a protected file could be made, for as long as a command runs.
//!
//! ```text
//!   <folder>/lock        held while anything here changes
//!   <folder>/<random>    one record per run, locked by its keeper: path, device, inode of each placeholder
//!
//!   begin: sweep the records of dead runs ─▶ make what is absent ─▶ write the record
//!   end:   remove what no other living run has in its record ─▶ remove the record
//! ```
//!
//! For a file the placeholder is a socket that nobody listens on: git passes over it, no program can
//! open it, and nobody can leave content in it. For a folder it is an empty one. Only what is still
//! exactly that is removed.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::sys::stat::{Mode, SFlag, mkdirat, mknodat};
use serde::{Deserialize, Serialize};

use super::protected::Kind;
use super::tree;

/// One placeholder, or a run's own folder for temporary files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Made {
    path: PathBuf,
    device: u64,
    inode: u64,
    is_temporary: bool,
}

/// The placeholders that one run relies on.
#[derive(Debug)]
pub(crate) struct Placeholders {
    folder: PathBuf,
    record: PathBuf,
    file: Flock<File>,
    made: Vec<Made>,
}

impl Placeholders {
    /// Cleans up after dead runs, then makes what is absent. The paths that are there now are added to
    /// `read_only`; those that nobody could make are not.
    pub(crate) fn begin(
        folder: &Path,
        absent: &[(PathBuf, Kind)],
        read_only: &mut BTreeSet<PathBuf>,
    ) -> io::Result<Self> {
        let _lock = lock(folder)?;
        let living = sweep(folder)?;
        let record = folder.join(format!("run-{}", std::process::id()));
        let file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&record)?;
        let file = Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error)?;
        let mut run = Self { folder: folder.to_owned(), record, file, made: Vec::new() };
        // What another run has made is relied on by this one too.
        for made in living {
            if read_only.contains(&made.path) && !made.is_temporary {
                run.made.push(made);
            }
        }
        // What another run took away since we looked is absent too.
        let gone: Vec<(PathBuf, Kind)> =
            read_only.iter().filter(|path| !is_there(path)).map(|path| (path.clone(), Kind::File)).collect();
        read_only.retain(|path| is_there(path));
        for (path, kind) in absent.iter().chain(&gone) {
            match make(path, *kind) {
                Ok(made) => {
                    read_only.insert(path.clone());
                    run.made.push(made);
                    // Before the next one, so that whatever ends us, what there is is known.
                    run.write()?;
                }
                Err(error) if is_there(path) && error.kind() == io::ErrorKind::AlreadyExists => {
                    read_only.insert(path.clone());
                }
                // Where the caller may make nothing, neither may the command.
                Err(error) if cannot_be_made(&error) => {}
                Err(error) => {
                    run.end_locked();
                    return Err(io::Error::new(error.kind(), format!("{}: {error}", path.display())));
                }
            }
        }
        run.write()?;
        Ok(run)
    }

    /// A folder for temporary files that goes with the run.
    pub(crate) fn temporary(&mut self) -> io::Result<PathBuf> {
        let base = std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
        let base = fs::canonicalize(&base).or_else(|_| fs::canonicalize("/tmp"))?;
        let path = nix::unistd::mkdtemp(&base.join(format!("patchyard-{}", "X".repeat(6))))?;
        let about = fs::symlink_metadata(&path)?;
        self.made.push(Made {
            path: path.clone(),
            device: about.dev(),
            inode: about.ino(),
            is_temporary: true,
        });
        self.write()?;
        Ok(path)
    }

    /// Removes what nobody else relies on.
    pub(crate) fn end(self) {
        // Without the lock it stays for the next run's sweep.
        if let Ok(_lock) = lock(&self.folder) {
            self.end_locked();
        }
    }

    fn end_locked(&self) {
        let others = living(&self.folder, Some(&self.record)).unwrap_or_default();
        self.made.iter().filter(|made| !others.contains(made)).for_each(remove);
        let _ = fs::remove_file(&self.record);
    }

    fn write(&mut self) -> io::Result<()> {
        let text = serde_json::to_vec(&self.made)?;
        // The record is short: written at once, and read only by who finds us dead.
        use std::os::unix::fs::FileExt as _;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)
    }
}

/// The folder of records of whoever calls.
pub(crate) fn folder(home: &Path) -> PathBuf {
    if nix::unistd::geteuid().is_root() {
        return "/run/patchyard-sandbox".into();
    }
    match std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from) {
        Some(runtime) if runtime.is_absolute() && runtime.is_dir() => runtime.join("patchyard-sandbox"),
        _ => home.join(".local/state/patchyard/sandbox"),
    }
}

/// Makes the folder of records. Root's can be passed through, because the sandbox's root, who is
/// somebody else, starts from a folder in it.
pub(crate) fn prepare(folder: &Path) -> io::Result<()> {
    let mode = if nix::unistd::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(folder)?;
    let about = fs::symlink_metadata(folder)?;
    if !about.is_dir() || about.uid() != nix::unistd::geteuid().as_raw() {
        return Err(io::Error::other(format!("{} belongs to somebody else", folder.display())));
    }
    match fs::create_dir(folder.join("root")) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::options().create(true).append(true).mode(0o444).open(folder.join("empty")).or_else(|error| {
        if folder.join("empty").exists() { File::open(folder.join("empty")) } else { Err(error) }
    })?;
    Ok(())
}

fn lock(folder: &Path) -> io::Result<Flock<File>> {
    let file =
        OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(folder.join("lock"))?;
    Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, error)| error.into())
}

/// Removes what dead runs left; what the living ones rely on.
fn sweep(folder: &Path) -> io::Result<BTreeSet<Made>> {
    let living = living(folder, None)?;
    for (record, text) in records(folder)? {
        let Some(text) = text else { continue };
        let made: Vec<Made> = serde_json::from_slice(&text).unwrap_or_default();
        made.iter().filter(|made| !living.contains(made)).for_each(remove);
        let _ = fs::remove_file(record);
    }
    Ok(living)
}

fn living(folder: &Path, own: Option<&Path>) -> io::Result<BTreeSet<Made>> {
    let mut living = BTreeSet::new();
    for (record, dead) in records(folder)? {
        if dead.is_none() && own != Some(record.as_path()) {
            let text = fs::read(&record).unwrap_or_default();
            living.extend(serde_json::from_slice::<Vec<Made>>(&text).unwrap_or_default());
        }
    }
    Ok(living)
}

/// All records; with its text when its run is dead.
fn records(folder: &Path) -> io::Result<Vec<(PathBuf, Option<Vec<u8>>)>> {
    let mut records = Vec::new();
    for entry in fs::read_dir(folder)?.flatten() {
        if !entry.file_name().to_string_lossy().starts_with("run-") {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        let is_dead = Flock::lock(file, FlockArg::LockExclusiveNonblock).is_ok();
        let text = is_dead.then(|| fs::read(entry.path()).unwrap_or_default());
        records.push((entry.path(), text));
    }
    Ok(records)
}

fn make(path: &Path, kind: Kind) -> io::Result<Made> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let root = crate::mounts::open_path(Path::new("/"))?;
    let folder = tree::open(root.as_fd(), folder, libc::O_PATH | libc::O_DIRECTORY)?;
    let made = match kind {
        Kind::Folder => mkdirat(&folder, name, Mode::from_bits_truncate(0o755)),
        Kind::File => match mknodat(&folder, name, SFlag::S_IFSOCK, Mode::from_bits_truncate(0o644), 0) {
            // A file system without sockets.
            Err(nix::errno::Errno::EPERM | nix::errno::Errno::EOPNOTSUPP) => {
                mkdirat(&folder, name, Mode::from_bits_truncate(0o755))
            }
            other => other,
        },
    };
    made?;
    let about = fs::symlink_metadata(path)?;
    Ok(Made { path: path.to_owned(), device: about.dev(), inode: about.ino(), is_temporary: false })
}

fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn cannot_be_made(error: &io::Error) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound, PermissionDenied, ReadOnlyFilesystem};
    matches!(error.kind(), PermissionDenied | ReadOnlyFilesystem | NotFound | NotADirectory)
}

fn remove(made: &Made) {
    let Ok(about) = fs::symlink_metadata(&made.path) else { return };
    if (about.dev(), about.ino()) != (made.device, made.inode) {
        return;
    }
    let _ = if made.is_temporary {
        fs::remove_dir_all(&made.path)
    } else if about.file_type().is_socket() {
        fs::remove_file(&made.path)
    } else {
        // Refused by the kernel when somebody has put something into it.
        fs::remove_dir(&made.path)
    };
}
