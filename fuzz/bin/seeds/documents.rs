//! Documents of images as they are meant to be, with the signs that `fuzz/src/documents.rs` fills in.

use super::archives;

const INDEX: &str = r#"{"schemaVersion":2,"manifests":[{"digest":"@1","size":#1,"platform":{"os":"linux","architecture":"amd64"},"annotations":{"org.opencontainers.image.ref.name":"a:1"}}]}"#;
const NESTED: &str = r#"{"manifests":[{"digest":"@1","size":#1}]}"#;
const INNER: &str = r#"{"manifests":[{"digest":"@2","size":#2},{"digest":"@3","size":#3,"platform":{"os":"unknown","architecture":"unknown"}}]}"#;
const MANIFEST: &str = r#"{"schemaVersion":2,"config":{"mediaType":"c","digest":"@2","size":#2},"layers":[{"mediaType":"l","digest":"@3","size":#3}]}"#;
const DEEP_MANIFEST: &str = r#"{"config":{"digest":"@3","size":#3},"layers":[{"digest":"@4","size":#4}]}"#;
const CONFIG: &str = r#"{"architecture":"amd64","os":"linux","config":{"Env":["PATH=/bin","A=b"],"WorkingDir":"/srv","User":"1000"},"rootfs":{"type":"layers","diff_ids":["@3"]}}"#;
const DEEP_CONFIG: &str = r#"{"config":null,"rootfs":{"diff_ids":["@4"]}}"#;
const DOCKER: &str = r#"[{"Config":"blobs/sha256/%1","RepoTags":["x:1"],"Layers":["blobs/sha256/%2"]}]"#;
const DOCKER_CONFIG: &str = r#"{"config":{"Env":["A="]},"rootfs":{"diff_ids":["@2"]}}"#;
const OTHER: &str = r#"{"manifests":[{"digest":"@1","size":#1,"platform":{"os":"linux","architecture":"arm","variant":"v7"}}]}"#;

/// Name, form, texts.
pub fn all() -> Vec<(&'static str, u8, Vec<Vec<u8>>)> {
    let layer = archives::all().swap_remove(2);
    let texts = |documents: &[&str]| {
        let mut texts: Vec<_> = documents.iter().map(|text| text.as_bytes().to_vec()).collect();
        texts.push(layer.clone());
        texts
    };
    vec![
        ("folder", 0, texts(&[INDEX, MANIFEST, CONFIG])),
        ("archive", 1, texts(&[INDEX, MANIFEST, CONFIG])),
        ("nested", 0, texts(&[NESTED, INNER, DEEP_MANIFEST, DEEP_CONFIG])),
        ("docker", 2, texts(&[DOCKER, DOCKER_CONFIG])),
        ("other", 0, texts(&[OTHER, MANIFEST, CONFIG])),
        ("empty", 1, texts(&["{}"])),
    ]
}
