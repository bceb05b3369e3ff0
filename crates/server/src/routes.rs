//! One file per resource; a handler's name is its operation id.

pub(crate) mod access;
pub(crate) mod blobs;
pub(crate) mod checkpoints;
pub(crate) mod credentials;
pub(crate) mod diff;
pub(crate) mod environments;
pub(crate) mod events;
pub(crate) mod files;
pub(crate) mod git;
pub(crate) mod health;
pub(crate) mod info;
pub(crate) mod metrics;
pub(crate) mod network;
pub(crate) mod prompts;
pub(crate) mod pull_requests;
pub(crate) mod sessions;
pub(crate) mod shells;
pub(crate) mod stream;
pub(crate) mod uploads;

use axum::http::HeaderMap;
use sha2::{Digest as _, Sha256};
use store::IdempotencyKey;

use crate::reply::Reply;

/// The longest idempotency key.
const MAX_KEY: usize = 200;

/// The request's idempotency key, if it has one, tied to what the request says.
fn idempotency<T: serde::Serialize>(
    headers: &HeaderMap,
    scope: &str,
    body: &T,
) -> Result<Option<IdempotencyKey>, Reply> {
    let Some(value) = headers.get("idempotency-key") else { return Ok(None) };
    let key = value.to_str().unwrap_or_default();
    if key.is_empty() || key.len() > MAX_KEY {
        let next = "send 1 to 200 visible characters, such as a UUID";
        return Err(Reply::new(400, "bad_idempotency_key", "the Idempotency-Key cannot be used", next));
    }
    let text = serde_json::to_vec(body).unwrap_or_default();
    Ok(Some(IdempotencyKey {
        scope: scope.to_owned(),
        key: key.to_owned(),
        fingerprint: Sha256::digest(text).to_vec(),
    }))
}
