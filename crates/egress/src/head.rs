//! The head of a plain HTTP request, read more strictly than by most.
//!
//! ```text
//!   METHOD SP target SP HTTP/1.1 CRLF │ name ":" value CRLF … │ CRLF      at most 64 KiB, 100 fields
//!   target: host:port            CONNECT
//!           http://host[:port]/… a request to the proxy
//!           /…                   a request to a captured host, named by Host
//! ```
//!
//! RFC 9112. What two readers may read in two ways is refused: bare CR or LF, folded lines, spaces
//! around names, two lengths, a length and chunks, chunks below HTTP/1.1, user names in addresses.

use policy::host::{Authority, Host};

/// The longest head, with its last line.
pub(crate) const MAX_HEAD: usize = 64 * 1024;

/// The most fields.
pub(crate) const MAX_FIELDS: usize = 100;

/// Fields that are between us and who asks, RFC 9110 section 7.6.1, and those that would make something
/// else of the connection.
pub(crate) const OURS: [&str; 8] = [
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "proxy-authorization",
    "proxy-authenticate",
];

/// Why a head is refused: the number of the answer, and a sentence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(crate) struct HeadError {
    /// 400, 431 or 501.
    pub(crate) status: u16,
    /// What is wrong.
    pub(crate) why: &'static str,
}

const fn bad(why: &'static str) -> HeadError {
    HeadError { status: 400, why }
}

/// What a request is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    /// A tunnel.
    Tunnel {
        /// To where.
        host: Host,
        /// Always given.
        port: u16,
    },
    /// A resource of a host that stands in the request itself.
    Absolute {
        /// Whose.
        host: Host,
        /// 80 when not given.
        port: u16,
        /// From the first slash on.
        path: String,
    },
    /// A resource of the host that the connection goes to.
    Origin {
        /// What `Host` says.
        host: Authority,
        /// From the first slash on.
        path: String,
    },
}

/// How long the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// So many bytes.
    Length(u64),
    /// Chunks.
    Chunked,
}

/// A request's head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// As it stands there.
    pub(crate) method: String,
    /// What it is for.
    pub(crate) target: Target,
    /// How long its body is.
    pub(crate) framing: Framing,
    /// The fields that are passed on, in their order, without `Host`, lengths and what is ours.
    pub(crate) fields: Vec<(String, Vec<u8>)>,
    /// Whether it waits for `100 Continue`.
    pub(crate) expects_continue: bool,
}

/// Where the head ends in these bytes, just behind its empty line; nothing while it is not whole.
pub(crate) fn end(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4)
}

/// Reads a whole head.
pub(crate) fn read(bytes: &[u8]) -> Result<Head, HeadError> {
    check_lines(bytes)?;
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) if length == bytes.len() => {}
        Ok(_) => return Err(bad("the head is not whole")),
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError { status: 431, why: "the request has more than 100 fields" });
        }
        Err(_) => return Err(bad("this is no HTTP request")),
    }
    let (Some(method), Some(target), Some(version)) = (request.method, request.path, request.version) else {
        return Err(bad("this is no HTTP request"));
    };
    let fields = Fields::of(request.headers, version)?;
    let target = parse_target(method, target, fields.host.as_deref())?;
    if matches!(target, Target::Tunnel { .. }) && fields.framing != Framing::Length(0) {
        return Err(bad("a CONNECT has no body"));
    }
    Ok(Head {
        method: method.to_owned(),
        target,
        framing: fields.framing,
        fields: fields.passed_on,
        expects_continue: fields.expects_continue,
    })
}

/// Every line ends with CR LF, none is folded or empty but the last, and there is no control character.
fn check_lines(bytes: &[u8]) -> Result<(), HeadError> {
    let lines = bytes.strip_suffix(b"\r\n\r\n").ok_or(bad("the head is not whole"))?;
    for line in split_lines(lines) {
        if line.iter().any(|byte| matches!(byte, b'\r' | b'\n')) {
            return Err(bad("a line ends without CR LF"));
        }
        if line.iter().any(|byte| matches!(byte, 0..=8 | 11..=31 | 127)) {
            return Err(bad("the head has control characters"));
        }
        if line.first().is_none_or(|byte| matches!(byte, b' ' | b'\t')) {
            return Err(bad("a line is folded or empty"));
        }
    }
    Ok(())
}

fn split_lines(mut bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        if let Some(at) = bytes.windows(2).position(|two| two == b"\r\n") {
            let line = &bytes[..at];
            bytes = &bytes[at + 2..];
            return Some(line);
        }
        done = true;
        Some(bytes)
    })
}

/// The fields of a request, sorted into what we act on and what is passed on.
struct Fields {
    host: Option<Vec<u8>>,
    framing: Framing,
    expects_continue: bool,
    passed_on: Vec<(String, Vec<u8>)>,
}

impl Fields {
    fn of(headers: &[httparse::Header<'_>], version: u8) -> Result<Self, HeadError> {
        let mut named_by_connection = Vec::new();
        for header in headers.iter().filter(|header| header.name.eq_ignore_ascii_case("connection")) {
            let names = String::from_utf8_lossy(header.value).to_ascii_lowercase();
            named_by_connection.extend(names.split(',').map(|name| name.trim().to_owned()));
        }
        let (mut host, mut length, mut chunked) = (None, None, false);
        let mut fields =
            Self { host: None, framing: Framing::Length(0), expects_continue: false, passed_on: Vec::new() };
        for header in headers {
            let name = header.name.to_ascii_lowercase();
            match name.as_str() {
                "host" if host.is_some() => return Err(bad("the request names two hosts")),
                "host" => host = Some(header.value.to_vec()),
                "content-length" if length.is_some() => return Err(bad("the request has two lengths")),
                "content-length" => length = Some(number(header.value)?),
                "transfer-encoding"
                    if chunked || version == 0 || !header.value.eq_ignore_ascii_case(b"chunked") =>
                {
                    return Err(HeadError {
                        status: 501,
                        why: "only one `chunked` of HTTP/1.1 is understood",
                    });
                }
                "transfer-encoding" => chunked = true,
                "expect" if header.value.eq_ignore_ascii_case(b"100-continue") => {
                    fields.expects_continue = true
                }
                "expect" => return Err(bad("only 100-continue can be expected")),
                ours if OURS.contains(&ours) || named_by_connection.iter().any(|named| named == ours) => {}
                _ => fields.passed_on.push((header.name.to_owned(), header.value.to_vec())),
            }
        }
        fields.framing = match (length, chunked) {
            (Some(_), true) => return Err(bad("the request has a length and chunks")),
            (None, true) => Framing::Chunked,
            (length, false) => Framing::Length(length.unwrap_or(0)),
        };
        fields.host = host;
        Ok(fields)
    }
}

/// A length in plain digits.
fn number(bytes: &[u8]) -> Result<u64, HeadError> {
    let refused = bad("the length is no plain number");
    if bytes.is_empty() || bytes.len() > 18 || !bytes.iter().all(u8::is_ascii_digit) {
        return Err(refused);
    }
    std::str::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or(refused)
}

fn parse_target(method: &str, target: &str, host: Option<&[u8]>) -> Result<Target, HeadError> {
    let no_host = bad("the host is not one that can be read in one way only");
    if target.bytes().any(|byte| !byte.is_ascii_graphic() || matches!(byte, b'\\' | b'#')) {
        return Err(bad("the address has characters that do not belong there"));
    }
    if method == "CONNECT" {
        let Authority { host, port } = Authority::parse(target.as_bytes()).map_err(|_| no_host)?;
        let port = port.ok_or(bad("a CONNECT names a port"))?;
        return Ok(Target::Tunnel { host, port });
    }
    let named = host.map(Authority::parse).transpose().map_err(|_| no_host)?;
    if target.starts_with('/') {
        let host = named.ok_or(bad("the request names no host"))?;
        return Ok(Target::Origin { host, path: target.to_owned() });
    }
    let Some(rest) =
        target.get(..7).filter(|scheme| scheme.eq_ignore_ascii_case("http://")).map(|_| &target[7..])
    else {
        return Err(bad("only http:// addresses can be asked for; for others ask for a tunnel by CONNECT"));
    };
    let (authority, path) = match rest.find(['/', '?']) {
        Some(at) if rest[at..].starts_with('?') => (&rest[..at], format!("/{}", &rest[at..])),
        Some(at) => (&rest[..at], rest[at..].to_owned()),
        None => (rest, "/".to_owned()),
    };
    let Authority { host, port } = Authority::parse(authority.as_bytes()).map_err(|_| no_host)?;
    let port = port.unwrap_or(80);
    // RFC 9112 lets a proxy ignore it; who sends two names means something by it.
    if named.is_some_and(|named| named.host != host || named.port.unwrap_or(80) != port) {
        return Err(bad("the address and the Host field name different hosts"));
    }
    Ok(Target::Absolute { host, port, path })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(text: &str) -> Result<Head, HeadError> {
        read(text.as_bytes())
    }

    fn host(name: &str) -> Host {
        Host::parse(name.as_bytes()).unwrap()
    }

    #[test]
    fn requests_to_the_proxy_and_to_captured_hosts_are_read() {
        let tunnel =
            head("CONNECT API.Allowed.test:443 HTTP/1.1\r\nHost: api.allowed.test:443\r\n\r\n").unwrap();
        assert_eq!(tunnel.target, Target::Tunnel { host: host("api.allowed.test"), port: 443 });
        let get = "GET http://api.allowed.test?q=1 HTTP/1.1\r\nHost: api.allowed.test\r\nAccept: */*\r\n\
                   Connection: close, x-hop\r\nX-Hop: 1\r\nProxy-Authorization: Basic eA==\r\nUpgrade: h2c\r\n\r\n";
        let get = head(get).unwrap();
        let path = "/?q=1".to_owned();
        assert_eq!(get.target, Target::Absolute { host: host("api.allowed.test"), port: 80, path });
        assert_eq!(get.fields, [("Accept".to_owned(), b"*/*".to_vec())]);
        let post = head("POST /x HTTP/1.1\r\nHost: a.test:8080\r\nContent-Length: 12\r\n\r\n").unwrap();
        assert!(matches!(post.target, Target::Origin { host, .. } if host.port == Some(8080)));
        assert_eq!(post.framing, Framing::Length(12));
        let chunked = head("PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").unwrap();
        assert_eq!(chunked.framing, Framing::Chunked);
    }

    /// Rows H01, H02, H03, H06, H07 of the escape matrix, and N11, N12 by plain requests.
    #[test]
    fn what_can_be_read_in_two_ways_is_refused() {
        let with = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a.test\r\n{fields}\r\n\r\n");
        for fields in [
            "Content-Length: 1\r\nTransfer-Encoding: chunked",
            "Content-Length: 1\r\nContent-Length: 1",
            "Content-Length: 1\r\nContent-Length: 2",
            "Content-Length: +3",
            "Content-Length: 0x3",
            "Content-Length: 1, 1",
            "Content-Length:",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding : chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "X: a\r\n folded",
            "X: a\nY: b",
            "X: a\rY: b",
            "X: a\0b",
            " X: a",
            ": a",
            "Host: b.test",
            "X",
            "Expect: 200-ok",
        ] {
            assert!(head(&with(fields)).is_err(), "{fields:?}");
        }
        for line in [
            "GET http://a.test@evil.test/ HTTP/1.1",
            "GET http://a.test:443@evil.test/ HTTP/1.1",
            "GET http://evil.test#@a.test/ HTTP/1.1",
            "GET http://evil.test\\@a.test/ HTTP/1.1",
            "GET https://a.test/ HTTP/1.1",
            "GET ftp://a.test/ HTTP/1.1",
            "GET http:///x HTTP/1.1",
            "GET http://a.test:0/ HTTP/1.1",
            "GET http://a.test:080/ HTTP/1.1",
            "GET http://b.test/ HTTP/1.1",
            "GET http://a%2etest/ HTTP/1.1",
            "GET * HTTP/1.1",
            "CONNECT a.test HTTP/1.1",
            "CONNECT http://a.test:443 HTTP/1.1",
            "CONNECT a.test:443/ HTTP/1.1",
            "CONNECT a.test?.b.test:443 HTTP/1.1",
            "GET /  HTTP/1.1",
            "GET / HTTP/2.0",
            "GET /",
            "\r\nGET / HTTP/1.1",
        ] {
            assert!(head(&format!("{line}\r\nHost: a.test\r\n\r\n")).is_err(), "{line:?}");
        }
        assert!(head("GET / HTTP/1.1\r\n\r\n").is_err(), "no host");
        assert!(head("PUT / HTTP/1.0\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
        assert!(head("CONNECT a.test:443 HTTP/1.1\r\nContent-Length: 5\r\n\r\n").is_err());
        let many = "X: 1\r\n".repeat(101);
        assert_eq!(head(&format!("GET / HTTP/1.1\r\nHost: a.test\r\n{many}\r\n")).unwrap_err().status, 431);
    }
}
