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
        match rendering {
            Rendering::Compatible => {
                Grant { rule: self.rule(), access: Access::Opaque, endpoints: Endpoints::None }
            }
            Rendering::Strict => Grant { rule: self.rule(), access: self.strict, endpoints: self.endpoints },
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

    use super::*;

    #[test]
    fn every_line_is_an_entry_and_none_stands_twice() {
        let mut seen = BTreeSet::new();
        for line in TEXT.lines() {
            if let Some(entry) = line_of(line) {
                let entry = entry.unwrap_or_else(|error| panic!("{line}: {error}"));
                assert!(seen.insert(entry.pattern.to_string()), "{line} stands twice");
            }
        }
        assert!(seen.len() > 190, "{}", seen.len());
    }
}
