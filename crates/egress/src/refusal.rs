//! What a program reads when it is refused.
//!
//! ```text
//!   HTTP    403, x-deny-reason, a sentence for whoever reads the output
//!   SOCKS5  "not allowed by ruleset"
//!   TLS     the alert `access_denied`
//! ```

use hyper::header::{self, HeaderValue};
use hyper::{Response, StatusCode};
use protocol::network::DenyReason;
use tokio::net::TcpStream;

use crate::body::Body;
use crate::head::HeadError;
use crate::judge::Refused;
use crate::socks::Reply;
use crate::stream::last_words;

/// A fatal alert `access_denied`, RFC 8446 section 6, as a record of TLS 1.2.
pub(crate) const ACCESS_DENIED: [u8; 7] = [21, 3, 3, 0, 2, 2, 49];

impl Refused {
    /// The sentences of a refusal.
    fn text(&self) -> String {
        let Self { reason, host, port, rule, askable } = self;
        let place = if *port == 0 { host.clone() } else { format!("{host}:{port}") };
        let by = rule.as_ref().map(|rule| format!(" ({rule})")).unwrap_or_default();
        let next = if *askable {
            "\nWhoever watches this session has been told and can allow it; do not try to get around it.\n"
        } else {
            "\n"
        };
        format!("patchyard: {place} was refused{by}: {}.{next}", reason.describe())
    }

    /// The number of the answer.
    fn status(&self) -> &'static str {
        match self.reason {
            DenyReason::BadHost | DenyReason::BadPort if self.rule.is_none() && !self.askable => {
                "400 Bad Request"
            }
            DenyReason::HostMismatch => "421 Misdirected Request",
            DenyReason::Rate => "429 Too Many Requests",
            DenyReason::DnsError => "502 Bad Gateway",
            DenyReason::ProxyDown => "503 Service Unavailable",
            _ => "403 Forbidden",
        }
    }

    /// Answers over HTTP.
    pub(crate) async fn over_http(&self, stream: &mut TcpStream) {
        answer(stream, self.status(), &[("x-deny-reason", self.reason.name())], &self.text()).await;
    }

    /// The same as a response, for a connection that goes on.
    pub(crate) fn response(&self) -> Response<Body> {
        let mut response = Response::new(Body::text(self.text()));
        let number = self.status().split(' ').next().and_then(|number| number.parse().ok());
        *response.status_mut() = number.unwrap_or(StatusCode::FORBIDDEN);
        let fields = response.headers_mut();
        fields.insert("x-deny-reason", HeaderValue::from_static(self.reason.name()));
        fields.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        response
    }

    /// What SOCKS5 says to it.
    pub(crate) fn reply(&self) -> Reply {
        match self.reason {
            DenyReason::DnsError => Reply::HostUnreachable,
            DenyReason::ProxyDown => Reply::Failed,
            _ => Reply::NotAllowed,
        }
    }
}

impl HeadError {
    /// Answers over HTTP.
    pub(crate) async fn over_http(self, stream: &mut TcpStream) {
        let status = match self.status {
            431 => "431 Request Header Fields Too Large",
            501 => "501 Not Implemented",
            _ => "400 Bad Request",
        };
        let deny = [("x-deny-reason", DenyReason::Framing.name())];
        answer(stream, status, &deny, &format!("patchyard: the request was refused: {self}.\n")).await;
    }
}

/// Answers, and ends the connection.
pub(crate) async fn answer(stream: &mut TcpStream, status: &str, fields: &[(&str, &str)], text: &str) {
    let mut head = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain; charset=utf-8\r\n");
    for (name, value) in fields {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{text}", text.len()));
    last_words(stream, head.as_bytes()).await;
}
