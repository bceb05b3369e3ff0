//! What stands between a client and a registry, and what goes wrong there.
//!
//! ```text
//!   client ─▶ proxy: wants a token · breaks connections off · is busy ─▶ registry
//! ```

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use base64::Engine as _;

use crate::registry::{PASSWORD, USER};

/// What the proxy does.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Faults {
    /// Nobody gets in without a token, which its own `/token` gives for a login.
    pub(crate) wants_token: bool,
    /// Every answer that has more than this many bytes of content is broken off there.
    pub(crate) breaks_off: Option<usize>,
    /// The first answers are that it is busy.
    pub(crate) busy: usize,
    /// Answers lead on to an address that is not on this machine.
    pub(crate) leads_away: bool,
}

/// A running proxy; its thread ends with the tests.
pub(crate) struct Proxy {
    pub(crate) address: String,
    /// The first line and the range of every request.
    pub(crate) requests: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    pub(crate) fn before(registry: &str, faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let (registry, own, seen) = (registry.to_owned(), address.clone(), Arc::clone(&requests));
        let busy = Arc::new(AtomicUsize::new(faults.busy));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (registry, own) = (registry.clone(), own.clone());
                let (seen, busy) = (Arc::clone(&seen), Arc::clone(&busy));
                std::thread::spawn(move || answer(stream, &registry, &own, faults, &seen, &busy));
            }
        });
        Self { address, requests }
    }
}

/// One request, on a connection that ends with it.
fn answer(
    mut client: TcpStream,
    registry: &str,
    own: &str,
    faults: Faults,
    seen: &Mutex<Vec<String>>,
    busy: &AtomicUsize,
) -> Option<()> {
    let head = head(&mut client)?;
    let first = head.lines().next()?.to_owned();
    let field = |name: &str| {
        let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with(name))?;
        Some(line.split_once(':')?.1.trim().to_owned())
    };
    seen.lock().unwrap().push(format!("{first} {}", field("range:").unwrap_or_default()));
    let mut say = |status: &str, headers: &str, body: &str| {
        let length = body.len();
        let text = format!(
            "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n{body}"
        );
        client.write_all(text.as_bytes()).ok()
    };
    let busy = busy.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
    if busy.is_ok() {
        return say("503 Busy", "retry-after: 0\r\n", "");
    }
    if faults.leads_away {
        return say("307 Away", "location: http://registry.invalid/blob\r\n", "");
    }
    if faults.wants_token {
        let login = base64::engine::general_purpose::STANDARD.encode(format!("{USER}:{PASSWORD}"));
        let given = field("authorization:").unwrap_or_default();
        if first.starts_with("GET /token?") {
            return match given == format!("Basic {login}")
                && first.contains("service=test")
                && first.contains("scope=")
            {
                true => say("200 OK", "", r#"{"token":"let-me-in"}"#),
                false => say("401 Who", "", ""),
            };
        }
        if given != "Bearer let-me-in" {
            let challenge = format!(
                "www-authenticate: Bearer realm=\"http://{own}/token\",service=\"test\",scope=\"repository:x:pull\"\r\n"
            );
            return say("401 Who", &challenge, "");
        }
    }
    let mut upstream = TcpStream::connect(registry).ok()?;
    let mut request = format!("{first}\r\nhost: {registry}\r\nconnection: close\r\n");
    for name in ["accept:", "range:"] {
        if let Some(value) = field(name) {
            request.push_str(&format!("{name} {value}\r\n"));
        }
    }
    upstream.write_all(format!("{request}\r\n").as_bytes()).ok()?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer).ok()?;
    if let Some(most) = faults.breaks_off {
        let body = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
        answer.truncate(body + most);
    }
    client.write_all(&answer).ok()
}

fn head(client: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    String::from_utf8(head).ok()
}
