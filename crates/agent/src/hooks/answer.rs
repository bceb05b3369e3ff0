//! What a hook says, and what several say together.
//!
//! | exit code | standard output | means |
//! |---|---|---|
//! | 0 | `{…}` | the JSON's own words |
//! | 0 | text | context, for the events that take some |
//! | 2 | whatever | no; the reason is the JSON's, else standard error |
//! | other | `{…}` | the JSON's own words, and a notice |
//! | other | text | a notice; nothing is decided |

use serde_json::Value;

use super::config::{Event, Handler};
use super::run::Ran;

/// The longest text of a hook that is passed on.
const MAX_TEXT: usize = 10_000;

/// What a hook wants to become of a use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Decision {
    Allow,
    Ask,
    Deny,
}

/// What all hooks of a moment say together.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Said {
    /// The strongest decision, and why.
    pub(crate) decision: Option<(Decision, String)>,
    /// Why the moment is not to pass: a block of a prompt, a result, an end.
    pub(crate) block: Option<String>,
    /// Why everything is to end.
    pub(crate) stop: Option<String>,
    /// For the model.
    pub(crate) context: Vec<String>,
    /// A use's input in place of the model's.
    pub(crate) input: Option<Value>,
    /// For the person.
    pub(crate) messages: Vec<String>,
    /// Hooks that did not do as they should, for the person.
    pub(crate) failures: Vec<String>,
}

impl Said {
    /// Takes in what one hook did.
    pub(crate) fn join(&mut self, event: Event, handler: &Handler, ran: &Ran) {
        let name = shown(&handler.command);
        let (code, output, complaint) = match ran {
            Ran::Ended { code, output, complaint } => (*code, output.trim(), complaint.trim()),
            Ran::TimedOut => {
                let seconds = handler.timeout.as_secs_f64();
                self.failures.push(format!(
                    "the {} hook `{name}` took longer than {seconds} s and was stopped",
                    event.name()
                ));
                return;
            }
            Ran::Failed(why) => {
                self.failures.push(format!("the {} hook `{name}` could not run: {why}", event.name()));
                return;
            }
        };
        let json = output.starts_with('{').then(|| serde_json::from_str::<Value>(output).ok()).flatten();
        match &json {
            Some(json) => self.json(event, json, &name),
            None if code == 0 && takes_text(event) && !output.is_empty() => self.context.push(capped(output)),
            None => {}
        }
        match code {
            0 => {}
            2 => {
                let reason = json.as_ref().and_then(reason_of).map(capped);
                let reason = reason.unwrap_or_else(|| match complaint {
                    "" => format!("[{name}]: no reason given"),
                    complaint => format!("[{name}]: {}", capped(complaint)),
                });
                self.refuse(event, reason);
            }
            code => {
                let why = complaint.lines().next().unwrap_or_default();
                self.failures.push(format!(
                    "the {} hook `{name}` ended with {code}: {}",
                    event.name(),
                    shown(why)
                ));
            }
        }
    }

    /// The exit code 2.
    fn refuse(&mut self, event: Event, reason: String) {
        match event {
            Event::PreToolUse => self.decide(Decision::Deny, reason),
            Event::SessionStart => self.failures.push(format!("a SessionStart hook: {reason}")),
            // Its exit code is not heeded.
            Event::PermissionRequest | Event::SubagentStart | Event::PostCompact | Event::SessionEnd => {}
            Event::UserPromptSubmit
            | Event::PostToolUse
            | Event::PostToolUseFailure
            | Event::Stop
            | Event::SubagentStop
            | Event::PreCompact => {
                self.block.get_or_insert(reason);
            }
        }
    }

    fn json(&mut self, event: Event, json: &Value, name: &str) {
        if let Some(message) = json["systemMessage"].as_str() {
            self.messages.push(format!("{} says: {}", event.name(), capped(message)));
        }
        if json["continue"] == false {
            let reason =
                json["stopReason"].as_str().map_or_else(|| format!("the hook `{name}` said so"), capped);
            self.stop.get_or_insert(reason);
        }
        let special = &json["hookSpecificOutput"];
        let special = if special["hookEventName"] == event.name() { special } else { &Value::Null };
        let context = special["additionalContext"].as_str().or(json["additionalContext"].as_str());
        self.context.extend(context.filter(|text| !text.trim().is_empty()).map(capped));
        let reason = || reason_of(json).map_or_else(|| format!("[{name}]: no reason given"), capped);
        match event {
            Event::PreToolUse => {
                let decision = special["permissionDecision"].as_str().or(json["decision"].as_str());
                match decision {
                    Some("deny" | "block") => self.decide(Decision::Deny, reason()),
                    // Waiting for a process to come back is what a question does here.
                    Some("ask" | "defer") => self.decide(Decision::Ask, reason()),
                    Some("allow" | "approve") => self.decide(Decision::Allow, reason()),
                    _ => {}
                }
                if special["updatedInput"].is_object() {
                    self.input = Some(special["updatedInput"].clone());
                }
            }
            Event::PermissionRequest => {
                let decision = &special["decision"];
                match decision["behavior"].as_str() {
                    Some("deny") => {
                        let message = decision["message"].as_str().map_or_else(reason, capped);
                        self.decide(Decision::Deny, message);
                    }
                    Some("allow") => self.decide(Decision::Allow, String::new()),
                    _ => {}
                }
                if decision["updatedInput"].is_object() {
                    self.input = Some(decision["updatedInput"].clone());
                }
            }
            Event::UserPromptSubmit
            | Event::PostToolUse
            | Event::PostToolUseFailure
            | Event::Stop
            | Event::SubagentStop
            | Event::PreCompact => {
                if json["decision"] == "block" {
                    let reason = reason();
                    self.block.get_or_insert(reason);
                }
            }
            Event::SessionStart | Event::SubagentStart | Event::PostCompact | Event::SessionEnd => {}
        }
    }

    fn decide(&mut self, decision: Decision, reason: String) {
        if self.decision.as_ref().is_none_or(|(other, _)| *other < decision) {
            self.decision = Some((decision, reason));
        }
    }
}

/// What a `SessionStart` hook says to the model, and to the person.
#[must_use]
pub fn at_start(handler: &Handler, ran: &Ran) -> (Vec<String>, Vec<String>) {
    let mut said = Said::default();
    said.join(Event::SessionStart, handler, ran);
    (said.context, said.messages)
}

/// Events whose plain text is for the model.
fn takes_text(event: Event) -> bool {
    matches!(event, Event::SessionStart | Event::UserPromptSubmit)
}

fn reason_of(json: &Value) -> Option<&str> {
    let special = &json["hookSpecificOutput"];
    let given = [&special["permissionDecisionReason"], &json["reason"], &json["stopReason"]];
    given.into_iter().find_map(|reason| reason.as_str().filter(|reason| !reason.trim().is_empty()))
}

fn capped(text: &str) -> String {
    let text = crate::stream_text::plain(text);
    crate::stream_text::capped(text.trim(), MAX_TEXT, "").text
}

/// The beginning of a command, for people.
fn shown(command: &str) -> String {
    let line = command.lines().next().unwrap_or_default();
    line.chars().filter(|character| !character.is_control()).take(80).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(event: Event, outcomes: &[(i32, &str, &str)]) -> Said {
        let mut hooks = super::super::Hooks::default();
        let value = json!({ event.name(): [{ "hooks": [{ "type": "command", "command": "check it" }] }] });
        assert_eq!(super::super::read(&value, "s", false, &mut hooks), Vec::<String>::new());
        let handler = hooks.of(event, "Bash")[0];
        let mut said = Said::default();
        for (code, output, complaint) in outcomes {
            let ran = Ran::Ended { code: *code, output: (*output).into(), complaint: (*complaint).into() };
            said.join(event, handler, &ran);
        }
        said
    }

    /// Section 4.4: exit 2 blocks, exit 1 does not, JSON counts on every code.
    #[test]
    fn only_the_exit_code_two_and_json_decide() {
        let denied = |reason: &str| Some((Decision::Deny, reason.to_owned()));
        assert_eq!(said(Event::PreToolUse, &[(2, "", "not so\n")]).decision, denied("[check it]: not so"));
        assert_eq!(said(Event::PreToolUse, &[(2, "", "")]).decision, denied("[check it]: no reason given"));
        let one = said(Event::PreToolUse, &[(1, "", "broken")]);
        assert_eq!((one.decision, one.failures.len()), (None, 1));
        let json = r#"{"hookSpecificOutput":{"hookEventName":"PreToolUse","permissionDecision":"deny","permissionDecisionReason":"why"}}"#;
        for code in [0, 1, 2] {
            assert_eq!(said(Event::PreToolUse, &[(code, json, "")]).decision, denied("why"), "{code}");
        }
        assert_eq!(
            said(Event::PreToolUse, &[(0, r#"{"decision":"block","reason":"old"}"#, "")]).decision,
            denied("old")
        );
        assert_eq!(said(Event::PreToolUse, &[(0, "{broken", "")]), Said::default());
        let allow = json.replace("deny", "allow");
        assert_eq!(
            said(Event::PreToolUse, &[(2, &allow, "")]).decision,
            denied("why"),
            "over JSON that allows"
        );
        assert_eq!(said(Event::PostToolUse, &[(2, "", "bad")]).block.unwrap(), "[check it]: bad");
        assert_eq!(
            said(Event::Stop, &[(0, r#"{"decision":"block","reason":"go on"}"#, "")]).block.unwrap(),
            "go on"
        );
        assert_eq!(said(Event::PermissionRequest, &[(2, "", "x")]), Said::default());
    }

    /// Section 4.4: deny > ask > allow.
    #[test]
    fn the_strongest_decision_of_several_counts() {
        let answer = |decision: &str| {
            format!(
                r#"{{"hookSpecificOutput":{{"hookEventName":"PreToolUse","permissionDecision":"{decision}","permissionDecisionReason":"{decision}"}}}}"#
            )
        };
        let (allow, ask, deny) = (answer("allow"), answer("ask"), answer("deny"));
        let decided = |answers: &[&str]| {
            let outcomes: Vec<(i32, &str, &str)> = answers.iter().map(|answer| (0, *answer, "")).collect();
            said(Event::PreToolUse, &outcomes).decision.unwrap().1
        };
        assert_eq!(decided(&[&allow, &deny, &ask]), "deny");
        assert_eq!(decided(&[&ask, &allow]), "ask");
        assert_eq!(decided(&[&allow]), "allow");
        assert_eq!(decided(&[&answer("defer")]), "defer");
    }

    #[test]
    fn text_is_context_where_it_may_be_and_the_rest_is_passed_on() {
        assert_eq!(said(Event::UserPromptSubmit, &[(0, "know this\n", "")]).context, ["know this"]);
        assert_eq!(said(Event::PreToolUse, &[(0, "know this", "")]), Said::default());
        let all = json!({ "continue": false, "stopReason": "enough", "systemMessage": "look",
            "hookSpecificOutput": { "hookEventName": "PreToolUse", "additionalContext": "more", "updatedInput": { "a": 1 } } });
        let said_all = said(Event::PreToolUse, &[(0, &all.to_string(), "")]);
        assert_eq!(said_all.stop.as_deref(), Some("enough"));
        assert_eq!(said_all.messages, ["PreToolUse says: look"]);
        assert_eq!((said_all.context, said_all.input), (vec!["more".to_owned()], Some(json!({ "a": 1 }))));
        let other = all.to_string().replace("PreToolUse", "Stop");
        assert_eq!(said(Event::PreToolUse, &[(0, &other, "")]).input, None, "meant for another event");
        let long = "x".repeat(50_000);
        assert!(said(Event::UserPromptSubmit, &[(0, &long, "")]).context[0].len() < 11_000);
        let escapes = said(Event::UserPromptSubmit, &[(0, "\u{1b}[31mred\u{1b}[0m\u{7}", "")]);
        assert_eq!(escapes.context, ["red"]);
    }
}
