//! The way to the model: by the person's own environment, their settings, and the options.

use agent::Settings;
use model_gateway::{Auth, ModelClient, ModelConfig, RetryPolicy, Secret};

use crate::error::LocalError;

const BASE_URL: &str = "https://api.anthropic.com";

/// The model, where nobody names one.
const MODEL: &str = "claude-sonnet-5";

/// How often a request is tried again, and how often where there is another model.
const RETRIES: u32 = 10;
const RETRIES_BESIDE_ANOTHER: u32 = 2;

/// How models are reached.
#[derive(Clone)]
pub(crate) struct Models {
    base_url: String,
    auth: Auth,
    proxy: Option<String>,
    max_tokens: Option<u32>,
    retries: u32,
    /// What `opus` and the like stand for.
    aliases: Vec<(&'static str, String)>,
    usual: String,
    /// Where the key came from, as drivers are told.
    pub(crate) key_source: &'static str,
}

impl Models {
    /// What the environment says, then the settings of the person; never those of a repository.
    pub(crate) fn find(settings: &Settings) -> Result<Self, LocalError> {
        let value = |name: &str| {
            let given = std::env::var(name).ok().or_else(|| settings.own_variable(name).map(str::to_owned));
            given.filter(|text| !text.trim().is_empty())
        };
        let key = value("ANTHROPIC_API_KEY").map(|key| (Auth::ApiKey(Secret::new(key)), "ANTHROPIC_API_KEY"));
        let bearer = || {
            value("ANTHROPIC_AUTH_TOKEN")
                .map(|token| (Auth::Bearer(Secret::new(token)), "ANTHROPIC_AUTH_TOKEN"))
        };
        let (auth, key_source) = key.or_else(bearer).ok_or(LocalError::NoKey)?;
        let base_url = value("ANTHROPIC_BASE_URL").unwrap_or_else(|| BASE_URL.to_owned());
        let alias =
            |name, variable: &str, usual: &str| (name, value(variable).unwrap_or_else(|| usual.to_owned()));
        Ok(Self {
            proxy: proxy(&base_url),
            base_url,
            auth,
            key_source,
            retries: value("CLAUDE_CODE_MAX_RETRIES")
                .and_then(|text| text.trim().parse().ok())
                .unwrap_or(RETRIES),
            max_tokens: value("CLAUDE_CODE_MAX_OUTPUT_TOKENS").and_then(|text| text.trim().parse().ok()),
            aliases: vec![
                alias("opus", "ANTHROPIC_DEFAULT_OPUS_MODEL", "claude-opus-5-5"),
                alias("sonnet", "ANTHROPIC_DEFAULT_SONNET_MODEL", MODEL),
                alias("haiku", "ANTHROPIC_DEFAULT_HAIKU_MODEL", "claude-haiku-5-5"),
                ("default", MODEL.to_owned()),
            ],
            usual: value("ANTHROPIC_MODEL")
                .or_else(|| settings.model.clone())
                .unwrap_or_else(|| MODEL.to_owned()),
        })
    }

    /// How often a request is tried again.
    pub(crate) fn retries(&self) -> u32 {
        self.retries
    }

    /// The same where another model takes over from one that is overloaded.
    pub(crate) fn beside_another(&self) -> Self {
        Self { retries: self.retries.min(RETRIES_BESIDE_ANOTHER), ..self.clone() }
    }

    /// A client for a model of this name, or for the usual one.
    pub(crate) fn client(&self, name: Option<&str>) -> Result<ModelClient, LocalError> {
        let name = name.filter(|name| !name.trim().is_empty()).unwrap_or(&self.usual);
        let known = self.aliases.iter().find(|(alias, _)| *alias == name);
        let name = known.map_or(name, |(_, model)| model.as_str());
        let mut config = ModelConfig::new(self.base_url.clone(), self.auth.clone(), name);
        config.proxy.clone_from(&self.proxy);
        if let Some(most) = self.max_tokens {
            config.max_tokens = most;
        }
        let client = ModelClient::new(config).map_err(|error| LocalError::Model(error.to_string()))?;
        let attempts = self.retries.saturating_add(1);
        Ok(client.with_retry(RetryPolicy { attempts, ..RetryPolicy::default() }))
    }
}

/// The proxy that programs of the person use on the way to an address.
fn proxy(base_url: &str) -> Option<String> {
    let value = |name: &str| std::env::var(name).ok().filter(|text| !text.trim().is_empty());
    let either = |name: &str| value(&name.to_ascii_lowercase()).or_else(|| value(name));
    let host = host_of(base_url)?;
    let but = either("NO_PROXY").unwrap_or_default();
    if passes_by(&host, &but) {
        return None;
    }
    let own = if base_url.starts_with("https:") { either("HTTPS_PROXY") } else { value("http_proxy") };
    own.or_else(|| either("ALL_PROXY"))
}

fn host_of(base_url: &str) -> Option<String> {
    let rest = base_url.split_once("://")?.1;
    let authority = rest.split(['/', '?']).next()?;
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(inside) => inside.split(']').next()?,
        None => host.split(':').next()?,
    };
    Some(host.to_ascii_lowercase())
}

/// Whether a host is reached without the proxy: its own machine always is.
fn passes_by(host: &str, but: &str) -> bool {
    let own = host == "localhost" || host == "::1" || host.starts_with("127.");
    own || but.split(',').map(|entry| entry.trim().trim_start_matches("*.").trim_start_matches('.')).any(
        |entry| {
            entry == "*"
                || (!entry.is_empty()
                    && (host == entry || host.strip_suffix(entry).is_some_and(|rest| rest.ends_with('.'))))
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_passed_by_for_what_is_named_and_the_own_machine() {
        for (url, but, by) in [
            ("http://127.0.0.1:8080", "", true),
            ("http://localhost:1/v1", "", true),
            ("http://[::1]:8080/", "", true),
            ("https://api.example.org", "", false),
            ("https://api.example.org", "example.org", true),
            ("https://api.example.org", ".example.org, x", true),
            ("https://api.example.org", "*.example.org", true),
            ("https://badexample.org", "example.org", false),
            ("https://u:p@api.example.org:8443/x", "api.example.org", true),
            ("https://api.example.org", "*", true),
        ] {
            assert_eq!(passes_by(&host_of(url).unwrap(), but), by, "{url} {but}");
        }
    }
}
