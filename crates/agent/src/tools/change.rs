//! `Edit` and `Write`: changes to files.

use protocol::hands::HandsError;
use serde_json::json;

use super::bench::Workbench;
use super::call::{EditInput, WriteInput};
use super::files::{hash, load};
use crate::edit::{Found, find, line_of, nearest, with_line_ends_of};
use crate::outcome::Outcome;
use crate::patch;

/// Lines shown around a change.
const AROUND: usize = 3;

pub(super) async fn edit(input: EditInput, bench: &Workbench) -> Outcome {
    let path = bench.absolute(&input.file_path);
    if input.old_string == input.new_string {
        return Outcome::failed("old_string and new_string are equal, so there is nothing to change.");
    }
    let before = match load(bench, &path).await {
        Ok(bytes) => bytes,
        Err(HandsError::NotFound { .. }) if input.old_string.is_empty() => {
            return save(bench, &path, None, input.new_string.as_bytes(), None).await;
        }
        Err(error) => return Outcome::hands(&error),
    };
    if let Some(refusal) = changed_since_seen(bench, &path, &before) {
        return refusal;
    }
    if input.old_string.is_empty() {
        if before.is_empty() {
            return save(bench, &path, Some(&before), input.new_string.as_bytes(), None).await;
        }
        return Outcome::failed(format!(
            "{path} is not empty. Give in old_string the text to replace, or use Write for the whole file."
        ));
    }
    let (ranges, loosely) = match find(&before, &input.old_string) {
        Found::Once(range) => (vec![range], false),
        Found::Loosely(range) => (vec![range], true),
        Found::Several(ranges) if input.replace_all => (ranges, false),
        Found::Several(ranges) => {
            let lines: Vec<String> =
                ranges.iter().take(20).map(|range| line_of(&before, range.start).to_string()).collect();
            return Outcome::failed(format!(
                "old_string stands {} times in {path}, at lines {}. Nothing was changed. Add lines around it \
                 so that it is unique, or set replace_all.",
                ranges.len().max(2),
                lines.join(", ")
            ));
        }
        Found::Nowhere => return Outcome::failed(not_found(&path, &before, &input.old_string)),
    };
    let new = with_line_ends_of(&before, &input.new_string);
    let mut after = Vec::with_capacity(before.len() + new.len());
    let mut from = 0;
    for range in &ranges {
        after.extend_from_slice(&before[from..range.start]);
        after.extend_from_slice(new.as_bytes());
        from = range.end;
    }
    after.extend_from_slice(&before[from..]);
    let first = line_of(&before, ranges[0].start);
    let note = Note { first, lines: new.lines().count(), count: ranges.len(), loosely };
    save(bench, &path, Some(&before), &after, Some(note)).await
}

pub(super) async fn write(input: WriteInput, bench: &Workbench) -> Outcome {
    let path = bench.absolute(&input.file_path);
    let before = match load(bench, &path).await {
        Ok(bytes) => Some(bytes),
        Err(HandsError::NotFound { .. }) => None,
        // A file too large to look at is replaced all the same; its diff cannot be shown.
        Err(HandsError::Limit(_)) => Some(Vec::new()),
        Err(error) => return Outcome::hands(&error),
    };
    if let Some(refusal) = before.as_ref().and_then(|bytes| changed_since_seen(bench, &path, bytes)) {
        return refusal;
    }
    save(bench, &path, before.as_deref(), input.content.as_bytes(), None).await
}

/// What an edit did, for its result.
struct Note {
    first: usize,
    lines: usize,
    count: usize,
    loosely: bool,
}

async fn save(
    bench: &Workbench,
    path: &str,
    before: Option<&[u8]>,
    after: &[u8],
    note: Option<Note>,
) -> Outcome {
    if let Err(error) = bench.hands.write_file(path, after).await {
        return Outcome::hands(&error);
    }
    bench.saw(path, hash(after));
    let mut content = match before {
        None => format!("File created successfully at: {path}"),
        Some(_) => format!("The file {path} has been updated successfully."),
    };
    if let Some(note) = &note {
        if note.loosely {
            content.push_str(
                " The text matched apart from line ends, blanks at line ends, or typographic characters.",
            );
        }
        if note.count > 1 {
            content.push_str(&format!(" {} places were changed.", note.count));
        }
        content.push_str("\n\n");
        content.push_str(&snippet(after, note));
    }
    let mut detail = patch::detail(bench.shown(path), before, after);
    if note.as_ref().is_some_and(|note| note.loosely) {
        detail["loosely"] = json!(true);
    }
    Outcome::ok(content, detail)
}

/// The changed lines with some around them, as Read shows them.
fn snippet(after: &[u8], note: &Note) -> String {
    let text = String::from_utf8_lossy(after);
    let from = note.first.saturating_sub(AROUND + 1);
    let count = (note.lines + 2 * AROUND).min(60);
    text.lines()
        .enumerate()
        .skip(from)
        .take(count)
        .map(|(at, line)| format!("{}\t{}\n", at + 1, line.chars().take(300).collect::<String>()))
        .collect()
}

fn changed_since_seen(bench: &Workbench, path: &str, now: &[u8]) -> Option<Outcome> {
    let seen = bench.seen(path)?;
    (seen != hash(now)).then(|| {
        Outcome::failed(format!(
            "{path} has changed since you last read or wrote it, perhaps by a command or a formatter. Nothing \
             was written. Read it again first."
        ))
    })
}

fn not_found(path: &str, file: &[u8], text: &str) -> String {
    let mut message = format!("old_string was not found in {path}. Nothing was changed.");
    let file = String::from_utf8_lossy(file);
    if let Some(bare) = without_numbers(text)
        && file.contains(&bare)
    {
        message.push_str(" It begins its lines with the numbers that Read shows; leave them out.");
        return message;
    }
    match nearest(&file, text) {
        Some(lines) => {
            message.push_str(" The nearest lines of the file, with their numbers:\n\n");
            message.push_str(&lines);
        }
        None => message.push_str(" No line of the file is like it; read the file, and check the path."),
    }
    message
}

/// The text without `<number>\t` before each line, where every line has it.
fn without_numbers(text: &str) -> Option<String> {
    let lines = text.lines().map(|line| {
        let (number, rest) = line.split_once('\t')?;
        let number = number.trim();
        (!number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())).then_some(rest)
    });
    Some(lines.collect::<Option<Vec<_>>>()?.join("\n"))
}
