//! `dial`: carries standard input and output to a host, for servers that the agent speaks with from outside.
//!
//! ```text
//!  standard input, output ═ here ═ CONNECT host:port ─▶ 127.0.0.1:3128, the session's policy
//!                                └ the sandbox's own loopback, for a server that runs in it
//! ```
//!
//! Ends with 3, and a line on standard error, when there is no connection.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, TcpStream};
use std::thread;

use protocol::egress::PROXY_PORT;

/// The longest head of the proxy's answer.
const MAX_HEAD: usize = 16 * 1024;

/// What is told of a refusal.
const MAX_REASON: u64 = 2 * 1024;

/// What is carried at a time.
const BUFFER: usize = 32 * 1024;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// Not `host:port`.
    #[error("{0} is no host with a port")]
    Target(String),
    /// Nobody listens there, or it broke.
    #[error("{target} cannot be reached: {source}")]
    Unreachable { target: String, source: io::Error },
    /// What the proxy said.
    #[error("{target} was refused: {reason}")]
    Refused { target: String, reason: String },
}

/// Carries until both sides are done.
///
/// # Errors
///
/// When there is no connection.
pub fn run(target: &str) -> Result<(), DialError> {
    if is_own(target)? {
        return direct(target);
    }
    let (stream, first) = by_proxy(target)?;
    both_ways(target, &stream, &first)
}

/// The same without a proxy: on a machine that is nobody's sandbox.
///
/// # Errors
///
/// When there is no connection.
pub fn direct(target: &str) -> Result<(), DialError> {
    is_own(target)?;
    let broken = |source| DialError::Unreachable { target: target.to_owned(), source };
    both_ways(target, &TcpStream::connect(target).map_err(broken)?, &[])
}

fn both_ways(target: &str, stream: &TcpStream, first: &[u8]) -> Result<(), DialError> {
    let broken = |source| DialError::Unreachable { target: target.to_owned(), source };
    let _ = stream.set_nodelay(true);
    let mut out = io::stdout().lock();
    out.write_all(first).and_then(|()| out.flush()).map_err(broken)?;
    let up = stream.try_clone().map_err(broken)?;
    thread::spawn(move || {
        let _ = carry(&mut io::stdin().lock(), &mut &up);
        let _ = up.shutdown(Shutdown::Write);
    });
    carry(&mut &*stream, &mut out).map_err(broken)
}

/// Whether a host is the sandbox itself, which the proxy is not asked for.
fn is_own(target: &str) -> Result<bool, DialError> {
    let wrong = || DialError::Target(target.to_owned());
    let (host, port) = target.rsplit_once(':').ok_or_else(wrong)?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || !host.bytes().all(plain) || port.parse::<u16>().is_err() {
        return Err(wrong());
    }
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    Ok(host == "localhost" || address.is_ok_and(|address| address.is_loopback()))
}

/// A connection by the proxy, and what came of it already.
fn by_proxy(target: &str) -> Result<(TcpStream, Vec<u8>), DialError> {
    let broken = |source| DialError::Unreachable { target: target.to_owned(), source };
    let mut stream = TcpStream::connect(("127.0.0.1", PROXY_PORT)).map_err(broken)?;
    let asked = format!("CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n");
    stream.write_all(asked.as_bytes()).map_err(broken)?;
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    let end = loop {
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
        let length = stream.read(&mut buffer).map_err(broken)?;
        if length == 0 || answer.len() > MAX_HEAD {
            let reason = "the proxy gave no answer".into();
            return Err(DialError::Refused { target: target.to_owned(), reason });
        }
        answer.extend_from_slice(&buffer[..length]);
    };
    let rest = answer.split_off(end);
    let head = String::from_utf8_lossy(&answer);
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if status == "200" {
        return Ok((stream, rest));
    }
    let mut words = rest;
    let _ = stream.take(MAX_REASON).read_to_end(&mut words);
    let words = String::from_utf8_lossy(&words);
    let reason = words.split_whitespace().collect::<Vec<_>>().join(" ");
    // It begins with what is said here, too.
    let said = format!("patchyard: {target} was refused: ");
    let reason = reason.strip_prefix(&said).map(str::to_owned).unwrap_or(reason);
    let reason = if reason.is_empty() { format!("the proxy answered {status}") } else { reason };
    Err(DialError::Refused { target: target.to_owned(), reason })
}

fn carry(from: &mut impl Read, to: &mut impl Write) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => to.write_all(&buffer[..length]).and_then(|()| to.flush())?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sandbox_itself_is_dialled_without_the_proxy() {
        for (target, own) in [
            ("localhost:80", Some(true)),
            ("127.0.0.1:3001", Some(true)),
            ("127.9.9.9:1", Some(true)),
            ("[::1]:80", Some(true)),
            ("localhost.example.org:80", Some(false)),
            ("10.0.0.1:80", Some(false)),
            ("api.example.org:443", Some(false)),
            ("[2001:db8::1]:443", Some(false)),
            ("api.example.org", None),
            ("api.example.org:http", None),
            (":80", None),
            ("a b:80", None),
            ("a\r\nX: y:80", None),
        ] {
            assert_eq!(is_own(target).ok(), own, "{target}");
        }
    }
}
