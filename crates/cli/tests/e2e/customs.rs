//! What a repository keeps for agents besides settings, in real sandboxes: instructions, commands, skills; and how a
//! long conversation becomes shorter. Each test names the section of the compatibility specification.

use protocol::event::{CommandRan, Event, EventBody};
use serde_json::json;
use testkit::harness::Repo;
use testkit::model::{Script, ScriptedModel, Turn, When};

use crate::setup::printed;
use crate::world::{bash, check_log, completed, results, serve};

fn ran(events: &[Event]) -> Vec<&CommandRan> {
    events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::CommandRan(ran) => Some(ran),
            _ => None,
        })
        .collect()
}

/// Sections 6 and 7.1: read at the base commit, filled in inside the sandbox; what cannot be used is told and the
/// session goes on. A new sandbox and a new agent have the same conversation.
#[tokio::test(flavor = "multi_thread")]
async fn instructions_commands_and_skills_of_a_repository() {
    let wide: String = (0..3_000).map(|number| format!("@many/{number}.md\n")).collect();
    let files = [
        ("CLAUDE.md", "Root words. @docs/style.md @CLAUDE.md @../../etc/passwd"),
        ("docs/style.md", "Style words. @../CLAUDE.md"),
        ("docs/CLAUDE.md", "Words for docs."),
        ("wide/CLAUDE.md", wide.as_str()),
        ("src/main.py", "print('hello')\n"),
        (".claude/rules/python.md", "---\npaths:\n  - \"**/*.py\"\n---\nWords for Python."),
        (
            ".claude/commands/fix.md",
            "Fix $0.\n!`whoami; pwd; cat /etc/hostname >/dev/null && echo inside`\nSee @docs/style.md",
        ),
        (".claude/commands/a b.md", "Never."),
        (
            ".claude/skills/report/SKILL.md",
            "---\ndescription: Writes reports\n---\nRun ${CLAUDE_SKILL_DIR}/run.sh.",
        ),
        (".claude/skills/report/run.sh", "echo the report\n"),
    ];
    let turns = [
        Turn::tool("Read", json!({ "file_path": "src/main.py" })),
        Turn::tool("Skill", json!({ "skill": "report" })),
        bash("sh .claude/skills/report/run.sh; rm -r .claude CLAUDE.md docs"),
        Turn::text("done"),
        Turn::text("fixed"),
    ];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let server = serve().model(&model).start().await;
    let repo = Repo::with("customs", &files);
    let session = server.create(&repo, "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let opening = model.requests()[0].body["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    for words in ["Root words.", "Style words.", "- report: Writes reports", "- fix: Fix $0."] {
        assert!(opening.contains(words), "{words}: {opening}");
    }
    assert!(!opening.contains("root:") && !opening.contains("Words for docs"));
    let told = printed(&events, protocol::event::Step::Workspace);
    assert!(told.contains(".claude/commands/a b.md: its name has characters"), "{told}");
    let said = results(&events);
    assert!(said[0].content.contains("Words for Python."), "{}", said[0].content);
    assert!(said[1].content.contains(&format!("Run {}/.claude/skills/report/run.sh.", repo.workspace())));
    assert_eq!(said[2].content, "the report");

    // What the agent removed still holds, and a new sandbox knows it too; the file that is named is gone.
    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "/fix it").await;
    let events = server.until_rest(session, 2).await;
    completed(&events);
    let sent = ran(&events)[0].prompt.clone().unwrap();
    assert!(sent.contains("Fix it.") && sent.contains(&format!("{}\ninside", repo.workspace())), "{sent}");
    assert!(!sent.contains("Contents of"), "{sent}");
    check_log(&server, session).await;
    model.assert_clean();
}

/// Sections 7.3 and 12: commands of our own are answered without the model; `/compact` sums up, and a new agent goes
/// on from the summary.
#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_summed_up_and_survives_a_new_sandbox() {
    let turns = [
        bash("echo marvellous"),
        Turn::text("done").usage([100, 20, 900, 0]),
        Turn::text("<summary>There was an echo.</summary>"),
        bash("echo more"),
        Turn::text("more done"),
        Turn::text("the end"),
    ];
    let model = ScriptedModel::start(Script::turns(turns).shortens(1)).await;
    let server = serve().model(&model).start().await;
    let session = server.create(&Repo::with("long", &[("README.md", "x\n")]), "first").await;
    completed(&server.until_rest(session, 1).await);
    for (count, prompt) in [(2, "/cost"), (3, "/compact"), (4, "on")] {
        server.prompt(session, prompt).await;
        completed(&server.until_rest(session, count).await);
    }
    server.cli(&["sessions", "archive", &session.to_string()]).await.exits(0);
    server.prompt(session, "last").await;
    let events = server.until_rest(session, 5).await;
    completed(&events);
    assert!(ran(&events)[0].output.as_ref().unwrap().contains("read from the cache"));
    let compacted = events.iter().find_map(|event| match &event.body {
        EventBody::ContextCompacted(compaction) => compaction.summary.as_deref(),
        _ => None,
    });
    assert!(compacted.unwrap().contains("There was an echo.") && compacted.unwrap().contains("first"));
    let last = model.requests().last().unwrap().body["messages"].to_string();
    assert!(last.contains("There was an echo.") && !last.contains("marvellous") && !last.contains("/cost"));
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.usage.requests, 6, "the summary counts");
    model.assert_clean();
}

/// Section 7.2: an agent of the repository and two that only look, in the log and its folds.
#[tokio::test(flavor = "multi_thread")]
async fn agents_of_the_agent_work_in_threads_of_the_log() {
    let writer = "---\nname: writer\ndescription: Writes\ntools: Write, Bash\n---\nYou write.";
    let files = [("src/main.py", "print('hello')\n"), (".claude/agents/writer.md", writer)];
    let send = |turn: Turn, kind: &str, prompt: &str| {
        turn.and_tool("Agent", json!({ "description": prompt, "prompt": prompt, "subagent_type": kind }))
    };
    let looks = send(send(Turn::empty(), "Explore", "look here"), "Plan", "plan there");
    let script = Script::default()
        .when(
            When::last_user("look here"),
            [Turn::tool("Grep", json!({ "pattern": "hello" })), Turn::text("It is in src/main.py.")],
        )
        .when(When::last_user("plan there"), [Turn::text("One step.")])
        .when(When::last_user("write it"), [bash("echo new > new.txt; pwd"), Turn::text("Written.")])
        .when(
            When::Always,
            [looks, send(Turn::empty(), "writer", "write it"), bash("cat new.txt"), Turn::text("done")],
        )
        .many_conversations();
    let model = ScriptedModel::start(script).await;
    let server = serve().model(&model).config("[turn]\ntokens = 1000000\n").start().await;
    let session = server.create(&Repo::with("threads", &files), "go").await;
    let events = server.until_rest(session, 1).await;
    completed(&events);
    let mut said: Vec<&str> = results(&events).iter().map(|result| result.content.as_str()).collect();
    said[..2].sort_unstable();
    assert_eq!(said, ["It is in src/main.py.", "One step.", "Written.", "new"]);
    let ended = events.iter().filter_map(|event| match &event.body {
        EventBody::ThreadEnded(ended) => Some(ended.tool_uses),
        _ => None,
    });
    assert_eq!(ended.sum::<u64>(), 2);
    let (_, view) = check_log(&server, session).await;
    assert_eq!(view.usage.requests, 9, "those of threads count");
    model.assert_clean();
}
