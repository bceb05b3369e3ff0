//! Bodies of plain requests, from a sandbox to a host.
//!
//! ```text
//!   input:  1 byte: how much of it came with the head │ what follows the head, to the end of the connection
//!             └─▶ passed on as chunks, or by its length ─▶ what the host gets
//! ```
//!
//! A second reader, which has it all at once, says what a body is: the host gets that and nothing else,
//! in a form that can be read in one way, and nothing of what stands behind the body.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::http::{Body, Broken};
use crate::relay::Counts;
use crate::secrets::{Look, Way};

/// Lines and fields that are surely taken, and surely not.
const SHORT: usize = 256;
const LONG: usize = 9 * 1024;

/// Takes one input; panics over a finding.
pub fn run(data: &[u8]) {
    let Some((with_head, body)) = data.split_first() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let Ok(runtime) = runtime else { return };
    let early = body.len() * usize::from(*with_head) / 255;
    let Ok((whole, got)) = runtime.block_on(passed(body, early, None)) else { return };
    match chunks(body) {
        Some((content, lines)) => {
            assert!(whole || lines > SHORT, "a body that is one was refused");
            assert!(!whole || lines < LONG, "lines of {lines} bytes");
            if whole {
                assert_eq!(canonical(&got), Some((content, true)), "the host gets something else");
            }
        }
        None => assert!(!whole, "what is no body was passed on as one"),
    }
    if !whole {
        // What went before it broke is part of a body that has no end.
        assert!(canonical(&got).is_some_and(|(_, ends)| !ends), "{:?}", String::from_utf8_lossy(&got));
    }
    let length = body.len() / 2;
    let Ok((whole, got)) = runtime.block_on(passed(body, early, Some(length as u64))) else { return };
    assert!(whole && got == body[..length], "the host gets something else than {length} bytes");
}

/// Passes a body on; whether it was whole, and what the host gets.
async fn passed(body: &[u8], early: usize, length: Option<u64>) -> io::Result<(bool, Vec<u8>)> {
    let (mut sandbox, mut inside) = pair().await?;
    let (mut outside, mut host) = pair().await?;
    let (now, later) = body.split_at(early);
    let send = async {
        let _ = sandbox.write_all(later).await;
        let _ = sandbox.shutdown().await;
    };
    let pass = async move {
        let counts = Counts::unlimited();
        let look = Look::new(Arc::default(), Way::Up);
        let ((from, _), (_, to)) = (inside.split(), outside.split());
        let mut body = Body { from, to, read: now.to_vec(), counts: &counts, look };
        let outcome = match length {
            Some(length) => body.pass(length).await,
            None => body.chunks().await,
        };
        // Both connections end here.
        match outcome {
            Ok(()) => true,
            Err(Broken::Io | Broken::Framing | Broken::Secret) => false,
        }
    };
    let mut got = Vec::new();
    let hear = async {
        let _ = host.read_to_end(&mut got).await;
    };
    let (_, whole, ()) = tokio::join!(send, pass, hear);
    Ok((whole, got))
}

/// Two ends of a connection.
async fn pair() -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let near = TcpStream::connect(listener.local_addr()?).await?;
    Ok((near, listener.accept().await?.0))
}

/// The content of a body in chunks, and how long its longest line is.
fn chunks(mut rest: &[u8]) -> Option<(Vec<u8>, usize)> {
    let (mut content, mut longest) = (Vec::new(), 0);
    let mut line = |rest: &mut &[u8]| {
        let at = rest.windows(2).position(|two| two == b"\r\n")?;
        let (line, behind) = rest.split_at(at);
        *rest = &behind[2..];
        longest = longest.max(line.len());
        (!line.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then_some(line.to_vec())
    };
    loop {
        let head = line(&mut rest)?;
        let mut length = 0_usize;
        let digits = head.iter().take_while(|byte| **byte != b';');
        let count = digits.clone().count();
        for digit in digits {
            length = length << 4 | char::from(*digit).to_digit(16)? as usize;
        }
        if count == 0 || count > 15 {
            return None;
        }
        if length == 0 {
            break;
        }
        let (chunk, behind) = rest.split_at_checked(length)?;
        content.extend_from_slice(chunk);
        rest = behind.strip_prefix(b"\r\n")?;
    }
    let mut fields = 0;
    loop {
        let field = line(&mut rest)?;
        fields += field.len() + 2;
        if field.is_empty() {
            return Some((content, longest.max(fields)));
        }
    }
}

/// The content of chunks as we write them, and whether they have an end. Nothing follows it.
fn canonical(mut rest: &[u8]) -> Option<(Vec<u8>, bool)> {
    let mut content = Vec::new();
    loop {
        if rest == b"0\r\n\r\n" {
            return Some((content, true));
        }
        let Some(at) = rest.iter().position(|byte| *byte == b'\r') else {
            return rest.is_empty().then_some((content, false));
        };
        let (digits, behind) = (std::str::from_utf8(&rest[..at]).ok()?, rest[at..].strip_prefix(b"\r\n")?);
        let length = usize::from_str_radix(digits, 16).ok()?;
        if length == 0 || format!("{length:x}") != digits {
            return None;
        }
        let chunk = &behind[..length.min(behind.len())];
        content.extend_from_slice(chunk);
        match behind[chunk.len()..].strip_prefix(b"\r\n") {
            Some(behind) if chunk.len() == length => rest = behind,
            _ if behind.len() <= length => return Some((content, false)),
            _ => return None,
        }
    }
}
