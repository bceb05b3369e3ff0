//! Large files of the git server: batches, and objects that are asked for with a secret of their own.
//!
//! ```text
//!  POST /<name>.git/info/lfs/objects/batch ─▶ href: <objects at>/_lfs/<oid>, Authorization: Bearer SECRET
//!  GET, PUT /_lfs/<oid> · POST /_lfs/<oid>/verify      nothing without that secret
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use axum::extract::Request;
use axum::http::{Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// What the batch has clients send for an object. Nobody inside a sandbox may see it.
pub const LFS_SECRET: &str = "canary-object-secret-9876543210";

/// What is wrong with the objects.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum LfsFault {
    /// Nothing.
    #[default]
    None,
    /// A byte is another one.
    Corrupt,
    /// They break off.
    Short,
    /// They are at another address, which the batch names.
    At(String),
    /// They are sent on to another address.
    MovedTo(String),
    /// There are none: no batch is answered.
    Off,
}

/// The large files of a host.
#[derive(Debug, Default)]
pub(super) struct Lfs {
    objects: Mutex<BTreeMap<String, Vec<u8>>>,
    verified: Mutex<Vec<String>>,
    fault: Mutex<LfsFault>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The name of an object.
#[must_use]
pub fn oid_of(content: &[u8]) -> String {
    Sha256::digest(content).iter().fold(String::new(), |mut name, byte| {
        let _ = write!(name, "{byte:02x}");
        name
    })
}

/// The pointer to an object.
#[must_use]
pub fn pointer_to(content: &[u8]) -> String {
    format!(
        "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize {}\n",
        oid_of(content),
        content.len()
    )
}

impl Lfs {
    pub(super) fn put(&self, content: &[u8]) -> String {
        let oid = oid_of(content);
        lock(&self.objects).insert(oid.clone(), content.to_vec());
        oid
    }

    pub(super) fn has(&self, oid: &str) -> bool {
        lock(&self.objects).contains_key(oid)
    }

    pub(super) fn verified(&self) -> Vec<String> {
        lock(&self.verified).clone()
    }

    pub(super) fn fail(&self, fault: LfsFault) {
        *lock(&self.fault) = fault;
    }

    /// The answer to a batch of somebody who has signed in.
    pub(super) async fn batch(&self, address: &str, request: Request) -> Response {
        let fault = lock(&self.fault).clone();
        if fault == LfsFault::Off {
            return StatusCode::NOT_FOUND.into_response();
        }
        let body = axum::body::to_bytes(request.into_body(), usize::MAX).await.unwrap_or_default();
        let asked: Value = serde_json::from_slice(&body).unwrap_or_default();
        let upload = asked["operation"] == "upload";
        let at = match &fault {
            LfsFault::At(other) => other,
            _ => address,
        };
        let action = |path: String| {
            json!({ "href": format!("{at}/_lfs/{path}"), "expires_in": 600,
                "header": { "Authorization": format!("Bearer {LFS_SECRET}") } })
        };
        let object = |object: &Value| {
            let oid = object["oid"].as_str().unwrap_or_default().to_owned();
            let mut told = json!({ "oid": oid, "size": object["size"], "authenticated": true });
            match (upload, self.has(&oid)) {
                (false, true) => told["actions"] = json!({ "download": action(oid) }),
                (false, false) => told["error"] = json!({ "code": 404, "message": "Object does not exist" }),
                (true, true) => {}
                (true, false) => {
                    told["actions"] =
                        json!({ "upload": action(oid.clone()), "verify": action(format!("{oid}/verify")) });
                }
            }
            told
        };
        let objects: Vec<Value> = asked["objects"].as_array().into_iter().flatten().map(object).collect();
        let body = json!({ "transfer": "basic", "objects": objects });
        ([(header::CONTENT_TYPE, "application/vnd.git-lfs+json")], body.to_string()).into_response()
    }

    /// The answer to a request for an object: `<oid>` or `<oid>/verify`.
    pub(super) async fn object(&self, path: &str, request: Request) -> Response {
        let given = request.headers().get(header::AUTHORIZATION).map(|value| value.as_bytes().to_vec());
        let fault = lock(&self.fault).clone();
        if given.as_deref() != Some(format!("Bearer {LFS_SECRET}").as_bytes()) {
            // Where objects are sent on to, the address itself is the permission.
            let signed = request.uri().query() == Some("signed");
            if !signed || given.is_some() {
                return StatusCode::FORBIDDEN.into_response();
            }
        }
        let (oid, verify) = match path.strip_suffix("/verify") {
            Some(oid) => (oid, true),
            None => (path, false),
        };
        if verify {
            lock(&self.verified).push(oid.to_owned());
            return StatusCode::OK.into_response();
        }
        if request.method() == Method::PUT {
            let Ok(body) = axum::body::to_bytes(request.into_body(), usize::MAX).await else {
                return StatusCode::BAD_REQUEST.into_response();
            };
            let right = self.put_named(oid, &body);
            return if right { StatusCode::OK } else { StatusCode::UNPROCESSABLE_ENTITY }.into_response();
        }
        if let LfsFault::MovedTo(other) = &fault {
            let place = [(header::LOCATION, format!("{other}/_lfs/{oid}?signed"))];
            return (StatusCode::TEMPORARY_REDIRECT, place).into_response();
        }
        let Some(mut content) = lock(&self.objects).get(oid).cloned() else {
            return StatusCode::NOT_FOUND.into_response();
        };
        match fault {
            LfsFault::Corrupt => content[0] ^= 1,
            LfsFault::Short => content.truncate(content.len() / 2),
            _ => {}
        }
        content.into_response()
    }

    fn put_named(&self, oid: &str, content: &[u8]) -> bool {
        let right = oid_of(content) == oid;
        if right {
            self.put(content);
        }
        right
    }
}
