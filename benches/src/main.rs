//! Figures for `docs/PERFORMANCE.md`.
//!
//! ```text
//!  cargo run --release -p benches -- --patchyard target/release/patchyard [--runs 30] [--only PROGRAM]
//! ```
//!
//! Prints one JSON line per figure: its median and 95th percentile, the budget, and where there is a
//! peer, the peer's figure from the same run and the ratio. Judges nothing.

#![forbid(unsafe_code)]

mod append;
mod checkpoint;
mod density;
mod figure;
mod first_request;
mod host;
mod idle;
mod inside;
mod list;
mod neighbours;
mod opened;
mod outlet;
mod peers;
mod process;
mod proxies;
mod sandbox_start;
mod tool_call;
mod tunnels;
mod viewers;
mod visitor;
mod workspace;

use std::path::PathBuf;

type Failure = Box<dyn std::error::Error>;

/// What to measure, and how often.
struct Bench {
    /// The release binary.
    patchyard: PathBuf,
    runs: usize,
    /// The one program that is to run, where not all are.
    only: Option<String>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut bench = Bench { patchyard: PathBuf::from("target/release/patchyard"), runs: 30, only: None };
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.next_if(|first| first == "visit").is_some() {
        return visitor::run(arguments).await;
    }
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--patchyard" => bench.patchyard = PathBuf::from(value),
            "--runs" => bench.runs = value.parse()?,
            "--only" => bench.only = Some(value),
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    bench.patchyard = std::fs::canonicalize(&bench.patchyard)?;
    let mut found = false;
    for program in PROGRAMS {
        if bench.only.as_deref().is_none_or(|only| only == program) {
            found = true;
            run(&bench, program).await?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(format!("there is no such program; there are {}", PROGRAMS.join(", ")).into())
    }
}

/// In the order in which they run.
const PROGRAMS: [&str; 13] = [
    "start",
    "tool-call",
    "first-request",
    "idle",
    "workspace",
    "checkpoint",
    "append",
    "list",
    "viewers",
    "density",
    "tunnels",
    "inside",
    "neighbours",
];

async fn run(bench: &Bench, program: &str) -> Result<(), Failure> {
    match program {
        "start" => sandbox_start::run(bench).await,
        "tool-call" => tool_call::run(bench).await,
        "first-request" => first_request::run(bench).await,
        "idle" => idle::run(bench).await,
        "workspace" => workspace::run(bench).await,
        "checkpoint" => checkpoint::run(bench).await,
        "append" => append::run(bench).await,
        "list" => list::run(bench).await,
        "viewers" => viewers::run(bench).await,
        "density" => density::run(bench).await,
        "tunnels" => tunnels::run(bench).await,
        "inside" => inside::run(bench).await,
        _ => neighbours::run(bench).await,
    }
}
