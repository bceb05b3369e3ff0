//! What a person names to be imported, told by what it holds.
//!
//! ```text
//!   folder ─┬ index.json, oci-layout ─▶ Oci          file ─ unpacked ─┬ the same two ──▶ Oci
//!           └ anything else ──────────▶ Tree                          ├ manifest.json ─▶ Docker
//!                                                                     └ anything else ─▶ Tar
//! ```

use std::fs::{self, File};
use std::io::{self, Seek as _, SeekFrom};
use std::path::Path;

use super::apply::Caps;
use super::archive::{Files, tidy};
use super::decode;
use super::entries::{Budget, Entries};
use super::error::{About, ImageError};

/// A source, opened.
pub(super) enum Source {
    /// A root file system in a folder.
    Tree,
    /// A root file system in an archive.
    Tar(File),
    /// An OCI layout.
    Oci(Files),
    /// What `docker save` writes.
    Docker(Files),
}

/// How an archive begins.
enum Kind {
    Image,
    Tree,
}

impl Source {
    /// Finds out what there is at `path`. A packed archive of an image is unpacked into `scratch`.
    pub(super) fn open(path: &Path, scratch: &Path, caps: Caps) -> Result<Self, ImageError> {
        if fs::metadata(path).about(path)?.is_dir() {
            let is_layout = ["oci-layout", "index.json"].iter().all(|name| path.join(name).is_file());
            return if is_layout {
                Ok(Self::Oci(Files::in_folder(path).about(path)?))
            } else {
                Ok(Self::Tree)
            };
        }
        let bad = |error: io::Error| ImageError::unread(path, error);
        let mut file = File::open(path).about(path)?;
        if !file.metadata().about(path)?.is_file() {
            return Err(ImageError::bad(path, "it is neither a folder nor a file"));
        }
        let again = |file: &File| file.try_clone().about(path);
        let reader = decode::file(again(&file)?).map_err(bad)?;
        let kind = kind(Entries::new(reader, &mut budget(caps))).map_err(bad)?;
        file.seek(SeekFrom::Start(0)).about(path)?;
        if let Kind::Tree = kind {
            return Ok(Self::Tar(file));
        }
        let (packing, _) = decode::sniff(&file).about(path)?;
        file.seek(SeekFrom::Start(0)).about(path)?;
        if packing != decode::Packing::Plain {
            file = unpacked(file, scratch, caps).map_err(bad)?;
        }
        let files = Files::in_archive(file, budget(caps)).map_err(bad)?;
        match () {
            () if files.has("oci-layout") && files.has("index.json") => Ok(Self::Oci(files)),
            () if files.has("manifest.json") => Ok(Self::Docker(files)),
            () => Err(ImageError::bad(path, "it has layers of an image, but no document that lists them")),
        }
    }
}

fn budget(caps: Caps) -> Budget {
    Budget { bytes: caps.bytes, entries: caps.entries }
}

/// Reads names until one tells.
fn kind(mut entries: Entries<'_, impl io::Read>) -> io::Result<Kind> {
    let mut any = false;
    while let Some(entry) = entries.next()? {
        let name = tidy(&entry.name);
        match name.as_slice() {
            b"" => {}
            b"oci-layout" | b"manifest.json" | b"index.json" => return Ok(Kind::Image),
            name if is_of_image(name) => any = true,
            _ => return Ok(Kind::Tree),
        }
    }
    Ok(if any { Kind::Image } else { Kind::Tree })
}

/// Names that stand in archives of images, and not at the top of a system.
fn is_of_image(name: &[u8]) -> bool {
    let first = name.split(|byte| *byte == b'/').next().unwrap_or_default();
    let digits = first.strip_suffix(b".json").or_else(|| first.strip_suffix(b".tar")).unwrap_or(first);
    first == b"blobs"
        || first == b"repositories"
        || digits.len() == 64 && digits.iter().all(u8::is_ascii_hexdigit)
}

fn unpacked(file: File, scratch: &Path, caps: Caps) -> io::Result<File> {
    let mut plain = tempfile::tempfile_in(scratch)?;
    let mut reader = io::Read::take(decode::file(file)?, caps.bytes);
    if io::copy(&mut reader, &mut plain)? == caps.bytes {
        return Err(super::entries::bad("it unpacks to more than is allowed"));
    }
    plain.seek(SeekFrom::Start(0))?;
    Ok(plain)
}
