//! Texts of commands, and what they would run.
//!
//! ```text
//!   input:  before '\n' after
//! ```
//!
//! Any text is read to its end. A denied command that stands on a line of its own behind a text that is
//! understood is found; so is one that a shell is given as a text.

use policy::permissions::{Mode, Permissions, Places, RuleSource, Runs, Script, ToolUse, Verdict};

/// Takes one input; panics over a finding.
pub(crate) fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let script = Script::parse(text);
    let runs = Runs::of(&script);
    for form in &runs.forms {
        assert!(!form.words.is_empty(), "a command without words");
    }
    // In a shell's eyes a NUL ends the text.
    if text.contains('\0') {
        return;
    }
    if script.unclear.is_none() {
        let verdict = decide(&format!("{text}\nrm x"));
        assert!(matches!(verdict, Verdict::Deny(_)), "behind {text:?}");
    }
    if !text.contains('\'') {
        let quoted = Script::parse(&format!("sh -c '{text}'"));
        assert_eq!((quoted.commands.len(), quoted.unclear), (1, None), "quoted {text:?}");
        let inside = Runs::of(&quoted);
        assert!(runs.unclear.is_none() || inside.unclear.is_some(), "within a shell {text:?}");
        assert!(inside.forms.len() >= runs.forms.len(), "within a shell {text:?}");
    }
}

fn decide(command: &str) -> Verdict {
    let deny = vec!["Bash(rm *)".to_owned()];
    let source = RuleSource { name: "s".into(), base: "/w".into(), deny, ask: Vec::new(), allow: Vec::new() };
    let places = Places { home: "/root".into(), workspace: "/w".into(), additional: Vec::new() };
    let (permissions, _) = Permissions::compile(&[source], Mode::BypassPermissions, &places);
    let input = serde_json::json!({ "command": command });
    let cwd = std::path::Path::new("/w");
    permissions.decide(&ToolUse { tool: "Bash", input: &input, cwd, paths: &[], read_only: false })
}
