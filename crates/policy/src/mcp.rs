//! Which MCP servers may be used.
//!
//! ```text
//!  deniedMcpServers of any file ─▶ allowedMcpServers of each file that has one ─▶ allowed
//!        │ one entry means it            │ none of a file's entries means it
//!        └───────────────────────────────┴──▶ refused, with the file that says so
//! ```
//!
//! No list: no limit. An empty list of allowed servers: none. An empty list of denied ones: nothing is
//! denied. An entry that cannot be read allows nothing, and denies everything.

/// One entry of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// `serverName`: the name in `.mcp.json`, exactly.
    Name(String),
    /// `serverCommand`: program and arguments, exactly.
    Command(Vec<String>),
    /// `serverUrl`: scheme, host and path, `*` in each for anything.
    Url(String),
    /// What is no entry.
    Unreadable,
}

/// A list, and the file that it stands in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct List {
    /// How the file is called in what people read.
    pub source: String,
    /// Its entries.
    pub entries: Vec<Entry>,
}

/// How a server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'a> {
    /// A program and its arguments.
    Command(&'a [String]),
    /// An address in its one form: lower-case host, no user, no port that is the scheme's own.
    Url(&'a str),
}

/// All lists of a session.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerLists {
    /// `allowedMcpServers`, of each file that has it.
    pub allowed: Vec<List>,
    /// `deniedMcpServers`.
    pub denied: Vec<List>,
}

impl ServerLists {
    /// Whether a server may be used; the reason where it may not.
    ///
    /// # Errors
    ///
    /// With the file whose list refuses it.
    pub fn decide(&self, name: &str, reach: Reach<'_>) -> Result<(), String> {
        let denies = |list: &&List| list.entries.iter().any(|entry| entry.denies(name, reach));
        if let Some(list) = self.denied.iter().find(denies) {
            let broken = list.entries.contains(&Entry::Unreadable);
            let why = if broken { ", which has an entry that cannot be read" } else { "" };
            return Err(format!("deniedMcpServers of {} denies it{why}", list.source));
        }
        match self.allowed.iter().find(|list| !list.allows(name, reach)) {
            Some(list) => Err(format!("allowedMcpServers of {} does not name it", list.source)),
            None => Ok(()),
        }
    }
}

impl List {
    /// Where a list says how servers of a kind are reached, a name alone is not enough: a name is whatever the
    /// repository calls it.
    fn allows(&self, name: &str, reach: Reach<'_>) -> bool {
        let says_how = self.entries.iter().any(|entry| match reach {
            Reach::Command(_) => matches!(entry, Entry::Command(_)),
            Reach::Url(_) => matches!(entry, Entry::Url(_)),
        });
        self.entries.iter().any(|entry| match entry {
            Entry::Name(allowed) => !says_how && allowed == name,
            entry => entry.is_reached_by(reach),
        })
    }
}

impl Entry {
    fn denies(&self, name: &str, reach: Reach<'_>) -> bool {
        match self {
            Self::Unreadable => true,
            Self::Name(denied) => denied == name,
            Self::Command(_) | Self::Url(_) => self.is_reached_by(reach),
        }
    }

    fn is_reached_by(&self, reach: Reach<'_>) -> bool {
        match (self, reach) {
            (Self::Command(command), Reach::Command(other)) => command == other,
            (Self::Url(pattern), Reach::Url(url)) => url_matches(pattern, url),
            _ => false,
        }
    }
}

/// Part by part, so that a host that is meant cannot stand in the path of another one.
fn url_matches(pattern: &str, url: &str) -> bool {
    if pattern == "*" {
        return true;
    }
    let (Some(pattern), Some(url)) = (UrlParts::of(pattern), UrlParts::of(url)) else { return false };
    let host = pattern.host.to_ascii_lowercase();
    matches(pattern.scheme, url.scheme) && matches(&host, url.host) && matches(pattern.path, url.path)
}

struct UrlParts<'a> {
    scheme: &'a str,
    /// With a port, where it has one.
    host: &'a str,
    /// With the query.
    path: &'a str,
}

impl<'a> UrlParts<'a> {
    fn of(text: &'a str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(end);
        let path = if path.is_empty() { "/" } else { path };
        (!scheme.is_empty() && !host.is_empty()).then_some(Self { scheme, host, path })
    }
}

/// Whether a text is as a pattern says, in which `*` stands for anything.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        if let Some(middle) = last.replace(part) {
            // The first place leaves most for those that follow.
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    last.map_or(rest.is_empty(), |last| rest.ends_with(last))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn list(source: &str, entries: &[Entry]) -> List {
        List { source: source.into(), entries: entries.to_vec() }
    }

    fn name(text: &str) -> Entry {
        Entry::Name(text.into())
    }

    fn command(text: &str) -> Entry {
        Entry::Command(words(text))
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    fn url(text: &str) -> Entry {
        Entry::Url(text.into())
    }

    /// Section 8 of the compatibility specification, "Allow/deny lists".
    #[test]
    fn lists_decide_as_documented() {
        let (npx, api) = (words("npx -y server"), "https://api.example.org/mcp");
        let (local, remote) = (Reach::Command(&npx), Reach::Url(api));
        let none: &[Entry] = &[];
        for (allowed, denied, of_local, of_remote) in [
            (None, none, true, true),
            (Some(none), none, false, false),
            (None, &[name("one")][..], false, true),
            (Some(&[name("one")][..]), none, true, false),
            (Some(&[name("one"), name("two")][..]), &[name("two")][..], true, false),
            (None, &[command("npx -y server")][..], false, true),
            (None, &[command("npx -y other")][..], true, true),
            (None, &[url("https://*.example.org/*")][..], true, false),
            // A list that says how servers are reached is not satisfied by a name.
            (Some(&[name("one"), command("npx -y other")][..]), none, false, false),
            (Some(&[name("one"), name("two"), command("npx -y server")][..]), none, true, true),
            (Some(&[name("two"), url("https://other.example.org/*")][..]), none, false, false),
            (Some(&[name("one"), url("https://api.example.org/*")][..]), none, true, true),
            (Some(&[url("*")][..]), none, false, true),
            // What cannot be read closes.
            (Some(&[Entry::Unreadable][..]), none, false, false),
            (Some(&[Entry::Unreadable, name("one")][..]), none, true, false),
            (None, &[Entry::Unreadable][..], false, false),
        ] {
            let lists = ServerLists {
                allowed: allowed.map(|entries| list("a", entries)).into_iter().collect(),
                denied: vec![list("d", denied)],
            };
            assert_eq!(lists.decide("one", local).is_ok(), of_local, "local: {lists:?}");
            assert_eq!(lists.decide("two", remote).is_ok(), of_remote, "remote: {lists:?}");
        }
    }

    #[test]
    fn every_list_of_allowed_servers_has_to_allow_and_any_denial_holds() {
        let npx = words("npx");
        let mut lists = ServerLists {
            allowed: vec![list("managed-settings.json", &[name("one"), name("two")])],
            denied: Vec::new(),
        };
        lists.allowed.push(list(".claude/settings.json", &[name("one"), name("three")]));
        let decide = |lists: &ServerLists, name: &str| lists.decide(name, Reach::Command(&npx));
        assert_eq!(decide(&lists, "one"), Ok(()));
        let refused = decide(&lists, "two").unwrap_err();
        assert_eq!(refused, "allowedMcpServers of .claude/settings.json does not name it");
        let refused = decide(&lists, "three").unwrap_err();
        assert_eq!(refused, "allowedMcpServers of managed-settings.json does not name it");
        lists.denied.push(list(".claude/settings.json", &[name("one")]));
        let refused = decide(&lists, "one").unwrap_err();
        assert_eq!(refused, "deniedMcpServers of .claude/settings.json denies it");
    }

    #[test]
    fn addresses_are_matched_part_by_part() {
        for (pattern, address, means) in [
            ("https://a.org/*", "https://a.org/mcp?x=1", true),
            ("https://a.org", "https://a.org/", true),
            ("https://A.org/mcp", "https://a.org/mcp", true),
            ("https://a.org/mcp", "https://a.org/mcp2", false),
            ("https://*.a.org/*", "https://b.a.org/", true),
            ("https://*.a.org/*", "https://a.org/", false),
            ("https://*.a.org/*", "https://evil.org/.a.org/", false),
            ("https://*.a.org/*", "https://evil.org?.a.org/", false),
            ("https://a.org/*", "http://a.org/", false),
            ("*://a.org/*", "http://a.org/", true),
            ("http://localhost:*/*", "http://localhost:3001/mcp", true),
            ("http://localhost:*/*", "http://localhost/mcp", false),
            ("https://a.org/*", "https://a.org:8443/", false),
            ("a.org", "https://a.org/", false),
        ] {
            assert_eq!(url_matches(pattern, address), means, "{pattern} {address}");
        }
    }

    proptest! {
        /// As a regular expression says it.
        #[test]
        fn stars_stand_for_anything(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            let mut at = vec![0usize];
            for letter in pattern.chars() {
                at = match letter {
                    '*' => (at.iter().copied().min().unwrap_or(usize::MAX)..=text.len()).collect(),
                    letter => at.iter().filter(|at| text[**at..].starts_with(letter)).map(|at| at + 1).collect(),
                };
            }
            prop_assert_eq!(matches(&pattern, &text), at.contains(&text.len()));
        }
    }
}
