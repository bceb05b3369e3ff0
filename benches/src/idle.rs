//! What a server costs that has nothing to do.

use std::time::Duration;

use serde_json::json;
use testkit::harness::{Part, Serve};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::figure::{line, round};
use crate::process::rss_kib;
use crate::{Bench, Failure};

/// How long the CPU time is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// Clock ticks in a second, as `/proc` counts them on Linux.
const TICKS: f64 = 100.0;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let model = ScriptedModel::start(Script::turns([Turn::text("Done.")])).await;
    let server = Serve::of(&bench.patchyard).model(&model).start().await;
    let parts =
        [("supervisor", Part::Supervisor), ("sandbox-host", Part::SandboxHost), ("server", Part::Server)];
    let pids: Vec<(&str, i32)> = parts.into_iter().map(|(name, part)| (name, server.pid(part))).collect();
    let before: Vec<f64> = pids.iter().map(|(_, pid)| cpu_ticks(*pid)).collect::<Result<_, _>>()?;
    tokio::time::sleep(WATCHED).await;
    for ((name, pid), before) in pids.iter().zip(before) {
        let cpu = (cpu_ticks(*pid)? - before) / TICKS / WATCHED.as_secs_f64() * 100.0;
        line(&json!({
            "figure": format!("idle {name}"),
            "rss_mib": round(rss_kib(*pid)? / 1024.0),
            "cpu_percent": round(cpu),
            "budget": "server at most 60 MiB and 0.5 %",
        }));
    }
    Ok(())
}

/// User and system time: the 14th and 15th fields, counted behind the name in brackets.
fn cpu_ticks(pid: i32) -> Result<f64, Failure> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').ok_or("no name in stat")?;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    let tick =
        |index: usize| fields.get(index).and_then(|field| field.parse::<f64>().ok()).ok_or("no time in stat");
    Ok(tick(11)? + tick(12)?)
}
