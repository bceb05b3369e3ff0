//! Sandbox create to guest ready: cold, from those that wait, by each runtime; beside what others start.

use std::time::{Duration, Instant};

use protocol::sandbox_spec::Tier;
use serde_json::json;

use crate::figure::{Samples, line, print, print_beside};
use crate::host::Host;
use crate::peers::Peer;
use crate::{Bench, Failure};

/// A way of ours to have a sandbox.
enum Way<'a> {
    /// Made, until the guest has answered.
    Cold { host: &'a Host, tier: Tier },
    /// One that waits is given to the session, until its guest has run a command.
    Waiting { host: &'a Host },
}

impl Way<'_> {
    async fn once(&self) -> Result<Duration, Failure> {
        match self {
            Self::Cold { host, tier } => {
                let start = Instant::now();
                let (attachment, _link) = host.create_of(*tier).await?;
                let took = start.elapsed();
                host.destroy(&attachment).await?;
                Ok(took)
            }
            Self::Waiting { host } => {
                let (attachment, link) = host.create_waiting().await?;
                let start = Instant::now();
                host.attach(&attachment).await?;
                crate::tool_call::run_true(&link).await?;
                let took = start.elapsed();
                host.destroy(&attachment).await?;
                Ok(took)
            }
        }
    }
}

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let host = Host::start(bench)?;
    let runc = Host::start_with(bench, Some("runc"))?;
    let cold = |host, tier| Way::Cold { host, tier };
    let mut ways = vec![
        ("sandbox create to guest ready, cold", cold(&host, Tier::Container)),
        ("sandbox that waits to a session's first command", Way::Waiting { host: &host }),
        ("sandbox create to guest ready, cold, by runc", cold(&runc, Tier::Container)),
        ("sandbox create to guest ready, cold, gVisor", cold(&host, Tier::Gvisor)),
    ];
    // The first one of each finds out whether its runtime works; it is not counted.
    let mut works = Vec::new();
    for (name, way) in &ways {
        works.push(match way.once().await {
            Ok(_) => true,
            Err(error) => {
                line(&json!({ "figure": name, "not_measured": error.to_string() }));
                false
            }
        });
    }
    let mut works = works.into_iter();
    ways.retain(|_| works.next().unwrap_or_default());
    let peers = Peer::all(host.dir.path())?;
    let mut ours = vec![Samples::default(); ways.len()];
    let mut theirs = vec![Samples::default(); peers.len()];
    let all = ways.len() + peers.len();
    for round in 0..bench.runs {
        // What ran just before changes what a start costs: each takes each place in turn.
        for place in 0..all {
            let turn = (round + place) % all;
            if let Some((_, way)) = ways.get(turn) {
                ours[turn].add(way.once().await?);
            } else {
                theirs[turn - ways.len()].add(peers[turn - ways.len()].once()?);
            }
        }
    }
    for ((name, _), samples) in ways.iter().zip(&ours) {
        report(name, samples, peers.iter().zip(&theirs));
    }
    for (peer, samples) in peers.iter().zip(&theirs) {
        print(&peer.name(), samples, "a row");
    }
    Ok(())
}

/// Prints a figure of ours beside those that it is measured by.
fn report<'a>(name: &str, ours: &Samples, peers: impl Iterator<Item = (&'a Peer, &'a Samples)>) {
    match name {
        name if name.ends_with("gVisor") => print(name, ours, "250 ms"),
        name if name.starts_with("sandbox that waits") => print(name, ours, "15 ms"),
        name => {
            let bare = if name.ends_with("runc") { "runc" } else { "crun" };
            for (peer, theirs) in peers {
                let budget = if peer.is_bare(bare) { "at most 2x the bare runtime" } else { "a row" };
                print_beside(name, ours, &peer.name(), theirs, budget);
            }
        }
    }
}
