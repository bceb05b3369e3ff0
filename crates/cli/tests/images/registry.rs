//! A real registry on loopback, and images to put into it.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use reqwest::{Client, StatusCode};
use sandbox::images::{Digest, Platform};
use serde_json::{Value, json};

/// The login of a registry that wants one.
pub(crate) const USER: &str = "ann";
pub(crate) const PASSWORD: &str = "open sesame";

/// The same as the registry reads it.
const HTPASSWD: &str = "ann:$2y$04$szFAijv3lxrktP9tRpTRlOgzxUtinFGgJcIDQc3l9NYMOEgMlSK4u\n";

/// Where `scripts/setup` unpacks the registry; else an installed one.
fn program() -> PathBuf {
    let fetched = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../target/tools/docker-registry/usr/bin/docker-registry");
    if fetched.exists() { fetched } else { "docker-registry".into() }
}

/// A running registry; it ends with this.
pub(crate) struct Registry {
    child: Child,
    folder: tempfile::TempDir,
    pub(crate) address: String,
    with_login: bool,
}

impl Registry {
    pub(crate) fn start(with_login: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let mut config = json!({
            "version": "0.1", "log": { "level": "info" },
            "storage": { "filesystem": { "rootdirectory": path("storage") } },
            "http": { "addr": "127.0.0.1:0" }
        });
        if with_login {
            std::fs::write(path("htpasswd"), HTPASSWD).unwrap();
            config["auth"] = json!({ "htpasswd": { "realm": "test", "path": path("htpasswd") } });
        }
        std::fs::write(path("config.yml"), config.to_string()).unwrap();
        let mut child = Command::new(program())
            .args(["serve", &path("config.yml")])
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("Debian's docker-registry is needed: scripts/setup fetches it");
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(log.read_line(&mut line).unwrap() > 0, "the registry ended");
            if let Some((_, rest)) = line.split_once("listening on ") {
                let end = rest.find(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ':'));
                break rest[..end.unwrap_or(rest.len())].to_owned();
            }
        };
        // Read on, so that it never waits for a reader.
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, folder, address, with_login }
    }

    /// Where the registry keeps the bytes of a blob.
    pub(crate) fn stored(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        let blobs = self.folder.path().join("storage/docker/registry/v2/blobs/sha256");
        blobs.join(&hex[..2]).join(hex).join("data")
    }

    fn request(&self, method: reqwest::Method, url: &str) -> reqwest::RequestBuilder {
        let request = Client::builder().no_proxy().build().unwrap().request(method, url);
        if self.with_login { request.basic_auth(USER, Some(PASSWORD)) } else { request }
    }

    async fn push_blob(&self, repository: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        let url = format!("http://{}/v2/{repository}/blobs/uploads/", self.address);
        let begun = self.request(reqwest::Method::POST, &url).send().await.unwrap();
        assert_eq!(begun.status(), StatusCode::ACCEPTED);
        let place = begun.headers()["location"].to_str().unwrap().to_owned();
        let place = if place.starts_with('/') { format!("http://{}{place}", self.address) } else { place };
        let joint = if place.contains('?') { '&' } else { '?' };
        let url = format!("{place}{joint}digest={digest}");
        let put = self.request(reqwest::Method::PUT, &url).body(bytes.to_vec()).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::CREATED);
        json!({ "digest": digest, "size": bytes.len() })
    }

    async fn push_manifest(&self, repository: &str, tag: &str, kind: &str, manifest: &Value) -> Value {
        let url = format!("http://{}/v2/{repository}/manifests/{tag}", self.address);
        let bytes = manifest.to_string().into_bytes();
        let request = self.request(reqwest::Method::PUT, &url).header("content-type", kind);
        let put = request.body(bytes.clone()).send().await.unwrap();
        assert_eq!(put.status(), StatusCode::CREATED, "{}", put.text().await.unwrap());
        json!({ "mediaType": kind, "digest": Digest::of(&bytes), "size": bytes.len() })
    }

    /// Pushes an image of these layers for this machine, among manifests of others.
    pub(crate) async fn push(&self, repository: &str, tag: &str, layers: &[Vec<u8>]) -> Vec<Digest> {
        let packed: Vec<_> = layers.iter().map(|layer| gzip(layer)).collect();
        let ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let mut manifests = Vec::new();
        for architecture in [Platform::here().architecture.as_str(), "s390x"] {
            let config = json!({
                "os": "linux", "architecture": architecture, "config": { "Env": ["A=b"] },
                "rootfs": { "type": "layers", "diff_ids": ids }
            });
            let mut config = self.push_blob(repository, config.to_string().as_bytes()).await;
            config["mediaType"] = "application/vnd.oci.image.config.v1+json".into();
            let mut parts = Vec::new();
            for layer in &packed {
                let mut part = self.push_blob(repository, layer).await;
                part["mediaType"] = "application/vnd.oci.image.layer.v1.tar+gzip".into();
                parts.push(part);
            }
            let kind = "application/vnd.oci.image.manifest.v1+json";
            let manifest =
                json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": parts });
            let own_tag = format!("{tag}-{architecture}");
            let mut pushed = self.push_manifest(repository, &own_tag, kind, &manifest).await;
            pushed["platform"] = json!({ "os": "linux", "architecture": architecture });
            manifests.insert(0, pushed);
        }
        let kind = "application/vnd.oci.image.index.v1+json";
        let index = json!({ "schemaVersion": 2, "mediaType": kind, "manifests": manifests });
        self.push_manifest(repository, tag, kind, &index).await;
        packed.iter().map(|layer| Digest::of(layer)).collect()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// An archive of files by name and content.
pub(crate) fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        builder.append_data(&mut header, name, *content).unwrap();
    }
    builder.into_inner().unwrap()
}
