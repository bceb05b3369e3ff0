//! What has to hold of every life, and in what an interrupted one must not differ from a whole one.

use std::collections::BTreeSet;

use protocol::event::{Event, EventBody};
use protocol::git::{PushOutcome, PushedBy};
use protocol::pull_request::PullRequestOutcome;
use protocol::status::{SessionStatus, TurnStatus};

use super::life::{Lived, MENDED, PROMPTS, UNKNOWN};
use crate::world::faults_of_log;

/// Everything that is wrong, a sentence each.
pub(super) fn differences(whole: &Lived, lived: &Lived) -> Vec<String> {
    let mut wrong = faults_of_log(&lived.events, &lived.served);
    wrong.extend(lived.wrong.iter().cloned());
    let mut same = |what: &str, is: String, wanted: String| {
        if is != wanted {
            let cut = |text: &str| text.chars().take(2000).collect::<String>();
            wrong.push(format!("{what}: {}, not {}", cut(&is), cut(&wanted)));
        }
    };
    same("prompts", format!("{:?}", prompts(&lived.events)), format!("{PROMPTS:?}"));
    same("turns", format!("{:?}", turns(&lived.events)), format!("{:?}", turns(&whole.events)));
    let (calls, mended) = calls(&lived.events);
    same("calls", format!("{calls:?}"), format!("{:?}", self::calls(&whole.events).0));
    same("files at the forge", format!("{:?}", lived.files), format!("{:?}", whole.files));
    same("pull requests", lived.pulls.len().to_string(), "1".into());
    same("requests to open one", lived.opened.to_string(), "1".into());
    same("the wish for it", format!("{:?}", wishes(&lived.events)), format!("{:?}", wishes(&whole.events)));
    if mended {
        same("requests", lived.view.usage.requests.to_string(), (whole.view.usage.requests + 1).to_string());
    } else {
        same("what was used", format!("{:?}", lived.view.usage), format!("{:?}", whole.view.usage));
    }
    same("status", format!("{:?}", lived.view.status), format!("{:?}", SessionStatus::Suspended));
    let commit = lived.view.checkpoint.as_ref().map(|checkpoint| checkpoint.commit.clone());
    same("the branch at the forge", format!("{:?}", Some(&lived.tip)), format!("{:?}", commit.as_ref()));
    same("what was pushed", format!("{:?}", lived.view.pushed), format!("{commit:?}"));
    let head = lived.pulls.first().and_then(|pull| pull["head"]["sha"].as_str()).map(str::to_owned);
    same("the pull request's commit", format!("{head:?}"), format!("{commit:?}"));
    let distinct: BTreeSet<&String> = lived.pushed.iter().collect();
    same("pushes that went back", (lived.pushed.len() - distinct.len()).to_string(), "0".into());
    same("pushes", lived.pushed.len().to_string(), whole.pushed.len().to_string());
    same("pushes without an end", open_pushes(&lived.events).to_string(), "0".into());
    // At each of two deaths one answer may have been on its way.
    if lived.asked > whole.asked + 2 + usize::from(mended) {
        wrong.push(format!("the model was asked {} times, not {}", lived.asked, whole.asked));
    }
    wrong
}

fn prompts(events: &[Event]) -> Vec<&str> {
    let texts = events.iter().filter_map(|event| match &event.body {
        EventBody::PromptQueued { text, .. } => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// How the turns ended, and how many began.
fn turns(events: &[Event]) -> (usize, Vec<TurnStatus>) {
    let begun = events.iter().filter(|event| matches!(event.body, EventBody::TurnStarted { .. })).count();
    let ends = events.iter().filter_map(|event| match &event.body {
        EventBody::TurnEnded(ended) => Some(ended.status),
        _ => None,
    });
    (begun, ends.collect())
}

/// The calls, and what came of them; and whether a change of which nobody knew was made again, which is left out.
fn calls(events: &[Event]) -> (Vec<String>, bool) {
    let mut calls = Vec::new();
    let mut mended = None;
    for event in events {
        match &event.body {
            EventBody::ToolCall(call) if call.input["command"] == MENDED => mended = Some(call.call.clone()),
            EventBody::ToolCall(call) => calls.push(format!("{} {}", call.name, call.input)),
            EventBody::ToolResult(result) if mended.as_ref() == Some(&result.call) => {}
            EventBody::ToolResult(result)
                if result.content.starts_with(UNKNOWN) || result.content.contains("written.txt") =>
            {
                calls.push("written, or not".into());
            }
            EventBody::ToolResult(result) => calls.push(format!("{} {}", result.is_error, result.content)),
            _ => {}
        }
    }
    (calls, mended.is_some())
}

/// How the wishes for a pull request went, and how many there were.
fn wishes(events: &[Event]) -> (usize, Vec<PullRequestOutcome>) {
    let of = |event: &Event| match &event.body {
        EventBody::PullRequestCreate(create) => Some((create.effect.clone(), create.outcome)),
        _ => None,
    };
    let all: Vec<(String, PullRequestOutcome)> = events.iter().filter_map(of).collect();
    let effects: BTreeSet<&String> = all.iter().map(|(effect, _)| effect).collect();
    (effects.len(), all.iter().map(|(_, outcome)| *outcome).collect())
}

/// Pushes of the server that were planned last and are not known to have ended.
fn open_pushes(events: &[Event]) -> usize {
    let of = |event: &Event| match &event.body {
        EventBody::GitPush(push) if push.by == PushedBy::Server => Some(push.outcome),
        _ => None,
    };
    events.iter().filter_map(of).fold(0, |open, outcome| match outcome {
        PushOutcome::Planned => open + 1,
        _ => 0,
    })
}
