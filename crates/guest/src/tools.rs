//! `check-tools`: which tools this sandbox has.

use std::fmt::Write as _;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Program and the argument that makes it tell its version.
const TOOLS: &[(&str, &str)] = &[
    ("git", "--version"),
    ("git-lfs", "--version"),
    ("bash", "--version"),
    ("python3", "--version"),
    ("pip3", "--version"),
    ("poetry", "--version"),
    ("uv", "--version"),
    ("black", "--version"),
    ("mypy", "--version"),
    ("pytest", "--version"),
    ("ruff", "--version"),
    ("node", "--version"),
    ("npm", "--version"),
    ("pnpm", "--version"),
    ("yarn", "--version"),
    ("bun", "--version"),
    ("deno", "--version"),
    ("eslint", "--version"),
    ("prettier", "--version"),
    ("chromedriver", "--version"),
    ("ruby", "--version"),
    ("gem", "--version"),
    ("bundle", "--version"),
    ("rbenv", "--version"),
    ("php", "--version"),
    ("composer", "--version"),
    ("java", "-version"),
    ("javac", "-version"),
    ("mvn", "--version"),
    ("gradle", "--version"),
    ("go", "version"),
    ("cargo", "--version"),
    ("rustc", "--version"),
    ("gcc", "--version"),
    ("g++", "--version"),
    ("clang", "--version"),
    ("make", "--version"),
    ("cmake", "--version"),
    ("ninja", "--version"),
    ("conan", "--version"),
    ("perl", "-e print$^V"),
    ("docker", "--version"),
    ("dockerd", "--version"),
    ("docker-compose", "--version"),
    ("psql", "--version"),
    ("redis-server", "--version"),
    ("sqlite3", "--version"),
    ("jq", "--version"),
    ("yq", "--version"),
    ("rg", "--version"),
    ("curl", "--version"),
    ("tmux", "-V"),
    ("vim", "--version"),
    ("nano", "--version"),
];

/// Where an image lists what could not be had when it was built.
const LEFT_OUT: &str = "/usr/share/patchyard/left-out";

/// Where `nvm` keeps releases of Node, when nothing says otherwise.
const NVM_DIR: &str = "/opt/nvm";

/// The most that is read of what a tool says.
const MAX_ANSWER: u64 = 4096;

/// The most that is read of the list of what was left out.
const MAX_LIST: u64 = 64 * 1024;

/// One line per installed tool, name and version; then the missing ones, and what the image left out.
#[must_use]
pub fn report() -> String {
    let mut report = String::new();
    let mut missing = Vec::new();
    for (tool, argument) in TOOLS {
        match version(tool, argument) {
            // Writing to a string does not fail.
            Some(version) => {
                let _ = writeln!(report, "{tool:<14} {version}");
            }
            None => missing.push(*tool),
        }
    }
    let nvm = std::env::var_os("NVM_DIR").map_or_else(|| PathBuf::from(NVM_DIR), PathBuf::from);
    let releases = releases(&nvm);
    if !releases.is_empty() {
        let _ = writeln!(report, "{:<14} {}", "nvm", releases.join(", "));
    }
    if !missing.is_empty() {
        let _ = writeln!(report, "not installed: {}", missing.join(", "));
    }
    report.push_str(&left_out(Path::new(LEFT_OUT)));
    report
}

/// The releases of Node that `nvm` can switch to, sorted.
fn releases(nvm: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(nvm.join("versions/node")).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// One line per thing that the image was to have and has not, with the reason.
fn left_out(list: &Path) -> String {
    let mut text = String::new();
    // An image without such a list left nothing out.
    if let Ok(file) = std::fs::File::open(list) {
        let _ = file.take(MAX_LIST).read_to_string(&mut text);
    }
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    lines.fold(String::new(), |report, line| report + "left out: " + line + "\n")
}

/// What a tool says of its version; `None` when it is not there.
fn version(tool: &str, argument: &str) -> Option<String> {
    // One pipe for both outputs: some tools tell their version on standard error.
    let (mut reader, writer) = std::io::pipe().ok()?;
    let mut command = Command::new(tool);
    command.arg(argument).stdin(Stdio::null()).stdout(writer.try_clone().ok()?).stderr(writer);
    let mut child = command.spawn().ok()?;
    // Our ends of the pipe, which would keep it open.
    drop(command);
    let mut answer = Vec::new();
    let _ = reader.by_ref().take(MAX_ANSWER).read_to_end(&mut answer);
    drop(reader);
    let _ = child.wait();
    Some(version_line(tool, &String::from_utf8_lossy(&answer)))
}

/// The line that tells the version: some tools have other things to say first.
fn version_line(tool: &str, answer: &str) -> String {
    let lines: Vec<_> = answer.lines().map(plain).filter(|line| !line.is_empty()).collect();
    let has_version = |line: &&String| {
        let bytes = line.as_bytes();
        bytes.windows(3).any(|part| part[0].is_ascii_digit() && part[1] == b'.' && part[2].is_ascii_digit())
    };
    let names_tool = |line: &&String| line.to_lowercase().contains(tool);
    let best = lines.iter().filter(has_version).find(names_tool);
    let best = best.or_else(|| lines.iter().find(has_version)).or(lines.first());
    best.cloned().unwrap_or_else(|| "(installed, version unknown)".to_owned())
}

/// Without colours and what else steers a terminal.
fn plain(line: &str) -> String {
    let mut text = String::new();
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        if c == '\u{1b}' {
            // Up to the letter that ends the sequence.
            characters.by_ref().find(char::is_ascii_alphabetic);
        } else if !c.is_control() {
            text.push(c);
        }
    }
    text.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_with_the_version_is_found() {
        for (tool, answer, line) in [
            ("git", "git version 2.39.5\n", "git version 2.39.5"),
            ("gradle", "openjdk version \"17.0.2\"\n---\nGradle 4.4.1\n", "Gradle 4.4.1"),
            ("mvn", "\u{1b}[1mApache Maven 3.8.7\u{1b}[m\nMaven home: /x\n", "Apache Maven 3.8.7"),
            ("composer", "Composer: set X=1\nComposer version 2.5.5\n", "Composer version 2.5.5"),
            ("bun", "\n1.4.5\n", "1.4.5"),
            ("odd", "\nhello\nworld", "hello"),
            ("none", "", "(installed, version unknown)"),
        ] {
            assert_eq!(version_line(tool, answer), line);
        }
    }

    #[test]
    fn what_was_left_out_is_told_with_its_reason() {
        let folder = std::env::temp_dir().join(format!("patchyard-tools-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("versions/node/v21.7.3")).unwrap();
        std::fs::create_dir_all(folder.join("versions/node/v20.20.2")).unwrap();
        std::fs::write(folder.join("left-out"), "Ruby 3.3: not here\n\nbun: no\n").unwrap();
        let (told, none) = (left_out(&folder.join("left-out")), left_out(&folder.join("none")));
        let found = releases(&folder);
        std::fs::remove_dir_all(&folder).unwrap();
        assert_eq!(told, "left out: Ruby 3.3: not here\nleft out: bun: no\n");
        assert_eq!(none, "");
        assert_eq!(found, ["v20.20.2", "v21.7.3"]);
    }
}
