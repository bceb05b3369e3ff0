//! A command's body with the person's words in it.
//!
//! ```text
//!  body ─▶ commands taken out: !`cmd` at the begin of a line or after a blank, and ```! blocks ─▶ pieces
//!                 each piece: $ARGUMENTS · $ARGUMENTS[0] · $0 · $name · ${CLAUDE_…} filled in; \$ is a dollar
//! ```
//!
//! Commands and files are found before words are filled in: what a person or a model gives as a word is never
//! run, other than inside of a command that the repository wrote.

use super::command::Command;

/// Commands that one body has at the most, and files.
const MAX_PIECES: usize = 20;

/// A part of the body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Text as it is.
    Text(String),
    /// What a shell is to say in its place.
    Command(String),
    /// A file that is named, `@path`; it stays in the text, and its content comes behind.
    File(String),
}

/// What stands for `${CLAUDE_…}`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places<'a> {
    pub(crate) workspace: &'a str,
    pub(crate) session: &'a str,
}

impl Command {
    /// The body in pieces, filled in.
    pub(crate) fn fill(&self, words: &str, places: Places<'_>) -> Vec<Piece> {
        let filler = Filler { command: self, words, split: split(words), places };
        let mut used = false;
        let mut pieces: Vec<Piece> = cut(&self.body)
            .into_iter()
            .map(|piece| match piece {
                Piece::Text(text) => Piece::Text(filler.fill(&text, &mut used)),
                Piece::Command(text) => Piece::Command(filler.fill(&text, &mut used)),
                Piece::File(path) => Piece::File(path),
            })
            .collect();
        if !used && !words.is_empty() {
            pieces.push(Piece::Text(format!("\n\nARGUMENTS: {words}")));
        }
        pieces
    }
}

/// Commands and files, and the texts around them.
fn cut(body: &str) -> Vec<Piece> {
    let (mut pieces, mut text, mut rest) = (Vec::new(), String::new(), body);
    let mut fence = false;
    while let Some(character) = rest.chars().next() {
        let begins = text.chars().next_back().is_none_or(char::is_whitespace);
        let at_line = text.is_empty() || text.ends_with('\n');
        let found = if pieces.len() >= 2 * MAX_PIECES || !begins {
            None
        } else if !fence && at_line && rest.starts_with("```!") {
            block(rest)
        } else if fence {
            None
        } else if let Some(inside) = rest.strip_prefix("!`") {
            command(inside)
        } else if character == '@' {
            file(rest)
        } else {
            None
        };
        if let Some((piece, length)) = found {
            let keeps = matches!(piece, Piece::File(_));
            if keeps {
                text.push_str(&rest[..length]);
            } else {
                pieces.push(Piece::Text(std::mem::take(&mut text)));
            }
            pieces.push(piece);
            rest = &rest[length..];
            continue;
        }
        if at_line && (rest.starts_with("```") || rest.starts_with("~~~")) {
            fence = !fence;
        }
        text.push(character);
        rest = &rest[character.len_utf8()..];
    }
    pieces.push(Piece::Text(text));
    in_order(pieces)
}

/// Files stand behind the text that names them: texts join over them.
fn in_order(pieces: Vec<Piece>) -> Vec<Piece> {
    let (files, mut rest): (Vec<Piece>, Vec<Piece>) =
        pieces.into_iter().partition(|piece| matches!(piece, Piece::File(_)));
    rest.retain(|piece| *piece != Piece::Text(String::new()));
    rest.extend(files);
    rest
}

/// What stands before the backtick that closes it, on the same line.
fn command(inside: &str) -> Option<(Piece, usize)> {
    let (command, _) = inside.split_once('`')?;
    let plain = !command.trim().is_empty() && !command.contains('\n');
    plain.then(|| (Piece::Command(command.to_owned()), command.len() + "!``".len()))
}

fn block(rest: &str) -> Option<(Piece, usize)> {
    let start = rest.find('\n')? + 1;
    let end = rest[start..].find("\n```")?;
    let command = rest[start..start + end].trim().to_owned();
    let length = start + end + "\n```".len();
    (!command.is_empty()).then_some((Piece::Command(command), length))
}

fn file(rest: &str) -> Option<(Piece, usize)> {
    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
    let path = rest[1..end].trim_end_matches(['.', ',', ';', ':', ')', ']']);
    let plain = !path.is_empty() && !path.contains(['`', '$', '\\', '@']);
    plain.then(|| (Piece::File(path.to_owned()), 1 + path.len()))
}

struct Filler<'a> {
    command: &'a Command,
    words: &'a str,
    split: Vec<String>,
    places: Places<'a>,
}

impl Filler<'_> {
    fn fill(&self, text: &str, used: &mut bool) -> String {
        let (mut out, mut rest) = (String::with_capacity(text.len()), text);
        while let Some(at) = rest.find('$') {
            if at > 0 && rest.as_bytes()[at - 1] == b'\\' {
                out.push_str(&rest[..at - 1]);
                out.push('$');
                rest = &rest[at + 1..];
                continue;
            }
            out.push_str(&rest[..at]);
            rest = &rest[at..];
            match self.one(&rest[1..]) {
                Some((value, length, is_word)) => {
                    out.push_str(&value);
                    *used |= is_word;
                    rest = &rest[1 + length..];
                }
                None => {
                    out.push('$');
                    rest = &rest[1..];
                }
            }
        }
        out.push_str(rest);
        out
    }

    /// What stands for the name behind a dollar, how long that is, and whether it is a word of the person's.
    fn one(&self, rest: &str) -> Option<(String, usize, bool)> {
        if let Some(inside) = rest.strip_prefix('{') {
            let name = &inside[..inside.find('}')?];
            let value = match name {
                "CLAUDE_PROJECT_DIR" => self.places.workspace.to_owned(),
                "CLAUDE_SESSION_ID" => self.places.session.to_owned(),
                "CLAUDE_SKILL_DIR" => self.command.place(self.places.workspace)?,
                _ => return None,
            };
            return Some((value, name.len() + 2, false));
        }
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let name = &rest[..end];
        if name == "ARGUMENTS" {
            if let Some(inside) = rest[end..].strip_prefix('[')
                && let Some(close) = inside.find(']')
                && let Ok(number) = inside[..close].parse::<usize>()
            {
                return Some((self.split.get(number)?.clone(), end + close + 2, true));
            }
            return Some((self.words.to_owned(), end, true));
        }
        let by_name = self.command.arguments.iter().position(|argument| argument == name);
        let number = by_name.or_else(|| name.parse().ok())?;
        Some((self.split.get(number)?.clone(), end, true))
    }
}

/// Words as a shell takes them apart: blanks between, quotes around.
fn split(words: &str) -> Vec<String> {
    let (mut all, mut word, mut quote, mut begun) = (Vec::new(), String::new(), None, false);
    let mut characters = words.chars();
    while let Some(character) = characters.next() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => (quote, begun) = (Some(character), true),
            (None | Some('"'), '\\') => {
                word.extend(characters.next());
                begun = true;
            }
            (None, blank) if blank.is_whitespace() => {
                if std::mem::take(&mut begun) {
                    all.push(std::mem::take(&mut word));
                }
            }
            _ => {
                word.push(character);
                begun = true;
            }
        }
    }
    if begun {
        all.push(word);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::command::Kind;
    use super::*;

    fn fill(body: &str, words: &str) -> Vec<Piece> {
        let text = format!("---\narguments: [issue, branch]\n---\n{body}");
        let command = Command::read("x".into(), Kind::Skill(".claude/skills/x".into()), &text);
        command.fill(words, Places { workspace: "/w", session: "ses_1" })
    }

    fn text(body: &str, words: &str) -> String {
        match fill(body, words).as_slice() {
            [] => String::new(),
            [Piece::Text(text)] => text.clone(),
            [Piece::Text(text), Piece::Text(more)] => format!("{text}{more}"),
            other => panic!("{other:?}"),
        }
    }

    /// Section 7.1, "Substitutions": numbers from 0, unset stays literal, what is not used comes behind.
    #[test]
    fn words_are_filled_in() {
        for (body, words, filled) in [
            ("Fix $ARGUMENTS now", "12 fast", "Fix 12 fast now"),
            ("Fix $ARGUMENTS now", "", "Fix  now"),
            ("$0 and $1", "'a b' c", "a b and c"),
            ("$0 and $2", "a", "a and $2"),
            ("$ARGUMENTS[1] $ARGUMENTS[9]", "a b", "b $ARGUMENTS[9]"),
            ("$issue on $branch, $other", "7 main", "7 on main, $other"),
            ("\\$0 costs $0", "5", "$0 costs 5"),
            (
                "${CLAUDE_SKILL_DIR} ${CLAUDE_PROJECT_DIR} ${CLAUDE_SESSION_ID} ${HOME}",
                "",
                "/w/.claude/skills/x /w ses_1 ${HOME}",
            ),
            ("No place", "a b", "No place\n\nARGUMENTS: a b"),
            ("$0", "$1 b", "$1"),
            ("100$ and $", "", "100$ and $"),
            ("", "", ""),
        ] {
            assert_eq!(text(body, words), filled, "{body} with {words}");
        }
    }

    #[test]
    fn commands_and_files_are_those_of_the_body() {
        let command = |text: &str| Piece::Command(text.into());
        let is_text = |text: &str| Piece::Text(text.into());
        assert_eq!(
            fill("Status: !`git status $0`\n```!\nls -l\npwd\n```\nSee @docs/a.md.", "src"),
            [
                is_text("Status: "),
                command("git status src"),
                is_text("\n"),
                command("ls -l\npwd"),
                is_text("\nSee @docs/a.md."),
                Piece::File("docs/a.md".into())
            ]
        );
        // A word brings no command and no file, and code is no command.
        assert_eq!(fill("Do $ARGUMENTS", "!`rm x` @/etc/passwd"), [is_text("Do !`rm x` @/etc/passwd")]);
        for body in ["```\n!`rm x` @a.md\n```", "x!`rm x`", "!`rm\nx`", "me@example.org", "!`never ends"] {
            assert_eq!(fill(body, ""), [is_text(body)], "{body}");
        }
    }
}
