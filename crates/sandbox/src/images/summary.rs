//! What a tree comes to: its digest, its size, and a cheap sign that it changed.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::BorrowedFd;

use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat};
use sha2::{Digest as _, Sha256};
use xattr::FileExt as _;

use super::digest::Digest;
use super::record::ImageConfig;
use super::walk::{Seen, kind, walk};

/// A tree, measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Summary {
    /// Of names, kinds, owners, modes, bytes, links, attributes and the configuration; not of times.
    pub(super) digest: Digest,
    /// Bytes of its files; those with several names are counted once a name.
    pub(super) size: u64,
}

/// Reads the whole tree.
pub(super) fn summary(tree: BorrowedFd<'_>, config: &ImageConfig) -> io::Result<Summary> {
    let mut hasher = Sha256::new();
    // The form of what is digested; to be changed with it.
    field(&mut hasher, b"patchyard image 1");
    field(&mut hasher, &serde_json::to_vec(config)?);
    owner(&mut hasher, &fstat(tree)?);
    let (mut size, mut buffer) = (0, vec![0; 128 * 1024]);
    walk(tree, &mut |seen| {
        field(&mut hasher, seen.path);
        owner(&mut hasher, &seen.stat);
        size += content(&mut hasher, seen, &mut buffer)?;
        Ok(())
    })?;
    Ok(Summary { digest: Digest::from_hasher(hasher), size })
}

/// Differs whenever anything in the tree was touched; costs no reading of files.
pub(super) fn fingerprint(tree: BorrowedFd<'_>) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut take = |path: &[u8], stat: &FileStat| {
        field(&mut hasher, path);
        for number in [stat.st_ino, stat.st_size.cast_unsigned(), u64::from(stat.st_mode)] {
            hasher.update(number.to_le_bytes());
        }
        hasher.update(stat.st_ctime.to_le_bytes());
        hasher.update(stat.st_ctime_nsec.to_le_bytes());
    };
    take(b"", &fstat(tree)?);
    walk(tree, &mut |seen| {
        take(seen.path, &seen.stat);
        Ok(())
    })?;
    Ok(Digest::from_hasher(hasher))
}

/// With its length before it, so that no two fields can be read as one.
fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update((bytes.len() as u64).to_le_bytes());
    hasher.update(bytes);
}

fn owner(hasher: &mut Sha256, stat: &FileStat) {
    for number in [stat.st_mode, stat.st_uid, stat.st_gid] {
        hasher.update(number.to_le_bytes());
    }
}

/// Takes in what an entry holds; the bytes of it.
fn content(hasher: &mut Sha256, seen: &Seen<'_>, buffer: &mut [u8]) -> io::Result<u64> {
    let open = |flags: OFlag| -> io::Result<File> {
        let flags = flags | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        Ok(File::from(openat(seen.parent, seen.name.as_c_str(), flags, Mode::empty())?))
    };
    match kind(&seen.stat) {
        SFlag::S_IFREG => {
            let mut file = open(OFlag::empty())?;
            attributes(hasher, &file)?;
            hasher.update(seen.stat.st_size.to_le_bytes());
            let mut size = 0;
            loop {
                match file.read(buffer)? {
                    0 => return Ok(size),
                    read => {
                        hasher.update(&buffer[..read]);
                        size += read as u64;
                    }
                }
            }
        }
        SFlag::S_IFDIR => attributes(hasher, &open(OFlag::O_DIRECTORY)?)?,
        SFlag::S_IFLNK => {
            let target = readlinkat(seen.parent, seen.name.as_c_str())?;
            field(hasher, target.as_encoded_bytes());
        }
        _ => hasher.update(seen.stat.st_rdev.to_le_bytes()),
    }
    Ok(0)
}

fn attributes(hasher: &mut Sha256, file: &File) -> io::Result<()> {
    let names = match file.list_xattr() {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            field_count(hasher, 0);
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    // What the host's own security modules add is not of the image.
    names.retain(|name| name == "security.capability" || name.as_encoded_bytes().starts_with(b"user."));
    field_count(hasher, names.len());
    for name in names {
        field(hasher, name.as_encoded_bytes());
        field(hasher, &file.get_xattr(&name)?.unwrap_or_default());
    }
    Ok(())
}

fn field_count(hasher: &mut Sha256, count: usize) {
    hasher.update((count as u64).to_le_bytes());
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn digest(folder: &std::path::Path) -> (Digest, Digest) {
        let tree = File::open(folder).unwrap();
        let summary = summary(tree.as_fd(), &ImageConfig::default()).unwrap();
        (summary.digest, fingerprint(tree.as_fd()).unwrap())
    }

    #[test]
    fn any_change_but_that_of_a_time_changes_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        fs::create_dir(path.join("a")).unwrap();
        fs::write(path.join("a/file"), "one").unwrap();
        symlink("file", path.join("a/link")).unwrap();
        let mut seen = vec![digest(path)];
        let changes: [&dyn Fn(); 5] = [
            &|| fs::write(path.join("a/file"), "two").unwrap(),
            &|| fs::set_permissions(path.join("a/file"), fs::Permissions::from_mode(0o4755)).unwrap(),
            &|| fs::rename(path.join("a/file"), path.join("a/other")).unwrap(),
            &|| {
                fs::remove_file(path.join("a/link")).unwrap();
                symlink("other", path.join("a/link")).unwrap();
            },
            &|| fs::create_dir(path.join("b")).unwrap(),
        ];
        for change in changes {
            change();
            let now = digest(path);
            assert!(seen.iter().all(|(old, print)| *old != now.0 && *print != now.1));
            seen.push(now);
        }
        let before = digest(path);
        let file = File::options().write(true).open(path.join("a/other")).unwrap();
        file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
        let after = digest(path);
        assert_eq!(before.0, after.0, "a time is no content");
        assert_ne!(before.1, after.1, "but a sign that something happened");
        let tree = File::open(path).unwrap();
        let config = ImageConfig { user: Some("1000".into()), ..ImageConfig::default() };
        assert_ne!(summary(tree.as_fd(), &config).unwrap().digest, after.0, "variables are content");
    }
}
