//! All settings files as one policy.

use std::path::{Path, PathBuf};

use super::command::CommandPattern;
use super::domain::Domains;
use super::layer::{Layer, Scope};
use super::pattern::PathPattern;

/// A path of some settings file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathEntry {
    /// What is meant.
    pub pattern: PathPattern,
    /// Who says so.
    pub scope: Scope,
    /// As it was written, fit for a message.
    pub text: String,
}

/// How a credential is kept from a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hidden {
    /// It is there, without its content.
    Mask,
    /// It cannot be opened; a variable is not set.
    Deny,
}

/// Which unix sockets a command may connect to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum UnixSockets {
    /// None, and it can make none of its own.
    #[default]
    None,
    /// These.
    Listed(Vec<PathEntry>),
    /// All that its user may.
    All,
}

/// What a command in the local sandbox may touch. The default is the closed one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LocalPolicy {
    /// May be written besides the working directory.
    pub allow_write: Vec<PathEntry>,
    /// May not, whatever else is said.
    pub deny_write: Vec<PathEntry>,
    /// May be read below what is denied by the same or a less trusted scope.
    pub allow_read: Vec<PathEntry>,
    /// May not be read.
    pub deny_read: Vec<PathEntry>,
    /// Files whose content is kept back.
    pub masked_files: Vec<PathEntry>,
    /// Variables that are kept back.
    pub hidden_variables: Vec<(String, Hidden)>,
    /// Which hosts may be reached.
    pub domains: Domains,
    /// What is on no list is refused without asking.
    pub strict_allowlist: bool,
    /// Whether the command may wait for connections of its own processes; not said: it may.
    pub local_binding: Option<bool>,
    /// The port on this machine of an HTTP proxy that connections are to go through.
    pub http_proxy: Option<u16>,
    /// The same of a SOCKS5 proxy.
    pub socks_proxy: Option<u16>,
    /// Unix sockets.
    pub unix_sockets: UnixSockets,
    /// Files are not guarded at all.
    pub filesystem_disabled: bool,
    /// Commands that run outside, with the text that says so.
    pub excluded: Vec<(String, CommandPattern)>,
    /// What was said about a machine that cannot do it.
    pub fail_if_unavailable: Option<bool>,
    /// The sandbox may share the machine's `/proc`, where it can get none of its own.
    pub weaker_nested: bool,
    /// The bubblewrap to use.
    pub bwrap: Option<PathBuf>,
}

impl LocalPolicy {
    /// Joins layers, in any order. `project`: the folder that repositories may open more of.
    #[must_use]
    pub fn merge(mut layers: Vec<Layer>, project: &Path) -> (Self, Vec<String>) {
        layers.sort_by_key(|layer| layer.scope);
        let mut merged = Merge { policy: Self::default(), sockets: Vec::new(), remarks: Vec::new() };
        let managed_only = layers
            .iter()
            .any(|layer| layer.scope == Scope::Managed && layer.managed_domains_only == Some(true));
        for mut layer in layers {
            if managed_only && layer.scope != Scope::Managed {
                layer.domains.allowed.clear();
            }
            merged.add(layer, project);
        }
        merged.policy.strict_allowlist |= managed_only;
        let Merge { mut policy, sockets, remarks } = merged;
        if policy.unix_sockets != UnixSockets::All && !sockets.is_empty() {
            policy.unix_sockets = UnixSockets::Listed(sockets);
        }
        (policy, remarks)
    }

    /// The pattern that sends this command, its words joined by spaces, out of the sandbox.
    #[must_use]
    pub fn excludes(&self, command: &str) -> Option<&str> {
        self.excluded.iter().find(|(_, pattern)| pattern.matches(command)).map(|(text, _)| text.as_str())
    }

    /// How this variable is kept back; the stricter of several.
    #[must_use]
    pub fn hides(&self, variable: &str) -> Option<Hidden> {
        let told = self.hidden_variables.iter().filter(|(name, _)| name == variable);
        told.map(|(_, hidden)| *hidden).max()
    }
}

struct Merge {
    policy: LocalPolicy,
    sockets: Vec<PathEntry>,
    remarks: Vec<String>,
}

impl Merge {
    fn add(&mut self, layer: Layer, project: &Path) {
        let foreign = layer.scope.is_of_repository();
        self.policy.deny_write.extend(layer.deny_write);
        self.policy.deny_read.extend(layer.deny_read);
        self.policy.hidden_variables.extend(layer.hidden_variables);
        for (entry, hidden) in layer.hidden_files {
            match hidden {
                Hidden::Deny => self.policy.deny_read.push(entry),
                Hidden::Mask => self.policy.masked_files.push(entry),
            }
        }
        self.policy.domains.denied.extend(layer.domains.denied);
        self.policy.domains.asked.extend(layer.domains.asked);
        for (from, to) in [
            (layer.allow_write, &mut self.policy.allow_write),
            (layer.allow_read, &mut self.policy.allow_read),
        ] {
            for entry in from {
                if foreign && !entry.pattern.is_within(project) {
                    self.remarks.push(format!(
                        "{}: a repository's settings open nothing outside of it; put this into your own \
                         settings",
                        entry.text
                    ));
                } else {
                    to.push(entry);
                }
            }
        }
        if foreign {
            let loosens = [
                (layer.filesystem_disabled == Some(true), "sandbox.filesystem.disabled"),
                (!layer.excluded.is_empty(), "sandbox.excludedCommands"),
                (layer.weaker_nested == Some(true), "sandbox.enableWeakerNestedSandbox"),
                (layer.bwrap.is_some(), "sandbox.bwrapPath"),
                (!layer.sockets.is_empty(), "sandbox.network.allowUnixSockets"),
                (layer.all_sockets == Some(true), "sandbox.network.allowAllUnixSockets"),
                (!layer.domains.allowed.is_empty(), "sandbox.network.allowedDomains, WebFetch(domain:…)"),
                (layer.http_proxy.is_some(), "sandbox.network.httpProxyPort"),
                (layer.socks_proxy.is_some(), "sandbox.network.socksProxyPort"),
            ];
            for (_, key) in loosens.iter().filter(|(is_set, _)| *is_set) {
                self.remarks.push(format!(
                    "{key}: not taken from a repository's settings; put it into your own settings"
                ));
            }
            self.policy.strict_allowlist |= layer.strict_allowlist == Some(true);
            self.policy.local_binding = layer.local_binding.filter(|may| !may).or(self.policy.local_binding);
            return;
        }
        self.policy.domains.allowed.extend(layer.domains.allowed);
        self.policy.strict_allowlist = layer.strict_allowlist.unwrap_or(self.policy.strict_allowlist);
        self.policy.local_binding = layer.local_binding.or(self.policy.local_binding);
        self.policy.http_proxy = layer.http_proxy.or(self.policy.http_proxy);
        self.policy.socks_proxy = layer.socks_proxy.or(self.policy.socks_proxy);
        self.sockets.extend(layer.sockets);
        self.policy.excluded.extend(layer.excluded);
        // Layers come in the order of trust: the last word counts.
        if let Some(all) = layer.all_sockets {
            self.policy.unix_sockets = if all { UnixSockets::All } else { UnixSockets::None };
        }
        self.policy.filesystem_disabled =
            layer.filesystem_disabled.unwrap_or(self.policy.filesystem_disabled);
        self.policy.fail_if_unavailable = layer.fail_if_unavailable.or(self.policy.fail_if_unavailable);
        self.policy.weaker_nested = layer.weaker_nested.unwrap_or(self.policy.weaker_nested);
        if let Some(path) = layer.bwrap {
            self.policy.bwrap = Some(path.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{Bases, DomainRule};
    use super::*;

    fn bases() -> Bases {
        Bases { home: "/home/u".into(), working: "/w".into(), source: "/w".into() }
    }

    fn merged(layers: &[(Scope, &str)]) -> (LocalPolicy, Vec<String>) {
        let mut all = Vec::new();
        let mut remarks = Vec::new();
        for (scope, text) in layers {
            let (layer, said) = Layer::parse(text, *scope, &bases()).unwrap();
            all.push(layer);
            remarks.extend(said);
        }
        let (policy, said) = LocalPolicy::merge(all, Path::new("/w"));
        remarks.extend(said);
        (policy, remarks)
    }

    fn texts(entries: &[PathEntry]) -> Vec<&str> {
        entries.iter().map(|entry| entry.text.as_str()).collect()
    }

    #[test]
    fn lists_join_over_scopes_and_rules_feed_them() {
        let user = r#"{"permissions":{"deny":["Read(~/.ssh/**)","Edit(./keep)","WebFetch(domain:bad.test)"],
            "allow":["Edit(~/notes)","WebFetch(domain:*.good.test)","Bash(ls)"],
            "ask":["WebFetch(domain:some.good.test)","Bash(rm *)"]},
            "sandbox":{"filesystem":{"allowWrite":["/tmp/build"]}}}"#;
        let project = r#"{"sandbox":{"filesystem":{"denyRead":["./secret"],"allowWrite":["./out"]},
            "network":{"deniedDomains":["worse.test"],"httpProxyPort":0},
            "credentials":{"files":[{"path":"~/.aws","mode":"mask"},{"path":"~/.netrc"}],
            "envVars":[{"name":"TOKEN","mode":"deny"},{"name":"KEY","mode":"mask"}]}}}"#;
        let (policy, remarks) = merged(&[(Scope::User, user), (Scope::Project, project)]);
        assert_eq!(texts(&policy.deny_read), ["./secret", "~/.netrc", "Read(~/.ssh/**)"]);
        assert_eq!(texts(&policy.deny_write), ["Edit(./keep)"]);
        assert_eq!(texts(&policy.allow_write), ["./out", "Edit(~/notes)", "/tmp/build"]);
        assert_eq!(texts(&policy.masked_files), ["~/.aws"]);
        assert_eq!(policy.hides("TOKEN"), Some(Hidden::Deny));
        assert_eq!(policy.hides("KEY"), Some(Hidden::Mask));
        assert_eq!(policy.hides("PATH"), None);
        let hosts = |list: &[DomainRule]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(hosts(&policy.domains.allowed), ["*.good.test"]);
        assert_eq!(hosts(&policy.domains.asked), ["some.good.test"]);
        assert_eq!(hosts(&policy.domains.denied), ["worse.test", "bad.test"]);
        assert_eq!(remarks.len(), 2, "{remarks:?}");
    }

    #[test]
    fn a_repository_loosens_nothing_outside_of_itself() {
        let project = r#"{"permissions":{"allow":["Edit(~/.bashrc)","Edit(//**)","Edit(./a)"]},
            "sandbox":{"filesystem":{"disabled":true,"allowWrite":["/","../x","sub"],"allowRead":["~/.ssh"]},
            "excludedCommands":["*"],"enableWeakerNestedSandbox":true,"bwrapPath":"/w/bwrap",
            "network":{"allowAllUnixSockets":true,"allowUnixSockets":["/run/docker.sock"],"allowLocalBinding":true,
            "allowedDomains":["*"],"httpProxyPort":22,"socksProxyPort":22,"strictAllowlist":false}}}"#;
        for scope in [Scope::Project, Scope::Local] {
            let (policy, remarks) = merged(&[(scope, project)]);
            assert_eq!(texts(&policy.allow_write), ["Edit(./a)", "sub"]);
            let opened = policy.allow_write.clone();
            assert_eq!(policy, LocalPolicy { allow_write: opened, ..LocalPolicy::default() });
            assert_eq!(remarks.len(), 14, "{remarks:#?}");
        }
    }

    #[test]
    fn a_repository_narrows_the_network() {
        let user = r#"{"sandbox":{"network":{"allowedDomains":["a.test"]}}}"#;
        let project = r#"{"sandbox":{"network":{"deniedDomains":["a.test"],"strictAllowlist":true,
            "allowLocalBinding":false}},"permissions":{"ask":["WebFetch(domain:b.test)"]}}"#;
        let (policy, remarks) = merged(&[(Scope::User, user), (Scope::Project, project)]);
        assert!(policy.strict_allowlist && policy.local_binding == Some(false));
        assert_eq!((policy.domains.denied.len(), policy.domains.asked.len()), (1, 1));
        assert!(remarks.is_empty(), "{remarks:?}");
    }

    #[test]
    fn where_only_managed_hosts_count_nobody_else_names_any() {
        let managed =
            r#"{"sandbox":{"network":{"allowManagedDomainsOnly":true,"allowedDomains":["a.test"]}}}"#;
        let user = r#"{"sandbox":{"network":{"allowManagedDomainsOnly":true,"allowedDomains":["b.test"],
            "deniedDomains":["c.test"]}}}"#;
        let (policy, _) = merged(&[(Scope::Managed, managed), (Scope::User, user)]);
        assert_eq!(policy.domains.allowed, ["a.test".parse().unwrap()]);
        assert!(policy.strict_allowlist && policy.domains.denied.len() == 1);
        let (policy, _) = merged(&[(Scope::User, user)]);
        assert!(!policy.strict_allowlist && policy.domains.allowed.len() == 1);
    }

    #[test]
    fn managed_settings_have_the_last_word() {
        let managed = r#"{"sandbox":{"filesystem":{"disabled":false,"denyRead":["/secret"]},
            "network":{"allowAllUnixSockets":false}}}"#;
        let given = r#"{"sandbox":{"filesystem":{"disabled":true,"allowRead":["/secret"]},
            "network":{"allowAllUnixSockets":true}}}"#;
        let (policy, _) = merged(&[(Scope::Managed, managed), (Scope::CommandLine, given)]);
        assert!(!policy.filesystem_disabled);
        assert_eq!(policy.unix_sockets, UnixSockets::None);
        assert!(policy.allow_read[0].scope < policy.deny_read[0].scope);
    }

    #[test]
    fn bad_entries_are_told_one_by_one_and_open_nothing() {
        let text = r#"{"permissions":{"deny":["Read(x",7],"allow":"Edit(//etc)"},
            "sandbox":{"filesystem":{"denyRead":"/a","allowWrite":"/b","wrong":1},"wrong":1,
            "network":{"deniedDomains":["a b"]},"failIfUnavailable":"yes"}}"#;
        let (policy, remarks) = merged(&[(Scope::User, text)]);
        assert_eq!(texts(&policy.deny_read), ["/a"]);
        assert!(policy.allow_write.is_empty());
        assert_eq!(remarks.len(), 9, "{remarks:#?}");
        assert!(Layer::parse("[]", Scope::User, &bases()).is_err());
        assert!(Layer::parse("{", Scope::User, &bases()).is_err());
    }

    proptest! {
        #[test]
        fn any_text_of_a_repository_opens_at_most_its_own_folder(
            path in "[a~/.*\\[{}-]{1,16}", rule in "[a~/.*(){}]{0,12}",
        ) {
            let value = serde_json::json!({
                "permissions": { "allow": [format!("Edit({rule})"), rule] },
                "sandbox": { "filesystem": { "allowWrite": [path.clone()], "allowRead": [path] } },
            });
            let (policy, _) = merged(&[(Scope::Project, &value.to_string())]);
            for entry in policy.allow_write.iter().chain(&policy.allow_read) {
                prop_assert!(entry.pattern.root().starts_with("/w"));
            }
        }
    }
}
