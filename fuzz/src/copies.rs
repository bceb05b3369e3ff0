//! The two halves of a copy: an archive that says anything, unpacked where links wait for it.
//!
//! ```text
//!   input:  1 byte: which destination │ a tar archive
//!
//!   root/ ─ tree/a   the folder and the file that are there
//!         ├ out      ─▶ ../outside            links that lead out, as a sandbox can make them
//!         └ tree/out ─▶ ../../outside
//! ```
//!
//! Whatever comes, nothing outside is touched, no link is made, and what was unpacked can be packed and
//! unpacked again to as much.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::Path;

use archive::{pack, unpack};

use super::ground::{Ground, names};

const DESTINATIONS: [&str; 7] = ["", "tree", "new", "tree/a", "out", "out/x", "tree/../x"];

/// The links that are there from the beginning.
const LINKS: [&str; 2] = ["out", "tree/out"];

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((which, bytes)) = data.split_first() else { return };
    let Ok((ground, root)) = laid() else { return };
    let destination = DESTINATIONS[usize::from(*which) % DESTINATIONS.len()];
    let outcome = unpack(root.as_fd(), Path::new(destination), bytes);
    ground.check(&["root"]);
    let Ok(folder) = ground.path("root").canonicalize() else { return };
    no_link(&folder, &folder);
    let Err(error) = outcome else { return again(&ground, &root) };
    let words = error.to_string();
    assert!(!words.is_empty(), "an error without words");
}

fn laid() -> io::Result<(Ground, File)> {
    let ground = Ground::of("copies")?;
    fs::create_dir_all(ground.path("root/tree"))?;
    fs::write(ground.path("root/tree/a"), "a")?;
    symlink("../outside", ground.path("root/out"))?;
    symlink("../../outside", ground.path("root/tree/out"))?;
    let root = File::open(ground.path("root"))?;
    Ok((ground, root))
}

/// No link but those that were there.
fn no_link(root: &Path, folder: &Path) {
    for name in names(folder) {
        let path = folder.join(name);
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        if stat.is_symlink() {
            let known =
                path.strip_prefix(root).is_ok_and(|path| LINKS.iter().any(|link| path == Path::new(link)));
            assert!(known, "a link was made: {}", path.display());
        } else if stat.is_dir() {
            no_link(root, &path);
        } else {
            assert!(stat.is_file(), "neither a file nor a folder: {}", path.display());
        }
    }
}

/// Packs what is there, and unpacks that.
fn again(ground: &Ground, root: &File) {
    let mut bytes = Vec::new();
    let Ok(packed) = pack(root.as_fd(), Path::new("tree"), &mut bytes) else { return };
    let second = ground.path("second");
    if fs::create_dir(&second).is_err() {
        return;
    }
    let Ok(folder) = File::open(&second) else { return };
    match unpack(folder.as_fd(), Path::new(""), bytes.as_slice()) {
        Ok(unpacked) => {
            assert_eq!(
                (packed.entries, packed.bytes),
                (unpacked.entries, unpacked.bytes),
                "not the same again"
            );
        }
        Err(error) => panic!("what was packed cannot be unpacked: {error}"),
    }
}
