//! `Read`: a text file with line numbers.

use protocol::hands::HandsError;
use serde_json::json;

use super::bench::Workbench;
use super::call::ReadInput;
use super::files::{hash, load};
use crate::outcome::Outcome;

const DEFAULT_LINES: usize = 2_000;
const MAX_LINE: usize = 2_000;
const MAX_CHARACTERS: usize = 100_000;

pub(super) async fn run(input: ReadInput, bench: &Workbench) -> Outcome {
    let path = bench.absolute(&input.file_path);
    let bytes = match load(bench, &path).await {
        Ok(bytes) => bytes,
        Err(error @ HandsError::WrongKind { .. }) => {
            return Outcome::failed(format!("{error}. Use Glob, or Bash with ls, to look into a folder."));
        }
        Err(error) => return Outcome::hands(&error),
    };
    let detail = |lines: usize| json!({ "path": bench.shown(&path), "lines": lines });
    if let Some(kind) = binary_kind(&bytes) {
        return Outcome::failed(format!(
            "{path} is {kind} of {} bytes, not text, so it cannot be shown. Use Bash with file, xxd or a \
             program for this kind of file if you need to look into it.",
            bytes.len()
        ));
    }
    bench.saw(&path, hash(&bytes));
    if bytes.is_empty() {
        return Outcome::ok(format!("{path} exists but is empty."), detail(0));
    }
    let text = String::from_utf8_lossy(&bytes);
    let total = text.lines().count();
    let from = input.offset.unwrap_or(1).max(1);
    if from > total {
        return Outcome::failed(format!("{path} has {total} lines; line {from} is behind its end."));
    }
    let limit = input.limit.unwrap_or(DEFAULT_LINES).max(1);
    let mut content = String::new();
    let mut shown = 0;
    for (at, line) in text.lines().enumerate().skip(from - 1).take(limit) {
        let line = numbered(at + 1, line);
        if shown > 0 && content.len() + line.len() > MAX_CHARACTERS {
            break;
        }
        content.push_str(&line);
        shown += 1;
    }
    let last = from + shown - 1;
    if last < total {
        content
            .push_str(&format!("\n[lines {from} to {last} of {total}; use offset and limit for others]\n"));
    }
    if matches!(text, std::borrow::Cow::Owned(_)) {
        content.push_str("\n[the file is not valid UTF-8; bytes that are no text are shown as \u{fffd}]\n");
    }
    Outcome::ok(content, detail(shown))
}

fn numbered(number: usize, line: &str) -> String {
    match line.char_indices().nth(MAX_LINE) {
        Some((end, _)) => {
            let more = line[end..].chars().count();
            format!("{number}\t{}… [{more} more characters in this line]\n", &line[..end])
        }
        None => format!("{number}\t{line}\n"),
    }
}

/// What a file is that is no text.
fn binary_kind(bytes: &[u8]) -> Option<&'static str> {
    const KNOWN: &[(&[u8], &str)] = &[
        (b"\x89PNG", "a PNG image"),
        (b"\xff\xd8\xff", "a JPEG image"),
        (b"GIF8", "a GIF image"),
        (b"%PDF", "a PDF document"),
        (b"PK\x03\x04", "a zip archive"),
        (b"\x1f\x8b", "a gzip archive"),
        (b"\x7fELF", "an ELF program"),
    ];
    let start = &bytes[..bytes.len().min(8_192)];
    let known = KNOWN.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, kind)| *kind);
    known.or_else(|| start.contains(&0).then_some("a binary file"))
}
