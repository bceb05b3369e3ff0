//! The server dies at each step in turn that outlives it, and nobody can tell afterwards.
//!
//! ```text
//!  one life, its steps counted ─┬─ for each: the same life, with kill -9 there ──▶ as if nothing had been
//!   (life; crate failpoint)     └─ and for some, a second one while the first is put right
//! ```
//!
//! `make test` tries some, which are printed; `make test-faults` all. `PATCHYARD_SWEEP=12,40+3` tries those: the
//! twelfth, and the fortieth with the third after it. `PATCHYARD_SWEEP_WORLDS` says how many at a time.

mod history;
mod life;

use std::fmt;
use std::time::{Duration, Instant};

use futures::StreamExt as _;

use history::differences;
use life::{Lived, live};

/// How many places are tried where nobody says which.
const FEW: usize = 10;

/// How many steps after a death the second one is, where there are two.
const AGAIN: usize = 3;

/// Longer than any life takes on a busy machine.
const LONGEST: Duration = Duration::from_secs(300);

/// The numbers of the steps at which a life is interrupted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan(Vec<usize>);

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = self.0.windows(2).map(|pair| format!("+{}", pair[1] - pair[0]));
        f.pad(&std::iter::once(self.0[0].to_string()).chain(more).collect::<String>())
    }
}

impl Plan {
    fn parse(text: &str) -> Self {
        let mut at = 0;
        Self(
            text.split('+')
                .map(|number| {
                    at += number.trim().parse::<usize>().unwrap();
                    at
                })
                .collect(),
        )
    }

    /// Those that are wanted, of a life with so many steps.
    fn wanted(steps: usize) -> Vec<Self> {
        match std::env::var("PATCHYARD_SWEEP").as_deref() {
            Err(_) => {
                let every = steps.div_ceil(FEW).max(1);
                (1..=steps).skip(every / 2).step_by(every).map(|at| Self(vec![at])).collect()
            }
            Ok("all") => {
                let twice = (1..=steps).step_by(AGAIN).map(|at| Self(vec![at, at + AGAIN]));
                (1..=steps).map(|at| Self(vec![at])).chain(twice).collect()
            }
            Ok(named) => named.split(',').map(Self::parse).collect(),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn l04_a_server_that_dies_at_any_step_loses_nothing_and_does_nothing_twice() {
    let begun = Instant::now();
    let whole = live(&[]).await;
    println!("a life has {} steps and takes {:.1} s", whole.steps.len(), begun.elapsed().as_secs_f64());
    let plans = Plan::wanted(whole.steps.len());
    let worlds =
        std::env::var("PATCHYARD_SWEEP_WORLDS").ok().and_then(|count| count.parse().ok()).unwrap_or(3);
    let mut lives = futures::stream::iter(plans)
        .map(|plan| async {
            let (begun, steps) = (Instant::now(), plan.0.clone());
            let lived = tokio::spawn(async move { tokio::time::timeout(LONGEST, live(&steps)).await }).await;
            (plan, lived, begun.elapsed().as_secs_f64())
        })
        .buffer_unordered(worlds);
    let (mut tried, mut faults) = (0, Vec::new());
    while let Some((plan, lived, took)) = lives.next().await {
        let outcome = match lived {
            Ok(Ok(lived)) => outcome(&plan, &whole, &lived),
            Ok(Err(_)) => Err("it came to no end".into()),
            // What it said stands above.
            Err(died) => Err(died.to_string()),
        };
        tried += 1;
        match outcome {
            Ok(names) => println!("{plan:>8}  {took:4.1} s  {names}"),
            Err(words) => {
                println!("{plan:>8}  {took:4.1} s  FAULT: {words}");
                faults.push(format!("PATCHYARD_SWEEP={plan}: {words}"));
            }
        }
    }
    println!("{tried} lives in {:.0} s", begun.elapsed().as_secs_f64());
    assert!(faults.is_empty(), "{} of {tried} lives:\n{}", faults.len(), faults.join("\n"));
}

/// Where a life was interrupted, in words; or in what it is not like one that was not.
fn outcome(plan: &Plan, whole: &Lived, lived: &Lived) -> Result<String, String> {
    let name = |at: &usize| lived.steps.get(at - 1).cloned();
    let names: Vec<String> = plan.0.iter().filter_map(name).collect();
    let differences = differences(whole, lived);
    // A life of its own order may have fewer steps than the one that was counted.
    let named = if names.is_empty() { "it had no such step".to_owned() } else { names.join(", then ") };
    if differences.is_empty() { Ok(named) } else { Err(format!("{named}: {}", differences.join("; "))) }
}
