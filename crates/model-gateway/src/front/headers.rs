//! Which headers pass.

use axum::http::HeaderMap;
use axum::http::header::{
    ACCEPT_ENCODING, AUTHORIZATION, CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};

/// What is about one connection only, or made anew.
const OF_THE_HOP: [HeaderName; 9] = [
    CONNECTION,
    CONTENT_LENGTH,
    HOST,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TE,
    TRAILER,
    TRANSFER_ENCODING,
    UPGRADE,
];

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const API_KEY: HeaderName = HeaderName::from_static("x-api-key");

fn is_of_the_hop(name: &HeaderName, headers: &HeaderMap) -> bool {
    let named = || {
        let lists = headers.get_all(CONNECTION).into_iter().filter_map(|list| list.to_str().ok());
        lists.flat_map(|list| list.split(',')).any(|word| word.trim().eq_ignore_ascii_case(name.as_str()))
    };
    OF_THE_HOP.contains(name) || *name == KEEP_ALIVE || *name == PROXY_CONNECTION || named()
}

/// The headers of a request as they go out: all but those of the hop and whatever the client has for a
/// key. The answer is asked for as it is, because it is counted.
pub(super) fn of_request(from: &HeaderMap, (name, key): &(HeaderName, HeaderValue)) -> HeaderMap {
    let mut to: HeaderMap = from
        .iter()
        .filter(|(name, _)| !is_of_the_hop(name, from))
        .filter(|(name, _)| ![API_KEY, AUTHORIZATION, ACCEPT_ENCODING, EXPECT].contains(name))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    to.insert(ACCEPT_ENCODING, HeaderValue::from_static("identity"));
    to.insert(name.clone(), key.clone());
    to
}

/// The headers of an answer as they go in: all but those of the hop, and none that holds the key.
pub(super) fn of_answer(from: &HeaderMap, key: &[u8]) -> HeaderMap {
    let pass = from.iter().filter(|(name, _)| !is_of_the_hop(name, from));
    let pass = pass.filter(|(_, value)| !holds(value.as_bytes(), key));
    pass.map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// A key that is shorter is no secret but a word that a server of one's own wants to see, and may stand in
/// any answer.
const SHORTEST_KEY: usize = 16;

/// Whether these bytes hold the key.
pub(super) fn holds(bytes: &[u8], key: &[u8]) -> bool {
    key.len() >= SHORTEST_KEY && bytes.windows(key.len()).any(|window| window == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn the_clients_key_goes_and_the_rest_passes() {
        let key = (API_KEY, HeaderValue::from_static("real"));
        let from = map(&[
            ("authorization", "Bearer theirs"),
            ("x-api-key", "theirs"),
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("accept-encoding", "gzip, br"),
            ("connection", "keep-alive, X-Hop"),
            ("x-hop", "1"),
            ("host", "127.0.0.1:3130"),
            ("transfer-encoding", "chunked"),
        ]);
        let wanted = map(&[
            ("anthropic-version", "2023-06-01"),
            ("anthropic-beta", "a"),
            ("anthropic-beta", "b"),
            ("accept-encoding", "identity"),
            ("x-api-key", "real"),
        ]);
        assert_eq!(of_request(&from, &key), wanted);
        let bearer = (AUTHORIZATION, HeaderValue::from_static("Bearer real"));
        assert_eq!(of_request(&from, &bearer).get("authorization").unwrap(), "Bearer real");
        assert_eq!(of_request(&from, &bearer).get("x-api-key"), None);
    }

    #[test]
    fn an_answer_brings_no_key_along() {
        let from = map(&[
            ("request-id", "req_1"),
            ("retry-after", "7"),
            ("x-echo", "it is sk-0123456789abcdef"),
            ("transfer-encoding", "chunked"),
        ]);
        let passed = map(&[("request-id", "req_1"), ("retry-after", "7")]);
        assert_eq!(of_answer(&from, b"sk-0123456789abcdef"), passed);
        // A word that anybody may say is no key.
        assert!(!holds(b"answered by ollama", b"ollama"));
    }
}
