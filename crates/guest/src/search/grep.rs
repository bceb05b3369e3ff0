//! Lines by pattern, as ripgrep finds them.

use std::cmp::Reverse;
use std::io;
use std::path::Path;
use std::time::SystemTime;

use grep_matcher::Matcher;
use grep_regex::{RegexMatcher, RegexMatcherBuilder};
use grep_searcher::{BinaryDetection, Searcher, SearcherBuilder, Sink, SinkContext, SinkFinish, SinkMatch};
use serde::{Deserialize, Serialize};

use super::lines::Lines;
use super::{SearchError, walk};

/// Lines that are given where the request does not say how many.
const DEFAULT_LIMIT: usize = 250;

/// Memory for one line, or for one file when matches may span lines; files that need more are passed
/// over.
const HEAP: usize = 64 * 1024 * 1024;

/// What to look for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    pattern: String,
    #[serde(default)]
    path: Option<String>,
    #[serde(default)]
    glob: Option<String>,
    #[serde(default, rename = "type")]
    file_type: Option<String>,
    #[serde(default)]
    output_mode: Mode,
    #[serde(default)]
    before: Option<usize>,
    #[serde(default)]
    after: Option<usize>,
    #[serde(default)]
    context: Option<usize>,
    #[serde(default = "yes")]
    line_numbers: bool,
    #[serde(default)]
    ignore_case: bool,
    #[serde(default)]
    only_matching: bool,
    #[serde(default)]
    multiline: bool,
    #[serde(default)]
    head_limit: Option<usize>,
    #[serde(default)]
    offset: usize,
    #[serde(default)]
    exclude: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What is given of a match.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Mode {
    #[default]
    FilesWithMatches,
    Content,
    Count,
}

/// What was found.
#[derive(Debug, Serialize)]
struct Found {
    text: String,
    files: usize,
    matches: u64,
    truncated: bool,
}

/// Answers a request with `{"text", "files", "matches", "truncated"}`.
///
/// Fields: `pattern`, `path`, `glob`, `type`, `output_mode` (`files_with_matches`, `content`,
/// `count`), `before`, `after`, `context`, `line_numbers`, `ignore_case`, `only_matching`,
/// `multiline`, `head_limit` (250; 0 is no limit), `offset`, `exclude` (globs over absolute paths).
pub fn run(request: &str) -> Result<String, SearchError> {
    let request: Request = serde_json::from_str(request).map_err(SearchError::Request)?;
    let path = request.path.clone().unwrap_or_else(|| ".".to_owned());
    let one_file = walk::place(&path)?.is_file();
    let globs = request.glob.as_deref().map(split_globs).unwrap_or_default();
    let limits = walk::Limits {
        globs: &globs,
        file_type: request.file_type.as_deref(),
        exclude: &request.exclude,
        respect_ignores: true,
    };
    let mut search = Search {
        matcher: matcher(&request)?,
        lines: Lines::new(request.offset, request.head_limit.unwrap_or(DEFAULT_LIMIT)),
        with_names: !one_file,
        files: 0,
        matches: 0,
        request: &request,
    };
    let mut searcher = searcher(&request, one_file);
    let mut matching = Vec::new();
    for entry in walk::files(Path::new(&path), &limits)? {
        let before = search.matches;
        let goes_on = search.file(&mut searcher, entry.path());
        if search.matches > before {
            search.files += 1;
            if request.output_mode == Mode::FilesWithMatches {
                let changed = entry.metadata().ok().and_then(|metadata| metadata.modified().ok());
                matching.push((Reverse(changed.unwrap_or(SystemTime::UNIX_EPOCH)), entry.into_path()));
            }
        }
        if !goes_on {
            break;
        }
    }
    matching.sort();
    for (_, path) in matching {
        search.lines.push("", path.to_string_lossy().as_bytes());
    }
    let (text, truncated) = search.lines.finish();
    let found = Found { text, files: search.files, matches: search.matches, truncated };
    serde_json::to_string(&found).map_err(SearchError::Request)
}

/// Several patterns in one text, parted by spaces, or by commas outside of braces.
fn split_globs(text: &str) -> Vec<&str> {
    let mut depth = 0_usize;
    let is_border = move |letter: char| {
        match letter {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        letter.is_whitespace() || (letter == ',' && depth == 0)
    };
    text.split(is_border).filter(|pattern| !pattern.is_empty()).collect()
}

fn matcher(request: &Request) -> Result<RegexMatcher, SearchError> {
    let mut builder = RegexMatcherBuilder::new();
    builder.multi_line(true).case_insensitive(request.ignore_case);
    if request.multiline {
        builder.dot_matches_new_line(true);
    } else {
        builder.line_terminator(Some(b'\n'));
    }
    builder.build(&request.pattern).map_err(SearchError::Pattern)
}

fn searcher(request: &Request, one_file: bool) -> Searcher {
    let around = request.context.unwrap_or(0);
    let (before, after) = if request.output_mode == Mode::Content && !request.only_matching {
        (request.before.unwrap_or(around), request.after.unwrap_or(around))
    } else {
        (0, 0)
    };
    // A file that was named is searched whatever it is.
    let binary = if one_file { BinaryDetection::convert(0) } else { BinaryDetection::quit(0) };
    SearcherBuilder::new()
        .binary_detection(binary)
        .line_number(true)
        .multi_line(request.multiline)
        .before_context(before)
        .after_context(after)
        .heap_limit(Some(HEAP))
        .build()
}

/// One search over many files.
struct Search<'a> {
    request: &'a Request,
    matcher: RegexMatcher,
    lines: Lines,
    with_names: bool,
    files: usize,
    matches: u64,
}

impl Search<'_> {
    /// Searches a file; false once nothing more fits into the answer. A file that cannot be read is
    /// passed over, as ripgrep does, and one that turns out to be binary too.
    fn file(&mut self, searcher: &mut Searcher, path: &Path) -> bool {
        let name = if self.with_names { path.to_string_lossy().into_owned() } else { String::new() };
        let matcher = self.matcher.clone();
        let (matches, mark) = (self.matches, self.lines.mark());
        let mut sink = FileSink { search: self, name: &name, binary: false, full: false };
        let outcome = searcher.search_path(&matcher, path, &mut sink);
        let (binary, full) = (sink.binary, sink.full);
        if outcome.is_err() || (binary && self.with_names) {
            self.matches = matches;
            self.lines.take_back(&mark);
            return true;
        }
        let found = self.matches - matches;
        if self.request.output_mode == Mode::Count && found > 0 {
            let prefix = if self.with_names { format!("{name}:") } else { String::new() };
            return self.lines.push(&prefix, found.to_string().as_bytes());
        }
        !full
    }
}

/// What the searcher tells of one file.
struct FileSink<'a, 'b> {
    search: &'a mut Search<'b>,
    name: &'a str,
    binary: bool,
    full: bool,
}

impl FileSink<'_, '_> {
    /// `name:12:`, with `-` for context lines, and without what was not asked for.
    fn prefix(&self, line: Option<u64>, mark: char) -> String {
        let mut prefix = String::new();
        if self.search.with_names {
            prefix.push_str(self.name);
            prefix.push(mark);
        }
        if let Some(line) = line.filter(|_| self.search.request.line_numbers) {
            prefix.push_str(&line.to_string());
            prefix.push(mark);
        }
        prefix
    }

    fn push(&mut self, line: Option<u64>, mark: char, bytes: &[u8]) -> bool {
        let prefix = self.prefix(line, mark);
        let fits = self.search.lines.push(&prefix, bytes);
        self.full |= !fits;
        fits
    }

    fn only_matches(&mut self, first: Option<u64>, bytes: &[u8]) -> bool {
        let mut spans = Vec::new();
        // The error type of this matcher has no values.
        let _ = self.search.matcher.clone().find_iter(bytes, |span| {
            spans.push(span);
            true
        });
        spans.into_iter().all(|span| {
            let above = bytes[..span.start()].iter().filter(|byte| **byte == b'\n').count() as u64;
            self.push(first.map(|first| first + above), ':', &bytes[span])
        })
    }
}

impl Sink for FileSink<'_, '_> {
    type Error = io::Error;

    fn matched(&mut self, _: &Searcher, found: &SinkMatch<'_>) -> io::Result<bool> {
        self.search.matches += 1;
        match self.search.request.output_mode {
            Mode::FilesWithMatches => Ok(false),
            Mode::Count => Ok(true),
            Mode::Content if self.search.request.only_matching => {
                Ok(self.only_matches(found.line_number(), found.bytes()))
            }
            Mode::Content => {
                let first = found.line_number();
                Ok((0..)
                    .zip(found.lines())
                    .all(|(number, line)| self.push(first.map(|first| first + number), ':', line)))
            }
        }
    }

    fn context(&mut self, _: &Searcher, context: &SinkContext<'_>) -> io::Result<bool> {
        Ok(self.push(context.line_number(), '-', context.bytes()))
    }

    fn context_break(&mut self, _: &Searcher) -> io::Result<bool> {
        let fits = self.search.lines.push("--", b"");
        self.full |= !fits;
        Ok(fits)
    }

    fn binary_data(&mut self, _: &Searcher, _: u64) -> io::Result<bool> {
        self.binary = true;
        Ok(true)
    }

    fn finish(&mut self, _: &Searcher, _: &SinkFinish) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_part_at_spaces_and_at_commas_outside_of_braces() {
        assert_eq!(split_globs("*.{ts,tsx}, *.js  *.mjs"), ["*.{ts,tsx}", "*.js", "*.mjs"]);
    }
}
