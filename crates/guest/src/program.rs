//! What the guest program does, by its first argument.

use std::io::Write;
use std::process::ExitCode;

use protocol::sandbox_host::GUEST_WORDS;

use crate::{archives, dial, init, machine, proof, search, tools};

const USAGE: &str = "usage: patchyard-guest init [--nested] [--bind PATH] [--doors FOLDER] | grep JSON | glob JSON | pack PATH | unpack PATH | dial HOST:PORT | check-tools | prove | version";

/// Runs with these arguments, without the program's name.
#[must_use]
pub fn run(words: &[&str]) -> ExitCode {
    match words {
        ["init", options @ ..] => match init::Options::read(options) {
            Some(options) => done(init::run(&options)),
            None => refuse(USAGE),
        },
        ["grep", request] => answer(search::grep::run(request)),
        ["glob", request] => answer(search::glob::run(request)),
        ["pack", path] => done(archives::pack(path)),
        ["unpack", path] => done(archives::unpack(path)),
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

/// The same where a local agent works: without arguments its hands, and connections go straight to where they are to.
#[must_use]
pub fn on_machine(words: &[&str]) -> ExitCode {
    match words {
        [] => done(machine::run()),
        ["dial", target] => done(dial::direct(target)),
        words => run(words),
    }
}

fn done<E: std::error::Error>(outcome: Result<(), E>) -> ExitCode {
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => refuse(&error.to_string()),
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
