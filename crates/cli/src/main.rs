//! The `patchyard` binary.
//!
//! ```text
//!  patchyard --remote "…"  sessions  environments  login  logout  ─▶ client ─▶ a running server
//!  patchyard serve ─▶ supervisor ─┬─▶ patchyard internal sandbox-host   (root, or in a user namespace)
//!                                 └─▶ patchyard internal server         (unprivileged)
//!  patchyard demo  ─▶ serve on a free port, one task, its diff
//!  patchyard doctor  image                  ─▶ this machine
//!  patchyard sandbox -- CMD                 ─▶ one command on this machine, by bubblewrap
//!  patchyard -p "…" ─▶ our agent, here ─▶ patchyard internal hands   (commands and files of this machine)
//! ```

#![forbid(unsafe_code)]

mod args;
mod bundle;
mod commands;
mod connection;
mod error;
mod outcome;
mod output;
mod progress;
mod registry;
mod serve;
mod sizes;

use std::process::ExitCode;

use clap::Parser as _;
use serve::internal::Settled;

use crate::args::{Args, Command};
use crate::error::Failure;

fn main() -> ExitCode {
    let words: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // Before anything is made of the arguments: its own tools are started for every search.
    if let Some(words) = commands::print::hands(&words) {
        return guest::program::on_machine(&words);
    }
    if args::print::is_meant(&words) {
        return commands::print::run(&words);
    }
    let mut args = Args::parse();
    if let Some(Command::Sandbox(sandbox)) =
        args.command.take_if(|command| matches!(command, Command::Sandbox(_)))
    {
        return commands::sandbox::run(sandbox);
    }
    let settled = match &args.command {
        Some(Command::Internal(internal)) => serve::internal::settle(&internal.command),
        Some(Command::Image(image)) => {
            commands::image::settle(&mut args.global, &image.command).map(|()| Settled::Nothing)
        }
        _ => Ok(Settled::Nothing),
    };
    let settled = match settled {
        Ok(settled) => settled,
        Err(failure) => return report(&failure),
    };
    if let Some(Command::Serve(serve)) = &args.command
        && let Err(failure) = serve::supervisor::tie(serve)
    {
        return report(&failure);
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return report(&Failure::Internal(error.to_string())),
    };
    match runtime.block_on(dispatch(args, settled)) {
        Ok(code) => code,
        Err(failure) => report(&failure),
    }
}

/// One line for the person; the exit code for scripts.
fn report(failure: &Failure) -> ExitCode {
    output::note(&output::plain(&format!("patchyard: {}", error::chain(failure))));
    ExitCode::from(failure.exit_code())
}

async fn dispatch(args: Args, settled: Settled) -> Result<ExitCode, Failure> {
    let Args { command, global, remote, print: _ } = args;
    if command.is_some() && remote.remote.is_some() {
        return Err(Failure::Usage("give a task with --remote, or a command, not both".into()));
    }
    match command {
        None => commands::remote::run(&global, remote).await,
        Some(Command::Serve(serve)) => serve::supervisor::run(serve).await,
        Some(Command::Demo(demo)) => commands::demo::run(demo).await,
        Some(Command::Sessions(sessions)) => commands::sessions::run(&global, sessions.command).await,
        Some(Command::Environments(environments)) => {
            commands::environments::run(&global, environments.command).await
        }
        Some(Command::RemoteEnv { name }) => commands::environments::remote_env(&global, name).await,
        Some(Command::Login(login)) => commands::login::run(&global, login).await,
        Some(Command::WebSetup(setup)) => commands::web_setup::run(&global, setup).await,
        Some(Command::Repositories(args)) => commands::pull_requests::repositories(&global, args).await,
        Some(Command::Logout) => commands::login::end().await,
        Some(Command::Doctor(doctor)) => commands::doctor::run(doctor).await,
        // Taken before there were threads.
        Some(Command::Sandbox(sandbox)) => Ok(commands::sandbox::run(sandbox)),
        Some(Command::Image(image)) => commands::image::run(&global, image.command).await,
        Some(Command::Version) => {
            output::line(concat!("patchyard ", env!("CARGO_PKG_VERSION")));
            Ok(ExitCode::SUCCESS)
        }
        Some(Command::Internal(internal)) => serve::internal::run(internal.command, settled).await,
    }
}
