//! A connection to a host that the rules allow: what is sent over it is looked at before it goes there.
//!
//! ```text
//!   port 80          requests, each for this host
//!   port 443         a TLS greeting that names this host
//!   any other port   what comes; a TLS greeting that names another host ends it, and one for DNS
//!   to be opened     a TLS greeting that names this host, whatever the port; then its requests
//! ```
//!
//! An address instead of a name has no name to compare with. What is passed on unseen from then on is a
//! [`Passage`]: most connections spend their life in one, and what looking needed is gone by then.

use std::net::SocketAddr;
use std::time::Duration;

use policy::host::Host;
use protocol::network::DenyReason;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::dial::dial;
use crate::hello::{self, Greeting, MAX_HELLO};
use crate::judge::{Judged, Permit};
use crate::refusal::ACCESS_DENIED;
use crate::relay::{self, Counts};
use crate::stream::{Begun, last_words};
use crate::{http, intercept};

/// How long a greeting may take to come.
pub(crate) const HELLO: Duration = Duration::from_secs(10);

/// Carries a connection that the sandbox believes to stand already: to its end, or until the rest of it is
/// passed on unseen.
pub(crate) async fn carry(judged: Judged, mut begun: Begun) -> Option<Passage> {
    match judged.port() {
        80 => {
            begun.extend(http::HEAD);
            Box::pin(http::serve_origin(judged, begun)).await;
            None
        }
        port if port == 443 || judged.is_to_be_opened() => {
            begun.extend(HELLO);
            let first = loop {
                match hello::read(&begun.read) {
                    Greeting::Half => {}
                    whole => break whole,
                }
                if begun.more(MAX_HELLO).await.is_err() {
                    break Greeting::NotTls;
                }
            };
            tls(judged, begun, first).await
        }
        _ => other(judged, begun).await,
    }
}

/// Looks at a greeting, and passes the connection on where it is for this host.
async fn tls(judged: Judged, mut begun: Begun, first: Greeting) -> Option<Passage> {
    let outcome = match first {
        Greeting::Hello(name) => check_name(&judged.host, name),
        Greeting::Names => Err((DenyReason::Alpn, None)),
        Greeting::Half | Greeting::NotTls => Err((DenyReason::NotTls, None)),
    };
    match outcome {
        Ok(name) if judged.is_to_be_opened() => {
            Box::pin(intercept::open(judged, begun, name.as_deref())).await;
            None
        }
        Ok(name) => reach(judged.admit(name.as_deref()).ok()?, begun).await,
        Err((reason, name)) => {
            judged.refuse(reason, name.as_deref());
            last_words(&mut begun.stream, &ACCESS_DENIED).await;
            None
        }
    }
}

type Named = Option<Vec<u8>>;

/// Whether a greeting is for this host.
fn check_name(host: &Host, name: Named) -> Result<Named, (DenyReason, Named)> {
    match (&name, host) {
        (_, Host::V4(_) | Host::V6(_)) => Ok(name),
        (None, Host::Dns(_)) => Err((DenyReason::SniMissing, None)),
        (Some(bytes), Host::Dns(_)) if Host::parse(bytes).as_ref() == Ok(host) => Ok(name),
        (Some(_), Host::Dns(_)) => Err((DenyReason::SniMismatch, name)),
    }
}

/// A port with no protocol of its own: the host may speak first. Where the sandbox does, and with a TLS
/// greeting, that has to be for this host.
async fn other(judged: Judged, begun: Begun) -> Option<Passage> {
    let host = judged.host.clone();
    let mut passage = reach(judged.admit(None).ok()?, begun).await?;
    match first_words(&host, &mut passage).await {
        Ok(()) => Some(passage),
        Err(reason) => {
            passage.close(Some(reason));
            None
        }
    }
}

/// Waits until one side speaks, and looks at a greeting of the sandbox.
async fn first_words(host: &Host, passage: &mut Passage) -> Result<(), DenyReason> {
    let Passage { begun, outside, permit, .. } = passage;
    if begun.read.is_empty() {
        tokio::select! {
            _ = outside.readable() => return Ok(()),
            _ = begun.stream.readable() => {}
            () = permit.end.cancelled() => return Ok(()),
        }
    }
    begun.extend(HELLO);
    loop {
        match hello::read(&begun.read) {
            Greeting::Hello(name) => return check_name(host, name).map(drop).map_err(|(reason, _)| reason),
            Greeting::Names => return Err(DenyReason::Alpn),
            Greeting::NotTls => return Ok(()),
            // Half a greeting that never becomes a whole one could become one behind our back.
            Greeting::Half if begun.more(MAX_HELLO).await.is_err() => {
                return if begun.read.is_empty() { Ok(()) } else { Err(DenyReason::NotTls) };
            }
            Greeting::Half => {}
        }
    }
}

/// Connects to where a permit says.
async fn reach(permit: Permit, begun: Begun) -> Option<Passage> {
    let counts = permit.counts();
    let dialed = tokio::select! {
        dialed = dial(&permit.addresses) => dialed,
        () = permit.end.cancelled() => None,
    };
    match dialed {
        Some((outside, address)) => Some(Passage { begun, outside, address, counts, permit }),
        None => {
            permit.close(None, &counts, None);
            None
        }
    }
}

/// A connection that stands on both sides; what comes from here on is passed on unseen.
#[derive(Debug)]
pub(crate) struct Passage {
    begun: Begun,
    outside: TcpStream,
    address: SocketAddr,
    counts: Counts,
    permit: Permit,
}

impl Passage {
    /// Passes on what was read already, and then everything, until the end is on record.
    pub(crate) async fn run(mut self) {
        let Self { begun, outside, counts, permit, .. } = &mut self;
        let read = std::mem::take(&mut begun.read);
        if outside.write_all(&read).await.is_ok() && counts.add_up(read.len()).is_ok() {
            drop(read);
            relay::both(&mut begun.stream, outside, counts, &permit.end).await;
        }
        self.close(None);
    }

    fn close(self, reason: Option<DenyReason>) {
        self.permit.close(Some(self.address), &self.counts, reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows T02, T03, T05, N07 of the escape matrix, for greetings.
    #[test]
    fn a_greeting_is_for_the_host_of_its_connection() {
        let host = Host::parse(b"api.allowed.test").unwrap();
        let check =
            |name: Option<&[u8]>| check_name(&host, name.map(<[u8]>::to_vec)).map_err(|(reason, _)| reason);
        for name in [&b"api.allowed.test"[..], b"API.Allowed.TEST", b"api.allowed.test."] {
            assert!(check(Some(name)).is_ok(), "{name:?}");
        }
        assert_eq!(check(None), Err(DenyReason::SniMissing));
        for name in
            [&b"evil.test"[..], b"x.api.allowed.test", b"api.allowed.test\0", b"127.0.0.1", b"a%2etest"]
        {
            assert_eq!(check(Some(name)), Err(DenyReason::SniMismatch), "{name:?}");
        }
        let address = Host::parse(b"8.8.8.8").unwrap();
        assert!(check_name(&address, None).is_ok());
    }
}
