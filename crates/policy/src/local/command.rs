//! Commands by pattern, as `Bash(…)` rules write them.

/// `docker *`, `npm run test:*`, `make`: a `*` stands for anything, spaces too; at the end, after a
/// space or a colon, it stands for any further words or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandPattern {
    parts: Vec<String>,
    further_words: bool,
}

impl CommandPattern {
    /// Any text is a pattern; one without `*` means exactly itself.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let text = text.trim();
        let stem = text.strip_suffix(" *").or_else(|| text.strip_suffix(":*"));
        let parts = stem.unwrap_or(text).split('*').map(str::to_owned).collect();
        Self { parts, further_words: stem.is_some() }
    }

    /// Whether the command, its words joined by single spaces, is meant.
    #[must_use]
    pub fn matches(&self, command: &str) -> bool {
        if !self.further_words {
            return matches_parts(&self.parts, command);
        }
        // The stem may end at any end of a word.
        let ends = command.match_indices(' ').map(|(index, _)| index).chain([command.len()]);
        ends.into_iter().any(|end| matches_parts(&self.parts, &command[..end]))
    }
}

fn matches_parts(parts: &[String], text: &str) -> bool {
    let [first, middle @ .., last] = parts else {
        return parts.first().is_some_and(|only| only == text);
    };
    let Some(mut rest) = text.strip_prefix(first.as_str()) else { return false };
    for part in middle {
        let Some((_, after)) = rest.split_once(part.as_str()) else { return false };
        rest = after;
    }
    rest.ends_with(last.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_at_the_end_is_any_words_and_within_is_anything() {
        let cases = [
            ("docker *", "docker ps -a", true),
            ("docker *", "docker", true),
            ("docker *", "dockerd", false),
            ("docker:*", "docker ps", true),
            ("npm run test:*", "npm run test", true),
            ("npm run test:*", "npm run tests", false),
            ("ls*", "lsof", true),
            ("git * main", "git push origin main", true),
            ("git * main", "git push origin other", false),
            ("make", "make", true),
            ("make", "make all", false),
            ("*", "anything at all", true),
        ];
        for (pattern, command, expected) in cases {
            assert_eq!(CommandPattern::parse(pattern).matches(command), expected, "{pattern} on {command}");
        }
    }
}
