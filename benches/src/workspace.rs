//! From the request for a session to its workspace, in a repository of many files whose state after the
//! setup was kept: with a sandbox that waits, and without.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use client::{Client, Followed};
use protocol::api::{CreateSession, RepositorySource};
use protocol::environment::EnvironmentSettings;
use protocol::event::{EventBody, Step};
use protocol::ids::SessionId;
use tempfile::TempDir;
use testkit::harness::{Serve, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};
use ulid::Ulid;

use crate::figure::{Samples, print};
use crate::first_request::rest;
use crate::{Bench, Failure};

/// Files of the repository, in folders of a hundred.
const FILES: usize = 22_000;

/// How long the next sandbox may take until it waits.
const NEXT: Duration = Duration::from_secs(30);

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let repository = many_files(FILES)?;
    for (warm, what) in [(false, "no sandbox waits"), (true, "a sandbox waits")] {
        let Parts { whole, accepted, sandbox, workspace } = measure(bench, repository.path(), warm).await?;
        let name = format!("session requested to workspace of 22,000 files, kept setup, {what}");
        print(&name, &whole, "500 ms");
        print(&format!("{name}: until it is accepted"), &accepted, "a part");
        print(&format!("{name}: its sandbox"), &sandbox, "a part");
        print(&format!("{name}: its workspace"), &workspace, "a part");
    }
    Ok(())
}

/// All of it, and what it is made of.
#[derive(Default)]
struct Parts {
    whole: Samples,
    accepted: Samples,
    sandbox: Samples,
    workspace: Samples,
}

async fn measure(bench: &Bench, repository: &Path, warm: bool) -> Result<Parts, Failure> {
    let model = ScriptedModel::start(Script::by_depth((0..10_000).map(|_| Turn::text("Done.")))).await;
    let config = format!("[repositories]\nfile_roots = [\"{}\"]\n", repository.display());
    let serve = Serve::of(&bench.patchyard).model(&model).config(&config);
    let server = if warm { serve.warm() } else { serve }.start().await;
    let client = Client::new(&server.address, Some(server.token.clone()))?;
    let settings = serde_json::json!({ "name": "kept", "setup_script": "echo ready >/root/ready" });
    let settings: EnvironmentSettings = serde_json::from_value(settings)?;
    client.create_environment(&settings, &Ulid::generate().to_string()).await?;
    let url = format!("file://{}", repository.display());
    let body = CreateSession {
        prompt: "Measure.".into(),
        repository: RepositorySource::Url { url, branch: None, on_branch: false },
        agent: None,
        environment: Some("kept".into()),
        image: None,
    };
    let mut parts = Parts::default();
    // The first one makes what the others begin with.
    for round in 0..=bench.runs {
        let start = Instant::now();
        let view = client.create_session(&body, &Ulid::generate().to_string()).await?;
        let accepted = start.elapsed();
        let (sandbox, workspace) = until_workspace(&client, view.id).await?;
        if round > 0 {
            parts.whole.add(start.elapsed());
            parts.accepted.add(accepted);
            parts.sandbox.add(sandbox);
            parts.workspace.add(workspace);
        }
        rest(&client, view.id, 0).await?;
        client.delete(view.id).await?;
        if warm {
            until_one_waits(&server).await?;
        }
    }
    Ok(parts)
}

/// How long the steps took that make the sandbox and the workspace.
async fn until_workspace(client: &Client, session: SessionId) -> Result<(Duration, Duration), Failure> {
    let mut follow = client.follow(session, 0);
    let mut sandbox = Duration::ZERO;
    loop {
        let Followed::Event(event) = follow.next().await? else { continue };
        match &event.body {
            EventBody::StepFinished { error: Some(error), .. } => return Err(error.clone().into()),
            EventBody::StepFinished { step: Step::Sandbox, duration_ms, .. } => {
                sandbox = Duration::from_millis(*duration_ms);
            }
            EventBody::StepFinished { step: Step::Workspace, duration_ms, .. } => {
                return Ok((sandbox, Duration::from_millis(*duration_ms)));
            }
            _ => {}
        }
    }
}

async fn until_one_waits(server: &TestServer) -> Result<(), Failure> {
    let until = Instant::now() + NEXT;
    while !server.sandboxes().iter().any(|sandbox| sandbox.session.is_empty()) {
        if Instant::now() > until {
            return Err("no sandbox was made in advance".into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// A repository with one commit of many small files.
pub(crate) fn many_files(count: usize) -> Result<TempDir, Failure> {
    let dir = tempfile::Builder::new().prefix("patchyard-bench-many-").tempdir()?;
    for number in 0..count {
        let folder = dir.path().join(format!("part-{}", number / 100));
        if number % 100 == 0 {
            std::fs::create_dir(&folder)?;
        }
        let text = format!("pub const NUMBER: u32 = {number};\n").repeat(20);
        std::fs::write(folder.join(format!("file-{number}.rs")), text)?;
    }
    let script = "git init -q -b main && git add . && git -c user.name=a -c user.email=a@a commit -q -m all";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir.path()).status()?;
    if made.success() { Ok(dir) } else { Err("the repository could not be made".into()) }
}
