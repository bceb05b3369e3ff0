//! Packing and unpacking between real folders, and archives that lie.

// The lints know helpers of tests only inside of `#[test]`.
#![allow(unreachable_pub, clippy::unwrap_used)]

mod corpus;

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use archive::{ArchiveError, Unpacked, pack, unpack};
use proptest::prelude::*;
use tar::{Builder, EntryType, Header};
use tempfile::TempDir;

fn packed(root: &Path, path: &str) -> Result<Vec<u8>, ArchiveError> {
    let mut bytes = Vec::new();
    pack(File::open(root).unwrap().as_fd(), Path::new(path), &mut bytes)?;
    Ok(bytes)
}

fn unpacked(root: &Path, path: &str, bytes: &[u8]) -> Result<Unpacked, ArchiveError> {
    unpack(File::open(root).unwrap().as_fd(), Path::new(path), bytes)
}

fn source() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir_all(tree.join("deep/er")).unwrap();
    fs::write(tree.join("a"), "one").unwrap();
    fs::write(tree.join("deep/er/b"), vec![7; 100_000]).unwrap();
    fs::write(tree.join("run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("run"), fs::Permissions::from_mode(0o4755)).unwrap();
    fs::write(tree.join("n".repeat(200)), "long").unwrap();
    symlink("/etc", tree.join("link")).unwrap();
    folder
}

#[test]
fn a_tree_arrives_into_a_folder_or_under_another_name_without_its_links() {
    let (source, target) = (source(), tempfile::tempdir().unwrap());
    let bytes = packed(source.path(), "/tree").unwrap();
    let done = unpacked(target.path(), "", &bytes).unwrap();
    assert_eq!((done.entries, done.bytes), (7, 100_017));
    assert_eq!(fs::read_to_string(target.path().join("tree/a")).unwrap(), "one");
    assert_eq!(fs::read(target.path().join("tree/deep/er/b")).unwrap().len(), 100_000);
    assert!(target.path().join("tree").join("n".repeat(200)).is_file());
    assert!(fs::symlink_metadata(target.path().join("tree/link")).is_err());
    let mode = fs::metadata(target.path().join("tree/run")).unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o755, "no setuid");
    unpacked(target.path(), "other", &bytes).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("other/a")).unwrap(), "one");
    // Once more: into what is there now, and a single file over another.
    unpacked(target.path(), "other", &bytes).unwrap();
    assert!(target.path().join("other/tree/a").is_file());
    let file = packed(source.path(), "tree/a").unwrap();
    unpacked(target.path(), "other/deep/copy", &file).unwrap();
    unpacked(target.path(), "other/deep/copy", &file).unwrap();
    assert_eq!(fs::read_to_string(target.path().join("other/deep/copy")).unwrap(), "one");
}

#[test]
fn no_link_is_followed_on_either_side() {
    let (source, target) = (source(), tempfile::tempdir().unwrap());
    for path in ["tree/link", "tree/link/passwd", "tree/../tree/a", "..", "/", "tree/none"] {
        assert!(packed(source.path(), path).is_err(), "{path}");
    }
    let mut nothing = Vec::new();
    pack(File::open(source.path()).unwrap().as_fd(), Path::new("tree/link"), &mut nothing).unwrap_err();
    assert!(nothing.is_empty(), "no archive at all, not an empty one");
    let said = packed(source.path(), "tree/link/passwd").unwrap_err().to_string();
    assert!(said.contains("is a link"), "{said}");
    let bytes = packed(source.path(), "tree").unwrap();
    let outside = tempfile::tempdir().unwrap();
    symlink(outside.path(), target.path().join("out")).unwrap();
    for path in ["out", "out/x", "../x", "none/x"] {
        // `out` itself is a name that is taken by a link: it may be refused, and must not be followed.
        let _ = unpacked(target.path(), path, &bytes);
        assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0, "{path}");
    }
    // A link in the way of a folder or in the place of a file.
    fs::create_dir(target.path().join("tree")).unwrap();
    symlink(outside.path(), target.path().join("tree/deep")).unwrap();
    assert!(unpacked(target.path(), "", &bytes).is_err());
    for name in ["deep", "a"] {
        fs::remove_file(target.path().join("tree").join(name)).unwrap();
    }
    fs::write(outside.path().join("victim"), "kept").unwrap();
    symlink(outside.path().join("victim"), target.path().join("tree/a")).unwrap();
    unpacked(target.path(), "", &bytes).unwrap();
    assert_eq!(fs::read_to_string(outside.path().join("victim")).unwrap(), "kept");
    assert_eq!(fs::read_to_string(target.path().join("tree/a")).unwrap(), "one");
}

/// An archive with these entries, whatever their names are.
fn lies(entries: &[(EntryType, &[u8], &str)]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for (kind, name, link) in entries {
        let mut header = Header::new_gnu();
        header.as_old_mut().name[..name.len()].copy_from_slice(name);
        header.set_entry_type(*kind);
        header.set_mode(0o644);
        if !link.is_empty() {
            header.set_link_name_literal(link).unwrap();
        }
        header.set_size(if *kind == EntryType::Regular { 4 } else { 0 });
        header.set_cksum();
        let content: &[u8] = if *kind == EntryType::Regular { b"evil" } else { b"" };
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn an_archive_that_lies_writes_nothing_elsewhere() {
    use EntryType as T;
    let cases: &[&[(T, &[u8], &str)]] = &[
        &[(T::Regular, b"../evil", "")],
        &[(T::Regular, b"/evil", "")],
        &[(T::Regular, b"top/../../evil", "")],
        &[(T::Symlink, b"top", "/tmp"), (T::Regular, b"top/evil", "")],
        &[(T::Symlink, b"top", ".."), (T::Regular, b"top/evil", "")],
        &[(T::Directory, b"top/", ""), (T::Symlink, b"top/l", ".."), (T::Regular, b"top/l/evil", "")],
        &[(T::Link, b"top", "/etc/passwd"), (T::Regular, b"top", "")],
        &[(T::Char, b"top", ""), (T::Block, b"top", ""), (T::Fifo, b"top", "")],
        &[(T::Regular, b"one", ""), (T::Regular, b"two", "")],
    ];
    for entries in cases {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        fs::create_dir(&target).unwrap();
        let _ = unpacked(&target, "", &lies(entries));
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "{entries:?}");
        for entry in fs::read_dir(&target).unwrap().flatten() {
            let kind = entry.file_type().unwrap();
            assert!(kind.is_file() || kind.is_dir(), "{entries:?}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_end_in_an_answer_and_stay_inside(bytes in proptest::collection::vec(any::<u8>(), 0..4096)) {
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        fs::create_dir(&target).unwrap();
        let _ = unpacked(&target, "x", &bytes);
        prop_assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }

    /// A real archive with a few bytes changed, cut anywhere.
    #[test]
    fn damaged_archives_stay_inside(
        changes in proptest::collection::vec((0_usize..4096, any::<u8>()), 0..12),
        length in 0_usize..8192,
    ) {
        let source = source();
        let mut bytes = packed(source.path(), "tree").unwrap();
        for (at, byte) in changes {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(length.max(512));
        let parent = tempfile::tempdir().unwrap();
        let target = parent.path().join("target");
        fs::create_dir(&target).unwrap();
        let _ = unpacked(&target, "x", &bytes);
        prop_assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1);
    }
}
