//! Agents of others, inside the sandbox, over ACP.

use protocol::event::{Event, EventBody};
use protocol::ids::SessionId;
use protocol::status::{SessionStatus, StopReason, TurnStatus};
use serde_json::{Value, json};
use testkit::harness::{Repo, Resume, TestServer};

use crate::world::{check_log, ends, results, serve, skip};

const MODES: [&str; 4] = ["good", "exits", "garbage", "floods"];

/// A server that knows the agent in each of its ways, and a repository that holds it.
async fn with_agent() -> (TestServer, Repo) {
    let repo = Repo::with("carrier", &[("acp_agent.py", include_str!("acp_agent.py"))]);
    let mut config = String::new();
    for mode in MODES {
        let command = json!(["python3", "-B", "/workspace/carrier/acp_agent.py", mode]);
        config += &format!("[agents.{mode}]\ncommand = {command}\n");
    }
    config += "[agents.missing]\ncommand = [\"/no/such/program\"]\n";
    (serve().config(&config).start().await, repo)
}

async fn create(server: &TestServer, repo: &Repo, agent: &str, prompt: &str) -> SessionId {
    let mut body = server.new_session(repo, prompt).await;
    body["agent"] = agent.into();
    server.post("/sessions", &body).await.is(201).json::<Value>()["id"].as_str().unwrap().parse().unwrap()
}

fn messages(events: &[Event]) -> Vec<&str> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::AgentMessage(block) => Some(block.text.as_str()),
            _ => None,
        })
        .collect()
}

fn calls(events: &[Event]) -> Vec<(&str, &str)> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::ToolCall(call) => Some((call.name.as_str(), call.title.as_str())),
            _ => None,
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_others_works_without_a_model_of_ours_and_its_change_comes_back() {
    let (server, repo) = with_agent().await;
    let args =
        ["--remote", "go", "--agent", "good", "--repo", &repo.arg(), "--wait", "--output-format", "json"];
    let outcome = server.cli(&args).await.exits(0).json();
    assert_eq!((outcome["status"].as_str(), outcome["files_changed"].as_u64()), (Some("completed"), Some(1)));
    let session: SessionId = outcome["session_id"].as_str().unwrap().parse().unwrap();
    let (events, view) = check_log(&server, session).await;
    assert_eq!(messages(&events), ["I write a file.", "Done."]);
    let thought = events.iter().find_map(|event| match &event.body {
        EventBody::AgentThought(block) => Some(block.text.as_str()),
        _ => None,
    });
    assert_eq!(thought, Some("Let me think."));
    assert_eq!(
        calls(&events),
        [("edit", "Write out.txt"), ("tool", "Read nothing"), ("execute", "Left open")]
    );
    let seen: Vec<_> =
        results(&events).iter().map(|result| (result.content.as_str(), result.is_error)).collect();
    let open = "the agent reported no result of this call";
    assert_eq!(seen, [("wrote it: once", false), ("{\"error\":\"nothing\"}", true), (open, true)]);
    assert_eq!((view.plan[0].content.as_str(), view.agent.as_str()), ("Write it", "good"));
    let patch = server.cli(&["sessions", "diff", &session.to_string()]).await.exits(0).text();
    assert!(patch.contains("+allowed: once") && patch.contains(&format!("+session: {session}")), "{patch}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_lives_on_between_turns_and_says_so_when_it_had_to_be_started_anew() {
    let (server, repo) = with_agent().await;
    let session = create(&server, &repo, "good", "who").await;
    server.until_rest(session, 1).await;
    server.prompt(session, "who").await;
    let events = server.until_rest(session, 2).await;
    let said: Vec<String> = messages(&events).iter().map(|text| (*text).to_owned()).collect();
    assert!(said[1] == said[0].replace("turn 1", "turn 2"), "{said:?}");

    server.prompt(session, "die").await;
    let events = server.until_rest(session, 3).await;
    let end = ends(&events)[2].clone();
    assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, StopReason::Agent));
    assert!(end.message.as_ref().is_some_and(|message| message.contains("out of luck")), "{end:?}");
    assert_eq!(messages(&events)[2], "I am about to", "what it said before is kept");

    server.prompt(session, "who").await;
    let events = server.until_rest(session, 4).await;
    assert!(messages(&events)[3].ends_with("turn 1"), "a new process");
    let restarted =
        |body: &EventBody| matches!(body, EventBody::Error(error) if error.code == "agent_restarted");
    assert!(events.iter().any(|event| restarted(&event.body)), "the person is told that it forgot");
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.status, SessionStatus::Idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_is_cancelled_politely_and_then_ended() {
    let (server, repo) = with_agent().await;
    for prompt in ["wait", "deaf"] {
        let session = create(&server, &repo, "good", prompt).await;
        let mut viewer = server.follow(session, Resume::After(0)).await;
        while !matches!(viewer.next().await.unwrap().live(), Some(protocol::event::LiveDelta::Text { .. })) {}
        server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
        let events = server.until_rest(session, 1).await;
        let end = ends(&events)[0];
        assert_eq!(
            (end.status, end.stop_reason),
            (TurnStatus::Interrupted, StopReason::UserStop),
            "{prompt}"
        );
        assert!(end.duration_ms < 30_000, "{end:?}");
        server.prompt(session, "go").await;
        let events = server.until_rest(session, 2).await;
        assert_eq!(ends(&events)[1].status, TurnStatus::Completed, "{prompt}");
        check_log(&server, session).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn agents_that_misbehave_end_the_turn_with_a_reason_and_never_the_server() {
    let (server, repo) = with_agent().await;
    let fails = async |agent: &str, prompt: &str, words: &str| {
        let session = create(&server, &repo, agent, prompt).await;
        let events = server.until_rest(session, 1).await;
        let end = ends(&events)[0].clone();
        assert_eq!(end.status, TurnStatus::Failed, "{agent}: {end:?}");
        let message = end.message.unwrap();
        assert!(message.contains(words), "{agent}: {message}");
        let (_, view) = check_log(&server, session).await;
        assert_eq!(view.status, SessionStatus::Idle);
        end.stop_reason
    };
    assert_eq!(fails("exits", "go", "no licence found").await, StopReason::Agent);
    assert_eq!(fails("garbage", "go", "the agent `garbage` did not start").await, StopReason::Agent);
    assert_eq!(fails("missing", "go", "/no/such/program").await, StopReason::Agent);
    assert_eq!(fails("floods", "go", "did not start").await, StopReason::Agent);
    assert_eq!(fails("good", "refuse", "refused").await, StopReason::Refusal);
    assert_eq!(fails("good", "binary", "the agent sent something that is no ACP").await, StopReason::Agent);
    // A line that is no message is passed over.
    let session = create(&server, &repo, "good", "garbage").await;
    let events = server.until_rest(session, 1).await;
    assert_eq!(ends(&events)[0].status, TurnStatus::Completed);
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_says_too_much_or_too_late_fails_its_own_turn_only() {
    let (server, repo) = with_agent().await;
    let session = create(&server, &repo, "good", "late").await;
    server.until_rest(session, 1).await;
    let prompts = [("babble", "20000 events"), ("hoard", "256 calls"), ("curse", "answered with an error")];
    let mut turns = 1;
    for (prompt, words) in prompts {
        for (prompt, words) in [("who", None), (prompt, Some(words))] {
            server.prompt(session, prompt).await;
            turns += 1;
            let events = server.until_rest(session, turns).await;
            let end = ends(&events)[turns - 1].clone();
            let Some(words) = words else {
                assert_eq!(end.status, TurnStatus::Completed, "{end:?}");
                continue;
            };
            assert_eq!((end.status, end.stop_reason), (TurnStatus::Failed, StopReason::Agent), "{prompt}");
            let message = end.message.unwrap();
            assert!(message.contains(words) && !message.contains(char::is_control), "{message:?}");
        }
    }
    let (events, _) = check_log(&server, session).await;
    let second = events.iter().filter(|event| event.body.kind() == "turn.started").nth(1).unwrap().seq;
    let later: Vec<Event> = events.into_iter().filter(|event| event.seq > second).collect();
    assert!(!messages(&later).iter().any(|text| text.contains("too late")), "an update of another turn");
    assert_eq!(calls(&later).len(), results(&later).len());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_never_reads_is_ended_all_the_same() {
    let (server, repo) = with_agent().await;
    let session = create(&server, &repo, "good", "unread").await;
    let mut viewer = server.follow(session, Resume::After(0)).await;
    while !matches!(viewer.next().await.unwrap().live(), Some(protocol::event::LiveDelta::Text { .. })) {}
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 1).await;
    let end = ends(&events)[0];
    assert!(matches!(end.status, TurnStatus::Interrupted | TurnStatus::Failed), "{end:?}");
    server.prompt(session, "who").await;
    let events = server.until_rest(session, 2).await;
    assert_eq!(ends(&events)[1].status, TurnStatus::Completed);
    assert!(messages(&events).last().unwrap().ends_with("turn 1"), "a new process");
    check_log(&server, session).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_deterministic_agent_of_the_acp_project_completes_a_session() {
    let Some(testy) = std::env::var_os("PATCHYARD_TESTY") else {
        return skip("PATCHYARD_TESTY does not name the agent `testy` of the ACP crates");
    };
    let repo = Repo::with("acp", &[("README.md", "# For testy\n")]);
    std::fs::copy(testy, repo.path().join("testy")).unwrap();
    repo.executable("testy");
    repo.commit("With the agent");
    let server = serve().config("[agents.testy]\ncommand = [\"/workspace/acp/testy\"]\n").start().await;
    let session = create(&server, &repo, "testy", "session_updates").await;
    let mut turns = 1;
    let mut completes = async |prompt: &str| {
        turns += 1;
        server.prompt(session, prompt).await;
        let events = server.until_rest(session, turns).await;
        assert_eq!(
            ends(&events).last().unwrap().status,
            TurnStatus::Completed,
            "{prompt}: {:?}",
            ends(&events)
        );
        events
    };
    let events = completes("tool_calls").await;
    assert_eq!(ends(&events)[0].status, TurnStatus::Completed);
    assert!(!calls(&events).is_empty() && calls(&events).len() == results(&events).len());
    let events = completes("{\"command\":\"echo\",\"message\":\"hello from testy\"}").await;
    assert!(
        messages(&events).iter().any(|text| text.contains("hello from testy")),
        "{:?}",
        messages(&events)
    );
    completes("content").await;

    let seen = server.session(session).await.last_seq;
    server.prompt(session, "wait_for_cancel").await;
    let mut viewer = server.follow(session, Resume::LastEventId(seen)).await;
    while viewer.next_event().await.unwrap().body.kind() != "turn.started" {}
    server.post(&format!("/sessions/{session}/stop"), &json!({})).await.is(202);
    let events = server.until_rest(session, 5).await;
    assert_eq!(ends(&events)[4].status, TurnStatus::Interrupted);
    check_log(&server, session).await;
}
