//! The batch request of git LFS, the answer to one, and pointers.
//!
//! ```text
//!   input:  a byte │ length, a request │ length, an answer
//!   request ─▶ read ─▶ written anew ─▶ read: the same, and nothing of the input but names, sizes and the ref
//!   answer ──▶ read ─▶ for what was asked alone; addresses of hosts alone; no field that says how to send
//! ```
//!
//! The second reader takes the input for JSON without a shape, and looks for what must not have passed.

use serde_json::Value;

use crate::lfs::batch::{Action, BatchAnswer, BatchRequest, MAX_OBJECTS, Operation, Said};
use crate::lfs::pointer::{MAX_POINTER, Pointer};

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let (request, rest) = text(data.get(1..).unwrap_or_default());
    let (answer, _) = text(rest);
    if let Some(pointer) = Pointer::parse(request) {
        assert!(request.len() < MAX_POINTER && i64::try_from(pointer.size).is_ok());
        let oid = pointer.oid.to_string();
        assert!(
            request.windows(64).any(|window| window == oid.as_bytes()),
            "another name than that in the file"
        );
    }
    let Ok(read) = BatchRequest::parse(request) else { return };
    let asked = of_json(request);
    assert!(read.objects.len() <= MAX_OBJECTS);
    let mut names: Vec<String> = read.objects.iter().map(|one| one.oid.to_string()).collect();
    let is_named =
        |name: &String| asked.as_ref().is_none_or(|asked| asked.iter().any(|(oid, _)| oid == name));
    assert!(names.iter().all(is_named), "an object that nobody named");
    names.sort();
    names.dedup();
    assert_eq!(names.len(), read.objects.len(), "an object twice");
    assert_eq!(BatchRequest::parse(&read.written()).as_ref(), Ok(&read), "it changes on its way");
    answered(&read, answer);
}

/// The first text, and what is behind it.
fn text(data: &[u8]) -> (&[u8], &[u8]) {
    let Some((length, rest)) = data.split_first_chunk::<4>() else { return (data, &[]) };
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    rest.split_at(length.min(rest.len()))
}

/// Oids and sizes of an input, as a reader without a shape finds them. Nothing where that one gives up: it
/// looks into numbers of fields that nobody reads, and wants them to fit.
fn of_json(bytes: &[u8]) -> Option<Vec<(String, i64)>> {
    let Value::Object(body) = serde_json::from_slice(bytes).ok()? else { return Some(Vec::new()) };
    let objects = body.get("objects").and_then(Value::as_array).cloned().unwrap_or_default();
    let object = |one: &Value| Some((one.get("oid")?.as_str()?.to_owned(), one.get("size")?.as_i64()?));
    Some(objects.iter().filter_map(object).collect())
}

fn answered(asked: &BatchRequest, bytes: &[u8]) {
    let Ok(answer) = BatchAnswer::parse(bytes, asked) else { return };
    let objects: Vec<Pointer> = answer.objects.iter().map(|(pointer, _)| *pointer).collect();
    assert_eq!(objects, asked.objects, "each object that was asked for, once");
    let named = of_json(bytes);
    for (pointer, said) in &answer.objects {
        match said {
            Said::Nothing => assert_eq!(asked.operation, Operation::Upload, "a download without an address"),
            Said::Refused { words, .. } => assert!(words.chars().all(|c| !c.is_control())),
            Said::Do(todo) => {
                let oid = pointer.oid.to_string();
                let same =
                    |(name, size): &(String, i64)| *name == oid && u64::try_from(*size) == Ok(pointer.size);
                let is_named = named.as_ref().is_none_or(|named| named.iter().any(same));
                assert!(is_named, "an answer about another object");
                for action in [Some(&todo.action), todo.verify.as_ref()].into_iter().flatten() {
                    harmless(action);
                }
            }
        }
    }
}

fn harmless(action: &Action) {
    let href = &action.href;
    assert!(matches!(href.scheme(), "http" | "https") && href.has_host(), "{href}");
    assert!(href.username().is_empty() && href.password().is_none(), "{href}");
    for name in action.headers.keys() {
        let steers = ["host", "connection", "content-length", "transfer-encoding", "upgrade", "expect"];
        assert!(!steers.contains(&name.as_str()), "{name}");
    }
    assert!(action.headers.len() <= 32);
}
