//! Figures for `docs/PERFORMANCE.md`.
//!
//! ```text
//!  cargo run --release -p benches -- --patchyard target/release/patchyard [--runs 30] [--only neighbours|tunnels]
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
mod tunnels;

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
    let mut arguments = std::env::args().skip(1);
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
    match bench.only.as_deref() {
        None => {}
        Some("neighbours") => return neighbours::run(&bench).await,
        Some("tunnels") => return tunnels::run(&bench).await,
        Some(other) => {
            return Err(format!("there is no program {other}; there are neighbours and tunnels").into());
        }
    }
    sandbox_start::run(&bench).await?;
    tool_call::run(&bench).await?;
    first_request::run(&bench).await?;
    idle::run(&bench).await?;
    tunnels::run(&bench).await?;
    neighbours::run(&bench).await
}
