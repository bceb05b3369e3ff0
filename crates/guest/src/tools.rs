//! `check-tools`: which tools this sandbox has.

use std::fmt::Write as _;
use std::io::Read;
use std::process::{Command, Stdio};

/// Program and the argument that makes it tell its version.
const TOOLS: &[(&str, &str)] = &[
    ("git", "--version"),
    ("bash", "--version"),
    ("python3", "--version"),
    ("pip3", "--version"),
    ("uv", "--version"),
    ("node", "--version"),
    ("npm", "--version"),
    ("pnpm", "--version"),
    ("yarn", "--version"),
    ("bun", "--version"),
    ("deno", "--version"),
    ("cargo", "--version"),
    ("rustc", "--version"),
    ("go", "version"),
    ("gcc", "--version"),
    ("g++", "--version"),
    ("clang", "--version"),
    ("make", "--version"),
    ("cmake", "--version"),
    ("java", "-version"),
    ("mvn", "--version"),
    ("gradle", "--version"),
    ("ruby", "--version"),
    ("php", "--version"),
    ("perl", "-e print$^V"),
    ("psql", "--version"),
    ("redis-server", "--version"),
    ("docker", "--version"),
    ("jq", "--version"),
    ("rg", "--version"),
    ("curl", "--version"),
];

/// The most that is read of what a tool says.
const MAX_ANSWER: u64 = 4096;

/// One line per installed tool, name and version; the missing ones in the last line.
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
    if !missing.is_empty() {
        let _ = writeln!(report, "not installed: {}", missing.join(", "));
    }
    report
}

/// The first line of what a tool says, or that it says nothing; `None` when it is not there.
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
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let line = answer.lines().map(str::trim).find(|line| !line.is_empty());
    Some(line.unwrap_or("(installed, version unknown)").to_owned())
}
