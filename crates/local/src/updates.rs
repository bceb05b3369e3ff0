//! Changes of permissions, as drivers write them.
//!
//! | `type` | |
//! |---|---|
//! | `addRules`, `replaceRules`, `removeRules` | `rules[{toolName, ruleContent}]`, `behavior` |
//! | `setMode` | `mode` |
//! | `addDirectories`, `removeDirectories` | `directories[]` |
//!
//! They hold for this session, whatever their `destination`: files of settings are the person's to write.

use agent::Steering;
use policy::permissions::{Effect, Mode};
use protocol::agent_port::UseQuestion;
use serde_json::{Value, json};

/// Makes a change; one that is not understood changes nothing.
pub(crate) fn apply(steering: &Steering, update: &Value) {
    let texts = |field: &str| {
        let all = update[field].as_array().into_iter().flatten();
        all.filter_map(|one| one.as_str().map(str::to_owned)).collect::<Vec<_>>()
    };
    match update["type"].as_str() {
        Some(kind @ ("addRules" | "replaceRules" | "removeRules")) => {
            let (Some(effect), rules) = (effect(update), rules(update)) else { return };
            steering.change_rules(effect, |known| match kind {
                "addRules" => known.extend(rules),
                "replaceRules" => *known = rules,
                _ => known.retain(|rule| !rules.contains(rule)),
            });
        }
        // Without questions at all is for whoever started the run to say.
        Some("setMode") => {
            let mode = update["mode"].as_str().and_then(Mode::parse);
            mode.filter(|mode| *mode != Mode::BypassPermissions)
                .into_iter()
                .for_each(|mode| steering.set_mode(mode));
        }
        Some("addDirectories") => {
            texts("directories").into_iter().for_each(|folder| steering.add_folder(folder));
        }
        Some("removeDirectories") => {
            texts("directories").iter().for_each(|folder| steering.remove_folder(folder));
        }
        _ => {}
    }
}

fn effect(update: &Value) -> Option<Effect> {
    match update["behavior"].as_str()? {
        "allow" => Some(Effect::Allow),
        "deny" => Some(Effect::Deny),
        "ask" => Some(Effect::Ask),
        _ => None,
    }
}

fn rules(update: &Value) -> Vec<String> {
    let rule = |rule: &Value| {
        let tool = rule["toolName"].as_str()?;
        Some(match rule["ruleContent"].as_str() {
            Some(content) => format!("{tool}({content})"),
            None => tool.to_owned(),
        })
    };
    update["rules"].as_array().into_iter().flatten().filter_map(rule).collect()
}

/// What could be allowed so that the same is not asked again.
pub(crate) fn suggestions(question: &UseQuestion) -> Value {
    let rule = match question.tool.as_str() {
        "Bash" => json!({ "toolName": "Bash", "ruleContent": question.input["command"] }),
        "Edit" | "Write" | "NotebookEdit" => {
            return json!([{ "type": "setMode", "mode": "acceptEdits", "destination": "session" }]);
        }
        tool => json!({ "toolName": tool }),
    };
    json!([{ "type": "addRules", "rules": [rule], "behavior": "allow", "destination": "session" }])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Section 9.3, "Permission updates".
    #[test]
    fn what_is_not_understood_changes_nothing() {
        let steering = Steering::default();
        for update in [
            json!({}),
            json!({ "type": "setMode", "mode": "bypassPermissions" }),
            json!({ "type": "setMode", "mode": "nonsense" }),
            json!({ "type": "addRules", "behavior": "perhaps", "rules": [{ "toolName": "Bash" }] }),
        ] {
            apply(&steering, &update);
            assert_eq!(steering.mode(), None, "{update}");
        }
        apply(&steering, &json!({ "type": "setMode", "mode": "acceptEdits" }));
        assert_eq!(steering.mode(), Some(Mode::AcceptEdits));
        let all =
            json!({ "rules": [{ "toolName": "Bash", "ruleContent": "ls" }, { "toolName": "Read" }, {}] });
        assert_eq!(rules(&all), ["Bash(ls)", "Read"]);
    }
}
