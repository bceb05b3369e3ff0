//! Durable events a second by a hundred producers, and how long each waits for its answer.
//!
//! ```text
//!  100 producers, a session each ─▶ append of one event ─▶ sealed, sequenced, folded, synced ─▶ answer ─┐
//!         ▲───────────────────────────────────────────────────────────────────────────────────────────┘
//! ```
//!
//! The log alone, as the server opens it: on a disk, in a folder of its own. A producer has one append under way.

use std::time::{Duration, Instant};

use protocol::event::{AgentBlock, EventBody, RepositoryOrigin, SessionCreated};
use protocol::ids::{Epoch, PromptId, SessionId};
use serde_json::json;
use store::{Clock, Store};
use ulid::Ulid;

use crate::figure::{Samples, line, round};
use crate::{Bench, Failure};

const PRODUCERS: usize = 100;

/// Bytes of a body before it is sealed.
const BODY: usize = 512;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let dir = tempfile::Builder::new().prefix("patchyard-bench-").tempdir()?;
    let store = Store::open(dir.path(), Clock::system())?;
    let mut sessions = Vec::new();
    for _ in 0..PRODUCERS {
        let (session, _) = new_session(&store).await?;
        sessions.push((session, store.claim(session).await?));
    }
    // The first of them make the database's pages.
    let warm_up = Duration::from_secs(1);
    produce(&store, &sessions, warm_up).await?;
    let time = Duration::from_secs(u64::try_from(bench.runs)?);
    let begun = Instant::now();
    let answered = produce(&store, &sessions, time).await?;
    #[expect(clippy::cast_precision_loss)]
    let rate = answered.count() as f64 / begun.elapsed().as_secs_f64();
    line(&json!({
        "figure": "durable events a second, 100 producers, bodies of 512 bytes, sealed, projections on",
        "per_second": rate.round(),
        "ack_p50_ms": round(answered.percentile(0.5)),
        "ack_p99_ms": round(answered.percentile(0.99)),
        "events": answered.count(),
        "budget": "at least 5,000 a second, 25 ms at p99",
    }));
    Ok(())
}

/// Lets all of them append for a while.
async fn produce(store: &Store, sessions: &[(SessionId, Epoch)], time: Duration) -> Result<Samples, Failure> {
    let until = Instant::now() + time;
    let producers = sessions.iter().map(|(session, epoch)| {
        let (store, session, epoch) = (store.clone(), *session, *epoch);
        tokio::spawn(async move {
            let mut samples = Samples::default();
            while Instant::now() < until {
                let begun = Instant::now();
                store.append(session, epoch, None, None, vec![body()]).await?;
                samples.add(begun.elapsed());
            }
            Ok::<_, store::StoreError>(samples)
        })
    });
    let producers: Vec<_> = producers.collect();
    let mut all = Samples::default();
    for producer in producers {
        all.extend(producer.await??);
    }
    Ok(all)
}

fn body() -> EventBody {
    let of = |text: String| EventBody::AgentMessage(AgentBlock { message: "trn.1".into(), text, raw: None });
    let rest = serde_json::to_vec(&of(String::new())).map_or(0, |json| json.len());
    of("x".repeat(BODY.saturating_sub(rest)))
}

/// A session with a log and nothing else.
pub(crate) async fn new_session(store: &Store) -> Result<(SessionId, PromptId), Failure> {
    let (id, prompt) = (SessionId::from(Ulid::generate()), PromptId::from(Ulid::generate()));
    let created = SessionCreated {
        title: format!("Session {id}"),
        agent: "patchyard".into(),
        image: "slim".into(),
        environment: None,
        repository: RepositoryOrigin { name: "repo".into(), url: None, branch: Some("main".into()) },
        head: "0".repeat(40),
        base: "0".repeat(40),
        branch: "patchyard/bench".into(),
        fork: None,
        existing_branch: false,
    };
    store.create_session(id, created, prompt, "Measure.".into(), None).await?;
    Ok((id, prompt))
}
