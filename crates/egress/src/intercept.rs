//! A connection that is opened: its requests are seen, judged one by one, and sent on over TLS of our own.
//!
//! ```text
//!   sandbox ── TLS, a leaf of the session's authority ─▶ request ─▶ same host? method, path? secrets?
//!                                                                    │ yes: on record     └ no ─▶ 403, on record
//!   host ◀── TLS, its own certificate checked ──────────────────────┘
//!   answer ─▶ looked through for secrets ─▶ sandbox
//! ```
//!
//! Both sides speak HTTP/1.1, parsed and written anew by `hyper`: no byte of one side's framing reaches
//! the other. A connection inside has at most one outside at a time. Where both agree on a WebSocket, all
//! that follows is its own.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use policy::access::overrides_method;
use policy::host::{Authority, Host};
use protocol::network::DenyReason;
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;

use crate::body::Body;
use crate::dial::dial;
use crate::head::{MAX_FIELDS, MAX_HEAD, OURS};
use crate::host_tls::HostTls;
use crate::judge::{Judged, Permit, Refused};
use crate::relay;
use crate::secrets::{Asked, Look, Secrets, Way};
use crate::stream::Begun;
use crate::websocket::{self, Agreed, WebSocket};

/// How long a greeting may take, on either side.
const GREETING: Duration = Duration::from_secs(10);

/// How long the next head may take to come.
const NEXT: Duration = Duration::from_secs(60);

/// The port that a Host field need not name.
const USUAL_PORT: u16 = 443;

/// Opens a connection whose greeting was looked at.
pub(crate) async fn open(judged: Judged, begun: Begun, name: Option<&[u8]>) {
    let host = judged.host.clone();
    let config = match judged.signer().for_host(&host) {
        Ok(config) => config,
        Err(error) => {
            tracing::error!(%host, %error, "a connection could not be opened");
            judged.refuse(DenyReason::ProxyDown, name);
            return;
        }
    };
    let Ok(permit) = judged.admit_opened(name) else { return };
    let counts = Arc::new(permit.counts());
    let accepted = TlsAcceptor::from(config).accept(begun.replayed(Arc::clone(&counts)));
    let Ok(Ok(inside)) = tokio::time::timeout(GREETING, accepted).await else {
        // Programs that do not trust the session's authority end here.
        return permit.close(None, &counts, None);
    };
    let opened = Arc::new(Opened {
        host,
        permit,
        outside: tokio::sync::Mutex::default(),
        reached: Mutex::default(),
        agreed: Agreed::default(),
    });
    let service = service_fn(|request| {
        let opened = Arc::clone(&opened);
        async move { Ok::<_, Infallible>(opened.answer(request).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(NEXT)
        .max_headers(MAX_FIELDS)
        .max_buf_size(MAX_HEAD)
        .preserve_header_case(true)
        .auto_date_header(false)
        .serve_connection(TokioIo::new(inside), service)
        .with_upgrades();
    let end = opened.permit.end.clone();
    let served = async {
        // However it ended: what was asked for is on record.
        let _ = connection.await;
        if let Some(socket) = opened.agreed.take()
            && let Some(reason) = socket.relay().await
        {
            opened.cut(reason);
        }
    };
    tokio::select! {
        () = served => {}
        () = end.cancelled() => {}
        () = relay::idle(&counts) => {}
    }
    let reached = opened.reached();
    // Nobody else holds it: the service ended with its connection.
    if let Some(opened) = Arc::into_inner(opened) {
        opened.permit.close(reached.address, &counts, reached.cut);
    }
}

/// A connection that is open, in both senses.
struct Opened {
    host: Host,
    permit: Permit,
    outside: tokio::sync::Mutex<Option<Outside>>,
    reached: Mutex<Reached>,
    agreed: Agreed,
}

/// What is told at the end.
#[derive(Debug, Clone, Copy, Default)]
struct Reached {
    address: Option<SocketAddr>,
    /// Why an answer was cut off.
    cut: Option<DenyReason>,
}

/// The connection to the host.
struct Outside {
    sender: SendRequest<Body>,
    task: AbortHandle,
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Why a request has no answer of the host.
enum Failed {
    Refused(Refused),
    /// What to say instead: it could not be reached, or broke off.
    Host(&'static str),
}

impl From<Refused> for Failed {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl Opened {
    fn reached(&self) -> Reached {
        *self.reached.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(self: &Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        match self.pass_on(request).await {
            Ok(response) => response,
            Err(Failed::Refused(refused)) => refused.response(),
            Err(Failed::Host(why)) => {
                let mut response = Response::new(Body::text(format!("patchyard: {why}.\n")));
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            }
        }
    }

    async fn pass_on(self: &Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Body>, Failed> {
        let method = request.method().as_str().to_owned();
        let target = request.uri().path_and_query().map_or("/", |target| target.as_str()).to_owned();
        let path = target.split('?').next().unwrap_or_default().to_owned();
        let refuse = |reason| self.permit.refuse_request(reason, &method, &target);
        self.check_shape(&request).map_err(refuse)?;
        let overridden = request.headers().keys().any(|name| overrides_method(name.as_str()));
        if !self.permit.permits(&method, &path) || (overridden && self.permit.is_read()) {
            return Err(refuse(DenyReason::Method).into());
        }
        let secrets = self.permit.secrets();
        let asked = Asked { host: &self.host, port: self.permit.port(), method: &method, path: &path };
        fill_in(request.headers_mut(), &target, &secrets, asked).map_err(refuse)?;
        self.permit.record_request(&method, &target)?;

        let concerned = secrets.concern(&self.host, self.permit.port());
        let look = Look::new(Arc::clone(&secrets), Way::Up);
        let inside = websocket::is_meant(request.headers()).then(|| hyper::upgrade::on(&mut request));
        let (mut parts, body) = request.into_parts();
        strip(&mut parts.headers);
        if inside.is_some() {
            websocket::say(&mut parts.headers);
        }
        parts.version = Version::HTTP_11;
        parts.uri = target.parse().map_err(|_| Failed::Host("the address cannot be sent on"))?;
        if concerned {
            // So that the answer can be looked through.
            parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        }
        let body = Body::looked_at(body, look, self.cutting());
        let mut response = match self.send(Request::from_parts(parts, body)).await {
            Err(Failed::Host(_)) if self.reached().cut.is_some() => {
                return Err(refuse(DenyReason::Dlp).into());
            }
            response => response?,
        };
        strip(response.headers_mut());
        if response.headers().values().any(|value| secrets.told_in(value.as_bytes())) {
            self.cut(DenyReason::Dlp);
            return Err(refuse(DenyReason::Dlp).into());
        }
        let look = Look::new(secrets, Way::Down);
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let inside = inside.ok_or(Failed::Host("the host changes to another protocol unasked"))?;
            websocket::say(response.headers_mut());
            self.agreed.put(WebSocket { inside, outside: hyper::upgrade::on(&mut response), look });
            return Ok(response.map(|_| Body::text(String::new())));
        }
        Ok(response.map(|body| Body::looked_at(body, look, self.cutting())))
    }

    /// Whether a request is one for this host that can be sent on.
    fn check_shape(&self, request: &Request<Incoming>) -> Result<(), DenyReason> {
        let headers = request.headers();
        if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
            return Err(DenyReason::Method);
        }
        let named = match (request.uri().authority(), request.uri().scheme_str()) {
            (None, _) => None,
            (Some(authority), Some("https")) => Some(authority.as_str().as_bytes()),
            (Some(_), _) => return Err(DenyReason::HostMismatch),
        };
        let mut hosts = headers.get_all(header::HOST).iter();
        let (Some(host), None) = (hosts.next(), hosts.next()) else { return Err(DenyReason::HostMismatch) };
        for named in named.into_iter().chain([host.as_bytes()]) {
            let Ok(Authority { host, port }) = Authority::parse(named) else {
                return Err(DenyReason::HostMismatch);
            };
            if (&host, port.unwrap_or(USUAL_PORT)) != (&self.host, self.permit.port()) {
                return Err(DenyReason::HostMismatch);
            }
        }
        // What follows could not be judged any more.
        if websocket::is_meant(headers) && (self.permit.is_read() || request.method() != Method::GET) {
            return Err(DenyReason::Websocket);
        }
        Ok(())
    }

    /// Sends a request over the connection there is, or over one that is made.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Failed> {
        let mut outside = self.outside.lock().await;
        let mut request = request;
        // A connection that the host just closed is found out by the request that it did not take.
        for _ in 0..2 {
            if outside.as_ref().is_none_or(|outside| outside.sender.is_closed()) {
                *outside = Some(self.reach().await?);
            }
            let Some(connection) = outside.as_mut() else { break };
            if connection.sender.ready().await.is_err() {
                *outside = None;
                continue;
            }
            match connection.sender.try_send_request(request).await {
                Ok(response) => return Ok(response),
                Err(mut error) => {
                    *outside = None;
                    match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => break,
                    }
                }
            }
        }
        Err(Failed::Host("the host broke off"))
    }

    async fn reach(&self) -> Result<Outside, Failed> {
        let (stream, address) =
            dial(&self.permit.addresses).await.ok_or(Failed::Host("the host does not answer"))?;
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).address = Some(address);
        let host_tls: &HostTls = self.permit.host_tls();
        let greeted = tokio::time::timeout(GREETING, host_tls.greet(&self.host, stream)).await;
        let stream =
            greeted.map_err(|_| Failed::Host("the host's TLS takes too long"))?.map_err(|error| {
                tracing::debug!(host = %self.host, %error, "the TLS of a host is not good");
                Failed::Host("the host's certificate is not trusted here, or its TLS is not understood")
            })?;
        let (sender, connection) = client::Builder::new()
            .preserve_header_case(true)
            .max_headers(MAX_FIELDS * 2)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|_| Failed::Host("the host broke off"))?;
        let task = tokio::spawn(async move {
            // Its requests tell whoever asked.
            let _ = connection.with_upgrades().await;
        });
        Ok(Outside { sender, task: task.abort_handle() })
    }

    fn cut(&self, reason: DenyReason) {
        self.reached.lock().unwrap_or_else(PoisonError::into_inner).cut = Some(reason);
    }

    /// What is done where a body is cut off.
    fn cutting(self: &Arc<Self>) -> impl Fn() + Send + Sync + 'static {
        let this = Arc::downgrade(self);
        move || {
            if let Some(this) = this.upgrade() {
                this.cut(DenyReason::Dlp);
            }
        }
    }
}

/// Looks through a head, and puts values in place of placeholders.
fn fill_in(
    headers: &mut HeaderMap,
    target: &str,
    secrets: &Secrets,
    asked: Asked<'_>,
) -> Result<(), DenyReason> {
    if secrets.is_empty() {
        return Ok(());
    }
    let leaks =
        secrets.leak_in(target.as_bytes()) || headers.values().any(|value| secrets.leak_in(value.as_bytes()));
    if leaks {
        return Err(DenyReason::Dlp);
    }
    for value in headers.values_mut() {
        if let Some(said) = secrets.put_into(value.as_bytes(), asked)? {
            let mut said = HeaderValue::from_bytes(&said).map_err(|_| DenyReason::SecretScope)?;
            said.set_sensitive(true);
            *value = said;
        }
    }
    Ok(())
}

/// Takes away what is between two neighbours only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().map(HeaderName::as_str).chain(OURS) {
        // Host is no neighbour's business, whatever Connection says.
        if name != "host" {
            headers.remove(name);
        }
    }
}
