//! One settings file, taken apart.
//!
//! A bad entry is told and left out. A list that denies and is written as a single text is taken as a
//! list of one: a slip of the pen must not open what was meant to be closed. A file that is no JSON
//! object is an error for the caller: what it denied cannot be known.

use serde_json::{Map, Value};

use super::command::CommandPattern;
use super::domain::{DomainRule, Domains};
use super::merge::{Hidden, PathEntry};
use super::pattern::{Bases, PathPattern};
use super::rule::Rule;

/// Whose settings they are, from the least trusted to the most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// `.claude/settings.json` of the working directory
    Project,
    /// `.claude/settings.local.json` of the working directory
    Local,
    /// `~/.claude/settings.json`
    User,
    /// `--settings`
    CommandLine,
    /// `/etc/claude-code/managed-settings.json`
    Managed,
}

impl Scope {
    /// Whether it may have come with a repository.
    #[must_use]
    pub const fn is_of_repository(self) -> bool {
        matches!(self, Self::Project | Self::Local)
    }
}

/// What one settings file says about the local sandbox.
#[derive(Debug, Clone)]
pub struct Layer {
    pub(super) scope: Scope,
    pub(super) allow_write: Vec<PathEntry>,
    pub(super) deny_write: Vec<PathEntry>,
    pub(super) allow_read: Vec<PathEntry>,
    pub(super) deny_read: Vec<PathEntry>,
    pub(super) hidden_files: Vec<(PathEntry, Hidden)>,
    pub(super) hidden_variables: Vec<(String, Hidden)>,
    pub(super) domains: Domains,
    pub(super) sockets: Vec<PathEntry>,
    pub(super) all_sockets: Option<bool>,
    pub(super) local_binding: Option<bool>,
    pub(super) http_proxy: Option<u16>,
    pub(super) socks_proxy: Option<u16>,
    pub(super) strict_allowlist: Option<bool>,
    pub(super) managed_domains_only: Option<bool>,
    pub(super) filesystem_disabled: Option<bool>,
    pub(super) excluded: Vec<(String, CommandPattern)>,
    pub(super) fail_if_unavailable: Option<bool>,
    pub(super) weaker_nested: Option<bool>,
    pub(super) bwrap: Option<String>,
}

/// Keys of `sandbox` that are about an agent's own tool, not about a command that is asked for here.
const OF_THE_AGENT: &[&str] =
    &["enabled", "autoAllowBashIfSandboxed", "allowUnsandboxedCommands", "enabledPlatforms"];

impl Layer {
    /// Reads a settings file's text.
    ///
    /// # Errors
    ///
    /// Why it is no JSON object.
    pub fn parse(text: &str, scope: Scope, bases: &Bases) -> Result<(Self, Vec<String>), String> {
        let value: Value = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let Value::Object(settings) = value else { return Err("it is no JSON object".into()) };
        let layer = Self {
            scope,
            allow_write: Vec::new(),
            deny_write: Vec::new(),
            allow_read: Vec::new(),
            deny_read: Vec::new(),
            hidden_files: Vec::new(),
            hidden_variables: Vec::new(),
            domains: Domains::default(),
            sockets: Vec::new(),
            all_sockets: None,
            local_binding: None,
            http_proxy: None,
            socks_proxy: None,
            strict_allowlist: None,
            managed_domains_only: None,
            filesystem_disabled: None,
            excluded: Vec::new(),
            fail_if_unavailable: None,
            weaker_nested: None,
            bwrap: None,
        };
        let mut reader = Reader { layer, bases, remarks: Vec::new() };
        for (key, value) in &settings {
            match key.as_str() {
                "permissions" => reader.within(key, value, Reader::permissions),
                "sandbox" => reader.within(key, value, Reader::sandbox),
                // The rest of a settings file is about other things.
                _ => {}
            }
        }
        Ok((reader.layer, reader.remarks))
    }
}

/// One of the lists of hosts.
type List = fn(&mut Domains) -> &mut Vec<DomainRule>;

struct Reader<'a> {
    layer: Layer,
    bases: &'a Bases,
    remarks: Vec<String>,
}

impl Reader<'_> {
    fn remark(&mut self, key: &str, words: &str) {
        self.remarks.push(format!("{}: {words}", shown(key)));
    }

    fn within(&mut self, key: &str, value: &Value, read: fn(&mut Self, &Map<String, Value>)) {
        match value {
            Value::Object(map) => read(self, map),
            _ => self.remark(key, "is no object; left out"),
        }
    }

    fn permissions(&mut self, map: &Map<String, Value>) {
        for rule in self.texts("permissions.deny", map.get("deny"), true) {
            self.denied(&rule);
        }
        for rule in self.texts("permissions.ask", map.get("ask"), true) {
            self.asked(&rule);
        }
        for rule in self.texts("permissions.allow", map.get("allow"), false) {
            self.allowed(&rule);
        }
    }

    fn denied(&mut self, text: &str) {
        let entry = |path: &str| self.entry(text, PathPattern::of_rule(path, self.bases, true));
        match Rule::parse(text) {
            Rule::Read(path) => {
                let entry = entry(&path);
                self.layer.deny_read.push(entry);
            }
            Rule::Edit(path) => {
                let entry = entry(&path);
                self.layer.deny_write.push(entry);
            }
            Rule::Write(path) => {
                let entry = entry(&path);
                self.layer.deny_write.push(entry);
                self.remark(text, "is denied as if it said Edit; write Edit");
            }
            Rule::Fetch(host) => self.domain(text, &host, |domains| &mut domains.denied),
            Rule::Bare => self.remark(text, "denies a tool, not a file; commands are not concerned"),
            Rule::Bad => self.remark(text, "is no rule; left out"),
            Rule::Other => {}
        }
    }

    fn allowed(&mut self, text: &str) {
        match Rule::parse(text) {
            Rule::Edit(path) => {
                let entry = self.entry(text, PathPattern::of_rule(&path, self.bases, false));
                self.layer.allow_write.push(entry);
            }
            Rule::Write(_) => self.remark(text, "opens nothing; write Edit"),
            Rule::Fetch(host) => self.domain(text, &host, |domains| &mut domains.allowed),
            Rule::Bad => self.remark(text, "is no rule; left out"),
            // Reading is open but for what is denied, which a rule that allows does not undo.
            Rule::Read(_) | Rule::Bare | Rule::Other => {}
        }
    }

    /// Hosts are asked about; whether a file may be read or written is not a question for later.
    fn asked(&mut self, text: &str) {
        match Rule::parse(text) {
            Rule::Fetch(host) => self.domain(text, &host, |domains| &mut domains.asked),
            Rule::Bad => self.remark(text, "is no rule; left out"),
            Rule::Read(_) | Rule::Edit(_) | Rule::Write(_) | Rule::Bare | Rule::Other => {}
        }
    }

    fn domain(&mut self, key: &str, host: &str, list: List) {
        match host.parse() {
            Ok(rule) => list(&mut self.layer.domains).push(rule),
            Err(error) => self.remark(key, &format!("{error}; left out")),
        }
    }

    fn sandbox(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let full = format!("sandbox.{key}");
            match key.as_str() {
                "filesystem" => self.within(&full, value, Self::filesystem),
                "network" => self.within(&full, value, Self::network),
                "credentials" => self.within(&full, value, Self::credentials),
                "excludedCommands" => {
                    let texts = self.texts(&full, Some(value), false);
                    let patterns = texts.into_iter().map(|text| (text.clone(), CommandPattern::parse(&text)));
                    self.layer.excluded.extend(patterns);
                }
                "failIfUnavailable" => self.layer.fail_if_unavailable = self.switch(&full, value),
                "enableWeakerNestedSandbox" => self.layer.weaker_nested = self.switch(&full, value),
                "bwrapPath" => match value {
                    Value::String(path) => self.layer.bwrap = Some(path.clone()),
                    _ => self.remark(&full, "is no text; left out"),
                },
                "socatPath" => self.remark(&full, "is not used: there is no relay"),
                key if OF_THE_AGENT.contains(&key) => {}
                _ => self.remark(&full, "is not known; left out"),
            }
        }
    }

    fn filesystem(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let full = format!("sandbox.filesystem.{key}");
            match key.as_str() {
                "disabled" => self.layer.filesystem_disabled = self.switch(&full, value),
                "allowWrite" => {
                    let paths = self.paths(&full, value, false);
                    self.layer.allow_write.extend(paths);
                }
                "allowRead" => {
                    let paths = self.paths(&full, value, false);
                    self.layer.allow_read.extend(paths);
                }
                "denyWrite" => {
                    let paths = self.paths(&full, value, true);
                    self.layer.deny_write.extend(paths);
                }
                "denyRead" => {
                    let paths = self.paths(&full, value, true);
                    self.layer.deny_read.extend(paths);
                }
                _ => self.remark(&full, "is not known; left out"),
            }
        }
    }

    fn network(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let full = format!("sandbox.network.{key}");
            match key.as_str() {
                "allowedDomains" | "deniedDomains" => {
                    let allowed = key == "allowedDomains";
                    let list: List = match allowed {
                        true => |domains| &mut domains.allowed,
                        false => |domains| &mut domains.denied,
                    };
                    for host in self.texts(&full, Some(value), !allowed) {
                        self.domain(&full, &host, list);
                    }
                }
                "allowUnixSockets" => {
                    let paths = self.paths(&full, value, false);
                    self.layer.sockets.extend(paths);
                }
                "allowAllUnixSockets" => self.layer.all_sockets = self.switch(&full, value),
                "allowLocalBinding" => self.layer.local_binding = self.switch(&full, value),
                "httpProxyPort" => self.layer.http_proxy = self.port(&full, value),
                "socksProxyPort" => self.layer.socks_proxy = self.port(&full, value),
                "strictAllowlist" => self.layer.strict_allowlist = self.switch(&full, value),
                "allowManagedDomainsOnly" => self.layer.managed_domains_only = self.switch(&full, value),
                "tlsTerminate" => self.remark(&full, "is not done here: TLS is passed on as it is"),
                "allowMachLookup" => self.remark(&full, "is about another system; left out"),
                _ => self.remark(&full, "is not known; left out"),
            }
        }
    }

    fn credentials(&mut self, map: &Map<String, Value>) {
        for (key, value) in map {
            let full = format!("sandbox.credentials.{key}");
            let name = match key.as_str() {
                "files" => "path",
                "envVars" => "name",
                _ => {
                    self.remark(&full, "is not known; left out");
                    continue;
                }
            };
            let Value::Array(entries) = value else {
                self.remark(&full, "is no list; left out");
                continue;
            };
            for entry in entries {
                let text = entry.as_str().or_else(|| entry.get(name).and_then(Value::as_str));
                let Some(text) = text.filter(|text| !text.is_empty()) else {
                    self.remark(&full, &format!("an entry without `{name}`; left out"));
                    continue;
                };
                let hidden = self.hidden(&full, text, entry.get("mode"));
                if key == "files" {
                    let entry = self.entry(text, PathPattern::of_setting(text, self.bases));
                    self.layer.hidden_files.push((entry, hidden));
                } else {
                    self.layer.hidden_variables.push((text.to_owned(), hidden));
                }
            }
        }
    }

    fn hidden(&mut self, key: &str, text: &str, mode: Option<&Value>) -> Hidden {
        match mode.and_then(Value::as_str) {
            Some("deny") => Hidden::Deny,
            Some("mask") => Hidden::Mask,
            _ => {
                self.remark(key, &format!("`{}` has neither mode deny nor mask; denied", shown(text)));
                Hidden::Deny
            }
        }
    }

    fn paths(&mut self, key: &str, value: &Value, denies: bool) -> Vec<PathEntry> {
        let texts = self.texts(key, Some(value), denies);
        texts.iter().map(|text| self.entry(text, PathPattern::of_setting(text, self.bases))).collect()
    }

    fn entry(&self, text: &str, pattern: PathPattern) -> PathEntry {
        PathEntry { pattern, scope: self.layer.scope, text: shown(text) }
    }

    fn texts(&mut self, key: &str, value: Option<&Value>, denies: bool) -> Vec<String> {
        let entries = match value {
            None => return Vec::new(),
            Some(Value::Array(entries)) => entries.as_slice(),
            Some(single @ Value::String(_)) if denies => {
                self.remark(key, "is no list; taken as a list of one");
                std::slice::from_ref(single)
            }
            Some(_) => {
                self.remark(key, "is no list; left out");
                return Vec::new();
            }
        };
        let mut texts = Vec::new();
        for (number, entry) in entries.iter().enumerate() {
            match entry.as_str() {
                Some(text) if !text.is_empty() && !text.contains('\0') => texts.push(text.to_owned()),
                _ => self.remark(key, &format!("entry {} is no text; left out", number + 1)),
            }
        }
        texts
    }

    fn port(&mut self, key: &str, value: &Value) -> Option<u16> {
        let port = value.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
        if port.is_none() {
            self.remark(key, "is no port from 1 to 65535; left out");
        }
        port
    }

    fn switch(&mut self, key: &str, value: &Value) -> Option<bool> {
        if value.as_bool().is_none() {
            self.remark(key, "is neither true nor false; left out");
        }
        value.as_bool()
    }
}

/// Text of a settings file in a message: one short line that steers no terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(120).collect()
}
