//! Domain patterns of a network level: their shape, not yet their meaning.
//!
//! ```text
//!  example.org        that host          *.example.org      every host below it
//! ```

/// The longest name that DNS has.
const MAX_NAME: usize = 253;

/// A text that is no domain pattern.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{pattern}` is no domain: {why}; write a name like example.org, or *.example.org for all below it")]
pub struct DomainError {
    /// As given, cut to 80 characters.
    pub pattern: String,
    /// What is wrong with it.
    pub why: &'static str,
}

/// The pattern in lower case, or why it is none. Names outside of ASCII are given as `xn--…`.
pub fn check(pattern: &str) -> Result<String, DomainError> {
    let refused =
        |why| DomainError { pattern: pattern.chars().filter(|c| !c.is_control()).take(80).collect(), why };
    let name = pattern.strip_prefix("*.").unwrap_or(pattern);
    if name.contains("://") || name.contains('/') {
        return Err(refused("it has a scheme or a path"));
    }
    if name.contains(':') {
        return Err(refused("it has a port, or is an address"));
    }
    if name.contains('*') {
        return Err(refused("a `*` may only stand alone before the first dot"));
    }
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(refused("a name has 1 to 253 characters"));
    }
    if name.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(refused("it is an address"));
    }
    let labels: Vec<&str> = name.split('.').collect();
    if labels.len() < 2 {
        return Err(refused("it has one part only, which would be a whole top-level domain"));
    }
    if !labels.iter().all(|label| is_label(label)) {
        return Err(refused("its parts have 1 to 63 of a-z, 0-9 and `-`, not at their ends"));
    }
    if labels.last().is_some_and(|last| last.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(refused("its last part is a number"));
    }
    Ok(pattern.to_ascii_lowercase())
}

fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_everything_below_a_name_are_patterns() {
        for (pattern, seen) in [
            ("example.org", "example.org"),
            ("*.Example.ORG", "*.example.org"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
            ("a.b-c.d0", "a.b-c.d0"),
        ] {
            assert_eq!(check(pattern).as_deref(), Ok(seen));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for pattern in [
            "",
            "*",
            "*.",
            "*.org",
            "org",
            "*.*.example.org",
            "a.*.org",
            "ex*mple.org",
            "https://example.org",
            "example.org/x",
            "example.org:443",
            "10.0.0.1",
            "[::1]",
            "::1",
            "example..org",
            ".example.org",
            "example.org.",
            "-a.org",
            "a-.org",
            "bücher.example",
            "exam ple.org",
            "example.org\n",
            "a.1",
            "*.1.2.3.4",
        ] {
            assert!(check(pattern).is_err(), "{pattern:?}");
        }
        assert!(check(&format!("{}.org", "a".repeat(64))).is_err());
        assert!(check(&format!("{}org", "a.".repeat(130))).is_err());
    }
}
