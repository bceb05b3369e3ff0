//! What a simple command comes down to: the programs behind wrappers, and the files that they name.
//!
//! ```text
//!  sudo -u x timeout 5 /bin/rm -rf a   ─▶  the words from `sudo` on, from `timeout` on, from `rm` on
//!  bash -c 'rm a; ls'                  ─▶  and the commands of its text
//! ```

use super::shell::{Script, Simple};
use super::word::Word;

/// A program that runs another one: its options that take a value, and how many words of its own follow.
struct Wrapper {
    name: &'static str,
    with_value: &'static [&'static str],
    own: usize,
}

const WRAPPERS: &[Wrapper] = &[
    Wrapper { name: "timeout", with_value: &["-s", "--signal", "-k", "--kill-after"], own: 1 },
    Wrapper { name: "time", with_value: &["-f", "--format", "-o", "--output"], own: 0 },
    Wrapper { name: "nice", with_value: &["-n", "--adjustment"], own: 0 },
    Wrapper { name: "nohup", with_value: &[], own: 0 },
    Wrapper { name: "stdbuf", with_value: &["-i", "-o", "-e", "--input", "--output", "--error"], own: 0 },
    Wrapper { name: "command", with_value: &[], own: 0 },
    Wrapper { name: "builtin", with_value: &[], own: 0 },
    Wrapper { name: "exec", with_value: &["-a"], own: 0 },
    Wrapper { name: "env", with_value: &["-u", "--unset", "-C", "--chdir"], own: 0 },
    Wrapper {
        name: "sudo",
        with_value: &[
            "-u", "-g", "-h", "-p", "-C", "-T", "-D", "-R", "-r", "-t", "--user", "--group", "--chdir",
        ],
        own: 0,
    },
    Wrapper { name: "doas", with_value: &["-u", "-C"], own: 0 },
    Wrapper { name: "setsid", with_value: &[], own: 0 },
    Wrapper { name: "ionice", with_value: &["-c", "-n", "-p"], own: 0 },
    Wrapper { name: "chroot", with_value: &[], own: 1 },
    Wrapper { name: "strace", with_value: &["-e", "-o", "-p", "-s"], own: 0 },
    Wrapper { name: "busybox", with_value: &[], own: 0 },
    Wrapper {
        name: "xargs",
        with_value: &[
            "-n",
            "-P",
            "-I",
            "-L",
            "-d",
            "-s",
            "-E",
            "-a",
            "--max-args",
            "--max-procs",
            "--replace",
        ],
        own: 0,
    },
];

/// Wrappers that change nothing about what their command does.
const HARMLESS: &[&str] = &["timeout", "time", "nice", "nohup", "stdbuf", "command", "builtin", "xargs"];

/// Variables that change nothing about what a command does.
const HARMLESS_VARIABLES: &[&str] = &[
    "CI",
    "COLUMNS",
    "DEBUG",
    "FORCE_COLOR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "LINES",
    "NO_COLOR",
    "NODE_ENV",
    "RUST_BACKTRACE",
    "RUST_LOG",
    "TERM",
    "TZ",
];

const SHELLS: &[&str] = &["sh", "bash", "dash", "zsh", "ksh", "ash"];

/// Options of git before its command that take a value.
const GIT_WITH_VALUE: &[&str] = &["-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path"];

/// How deep texts of commands are looked into.
const MAX_DEPTH: usize = 8;

/// Everything that a script comes down to.
#[derive(Debug, Default)]
pub struct Runs {
    /// Words of commands, the wrapped and the unwrapped; a program is there with and without its folder.
    pub forms: Vec<Form>,
    /// Why there may be more.
    pub unclear: Option<&'static str>,
}

/// One way to see a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// Its words.
    pub words: Vec<Word>,
    /// As it is written, where it is a whole simple command.
    pub written: Option<String>,
}

impl Form {
    /// The words that are known, joined by single spaces; `false` when more follows.
    #[must_use]
    pub fn text(&self) -> (String, bool) {
        let mut text = String::new();
        for (index, word) in self.words.iter().enumerate() {
            if index > 0 {
                text.push(' ');
            }
            // A program may be named with its folder.
            let unknown_program = index == 0 && word.dynamic;
            text.push_str(if unknown_program { base(&word.text) } else { &word.text });
            if word.dynamic {
                return (text, false);
            }
        }
        (text, true)
    }
}

impl Runs {
    /// All forms of all commands of a script.
    #[must_use]
    pub fn of(script: &Script) -> Self {
        let mut runs = Self::default();
        runs.script(script, 0);
        runs
    }

    fn script(&mut self, script: &Script, depth: usize) {
        if let Some(why) = script.unclear {
            self.unclear.get_or_insert(why);
        }
        for command in &script.commands {
            let written = Some(command.written.clone());
            self.form(Form { words: command.words.clone(), written }, command.input.as_deref(), depth);
        }
    }

    fn text(&mut self, text: &str, depth: usize) {
        if depth == MAX_DEPTH {
            self.unclear.get_or_insert("it is too deeply nested");
            return;
        }
        self.script(&Script::nested(text, depth), depth + 1);
    }

    fn form(&mut self, form: Form, input: Option<&str>, depth: usize) {
        let mut next = Some(form);
        // Each wrapper takes at least one word away.
        while let Some(mut form) = next.take() {
            let Some(first) = form.words.first() else { return };
            let Some(program) = first.plain().map(|name| base(name).to_owned()) else {
                self.forms.push(form);
                return;
            };
            if first.text != program {
                self.forms.push(form.clone());
                form = Form { words: form.words, written: None };
                form.words[0] = Word::known(&program);
            }
            let words = form.words.clone();
            self.forms.push(form);
            next = self.inside(&program, &words, input, depth);
        }
    }

    /// What a program runs that is named by its words; the rest of a wrapper's words.
    fn inside(&mut self, program: &str, words: &[Word], input: Option<&str>, depth: usize) -> Option<Form> {
        let unwritten =
            |words: &[Word]| (!words.is_empty()).then(|| Form { words: words.to_vec(), written: None });
        if SHELLS.contains(&program) {
            self.shell(&words[1..], input, depth);
            return None;
        }
        match program {
            "eval" => {
                let form = Form { words: words[1..].to_vec(), written: None };
                match form.text() {
                    (text, true) => self.text(&text, depth),
                    _ => drop(self.unclear.get_or_insert("`eval` runs what is known only then")),
                }
                None
            }
            "alias" if words[1..].iter().any(|word| word.dynamic || word.text.contains('=')) => {
                self.unclear.get_or_insert("an alias gives a command another meaning");
                None
            }
            "trap" => {
                match words.get(1) {
                    Some(word) if !word.dynamic => self.text(&word.text, depth),
                    Some(_) => drop(self.unclear.get_or_insert("`trap` runs what is known only then")),
                    None => {}
                }
                None
            }
            "find" | "fd" => {
                let runs = |word: &Word| {
                    matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir" | "-x" | "-X")
                };
                for (at, _) in words.iter().enumerate().filter(|(_, word)| runs(word)) {
                    if let Some(form) = unwritten(&words[at + 1..]) {
                        self.form(form, None, depth.max(MAX_DEPTH - 1));
                    }
                }
                None
            }
            "git" => {
                let at = after_options(words, GIT_WITH_VALUE);
                if at > 1 && at < words.len() {
                    let words = [&words[..1], &words[at..]].concat();
                    self.forms.push(Form { words, written: None });
                }
                None
            }
            _ => {
                let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == program)?;
                unwritten(wrapped(wrapper, words))
            }
        }
    }

    /// `sh -c TEXT`, a script, or what comes by its input.
    fn shell(&mut self, arguments: &[Word], input: Option<&str>, depth: usize) {
        let mut given = arguments.iter();
        for word in given.by_ref() {
            if word.dynamic {
                self.unclear.get_or_insert("a shell is told what to run only then");
                return;
            }
            if !word.text.starts_with('-') && !word.text.starts_with('+') {
                // A script of its own: a program like any other.
                return;
            }
            if !word.text.starts_with("--") && word.text.contains('c') {
                match given.next() {
                    Some(text) if !text.dynamic => self.text(&text.text, depth),
                    Some(_) => drop(self.unclear.get_or_insert("a shell is told what to run only then")),
                    None => {}
                }
                return;
            }
        }
        match input {
            Some(text) => self.text(text, depth),
            None => drop(self.unclear.get_or_insert("a shell reads what to run")),
        }
    }
}

fn wrapped<'a>(wrapper: &Wrapper, words: &'a [Word]) -> &'a [Word] {
    let mut at = after_options(words, wrapper.with_value) + wrapper.own;
    while words.get(at).is_some_and(|word| word.assignment().is_some()) {
        at += 1;
    }
    words.get(at..).unwrap_or_default()
}

/// Where the words begin that are no options.
fn after_options(words: &[Word], with_value: &[&str]) -> usize {
    let mut at = 1;
    while let Some(word) = words.get(at) {
        let text = word.text.as_str();
        if text == "--" {
            return at + 1;
        }
        if !text.starts_with('-') || text == "-" {
            return at;
        }
        at += if with_value.contains(&text) { 2 } else { 1 };
    }
    at
}

/// A command without wrappers that change nothing, as rules that allow see it; `None` where a variable
/// is set that may change what it does.
pub(super) fn allowed_form(command: &Simple) -> Option<(&[Word], bool)> {
    if !command
        .assignments
        .iter()
        .all(|(name, value)| HARMLESS_VARIABLES.contains(&name.as_str()) && !value.dynamic)
    {
        return None;
    }
    let mut words = command.words.as_slice();
    let mut unwrapped = false;
    while let Some(first) = words.first() {
        let Some(wrapper) = WRAPPERS.iter().find(|wrapper| wrapper.name == first.text) else { break };
        let bare = wrapper.name != "xargs" || words.get(1).is_some_and(|word| !word.text.starts_with('-'));
        if first.dynamic || !HARMLESS.contains(&wrapper.name) || !bare {
            break;
        }
        let inner = wrapped(wrapper, words);
        if inner.is_empty() || words[..words.len() - inner.len()].iter().any(|word| word.plain().is_none()) {
            break;
        }
        (words, unwrapped) = (inner, true);
    }
    Some((words, unwrapped))
}

fn base(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

/// What a program does with the files that its words name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touches {
    /// It shows or copies them.
    Reads,
    /// It changes, makes or removes them.
    Writes,
}

/// Programs whose words name files.
#[must_use]
pub fn touches(words: &[Word]) -> Option<Touches> {
    Some(match words.first()?.text.as_str() {
        "sed" | "perl" | "awk" | "gawk"
            if words
                .iter()
                .any(|word| word.text.starts_with("-i") || word.text.starts_with("--in-place")) =>
        {
            Touches::Writes
        }
        "cat" | "head" | "tail" | "less" | "more" | "nl" | "tac" | "rev" | "strings" | "xxd" | "od"
        | "hexdump" | "base64" | "grep" | "egrep" | "fgrep" | "rg" | "sed" | "awk" | "gawk" | "cut"
        | "sort" | "uniq" | "wc" | "diff" | "cmp" | "comm" | "paste" | "jq" | "source" | "." | "bat"
        | "file" | "stat" | "md5sum" | "sha256sum" | "tar" | "zip" | "gzip" | "curl" | "scp" | "rsync" => {
            Touches::Reads
        }
        "rm" | "rmdir" | "unlink" | "shred" | "mv" | "cp" | "ln" | "touch" | "mkdir" | "tee" | "truncate"
        | "dd" | "install" | "chmod" | "chown" | "patch" | "ed" | "ex" => Touches::Writes,
        _ => return None,
    })
}

/// The words of a program that may name files, without what stands before them: `-T file`, `if=file`,
/// `--file=file`, `@file`.
pub(super) fn files(words: &[Word]) -> impl Iterator<Item = (&str, bool)> {
    words.iter().skip(1).filter_map(|word| {
        let text = word.text.as_str();
        let text = match text.split_once('=') {
            Some((left, right)) if left.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') => {
                right
            }
            _ if text.starts_with('-') => return None,
            _ => text,
        };
        let text = text.strip_prefix('@').unwrap_or(text);
        (!text.is_empty() || word.dynamic).then_some((text, !word.dynamic))
    })
}
