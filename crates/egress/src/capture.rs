//! Connections of programs that know of no proxy.
//!
//! ```text
//!   redirected ─▶ where did it want to go? ─┬─ an address that stands for a name ─▶ that name ─┐
//!                                           ├─ port 53 ─▶ names                                ├▶ judged, carried
//!                                           └─ any other address ─▶ that address ──────────────┘
//! ```

use std::net::SocketAddr;
use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::{Arc, PoisonError};

use nix::sys::socket::{SockaddrIn, SockaddrIn6, getsockopt, sockopt};
use policy::host::Host;
use protocol::egress::{DNS_PORT, Via};

use crate::binding::Binding;
use crate::doors;
use crate::http;
use crate::judge::{Attempt, Judged, judge};
use crate::refusal::ACCESS_DENIED;
use crate::stream::{Begun, last_words};

/// Serves a connection until it is judged; to its end, where it is for names.
pub(crate) async fn begin(binding: &Arc<Binding>, mut begun: Begun) -> Option<(Judged, Begun)> {
    let original = original(begun.stream.as_fd())?;
    if original.port() == DNS_PORT {
        doors::questions_over_stream(binding, begun).await;
        return None;
    }
    let host = {
        let names = binding.names.lock().unwrap_or_else(PoisonError::into_inner);
        names.host(original.ip()).cloned()
    };
    let host = host.unwrap_or(match original.ip() {
        std::net::IpAddr::V4(address) => Host::V4(address),
        std::net::IpAddr::V6(address) => Host::V6(address),
    });
    let port = original.port();
    let attempt =
        Attempt { via: Via::Capture, host: Ok(host), port, original: Some(original), request: None };
    match judge(binding, attempt).await {
        Ok(judged) => return Some((judged, begun)),
        Err(refused) if port == 80 => http::refuse_origin(&refused, begun).await,
        Err(_) if port == 443 => last_words(&mut begun.stream, &ACCESS_DENIED).await,
        // There are no words that every protocol has.
        Err(_) => {}
    }
    None
}

/// Where a redirected connection wanted to go; nothing for one that was made to us.
fn original(stream: BorrowedFd<'_>) -> Option<SocketAddr> {
    if let Ok(address) = getsockopt(&stream, sockopt::OriginalDst) {
        let address = SockaddrIn::from(address);
        return Some(SocketAddr::from((address.ip(), address.port())));
    }
    let address = SockaddrIn6::from(getsockopt(&stream, sockopt::Ip6tOriginalDst).ok()?);
    Some(SocketAddr::from((address.ip(), address.port())))
}
