use std::time::Duration;

use model_gateway::{Auth, Block, ModelClient, ModelConfig, ModelError, Secret, StopCause};
use serde_json::json;
use testkit::model::{Gate, Script, ScriptedModel, Turn};
use tokio_util::sync::CancellationToken;

use crate::watch::{Notes, ask, client};

#[tokio::test]
async fn every_kind_of_block_arrives_whole() {
    let odd = json!({ "type": "server_thing", "payload": { "b": [1, 2.5], "a": "ä" } });
    let turn = Turn::text("Grüße, 世界!")
        .and_thinking("let me think", "c2lnL+5h=\u{e9}")
        .and_block(odd.clone())
        .and_tool("Bash", json!({ "command": "printf 'ä\\n' \"$x\"", "timeout": 5 }))
        .and_tool("TaskList", json!({}))
        .usage([100, 50, 1_000, 10])
        .chunk(3);
    let model = ScriptedModel::start(Script::turns([turn])).await;
    let mut notes = Notes::default();
    let response = ask(&client(model.base_url()), &mut notes).await.unwrap();
    assert_eq!(response.stop, StopCause::ToolUse);
    assert_eq!(response.model, "claude-opus-5");
    let wire: Vec<_> = response.blocks.iter().filter_map(Block::to_wire).collect();
    assert_eq!(wire[0], json!({ "type": "text", "text": "Grüße, 世界!" }));
    assert_eq!(
        wire[1],
        json!({ "type": "thinking", "thinking": "let me think", "signature": "c2lnL+5h=\u{e9}" })
    );
    assert_eq!(wire[2], odd);
    assert_eq!(wire[3]["input"], json!({ "command": "printf 'ä\\n' \"$x\"", "timeout": 5 }));
    assert_eq!(wire[4]["input"], json!({}));
    assert_eq!((notes.text.as_str(), notes.thinking.as_str()), ("Grüße, 世界!", "let me think"));
    let usage = response.usage;
    assert_eq!((usage.input_tokens, usage.output_tokens), (100, 50));
    assert_eq!((usage.cache_read_input_tokens, usage.cache_creation_input_tokens), (1_000, 10));
    // 100 × $5 + 50 × $25 + 1,000 × $0.50 + 10 × $6.25, per million, in millionths.
    assert_eq!((usage.requests, usage.cost_micro_usd), (1, 500 + 1_250 + 500 + 63));
    model.assert_clean();
}

#[tokio::test]
async fn the_client_says_who_it_is_and_authenticates_either_way() {
    let model = ScriptedModel::start(Script::turns([Turn::text("a"), Turn::text("b")])).await;
    ask(&client(model.base_url()), &mut Notes::default()).await.unwrap();
    let bearer = ModelConfig::new(model.base_url(), Auth::Bearer(Secret::new("tok\n")), "m");
    ask(&ModelClient::new(bearer).unwrap(), &mut Notes::default()).await.unwrap();
    let [first, second] = &model.requests()[..] else { panic!("two requests") };
    assert_eq!(first.header("x-api-key"), Some("sk-secret"));
    assert_eq!(first.header("anthropic-version"), Some("2023-06-01"));
    assert!(first.header("user-agent").unwrap().starts_with("patchyard/"));
    assert_eq!(first.body["thinking"]["type"], "adaptive");
    assert_eq!((second.header("x-api-key"), second.header("authorization")), (None, Some("Bearer tok")));
    assert!(second.body.get("thinking").is_none());
}

#[tokio::test]
async fn a_configured_proxy_is_used() {
    let proxy = ScriptedModel::start(Script::turns([Turn::text("through the proxy")])).await;
    let mut config = ModelConfig::new("http://model.invalid", Auth::ApiKey(Secret::new("k")), "m");
    config.proxy = Some(proxy.base_url().to_owned());
    let response = ask(&ModelClient::new(config).unwrap(), &mut Notes::default()).await.unwrap();
    assert_eq!(response.text(), "through the proxy");
    assert_eq!(proxy.requests()[0].header("host"), Some("model.invalid"));
}

#[tokio::test]
async fn a_call_with_half_an_input_is_no_call() {
    let turn = Turn::tool("Bash", json!("{\"command\": \"rm -rf bui")).stop_reason("max_tokens");
    let model = ScriptedModel::start(Script::turns([turn])).await;
    let response = ask(&client(model.base_url()), &mut Notes::default()).await.unwrap();
    assert_eq!(response.stop, StopCause::MaxTokens);
    assert!(matches!(&response.blocks[..], [Block::BrokenToolUse { name, .. }] if name == "Bash"));
    assert_eq!(response.blocks[0].to_wire(), None);
}

#[tokio::test]
async fn stopping_gives_back_what_had_come() {
    let gate = Gate::closed();
    let turn =
        Turn::empty().and_thinking("hm", "sig").and_text("The answer is forty-two").hold(9, &gate).chunk(4);
    let model = ScriptedModel::start(Script::turns([turn])).await;
    let mut notes = Notes { stop: Some(CancellationToken::new()), ..Notes::default() };
    let mut slow = client(model.base_url()).config().clone();
    slow.idle_timeout = Duration::from_secs(60);
    let error = ask(&ModelClient::new(slow).unwrap(), &mut notes).await.unwrap_err();
    let ModelError::Stopped { partial } = error else { panic!("{error}") };
    assert!("The answer is forty-two".starts_with(&partial.text()));
    assert_eq!(partial.usage.requests, 1);
}

#[tokio::test]
async fn stopping_ends_the_wait_between_tries_too() {
    let turns = [Turn::error(429, "slow down").header("retry-after", "200")];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let stop = CancellationToken::new();
    let mut notes = Notes { stop: Some(stop.clone()), ..Notes::default() };
    let client = client(model.base_url());
    let (outcome, ()) = tokio::join!(ask(&client, &mut notes), async {
        model.wait_for_requests(1).await;
        stop.cancel();
    });
    assert!(matches!(outcome, Err(ModelError::Stopped { .. })));
}
