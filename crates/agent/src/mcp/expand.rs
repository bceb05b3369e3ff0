//! `${VAR}` and `${VAR:-default}` in what a file says about a server.
//!
//! The variables are those of the session's commands: the environment's, and `env` of settings. Never those
//! of the server's own process. One that is not set and has no default stays as it is written, and is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use policy::variables::is_name;

use super::declared::Way;

/// What the variables are taken from.
pub(super) struct Variables<'a> {
    values: HashMap<&'a str, &'a str>,
    /// Names that were asked for and are not set.
    missing: BTreeSet<String>,
}

impl<'a> Variables<'a> {
    pub(super) fn new(pairs: &'a [(String, String)]) -> Self {
        // Where the project is says the working directory.
        let pairs = pairs.iter().filter(|(name, _)| name != "CLAUDE_PROJECT_DIR");
        let values = pairs.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Self { values, missing: BTreeSet::new() }
    }

    /// The way with everything filled in.
    pub(super) fn fill(&mut self, way: &Way) -> Way {
        match way {
            Way::Stdio { command, args, env } => Way::Stdio {
                command: self.text(command),
                args: args.iter().map(|arg| self.text(arg)).collect(),
                env: self.map(env),
            },
            Way::Http { url, headers } => Way::Http { url: self.text(url), headers: self.map(headers) },
            Way::Driver => Way::Driver,
        }
    }

    /// What was not set, in words.
    pub(super) fn remark(&self) -> Option<String> {
        let missing: Vec<String> = self.missing.iter().take(10).map(|name| format!("`{name}`")).collect();
        match missing.as_slice() {
            [] => None,
            [one] => Some(format!("the variable {one} is not set")),
            several => Some(format!("the variables {} are not set", several.join(", "))),
        }
    }

    fn map(&mut self, map: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        map.iter().map(|(name, value)| (name.clone(), self.text(value))).collect()
    }

    fn text(&mut self, text: &str) -> String {
        let (mut filled, mut rest) = (String::new(), text);
        while let Some(at) = rest.find("${") {
            let inside = &rest[at + 2..];
            let Some(end) = inside.find('}') else { break };
            filled.push_str(&rest[..at]);
            let (name, default) = match inside[..end].split_once(":-") {
                Some((name, default)) => (name, Some(default)),
                None => (&inside[..end], None),
            };
            let whole = &rest[at..at + end + 3];
            rest = &inside[end + 1..];
            match self.values.get(name).copied().filter(|value| !value.is_empty() || default.is_none()) {
                Some(value) => filled.push_str(value),
                None => match default {
                    Some(default) => filled.push_str(default),
                    None => {
                        if is_name(name) {
                            self.missing.insert(name.to_owned());
                        }
                        filled.push_str(whole);
                    }
                },
            }
        }
        filled.push_str(rest);
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 8: "unset without default stays literal + warning".
    #[test]
    fn variables_are_filled_in_once() {
        let pairs = [("A", "one"), ("B", "${A}"), ("EMPTY", ""), ("CLAUDE_PROJECT_DIR", "/w")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()));
        for (text, filled, remark) in [
            ("x ${A} y", "x one y", None),
            ("${A}${A:-two}", "oneone", None),
            ("${B}", "${A}", None),
            ("${C:-two}", "two", None),
            ("${EMPTY:-two}|${EMPTY}", "two|", None),
            ("${C:-}", "", None),
            ("${C}", "${C}", Some("the variable `C` is not set")),
            ("${C} ${D}", "${C} ${D}", Some("the variables `C`, `D` are not set")),
            ("${CLAUDE_PROJECT_DIR:-.}", ".", None),
            ("$A ${ ${A", "$A ${ ${A", None),
            ("${not a name}", "${not a name}", None),
            ("${A", "${A", None),
        ] {
            let mut variables = Variables::new(&pairs);
            assert_eq!(variables.text(text), filled, "{text}");
            assert_eq!(variables.remark().as_deref(), remark, "{text}");
        }
    }
}
