//! A folder of images of its own, and archives of every kind to put into it.

use std::fs;
use std::path::{Path, PathBuf};

use sandbox::images::{Digest, Images, Platform};
use serde_json::json;
use tar::{Builder, EntryType, Header};

/// Something in an archive.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) name: String,
    pub(crate) kind: EntryType,
    pub(crate) link: String,
    pub(crate) content: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: u64,
}

pub(crate) fn item(kind: EntryType, name: &str) -> Item {
    let mode = if kind == EntryType::Directory { 0o755 } else { 0o644 };
    Item { name: name.into(), kind, link: String::new(), content: Vec::new(), mode, owner: 0 }
}

pub(crate) fn file(name: &str, content: &str) -> Item {
    Item { content: content.into(), ..item(EntryType::Regular, name) }
}

pub(crate) fn folder(name: &str) -> Item {
    item(EntryType::Directory, name)
}

pub(crate) fn symlink(name: &str, to: &str) -> Item {
    Item { link: to.into(), ..item(EntryType::Symlink, name) }
}

pub(crate) fn hard_link(name: &str, to: &str) -> Item {
    Item { link: to.into(), ..item(EntryType::Link, name) }
}

/// A header with any name, also one that a proper packer would refuse.
fn header(item: &Item) -> Header {
    let mut header = Header::new_gnu();
    let put = |field: &mut [u8], text: &str| {
        let length = text.len().min(field.len());
        field[..length].copy_from_slice(&text.as_bytes()[..length]);
    };
    if let Some(gnu) = header.as_gnu_mut() {
        put(&mut gnu.name, &item.name);
        put(&mut gnu.linkname, &item.link);
    }
    header.set_entry_type(item.kind);
    header.set_mode(item.mode);
    header.set_uid(item.owner);
    header.set_gid(item.owner);
    header.set_mtime(1_000_000_000);
    header.set_size(item.content.len() as u64);
    header.set_cksum();
    header
}

pub(crate) fn tar(items: &[Item]) -> Vec<u8> {
    let mut builder = Builder::new(Vec::new());
    for item in items {
        builder.append(&header(item), item.content.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    ruzstd::encoding::compress_to_vec(bytes, ruzstd::encoding::CompressionLevel::Fastest)
}

/// The files of an OCI layout with one image, by name.
pub(crate) struct Layout {
    pub(crate) files: Vec<(String, Vec<u8>)>,
    pub(crate) manifest: Digest,
}

fn blob(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("blobs/sha256/{}", Digest::of(bytes).hex()), bytes.to_vec())
}

fn configuration(layers: &[Vec<u8>], architecture: &str) -> Vec<u8> {
    let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({ "Env": ["PATH=/opt/bin:/bin", "NAME=x=y"], "WorkingDir": "/srv", "User": "1000" });
    let config = json!({
        "architecture": architecture, "os": "linux", "config": config,
        "rootfs": { "type": "layers", "diff_ids": ids }
    });
    config.to_string().into_bytes()
}

/// An OCI layout of these layers, each packed by `pack`.
pub(crate) fn layout(layers: &[Vec<u8>], pack: impl Fn(usize, &[u8]) -> Vec<u8>) -> Layout {
    let config = configuration(layers, &Platform::here().architecture);
    let packed: Vec<_> = layers.iter().enumerate().map(|(at, layer)| pack(at, layer)).collect();
    let descriptor = |bytes: &[u8]| json!({ "digest": Digest::of(bytes), "size": bytes.len() });
    let typed = |bytes: &[u8], kind: &str| {
        let mut descriptor = descriptor(bytes);
        descriptor["mediaType"] = format!("application/vnd.oci.image.{kind}").into();
        descriptor
    };
    let layer = |bytes: &Vec<u8>| match bytes.as_slice() {
        [0x1f, ..] => typed(bytes, "layer.v1.tar+gzip"),
        [0x28, 0xb5, ..] => typed(bytes, "layer.v1.tar+zstd"),
        _ => typed(bytes, "layer.v1.tar"),
    };
    let manifest = json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": typed(&config, "config.v1+json"),
        "layers": packed.iter().map(layer).collect::<Vec<_>>()
    });
    let manifest = manifest.to_string().into_bytes();
    let mut own = descriptor(&manifest);
    own["platform"] = json!({ "os": "linux", "architecture": Platform::here().architecture });
    let mut other = descriptor(b"another machine's manifest");
    other["platform"] = json!({ "os": "linux", "architecture": "riscv64" });
    let index = json!({ "schemaVersion": 2, "manifests": [other, own] });
    let mut files = vec![
        ("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
        ("index.json".to_owned(), index.to_string().into_bytes()),
        blob(&config),
        blob(&manifest),
    ];
    files.extend(packed.iter().map(|layer| blob(layer)));
    Layout { files, manifest: Digest::of(&manifest) }
}

/// What `docker save` writes, with one image.
pub(crate) fn docker(layers: &[Vec<u8>]) -> Vec<Item> {
    let config = configuration(layers, &Platform::here().architecture);
    let config_name = format!("{}.json", Digest::of(&config).hex());
    let names: Vec<_> = layers.iter().map(|layer| format!("{}/layer.tar", Digest::of(layer).hex())).collect();
    let manifest = json!([{ "Config": config_name, "RepoTags": ["x:1"], "Layers": names }]);
    let bytes =
        |name: &str, content: &[u8]| Item { content: content.to_vec(), ..item(EntryType::Regular, name) };
    let mut items: Vec<_> = names.iter().zip(layers).map(|(name, layer)| bytes(name, layer)).collect();
    items.push(bytes(&config_name, &config));
    // Last, as the program writes it.
    items.push(bytes("manifest.json", manifest.to_string().as_bytes()));
    items
}

impl Layout {
    /// With this machine's manifest only: other programs will not choose.
    pub(crate) fn alone(mut self) -> Self {
        let mut index: serde_json::Value = serde_json::from_slice(&self.files[1].1).unwrap();
        index["manifests"].as_array_mut().unwrap().remove(0);
        index["manifests"][0]["mediaType"] = "application/vnd.oci.image.manifest.v1+json".into();
        self.files[1].1 = index.to_string().into_bytes();
        self
    }

    pub(crate) fn write(&self, folder: &Path) -> PathBuf {
        for (name, bytes) in &self.files {
            let path = folder.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        folder.to_owned()
    }

    pub(crate) fn as_tar(&self) -> Vec<u8> {
        let items = self.files.iter();
        let items =
            items.map(|(name, bytes)| Item { content: bytes.clone(), ..item(EntryType::Regular, name) });
        tar(&items.collect::<Vec<_>>())
    }
}

/// A folder of images, gone at the end.
pub(crate) struct World {
    pub(crate) images: Images,
    folder: tempfile::TempDir,
}

impl World {
    pub(crate) fn new() -> Self {
        // In memory where there is such a place: what is published is waited for until it is on disk.
        let memory = Path::new("/dev/shm");
        let folder =
            if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.unwrap();
        Self { images: Images::of(&folder.path().join("data")), folder }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The tree that a name stands for.
    pub(crate) fn tree(&self, name: &str) -> PathBuf {
        let digest = self.images.id(name).unwrap();
        self.path("data/images/.trees").join(digest.hex()).join("rootfs")
    }

    pub(crate) fn read(&self, name: &str, file: &str) -> String {
        fs::read_to_string(self.tree(name).join(file)).unwrap()
    }

    /// What there is in the folder of images, beside its lock.
    pub(crate) fn entries(&self) -> Vec<String> {
        let entries = fs::read_dir(self.path("data/images")).into_iter().flatten().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.file_name().into_string().unwrap()).collect();
        names.retain(|name| !matches!(name.as_str(), ".lock" | ".trees" | ".holders"));
        names.sort();
        names
    }

    pub(crate) fn trees(&self) -> usize {
        fs::read_dir(self.path("data/images/.trees")).map_or(0, Iterator::count)
    }
}
