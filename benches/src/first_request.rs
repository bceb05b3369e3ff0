//! Prompt accepted to the first model request: in a new session and in a live one.

use std::path::Path;
use std::time::Instant;

use client::{Client, Followed};
use protocol::api::{CreatePrompt, CreateSession, RepositorySource};
use protocol::event::EventBody;
use protocol::ids::SessionId;
use protocol::prompt::Delivery;
use testkit::harness::{Repo, Serve};
use testkit::model::{Script, ScriptedModel, Turn};
use ulid::Ulid;

use crate::figure::{Samples, print};
use crate::{Bench, Failure};

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let model = ScriptedModel::start(Script::by_depth((0..10_000).map(|_| Turn::text("Done.")))).await;
    let server = Serve::of(&bench.patchyard).model(&model).start().await;
    let client = Client::new(&server.address, Some(server.token.clone()))?;
    let repo =
        Repo::with("bench", &[("README.md", "# bench\n"), ("src/lib.rs", "pub fn one() -> u32 { 1 }\n")]);
    let bundle = tempfile::NamedTempFile::new()?;
    std::fs::write(bundle.path(), repo.bundle())?;

    let (mut new, mut live) = (Samples::default(), Samples::default());
    let mut last = None;
    for _ in 0..bench.runs {
        let body = new_session(&client, bundle.path()).await?;
        let before = model.requests().len();
        let view = client.create_session(&body, &Ulid::generate().to_string()).await?;
        let accepted = Instant::now();
        model.wait_for_requests(before + 1).await;
        new.add(accepted.elapsed());
        rest(&client, view.id, 0).await?;
        if let Some(old) = last.replace(view.id) {
            client.delete(old).await?;
        }
    }
    let session = last.ok_or("no session")?;
    for _ in 0..bench.runs {
        let before = model.requests().len();
        let prompt = CreatePrompt { text: "Go on.".into(), delivery: Delivery::Next };
        let accepted = client.prompt(session, &prompt, &Ulid::generate().to_string()).await?;
        let start = Instant::now();
        model.wait_for_requests(before + 1).await;
        live.add(start.elapsed());
        rest(&client, session, accepted.seq).await?;
    }
    print("prompt accepted to first model request, new session", &new, "1000 ms");
    print("prompt accepted to first model request, live session", &live, "100 ms");
    Ok(())
}

async fn new_session(client: &Client, bundle: &Path) -> Result<CreateSession, Failure> {
    let upload = client.upload(bundle).await?.upload;
    let repository = RepositorySource::Bundle { upload, name: "bench".into(), branch: Some("main".into()) };
    Ok(CreateSession { prompt: "Measure.".into(), repository, agent: None, environment: None, image: None })
}

/// Waits until nothing runs in the session any more.
pub(crate) async fn rest(client: &Client, session: SessionId, after: u64) -> Result<(), Failure> {
    let mut follow = client.follow(session, after);
    loop {
        if let Followed::Event(event) = follow.next().await?
            && let EventBody::SessionStatus(change) = &event.body
            && !change.status.is_busy()
        {
            return Ok(());
        }
    }
}
