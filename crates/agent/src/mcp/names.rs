//! Names of servers and of what they have, as the model, rules and hooks know them.
//!
//! ```text
//!  server "my db", tool "run.query" ─▶ mcp__my_db__run_query
//! ```

/// The longest name that the model's API takes.
pub(super) const MAX_NAME: usize = 128;

/// What every name begins with.
pub(crate) const PREFIX: &str = "mcp__";

/// A part of a name.
pub(super) fn normal(text: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
    text.chars().map(|letter| if plain(letter) { letter } else { '_' }).collect()
}

/// The name of a tool or prompt; none where it would be too long.
pub(super) fn full(server: &str, item: &str) -> Option<String> {
    let name = format!("{PREFIX}{}__{}", normal(server), normal(item));
    (!item.is_empty() && name.len() <= MAX_NAME).then_some(name)
}

/// Text of a server in one line for people: without control characters, cut.
pub(super) fn plain(text: &str, most: usize) -> String {
    let line: Vec<&str> = text.split_whitespace().collect();
    let line: String = line.join(" ").chars().filter(|letter| !letter.is_control()).collect();
    if line.chars().count() <= most {
        return line;
    }
    line.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_only_what_the_model_and_rules_take() {
        for (server, tool, name) in [
            ("github", "get_issue", Some("mcp__github__get_issue")),
            ("my db.2", "run.query/now", Some("mcp__my_db_2__run_query_now")),
            ("a", "ü", Some("mcp__a___")),
            ("a", "", None),
        ] {
            assert_eq!(full(server, tool).as_deref(), name);
        }
        assert_eq!(full("a", &"x".repeat(200)), None);
        assert_eq!(plain("a\u{1b}[31m\nb\tc", 10), "a[31m b c");
        assert_eq!(plain("abcdef", 4), "abc…");
    }
}
