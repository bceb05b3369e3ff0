//! `patchyard-guest`: dispatch by name.

use std::process::ExitCode;

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if name.rsplit('/').next() == Some("check-tools") {
        return guest::program::run(&["check-tools"]);
    }
    let arguments: Vec<String> = arguments.collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    guest::program::run(&words)
}
