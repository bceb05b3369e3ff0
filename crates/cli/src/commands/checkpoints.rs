//! `patchyard sessions checkpoints`, `rewind`, `fork`.

use client::Client;
use protocol::ids::{Seq, SessionId};
use protocol::rewind::{ForkSession, RewindSession};
use ulid::Ulid;

use crate::error::Failure;
use crate::outcome::Outcome;
use crate::output::{in_line, json, line, note};

/// The most characters of a prompt on a line.
const TEXT: usize = 80;

pub(super) async fn list(client: &Client, session: SessionId, as_json: bool) -> Result<(), Failure> {
    let checkpoints = client.checkpoints(session).await?.checkpoints;
    if as_json {
        json(&checkpoints);
        return Ok(());
    }
    if checkpoints.is_empty() {
        note("nothing was recorded yet");
    }
    for checkpoint in &checkpoints {
        let counts = format!("+{} −{}", checkpoint.diff.additions, checkpoint.diff.deletions);
        let place = if checkpoint.ends_turn { "end of turn" } else { "" };
        let void = if checkpoint.stands { "" } else { "  (gone back from)" };
        line(&format!(
            "{:>6}  {}  {counts:<12} {place:<11}  {}{void}",
            checkpoint.checkpoint,
            checkpoint.at.strftime("%H:%M:%S"),
            in_line(checkpoint.prompt.as_deref().unwrap_or_default(), TEXT),
        ));
    }
    Ok(())
}

/// Without one of `files` and `conversation` both go back.
pub(super) async fn rewind(
    client: &Client,
    session: SessionId,
    to: Seq,
    (files, conversation): (bool, bool),
) -> Result<(), Failure> {
    let both = !files && !conversation;
    let body = RewindSession { to, files: files || both, conversation: conversation || both };
    client.rewind(session, &body).await?;
    let what = match (body.files, body.conversation) {
        (true, true) => "files and conversation of",
        (true, false) => "files of",
        _ => "conversation of",
    };
    line(&format!("{what} {session} are those of checkpoint {to}"));
    Ok(())
}

pub(super) async fn fork(
    client: &Client,
    (session, at): (SessionId, Seq),
    prompt: Option<String>,
    as_json: bool,
) -> Result<(), Failure> {
    let view = client.fork(session, &ForkSession { at, prompt }, &Ulid::generate().to_string()).await?;
    if as_json {
        json(&Outcome::of(&view, client.session_url(view.id)));
    } else {
        line(&format!("made {}", view.id));
    }
    Ok(())
}
