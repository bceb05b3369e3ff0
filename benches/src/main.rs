//! Figures for `docs/PERFORMANCE.md`.
//!
//! ```text
//!  cargo run --release -p benches -- --patchyard target/release/patchyard [--runs 30] [--only neighbours]
//! ```
//!
//! Prints one JSON line per figure: its median and 95th percentile, the budget, and where there is a
//! peer, the peer's figure from the same run and the ratio. Judges nothing.

#![forbid(unsafe_code)]

mod figure;
mod first_request;
mod idle;
mod neighbours;
mod sandbox_start;
mod tool_call;

use std::path::PathBuf;

type Failure = Box<dyn std::error::Error>;

/// What to measure, and how often.
struct Bench {
    /// The release binary.
    patchyard: PathBuf,
    runs: usize,
    /// Only what sandboxes notice of each other.
    neighbours_only: bool,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut bench =
        Bench { patchyard: PathBuf::from("target/release/patchyard"), runs: 30, neighbours_only: false };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
        match name.as_str() {
            "--patchyard" => bench.patchyard = PathBuf::from(value),
            "--runs" => bench.runs = value.parse()?,
            "--only" if value == "neighbours" => bench.neighbours_only = true,
            _ => return Err(format!("unknown argument {name}").into()),
        }
    }
    bench.patchyard = std::fs::canonicalize(&bench.patchyard)?;
    if bench.neighbours_only {
        return neighbours::run(&bench).await;
    }
    sandbox_start::run(&bench).await?;
    tool_call::run(&bench).await?;
    first_request::run(&bench).await?;
    idle::run(&bench).await?;
    neighbours::run(&bench).await
}
