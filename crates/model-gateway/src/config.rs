//! What is needed to reach a model.

use std::fmt;
use std::time::Duration;

/// A text that is never shown: `Debug` and `Display` print three dots.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Whether there is nothing in it but blanks.
    #[must_use]
    pub fn is_blank(&self) -> bool {
        self.0.trim().is_empty()
    }

    /// The text itself; only the request's headers are made of it.
    pub(crate) fn expose(&self) -> &str {
        self.0.trim()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// How the client says who it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// `x-api-key`, from `ANTHROPIC_API_KEY`.
    ApiKey(Secret),
    /// `Authorization: Bearer`, from `ANTHROPIC_AUTH_TOKEN`.
    Bearer(Secret),
}

/// What is asked of the model's thinking.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thinking {
    /// The request does not mention it: the model's or server's own default.
    ModelDefault,
    /// The model decides how much to think, and a summary is streamed.
    Adaptive,
}

impl Thinking {
    /// [`Thinking::Adaptive`] for the model families that are known to take it (Claude 4.6 and later),
    /// else nothing: servers that speak the Messages API for other models may refuse the field.
    #[must_use]
    pub fn for_model(model: &str) -> Self {
        let Some(start) = model.find("claude-") else { return Self::ModelDefault };
        // `claude-opus-4-6`, `claude-sonnet-5-5`, `claude-haiku-4-5-20251001`: family, then version.
        let mut parts = model[start + "claude-".len()..].split('-');
        // Before generation 4 the version stood first.
        if parts.next().is_none_or(|family| family.starts_with(|c: char| c.is_ascii_digit())) {
            return Self::ModelDefault;
        }
        let mut number = || parts.next().filter(|part| part.len() <= 2).and_then(|part| part.parse().ok());
        let major: u32 = number().unwrap_or(0);
        let minor: u32 = number().unwrap_or(0);
        if (major, minor) >= (4, 6) { Self::Adaptive } else { Self::ModelDefault }
    }
}

/// Everything that the client knows about the model and the way to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Where the API lives, such as `https://api.anthropic.com`; `/v1/messages` is added.
    pub base_url: String,
    /// The key.
    pub auth: Auth,
    /// The model's name as the API knows it.
    pub model: String,
    /// The most tokens that one answer may have, thinking included.
    pub max_tokens: u32,
    /// What is asked of the model's thinking.
    pub thinking: Thinking,
    /// An HTTP proxy on the way, such as `http://proxy.example:3128`; without one the client connects
    /// directly, whatever the environment says.
    pub proxy: Option<String>,
    /// How long a connection may take to come up.
    pub connect_timeout: Duration,
    /// How long the stream may be silent; any byte starts it anew.
    pub idle_timeout: Duration,
}

impl ModelConfig {
    /// A configuration with the usual limits: 32,000 tokens an answer, 15 s to connect, 120 s of silence.
    #[must_use]
    pub fn new(base_url: impl Into<String>, auth: Auth, model: impl Into<String>) -> Self {
        let model = model.into();
        Self {
            base_url: base_url.into(),
            auth,
            max_tokens: 32_000,
            thinking: Thinking::for_model(&model),
            model,
            proxy: None,
            connect_timeout: Duration::from_secs(15),
            idle_timeout: Duration::from_secs(120),
        }
    }

    /// The address that requests go to. A base URL that already ends in `/v1` is taken as it is.
    #[must_use]
    pub fn messages_url(&self) -> String {
        format!("{}/v1/messages", self.root())
    }

    /// What stands before `/v1`.
    pub(crate) fn root(&self) -> &str {
        let base = self.base_url.trim().trim_end_matches('/');
        base.strip_suffix("/v1").unwrap_or(base)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_shows_in_no_debug_output() {
        let config =
            ModelConfig::new("http://127.0.0.1:1", Auth::ApiKey(Secret::new("sk-ant-hidden")), "scripted");
        let shown = format!("{config:?} {}", Secret::new("sk-ant-hidden"));
        assert!(!shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn the_address_is_the_same_for_every_spelling_of_the_base() {
        for base in ["http://h:1", "http://h:1/", "http://h:1/v1", "http://h:1/v1/"] {
            let config = ModelConfig::new(base, Auth::ApiKey(Secret::new("k")), "m");
            assert_eq!(config.messages_url(), "http://h:1/v1/messages");
        }
    }

    #[test]
    fn thinking_is_asked_of_models_that_take_it() {
        for (model, thinking) in [
            ("claude-opus-5-5", Thinking::Adaptive),
            ("claude-sonnet-5", Thinking::Adaptive),
            ("claude-opus-4-6", Thinking::Adaptive),
            ("anthropic/claude-opus-4-7-20260401", Thinking::Adaptive),
            ("claude-haiku-4-5-20251001", Thinking::ModelDefault),
            ("claude-sonnet-4-20250514", Thinking::ModelDefault),
            ("claude-3-7-sonnet-20250219", Thinking::ModelDefault),
            ("scripted-model", Thinking::ModelDefault),
            ("qwen3-coder", Thinking::ModelDefault),
        ] {
            assert_eq!(Thinking::for_model(model), thinking, "{model}");
        }
    }
}
