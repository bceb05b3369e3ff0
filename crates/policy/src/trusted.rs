//! The included list: hosts that builds need, the level `trusted`.
//!
//! ```text
//!  org.example.packages.*  read  git       # comment
//!  └ reversed pattern      └ access when strictly rendered, `opaque` when left out
//!                                └ endpoints asked by POST that belong to reading
//! ```
//!
//! The file is ours and part of the binary. It is read once; a line that does not parse is a hole in
//! nobody's wall, since it allows nothing, and fails the test of this module.

use std::sync::{Arc, LazyLock};

use protocol::network::Rendering;

use crate::access::{Access, Endpoints};
use crate::network::{Grant, RuleRef};
use crate::pattern::Pattern;
use crate::table::Table;

/// The list, labels reversed.
const TEXT: &str = include_str!("trusted/hosts.txt");

static LIST: LazyLock<Table<Entry>> = LazyLock::new(|| {
    let mut table = Table::default();
    for entry in TEXT.lines().filter_map(|line| line_of(line)?.ok()) {
        table.add(Arc::clone(&entry.pattern), entry);
    }
    table
});

/// The list, ready to be asked.
pub(crate) fn list() -> &'static Table<Entry> {
    &LIST
}

/// One host or wildcard of the list.
#[derive(Debug)]
pub(crate) struct Entry {
    pattern: Arc<Pattern>,
    strict: Access,
    endpoints: Endpoints,
}

impl Entry {
    /// What it allows.
    pub(crate) fn grant(&self, rendering: Rendering) -> Grant {
        let rule = self.rule();
        match rendering {
            Rendering::Compatible => {
                let is_lenient = self.strict == Access::Read;
                Grant { rule, access: Access::Opaque, endpoints: Endpoints::None, is_lenient }
            }
            Rendering::Strict => {
                Grant { rule, access: self.strict, endpoints: self.endpoints, is_lenient: false }
            }
        }
    }

    /// Its name in answers.
    pub(crate) fn rule(&self) -> RuleRef {
        RuleRef::trusted(Arc::clone(&self.pattern))
    }
}

/// What a line says: nothing for empty ones and comments.
fn line_of(line: &str) -> Option<Result<Entry, String>> {
    let line = line.split('#').next().unwrap_or_default();
    let mut words = line.split_ascii_whitespace();
    Some(entry(words.next()?, words))
}

fn entry<'a>(reversed: &str, mut words: impl Iterator<Item = &'a str>) -> Result<Entry, String> {
    let labels: Vec<&str> = reversed.rsplit('.').collect();
    let pattern = Pattern::parse(&labels.join(".")).map_err(|error| error.to_string())?;
    let strict = match words.next() {
        None | Some("opaque") => Access::Opaque,
        Some("write") => Access::Write,
        Some("read") => Access::Read,
        Some(other) => return Err(format!("`{other}` is no access")),
    };
    let endpoints = match words.next() {
        None => Endpoints::None,
        Some("git") => Endpoints::GitFetch,
        Some("advisories") => Endpoints::Advisories,
        Some(other) => return Err(format!("`{other}` is no kind of endpoints")),
    };
    match words.next() {
        None => Ok(Entry { pattern: Arc::new(pattern), strict, endpoints }),
        Some(other) => Err(format!("`{other}` is one word too many")),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use crate::host::Host;
    use crate::table::Found;

    use super::*;

    fn entries() -> impl Iterator<Item = Entry> {
        TEXT.lines().filter_map(|line| Some(line_of(line)?.unwrap_or_else(|error| panic!("{line}: {error}"))))
    }

    /// The grant for a host that is written with its labels reversed.
    fn grant(reversed: &str, port: u16, rendering: Rendering) -> Option<Grant> {
        let host: Vec<&str> = reversed.rsplit('.').collect();
        let host: Host = host.join(".").parse().unwrap();
        match list().allows(&host, port) {
            Found::Here(entry) => Some(entry.grant(rendering)),
            Found::OtherPort(_) | Found::Nowhere => None,
        }
    }

    #[test]
    fn every_line_is_an_entry_and_none_stands_twice() {
        let mut seen = BTreeSet::new();
        for entry in entries() {
            assert!(seen.insert(entry.pattern.to_string()), "{} stands twice", entry.pattern);
        }
        assert_eq!(seen.len(), 245);
        let lines = TEXT.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(lines, seen.len(), "every line is an entry or a comment");
    }

    #[test]
    fn what_is_no_entry_is_told() {
        for line in [
            "com.*.example",
            "example",
            "*",
            "com.example rw",
            "com.example read x",
            "com.example read git x",
        ] {
            let read = line_of(line).unwrap();
            assert_eq!(read.is_err(), line != "example", "{line}");
        }
        assert!(line_of("  # comment").is_none() && line_of("").is_none());
    }

    #[test]
    fn the_hosts_that_clients_ask_are_there() {
        for (client, hosts) in [
            ("cargo", &["io.crates.index", "io.crates.static", "io.crates"][..]),
            ("rustup", &["org.rust-lang.static", "rs.rustup.sh"]),
            ("pip, uv", &["org.pypi", "org.pythonhosted.files", "io.pypa.bootstrap", "sh.astral"]),
            ("npm, pnpm, bun", &["org.npmjs.registry", "org.nodejs", "sh.bun", "com.bun", "io.pnpm.get"]),
            ("yarn", &["com.yarnpkg.registry", "com.yarnpkg.repo"]),
            ("apt of Debian", &["org.debian.deb", "org.debian.security"]),
            ("apt of Ubuntu", &["com.ubuntu.archive", "com.ubuntu.security", "com.ubuntu.ports"]),
            ("go", &["org.golang.proxy", "org.golang.sum", "com.googleapis.storage", "dev.go"]),
            ("gem, bundler", &["org.rubygems", "org.rubygems.index"]),
            ("composer", &["org.packagist.repo", "org.getcomposer", "com.github.api", "com.github.codeload"]),
            ("maven", &["org.apache.maven.repo", "org.maven.repo1"]),
            ("gradle", &["org.gradle.services", "org.gradle.downloads", "org.gradle.plugins-artifacts"]),
            ("nuget", &["org.nuget.api", "org.nuget.globalcdn"]),
            ("docker", &["io.docker.registry-1", "io.docker.auth", "com.docker.cloudflare.production"]),
            ("other images", &["io.ghcr", "com.githubusercontent.pkg-containers", "dev.pkg.us-docker"]),
            ("mix", &["pm.hex.repo", "pm.hex.builds"]),
            ("git", &["com.github", "com.gitlab", "org.bitbucket"]),
        ] {
            for host in hosts {
                for port in [80, 443] {
                    assert!(grant(host, port, Rendering::Compatible).is_some(), "{client}: {host}");
                }
                assert!(grant(host, 22, Rendering::Compatible).is_none(), "{client}: {host}");
            }
        }
        for apex in ["com.amazonaws", "com.googleapis", "io.modelcontextprotocol", "org.example"] {
            assert!(grant(apex, 443, Rendering::Compatible).is_none(), "{apex}");
        }
    }

    #[test]
    fn the_compatible_rendering_opens_nothing_and_the_strict_one_reads_where_anyone_can_write() {
        for entry in entries() {
            let (compatible, strict) = (entry.grant(Rendering::Compatible), entry.grant(Rendering::Strict));
            assert_eq!(compatible.access, Access::Opaque);
            assert_eq!(compatible.is_lenient, strict.access == Access::Read, "{}", entry.pattern);
            assert!(!strict.is_lenient);
            let wide = entry.pattern.to_string().starts_with('*');
            assert!(!wide || strict.access != Access::Opaque, "{}", entry.pattern);
        }
        let strict = |host: &str| grant(host, 443, Rendering::Strict).unwrap();
        for (host, access) in [
            ("com.amazonaws.s3.bucket", Access::Read),
            ("io.sentry.o1.ingest", Access::Read),
            ("com.googleapis.storage", Access::Read),
            ("com.googleapis.fonts", Access::Opaque),
            ("org.pypi", Access::Read),
            ("com.github.gist", Access::Read),
            ("com.google.accounts", Access::Write),
            ("org.nodejs", Access::Opaque),
        ] {
            assert_eq!(strict(host).access, access, "{host}");
        }
        let github = strict("com.github");
        assert!(github.permits("GET", "/o/r/info/refs") && github.permits("POST", "/o/r/git-upload-pack"));
        assert!(!github.permits("POST", "/o/r/git-receive-pack") && !github.permits("POST", "/o/r"));
        let npm = strict("org.npmjs.registry");
        assert!(
            npm.permits("POST", "/-/npm/v1/security/advisories/bulk") && !npm.permits("PUT", "/left-pad")
        );
        assert!(!strict("com.amazonaws.s3.bucket").permits("POST", "/o/r/git-upload-pack"));
        assert_eq!(github.rule.list(), crate::network::RuleList::Trusted);
    }
}
