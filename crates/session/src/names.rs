//! Titles and branch names, made from the prompt.

use protocol::ids::SessionId;

/// A title: the prompt's first line that says something, at most 80 characters.
pub(crate) fn title(prompt: &str) -> String {
    let line = prompt.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("Untitled");
    let clean: String = line.chars().filter(|c| !c.is_control() && !is_direction(*c)).collect();
    if clean.chars().count() <= 80 {
        return clean;
    }
    let cut: String = clean.chars().take(79).collect();
    format!("{}…", cut.trim_end())
}

/// The branch of a session: `patchyard/<slug>-<last eight of the id>`.
pub(crate) fn branch(title: &str, session: SessionId) -> String {
    let words: Vec<String> = title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let mut slug = String::new();
    for word in words {
        if !slug.is_empty() && slug.len() + 1 + word.len() > 40 {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.extend(word.chars().take(40));
    }
    if slug.is_empty() {
        slug.push_str("task");
    }
    format!("patchyard/{slug}-{}", session.short())
}

/// Characters that turn the direction of text around and could disguise a title.
fn is_direction(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_plain_line() {
        assert_eq!(title("\n  Fix the clock\nplease"), "Fix the clock");
        assert_eq!(title("\u{202e}evil\u{7}"), "evil");
        assert_eq!(title(" \n "), "Untitled");
        assert_eq!(title(&"ä".repeat(200)).chars().count(), 80);
    }

    #[test]
    fn a_branch_is_a_valid_ref_and_ends_with_the_session() {
        let session = SessionId::from_parts(1_790_000_000_000, 12345);
        for (text, slug) in [
            ("Fix the flaky auth test!", "fix-the-flaky-auth-test"),
            ("日本語", "task"),
            ("..//--@{x}", "x"),
            (&"word ".repeat(40), "word-word-word-word-word-word-word-word"),
        ] {
            assert_eq!(branch(text, session), format!("patchyard/{slug}-{}", session.short()));
        }
        assert!(branch(&"x".repeat(300), session).len() < 70);
    }
}
