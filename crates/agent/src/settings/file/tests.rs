//! What files say together: section 2 and 3 of the specification.

use policy::permissions::{ToolUse, Verdict};
use serde_json::json;

use super::*;

fn file(scope: Scope, value: &Value) -> SettingsFile {
    let name = match scope {
        Scope::Managed => "managed-settings.json",
        Scope::Local => ".claude/settings.local.json",
        Scope::Project => ".claude/settings.json",
        Scope::CommandLine => "--settings",
        Scope::User => "~/.claude/settings.json",
    };
    SettingsFile { name: name.into(), scope, bytes: value.to_string().into_bytes() }
}

fn read(files: &[(Scope, Value)]) -> (Settings, Vec<String>) {
    let files: Vec<SettingsFile> = files.iter().map(|(scope, value)| file(*scope, value)).collect();
    Settings::read(&files).unwrap()
}

fn decide(settings: &Settings, command: &str) -> Verdict {
    let (permissions, _) = settings.permissions("/w", "/root", &[]);
    let input = json!({ "command": command });
    let cwd = std::path::Path::new("/w");
    permissions.decide(&ToolUse { tool: "Bash", input: &input, cwd, paths: &[], read_only: false })
}

/// Section 2, "Precedence": lists join, of single values the strongest counts.
#[test]
fn files_join_and_the_strongest_value_counts() {
    let (settings, remarks) = read(&[
        (
            Scope::Project,
            json!({ "env": { "A": "project", "B": "project", "T": 5 },
            "permissions": { "deny": ["Bash(rm *)"], "defaultMode": "plan" } }),
        ),
        (
            Scope::Managed,
            json!({ "env": { "C": "managed" }, "permissions": { "deny": ["Bash(curl *)"],
            "defaultMode": "bypassPermissions" } }),
        ),
        (Scope::Local, json!({ "env": { "A": "local" }, "permissions": { "allow": ["Bash(rm *)"] } })),
    ]);
    assert_eq!(remarks, Vec::<String>::new());
    assert_eq!(settings.session_mode(), Mode::BypassPermissions, "the operator's word");
    let session = [("B".to_owned(), "session".to_owned()), ("C".to_owned(), "session".to_owned())];
    let pairs = settings.environment(&session);
    let pairs: Vec<(&str, &str)> =
        pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(pairs, [("A", "local"), ("B", "session"), ("C", "managed"), ("T", "5")]);
    let Verdict::Deny(reason) = decide(&settings, "rm x") else { panic!() };
    assert_eq!(reason.to_string(), "the rule `Bash(rm *)` of .claude/settings.json denies it");
    let Verdict::Deny(reason) = decide(&settings, "curl x") else { panic!() };
    assert!(reason.to_string().ends_with("of managed-settings.json denies it"), "{reason}");
    assert_eq!(decide(&settings, "ls"), Verdict::Allow);
}

/// Section 2: a bad entry is skipped alone, a bad file of the repository is skipped.
#[test]
fn what_is_wrong_is_told_one_by_one_and_left_out() {
    let (settings, remarks) = read(&[(
        Scope::Project,
        json!({
            "permissions": { "deny": ["Bash(rm *)", 5], "ask": "Bash(git push *)", "allow": "Bash(x)",
                "defaultMode": "auto", "disableBypassPermissionsMode": true },
            "env": { "A": [], "1": "x", "B": "fine" },
            "disableAllHooks": "no",
            "unknown": { "is": "fine" },
        }),
    )]);
    assert_eq!(remarks.len(), 8, "{remarks:#?}");
    assert!(remarks.iter().all(|remark| remark.starts_with(".claude/settings.json: ")));
    assert!(matches!(decide(&settings, "rm x"), Verdict::Deny(_)));
    assert!(matches!(decide(&settings, "git push x"), Verdict::Ask(_)), "a slip must not open");
    assert_eq!(settings.environment(&[]).len(), 1);
    for text in ["{", "[]", "7"] {
        let bad = |scope| SettingsFile { bytes: text.into(), ..file(scope, &json!({})) };
        let (settings, remarks) = Settings::read(&[bad(Scope::Project)]).unwrap();
        assert_eq!((settings.rules, remarks.len()), (Vec::new(), 1), "{text}");
        let refused = Settings::read(&[bad(Scope::Managed)]).unwrap_err();
        assert!(refused.contains("operator's settings cannot be used"), "{refused}");
    }
}

/// Section 2: proxies, base URLs, CA variables and keys are not a repository's to set.
#[test]
fn a_repository_cannot_point_programs_elsewhere() {
    let names = [
        "HTTPS_PROXY",
        "no_proxy",
        "ANTHROPIC_BASE_URL",
        "ANTHROPIC_API_KEY",
        "ANTHROPIC_AUTH_TOKEN",
        "NODE_EXTRA_CA_CERTS",
        "SSL_CERT_FILE",
        "CLAUDE_CODE_REMOTE",
        "CLAUDE_CODE_REMOTE_SESSION_ID",
        "PATCHYARD_SESSION_ID",
        "CLAUDE_PROJECT_DIR",
    ];
    let env: Map<String, Value> = names.iter().map(|name| ((*name).to_owned(), "x".into())).collect();
    let all = json!({ "env": env, "apiKeyHelper": "x" });
    let (settings, remarks) = read(&[(Scope::Project, all.clone()), (Scope::Local, all.clone())]);
    assert_eq!(remarks.len(), 2 * (names.len() + 1), "{remarks:#?}");
    assert_eq!(settings.environment(&[]), []);
    let (settings, remarks) = read(&[(Scope::Managed, all)]);
    assert_eq!((settings.environment(&[]).len(), remarks.len()), (7, 4), "the operator may, but for ours");
}

/// Section 3: `disableBypassPermissionsMode` turns the mode into `default`, without an error.
#[test]
fn a_repository_narrows_the_mode_and_never_widens_it() {
    let mode = |files: &[(Scope, Value)]| read(files).0.session_mode();
    let of = |mode: &str| json!({ "permissions": { "defaultMode": mode } });
    assert_eq!(mode(&[]), Mode::BypassPermissions);
    assert_eq!(mode(&[(Scope::Project, of("acceptEdits"))]), Mode::BypassPermissions);
    assert_eq!(mode(&[(Scope::Project, of("plan"))]), Mode::Plan);
    assert_eq!(
        mode(&[(Scope::Managed, of("default")), (Scope::Project, of("bypassPermissions"))]),
        Mode::Default
    );
    let disabled = json!({ "permissions": { "disableBypassPermissionsMode": "disable" } });
    assert_eq!(mode(&[(Scope::Project, disabled)]), Mode::Default);
}

#[test]
fn the_operator_may_be_the_only_one_who_allows() {
    let (settings, _) = read(&[
        (
            Scope::Managed,
            json!({ "allowManagedPermissionRulesOnly": true, "permissions": { "defaultMode": "default",
            "allow": ["Bash(make)"] } }),
        ),
        (Scope::Project, json!({ "permissions": { "allow": ["Bash(npm *)"], "deny": ["Bash(rm *)"] } })),
    ]);
    assert_eq!(decide(&settings, "make"), Verdict::Allow);
    assert!(matches!(decide(&settings, "npm x"), Verdict::Ask(_)));
    assert!(matches!(decide(&settings, "rm x"), Verdict::Deny(_)));
}

/// Section 0.2, "Trust gate", and section 3: on a machine a repository narrows, and allows where it is trusted.
#[test]
fn on_a_machine_questions_are_usual() {
    let on = |trusted: bool, files: &[(Scope, Value)]| {
        let files: Vec<SettingsFile> = files.iter().map(|(scope, value)| file(*scope, value)).collect();
        let ground = Ground::Machine { trusted, user: "/home/ann/.claude".into() };
        Settings::read_on(&files, ground).unwrap().0
    };
    let of = |mode: &str| json!({ "permissions": { "defaultMode": mode, "allow": ["Bash(make)"] } });
    for (trusted, scope, mode, becomes, allows) in [
        (true, Scope::Project, "acceptEdits", Mode::AcceptEdits, true),
        (false, Scope::Project, "acceptEdits", Mode::Default, false),
        (true, Scope::Local, "bypassPermissions", Mode::Default, true),
        (false, Scope::Local, "plan", Mode::Plan, false),
        (false, Scope::User, "acceptEdits", Mode::AcceptEdits, true),
        (false, Scope::CommandLine, "bypassPermissions", Mode::BypassPermissions, true),
    ] {
        let settings = on(trusted, &[(scope, of(mode))]);
        assert_eq!(settings.session_mode(), becomes, "{scope:?} {mode} {trusted}");
        let allowed = decide(&settings, "make") == Verdict::Allow;
        assert_eq!(allowed, allows, "{scope:?} {mode} {trusted}");
    }
    assert_eq!(on(true, &[]).session_mode(), Mode::Default);
    let env = json!({ "env": { "ANTHROPIC_BASE_URL": "http://elsewhere" } });
    assert_eq!(on(true, &[(Scope::Project, env.clone())]).own_variable("ANTHROPIC_BASE_URL"), None);
    assert!(on(true, &[(Scope::User, env)]).own_variable("ANTHROPIC_BASE_URL").is_some());
}
