//! What settings files say about MCP servers.
//!
//! | key | of | |
//! |---|---|---|
//! | `deniedMcpServers` | every file | never used |
//! | `allowedMcpServers` | every file | only these, of each file that has it; `allowManagedMcpServersOnly`: the operator's alone |
//! | `disabledMcpjsonServers` | every file | not used |
//! | `enableAllProjectMcpServers: false` | the operator | the repository's wait for `enabledMcpjsonServers` of the operator |
//! | `useEnterpriseMcpConfigOnly` | the operator | the repository's are not read |
//!
//! A repository cannot approve of itself: its own `enable…` are for a person at a terminal, and change nothing.

use std::collections::HashSet;

use policy::mcp::{Entry, List, Reach, ServerLists};
use serde_json::{Map, Value};

/// Entries of a list.
const MAX_ENTRIES: usize = 2_000;

/// All files together, the operator's read first.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServerSettings {
    lists: ServerLists,
    /// Names, and the file that says so.
    disabled: Vec<(String, String)>,
    /// Whether the repository's servers need the operator's approval.
    approval: bool,
    approved: HashSet<String>,
    /// Whether only the operator's list of allowed servers counts.
    managed_list_only: bool,
    /// Whether only the operator's servers are used.
    pub(super) only_operators: bool,
}

/// Why a server is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A list or a file says no.
    Off(String),
    /// The operator has not said yes.
    Unapproved(String),
}

impl ServerSettings {
    /// Reads a file, the stronger ones before the weaker.
    pub(super) fn read(
        &mut self,
        object: &Map<String, Value>,
        source: &str,
        of_operator: bool,
        remarks: &mut Vec<String>,
    ) {
        let mut remark = |words: String| remarks.push(format!("{source}: {words}"));
        if of_operator {
            self.managed_list_only |= object.get("allowManagedMcpServersOnly") == Some(&Value::Bool(true));
            self.only_operators |= object.get("useEnterpriseMcpConfigOnly") == Some(&Value::Bool(true));
            self.approval |= object.get("enableAllProjectMcpServers") == Some(&Value::Bool(false));
            self.approved.extend(names(object.get("enabledMcpjsonServers")));
        }
        let disabled = names(object.get("disabledMcpjsonServers"));
        self.disabled.extend(disabled.map(|name| (name, source.to_owned())));
        let list = |key: &str, remark: &mut dyn FnMut(String)| {
            let entries = object.get(key).map(|value| entries(key, value, remark));
            entries.map(|entries| List { source: source.to_owned(), entries })
        };
        self.lists.denied.extend(list("deniedMcpServers", &mut remark));
        let allowed = list("allowedMcpServers", &mut remark);
        self.lists.allowed.extend(allowed.filter(|_| of_operator || !self.managed_list_only));
    }

    /// Whether a server may be used.
    pub(crate) fn decide(&self, of_operator: bool, name: &str, reach: Reach<'_>) -> Result<(), Refusal> {
        self.lists.decide(name, reach).map_err(Refusal::Off)?;
        if of_operator {
            return Ok(());
        }
        if let Some((_, source)) = self.disabled.iter().find(|(disabled, _)| disabled == name) {
            return Err(Refusal::Off(format!("disabledMcpjsonServers of {source} names it")));
        }
        if self.approval && !self.approved.contains(name) {
            let why = "the operator approves of servers one by one, in enabledMcpjsonServers";
            return Err(Refusal::Unapproved(why.into()));
        }
        Ok(())
    }
}

fn names(value: Option<&Value>) -> impl Iterator<Item = String> {
    let names = value.and_then(Value::as_array).into_iter().flatten().take(MAX_ENTRIES);
    names.filter_map(|name| name.as_str().map(str::to_owned))
}

/// What is no list has one entry that cannot be read.
fn entries(key: &str, value: &Value, remark: &mut dyn FnMut(String)) -> Vec<Entry> {
    let entries = match value.as_array() {
        Some(entries) if entries.len() <= MAX_ENTRIES => entries,
        _ => {
            remark(format!("`{key}` is no list of at most {MAX_ENTRIES} entries; no server is used"));
            return vec![Entry::Unreadable];
        }
    };
    let mut read = Vec::new();
    for (index, value) in entries.iter().enumerate() {
        read.push(entry(value).unwrap_or_else(|| {
            remark(format!(
                "entry {index} of `{key}` has not exactly one of `serverName`, `serverCommand` and `serverUrl`"
            ));
            Entry::Unreadable
        }));
    }
    read
}

fn entry(value: &Value) -> Option<Entry> {
    let object = value.as_object().filter(|object| object.len() == 1)?;
    let (key, value) = object.iter().next()?;
    let text = || value.as_str().map(str::to_owned);
    match key.as_str() {
        "serverName" => text().map(Entry::Name),
        "serverUrl" => text().map(Entry::Url),
        "serverCommand" => {
            let words = value.as_array()?.iter().map(|word| word.as_str().map(str::to_owned));
            words.collect::<Option<Vec<_>>>().filter(|words| !words.is_empty()).map(Entry::Command)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(files: &[(bool, Value)]) -> (ServerSettings, Vec<String>) {
        let (mut settings, mut remarks) = (ServerSettings::default(), Vec::new());
        for (of_operator, value) in files {
            let source = if *of_operator { "managed-settings.json" } else { ".claude/settings.json" };
            settings.read(value.as_object().unwrap(), source, *of_operator, &mut remarks);
        }
        (settings, remarks)
    }

    fn decide(settings: &ServerSettings, name: &str) -> Result<(), Refusal> {
        settings.decide(false, name, Reach::Command(&["x".to_owned()]))
    }

    fn off(why: &str) -> Result<(), Refusal> {
        Err(Refusal::Off(why.to_owned()))
    }

    /// Section 8: servers of a repository connect without a question unless somebody says otherwise.
    #[test]
    fn a_repository_needs_no_approval_unless_the_operator_wants_it() {
        let (settings, _) = read(&[]);
        assert_eq!(decide(&settings, "one"), Ok(()));
        let own = json!({ "enableAllProjectMcpServers": true, "enabledMcpjsonServers": ["one"],
            "disabledMcpjsonServers": ["two"] });
        let (settings, remarks) = read(&[(false, own.clone())]);
        assert_eq!(remarks, Vec::<String>::new());
        assert_eq!(decide(&settings, "one"), Ok(()));
        assert_eq!(decide(&settings, "two"), off("disabledMcpjsonServers of .claude/settings.json names it"));
        let wanted = json!({ "enableAllProjectMcpServers": false, "enabledMcpjsonServers": ["three"] });
        let (settings, _) = read(&[(true, wanted), (false, own)]);
        assert!(
            matches!(decide(&settings, "one"), Err(Refusal::Unapproved(_))),
            "it cannot approve of itself"
        );
        assert_eq!(decide(&settings, "three"), Ok(()));
        assert_eq!(settings.decide(true, "two", Reach::Url("https://a.org/")), Ok(()), "the operator's own");
    }

    #[test]
    fn a_repository_narrows_the_operators_list_and_never_widens_it() {
        let list = |names: &[&str]| {
            let entries: Vec<Value> = names.iter().map(|name| json!({ "serverName": name })).collect();
            json!({ "allowedMcpServers": entries })
        };
        let (settings, _) = read(&[(true, list(&["one", "two"])), (false, list(&["one", "three"]))]);
        assert_eq!(decide(&settings, "one"), Ok(()));
        assert!(decide(&settings, "two").is_err() && decide(&settings, "three").is_err());
        let mut managed = list(&["one", "two"]);
        managed["allowManagedMcpServersOnly"] = true.into();
        let (settings, _) = read(&[(true, managed), (false, list(&[]))]);
        assert_eq!(decide(&settings, "two"), Ok(()));
        let (settings, _) = read(&[(true, list(&[]))]);
        assert!(decide(&settings, "one").is_err() && settings.decide(true, "one", Reach::Url("x")).is_err());
    }

    #[test]
    fn what_is_no_entry_is_told_and_closes() {
        for value in [
            json!("one"),
            json!([{ "serverName": "one", "serverUrl": "*" }]),
            json!([{ "serverName": 5 }]),
            json!([{ "serverCommand": [] }]),
            json!([{ "serverCommand": "x" }]),
            json!([{ "server": "x" }]),
            json!(["x"]),
        ] {
            for key in ["deniedMcpServers", "allowedMcpServers"] {
                let (settings, remarks) = read(&[(false, json!({ key: value }))]);
                assert_eq!(remarks.len(), 1, "{key} {value}");
                assert!(decide(&settings, "one").is_err(), "{key} {value}");
            }
        }
        let denied = json!({ "deniedMcpServers": [{ "serverCommand": ["x"] }] });
        let (settings, remarks) = read(&[(false, denied)]);
        assert_eq!((decide(&settings, "one").is_err(), remarks.len()), (true, 0));
    }
}
