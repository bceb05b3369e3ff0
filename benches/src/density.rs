//! What sandboxes cost that have nothing to do.

use protocol::sandbox_spec::Limits;
use serde_json::json;

use crate::figure::{line, round};
use crate::host::Host;
use crate::process::rss_kib;
use crate::tool_call::run_true;
use crate::{Bench, Failure};

/// How many there are at a time.
const SANDBOXES: usize = 200;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let host = Host::start(bench)?;
    // What all share is there after the first one.
    let (first, link) = host.create().await?;
    run_true(&link).await?;
    let (before, host_before) = (available_kib()?, rss_kib(host.pid().cast_signed())?);
    let mut made = vec![(first, link)];
    while made.len() <= SANDBOXES {
        let (attachment, link) = host.create_with(Limits::default()).await?;
        run_true(&link).await?;
        made.push((attachment, link));
    }
    let taken = before - available_kib()?;
    let host_taken = rss_kib(host.pid().cast_signed())? - host_before;
    for (attachment, _) in &made {
        host.destroy(attachment).await?;
    }
    line(&json!({
        "figure": format!("memory of {SANDBOXES} idle sandboxes, of all the machine"),
        "mib": round(taken / 1024.0),
        "of_that_sandbox_host_mib": round(host_taken / 1024.0),
        "budget": "2048 MiB",
    }));
    Ok(())
}

/// What programs could still have, as the kernel reckons; memory that only caches files counts as that.
fn available_kib() -> Result<f64, Failure> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:")).ok_or("no MemAvailable")?;
    Ok(line.split_ascii_whitespace().nth(1).ok_or("no size")?.parse()?)
}
