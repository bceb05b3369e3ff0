//! Names of images in registries.
//!
//! ```text
//!   [HOST[:PORT]/]PATH[:TAG][@sha256:DIGEST]
//!
//!   ubuntu:24.04       ─▶ the default registry, library/ubuntu, tag 24.04
//!   team/tools         ─▶ the default registry, team/tools,     tag latest
//!   localhost:5000/x   ─▶ localhost:5000,       x,              tag latest
//! ```

use std::fmt;
use std::str::FromStr;

use sandbox::images::Digest;

use super::error::RegistryError;

/// The registry of short names, with its labels reversed; and the names that people know it by.
const DEFAULT: &str = "io.docker.registry-1";
const ALIASES: [&str; 2] = ["io.docker", "io.docker.index"];

/// Which image of which registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Host, and port if one is named.
    pub(crate) registry: String,
    pub(crate) repository: String,
    pub(crate) tag: Option<String>,
    pub(crate) digest: Option<Digest>,
}

/// A host from its labels in reverse.
fn host(reversed: &str) -> String {
    reversed.split('.').rev().collect::<Vec<_>>().join(".")
}

/// The name that a registry is asked by.
pub(crate) fn registry_name(name: &str) -> Result<String, RegistryError> {
    let name = name.trim_start_matches("https://").trim_end_matches('/').to_ascii_lowercase();
    if ALIASES.iter().any(|alias| host(alias) == name) {
        return Ok(host(DEFAULT));
    }
    let is_host = |host: &str| {
        let plain = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        plain.is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok())
            || host.split('.').all(|label| {
                (1..=63).contains(&label.len())
                    && label.bytes().all(|byte| byte == b'-' || byte.is_ascii_alphanumeric())
                    && !label.starts_with('-')
                    && !label.ends_with('-')
            })
    };
    let (host, port) = match name.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, Some(port)),
        _ => (name.as_str(), None),
    };
    if is_host(host) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
        return Ok(name);
    }
    Err(RegistryError::Reference { text: name, why: "its host is none" })
}

impl FromStr for Reference {
    type Err = RegistryError;

    fn from_str(text: &str) -> Result<Self, RegistryError> {
        let wrong = |why| RegistryError::Reference { text: text.chars().take(200).collect(), why };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| wrong("its digest is not sha256:<64 hex digits>"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (rest, tag) = match rest.rsplit_once(':') {
            // A port is followed by a path.
            Some((rest, tag)) if !tag.contains('/') => (rest, Some(tag)),
            _ => (rest, None),
        };
        let is_host = |part: &str| part.contains(['.', ':']) || part == "localhost" || part.starts_with('[');
        let (registry, path) = match rest.split_once('/') {
            Some((first, path)) if is_host(first) => (registry_name(first)?, path.to_owned()),
            _ => (host(DEFAULT), rest.to_owned()),
        };
        let is_short = registry == host(DEFAULT) && !path.contains('/');
        let repository = if is_short { format!("library/{path}") } else { path };
        if repository.len() > 255 || !repository.split('/').all(is_part) {
            return Err(wrong("its path has parts that are not of a-z, 0-9, `.`, `_`, `-`"));
        }
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("its tag is not of up to 128 letters, digits, `.`, `_`, `-`"));
        }
        let tag = tag.map(str::to_owned).or_else(|| digest.is_none().then(|| "latest".to_owned()));
        Ok(Self { registry, repository, tag, digest })
    }
}

fn is_part(part: &str) -> bool {
    let is_word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    part.starts_with(is_word)
        && part.ends_with(is_word)
        && part.chars().all(|c| is_word(c) || matches!(c, '.' | '_' | '-'))
        && !part.contains("..")
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

impl Reference {
    /// What to ask the registry for.
    pub(crate) fn wanted(&self) -> String {
        match (&self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, tag) => tag.clone().unwrap_or_default(),
        }
    }

    /// A name for the image here: the last part of the path, and the tag if it says something.
    pub(crate) fn image_name(&self) -> String {
        let name = self.repository.rsplit('/').next().unwrap_or_default();
        match self.tag.as_deref() {
            None | Some("latest") => name.to_owned(),
            Some(tag) => format!("{name}-{}", tag.to_ascii_lowercase()),
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        self.tag.as_ref().map_or(Ok(()), |tag| write!(f, ":{tag}"))?;
        self.digest.map_or(Ok(()), |digest| write!(f, "@{digest}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_read_as_people_mean_them() {
        let read = |text: &str| {
            let read: Reference = text.parse().unwrap();
            let known = if read.registry == host(DEFAULT) { "default".into() } else { read.registry.clone() };
            (known, read.repository.clone(), read.wanted(), read.image_name())
        };
        let is = |registry: &str, repository: &str, wanted: &str, name: &str| {
            (registry.to_owned(), repository.to_owned(), wanted.to_owned(), name.to_owned())
        };
        assert_eq!(read("ubuntu:24.04"), is("default", "library/ubuntu", "24.04", "ubuntu-24.04"));
        assert_eq!(read("ubuntu"), is("default", "library/ubuntu", "latest", "ubuntu"));
        assert_eq!(read("team/tools:V1"), is("default", "team/tools", "V1", "tools-v1"));
        let short = format!("{}/ubuntu", host(ALIASES[0]));
        assert_eq!(read(&short), is("default", "library/ubuntu", "latest", "ubuntu"));
        assert_eq!(read("localhost/x"), is("localhost", "x", "latest", "x"));
        assert_eq!(read("[::1]:5000/x:2"), is("[::1]:5000", "x", "2", "x-2"));
        assert_eq!(read("r.test:5000/a/b-c/d_e:1"), is("r.test:5000", "a/b-c/d_e", "1", "d_e-1"));
        let digest = Digest::of(b"x").to_string();
        let pinned = format!("r.test/a:1@{digest}");
        assert_eq!(read(&pinned), is("r.test", "a", &digest, "a-1"));
    }

    #[test]
    fn what_is_no_reference_is_refused() {
        for bad in [
            "",
            "/",
            "a/",
            "/a",
            "A",
            "r.test/",
            "r.test/..",
            "r.test/a/../b",
            "r.test/a?b",
            "a b",
            "a:",
            "a:-x",
            "a@sha256:12",
            "a@md5:12",
            "r.test:0/a",
            "r.test:99999/a",
            "-r.test/a",
            "r..test/a",
            "r.test/a#b",
            "user@r.test/a",
            "[::g]/a",
            "a:é",
        ] {
            assert!(bad.parse::<Reference>().is_err(), "{bad}");
        }
    }
}
