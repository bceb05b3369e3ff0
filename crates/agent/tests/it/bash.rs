use protocol::agent_port::TurnEnd;
use protocol::event::ToolResult;
use protocol::hands::Exceeded;
use serde_json::{Value, json};
use testkit::model::{Script, Turn};

use crate::hands::LocalHands;
use crate::stage::Stage;

/// Runs these commands, one after the other, in one turn.
async fn results(hands: LocalHands, inputs: &[Value]) -> (Stage, Vec<ToolResult>) {
    let turns = inputs.iter().map(|input| Turn::tool("Bash", input.clone())).chain([Turn::text("ok")]);
    let mut stage = Stage::with(Script::turns(turns), hands, |config| {
        config.tool_env = vec![("CLAUDECODE".into(), "1".into())];
    })
    .await;
    assert_eq!(stage.turn("go").await, TurnEnd::completed());
    stage.model.assert_clean();
    let results = stage.port.results();
    (stage, results)
}

fn commands(commands: &[&str]) -> Vec<Value> {
    commands.iter().map(|command| json!({ "command": command })).collect()
}

#[tokio::test]
async fn output_codes_and_order_are_told() {
    let inputs = commands(&[
        "echo out; echo err >&2; echo out2",
        "exit 3",
        "echo oops >&2; false",
        "true",
        "echo \"$CLAUDECODE\" 'it''s' $# \"$0\"; cat",
        "echo 'unfinished",
        "kill -TERM $$",
        "echo last # a comment",
        "   ",
    ]);
    let (_stage, results) = results(LocalHands::default(), &inputs).await;
    let shown: Vec<&str> = results.iter().map(|result| result.content.as_str()).collect();
    assert_eq!(
        shown[..5],
        [
            "out\nerr\nout2",
            "Exit code 3",
            "Exit code 1\noops",
            "(the command printed nothing)",
            "1 its 0 bash",
        ]
    );
    assert!(shown[5].starts_with("Exit code 2\n") && shown[5].contains("unexpected EOF"), "{}", shown[5]);
    assert_eq!(shown[6], "Exit code 143\n[ended by signal 15]");
    assert_eq!(shown[7], "last");
    assert!(shown[8].contains("<tool_use_error>the command is empty"));
    assert_eq!((results[1].is_error, &results[1].detail["exit_code"]), (true, &json!(3)));
}

#[tokio::test]
async fn the_folder_carries_over_and_variables_do_not() {
    let inputs = commands(&[
        "mkdir -p 'a b/c' && cd 'a b' && export X=1",
        "pwd; echo \"[$X]\"; cd c; exit 7",
        "pwd; trap - EXIT; cd ..",
        "pwd; cd /",
        "pwd; mkdir gone; cd gone; rmdir ../gone",
        "pwd",
    ]);
    let (stage, results) = results(LocalHands::default(), &inputs).await;
    let workspace = &stage.config.workspace;
    assert_eq!(results[0].detail["cwd"], format!("{workspace}/a b"));
    assert_eq!(results[1].content, format!("Exit code 7\n{workspace}/a b\n[]"));
    assert_eq!(results[2].content, format!("{workspace}/a b/c"));
    // A command that takes the trap away does not move.
    assert!(
        results[3].content.starts_with(&format!("{workspace}/a b/c\n[the shell left the workspace for /"))
    );
    assert_eq!(results[3].detail["cwd"], workspace.as_str());
    assert!(results[4].content.starts_with(workspace), "{}", results[4].content);
    assert_eq!(results[5].content, *workspace, "a folder that is gone is not taken over");
}

#[tokio::test]
async fn an_image_without_bash_has_its_sh() {
    let hands = LocalHands { no_bash: true, ..LocalHands::default() };
    let inputs = commands(&["mkdir d; cd d; echo \"$0\" >&2; exit 9", "pwd"]);
    let (stage, results) = results(hands, &inputs).await;
    assert_eq!(results[0].content, "Exit code 9\nsh");
    assert_eq!(results[1].content, stage.full("d"));
}

#[tokio::test]
async fn a_folder_that_vanished_between_commands_is_told() {
    let inputs = commands(&["mkdir x && cd x", "rmdir \"$PWD\"", "pwd", "pwd"]);
    let (stage, results) = results(LocalHands::default(), &inputs).await;
    assert!(results[2].is_error && results[2].content.contains("/x no longer exists"), "{results:?}");
    assert_eq!(results[3].content, stage.config.workspace);
}

#[tokio::test]
async fn long_output_is_cut_in_the_middle_and_kept_whole() {
    let inputs = commands(&["seq 1 20000", "seq 1 20000; exit 1", "cat ../scratch/output-*.txt | wc -l"]);
    let (stage, results) = results(LocalHands::default(), &inputs).await;
    for (result, cap) in results.iter().zip([30_000, 10_000]) {
        let count = result.content.chars().count();
        assert!(count > cap - 1_000 && count < cap + 300, "{count}");
        assert!(result.content.ends_with("19999\n20000"));
        assert!(result.content.contains("characters left out; the whole output is in "));
        let blob = result.full_output.as_ref().unwrap();
        assert!(!blob.truncated);
        let full = stage.port.blobs.lock().unwrap()[&blob.blob].clone();
        assert_eq!(String::from_utf8(full).unwrap().lines().count(), 20_000);
    }
    // Two files without a final line end.
    assert_eq!(results[2].content.trim(), "39998");
}

#[tokio::test]
async fn colours_go_to_the_page_and_plain_text_to_the_model() {
    let inputs = commands(&["printf '10%%\\r99%%\\r\\033[32mok\\033[0m\\n'", "echo plain"]);
    let (_stage, results) = results(LocalHands::default(), &inputs).await;
    assert_eq!(results[0].content, "ok");
    assert_eq!(results[0].detail["output_ansi"], "10%\r99%\r\u{1b}[32mok\u{1b}[0m\n");
    assert!(results[1].detail.get("output_ansi").is_none());
}

#[tokio::test]
async fn limits_are_named() {
    let slow = json!({ "command": "echo begun; exec sleep 600", "timeout": 300 });
    let (_stage, timed) = results(LocalHands::default(), &[slow]).await;
    assert!(timed[0].content.starts_with("Exit code 143\nbegun\n[the command timed out after 0.3 s"));
    assert_eq!(timed[0].detail["timed_out"], true);
    let hungry = LocalHands { exceeded: Some(Exceeded::Memory(16_000_000_000)), ..LocalHands::default() };
    let (_stage, killed) = results(hungry, &commands(&["kill -9 $$", "true"])).await;
    assert_eq!(killed[0].content, "Exit code 137\n[killed: 16 GB memory limit]");
    assert!(!killed[1].is_error && killed[1].content.contains("killed while this ran: 16 GB memory limit"));
    let (_stage, nine) = results(LocalHands::default(), &commands(&["sh -c 'kill -9 $$'"])).await;
    assert!(nine[0].content.contains("SIGKILL; the usual reason is the memory limit"), "{}", nine[0].content);
}

#[tokio::test]
async fn output_is_shown_while_it_comes_with_whole_characters() {
    use protocol::event::LiveDelta;
    let (stage, results) =
        results(LocalHands::default(), &commands(&["printf '\\303'; sleep 0.05; printf '\\244\\n'"])).await;
    assert_eq!(results[0].content, "ä");
    let shown: String = stage
        .port
        .live_deltas()
        .into_iter()
        .filter_map(|delta| match delta {
            LiveDelta::ToolOutput { text, .. } => Some(text),
            _ => None,
        })
        .collect();
    assert_eq!(shown, "ä\n");
}
