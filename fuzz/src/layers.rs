//! The layers of an image, one above the other.
//!
//! ```text
//!   input:  frames: u32 little-endian length │ content        each a layer, as it is or packed
//!             └─▶ an OCI layout whose documents are true ─▶ Images::import
//! ```
//!
//! Whatever comes, nothing outside of the tree is touched, no device comes to be, nothing is left of
//! what was refused, and what was taken in is what its digest says.

use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use sandbox::images::{Caps, Digest, Images, Platform};

use super::ground::{Ground, names};

/// Layers of one input.
const MOST: usize = 4;

const CAPS: Caps = Caps { bytes: 4 << 20, entries: 2000 };

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let layers = frames(data);
    if layers.is_empty() {
        return;
    }
    let Ok(ground) = Ground::of("layers") else { return };
    if lay(&ground.path("layout"), &layers).is_err() {
        return;
    }
    let images = Images::of(&ground.path("data"));
    let outcome = images.import_capped("x", &ground.path("layout"), CAPS);
    ground.check(&["data", "layout"]);
    let place = ground.path("data/images");
    match outcome {
        Ok(imported) => {
            let tree = place.join(".trees").join(imported.digest.hex()).join("rootfs");
            assert!(tree.is_dir(), "there is no tree of this digest");
            assert_eq!(images.id("x").ok(), Some(imported.digest));
            let (mut entries, mut bytes) = (0, 0);
            look(&tree, &mut entries, &mut bytes);
            assert!(bytes <= CAPS.bytes, "{bytes} bytes");
        }
        Err(error) => {
            let words = error.to_string();
            assert!(!words.contains(char::is_control), "not one line: {words:?}");
            let left: Vec<_> = names(&place).into_iter().filter(|name| !name.starts_with('.')).collect();
            assert!(left.is_empty(), "left behind: {left:?}");
            assert!(names(&place).iter().all(|name| !name.starts_with(".new")), "{:?}", names(&place));
        }
    }
}

/// Files and folders only, and links; nothing with an owner that a sandbox does not have.
fn look(folder: &Path, entries: &mut u64, bytes: &mut u64) {
    for name in names(folder) {
        let path = folder.join(name);
        let Ok(stat) = fs::symlink_metadata(&path) else { continue };
        *entries += 1;
        assert!(stat.is_file() || stat.is_dir() || stat.is_symlink(), "a device: {}", path.display());
        assert!(stat.uid() < 65_536 && stat.gid() < 65_536, "an owner of the host's");
        if stat.is_dir() {
            look(&path, entries, bytes);
        } else if stat.is_file() {
            *bytes += stat.len() / stat.nlink().max(1);
        }
    }
}

fn frames(mut data: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while let Some((header, rest)) = data.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*header) as usize;
        let Some((content, rest)) = rest.split_at_checked(length) else { break };
        frames.push(content);
        data = rest;
        if frames.len() == MOST {
            break;
        }
    }
    frames
}

/// What a layer unpacks to, as far as it can be read: documents that are true let the layer be read.
fn unpacked(layer: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    if layer.starts_with(&[0x1f, 0x8b]) {
        let _ = flate2::read::MultiGzDecoder::new(layer).take(CAPS.bytes + 1).read_to_end(&mut out);
        return out;
    }
    layer.to_vec()
}

/// An OCI layout with these layers.
fn lay(folder: &Path, layers: &[&[u8]]) -> io::Result<()> {
    let descriptor = |bytes: &[u8]| format!(r#"{{"digest":"{}","size":{}}}"#, Digest::of(bytes), bytes.len());
    let list = |words: Vec<String>| words.join(",");
    let ids = list(layers.iter().map(|layer| format!(r#""{}""#, Digest::of(&unpacked(layer)))).collect());
    let architecture = Platform::here().architecture;
    let config = format!(
        r#"{{"os":"linux","architecture":"{architecture}","rootfs":{{"type":"layers","diff_ids":[{ids}]}}}}"#
    );
    let packed = list(layers.iter().map(|layer| descriptor(layer)).collect());
    let manifest = format!(r#"{{"config":{},"layers":[{packed}]}}"#, descriptor(config.as_bytes()));
    let index = format!(r#"{{"manifests":[{}]}}"#, descriptor(manifest.as_bytes()));
    let blobs = folder.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    fs::write(folder.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
    fs::write(folder.join("index.json"), index)?;
    for blob in layers.iter().copied().chain([config.as_bytes(), manifest.as_bytes()]) {
        fs::write(blobs.join(Digest::of(blob).hex()), blob)?;
    }
    Ok(())
}
