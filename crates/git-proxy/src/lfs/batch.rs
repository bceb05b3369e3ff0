//! The batch request, and what a server answers to it.
//!
//! ```text
//!   client's bytes ─ BatchRequest::parse ─▶ operation, ref, objects ─ written ─▶ the server
//!   server's bytes ─ BatchAnswer::parse ──▶ for each object that was asked for: what to do, or why not
//! ```
//!
//! Neither passes on: both are read, checked and written anew, so that nothing that is not known here goes
//! one way or the other.

use std::collections::BTreeMap;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use reqwest::Url;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::pointer::{Oid, Pointer};

/// The longest request.
pub(crate) const MAX_REQUEST: usize = 256 * 1024;

/// The longest answer.
pub(crate) const MAX_ANSWER: usize = 8 * 1024 * 1024;

/// The most objects of one request; git-lfs asks for 100 at a time.
pub(crate) const MAX_OBJECTS: usize = 1000;

/// The most fields that an action wants to be sent, and the longest value.
const MAX_FIELDS: usize = 32;
const MAX_VALUE: usize = 16 * 1024;

/// The longest address.
const MAX_HREF: usize = 16 * 1024;

/// What is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Operation {
    Download,
    Upload,
}

/// What a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchRequest {
    pub(crate) operation: Operation,
    /// The full name of the ref that it is for.
    pub(crate) reference: Option<String>,
    pub(crate) objects: Vec<Pointer>,
}

/// Why a request or an answer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BatchError {
    #[error("this is no batch request of git LFS")]
    NoRequest,
    #[error("objects are moved by the transfer `basic` alone; leave lfs.customtransfer out")]
    Transfer,
    #[error("objects are named by SHA-256 alone")]
    Hash,
    #[error("a batch names no more than {MAX_OBJECTS} objects; set lfs.transfer.batchSize lower")]
    TooMany,
    #[error("an object is named by something else than its SHA-256 and its size")]
    Object,
    #[error("an object is named twice")]
    Twice,
    #[error("what its server answered is no batch of git LFS")]
    NoAnswer,
}

#[derive(Deserialize)]
struct RawRequest {
    operation: Operation,
    #[serde(default)]
    transfers: Option<Vec<String>>,
    #[serde(default, rename = "ref")]
    reference: Option<RawRef>,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<RawPointer>,
}

#[derive(Deserialize)]
struct RawRef {
    name: String,
}

#[derive(Deserialize)]
struct RawPointer {
    oid: String,
    size: i64,
}

impl RawPointer {
    fn checked(&self) -> Option<Pointer> {
        Some(Pointer { oid: Oid::parse(&self.oid)?, size: self.size.try_into().ok()? })
    }
}

impl BatchRequest {
    /// Reads a request.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        if bytes.len() > MAX_REQUEST {
            return Err(BatchError::TooMany);
        }
        let raw: RawRequest = serde_json::from_slice(bytes).map_err(|_| BatchError::NoRequest)?;
        let basic =
            |transfers: &Vec<String>| transfers.is_empty() || transfers.iter().any(|one| one == "basic");
        if !raw.transfers.as_ref().is_none_or(basic) {
            return Err(BatchError::Transfer);
        }
        if !is_sha256(raw.hash_algo.as_deref()) {
            return Err(BatchError::Hash);
        }
        if raw.objects.len() > MAX_OBJECTS {
            return Err(BatchError::TooMany);
        }
        let mut objects = Vec::with_capacity(raw.objects.len());
        let mut seen = BTreeMap::new();
        for object in &raw.objects {
            let pointer = object.checked().ok_or(BatchError::Object)?;
            match seen.insert(pointer.oid, pointer.size) {
                None => objects.push(pointer),
                // git-lfs itself names one file of two places twice.
                Some(size) if size == pointer.size => {}
                Some(_) => return Err(BatchError::Twice),
            }
        }
        Ok(Self { operation: raw.operation, reference: raw.reference.map(|one| one.name), objects })
    }

    /// The request as it goes out.
    pub(crate) fn written(&self) -> Vec<u8> {
        let object = |one: &Pointer| json!({ "oid": one.oid.to_string(), "size": one.size });
        let mut body = json!({
            "operation": self.operation,
            "transfers": ["basic"],
            "hash_algo": "sha256",
            "objects": self.objects.iter().map(object).collect::<Vec<_>>(),
        });
        if let Some(name) = &self.reference {
            body["ref"] = json!({ "name": name });
        }
        body.to_string().into_bytes()
    }
}

fn is_sha256(named: Option<&str>) -> bool {
    named.is_none_or(|name| name.is_empty() || name == "sha256")
}

/// A request that a server wants for an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Action {
    pub(crate) href: Url,
    /// What it wants to be sent with it. May be a credential.
    pub(crate) headers: HeaderMap,
}

/// What is to be done with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Todo {
    pub(crate) action: Action,
    /// What is to be asked when it was sent.
    pub(crate) verify: Option<Action>,
    /// Whether the action needs nothing but its fields.
    pub(crate) authenticated: bool,
}

/// What a server says of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// There is nothing to do: it has the object that would be sent.
    Nothing,
    /// The object can be had there, or sent there.
    Do(Box<Todo>),
    /// It cannot.
    Refused { code: u16, words: String },
}

/// What a server answers: each object that was asked for, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BatchAnswer {
    pub(crate) objects: Vec<(Pointer, Said)>,
}

#[derive(Deserialize)]
struct RawAnswer {
    #[serde(default)]
    transfer: Option<String>,
    #[serde(default)]
    hash_algo: Option<String>,
    objects: Vec<RawObject>,
}

#[derive(Deserialize)]
struct RawObject {
    #[serde(flatten)]
    pointer: RawPointer,
    #[serde(default)]
    authenticated: Option<bool>,
    #[serde(default)]
    actions: Option<RawActions>,
    #[serde(default)]
    error: Option<RawError>,
}

#[derive(Default, Deserialize)]
struct RawActions {
    #[serde(default)]
    download: Option<RawAction>,
    #[serde(default)]
    upload: Option<RawAction>,
    #[serde(default)]
    verify: Option<RawAction>,
}

#[derive(Deserialize)]
struct RawAction {
    href: String,
    #[serde(default)]
    header: Option<BTreeMap<String, String>>,
}

#[derive(Deserialize)]
struct RawError {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

impl BatchAnswer {
    /// Reads the answer to a request. Objects that nobody asked for are left out, and those without an
    /// answer are refused.
    pub(crate) fn parse(bytes: &[u8], asked: &BatchRequest) -> Result<Self, BatchError> {
        let raw: RawAnswer = serde_json::from_slice(bytes).map_err(|_| BatchError::NoAnswer)?;
        if raw.transfer.is_some_and(|name| !name.is_empty() && name != "basic") {
            return Err(BatchError::Transfer);
        }
        if !is_sha256(raw.hash_algo.as_deref()) {
            return Err(BatchError::Hash);
        }
        let mut answers: BTreeMap<Pointer, Said> = BTreeMap::new();
        for object in raw.objects {
            let pointer = object.pointer.checked().ok_or(BatchError::Object)?;
            if answers.insert(pointer, said(object, asked.operation)).is_some() {
                return Err(BatchError::Twice);
            }
        }
        let silent = || Said::Refused { code: 404, words: "its server said nothing of it".into() };
        let objects = asked.objects.iter().map(|one| (*one, answers.remove(one).unwrap_or_else(silent)));
        Ok(Self { objects: objects.collect() })
    }
}

fn said(object: RawObject, operation: Operation) -> Said {
    if let Some(error) = object.error {
        let words = error.message.chars().filter(|c| !c.is_control()).take(200).collect();
        return Said::Refused { code: if error.code == 0 { 404 } else { error.code }, words };
    }
    let actions = object.actions.unwrap_or_default();
    let (wanted, verify) = match operation {
        Operation::Download => (actions.download, None),
        Operation::Upload => (actions.upload, actions.verify),
    };
    let odd =
        || Said::Refused { code: 502, words: "its server names an address that cannot be asked".into() };
    let Some(wanted) = wanted else {
        return match operation {
            Operation::Upload => Said::Nothing,
            Operation::Download => Said::Refused { code: 404, words: "its server has it not".into() },
        };
    };
    let verify = match verify.map(RawAction::checked) {
        None => None,
        Some(Some(verify)) => Some(verify),
        Some(None) => return odd(),
    };
    match wanted.checked() {
        Some(action) => {
            let authenticated = object.authenticated.unwrap_or(false);
            Said::Do(Box::new(Todo { action, verify, authenticated }))
        }
        None => odd(),
    }
}

impl RawAction {
    fn checked(self) -> Option<Action> {
        if self.href.len() > MAX_HREF {
            return None;
        }
        let href = Url::parse(&self.href).ok()?;
        let plain = href.username().is_empty() && href.password().is_none() && href.has_host();
        if !plain || !matches!(href.scheme(), "http" | "https") {
            return None;
        }
        let given = self.header.unwrap_or_default();
        if given.len() > MAX_FIELDS {
            return None;
        }
        let mut headers = HeaderMap::new();
        for (name, value) in given.iter().filter(|(name, _)| !is_ours(name)) {
            let name = HeaderName::from_bytes(name.as_bytes()).ok()?;
            let mut value = HeaderValue::from_str(value).ok().filter(|value| value.len() <= MAX_VALUE)?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Some(Action { href, headers })
    }
}

/// Fields that say how a message is sent, which is not for others to say.
fn is_ours(name: &str) -> bool {
    const OURS: [&str; 11] = [
        "host",
        "connection",
        "content-length",
        "transfer-encoding",
        "te",
        "trailer",
        "upgrade",
        "expect",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
    ];
    OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn pointer(number: u8) -> Pointer {
        Pointer { oid: Oid::of_digest([number; 32]), size: u64::from(number) }
    }

    fn request(operation: Operation, objects: &[Pointer]) -> BatchRequest {
        BatchRequest { operation, reference: Some("refs/heads/x".into()), objects: objects.to_vec() }
    }

    #[test]
    fn a_request_names_objects_by_hash_and_size_and_nothing_else_goes_out() {
        let oid = pointer(1).oid;
        let of = |body: &str| BatchRequest::parse(body.replace("OID", &oid.to_string()).as_bytes());
        let whole = r#"{"operation":"download","transfers":["ssh","basic"],"ref":{"name":"refs/heads/x","evil":1},
            "objects":[{"oid":"OID","size":1,"x":"y"},{"oid":"OID","size":1}],"hash_algo":"sha256","more":{}}"#;
        assert_eq!(of(whole), Ok(request(Operation::Download, &[pointer(1)])));
        let out = String::from_utf8(of(whole).unwrap().written()).unwrap();
        assert!(!out.contains("evil") && !out.contains("more") && !out.contains("ssh"), "{out}");
        for (body, error) in [
            ("", BatchError::NoRequest),
            ("[]", BatchError::NoRequest),
            (r#"{"operation":"delete","objects":[]}"#, BatchError::NoRequest),
            (r#"{"operation":"download","operation":"upload","objects":[]}"#, BatchError::NoRequest),
            (r#"{"operation":"download","objects":[],"transfers":["ssh"]}"#, BatchError::Transfer),
            (r#"{"operation":"download","objects":[],"hash_algo":"sha1"}"#, BatchError::Hash),
            (r#"{"operation":"download","objects":[{"oid":"../../x","size":1}]}"#, BatchError::Object),
            (r#"{"operation":"download","objects":[{"oid":"OID","size":-1}]}"#, BatchError::Object),
            (
                r#"{"operation":"download","objects":[{"oid":"OID","size":1},{"oid":"OID","size":2}]}"#,
                BatchError::Twice,
            ),
        ] {
            assert_eq!(of(body), Err(error), "{body}");
        }
        let many: Vec<_> = (0..=MAX_OBJECTS).map(|_| json!({ "oid": oid.to_string(), "size": 1 })).collect();
        let many = json!({ "operation": "upload", "objects": many }).to_string();
        assert_eq!(BatchRequest::parse(many.as_bytes()), Err(BatchError::TooMany));
        assert_eq!(BatchRequest::parse(&vec![b' '; MAX_REQUEST + 1]), Err(BatchError::TooMany));
    }

    #[test]
    fn an_answer_is_about_what_was_asked_and_leads_to_hosts_alone() {
        let asked = request(Operation::Download, &[pointer(1), pointer(2), pointer(3)]);
        let download = |href: &str| json!({ "download": { "href": href, "header": { "Authorization": "RemoteAuth x", "Host": "evil" } } });
        let object = |number: u8, actions: serde_json::Value| json!({ "oid": pointer(number).oid.to_string(), "size": number, "actions": actions });
        let body = json!({ "transfer": "basic", "objects": [
            object(1, download("https://h.test/1")),
            object(9, download("https://h.test/9")),
            { "oid": pointer(2).oid.to_string(), "size": 2, "error": { "code": 410, "message": "gone\nfar" } },
        ]});
        let answer = BatchAnswer::parse(body.to_string().as_bytes(), &asked).unwrap();
        let Said::Do(todo) = &answer.objects[0].1 else { panic!("{answer:?}") };
        let action = &todo.action;
        assert_eq!((action.href.as_str(), action.headers.len()), ("https://h.test/1", 1));
        assert!(!format!("{action:?}").contains("RemoteAuth"), "a field is no word for logs");
        assert_eq!(answer.objects[1].1, Said::Refused { code: 410, words: "gonefar".into() });
        assert!(matches!(&answer.objects[2].1, Said::Refused { code: 404, .. }));
        assert_eq!(answer.objects.len(), 3);
        for href in ["file:///etc/passwd", "https://u:p@h.test/", "h.test/x", "", "data:x", "ftp://h.test/"] {
            let body = json!({ "objects": [object(1, download(href))] }).to_string();
            let answer = BatchAnswer::parse(body.as_bytes(), &asked).unwrap();
            assert!(matches!(answer.objects[0].1, Said::Refused { code: 502, .. }), "{href}");
        }
        let twice = json!({ "objects": [object(1, json!({})), object(1, json!({}))] }).to_string();
        assert_eq!(BatchAnswer::parse(twice.as_bytes(), &asked), Err(BatchError::Twice));
        for (body, error) in
            [("<html>", BatchError::NoAnswer), (r#"{"transfer":"tus","objects":[]}"#, BatchError::Transfer)]
        {
            assert_eq!(BatchAnswer::parse(body.as_bytes(), &asked), Err(error));
        }
        let asked = request(Operation::Upload, &[pointer(1)]);
        let has = json!({ "objects": [object(1, json!({}))] }).to_string();
        assert_eq!(BatchAnswer::parse(has.as_bytes(), &asked).unwrap().objects[0].1, Said::Nothing);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(numbers in proptest::collection::btree_set(any::<u8>(), 0..20), upload in any::<bool>()) {
            let objects: Vec<Pointer> = numbers.into_iter().map(pointer).collect();
            let operation = if upload { Operation::Upload } else { Operation::Download };
            let request = request(operation, &objects);
            prop_assert_eq!(BatchRequest::parse(&request.written()), Ok(request));
        }
    }
}
