//! The fields at the head of a Markdown file.
//!
//! ```text
//!  ---
//!  description: Fixes an issue       a text; also 'quoted', "quoted", and | or > with indented lines
//!  allowed-tools: Read, Bash(git *)  a text that is a list to those who ask for one
//!  paths: [src/**, "docs/**"]        a list; also `- entry` lines
//!  ---
//!  the body
//! ```
//!
//! The plain part of YAML, read as leniently as such files are written: `argument-hint: [pr] [title]` and
//! `description: Use: carefully` are texts. Nested maps are passed over.

use std::collections::BTreeMap;

/// The most bytes of fields that are read.
const MAX_BYTES: usize = 64 * 1024;

/// The most fields.
const MAX_FIELDS: usize = 100;

/// The value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Value {
    Text(String),
    List(Vec<String>),
}

/// The fields of a file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Frontmatter {
    fields: BTreeMap<String, Value>,
}

impl Frontmatter {
    /// The fields and the body; a file without fields is all body.
    pub(crate) fn split(text: &str) -> (Self, &str) {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let Some(rest) = after_fence(text) else { return (Self::default(), text) };
        let mut at = 0;
        for line in rest.split_inclusive('\n') {
            if line.trim_end() == "---" {
                return (Self::parse(&rest[..at]), &rest[at + line.len()..]);
            }
            at += line.len();
            if at > MAX_BYTES {
                break;
            }
        }
        (Self::default(), text)
    }

    fn parse(head: &str) -> Self {
        let mut fields = BTreeMap::new();
        let mut lines = head.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((key, first)) = key_of(line) else { continue };
            let mut below = Vec::new();
            while let Some(next) = lines
                .next_if(|next| next.is_empty() || next.starts_with([' ', '\t']) || next.starts_with("- "))
            {
                below.push(next);
            }
            if fields.len() < MAX_FIELDS
                && let Some(value) = value_of(first.trim(), &below)
            {
                fields.entry(key.to_owned()).or_insert(value);
            }
        }
        Self { fields }
    }

    /// A field as one text, where it has one.
    pub(crate) fn text(&self, key: &str) -> Option<String> {
        match self.fields.get(key)? {
            Value::Text(text) => Some(text.clone()).filter(|text| !text.trim().is_empty()),
            Value::List(items) => Some(items.join(", ")),
        }
    }

    /// A field as a list; a text is one of words with commas or spaces between them, but for those inside
    /// parentheses.
    pub(crate) fn list(&self, key: &str) -> Option<Vec<String>> {
        Some(match self.fields.get(key)? {
            Value::Text(text) => words(text),
            Value::List(items) => items.clone(),
        })
    }

    /// A field as yes or no.
    pub(crate) fn flag(&self, key: &str) -> Option<bool> {
        match self.text(key)?.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" => Some(true),
            "false" | "no" | "off" => Some(false),
            _ => None,
        }
    }
}

fn after_fence(text: &str) -> Option<&str> {
    let (first, rest) = text.split_once('\n')?;
    (first.trim_end() == "---").then_some(rest)
}

fn key_of(line: &str) -> Option<(&str, &str)> {
    let (key, rest) = line.split_once(':')?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let is_key = !key.is_empty() && key.bytes().all(plain);
    (is_key && (rest.is_empty() || rest.starts_with([' ', '\t']))).then_some((key, rest))
}

fn value_of(first: &str, below: &[&str]) -> Option<Value> {
    if let Some(style) = first.strip_prefix(['|', '>'])
        && style.chars().all(|character| matches!(character, '+' | '-' | '0'..='9'))
    {
        let indent = below.iter().filter(|line| !line.trim().is_empty()).map(|line| indent_of(line)).min();
        let lines = below.iter().map(|line| line.get(indent.unwrap_or(0)..).unwrap_or_default());
        let text = lines.collect::<Vec<_>>().join(if first.starts_with('|') { "\n" } else { " " });
        return Some(Value::Text(text.trim_end().to_owned()));
    }
    if first.is_empty() || first.starts_with('#') {
        let items = below.iter().filter_map(|line| line.trim_start().strip_prefix("- "));
        let items: Vec<String> = items.map(|item| scalar(item.trim())).collect();
        return (!items.is_empty()).then_some(Value::List(items));
    }
    if let Some(items) = inline_list(first) {
        return Some(Value::List(items));
    }
    let mut text = scalar(first);
    for line in below.iter().map(|line| line.trim()).filter(|line| !line.is_empty()) {
        text.push(' ');
        text.push_str(line);
    }
    Some(Value::Text(text))
}

fn indent_of(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// `[a, "b, c"]`, and nothing behind it.
fn inline_list(text: &str) -> Option<Vec<String>> {
    let inside = text.strip_prefix('[')?.strip_suffix(']')?;
    if inside.contains(['[', ']']) && !inside.contains(['"', '\'']) {
        return None;
    }
    let (mut items, mut item, mut quote, mut depth) = (Vec::new(), String::new(), None, 0_u32);
    for character in inside.chars() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '{' | '(') => depth += 1,
            (None, '}' | ')') => depth = depth.saturating_sub(1),
            (None, ',') if depth == 0 => {
                items.push(scalar(item.trim()));
                item.clear();
                continue;
            }
            _ => {}
        }
        item.push(character);
    }
    items.push(scalar(item.trim()));
    items.retain(|item| !item.is_empty());
    Some(items)
}

/// A value on one line, without its quotes or the comment behind it.
fn scalar(text: &str) -> String {
    if let Some(inside) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) {
        return inside.replace("\\\"", "\"").replace("\\n", "\n").replace("\\\\", "\\");
    }
    if let Some(inside) = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) {
        return inside.replace("''", "'");
    }
    text.split_once(" #").map_or(text, |(value, _)| value).trim_end().to_owned()
}

fn words(text: &str) -> Vec<String> {
    let (mut items, mut item, mut depth) = (Vec::new(), String::new(), 0_u32);
    for character in text.chars() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            character if depth == 0 && (character == ',' || character.is_whitespace()) => {
                items.push(std::mem::take(&mut item));
                continue;
            }
            _ => {}
        }
        item.push(character);
    }
    items.push(item);
    items.retain(|item| !item.is_empty());
    items
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_are_read_as_such_files_are_written() {
        let text = "---\nname: fix-issue\ndescription: Use: carefully # not this\nargument-hint: [pr] [title]\n\
                    quoted: 'it''s'\ndouble: \"a \\\"b\\\"\"\nallowed-tools: Read, Bash(git add *) Edit\n\
                    paths:\n  - \"src/**/*.{ts,tsx}\"\n  - docs/**\ninline: [a, \"b, c\", src/{x,y}]\n\
                    folded: >-\n  one\n  two\nliteral: |\n  one\n    two\nlong: one\n  two\n\
                    nested:\n  deep: 1\nempty:\nflag: true\nname: again\n---\nBody\n---\n";
        let (head, body) = Frontmatter::split(text);
        assert_eq!(body, "Body\n---\n");
        for (key, value) in [
            ("name", "fix-issue"),
            ("description", "Use: carefully"),
            ("argument-hint", "[pr] [title]"),
            ("quoted", "it's"),
            ("double", "a \"b\""),
            ("folded", "one two"),
            ("literal", "one\n  two"),
            ("long", "one two"),
        ] {
            assert_eq!(head.text(key).as_deref(), Some(value), "{key}");
        }
        assert_eq!(head.list("allowed-tools").unwrap(), ["Read", "Bash(git add *)", "Edit"]);
        assert_eq!(head.list("paths").unwrap(), ["src/**/*.{ts,tsx}", "docs/**"]);
        assert_eq!(head.list("inline").unwrap(), ["a", "b, c", "src/{x,y}"]);
        assert_eq!(
            (head.flag("flag"), head.flag("name"), head.text("nested"), head.text("empty")),
            (Some(true), None, None, None)
        );
    }

    #[test]
    fn a_file_without_fields_is_all_body() {
        for text in ["", "Body", "--- \nno end\n", "----\na: b\n---\n", "a: b\n---\n"] {
            let (head, body) = Frontmatter::split(text);
            assert_eq!((head, body), (Frontmatter::default(), text), "{text}");
        }
        assert_eq!(
            Frontmatter::split("\u{feff}---\r\na: b\r\n---\r\nBody").0.text("a").as_deref(),
            Some("b")
        );
    }

    proptest! {
        #[test]
        fn whatever_a_file_holds_is_read(text in "(---\n)?[-a-z:\\[\\]|>'\"# \n\u{e4}(),]{0,200}") {
            let (head, body) = Frontmatter::split(&text);
            prop_assert!(text.ends_with(body));
            for key in head.fields.keys() {
                let _ = (head.text(key), head.list(key), head.flag(key));
            }
        }
    }
}
