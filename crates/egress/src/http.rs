//! Plain HTTP: one request at a time is judged, framed and passed on; the answer is passed back as it is.
//!
//! ```text
//!   head ─ strict ─▶ judged by its own host ─▶ permit ─▶ dial ─▶ head, written anew ─▶ body, so long
//!                                                              ◀─ answer, to its end ─ close
//! ```
//!
//! Every request has a connection of its own to the host, which is asked to close it. So nothing that
//! stands behind a request can reach a host, and no answer has to be understood.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use policy::access::{Access, overrides_method};
use policy::host::{Authority, Host};
use protocol::egress::Via;
use protocol::network::DenyReason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::tcp::{ReadHalf, WriteHalf};

use crate::binding::Binding;
use crate::dial::dial;
use crate::head::{self, Framing, Head, HeadError, MAX_HEAD, Target};
use crate::judge::{Attempt, Judged, judge};
use crate::refusal;
use crate::relay::{self, Counts};
use crate::secrets::{Asked, Look, Secrets, Way};
use crate::stream::{self, Begun};

/// How long a head may take to come.
pub(crate) const HEAD: Duration = Duration::from_secs(10);

/// An answer that pauses for so long while another request waits is over.
const OVER: Duration = Duration::from_secs(1);

/// The longest line before a chunk.
const MAX_CHUNK_LINE: usize = 256;

/// The longest fields behind the last chunk.
const MAX_TRAILERS: usize = 8 * 1024;

/// Methods whose requests rarely have a body.
const BODILESS: [&str; 3] = ["GET", "HEAD", "OPTIONS"];

/// Reads the head that comes next; refuses over HTTP, and gives nothing, where there is none.
pub(crate) async fn next_head(begun: &mut Begun) -> Option<Head> {
    let length = loop {
        // Empty lines before a request are not: RFC 9112 section 2.2 lets us do without that courtesy.
        if let Some(length) = head::end(&begun.read) {
            break length;
        }
        match begun.more(MAX_HEAD).await {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                let error = HeadError { status: 431, why: "its head is longer than 64 KiB" };
                error.over_http(&mut begun.stream).await;
                return None;
            }
            Err(error) if error.kind() == io::ErrorKind::TimedOut && !begun.read.is_empty() => {
                let text = "patchyard: the head of the request did not come within 10 s.\n";
                refusal::answer(&mut begun.stream, "408 Request Timeout", &[], text).await;
                return None;
            }
            Err(_) => return None,
        }
    };
    match head::read(&begun.take(length)) {
        Ok(head) => Some(head),
        Err(error) => {
            error.over_http(&mut begun.stream).await;
            None
        }
    }
}

/// Serves a request to the proxy for a resource.
pub(crate) async fn serve_absolute(binding: &Arc<Binding>, mut begun: Begun, head: Head) {
    let Target::Absolute { host, port, path } = head.target.clone() else { return };
    let attempt = Attempt {
        via: Via::Http,
        host: Ok(host),
        port,
        original: None,
        request: Some((head.method.clone(), path.clone())),
    };
    match judge(binding, attempt).await {
        Ok(judged) => pass_on(judged, begun, &head, &path).await,
        Err(refused) => refused.over_http(&mut begun.stream).await,
    }
}

/// Serves a request over a connection that is judged already: for its host and no other.
pub(crate) async fn serve_origin(judged: Judged, mut begun: Begun) {
    let Some(head) = next_head(&mut begun).await else { return };
    let (named, path) = match head.target.clone() {
        Target::Origin { host: Authority { host, port }, path } => ((host, port.unwrap_or(80)), path),
        Target::Absolute { host, port, path } => ((host, port), path),
        Target::Tunnel { .. } => {
            let text = "patchyard: there is no tunnel within a tunnel.\n";
            return refusal::answer(&mut begun.stream, "405 Method Not Allowed", &[], text).await;
        }
    };
    let judged = judged.with_request(&head.method, &path);
    if named != (judged.host.clone(), judged.port()) {
        return judged.refuse(DenyReason::HostMismatch, None).over_http(&mut begun.stream).await;
    }
    pass_on(judged, begun, &head, &path).await;
}

async fn pass_on(judged: Judged, mut begun: Begun, head: &Head, path: &str) {
    let overridden = head.fields.iter().any(|(name, _)| overrides_method(name));
    if !judged.permits(&head.method, path) || (overridden && judged.access() == Access::Read) {
        return judged.refuse(DenyReason::Method, None).over_http(&mut begun.stream).await;
    }
    let secrets = judged.secrets();
    if let Err(reason) = check_secrets(head, path, &secrets, &judged) {
        return judged.refuse(reason, None).over_http(&mut begun.stream).await;
    }
    let written = rewritten(head, &judged.host, judged.port(), path);
    let permit = match judged.admit(None) {
        Ok(permit) => permit,
        Err(refused) => return refused.over_http(&mut begun.stream).await,
    };
    let counts = permit.counts();
    let Some((mut outside, address)) = dial(&permit.addresses).await else {
        permit.close(None, &counts, None);
        let text = "patchyard: the host does not answer.\n";
        return refusal::answer(&mut begun.stream, "502 Bad Gateway", &[], text).await;
    };
    let Begun { stream: mut inside, read, .. } = begun;
    let refused = {
        let (from_inside, to_inside) = inside.split();
        let (from_outside, to_outside) = outside.split();
        let look = Look::new(secrets, Way::Up);
        let mut body = Body { from: from_inside, to: to_outside, read, counts: &counts, look };
        tokio::select! {
            refused = body.send(&written, head.framing) => refused,
            _ = relay::down(from_outside, to_inside, &counts) => None,
            () = permit.end.cancelled() => None,
            () = relay::idle(&counts) => None,
        }
    };
    permit.close(Some(address), &counts, refused);
    stream::end(&mut inside).await;
}

/// The head as the host gets it.
pub(crate) fn rewritten(head: &Head, host: &Host, port: u16, path: &str) -> Vec<u8> {
    let name = match host {
        Host::V6(address) => format!("[{address}]"),
        host => host.to_string(),
    };
    let port = if port == 80 { String::new() } else { format!(":{port}") };
    let mut written = format!("{} {path} HTTP/1.1\r\nHost: {name}{port}\r\n", head.method).into_bytes();
    for (name, value) in &head.fields {
        written.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
    }
    match head.framing {
        Framing::Chunked => written.extend(b"Transfer-Encoding: chunked\r\n"),
        Framing::Length(0) if BODILESS.contains(&head.method.as_str()) => {}
        Framing::Length(length) => written.extend(format!("Content-Length: {length}\r\n").into_bytes()),
    }
    if head.expects_continue {
        written.extend(b"Expect: 100-continue\r\n");
    }
    written.extend(b"Connection: close\r\n\r\n");
    written
}

/// Whether a head may go out unencrypted: without a secret, and without what stands for one.
fn check_secrets(head: &Head, path: &str, secrets: &Secrets, judged: &Judged) -> Result<(), DenyReason> {
    let plain = path.split('?').next().unwrap_or_default();
    let asked = Asked { host: &judged.host, port: judged.port(), method: &head.method, path: plain };
    if secrets.leak_in(path.as_bytes()) || head.fields.iter().any(|(_, value)| secrets.leak_in(value)) {
        return Err(DenyReason::Dlp);
    }
    for (_, value) in &head.fields {
        if secrets.put_into(value, asked)?.is_some() {
            return Err(DenyReason::SecretScope);
        }
    }
    Ok(())
}

/// A body on its way to the host.
pub(crate) struct Body<'a> {
    pub(crate) from: ReadHalf<'a>,
    pub(crate) to: WriteHalf<'a>,
    /// What of it was read already.
    pub(crate) read: Vec<u8>,
    pub(crate) counts: &'a Counts,
    pub(crate) look: Look,
}

/// Why a body does not go on.
pub(crate) enum Broken {
    /// The connection.
    Io,
    /// What was sent is no body of the kind that was promised.
    Framing,
    /// It holds a secret.
    Secret,
}

impl From<io::Error> for Broken {
    fn from(_: io::Error) -> Self {
        Self::Io
    }
}

impl Body<'_> {
    /// Sends head and body, and then waits: the answer ends it all. Returns at once where the body breaks,
    /// with the reason where that is one.
    async fn send(&mut self, head: &[u8], framing: Framing) -> Option<DenyReason> {
        let sent = async {
            self.put(head).await?;
            match framing {
                Framing::Length(length) => self.pass(length).await,
                Framing::Chunked => self.chunks().await,
            }
        };
        match sent.await {
            Ok(()) => self.next_request().await,
            Err(Broken::Io) => None,
            Err(Broken::Framing) => Some(DenyReason::Framing),
            Err(Broken::Secret) => Some(DenyReason::Dlp),
        }
    }

    /// Waits for another request where the answer is over and its host, asked to close the connection, does
    /// not: who asks again has to do so on a new one.
    async fn next_request(&mut self) -> Option<DenyReason> {
        if self.read.is_empty() && self.from.readable().await.is_err() {
            return None;
        }
        let mut seen = 0;
        loop {
            tokio::time::sleep(OVER).await;
            let (_, down) = self.counts.both();
            if down > 0 && down == seen {
                return None;
            }
            seen = down;
        }
    }

    async fn put(&mut self, bytes: &[u8]) -> Result<(), Broken> {
        self.to.write_all(bytes).await?;
        self.counts.add_up(bytes.len())?;
        Ok(())
    }

    /// Passes so many bytes on.
    pub(crate) async fn pass(&mut self, mut length: u64) -> Result<(), Broken> {
        while length > 0 {
            self.fill().await?;
            let part = usize::try_from(length).map_or(self.read.len(), |length| length.min(self.read.len()));
            let bytes: Vec<u8> = self.read.drain(..part).collect();
            if self.look.finds(&bytes) {
                return Err(Broken::Secret);
            }
            self.put(&bytes).await?;
            length -= part as u64;
        }
        Ok(())
    }

    /// Passes chunks on, each with a length that we write ourselves; extensions and fields behind the
    /// last one are left out.
    pub(crate) async fn chunks(&mut self) -> Result<(), Broken> {
        loop {
            let line = self.line(MAX_CHUNK_LINE).await?;
            let length = chunk_length(&line).ok_or(Broken::Framing)?;
            if length == 0 {
                break;
            }
            self.put(format!("{length:x}\r\n").as_bytes()).await?;
            self.pass(length).await?;
            self.line(0).await?;
            self.put(b"\r\n").await?;
        }
        let mut left = MAX_TRAILERS;
        loop {
            let line = self.line(left).await?;
            left = left.saturating_sub(line.len() + 2);
            if line.is_empty() {
                break;
            }
        }
        self.put(b"0\r\n\r\n").await
    }

    /// The next line without its CR LF; the limit holds however it comes.
    async fn line(&mut self, limit: usize) -> Result<Vec<u8>, Broken> {
        loop {
            if let Some(at) = self.read.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.read.drain(..=at).collect();
                let line = line.strip_suffix(b"\r\n").ok_or(Broken::Framing)?;
                let broken = line.contains(&b'\r') || line.len() > limit;
                return if broken { Err(Broken::Framing) } else { Ok(line.to_vec()) };
            }
            // The CR may be there already.
            if self.read.len() > limit + 1 {
                return Err(Broken::Framing);
            }
            self.fill_more().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), Broken> {
        if self.read.is_empty() { self.fill_more().await } else { Ok(()) }
    }

    async fn fill_more(&mut self) -> Result<(), Broken> {
        loop {
            self.from.readable().await?;
            let before = self.read.len();
            self.read.resize(before + 16 * 1024, 0);
            let outcome = self.from.try_read(&mut self.read[before..]);
            self.read.truncate(before + outcome.as_ref().copied().unwrap_or(0));
            match outcome {
                Ok(0) => return Err(Broken::Io),
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The length of a chunk: hex digits, then perhaps an extension.
fn chunk_length(line: &[u8]) -> Option<u64> {
    let digits = line.split(|byte| *byte == b';').next()?;
    if digits.is_empty() || digits.len() > 15 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A connection that was refused at once, where a plain request is expected: the request is read so that
/// its answer is.
pub(crate) async fn refuse_origin(refused: &crate::judge::Refused, mut begun: Begun) {
    begun.extend(HEAD);
    if next_head(&mut begun).await.is_some() {
        refused.over_http(&mut begun.stream).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_chunks_are_plain_hex() {
        for (line, length) in [("0", Some(0)), ("1f", Some(31)), ("A;x=y", Some(10))] {
            assert_eq!(chunk_length(line.as_bytes()), length, "{line}");
        }
        for line in ["", " 1", "1 ", "0x1", "+1", "-1", "1g", ";x", "1111111111111111"] {
            assert_eq!(chunk_length(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_head_is_written_anew() {
        let text = "POST http://a.test:8080/x?y HTTP/1.1\r\nHost: a.test:8080\r\nX-A: 1\r\nConnection: x-b\r\n\
                    X-B: 2\r\nContent-Length: 3\r\n\r\n";
        let head = head::read(text.as_bytes()).unwrap();
        let Target::Absolute { host, port, path } = &head.target else { unreachable!() };
        let written = String::from_utf8(rewritten(&head, host, *port, path)).unwrap();
        let wanted = "POST /x?y HTTP/1.1\r\nHost: a.test:8080\r\nX-A: 1\r\nContent-Length: 3\r\n\
                      Connection: close\r\n\r\n";
        assert_eq!(written, wanted);
    }
}
