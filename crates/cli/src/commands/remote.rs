//! `patchyard --remote "…"`: give a task to the server.

use std::path::Path;
use std::process::ExitCode;

use client::{Client, Followed};
use protocol::api::{CreateSession, MAX_PROMPT_CHARS, RepositorySource};
use protocol::event::EventBody;
use protocol::view::SessionView;
use ulid::Ulid;

use crate::args::{Global, OutputFormat, Remote};
use crate::bundle;
use crate::connection::{connect, variable};
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::output::{in_line, json, line, note};
use crate::progress::{Progress, TICK};

pub(crate) async fn run(global: &Global, remote: Remote) -> Result<ExitCode, Failure> {
    let Some(prompt) = remote.remote.clone() else {
        return Err(Failure::Usage(
            "give a command, or a task with --remote \"…\"; see patchyard --help".into(),
        ));
    };
    check_prompt(&prompt)?;
    let client = connect(global)?;
    // Ask first: packing a repository for a server that is not there would be time lost.
    client.server_info().await?;
    let repository = match remote.on_branch.clone() {
        None => send_repository(&client, &remote.repo, remote.branch.as_deref()).await?,
        Some(branch) if is_url(&remote.repo) => {
            RepositorySource::Url { url: remote.repo.clone(), branch: Some(branch), on_branch: true }
        }
        Some(_) => {
            return Err(Failure::Usage(
                "--on-branch works on a branch of a repository that the server fetches; give its URL with --repo"
                    .into(),
            ));
        }
    };
    let body = CreateSession {
        prompt,
        repository,
        agent: remote.agent.clone(),
        environment: remote.environment.clone(),
        image: remote.image.clone(),
    };
    let view = client.create_session(&body, &Ulid::generate().to_string()).await?;
    if !remote.wait {
        return Ok(started(&client, &view, remote.output_format));
    }
    note(&format!("session {} · {}", view.id, client.session_url(view.id)));
    let outcome = wait(&client, view, remote.output_format).await?;
    Ok(finish(&outcome, remote.output_format))
}

/// Says at once what the server would say after a long upload.
fn check_prompt(prompt: &str) -> Result<(), Failure> {
    let length = prompt.chars().count();
    if prompt.trim().is_empty() {
        return Err(Failure::Usage("the prompt is empty; say what should be done".into()));
    }
    if length > MAX_PROMPT_CHARS {
        return Err(Failure::Usage(format!(
            "the prompt has {length} characters, {MAX_PROMPT_CHARS} are allowed; put long material into a file of the repository"
        )));
    }
    Ok(())
}

/// A local path as a bundle, sent; a URL as it is.
pub(crate) async fn send_repository(
    client: &Client,
    repo: &str,
    branch: Option<&str>,
) -> Result<RepositorySource, Failure> {
    if is_url(repo) {
        if variable("CCR_FORCE_BUNDLE").is_some_and(|value| value != "0") {
            return Err(Failure::Usage(
                "CCR_FORCE_BUNDLE asks for a bundle, and a URL cannot be bundled; name a local folder with --repo, or unset it".into(),
            ));
        }
        return Ok(RepositorySource::Url {
            url: repo.to_owned(),
            branch: branch.map(ToOwned::to_owned),
            on_branch: false,
        });
    }
    let bundle = bundle::make(Path::new(repo), branch)?;
    let changes = if bundle.dirty { " with your uncommitted changes to tracked files" } else { "" };
    note(&format!(
        "sending {} ({} KB, {}){changes}",
        bundle.name,
        bundle.size.div_ceil(1000),
        bundle.extent.words()
    ));
    let upload = client.upload(&bundle.path).await?;
    Ok(RepositorySource::Bundle {
        upload: upload.upload,
        name: bundle.name.clone(),
        branch: bundle.branch.clone(),
    })
}

fn is_url(text: &str) -> bool {
    ["http://", "https://", "file:"].iter().any(|scheme| text.starts_with(scheme)) || text.contains("://")
}

fn started(client: &Client, view: &SessionView, format: OutputFormat) -> ExitCode {
    let url = client.session_url(view.id);
    match format {
        OutputFormat::Text => {
            line(&format!("session {}", view.id));
            line(&format!("branch  {}", view.branch));
            line(&format!("page    {url}"));
        }
        OutputFormat::Json | OutputFormat::StreamJson => json(&Outcome::of(view, url)),
    }
    ExitCode::SUCCESS
}

/// Follows a session until its turn is over and nothing more waits.
pub(crate) async fn wait(
    client: &Client,
    view: SessionView,
    format: OutputFormat,
) -> Result<Outcome, Failure> {
    let id = view.id;
    let mut follow = client.follow(id, 0);
    let mut progress = Progress::new(view);
    let mut tick = tokio::time::interval(TICK);
    loop {
        let followed = {
            // Not dropped at a tick: connecting, and waiting for a silent server, take longer.
            let mut next = std::pin::pin!(follow.next());
            loop {
                tokio::select! {
                    followed = &mut next => break followed?,
                    _ = tick.tick() => progress.tick(),
                }
            }
        };
        match followed {
            Followed::Event(event) => {
                if format == OutputFormat::StreamJson {
                    json(&event);
                }
                progress.event(&event);
                if is_over(&event.body) {
                    break;
                }
            }
            // Live output is for the page; here the moving line says enough.
            Followed::Live(_) => {}
            Followed::Gone => {
                progress.clear();
                return Err(Failure::Failed(format!("session {id} was deleted")));
            }
        }
    }
    progress.clear();
    let view = client.session(id).await?;
    Ok(Outcome::of(&view, client.session_url(id)))
}

/// Whether the session came to rest: idle, suspended or failed after something was done.
fn is_over(body: &EventBody) -> bool {
    matches!(body, EventBody::SessionStatus(change) if !change.status.is_busy())
}

/// Prints the end and gives the exit code: 0 only for a task that was done.
pub(crate) fn finish(outcome: &Outcome, format: OutputFormat) -> ExitCode {
    match format {
        OutputFormat::Json | OutputFormat::StreamJson => json(outcome),
        OutputFormat::Text => {
            line(&format!("status  {}", outcome.status));
            if let Some(message) = &outcome.message {
                line(&format!("reason  {}", in_line(message, 600)));
            }
            line(&format!(
                "change  +{} −{} in {} files",
                outcome.additions, outcome.deletions, outcome.files_changed
            ));
            line(&format!("branch  {}", outcome.branch));
            line(&format!("diff    patchyard sessions diff {}", outcome.session_id));
            line(&format!("page    {}", outcome.url));
        }
    }
    if outcome.is_completed() { ExitCode::SUCCESS } else { ExitCode::from(1) }
}
