//! A prompt's first word.

/// The longest name of a command.
const MAX_NAME: usize = 128;

/// Name and words of a command, where a prompt is one. A path, such as `/etc/hosts is wrong`, is none.
pub(crate) fn parse(prompt: &str) -> Option<(&str, &str)> {
    let rest = prompt.trim().strip_prefix('/')?;
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let (name, words) = rest.split_at(end);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-:.".contains(&byte);
    let is_name = (1..=MAX_NAME).contains(&name.len()) && name.bytes().all(plain);
    is_name.then(|| (name, words.trim()))
}

/// The command that sums the conversation up.
pub(crate) const COMPACT: &str = "compact";

/// Whether a prompt is the command of this name.
pub(crate) fn is_command(prompt: &str, name: &str) -> bool {
    parse(prompt).is_some_and(|(other, _)| other == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_the_first_word_and_no_path() {
        for (prompt, command) in [
            ("/compact", Some(("compact", ""))),
            (" /compact  the tests \n", Some(("compact", "the tests"))),
            ("/compaction", Some(("compaction", ""))),
            ("/ns:hey a\nb", Some(("ns:hey", "a\nb"))),
            ("please /compact", None),
            ("/etc/hosts is wrong", None),
            ("/", None),
            ("/ compact", None),
            ("/ünder", None),
        ] {
            assert_eq!(parse(prompt), command, "{prompt}");
        }
        assert_eq!(parse(&format!("/{}", "x".repeat(200))), None);
    }
}
