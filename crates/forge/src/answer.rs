//! What a forge's answer means when it is no success.

use std::time::{SystemTime, UNIX_EPOCH};

use reqwest::header::{HeaderMap, RETRY_AFTER};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ForgeError, one_line};
use crate::token::Token;

/// How long a limit lasts whose end is not told, in seconds.
const USUAL_LIMIT: u64 = 60;

/// The longest that one is believed to last.
const LONGEST_LIMIT: u64 = 3600;

#[derive(Default, Deserialize)]
struct Told {
    #[serde(default)]
    message: String,
    #[serde(default)]
    errors: Vec<Value>,
}

/// The error of a status.
pub(crate) fn judge(
    (host, token): (&str, Option<&Token>),
    wanted: &str,
    (status, headers): (u16, &HeaderMap),
    body: &[u8],
) -> ForgeError {
    let (host, wanted) = (host.to_owned(), wanted.to_owned());
    let words = words(token, body);
    match status {
        401 if token.is_some() => ForgeError::Token { host },
        401 => ForgeError::NoToken { host },
        403 | 429 if is_limit(status, headers, &words) => {
            ForgeError::Limited { host, seconds: seconds(headers) }
        }
        403 => ForgeError::Denied { host, wanted, words },
        404 | 410 => ForgeError::NotFound { host, wanted },
        400 | 409 | 422 => ForgeError::Refused { host, wanted, words },
        300..=399 => ForgeError::Strange { host, why: "it redirects to another place".into() },
        status => ForgeError::Status { host, wanted, status },
    }
}

/// What it says to people, without the token.
fn words(token: Option<&Token>, body: &[u8]) -> String {
    let told: Told = serde_json::from_slice(body).unwrap_or_default();
    let detail = |error: &Value| match error {
        Value::String(text) => Some(text.clone()),
        error => {
            let text = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
            match (text("message"), text("field"), text("code")) {
                ("", "", "") => None,
                ("", field, code) => Some(format!("{field} is {code}")),
                (message, ..) => Some(message.to_owned()),
            }
        }
    };
    let details: Vec<String> = told.errors.iter().filter_map(detail).take(3).collect();
    let all = if details.is_empty() { told.message } else { details.join(", ") };
    let hidden = token.map_or_else(|| all.clone(), |token| token.hidden_in(&all));
    let line = one_line(hidden.trim_end_matches('.'));
    if line.is_empty() { "it gives no reason".into() } else { line }
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

fn is_limit(status: u16, headers: &HeaderMap, words: &str) -> bool {
    status == 429
        || headers.contains_key(RETRY_AFTER)
        || number(headers, "x-ratelimit-remaining") == Some(0)
        || words.to_ascii_lowercase().contains("rate limit")
}

fn seconds(headers: &HeaderMap) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_secs());
    let reset = || Some(number(headers, "x-ratelimit-reset")?.saturating_sub(now));
    let told = number(headers, RETRY_AFTER.as_str()).or_else(reset);
    told.unwrap_or(USUAL_LIMIT).clamp(1, LONGEST_LIMIT)
}

/// The next page of a field `Link`.
pub(crate) fn next_page(link: &str) -> Option<String> {
    link.split(',').find_map(|entry| {
        let (address, rest) = entry.trim().strip_prefix('<')?.split_once('>')?;
        rest.split(';').any(|part| part.trim() == "rel=\"next\"").then(|| address.to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_the_one_that_says_so() {
        let link = r#"<https://h.test/a?page=1>; rel="prev", <https://h.test/a?page=3>; rel="next""#;
        assert_eq!(next_page(link).as_deref(), Some("https://h.test/a?page=3"));
        for link in ["", "<https://h.test/a>; rel=\"last\"", "https://h.test/a; rel=\"next\"", "<x", "<x>"] {
            assert_eq!(next_page(link), None, "{link}");
        }
    }

    #[test]
    fn words_of_a_forge_are_one_line_without_the_token() {
        let token = Token::new("canary-0123456789");
        let of = |body: &str| words(Some(&token), body.as_bytes());
        assert_eq!(of(r#"{"message":"no\n canary-0123456789."}"#), "no …");
        assert_eq!(
            of(r#"{"message":"Validation Failed","errors":[{"field":"base","code":"invalid"}]}"#),
            "base is invalid"
        );
        assert_eq!(
            of(r#"{"message":"x","errors":[{"message":"A pull request already exists for o:b."}]}"#),
            "A pull request already exists for o:b"
        );
        assert_eq!(of("<html>"), "it gives no reason");
        assert!(of(&format!(r#"{{"message":"{}"}}"#, "x".repeat(5000))).len() <= 300);
    }
}
