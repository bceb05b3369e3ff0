//! `patchyard-guest`: dispatch by name and first argument.

use std::io::Write;
use std::process::ExitCode;

use guest::{archives, dial, init, proof, search, tools};
use protocol::sandbox_host::GUEST_WORDS;

const USAGE: &str = "usage: patchyard-guest init [--nested] [--bind PATH] [--doors FOLDER] | grep JSON | glob JSON | pack PATH | unpack PATH | dial HOST:PORT | check-tools | prove | version";

fn main() -> ExitCode {
    let mut arguments = std::env::args();
    let name = arguments.next().unwrap_or_default();
    if name.rsplit('/').next() == Some("check-tools") {
        return print(&tools::report());
    }
    let arguments: Vec<String> = arguments.collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["init", options @ ..] => match init::Options::read(options) {
            Some(options) => match init::run(&options) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => refuse(&error.to_string()),
            },
            None => refuse(USAGE),
        },
        ["grep", request] => answer(search::grep::run(request)),
        ["glob", request] => answer(search::glob::run(request)),
        ["pack", path] => match archives::pack(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string()),
        },
        ["unpack", path] => match archives::unpack(path) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => refuse(&error.to_string()),
        },
        ["dial", target] => match dial::run(target) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                refuse(&error.to_string());
                ExitCode::from(3)
            }
        },
        ["prove"] => match proof::run() {
            Ok(()) => ExitCode::SUCCESS,
            // So that it is told from what a container runtime says.
            Err(error) => refuse(&format!("{GUEST_WORDS}{error}")),
        },
        ["check-tools"] => print(&tools::report()),
        ["version"] => print(concat!("patchyard-guest ", env!("CARGO_PKG_VERSION"), "\n")),
        _ => refuse(USAGE),
    }
}

fn answer(outcome: Result<String, search::SearchError>) -> ExitCode {
    match outcome {
        Ok(text) => print(&text),
        Err(error) => refuse(&error.to_string()),
    }
}

fn print(text: &str) -> ExitCode {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

fn refuse(reason: &str) -> ExitCode {
    // One line, and nothing to be done when nobody reads it.
    let _ = writeln!(std::io::stderr(), "{}", reason.replace('\n', " "));
    ExitCode::from(2)
}
