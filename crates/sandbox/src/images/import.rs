//! Taking images in.
//!
//! ```text
//!   Tree ─▶ cp -a ──────────────────────────────────────────┐
//!   Tar ──▶ one archive ────────────────────────────────────┤
//!   Oci, Docker ─▶ manifest ─▶ configuration ─▶ each layer: ├▶ is it a system? ─▶ publish
//!                  its bytes digested, unpacked, digested ──┘
//! ```
//!
//! Nothing is believed before its digest was seen; until then it lies where no name leads.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};

use serde::Deserialize;

use super::apply::{Caps, Whiteouts, Writer, open_tree};
use super::archive::Files;
use super::decode;
use super::digest::{Digest, Hashing};
use super::error::{About, ImageError};
use super::name::check_name;
use super::oci::{Configuration, Descriptor, Document, Index, MAX_DOCUMENT, Manifest};
use super::place::Stage;
use super::record::ImageConfig;
use super::source::Source;
use super::store::{Images, Origin, check_root};

/// An image that was taken in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imported {
    /// Of its content.
    pub digest: Digest,
    /// What it was taken for, for people.
    pub kind: &'static str,
}

/// What of an image was unpacked.
struct Unpacked {
    config: ImageConfig,
    manifest: Option<Digest>,
}

impl Images {
    /// Takes in an OCI layout (folder or archive), an archive of `docker save`, or a root file system
    /// (folder or archive), told by content; archives may be packed with gzip, zstd, xz or bzip2.
    pub fn import(&self, name: &str, path: &Path) -> Result<Imported, ImageError> {
        self.import_capped(name, path, Caps::default())
    }

    /// As [`Self::import`], with other limits on what it may unpack to.
    pub fn import_capped(&self, name: &str, path: &Path, caps: Caps) -> Result<Imported, ImageError> {
        check_root()?;
        check_name(name)?;
        if self.data.find(name).is_some() {
            return Err(ImageError::Exists(name.to_owned()));
        }
        let stage = self.data.stage()?;
        let whole = Unpacked { config: ImageConfig::default(), manifest: None };
        let (kind, unpacked) = match Source::open(path, stage.path(), caps)? {
            Source::Tree => {
                copy(path, &stage.rootfs())?;
                ("root file system", whole)
            }
            Source::Tar(file) => {
                let bad = |error: io::Error| ImageError::unread(path, error);
                let archive = decode::file(file).map_err(bad)?;
                writer(&stage, caps)?.apply(archive, Whiteouts::Ordinary).map_err(bad)?;
                ("archive of a root file system", whole)
            }
            Source::Oci(files) => ("OCI layout", Layout { files: &files, path, caps }.unpack(&stage)?),
            Source::Docker(files) => {
                ("docker archive", Layout { files: &files, path, caps }.unpack_docker(&stage)?)
            }
        };
        let source = format!("{kind} {}", path.display());
        let digest = self.finish(name, stage, path, unpacked, source, false)?;
        Ok(Imported { digest, kind })
    }

    /// Takes in a layout that was pulled; a name that is there already goes over to it.
    pub(super) fn import_pulled(
        &self,
        name: &str,
        layout: &Path,
        source: String,
    ) -> Result<Digest, ImageError> {
        let stage = self.data.stage()?;
        let files = Files::in_folder(layout).about(layout)?;
        let unpacked = Layout { files: &files, path: layout, caps: Caps::default() }.unpack(&stage)?;
        self.finish(name, stage, layout, unpacked, source, true)
    }

    fn finish(
        &self,
        name: &str,
        stage: Stage,
        path: &Path,
        unpacked: Unpacked,
        source: String,
        replace: bool,
    ) -> Result<Digest, ImageError> {
        check_system(&stage.rootfs(), path)?;
        let Unpacked { config, manifest } = unpacked;
        self.publish(name, stage, Origin { source, manifest, recipe: None, config }, replace)
    }
}

/// Whether what was unpacked is a root file system at all.
pub(super) fn check_system(rootfs: &Path, source: &Path) -> Result<(), ImageError> {
    if ["usr", "bin"].iter().any(|name| rootfs.join(name).symlink_metadata().is_ok()) {
        return Ok(());
    }
    Err(ImageError::NoSystem(source.to_owned()))
}

/// Copies a tree, with all that belongs to it.
pub(super) fn copy(source: &Path, rootfs: &Path) -> Result<(), ImageError> {
    let mut command = Command::new("cp");
    command.args(["-a", "--reflink=auto", "--"]).arg(source.join(".")).arg(rootfs);
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).output().about(Path::new("cp"))?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let words = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
    let words = words.chars().take(300).collect();
    Err(ImageError::Program { program: "cp", path: source.to_owned(), words })
}

fn writer(stage: &Stage, caps: Caps) -> Result<Writer, ImageError> {
    let rootfs = stage.rootfs();
    let root = open_tree(&rootfs).and_then(|tree| {
        nix::sys::stat::fchmod(&tree, nix::sys::stat::Mode::from_bits_truncate(0o755))?;
        Writer::new(tree, caps)
    });
    root.about(&rootfs)
}

/// The files of an image.
struct Layout<'a> {
    files: &'a Files,
    /// Where they came from, for messages.
    path: &'a Path,
    caps: Caps,
}

/// One entry of `manifest.json` in an archive of `docker save`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    layers: Vec<String>,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
}

impl Layout<'_> {
    fn bad(&self, why: impl Into<String>) -> ImageError {
        ImageError::bad(self.path, why)
    }

    fn document(&self, name: &str) -> Result<Vec<u8>, ImageError> {
        self.files.read(name, MAX_DOCUMENT).map_err(|error| self.bad(format!("{name}: {error}")))
    }

    /// A document by its digest.
    fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, ImageError> {
        let name = blob_name(&descriptor.digest);
        let bytes = self.document(&name)?;
        let found = Digest::of(&bytes);
        if found != descriptor.digest || bytes.len() as u64 != descriptor.size {
            return Err(ImageError::mismatch(name, &descriptor.digest, &found));
        }
        Ok(bytes)
    }

    fn unpack(&self, stage: &Stage) -> Result<Unpacked, ImageError> {
        let text = self.document("index.json")?;
        let mut index: Index =
            serde_json::from_slice(&text).map_err(|error| self.bad(format!("index.json: {error}")))?;
        // One index may stand in another one, and once more.
        for _ in 0..3 {
            let chosen = index.choose()?.clone();
            let text = self.blob(&chosen)?;
            match serde_json::from_slice(&text) {
                Ok(Document::Manifest(manifest)) => {
                    let config = self.unpack_manifest(&manifest, stage)?;
                    return Ok(Unpacked { config, manifest: Some(chosen.digest) });
                }
                Ok(Document::Index(inner)) => index = inner,
                Err(_) => return Err(self.bad(format!("{} is no manifest", chosen.digest))),
            }
        }
        Err(self.bad("its indexes stand too deep in each other"))
    }

    fn unpack_manifest(&self, manifest: &Manifest, stage: &Stage) -> Result<ImageConfig, ImageError> {
        let configuration = self.configuration(&self.blob(&manifest.config)?)?;
        let ids = configuration.diff_ids(manifest.layers.len()).map_err(|why| self.bad(why))?;
        let mut writer = writer(stage, self.caps)?;
        for (layer, id) in manifest.layers.iter().zip(ids) {
            self.layer(&mut writer, &blob_name(&layer.digest), Some(layer), id)?;
        }
        configuration.image_config().map_err(|why| self.bad(why))
    }

    fn unpack_docker(&self, stage: &Stage) -> Result<Unpacked, ImageError> {
        let text = self.document("manifest.json")?;
        let images: Vec<DockerImage> =
            serde_json::from_slice(&text).map_err(|error| self.bad(format!("manifest.json: {error}")))?;
        let [image] = images.as_slice() else {
            let tags: Vec<_> = images.iter().flat_map(|image| image.repo_tags.iter().flatten()).collect();
            let tags: String = format!("{tags:?}").chars().take(300).collect();
            return Err(self.bad(format!("it holds {} images {tags}; save one alone", images.len())));
        };
        let text = self.document(&image.config)?;
        let digits = image.config.trim_start_matches("blobs/sha256/").trim_end_matches(".json");
        if let Some(expected) = Digest::from_hex(digits).filter(|digest| *digest != Digest::of(&text)) {
            return Err(ImageError::mismatch(&image.config, &expected, &Digest::of(&text)));
        }
        let configuration = self.configuration(&text)?;
        let ids = configuration.diff_ids(image.layers.len()).map_err(|why| self.bad(why))?;
        let mut writer = writer(stage, self.caps)?;
        for (layer, id) in image.layers.iter().zip(ids) {
            self.layer(&mut writer, layer, None, id)?;
        }
        let config = configuration.image_config().map_err(|why| self.bad(why))?;
        Ok(Unpacked { config, manifest: None })
    }

    fn configuration(&self, text: &[u8]) -> Result<Configuration, ImageError> {
        Configuration::read(text).map_err(|why| self.bad(why))?
    }

    /// Writes one layer, and only then knows whether it was the one that was promised; what of it was
    /// written lies in a tree that nobody sees.
    fn layer(
        &self,
        writer: &mut Writer,
        name: &str,
        packed: Option<&Descriptor>,
        id: &Digest,
    ) -> Result<(), ImageError> {
        let bad = |error: io::Error| {
            let named = io::Error::new(error.kind(), format!("layer {name}: {error}"));
            ImageError::unread(self.path, named)
        };
        let (reader, size) = self.files.open(name).map_err(bad)?;
        let mut outer =
            Hashing::new(reader.take(packed.map_or(size, |packed| packed.size.saturating_add(1))));
        let mut inner = Hashing::new(decode::layer(&mut outer).map_err(bad)?);
        let applied = writer.apply(&mut inner, Whiteouts::Applied);
        // A damaged layer cannot be read either; that it is damaged says more.
        let inner = applied.and_then(|()| inner.finish());
        if let Some(packed) = packed {
            let (found, bytes) = outer.finish().map_err(bad)?;
            if found != packed.digest || bytes != packed.size {
                return Err(ImageError::mismatch(format!("layer {name}"), &packed.digest, &found));
            }
        }
        let (found, _) = inner.map_err(bad)?;
        if found == *id {
            Ok(())
        } else {
            Err(ImageError::mismatch(format!("layer {name}, unpacked,"), id, &found))
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}
