//! Permission rules that say something about files and hosts: `Read(…)`, `Edit(…)`, `WebFetch(…)`.

/// A rule, in its written form taken apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Rule {
    /// `Read(path)`
    Read(String),
    /// `Edit(path)`
    Edit(String),
    /// `Write(path)`, which the product ignores: `Edit` is meant to be written
    Write(String),
    /// `WebFetch(domain:host)`
    Fetch(String),
    /// One of these without an argument: it is about the tool
    Bare,
    /// About something that no file or host rule is made of
    Other,
    /// No rule at all
    Bad,
}

impl Rule {
    /// Takes a rule apart; never fails.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let (tool, argument) = match text.split_once('(') {
            None => (text, None),
            Some((tool, rest)) => match rest.strip_suffix(')') {
                Some(argument) => (tool, Some(argument.trim())),
                None => return Self::Bad,
            },
        };
        if tool.is_empty() || !tool.bytes().all(|b| b.is_ascii_alphanumeric() || b"_*-.".contains(&b)) {
            return Self::Bad;
        }
        let known = matches!(tool, "Read" | "Edit" | "Write" | "WebFetch");
        match (tool, argument) {
            (_, None | Some("" | "*")) if known => Self::Bare,
            ("Read", Some(path)) => Self::Read(path.into()),
            ("Edit", Some(path)) => Self::Edit(path.into()),
            ("Write", Some(path)) => Self::Write(path.into()),
            ("WebFetch", Some(argument)) => match argument.strip_prefix("domain:") {
                Some(host) => Self::Fetch(host.into()),
                None => Self::Bad,
            },
            _ => Self::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_taken_apart() {
        for (text, rule) in [
            ("Read(./a (b))", Rule::Read("./a (b)".into())),
            ("Edit(//etc/**)", Rule::Edit("//etc/**".into())),
            ("Write(x)", Rule::Write("x".into())),
            ("WebFetch(domain:*.a.org)", Rule::Fetch("*.a.org".into())),
            ("WebFetch(https://a)", Rule::Bad),
            ("Read", Rule::Bare),
            ("Read(*)", Rule::Bare),
            ("Bash(rm *)", Rule::Other),
            ("mcp__srv__*", Rule::Other),
            ("Read(x", Rule::Bad),
            ("", Rule::Bad),
            ("a b", Rule::Bad),
        ] {
            assert_eq!(Rule::parse(text), rule, "{text}");
        }
    }
}
