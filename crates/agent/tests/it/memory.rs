//! Instructions for some files: `agent-compat` section 6.

use agent::memory::Sources;
use protocol::agent_port::TurnEnd;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

fn tool(name: &str, mut input: Value, path: &str) -> Turn {
    input["file_path"] = path.into();
    Turn::tool(name, input)
}

/// Those of folders and rules come with the first result about a file that they are for, once, also after a
/// restart; and once more when the conversation was summed up.
#[tokio::test]
async fn they_come_with_the_first_file_that_they_are_for() {
    let read = |path: &str| tool("Read", json!({}), path);
    let turns = [
        read("main.rs"),
        read("sub/deep/x.rs").and_tool("Read", json!({ "file_path": "sub/y.rs" })),
        tool("Write", json!({ "content": "x" }), "web/a.ts"),
        read("sub/missing.rs"),
        Turn::text("done"),
        read("sub/y.rs"),
        Turn::text("done"),
        Turn::text("<summary>So.</summary>"),
        read("sub/y.rs"),
        Turn::text("done"),
    ];
    let files = [
        ("CLAUDE.md", "root words"),
        ("sub/CLAUDE.md", "sub words"),
        ("sub/deep/AGENTS.md", "deep words"),
        (".claude/rules/ts.md", "---\npaths: '**/*.ts'\n---\nts words"),
    ];
    let (memory, _) = Sources::of(files.map(|(path, _)| path))
        .read(|path| files.iter().find(|(other, _)| *other == path).map(|(_, text)| (*text).to_owned()));
    let mut stage = Stage::with(Script::turns(turns).shortens(1), LocalHands::default(), |config| {
        config.memory = memory.into();
        config.managed_memory = Some("Words of the operator.".into());
    })
    .await;
    for path in ["main.rs", "sub/deep/x.rs", "sub/y.rs"] {
        stage.write(path, "text");
    }
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    let first =
        stage.model.requests()[0].body["messages"][0]["content"][0]["text"].as_str().unwrap().to_owned();
    assert!(first.find("Words of the operator.").unwrap() < first.find("root words").unwrap(), "{first}");
    assert!(!first.contains("sub words") && !first.contains("ts words"));
    let results = stage.port.results();
    let told: Vec<Vec<&str>> = results
        .iter()
        .map(|result| {
            ["root words", "sub words", "deep words", "ts words"]
                .into_iter()
                .filter(|words| result.content.contains(words))
                .collect()
        })
        .collect();
    assert_eq!((&told[0], &told[3], &told[4]), (&vec![], &vec!["ts words"], &vec![]));
    assert_eq!([told[1].len(), told[2].len()].iter().sum::<usize>(), 2, "{told:?}");
    assert!(told[1].contains(&"deep words"));
    stage.restart(&stage.port.events()).await;
    assert_eq!(stage.turn("again").await, TurnEnd::completed());
    assert!(!stage.port.results()[5].content.contains("sub words"));
    assert_eq!(stage.turn("/compact").await, TurnEnd::completed());
    assert_eq!(stage.turn("again").await, TurnEnd::completed());
    assert!(stage.port.results()[6].content.contains("sub words"));
    stage.model.assert_clean();
}
