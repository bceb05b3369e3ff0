//! `patchyard sessions prompt`, `queue`, `edit-prompt`, `cancel-prompt`.

use client::Client;
use protocol::api::{CreatePrompt, EditPrompt};
use protocol::ids::{PromptId, SessionId};
use protocol::prompt::Delivery;
use ulid::Ulid;

use crate::args::When;
use crate::error::Failure;
use crate::output::{in_line, json, line, note};

/// The most characters of a prompt on a line.
const TEXT: usize = 120;

pub(super) async fn send(
    client: &Client,
    session: SessionId,
    text: String,
    when: When,
) -> Result<(), Failure> {
    let body = CreatePrompt { text, delivery: when.delivery().unwrap_or_default() };
    let accepted = client.prompt(session, &body, &Ulid::generate().to_string()).await?;
    line(&format!("queued {}", accepted.prompt));
    Ok(())
}

pub(super) async fn list(client: &Client, session: SessionId, as_json: bool) -> Result<(), Failure> {
    let queued = client.prompts(session).await?;
    if as_json {
        json(&queued.prompts);
        return Ok(());
    }
    if queued.prompts.is_empty() {
        note("no prompt waits");
    }
    for prompt in &queued.prompts {
        let when = match prompt.delivery {
            Delivery::Next => "next",
            Delivery::Later => "later",
            Delivery::Now => "now",
        };
        line(&format!("{}  {when:<5}  {}", prompt.prompt, in_line(&prompt.text, TEXT)));
    }
    Ok(())
}

pub(super) async fn edit(
    client: &Client,
    (session, prompt): (SessionId, PromptId),
    text: Option<String>,
    when: When,
) -> Result<(), Failure> {
    let body = EditPrompt { text, delivery: when.delivery() };
    if body == EditPrompt::default() {
        return Err(Failure::Usage("say what to change: a text, or --next, --later, --now".into()));
    }
    client.edit_prompt(session, prompt, &body).await?;
    line(&format!("changed {prompt}"));
    Ok(())
}

pub(super) async fn cancel(client: &Client, session: SessionId, prompt: PromptId) -> Result<(), Failure> {
    client.cancel_prompt(session, prompt).await?;
    line(&format!("took {prompt} back"));
    Ok(())
}
