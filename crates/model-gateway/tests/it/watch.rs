//! What the tests share: a client with quick retries and an observer that writes everything down.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use model_gateway::{
    Auth, Delta, Message, ModelClient, ModelConfig, ModelError, Observer, Request, Response, Retry,
    RetryPolicy, Role, Secret,
};
use serde_json::json;
use tokio_util::sync::CancellationToken;

pub(crate) fn client(base_url: &str) -> ModelClient {
    let mut config = ModelConfig::new(base_url, Auth::ApiKey(Secret::new("sk-secret")), "claude-opus-5");
    config.idle_timeout = Duration::from_millis(150);
    ModelClient::new(config).unwrap().with_retry(quick())
}

pub(crate) fn quick() -> RetryPolicy {
    RetryPolicy { jitter: Arc::new(|| 0.0), ..RetryPolicy::default() }
}

#[derive(Default)]
pub(crate) struct Notes {
    pub(crate) text: String,
    pub(crate) thinking: String,
    pub(crate) retries: Vec<(&'static str, u32, Duration)>,
    /// Cancelled at the first delta.
    pub(crate) stop: Option<CancellationToken>,
}

#[async_trait]
impl Observer for Notes {
    fn delta(&mut self, delta: Delta<'_>) {
        match delta {
            Delta::Text { text, .. } => self.text.push_str(text),
            Delta::Thinking { text, .. } => self.thinking.push_str(text),
        }
        if let Some(stop) = &self.stop {
            stop.cancel();
        }
    }

    async fn retry(&mut self, retry: Retry<'_>) {
        self.text.clear();
        self.thinking.clear();
        self.retries.push((retry.error.code(), retry.attempt, retry.delay));
    }
}

pub(crate) async fn ask(client: &ModelClient, notes: &mut Notes) -> Result<Response, ModelError> {
    let messages = [Message { role: Role::User, content: vec![json!({ "type": "text", "text": "hello" })] }];
    let request = Request { system: &["be brief".into()], tools: &[], messages: &messages };
    let stop = notes.stop.clone().unwrap_or_default();
    client.stream(request, notes, &stop).await
}
