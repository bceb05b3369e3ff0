//! From the results of a batch of calls to the checkpoint that records it, in a repository of many files.

use std::path::Path;

use client::{Client, Followed};
use protocol::api::{CreateSession, RepositorySource};
use protocol::event::EventBody;
use serde_json::json;
use testkit::harness::Serve;
use testkit::model::{Script, ScriptedModel, Turn};
use ulid::Ulid;

use crate::figure::{Samples, print};
use crate::workspace::many_files;
use crate::{Bench, Failure};

/// Files of the repository.
const FILES: usize = 10_000;

pub(crate) async fn run(bench: &Bench) -> Result<(), Failure> {
    let repository = many_files(FILES)?;
    let taken = measure(bench, repository.path()).await?;
    print("calls done to checkpoint recorded, 10,000 files of which three changed", &taken, "150 ms");
    Ok(())
}

async fn measure(bench: &Bench, repository: &Path) -> Result<Samples, Failure> {
    // The first ones make what the others find: git's index, warm files.
    let warm_up = 2;
    let change = |round: usize| {
        let command = format!(
            "echo {round} >> part-1/file-101.rs; echo {round} >> part-50/file-5001.rs; echo {round} > part-99/fresh-{round}.rs"
        );
        Turn::tool("Bash", json!({ "command": command }))
    };
    let turns = (0..bench.runs + warm_up).map(change).chain([Turn::text("Done.")]);
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let config = format!("[repositories]\nfile_roots = [\"{}\"]\n", repository.display());
    let server = Serve::of(&bench.patchyard).model(&model).config(&config).start().await;
    let client = Client::new(&server.address, Some(server.token.clone()))?;
    let url = format!("file://{}", repository.display());
    let body = CreateSession {
        prompt: "Measure.".into(),
        repository: RepositorySource::Url { url, branch: None, on_branch: false },
        agent: None,
        environment: None,
        image: None,
    };
    let session = client.create_session(&body, &Ulid::generate().to_string()).await?.id;
    let mut follow = client.follow(session, 0);
    let (mut taken, mut result, mut seen) = (Samples::default(), None, 0);
    loop {
        let Followed::Event(event) = follow.next().await? else { continue };
        match &event.body {
            EventBody::ToolResult(_) => result = Some(event.at),
            EventBody::Checkpoint(_) => {
                let Some(result) = result.take() else { continue };
                seen += 1;
                if seen > warm_up {
                    taken.add(event.at.duration_since(result).unsigned_abs());
                }
            }
            EventBody::Error(error) => return Err(error.message.clone().into()),
            EventBody::TurnEnded(_) => break,
            _ => {}
        }
    }
    client.delete(session).await?;
    // On a machine that is slow enough two batches share one.
    if seen <= warm_up { Err("nothing was recorded".into()) } else { Ok(taken) }
}
