//! Finds a text in a file: exactly, or through the few differences that are safe to ignore.

use std::ops::Range;

/// Where a text stands. Ranges are bytes of the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Found {
    /// Exactly once.
    Once(Range<usize>),
    /// Exactly, several times; the ranges do not overlap.
    Several(Vec<Range<usize>>),
    /// Once, but for line ends, blanks at line ends, or typographic quotes, dashes and spaces.
    Loosely(Range<usize>),
    /// Not at all, or only loosely and more than once.
    Nowhere,
}

/// Finds `text`, which must not be empty.
pub(crate) fn find(file: &[u8], text: &str) -> Found {
    let exact = occurrences(file, text.as_bytes());
    match exact.len() {
        0 => loosely(file, text).map_or(Found::Nowhere, Found::Loosely),
        // `aa` stands once in `aaa` by the non-overlapping count, yet at two places.
        1 if position(&file[exact[0].start + 1..], text.as_bytes()).is_none() => {
            Found::Once(exact[0].clone())
        }
        _ => Found::Several(exact),
    }
}

/// The line, from 1, that a byte is on.
pub(crate) fn line_of(file: &[u8], at: usize) -> usize {
    file[..at].iter().filter(|byte| **byte == b'\n').count() + 1
}

/// `text` with the line ends of the file: CR LF where the file has nothing else.
pub(crate) fn with_line_ends_of(file: &[u8], text: &str) -> String {
    let feeds = file.iter().filter(|byte| **byte == b'\n').count();
    let pairs = file.windows(2).filter(|pair| *pair == b"\r\n").count();
    if feeds > 0 && feeds == pairs {
        text.replace("\r\n", "\n").replace('\n', "\r\n")
    } else {
        text.to_owned()
    }
}

fn occurrences(file: &[u8], text: &[u8]) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut from = 0;
    while let Some(at) = position(&file[from..], text) {
        found.push(from + at..from + at + text.len());
        from += at + text.len();
    }
    found
}

fn position(file: &[u8], text: &[u8]) -> Option<usize> {
    match (std::str::from_utf8(file), std::str::from_utf8(text)) {
        // The search in strings is linear whatever they hold.
        (Ok(file), Ok(text)) => file.find(text),
        _ => file.windows(text.len()).position(|window| window == text),
    }
}

/// A text without the differences that are ignored, and for each of its bytes the bytes of the
/// original that it stands for.
struct Normal {
    text: String,
    starts: Vec<usize>,
    ends: Vec<usize>,
}

impl Normal {
    /// `is_whole` says that the text ends where a line ends.
    fn of(original: &str, is_whole: bool) -> Self {
        let mut normal = Self { text: String::new(), starts: Vec::new(), ends: Vec::new() };
        let mut from = 0;
        for line in original.split_inclusive('\n') {
            let (content, end) = match line.strip_suffix('\n') {
                Some(content) => (content.strip_suffix('\r').unwrap_or(content), true),
                None => (line, false),
            };
            let kept = if end || is_whole { content.trim_end_matches([' ', '\t']) } else { content };
            for (at, character) in kept.char_indices() {
                normal.push(plain(character), from + at, from + at + character.len_utf8());
            }
            if end {
                normal.push('\n', from + content.len(), from + line.len());
            }
            from += line.len();
        }
        normal
    }

    fn push(&mut self, character: char, start: usize, end: usize) {
        self.text.push(character);
        for _ in 0..character.len_utf8() {
            self.starts.push(start);
            self.ends.push(end);
        }
    }
}

fn plain(character: char) -> char {
    match character {
        '\u{2018}'..='\u{201b}' => '\'',
        '\u{201c}'..='\u{201f}' => '"',
        '\u{2010}'..='\u{2015}' | '\u{2212}' => '-',
        '\u{a0}' | '\u{2007}' | '\u{202f}' => ' ',
        other => other,
    }
}

fn loosely(file: &[u8], text: &str) -> Option<Range<usize>> {
    let file = Normal::of(std::str::from_utf8(file).ok()?, true);
    let text = Normal::of(text, false).text;
    if text.trim().is_empty() {
        return None;
    }
    let start = file.text.find(&text)?;
    let next = start + file.text[start..].chars().next().map_or(1, char::len_utf8);
    if file.text[next..].contains(&text) {
        return None;
    }
    Some(file.starts[start]..file.ends[start + text.len() - 1])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found<'a>(file: &'a str, text: &str) -> Option<&'a str> {
        match find(file.as_bytes(), text) {
            Found::Once(range) | Found::Loosely(range) => Some(&file[range]),
            Found::Several(_) | Found::Nowhere => None,
        }
    }

    #[test]
    fn safe_differences_are_bridged_and_the_files_own_bytes_are_given() {
        for (file, text, expected) in [
            ("a\r\nb\r\nc\r\n", "a\nb\n", Some("a\r\nb\r\n")),
            ("x = 1  \ny = 2\t\nz", "x = 1\ny = 2\nz", Some("x = 1  \ny = 2\t\nz")),
            ("print(“hi”) – done", "print(\"hi\") - done", Some("print(“hi”) – done")),
            ("print('hi')", "print(‘hi’)", Some("print('hi')")),
            ("a\u{a0}b", "a b", Some("a\u{a0}b")),
            ("foo  \n", "foo", Some("foo")),
            ("one\r\ntwo\r\n", "two", Some("two")),
            // Loosely at two places is nowhere.
            ("a \nb\na\t\nb", "a\nb", None),
            ("  indented", "indented!", None),
            ("if x:\n        y()", "if x:\n    y()", None),
            ("a\r\n\r\nb", " \n", None),
        ] {
            assert_eq!(found(file, text), expected, "{text:?} in {file:?}");
        }
    }

    #[test]
    fn overlapping_places_are_not_one_place() {
        assert!(
            matches!(find(b"aaa", "aa"), Found::Several(ranges) if ranges == [Range { start: 0, end: 2 }])
        );
        assert!(matches!(find(b"x\n\n\ny", "\n\n"), Found::Several(ranges) if ranges.len() == 1));
        assert_eq!(find(b"abab", "ab"), Found::Several(vec![0..2, 2..4]));
    }

    #[test]
    fn bytes_that_are_no_text_are_searched_too() {
        assert_eq!(find(b"\xff\xfe key=1 \x80", "key=1"), Found::Once(3..8));
        assert_eq!(find(b"\xff a \r\n b", "a\n b"), Found::Nowhere);
    }

    #[test]
    fn new_text_takes_the_files_line_ends_only_where_they_are_all_alike() {
        assert_eq!(with_line_ends_of(b"a\r\nb\r\n", "x\ny\r\nz"), "x\r\ny\r\nz");
        assert_eq!(with_line_ends_of(b"a\r\nb\n", "x\ny"), "x\ny");
        assert_eq!(with_line_ends_of(b"a", "x\ny"), "x\ny");
    }

    proptest! {
        /// What is found reads the same as what was looked for, and a place is never made up.
        #[test]
        fn a_found_place_says_what_was_asked(
            file in "[ab \\t\\r\\n'\u{2019}\u{201c}-]{0,60}",
            text in "[ab \\n'\"-]{1,6}",
        ) {
            let normal = |text: &str, whole| Normal::of(text, whole).text;
            match find(file.as_bytes(), &text) {
                Found::Once(range) => prop_assert_eq!(&file[range], &text),
                Found::Several(ranges) => {
                    for range in ranges {
                        prop_assert_eq!(&file[range], &text);
                    }
                }
                Found::Loosely(range) => {
                    prop_assert!(!file.contains(&text));
                    prop_assert_eq!(normal(&file[range], false), normal(&text, false));
                }
                Found::Nowhere => prop_assert!(!file.contains(&text)),
            }
        }
    }
}
