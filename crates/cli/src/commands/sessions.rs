//! `patchyard sessions …`.

use std::io::{BufRead as _, IsTerminal as _};
use std::process::{Command, ExitCode};

use client::{Client, Followed};
use protocol::api::FileStatus;
use protocol::event::Event;
use protocol::ids::SessionId;
use protocol::network::NetworkScope;
use protocol::view::SessionView;

use super::{checkpoints, copy, network, prompts, pull_requests, shell};
use crate::args::{Global, SessionsCommand};
use crate::connection::connect;
use crate::error::Failure;
use crate::outcome::Outcome;
use crate::output::{from_elsewhere, in_line, json, line, note, raw_note};

/// The most characters of a name, a title or a path, and of a sentence, on a line.
const NAME: usize = 120;
const SENTENCE: usize = 600;

pub(crate) async fn run(global: &Global, command: SessionsCommand) -> Result<ExitCode, Failure> {
    let client = connect(global)?;
    match command {
        SessionsCommand::List { archived, json: as_json } => list(&client, archived, as_json).await?,
        SessionsCommand::Show { session, json: as_json } => show(&client, session, as_json).await?,
        SessionsCommand::Events { session, after, follow, json: as_json } => {
            if follow {
                follow_events(&client, session, after, as_json).await?;
            } else {
                events(&client, session, after, as_json).await?;
            }
        }
        SessionsCommand::Network { session, json: as_json } => {
            network::list(&client, session, as_json).await?
        }
        SessionsCommand::Allow { session, target, once, environment, json: as_json, .. } => {
            let scope = match (once, environment) {
                (true, _) => NetworkScope::Once,
                (_, true) => NetworkScope::Environment,
                _ => NetworkScope::Session,
            };
            network::decide(&client, session, (&target, scope), as_json).await?;
        }
        SessionsCommand::Deny { session, target, json: as_json } => {
            network::decide(&client, session, (&target, NetworkScope::Deny), as_json).await?;
        }
        SessionsCommand::Diff { session, stat, json: as_json } => {
            diff(&client, session, stat, as_json).await?
        }
        SessionsCommand::Checkpoints { session, json: as_json } => {
            checkpoints::list(&client, session, as_json).await?;
        }
        SessionsCommand::Rewind { session, to, files, conversation } => {
            checkpoints::rewind(&client, session, to, (files, conversation)).await?;
        }
        SessionsCommand::Fork { session, at, prompt, json: as_json } => {
            checkpoints::fork(&client, (session, at), prompt, as_json).await?;
        }
        SessionsCommand::Prompt { session, text, when } => {
            prompts::send(&client, session, text, when).await?;
        }
        SessionsCommand::Queue { session, json: as_json } => prompts::list(&client, session, as_json).await?,
        SessionsCommand::EditPrompt { session, prompt, text, when } => {
            prompts::edit(&client, (session, prompt), text, when).await?;
        }
        SessionsCommand::CancelPrompt { session, prompt } => {
            prompts::cancel(&client, session, prompt).await?
        }
        SessionsCommand::Stop { session } => {
            client.stop(session).await?;
            line(&format!("stopping {session}"));
        }
        SessionsCommand::Retry { session } => {
            client.retry(session).await?;
            line(&format!("trying {session} again"));
        }
        SessionsCommand::Answer { session, option } => answer(&client, session, &option).await?,
        SessionsCommand::Archive { session, undo } => {
            client.archive(session, !undo).await?;
            line(&format!("{} {session}", if undo { "brought back" } else { "archived" }));
        }
        SessionsCommand::Delete { session, yes } => return delete(&client, session, yes).await,
        SessionsCommand::Shell { session, list: true, json: as_json, .. } => {
            shell::list(&client, session, as_json).await?;
        }
        SessionsCommand::Shell { session, close: Some(shell), .. } => {
            client.close_shell(session, shell).await?;
            line(&format!("closed {shell}"));
        }
        SessionsCommand::Shell { session, attach, command, .. } => {
            return shell::run(&client, session, attach, command).await;
        }
        SessionsCommand::Cp { from, to } => copy::run(&client, &from, &to).await?,
        SessionsCommand::Pr { session, wish } => return pull_requests::run(&client, session, wish).await,
        SessionsCommand::Pull { session, branch } => pull(&client, session, branch).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(client: &Client, archived: bool, as_json: bool) -> Result<(), Failure> {
    let mut sessions: Vec<SessionView> = Vec::new();
    let mut before = None;
    loop {
        let page = client.sessions(archived, before).await?;
        sessions.extend(page.sessions);
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    if as_json {
        let outcomes: Vec<_> =
            sessions.iter().map(|view| Outcome::of(view, client.session_url(view.id))).collect();
        json(&outcomes);
        return Ok(());
    }
    if sessions.is_empty() {
        note("no sessions; give a task with `patchyard --remote \"…\"`");
    }
    for view in &sessions {
        let counts = format!("+{} −{}", view.diff.additions, view.diff.deletions);
        let repository = in_line(&view.repository.name, NAME);
        line(&format!(
            "{}  {:<10} {counts:<12} {repository:<20} {}",
            view.id,
            view.status.as_str(),
            in_line(&view.title, NAME)
        ));
    }
    Ok(())
}

async fn show(client: &Client, session: SessionId, as_json: bool) -> Result<(), Failure> {
    let view = client.session(session).await?;
    let url = client.session_url(session);
    if as_json {
        json(&Outcome::of(&view, url));
        return Ok(());
    }
    let outcome = Outcome::of(&view, url);
    line(&in_line(&view.title, NAME));
    line(&format!("session  {session}"));
    line(&format!("status   {}", outcome.status));
    if !view.activity.is_empty() {
        line(&format!("doing    {}", in_line(&view.activity, NAME)));
    }
    if let Some(message) = &outcome.message {
        line(&format!("reason   {}", in_line(message, SENTENCE)));
    }
    if let Some(reason) = view.reason.as_ref().filter(|reason| outcome.message.as_ref() != Some(*reason)) {
        line(&format!("sandbox  {}", in_line(reason, SENTENCE)));
    }
    if let Some(question) = &view.question {
        let options: Vec<_> = question.options.iter().map(|option| in_line(&option.id, NAME)).collect();
        line(&format!("asks     {} [{}]", in_line(&question.text, SENTENCE), options.join(", ")));
    }
    if let Some(environment) = &view.environment {
        line(&format!("in       {}", in_line(&environment.name, NAME)));
    }
    line(&format!("branch   {}", view.branch));
    line(&format!("base     {}", view.base));
    line(&format!(
        "change   +{} −{} in {} files",
        outcome.additions, outcome.deletions, outcome.files_changed
    ));
    if let Some(pull) = &view.pull_request {
        line(&in_line(
            &format!("pull     #{} {}, {}", pull.number, pull.url, pull_requests::words(pull)),
            SENTENCE,
        ));
    }
    line(&format!("turns    {}", view.turns));
    line(&format!(
        "tokens   {} in, {} out, {} from cache",
        view.usage.input_tokens, view.usage.output_tokens, view.usage.cache_read_input_tokens
    ));
    line(&format!("page     {}", outcome.url));
    Ok(())
}

async fn events(client: &Client, session: SessionId, after: u64, as_json: bool) -> Result<(), Failure> {
    let mut after = after;
    loop {
        let page = client.events(session, after).await?;
        page.events.iter().for_each(|event| print_event(event, as_json));
        match page.events.last() {
            Some(last) if last.seq < page.last_seq => after = last.seq,
            _ => return Ok(()),
        }
    }
}

async fn follow_events(
    client: &Client,
    session: SessionId,
    after: u64,
    as_json: bool,
) -> Result<(), Failure> {
    let mut follow = client.follow(session, after);
    loop {
        match follow.next().await? {
            Followed::Event(event) => print_event(&event, as_json),
            Followed::Live(_) => {}
            Followed::Gone => return Ok(()),
        }
    }
}

fn print_event(event: &Event, as_json: bool) {
    if as_json {
        json(event);
        return;
    }
    let body = serde_json::to_value(&event.body).unwrap_or_default();
    let short = in_line(&body.get("body").map(ToString::to_string).unwrap_or_default(), 160);
    line(&format!("{:>5}  {}  {:<18} {short}", event.seq, event.at.strftime("%H:%M:%S"), event.body.kind()));
}

async fn diff(client: &Client, session: SessionId, stat: bool, as_json: bool) -> Result<(), Failure> {
    if !stat && !as_json {
        from_elsewhere(&client.patch(session).await?);
        return Ok(());
    }
    let diff = client.diff(session).await?;
    if as_json {
        json(&diff);
        return Ok(());
    }
    for file in &diff.files {
        let letter = match file.status {
            FileStatus::Added => 'A',
            FileStatus::Deleted => 'D',
            FileStatus::Modified => 'M',
            FileStatus::Renamed => 'R',
        };
        line(&format!(
            "{letter}  +{:<5} −{:<5} {}",
            file.additions,
            file.deletions,
            in_line(&file.path, SENTENCE)
        ));
    }
    line(&format!("+{} −{} in {} files", diff.stat.additions, diff.stat.deletions, diff.stat.files_changed));
    Ok(())
}

async fn answer(client: &Client, session: SessionId, option: &str) -> Result<(), Failure> {
    let view = client.session(session).await?;
    let Some(question) = view.question else {
        return Err(Failure::Failed(format!("session {session} asks nothing now")));
    };
    client.answer(session, question.question, option).await?;
    line(&format!("answered {option}"));
    Ok(())
}

async fn delete(client: &Client, session: SessionId, yes: bool) -> Result<ExitCode, Failure> {
    let view = client.session(session).await?;
    if !yes {
        if !std::io::stdin().is_terminal() {
            return Err(Failure::Usage("deleting is final; confirm it with --yes".into()));
        }
        raw_note(&format!(
            "delete \"{}\" for good: its log, its files, its branch on this server? [y/N] ",
            in_line(&view.title, NAME)
        ));
        let mut word = String::new();
        let read = std::io::stdin().lock().read_line(&mut word);
        if read.is_err() || !matches!(word.trim(), "y" | "Y" | "yes") {
            note("nothing was deleted");
            return Ok(ExitCode::from(1));
        }
    }
    client.delete(session).await?;
    line(&format!("deleted {session}"));
    Ok(ExitCode::SUCCESS)
}

/// Fetches the session's branch; the work tree and the checked-out branch stay as they are.
async fn pull(client: &Client, session: SessionId, branch: Option<String>) -> Result<(), Failure> {
    let view = client.session(session).await?;
    let local = branch.unwrap_or_else(|| view.branch.clone());
    let url = format!("{}/git/{session}.git", client.server());
    let refspec = format!("refs/heads/{}:refs/heads/{local}", view.branch);
    let mut git = Command::new("git");
    // One's own server is asked directly: the token is for nobody in between, nor for whom it names.
    git.args(["-c", "http.proxy=", "-c", &format!("http.{}/.proxy=", client.server())])
        .args(["-c", "http.followRedirects=false"])
        .args(["fetch", "--no-tags", &url, &refspec]);
    for name in ["http_proxy", "https_proxy", "all_proxy"] {
        git.env_remove(name).env_remove(name.to_ascii_uppercase());
    }
    if let Some(token) = client.token() {
        // By the environment: an argument would show the token to every process of the machine.
        git.env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", format!("http.{}/.extraHeader", client.server()))
            .env("GIT_CONFIG_VALUE_0", format!("Authorization: Bearer {token}"));
    }
    let output = git.output().map_err(|error| {
        Failure::Failed(format!("git could not be started: {error}; install git 2.37 or newer"))
    })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let last = words.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it gave no reason");
        return Err(Failure::Failed(format!(
            "git fetch failed: {last}; go into the repository that the session began with, or choose a free name with --branch"
        )));
    }
    line(&format!("fetched {local}; see it with `git switch {local}`"));
    Ok(())
}
