//! The documents of an OCI image, and of Docker's, which are alike.
//!
//! ```text
//!   index ─▶ (index ─▶) manifest of this machine's platform ─▶ configuration, layers
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::digest::Digest;
use super::error::ImageError;
use super::record::ImageConfig;

/// The most that a document may take.
pub const MAX_DOCUMENT: u64 = 4 * 1024 * 1024;

/// The most layers that an image may have.
const MAX_LAYERS: usize = 1000;

/// The most that variables may take: no program could be started with more.
const MAX_ENVIRONMENT: usize = 128 * 1024;

/// Something that is known by its digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What it is.
    #[serde(default)]
    pub media_type: String,
    /// Of its bytes.
    pub digest: Digest,
    /// Bytes.
    pub size: u64,
    /// The machines that it is for.
    #[serde(default)]
    pub platform: Option<Platform>,
    /// What else is said of it, such as its name in a layout of several images.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
}

/// The annotation that names an image in a layout.
const NAME: &str = "org.opencontainers.image.ref.name";

/// A kind of machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Platform {
    /// Such as `linux`.
    pub os: String,
    /// Such as `amd64`.
    pub architecture: String,
    /// Such as `v7`.
    #[serde(default)]
    pub variant: Option<String>,
}

impl Platform {
    /// This machine.
    #[must_use]
    pub fn here() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        Self { os: "linux".into(), architecture: architecture.into(), variant: None }
    }

    fn suits(&self) -> bool {
        let here = Self::here();
        self.os == here.os && self.architecture == here.architecture
    }

    fn words(&self) -> String {
        let words = match &self.variant {
            Some(variant) => format!("{}/{}/{variant}", self.os, self.architecture),
            None => format!("{}/{}", self.os, self.architecture),
        };
        words.chars().filter(|c| !c.is_control()).take(60).collect()
    }
}

/// Manifests to choose from.
#[derive(Debug, Clone, Deserialize)]
pub struct Index {
    /// One for each kind of machine, or each name.
    pub manifests: Vec<Descriptor>,
}

impl Index {
    /// The one for this machine.
    pub fn choose(&self) -> Result<&Descriptor, ImageError> {
        // What is for no machine at all is about the image: signatures, how it was built.
        let named = |one: &&Descriptor| one.platform.as_ref().is_none_or(|platform| platform.os != "unknown");
        let all: Vec<_> = self.manifests.iter().filter(named).collect();
        let suits = |one: &&&Descriptor| one.platform.as_ref().is_some_and(Platform::suits);
        let suiting: Vec<_> = all.iter().filter(suits).collect();
        let meant: Vec<_> = if suiting.is_empty() { all.iter().collect() } else { suiting.clone() };
        let names: BTreeSet<_> = meant.iter().filter_map(|one| one.annotations.get(NAME)).collect();
        if names.len() > 1 {
            let name = |name: &&String| name.chars().filter(|c| !c.is_control()).take(80).collect();
            return Err(ImageError::Several(names.iter().take(20).map(name).collect()));
        }
        match (suiting.as_slice(), all.as_slice()) {
            // Several that suit differ in what the machine must have at least; the first is preferred.
            ([first, ..], _) => Ok(first),
            ([], [only]) if only.platform.is_none() => Ok(only),
            _ => {
                let words = |one: &&Descriptor| {
                    one.platform
                        .as_ref()
                        .map_or_else(|| "no platform that it names".to_owned(), Platform::words)
                };
                let mut found: Vec<_> = all.iter().map(words).collect();
                if found.is_empty() {
                    found.push("no machine".to_owned());
                }
                found.truncate(20);
                Err(ImageError::Platform { wanted: Platform::here().words(), found })
            }
        }
    }
}

/// What an image consists of.
#[derive(Debug, Clone, Deserialize)]
pub struct Manifest {
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// Either of the two, told by what they have.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub enum Document {
    /// What an image consists of.
    Manifest(Manifest),
    /// Manifests to choose from.
    Index(Index),
}

/// The configuration of an image, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Configuration {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    config: Option<Commands>,
    rootfs: Layers,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Commands {
    env: Option<Vec<String>>,
    working_dir: Option<String>,
    user: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
struct Layers {
    diff_ids: Vec<Digest>,
}

impl Configuration {
    /// Reads it, and checks that it is for this machine.
    pub(super) fn read(bytes: &[u8]) -> Result<Result<Self, ImageError>, String> {
        let read: Self = serde_json::from_slice(bytes)
            .map_err(|error| format!("its configuration is not that of a file system image: {error}"))?;
        let platform =
            Platform { os: read.os.clone(), architecture: read.architecture.clone(), variant: None };
        if !platform.suits() && !platform.architecture.is_empty() {
            let (wanted, found) = (Platform::here().words(), vec![platform.words()]);
            return Ok(Err(ImageError::Platform { wanted, found }));
        }
        Ok(Ok(read))
    }

    /// The digests of the unpacked layers, one for each of `layers`.
    pub(super) fn diff_ids(&self, layers: usize) -> Result<&[Digest], String> {
        let ids = &self.rootfs.diff_ids;
        if ids.len() != layers {
            return Err(format!("it has {layers} layers, and its configuration tells of {}", ids.len()));
        }
        if layers > MAX_LAYERS {
            return Err(format!("it has {layers} layers; at most {MAX_LAYERS} are taken"));
        }
        Ok(ids)
    }

    /// How commands are to be run.
    pub(super) fn image_config(&self) -> Result<ImageConfig, String> {
        let commands = self.config.clone().unwrap_or_default();
        let text = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (working_dir, user) = (text(commands.working_dir), text(commands.user));
        let variables = commands.env.unwrap_or_default();
        let words: usize = variables.iter().map(String::len).sum();
        let all = variables.iter().chain(&working_dir).chain(&user);
        if words > MAX_ENVIRONMENT || all.into_iter().any(|text| text.contains('\0')) {
            return Err("its variables are too long, or no text".to_owned());
        }
        let pair = |line: &String| {
            let (name, value) = line.split_once('=')?;
            (!name.is_empty()).then(|| (name.to_owned(), value.to_owned()))
        };
        let environment = variables.iter().filter_map(pair).collect();
        let working_dir = working_dir.filter(|path| path.starts_with('/'));
        Ok(ImageConfig { environment, working_dir, user })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(platforms: &[Option<(&str, &str)>]) -> Index {
        let descriptor = |(at, platform): (usize, &Option<(&str, &str)>)| Descriptor {
            media_type: String::new(),
            digest: Digest::of(&[u8::try_from(at).unwrap()]),
            size: 1,
            annotations: BTreeMap::new(),
            platform: platform.map(|(os, architecture)| Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: None,
            }),
        };
        Index { manifests: platforms.iter().enumerate().map(descriptor).collect() }
    }

    #[test]
    fn the_manifest_for_this_machine_is_chosen_and_others_are_told() {
        let here = Platform::here().architecture;
        let (here, other) = (("linux", here.as_str()), ("linux", "riscv64"));
        let unknown = Some(("unknown", "unknown"));
        let chosen = |index: Index| index.choose().map(|chosen| chosen.digest);
        let at = |at: u8| Digest::of(&[at]);
        assert_eq!(chosen(index(&[Some(other), unknown, Some(here)])).unwrap(), at(2));
        assert_eq!(chosen(index(&[None])).unwrap(), at(0));
        assert_eq!(chosen(index(&[unknown, None])).unwrap(), at(1));
        for none in [index(&[]), index(&[None, None]), index(&[Some(other)]), index(&[unknown])] {
            assert!(none.choose().is_err());
        }
        let words = index(&[Some(other), Some(("windows", "amd64"))]).choose().unwrap_err().to_string();
        assert!(words.contains("it is for: linux/riscv64, windows/amd64"), "{words}");
        let mut named = index(&[None, None]);
        for (one, name) in named.manifests.iter_mut().zip(["a:1", "b:2"]) {
            one.annotations.insert(NAME.into(), name.into());
        }
        assert!(named.choose().unwrap_err().to_string().contains("several images: a:1, b:2"));
    }

    #[test]
    fn the_configuration_gives_variables_and_is_for_one_machine() {
        let here = Platform::here().architecture;
        let text = format!(
            r#"{{"os":"linux","architecture":"{here}","rootfs":{{"diff_ids":[]}},
                "config":{{"Env":["PATH=/a:/b","EMPTY=","=x","no"],"WorkingDir":"/srv","User":"","Cmd":["sh"]}}}}"#
        );
        let read = Configuration::read(text.as_bytes()).unwrap().unwrap();
        let config = read.image_config().unwrap();
        assert_eq!(
            config.environment.into_iter().collect::<Vec<_>>(),
            [("EMPTY".into(), String::new()), ("PATH".into(), "/a:/b".into())]
        );
        assert_eq!((config.working_dir.as_deref(), config.user), (Some("/srv"), None));
        assert!(read.diff_ids(1).is_err());
        let other = text.replace(&here, "s390x");
        assert!(matches!(Configuration::read(other.as_bytes()), Ok(Err(ImageError::Platform { .. }))));
        assert!(Configuration::read(b"{}").is_err());
    }
}
