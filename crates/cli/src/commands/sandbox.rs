//! `patchyard sandbox`: one command on this machine, sandboxed.

use std::process::ExitCode;

use sandbox::local::{Request, run as run_local};

use crate::args::Sandbox;
use crate::error::chain;
use crate::output::{note, plain};

/// Runs before there is a second thread: namespaces and fork demand it.
pub(crate) fn run(sandbox: Sandbox) -> ExitCode {
    let request = Request { settings: sandbox.settings, command: sandbox.command };
    match run_local(&request, &mut |remark| say(remark)) {
        Ok(status) => ExitCode::from(status),
        Err(error) => {
            say(&chain(&error));
            ExitCode::from(error.exit_code())
        }
    }
}

fn say(text: &str) {
    note(&plain(&format!("patchyard sandbox: {}", text.replace('\n', " "))));
}
