use std::time::Duration;

use model_gateway::{Auth, ModelClient, ModelConfig, RetryPolicy, Secret};
use serde_json::json;
use testkit::model::{Gate, Script, ScriptedModel, Turn};

use crate::watch::{Notes, ask, client, quick};

fn whole() -> Turn {
    Turn::text("done").and_tool("Bash", json!({ "command": "make" })).chunk(64)
}

#[tokio::test]
async fn failures_that_pass_are_retried_and_told() {
    let never = Gate::closed();
    for (failure, code) in [
        (Turn::error(408, "timeout"), "model_error"),
        (Turn::error(409, "conflict"), "model_error"),
        (Turn::error(429, "slow down"), "model_rate_limited"),
        (Turn::error(500, "oops"), "model_error"),
        (Turn::error(503, "down"), "model_error"),
        (Turn::error(529, "overloaded"), "model_overloaded"),
        (whole().stream_error(3, "overloaded_error", "Overloaded"), "model_overloaded"),
        (whole().stream_error(5, "api_error", "Internal"), "model_error"),
        (whole().malformed_after(4), "model_stream_malformed"),
        (whole().hold(4, &never), "model_stream_idle"),
        (whole().hold(0, &never), "model_stream_idle"),
        (whole().cut_after(700), "model_stream_cut"),
    ] {
        let model = ScriptedModel::start(Script::turns([failure, whole()])).await;
        let mut notes = Notes::default();
        let response = ask(&client(model.base_url()), &mut notes).await.unwrap();
        assert_eq!(response.text(), "done", "{code}");
        assert_eq!(notes.text, "done", "the deltas of the failed try were void: {code}");
        assert_eq!(notes.retries.len(), 1, "{code}");
        assert_eq!((notes.retries[0].0, notes.retries[0].1), (code, 1));
        model.assert_clean();
    }
}

#[tokio::test]
async fn a_cut_at_any_byte_never_gives_half_a_message() {
    let mut bytes = 0;
    loop {
        let model = ScriptedModel::start(Script::turns([whole().cut_after(bytes), whole()])).await;
        let mut notes = Notes::default();
        let response = ask(&client(model.base_url()), &mut notes).await.unwrap();
        assert_eq!((response.blocks.len(), response.text().as_str()), (2, "done"), "cut at {bytes}");
        if notes.retries.is_empty() {
            break;
        }
        bytes += 7;
    }
    assert!(bytes > 1_000, "the stream is longer than {bytes} bytes");
}

#[tokio::test]
async fn the_wait_is_at_least_what_the_server_asked_for() {
    let turns = [Turn::error(429, "slow down").header("retry-after", "0.08"), whole()];
    let model = ScriptedModel::start(Script::turns(turns)).await;
    let mut notes = Notes::default();
    ask(&client(model.base_url()), &mut notes).await.unwrap();
    assert_eq!(notes.retries, [("model_rate_limited", 1, Duration::from_millis(80))]);
}

#[tokio::test]
async fn after_the_last_try_the_last_reason_is_told() {
    let model = ScriptedModel::start(Script::turns(vec![Turn::error(529, "Overloaded"); 3])).await;
    let client = client(model.base_url()).with_retry(RetryPolicy { attempts: 3, ..quick() });
    let mut notes = Notes::default();
    let error = ask(&client, &mut notes).await.unwrap_err();
    assert_eq!((error.code(), notes.retries.len()), ("model_overloaded", 2));
    assert_eq!(
        error.explain(),
        "the model did not answer in 3 tries; the last one: the model endpoint answered 529: Overloaded"
    );
}

#[tokio::test]
async fn failures_that_stay_end_at_once_with_a_clear_word() {
    for (failure, code, words) in [
        (Turn::error(401, "invalid x-api-key"), "model_auth", "check that the key"),
        (Turn::error(403, "not allowed"), "model_auth", "the base URL"),
        (Turn::error(400, "messages: must not be empty"), "model_bad_request", "messages: must not be empty"),
        (Turn::error(400, "prompt is too long: 1 > 0"), "model_prompt_too_long", "start a new session"),
        (Turn::error(413, "Request too large"), "model_prompt_too_long", "start a new session"),
        (Turn::error(404, "model: claude-opus-5"), "model_unknown", "check the model's name"),
        (Turn::raw(404, "text/html", "<h1>nope</h1>"), "model_not_an_endpoint", "check the base URL"),
        (Turn::raw(200, "text/html", "<h1>hi</h1>"), "model_not_an_endpoint", "text/html"),
        (Turn::raw(302, "text/plain", ""), "model_not_an_endpoint", "redirects"),
    ] {
        let model = ScriptedModel::start(Script::turns([failure])).await;
        let mut notes = Notes::default();
        let error = ask(&client(model.base_url()), &mut notes).await.unwrap_err();
        assert_eq!((error.code(), notes.retries.len(), model.requests().len()), (code, 0, 1));
        let text = error.explain();
        assert!(text.contains(words), "{text}");
        assert!(!text.contains("sk-secret"), "{text}");
    }
}

#[tokio::test]
async fn an_endpoint_that_is_not_there_is_told_with_its_address() {
    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let config =
        ModelConfig::new(format!("http://127.0.0.1:{port}"), Auth::ApiKey(Secret::new("sk-secret")), "m");
    let client = ModelClient::new(config).unwrap().with_retry(RetryPolicy { attempts: 2, ..quick() });
    let mut notes = Notes::default();
    let error = ask(&client, &mut notes).await.unwrap_err();
    assert_eq!((error.code(), notes.retries.len()), ("model_unreachable", 1));
    let text = error.explain();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn a_wrong_configuration_is_told_before_anything_is_sent() {
    let broken_key = ModelConfig::new("http://127.0.0.1:1", Auth::ApiKey(Secret::new("a\nb")), "m");
    assert_eq!(ModelClient::new(broken_key).unwrap_err().code(), "model_config");
    let no_url = ModelConfig::new("not a url", Auth::ApiKey(Secret::new("k")), "m");
    let error = ask(&ModelClient::new(no_url).unwrap(), &mut Notes::default()).await.unwrap_err();
    assert_eq!(error.code(), "model_config", "{error}");
}
