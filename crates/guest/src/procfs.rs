//! What `/proc` says of the sandbox's processes.

use std::fs;
use std::io::Read;

/// One process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its parent; 1 for orphans.
    pub parent: i32,
    /// Its process group.
    pub group: i32,
    /// Its session.
    pub session: i32,
    /// The state letter: `R`, `S`, `D`, `T`, `Z`…
    pub state: u8,
}

impl Process {
    /// Whether it still could do something.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        !matches!(self.state, b'Z' | b'X')
    }
}

/// Every process of the sandbox but process 1.
#[must_use]
pub fn processes() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok())
        .filter(|pid| *pid != 1)
        .filter_map(process)
        .collect()
}

/// Whether this process still could do something.
#[must_use]
pub fn is_alive(pid: i32) -> bool {
    process(pid).is_some_and(|process| process.is_alive())
}

fn process(pid: i32) -> Option<Process> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

/// Reads a line of `/proc/<pid>/stat`. The name in it is the process's own choice and may hold
/// anything, so the fields are counted from its last parenthesis.
fn parse_stat(line: &[u8]) -> Option<Process> {
    let open = line.iter().position(|byte| *byte == b'(')?;
    let close = line.iter().rposition(|byte| *byte == b')')?;
    let pid = std::str::from_utf8(&line[..open]).ok()?.trim().parse().ok()?;
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    let mut number = || fields.next()?.parse::<i32>().ok();
    Some(Process { pid, state, parent: number()?, group: number()?, session: number()? })
}

/// Whether the environment that a process was started with holds this entry, such as `NAME=value`.
/// At most 4 MiB are looked at.
#[must_use]
pub fn has_environment(pid: i32, entry: &[u8]) -> bool {
    let Ok(file) = fs::File::open(format!("/proc/{pid}/environ")) else { return false };
    let mut environ = Vec::new();
    if file.take(4 * 1024 * 1024).read_to_end(&mut environ).is_err() && environ.is_empty() {
        return false;
    }
    environ.split(|byte| *byte == 0).any(|candidate| candidate == entry)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_move_the_fields() {
        let process = parse_stat(b"42 (a) R 7 (b)) S 7 40 41 0 -1 4194560\n").unwrap();
        assert_eq!(process, Process { pid: 42, parent: 7, group: 40, session: 41, state: b'S' });
    }

    #[test]
    fn damaged_lines_are_no_process() {
        for line in [&b""[..], b"42", b"42 (x", b"42 (x)", b"42 (x) S", b"x (x) S 1 2 3", b"42 (x) S 1 y 3"] {
            assert_eq!(parse_stat(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn the_own_environment_is_found() {
        let me = std::process::id().cast_signed();
        let path = format!("PATH={}", std::env::var("PATH").unwrap());
        assert!(has_environment(me, path.as_bytes()));
        assert!(!has_environment(me, b"PATH"));
    }
}
