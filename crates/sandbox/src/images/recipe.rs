//! Recipes: a folder with `image.toml` and what that names.
//!
//! ```text
//!   base | from ─▶ packages ─▶ files ─▶ steps, in order ─▶ environment
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::digest::Digest;
use super::error::{About, ImageError};

/// The most that a recipe's own files may take.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// `image.toml`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recipe {
    /// The release to begin with: `debian:bookworm`, `ubuntu:24.04`, or `host` for that of this machine.
    base: Option<String>,
    /// The image of this machine to begin with.
    pub(super) from: Option<String>,
    /// Debian packages, without what they only recommend.
    #[serde(default)]
    pub(super) packages: Vec<String>,
    /// Files for apt that tell where packages come from; the machine's own when there are none.
    #[serde(default)]
    pub(super) sources: Vec<PathBuf>,
    /// Files that are copied in.
    #[serde(default, rename = "file")]
    pub(super) files: Vec<RecipeFile>,
    /// Scripts that are run inside.
    #[serde(default, rename = "step")]
    pub(super) steps: Vec<Step>,
    /// Variables of commands in the image, and of the steps.
    #[serde(default)]
    pub(super) environment: BTreeMap<String, String>,
    /// Where commands start.
    #[serde(default)]
    pub(super) working_dir: Option<String>,
}

/// A file to copy in, or a folder with all that is in it.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RecipeFile {
    /// Its path in the recipe.
    pub(super) source: PathBuf,
    /// Its path in the image.
    pub(super) target: String,
    /// Its mode, in octal digits.
    #[serde(default)]
    pub(super) mode: Option<String>,
}

/// A script of the recipe, run by `/bin/sh -eu` as root in the image.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Step {
    /// Its path in the recipe.
    pub(super) run: PathBuf,
    /// What it brings; the image's list of what was left out speaks of it by this.
    #[serde(default)]
    pub(super) gives: Option<String>,
    /// The image is of use without it: its failure is listed and ends nothing.
    #[serde(default)]
    pub(super) optional: bool,
}

/// What an image begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Base {
    /// A release of Debian or Ubuntu, by its code name.
    Suite { suite: String, is_host: bool },
    /// An image.
    Image(String),
}

/// What `/etc/os-release` says of a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Release {
    family: String,
    version: String,
    codename: String,
}

/// Releases by number, where people say the number.
const RELEASES: &[(&str, &str, &str)] = &[
    ("debian", "12", "bookworm"),
    ("debian", "13", "trixie"),
    ("ubuntu", "22.04", "jammy"),
    ("ubuntu", "24.04", "noble"),
    ("ubuntu", "26.04", "resolute"),
];

impl Release {
    /// Of this machine.
    pub(super) fn here() -> Self {
        Self::read(&fs::read_to_string("/etc/os-release").unwrap_or_default())
    }

    fn read(text: &str) -> Self {
        let field = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.unwrap_or_default().trim_matches('"').to_owned()
        };
        Self { family: field("ID"), version: field("VERSION_ID"), codename: field("VERSION_CODENAME") }
    }
}

impl Recipe {
    /// Reads and checks the recipe in a folder.
    pub(super) fn read(folder: &Path) -> Result<Self, ImageError> {
        let path = folder.join("image.toml");
        let text = fs::read_to_string(&path).about(&path)?;
        let wrong = |why: String| ImageError::Recipe { path: path.clone(), why };
        let recipe: Self = toml::from_str(&text).map_err(|error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            wrong(format!("{} (line {line})", error.message()))
        })?;
        recipe.check(folder).map_err(wrong)?;
        Ok(recipe)
    }

    fn check(&self, folder: &Path) -> Result<(), String> {
        if self.base.is_some() == self.from.is_some() {
            return Err("it needs either `base` or `from`".into());
        }
        if self.from.is_some() && !self.packages.is_empty() {
            return Err("`packages` go with `base`; with `from`, install them in a step".into());
        }
        let is_package = |name: &str| {
            name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
                && name
                    .bytes()
                    .all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'+' | b'-' | b'.' | b':'))
        };
        if let Some(name) = self.packages.iter().find(|name| !is_package(name)) {
            return Err(format!("`{name}` is no name of a package"));
        }
        let named = self.sources.iter().chain(self.files.iter().map(|file| &file.source));
        for path in named.chain(self.steps.iter().map(|step| &step.run)) {
            let is_inside = path.components().all(|part| matches!(part, Component::Normal(_)));
            if !is_inside || fs::symlink_metadata(folder.join(path)).is_err() {
                return Err(format!("there is no {} in the recipe's folder", path.display()));
            }
        }
        if let Some(file) = self.files.iter().find(|file| !file.target.starts_with('/')) {
            return Err(format!("the target {} does not begin with /", file.target));
        }
        if self.files.iter().any(|file| file.mode.as_deref().is_some_and(|mode| octal(mode).is_none())) {
            return Err("a `mode` is four octal digits, such as \"0755\"".into());
        }
        let is_variable = |name: &String| {
            !name.is_empty() && name.bytes().all(|byte| byte == b'_' || byte.is_ascii_alphanumeric())
        };
        match self.environment.keys().find(|name| !is_variable(name)) {
            Some(name) => Err(format!("`{name}` is no name of a variable")),
            None => Ok(()),
        }
    }

    /// What to begin with on a machine of this release.
    pub(super) fn base(&self, host: &Release) -> Result<Base, String> {
        if let Some(image) = &self.from {
            return Ok(Base::Image(image.clone()));
        }
        let base = self.base.as_deref().unwrap_or_default();
        if base == "host" {
            return match host.codename.is_empty() {
                true => Err("this machine is not Debian or Ubuntu; use `from` an imported image".into()),
                false => Ok(Base::Suite { suite: host.codename.clone(), is_host: true }),
            };
        }
        let known = base.split_once(':').filter(|(family, _)| matches!(*family, "debian" | "ubuntu"));
        let Some((family, release)) = known else {
            return Err(format!("`{base}` is no base: debian:RELEASE, ubuntu:RELEASE or host"));
        };
        let numbered = RELEASES.iter().find(|(of, number, _)| *of == family && *number == release);
        let suite = numbered.map_or(release, |(_, _, suite)| suite);
        if suite.is_empty() || !suite.bytes().all(|byte| byte.is_ascii_lowercase()) {
            return Err(format!("`{release}` is no release of {family} that is known; give its code name"));
        }
        let is_host = host.family == family && host.codename == suite;
        if !is_host && self.sources.is_empty() {
            let Release { family, version, codename } = host;
            return Err(format!(
                "this machine has package sources of {family} {version} ({codename}) only; name those of {base} by `sources`"
            ));
        }
        Ok(Base::Suite { suite: suite.to_owned(), is_host })
    }

    /// Of all that the image depends on: the recipe's files, what it begins with, and how it is made.
    pub(super) fn digest(folder: &Path, base: &Base, base_id: Option<Digest>) -> Result<Digest, ImageError> {
        let mut hasher = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hasher.update((bytes.len() as u64).to_le_bytes());
            hasher.update(bytes);
        };
        field(super::build::DEBIAN_TREE.as_bytes());
        field(std::env::consts::ARCH.as_bytes());
        field(format!("{base:?} {base_id:?}").as_bytes());
        let mut total = 0;
        for path in files(folder)? {
            let full = folder.join(&path);
            total += fs::symlink_metadata(&full).about(&full)?.len();
            if total > MAX_BYTES {
                let why = format!("its folder holds more than {MAX_BYTES} bytes");
                return Err(ImageError::Recipe { path: folder.to_owned(), why });
            }
            field(path.as_os_str().as_encoded_bytes());
            if full.is_symlink() {
                field(fs::read_link(&full).about(&full)?.as_os_str().as_encoded_bytes());
            } else {
                field(&fs::read(&full).about(&full)?);
            }
        }
        Ok(Digest::from_hasher(hasher))
    }
}

/// A mode from its digits.
pub(super) fn octal(digits: &str) -> Option<u32> {
    u32::from_str_radix(digits, 8).ok().filter(|mode| digits.len() == 4 && *mode <= 0o7777)
}

/// The files below a folder, sorted; those for people are left out.
fn files(folder: &Path) -> Result<Vec<PathBuf>, ImageError> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        let full = folder.join(&inner);
        for entry in fs::read_dir(&full).about(&full)? {
            let entry = entry.about(&full)?;
            let path = inner.join(entry.file_name());
            match entry.file_type().about(&full)? {
                kind if kind.is_dir() => folders.push(path),
                _ if path == Path::new("README.md") => {}
                _ => found.push(path),
            }
        }
    }
    found.sort_unstable();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(text: &str) -> Result<Recipe, ImageError> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("image.toml"), text).unwrap();
        fs::write(folder.path().join("a.sh"), "true").unwrap();
        Recipe::read(folder.path())
    }

    #[test]
    fn what_makes_no_sense_is_told() {
        for (text, word) in [
            ("", "either `base` or `from`"),
            ("base = 'host'\nfrom = 'slim'", "either `base` or `from`"),
            ("from = 'slim'\npackages = ['git']", "in a step"),
            ("base = 'host'\npackages = ['git', '--x']", "`--x` is no name"),
            ("base = 'host'\n[[step]]\nrun = 'b.sh'", "no b.sh"),
            ("base = 'host'\n[[step]]\nrun = '../a.sh'", "no ../a.sh"),
            ("base = 'host'\n[[step]]\nrun = '/etc/passwd'", "no /etc/passwd"),
            ("base = 'host'\n[[file]]\nsource = 'a.sh'\ntarget = 'x'", "does not begin with /"),
            ("base = 'host'\n[[file]]\nsource = 'a.sh'\ntarget = '/x'\nmode = '999'", "octal"),
            ("base = 'host'\n[environment]\n'A B' = 'x'", "no name of a variable"),
            ("base = 'host'\ncolour = 1", "line 2"),
        ] {
            let error = recipe(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        assert!(recipe("base = 'host'\n[[step]]\nrun = 'a.sh'\noptional = true").is_ok());
    }

    #[test]
    fn a_base_is_a_release_that_packages_can_be_had_for() {
        let host = Release::read("ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n");
        let base = |text: &str| recipe(&format!("base = '{text}'")).unwrap().base(&host);
        let own = Base::Suite { suite: "bookworm".into(), is_host: true };
        for same in ["host", "debian:12", "debian:bookworm"] {
            assert_eq!(base(same).unwrap(), own);
        }
        for none in ["debian:trixie", "ubuntu:24.04", "fedora:40", "debian", "debian:../x", "debian:"] {
            assert!(base(none).is_err(), "{none}");
        }
        let noble = recipe("base = 'ubuntu:24.04'\nsources = ['a.sh']").unwrap().base(&host).unwrap();
        assert_eq!(noble, Base::Suite { suite: "noble".into(), is_host: false });
    }

    #[test]
    fn a_change_of_any_file_or_of_the_base_changes_the_digest() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("image.toml");
        fs::write(&file, "from = 'slim'").unwrap();
        let base = Base::Image("slim".into());
        let digest = |id: u8| Recipe::digest(folder.path(), &base, Some(Digest::of(&[id]))).unwrap();
        let first = digest(1);
        assert_eq!(first, digest(1));
        assert_ne!(first, digest(2));
        fs::write(folder.path().join("README.md"), "words").unwrap();
        assert_eq!(first, digest(1), "words for people change nothing");
        fs::write(folder.path().join("step.sh"), "true").unwrap();
        assert_ne!(first, digest(1));
    }
}
