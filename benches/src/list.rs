//! The page of the list, with ten thousand sessions that rest.
//!
//! Their logs are written into the data directory of a server that does not run; it is started over them, and
//! asked for the first page again and again. They have no sandbox, no driver and no process.

use std::time::Instant;

use protocol::event::{EventBody, StatusChange, TurnEnded};
use protocol::ids::TurnId;
use protocol::status::{SandboxPhase, SessionStatus, StopReason, TurnPhase, TurnStatus};
use reqwest::Method;
use serde_json::json;
use store::{Clock, Store};
use testkit::harness::{Part, Serve};
use testkit::model::{Script, ScriptedModel};
use ulid::Ulid;

use crate::append::new_session;
use crate::figure::{Samples, line, round};
use crate::process::{children_of, rss_kib};
use crate::{Bench, Failure};

const SESSIONS: usize = 10_000;

/// Sessions that are made at once.
const AT_ONCE: usize = 100;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let model = ScriptedModel::start(Script::default()).await;
    let mut server = Serve::of(&bench.patchyard).model(&model).start().await;
    // Now the directory is there, and whose it is.
    server.stop().await;
    fill(&server.data()).await?;
    let begun = Instant::now();
    server.start_again().await;
    let started = begun.elapsed();
    let mut pages = Samples::default();
    for round in 0..bench.runs * 10 {
        let asked = Instant::now();
        let answer = server.request(Method::GET, "/sessions").send().await?.error_for_status()?;
        let body = answer.bytes().await?;
        if body.len() < 1_000 {
            return Err("the page is empty".into());
        }
        // The first one reads from the disk.
        if round > 0 {
            pages.add(asked.elapsed());
        }
    }
    line(&json!({
        "figure": "first page of the list, 10,000 sessions that rest",
        "p50_ms": round(pages.percentile(0.5)),
        "p95_ms": round(pages.percentile(0.95)),
        "started_ms": round(started.as_secs_f64() * 1000.0),
        "server_rss_mib": round(rss_kib(server.pid(Part::Server))? / 1024.0),
        "sandboxes": server.sandboxes().len(),
        "processes_of_sandbox_host": children_of(server.pid(Part::SandboxHost)).len(),
        "processes_of_server": children_of(server.pid(Part::Server)).len(),
        "budget": "at most 50 ms at p95, no process",
    }));
    Ok(())
}

/// Writes the logs of sessions that were put away.
async fn fill(data: &std::path::Path) -> Result<(), Failure> {
    let store = Store::open(data, Clock::system())?;
    for _ in 0..SESSIONS / AT_ONCE {
        let some = (0..AT_ONCE).map(|_| {
            let store = store.clone();
            tokio::spawn(async move { put_away(&store).await.map_err(|error| error.to_string()) })
        });
        for one in some.collect::<Vec<_>>() {
            one.await??;
        }
    }
    Ok(())
}

async fn put_away(store: &Store) -> Result<(), Failure> {
    let (session, prompt) = new_session(store).await?;
    let (status, stop_reason) = (TurnStatus::Completed, StopReason::EndTurn);
    let rest = StatusChange {
        sandbox: SandboxPhase::Suspended,
        turn: TurnPhase::Idle,
        status: SessionStatus::Suspended,
        reason: Some("Put away after a rest; the next prompt goes on with everything as it was.".into()),
    };
    let bodies = vec![
        EventBody::TurnStarted { prompt },
        EventBody::TurnEnded(TurnEnded { status, stop_reason, message: None, duration_ms: 1 }),
        EventBody::SessionStatus(rest),
    ];
    store.append(session, 0, Some(TurnId::from(Ulid::generate())), None, bodies).await?;
    Ok(())
}
