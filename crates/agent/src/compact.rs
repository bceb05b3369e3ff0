//! Makes the conversation shorter when it grows too long, or when the person says so.
//!
//! ```text
//!  the window is nearly full · "prompt is too long" ─▶ old results left out, where that gives room
//!        │ else                                              │
//!  /compact [focus] ─▶ PreCompact hooks ─ block ─▶ as it was │
//!        │                                                   ▼
//!        └─ the conversation + one question ─▶ model ─▶ context.compacted ─▶ History
//!               └ too long for the question? results left out of it, then texts cut
//! ```
//!
//! The log keeps everything; only what the model is sent becomes shorter, by an event, so that another
//! process rebuilds the same.

use model_gateway::{Block, Message, ModelError, Request, Response, Role};
use protocol::agent_port::{AgentPort, PortError, TurnEnd, TurnInput};
use protocol::event::{Compaction, CompactionTrigger, EventBody};
use protocol::status::StopReason;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::agent::PatchyardAgent;
use crate::answer::usage_event;
use crate::gate::Moment;
use crate::history::LEFT_OUT;
use crate::hooks::Event;
use crate::live::Live;
use crate::slash::COMPACT;
use crate::turn::{append, failure};

/// What fits into a model, where nobody says otherwise.
const WINDOW: u64 = 200_000;

/// The share of the window that may be full, in hundredths.
const FULL: u64 = 90;

/// Tokens of results that are never left out, the newest.
const RECENT: u64 = 40_000;

/// Tokens that must be gained for results to be left out.
const WORTH: u64 = 20_000;

/// Messages below which there is nothing to sum up.
const FEWEST: usize = 3;

/// Results that stay in a question that is itself too long.
const RECENT_RESULTS: usize = 6;

/// Characters of one text when texts are cut.
const SHORT: usize = 2_000;

const QUESTION: &str = "The conversation has grown long and is about to be replaced by your summary of it. Do not \
    call a tool and do not go on with the task now; answer with text only. Write down everything that whoever goes \
    on needs, for they will see little else: what the person asked for and how that changed; what was decided and \
    why; which files were read, changed or made, with paths, and what is in them that matters; commands that work \
    here; errors and how they were mended; what is done, what is not, and what comes next. Put it between \
    <summary> and </summary>.";

/// What came of it.
pub(crate) enum Compacted {
    /// The conversation is shorter.
    Done,
    /// It is as it was, and why.
    Not(TurnEnd),
}

/// When a conversation becomes shorter without being asked to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Threshold {
    /// Tokens that fit into the model.
    pub(crate) window: u64,
    /// Tokens at which it is time; never without.
    pub(crate) limit: Option<u64>,
}

impl Threshold {
    /// Out of the variables of the product's documentation.
    pub(crate) fn of(variables: &[(String, String)]) -> Self {
        let value =
            |name: &str| variables.iter().find(|(other, _)| other == name).map(|(_, value)| value.trim());
        let on = |name| value(name).is_some_and(|value| !matches!(value, "" | "0" | "false"));
        let number = |name| value(name).and_then(|value| value.parse::<u64>().ok());
        let window = number("CLAUDE_CODE_AUTO_COMPACT_WINDOW")
            .map_or(WINDOW, |window| window.clamp(100_000, 1_000_000));
        // It can only lower.
        let full = number("CLAUDE_AUTOCOMPACT_PCT_OVERRIDE").map_or(FULL, |full| full.clamp(1, FULL));
        let off = on("DISABLE_AUTO_COMPACT") || on("DISABLE_COMPACT");
        Self { window, limit: (!off).then_some(window / 100 * full) }
    }

    /// Whether a conversation of so many tokens is too long.
    pub(crate) fn is_reached(self, tokens: u64) -> bool {
        self.limit.is_some_and(|limit| tokens > limit)
    }
}

/// What a compaction works with.
#[derive(Clone, Copy)]
pub(crate) struct With<'a> {
    pub(crate) input: &'a TurnInput,
    pub(crate) port: &'a dyn AgentPort,
    pub(crate) stop: &'a CancellationToken,
}

/// Makes room in the middle of a turn: by leaving out results where that is enough, else by a summary.
pub(crate) async fn make_room(
    agent: &mut PatchyardAgent,
    with: With<'_>,
    messages: &mut u32,
) -> Result<Compacted, PortError> {
    let tokens_before = agent.history.size();
    let (left_out, gain) = agent.history.old_results(RECENT);
    if gain >= WORTH {
        let trigger = CompactionTrigger::Auto;
        let compaction = Compaction { trigger, summary: None, left_out, tokens_before };
        append(agent, with.port, vec![EventBody::ContextCompacted(compaction)]).await?;
        return Ok(Compacted::Done);
    }
    sum_up(agent, (CompactionTrigger::Auto, None), with, messages).await
}

/// Begins the conversation anew with a summary of it.
pub(crate) async fn sum_up(
    agent: &mut PatchyardAgent,
    (trigger, focus): (CompactionTrigger, Option<&str>),
    with: With<'_>,
    messages: &mut u32,
) -> Result<Compacted, PortError> {
    let said = |message: String| TurnEnd { message: Some(message), ..TurnEnd::completed() };
    let conversation = match trigger {
        CompactionTrigger::Manual => agent.history.without_command(COMPACT),
        CompactionTrigger::Auto => agent.history.messages().to_vec(),
    };
    if conversation.len() < FEWEST {
        return Ok(Compacted::Not(said("There is not enough in this conversation to sum up yet.".into())));
    }
    let more = json!({ "trigger": trigger.as_str(), "custom_instructions": focus });
    let before = hooks(agent, (Event::PreCompact, trigger.as_str()), more, with).await?;
    if let Some(reason) = before.block.or(before.stop) {
        let message = format!("A PreCompact hook kept the conversation as it is: {reason}");
        return Ok(Compacted::Not(said(message)));
    }
    let tokens_before = agent.history.size();
    let response = match ask(agent, (&conversation, focus), with, messages).await? {
        Ok(response) => response,
        Err(end) => return Ok(Compacted::Not(end)),
    };
    let Some(summary) = summary_of(&response) else {
        append(agent, with.port, vec![usage_event(&response)]).await?;
        return Ok(Compacted::Not(TurnEnd::failed(
            StopReason::ModelError,
            "The model was asked to sum the conversation up and gave no summary; try /compact again.",
        )));
    };
    let start = hooks(agent, (Event::SessionStart, "compact"), json!({ "source": "compact" }), with).await?;
    let more = json!({ "trigger": trigger.as_str(), "compact_summary": summary });
    let command = (trigger == CompactionTrigger::Manual).then_some(COMPACT);
    let recap = agent.history.recap.text(command, &agent.bench.tasks.lines());
    let text = text(&summary, &recap, &start.context);
    let compaction = Compaction { trigger, summary: Some(text), left_out: Vec::new(), tokens_before };
    append(agent, with.port, vec![usage_event(&response), EventBody::ContextCompacted(compaction)]).await?;
    hooks(agent, (Event::PostCompact, trigger.as_str()), more, with).await?;
    Ok(Compacted::Done)
}

async fn hooks(
    agent: &PatchyardAgent,
    (event, subject): (Event, &str),
    more: Value,
    with: With<'_>,
) -> Result<crate::hooks::Said, PortError> {
    let With { input, port, stop } = with;
    let moment = Moment { bench: &agent.bench, port, stop, prompt: input.prompt, resumed: false };
    agent.gate.hooks(event, subject, more, moment).await
}

/// Asks for the summary, with a shorter conversation as long as the model says that it is too long.
async fn ask(
    agent: &PatchyardAgent,
    (conversation, focus): (&[Message], Option<&str>),
    with: With<'_>,
    messages: &mut u32,
) -> Result<Result<Response, TurnEnd>, PortError> {
    let mut shortened = 0;
    loop {
        let asked = question(conversation, shortened, focus);
        let request = Request { system: &agent.system, tools: &agent.tools, messages: &asked };
        let mut live = Live::begin(with.port, with.input.turn, messages);
        let answer = agent.config.model_now().stream(request, &mut live, with.stop).await;
        live.discard();
        live.end()?;
        match answer {
            Ok(response) => return Ok(Ok(response)),
            Err(ModelError::PromptTooLong { .. }) if shortened < 2 => shortened += 1,
            Err(ModelError::Stopped { .. }) => return Ok(Err(TurnEnd::interrupted())),
            Err(error) => return Ok(Err(failure(&error))),
        }
    }
}

/// What the model reads from now on in place of the conversation.
fn text(summary: &str, recap: &str, context: &[String]) -> String {
    let said: String = context.iter().map(|text| format!("\n\nSessionStart hook says: {text}")).collect();
    format!(
        "<system-reminder>\nThe conversation so far was summed up to make room. What follows is all that is left of \
         it. Go on with the task right where it stood, without asking again what it answers.\n\n\
         {summary}{recap}{said}\n</system-reminder>"
    )
}

/// The conversation with the question at its end; shortened once, old results are left out, twice, long
/// texts are cut too.
fn question(messages: &[Message], shortened: u32, focus: Option<&str>) -> Vec<Message> {
    let mut all = messages.to_vec();
    if shortened > 0 {
        let blocks = all.iter_mut().rev().flat_map(|message| message.content.iter_mut().rev());
        for block in blocks.filter(|block| block["type"] == "tool_result").skip(RECENT_RESULTS) {
            block["content"] = LEFT_OUT.into();
        }
    }
    if shortened > 1 {
        all.iter_mut().flat_map(|message| &mut message.content).for_each(cut);
    }
    let mut text = QUESTION.to_owned();
    if let Some(focus) = focus {
        text.push_str("\n\nThe person wants this kept above all: ");
        text.push_str(focus);
    }
    let block = json!({ "type": "text", "text": text });
    match all.last_mut() {
        Some(last) if last.role == Role::User => last.content.push(block),
        _ => all.push(Message { role: Role::User, content: vec![block] }),
    }
    all
}

/// Cuts what a block says; thoughts go back as they came.
fn cut(block: &mut Value) {
    let field = match block["type"].as_str() {
        Some("text") => "text",
        Some("tool_result") => "content",
        _ => return,
    };
    if let Some(text) = block[field].as_str() {
        block[field] = crate::stream_text::capped(text, SHORT, "").text.into();
    }
}

/// What stands between the marks; without them all that was said.
fn summary_of(response: &Response) -> Option<String> {
    let texts = response.blocks.iter().filter_map(|block| match block {
        Block::Text { text, .. } => Some(text.as_str()),
        _ => None,
    });
    let said = texts.collect::<Vec<_>>().join("\n\n");
    let inside = said.split_once("<summary>").map_or(said.as_str(), |(_, rest)| rest);
    let inside = inside.rsplit_once("</summary>").map_or(inside, |(inside, _)| inside).trim();
    (!inside.is_empty()).then(|| inside.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 12: the variables, which can only lower.
    #[test]
    fn variables_say_when_it_is_time() {
        let of = |pairs: &[(&str, &str)]| {
            let pairs: Vec<(String, String)> =
                pairs.iter().map(|(n, v)| ((*n).into(), (*v).into())).collect();
            Threshold::of(&pairs).limit
        };
        assert_eq!(of(&[]), Some(180_000));
        assert_eq!(of(&[("CLAUDE_AUTOCOMPACT_PCT_OVERRIDE", "50")]), Some(100_000));
        assert_eq!(of(&[("CLAUDE_AUTOCOMPACT_PCT_OVERRIDE", "99")]), Some(180_000));
        assert_eq!(of(&[("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "1000000")]), Some(900_000));
        assert_eq!(of(&[("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "5")]), Some(90_000));
        assert_eq!(of(&[("CLAUDE_CODE_AUTO_COMPACT_WINDOW", "many")]), Some(180_000));
        assert_eq!(of(&[("DISABLE_AUTO_COMPACT", "1")]), None);
        assert_eq!(of(&[("DISABLE_COMPACT", "0")]), Some(180_000));
    }

    /// The same conversation, ever shorter, ends in the question and keeps calls and results in pairs.
    #[test]
    fn a_question_that_is_too_long_is_asked_with_less() {
        let block = |text: &str| json!({ "type": "text", "text": text });
        let result = |id: usize| json!({ "type": "tool_result", "tool_use_id": id.to_string(), "content": "x".repeat(9_000) });
        let messages = vec![
            Message { role: Role::User, content: vec![block(&"y".repeat(9_000))] },
            Message {
                role: Role::Assistant,
                content: (0..8).map(|id| json!({ "type": "tool_use", "id": id.to_string() })).collect(),
            },
            Message { role: Role::User, content: (0..8).map(result).collect() },
        ];
        let sizes: Vec<usize> = (0..3)
            .map(|shortened| {
                let asked = question(&messages, shortened, Some("the tests"));
                let last = &asked[2].content;
                assert_eq!((asked.len(), last.len()), (3, 9));
                assert!(last[8]["text"].as_str().unwrap().ends_with("above all: the tests"));
                asked.iter().flat_map(|message| &message.content).map(|block| block.to_string().len()).sum()
            })
            .collect();
        assert!(sizes[0] > sizes[1] + 17_000 && sizes[1] > sizes[2] + 40_000, "{sizes:?}");
    }
}
