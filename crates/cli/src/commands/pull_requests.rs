//! `patchyard sessions pr` and `patchyard repositories`: the ways out to a forge, and in from one.

use std::process::ExitCode;

use client::Client;
use protocol::ids::SessionId;
use protocol::pull_request::{CreatePullRequest, PullRequestPhase, PullRequestState, SessionPullRequest};

use crate::args::{Global, PullRequest, Repositories, RepositoriesCommand};
use crate::connection::connect;
use crate::error::Failure;
use crate::output::{in_line, json, line, note};

/// The longest name that is shown.
const NAME: usize = 120;

pub(super) async fn run(client: &Client, session: SessionId, wish: PullRequest) -> Result<ExitCode, Failure> {
    let PullRequest { show, draft, title, body, base, web, json: as_json } = wish;
    let told = if show {
        client.pull_request(session).await?
    } else {
        let wish = CreatePullRequest { title, body, base, draft, compose: web };
        client.create_pull_request(session, &wish).await?
    };
    if as_json {
        json(&told);
    } else {
        print(&told);
    }
    let is_there = told.pull_request.is_some() || told.compose.is_some();
    Ok(if is_there || show { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn print(told: &SessionPullRequest) {
    let SessionPullRequest { pull_request, reason, proposal, compose, stale } = told;
    if let Some(pull) = pull_request {
        line(&in_line(&format!("#{} {}", pull.number, pull.title), NAME));
        line(&format!("state   {}", words(pull)));
        line(&format!("page    {}", in_line(&pull.url, 500)));
    }
    if let Some(page) = compose {
        line(&in_line(page, 8000));
    }
    if let Some(stale) = stale {
        note(&format!("as it was when the forge answered last: {}", in_line(stale, 600)));
    }
    if let (None, Some(proposal)) = (pull_request, proposal) {
        let (from, to) = (&proposal.head, &proposal.base);
        note(&in_line(&format!("no pull request; one would go from {from} to {to}"), 600));
    }
    if let Some(reason) = reason {
        note(&in_line(reason, 600));
    }
}

/// `open; checks: 2 passed, 1 failed (lint)`.
pub(super) fn words(pull: &PullRequestState) -> String {
    let phase = match pull.phase {
        PullRequestPhase::Open => "open",
        PullRequestPhase::Draft => "draft",
        PullRequestPhase::Merged => "merged",
        PullRequestPhase::Closed => "closed",
    };
    let checks = &pull.checks;
    let counts = [(checks.passed, "passed"), (checks.failed, "failed"), (checks.pending, "pending")];
    let counts: Vec<String> = counts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, word)| format!("{count} {word}"))
        .collect();
    let failing =
        if checks.failing.is_empty() { String::new() } else { format!(" ({})", checks.failing.join(", ")) };
    match counts.is_empty() {
        true => format!("{phase}; no checks"),
        false => in_line(&format!("{phase}; checks: {}{failing}", counts.join(", ")), 600),
    }
}

pub(crate) async fn repositories(global: &Global, args: Repositories) -> Result<ExitCode, Failure> {
    let client = connect(global)?;
    match args.command {
        RepositoriesCommand::List { query, json: as_json } => {
            let found = client.forge_repositories(query.as_deref().unwrap_or_default()).await?;
            if as_json {
                json(&found);
                return Ok(ExitCode::SUCCESS);
            }
            found.problems.iter().for_each(|problem| note(&in_line(problem, 600)));
            if found.repositories.is_empty() && found.problems.is_empty() {
                note("no repositories; give the server a token of a forge with `patchyard web-setup`");
            }
            for one in &found.repositories {
                let marks = match (one.private, one.push) {
                    (true, true) => "private",
                    (true, false) => "private, read only",
                    (false, true) => "",
                    (false, false) => "read only",
                };
                line(&in_line(&format!("{:<40} {} {marks}", one.name, one.url), 400));
            }
        }
        RepositoriesCommand::Branches { url, query, json: as_json } => {
            let found = client.forge_branches(&url, query.as_deref().unwrap_or_default()).await?;
            if as_json {
                json(&found);
                return Ok(ExitCode::SUCCESS);
            }
            for one in &found.branches {
                line(&in_line(
                    &format!("{}{}", one.name, if one.protected { "  protected" } else { "" }),
                    400,
                ));
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}
