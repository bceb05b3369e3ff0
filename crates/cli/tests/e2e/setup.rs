//! Setup scripts, and the hooks after them.

use protocol::environment::{Environment, EnvironmentSettings};
use protocol::event::{Event, EventBody, Step};
use protocol::ids::SessionId;
use protocol::status::SessionStatus;
use protocol::view::SessionView;
use serde_json::{Value, json};
use testkit::harness::{Answer, Repo, Resume, TestServer};
use testkit::model::{Script, ScriptedModel, Turn};

use crate::world::{bash, check_log, completed, last_result, serve, small_repo};

/// Makes an environment of this name, with a setup script.
pub(crate) async fn environment(server: &TestServer, name: &str, script: &str) -> Environment {
    let settings = EnvironmentSettings { setup_script: script.into(), ..EnvironmentSettings::named(name) };
    server.post("/environments", &json!(settings)).await.is(201).json()
}

/// The environment as it is now.
pub(crate) async fn now(server: &TestServer, environment: &Environment) -> Environment {
    server.get(&format!("/environments/{}", environment.id)).await.is(200).json()
}

/// Begins a session in an environment.
pub(crate) async fn begin(server: &TestServer, repo: &Repo, environment: &str) -> SessionId {
    let mut body = server.new_session(repo, "go").await;
    body["environment"] = environment.into();
    server.post("/sessions", &body).await.is(201).json::<SessionView>().id
}

/// The newest result of a whole session in an environment, and its log.
pub(crate) async fn whole(server: &TestServer, repo: &Repo, environment: &str) -> (String, Vec<Event>) {
    let session = begin(server, repo, environment).await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    check_log(server, session).await;
    (last_result(&events).to_owned(), events)
}

/// What is told of a finished step; nothing when it did not run.
pub(crate) fn finished(events: &[Event], wanted: Step) -> Option<String> {
    events.iter().rev().find_map(|event| match &event.body {
        EventBody::StepFinished { step, error, detail, .. } if *step == wanted => {
            Some(error.clone().or(detail.clone()).unwrap_or_default())
        }
        _ => None,
    })
}

pub(crate) fn printed(events: &[Event], wanted: Step) -> String {
    let texts = events.iter().filter_map(|event| match &event.body {
        EventBody::StepOutput { step, text } if *step == wanted => Some(text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Every session runs this command and says that it is done.
pub(crate) async fn model_that_runs(command: &str) -> ScriptedModel {
    ScriptedModel::start(Script::by_depth([
        bash(command),
        Turn::text("done"),
        bash(command),
        Turn::text("done"),
    ]))
    .await
}

pub(crate) fn layers(server: &TestServer) -> usize {
    std::fs::read_dir(server.data().join("layers")).map_or(0, |entries| entries.flatten().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_runs_before_the_agent_and_both_see_the_variables() {
    let model = model_that_runs("cat /etc/greeting; echo \"$GREETING $PATCHYARD_SESSION_ID\"").await;
    let server = serve().model(&model).config("[sandbox]\nenvironment = { ALL = \"every\" }\n").start().await;
    let script = "echo \"$ALL says $GREETING in $PWD as $(id -u) $CLAUDE_CODE_REMOTE $CLAUDE_PROJECT_DIR\"\n\
                  [[ -n $BASH_VERSION ]] && echo \"$GREETING\" > /etc/greeting; ls README.md";
    let settings = EnvironmentSettings {
        setup_script: script.into(),
        variables: "# of the team\nGREETING=\"hi\"\nPATCHYARD_SESSION_ID=forged\n".into(),
        ..EnvironmentSettings::named("Greeting")
    };
    let made: Environment = server.post("/environments", &json!(settings)).await.is(201).json();
    let warnings = made.warnings.join("\n");
    assert!(warnings.contains("quotes are part of the value of GREETING"), "{warnings}");
    assert!(warnings.contains("PATCHYARD_SESSION_ID is set by patchyard"), "{warnings}");

    let repo = small_repo("greeting");
    let (result, events) = whole(&server, &repo, "greeting").await;
    let output = printed(&events, Step::Setup);
    let words = format!("every says \"hi\" in {0} as 0 true {0}", repo.workspace());
    assert!(output.contains(&words) && output.contains("README.md"), "{output}");
    let session = events[0].session;
    assert_eq!(result, format!("\"hi\"\n\"hi\" {session}"));
    let steps: Vec<Step> = events
        .iter()
        .filter_map(|event| match event.body {
            EventBody::StepStarted { step } => Some(step),
            _ => None,
        })
        .collect();
    assert_eq!(steps, [Step::Sandbox, Step::Workspace, Step::Setup, Step::Cache]);
    let view = server.session(session).await;
    assert_eq!(view.environment.unwrap().name, "Greeting");
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_setup_keeps_its_log_and_its_sandbox_and_is_tried_again() {
    let model = model_that_runs("cat /etc/made").await;
    let server = serve().model(&model).start().await;
    let made = environment(&server, "broken", "#!/bin/sh\necho before; echo cause >&2; exit 3").await;
    let session = begin(&server, &small_repo("broken"), "broken").await;
    let failed = |events: &[Event], times| {
        let status = |event: &&Event| matches!(&event.body, EventBody::SessionStatus(change) if change.status == SessionStatus::Failed);
        events.iter().filter(status).count() == times
    };
    let events = server.until(session, |events| failed(events, 1)).await;
    let output = printed(&events, Step::Setup);
    assert!(output.contains("before") && output.contains("cause"), "{output}");
    let told = finished(&events, Step::Setup).unwrap();
    assert!(told.contains("the setup script ended with 3") && told.contains("cause"), "{told}");
    let view = server.session(session).await;
    assert_eq!((view.status, view.reason.as_deref()), (SessionStatus::Failed, Some(told.as_str())));
    let looked_at = server.sandbox_of(session);
    assert!(!looked_at.processes().is_empty(), "it stays for a person to look");

    server.cli(&["sessions", "retry", &session.to_string()]).await.exits(0);
    server.until(session, |events| failed(events, 2)).await;
    assert_ne!(server.sandbox_of(session).id, looked_at.id);
    assert_eq!(
        looked_at.traces(&server.data()),
        Vec::<String>::new(),
        "a retry takes the failed sandbox down"
    );

    let settings =
        EnvironmentSettings { setup_script: "echo well > /etc/made".into(), ..made.settings.clone() };
    let edit = json!({ "revision": made.revision, "settings": settings });
    Answer::to(server.request(reqwest::Method::PUT, &format!("/environments/{}", made.id)).json(&edit))
        .await
        .is(200);
    server.post(&format!("/sessions/{session}/retry"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    completed(&events);
    assert_eq!(last_result(&events), "well");
    server.post(&format!("/sessions/{session}/retry"), &json!({})).await.is_problem(409, "nothing_failed");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_that_does_not_end_is_given_up() {
    let model = ScriptedModel::start(Script::default()).await;
    let server = serve().model(&model).config("[setup]\ntimeout_seconds = 1\n").start().await;
    environment(&server, "endless", "echo begun; sleep 1000").await;
    let session = begin(&server, &small_repo("endless"), "endless").await;
    let events = server.until_rest(session, 0).await;
    let told = finished(&events, Step::Setup).unwrap();
    assert!(told.contains("did not end within 1 s and was stopped: begun"), "{told}");
    let pids = server.sandbox_of(session).processes();
    assert_eq!(pids.len(), 1, "nothing but process 1 is left");
    server.cli(&["sessions", "delete", &session.to_string(), "--yes"]).await.exits(0);
    assert_eq!(server.sandboxes(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn hooks_run_at_every_start_and_their_variables_reach_later_commands() {
    let settings = json!({ "hooks": { "SessionStart": [
        { "matcher": "startup", "hooks": [{ "type": "command", "command":
            "cat > /tmp/input; echo 'export FROM=startup' >> $CLAUDE_ENV_FILE; echo PLAIN='\"two words\"' >> $CLAUDE_ENV_FILE; echo hook says hi" }] },
        { "matcher": "resume", "hooks": [{ "type": "command", "command": "echo 'FROM=resume' >> $CLAUDE_ENV_FILE" }] },
        { "hooks": [{ "type": "command", "command": "sleep 1000 >/dev/null 2>&1 & echo left" },
                    { "type": "command", "command": "exit 7" }] }
    ] } });
    let look = "sh -c 'echo \"$FROM|$PLAIN|$CLAUDE_ENV_FILE\"'; cat /tmp/input 2>/dev/null; grep -lx sleep /proc/[0-9]*/comm | wc -l";
    let model = model_that_runs(look).await;
    let server = serve().model(&model).start().await;
    let text = settings.to_string();
    let repo = Repo::with("hooked", &[("README.md", "x\n"), (".claude/settings.json", &text)]);
    let session = server.create(&repo, "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let lines: Vec<&str> = last_result(&events).lines().collect();
    assert_eq!((lines[0], lines[2]), ("startup|two words|", "1"));
    let input: Value = serde_json::from_str(lines[1]).unwrap();
    assert_eq!(
        (
            input["hook_event_name"].as_str(),
            input["source"].as_str(),
            input["cwd"].as_str(),
            input["session_id"].as_str()
        ),
        (
            Some("SessionStart"),
            Some("startup"),
            Some(repo.workspace().as_str()),
            Some(session.to_string().as_str())
        )
    );
    assert!(printed(&events, Step::Hooks).contains("hook says hi"));
    assert_eq!(finished(&events, Step::Hooks).unwrap(), "1 of 3 hooks failed: `exit 7` ended with 7");

    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "again").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    assert_eq!(last_result(&events), "resume||\n1");
    check_log(&server, session).await;
    model.assert_clean();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_script_is_tried_out_and_nothing_is_left() {
    let (model, repo) = (ScriptedModel::start(Script::default()).await, small_repo("tried"));
    let server = serve().model(&model).start().await;
    environment(&server, "tried", "echo in $PWD; ls; echo \"$CLAUDE_PROJECT_DIR\"").await;
    let passed = server.cli(&["environments", "test-setup", "tried", "--repo", &repo.arg()]).await.exits(0);
    assert!(
        passed.text().contains("in /workspace/tried\nREADME.md\nsrc\n/workspace/tried\n"),
        "{}",
        passed.text()
    );
    let script = server.serve().dir().join("script");
    std::fs::write(&script, "pwd; ls -A; sleep 1000 & exit 4").unwrap();
    let path = script.display().to_string();
    let args = ["environments", "test-setup", "tried", "--setup-script", &path, "--json"];
    let failed = server.cli(&args).await.exits(1).json();
    assert_eq!(
        (failed["state"].as_str(), failed["output"].as_str()),
        (Some("failed"), Some("/workspace/empty\n.git\n"))
    );
    assert!(failed["message"].as_str().unwrap().contains("ended with 4"), "{failed}");

    let made: Environment = environment(&server, "endless", "echo begun; sleep 1000").await;
    let test: Value =
        server.post(&format!("/environments/{}/test-setup", made.id), &json!({})).await.is(202).json();
    let address = format!("/setup-tests/{}", test["id"].as_str().unwrap());
    let mut seen: Value = test;
    while seen["output"] != "begun\n" {
        seen = server.get(&address).await.is(200).json();
        assert_ne!(seen["state"], "failed", "{seen}");
    }
    Answer::to(server.request(reqwest::Method::DELETE, &address)).await.is(204);
    let after = seen["next"].as_u64().unwrap();
    let seen: Value = server.get(&format!("{address}?after={after}")).await.is(200).json();
    assert_eq!((seen["state"].as_str(), seen["message"].as_str()), (Some("failed"), Some("it was stopped")));
    assert_eq!((server.sandboxes(), layers(&server)), (vec![], 0));
    let repositories = std::fs::read_dir(server.data().join("repos")).unwrap().count();
    assert_eq!(repositories, 0);
    let id = "tst_01JD3Q4F7Z8XK2M5N6P7R8S9TV";
    server.get(&format!("/setup-tests/{id}")).await.is_problem(404, "setup_test_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn setup_output_is_seen_while_it_runs() {
    let model = model_that_runs("true").await;
    let server = serve().model(&model).start().await;
    environment(&server, "live", "echo first; sleep 3; echo last").await;
    let session = begin(&server, &small_repo("live"), "live").await;
    let mut viewer = server.follow(session, Resume::After(0)).await;
    let mut live = String::new();
    while let Some(frame) = viewer.next().await {
        if frame.name == "live" && frame.data["step"] == "setup" {
            live.push_str(frame.data["text"].as_str().unwrap_or_default());
            break;
        }
        assert_ne!(frame.data["kind"], "step.output", "the log comes after what is live");
    }
    assert_eq!(live, "first\n");
    completed(&server.until_rest(session, 1).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_setup_is_stopped_with_its_session() {
    let model = model_that_runs("true").await;
    let server = serve().model(&model).start().await;
    environment(&server, "stopped", "echo begun; sleep 1000").await;
    let session = begin(&server, &small_repo("stopped"), "stopped").await;
    server.until(session, |events| printed(events, Step::Setup).contains("begun")).await;
    server.cli(&["sessions", "stop", &session.to_string()]).await.exits(0);
    let events = server.until_rest(session, 1).await;
    assert_eq!(finished(&events, Step::Setup).as_deref(), Some("it was stopped"));
    assert_eq!(server.session(session).await.status, SessionStatus::Suspended);
    assert_eq!((server.sandboxes(), layers(&server)), (vec![], 0));
}
