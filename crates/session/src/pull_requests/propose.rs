//! What a pull request would say, and whether one can be made.

use protocol::event::EventBody;
use protocol::pull_request::{CreatePullRequest, PullRequestProposal};
use protocol::usage::DiffStat;
use protocol::view::SessionView;

use super::PullRequestError;
use crate::forges::At;
use crate::gateways::address;
use crate::registry::Shared;

/// The longest title, in characters: forges cut at 256.
const MAX_TITLE: usize = 250;

/// The longest text, in characters: forges take 65,536.
const MAX_BODY: usize = 60_000;

/// How much of the first prompt is quoted, in characters.
const MAX_QUOTE: usize = 4000;

/// The newest commit of a session's branch.
pub(super) fn tip(view: &SessionView) -> &str {
    view.checkpoint.as_ref().map_or(&view.base, |point| &point.commit)
}

/// The repository of a session at its forge, where there is something to propose.
pub(super) async fn possible(shared: &Shared, view: &SessionView) -> Result<At, PullRequestError> {
    let url = address(view).ok_or(PullRequestError::NoRemote(view.id))?;
    let at = shared.at_forge(&url).await?;
    // What others did on a branch of theirs can be proposed without a change of the session's.
    if tip(view) == view.base && !view.existing_branch {
        return Err(PullRequestError::Nothing);
    }
    Ok(at)
}

/// What it would say, in the words of the wish where it has some. The branch where it is to go is not asked
/// for: `default` stands for the forge's own.
pub(super) async fn proposal(
    shared: &Shared,
    view: &SessionView,
    wish: &CreatePullRequest,
    (repository, default): (String, Option<&str>),
) -> Result<PullRequestProposal, PullRequestError> {
    let title = wish.title.clone().unwrap_or_else(|| view.title.clone());
    let length = title.chars().count();
    if title.trim().is_empty() || length > MAX_TITLE || title.chars().any(char::is_control) {
        return Err(PullRequestError::Title(MAX_TITLE));
    }
    let body = match &wish.body {
        Some(body) => body.clone(),
        None => text(&first_prompt(shared, view).await, view.diff, view),
    };
    if body.chars().count() > MAX_BODY {
        return Err(PullRequestError::Body(MAX_BODY));
    }
    let began = view.repository.branch.as_deref().filter(|branch| *branch != view.branch);
    let base = wish.base.as_deref().or(began).or(default).unwrap_or("main").to_owned();
    if base == view.branch {
        return Err(PullRequestError::Same(base));
    }
    Ok(PullRequestProposal { repository, title, body, base, head: view.branch.clone() })
}

async fn first_prompt(shared: &Shared, view: &SessionView) -> String {
    let queued = shared.store.events_of_kind(view.id, "prompt.queued").await.unwrap_or_default();
    let first = queued.into_iter().find_map(|event| match event.body {
        EventBody::PromptQueued { text, .. } => Some(text),
        _ => None,
    });
    first.unwrap_or_else(|| view.title.clone())
}

/// The first prompt as a quotation, the size of the change, where it comes from.
fn text(prompt: &str, diff: DiffStat, view: &SessionView) -> String {
    let mut quoted: String = prompt.trim().chars().take(MAX_QUOTE).collect();
    if prompt.trim().chars().count() > MAX_QUOTE {
        quoted.push('…');
    }
    let quoted: Vec<String> = quoted.lines().map(|line| format!("> {line}").trim_end().to_owned()).collect();
    let DiffStat { additions, deletions, files_changed } = diff;
    let files = if files_changed == 1 { "file" } else { "files" };
    format!(
        "{}\n\n+{additions} −{deletions} in {files_changed} {files}.\n\nMade with patchyard by the agent {}, \
         session {}.",
        quoted.join("\n"),
        view.agent,
        view.id
    )
}
