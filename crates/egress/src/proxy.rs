//! The port that programs know of: HTTP and SOCKS5, told apart by the first byte.
//!
//! ```text
//!   5     ─▶ methods ─▶ request ─▶ judged ─▶ "done"  ─▶ carried
//!   other ─▶ head ─▶ CONNECT ─▶ judged ─▶ 200 ────────▶ carried
//!                 └▶ http:// ─▶ judged, passed on
//! ```

use std::sync::Arc;

use protocol::egress::Via;

use crate::binding::Binding;
use crate::head::{Head, HeadError, MAX_HEAD, Target};
use crate::http;
use crate::judge::{Attempt, Judged, judge};
use crate::socks::{self, Read, Reply, Wanted};
use crate::stream::{Begun, last_words, tell};

/// Serves a connection until it is judged, where it is for more than one request.
pub(crate) async fn begin(binding: &Arc<Binding>, mut begun: Begun) -> Option<(Judged, Begun)> {
    begun.more(MAX_HEAD).await.ok()?;
    if begun.read.first() == Some(&socks::VERSION) {
        return socks5(binding, begun).await;
    }
    let head = http::next_head(&mut begun).await?;
    match &head.target {
        Target::Tunnel { .. } => tunnel(binding, begun, head).await,
        Target::Absolute { .. } => {
            Box::pin(http::serve_absolute(binding, begun, head)).await;
            None
        }
        Target::Origin { .. } => {
            let why = "this is a proxy: ask for http://host/… or for a tunnel by CONNECT";
            HeadError { status: 400, why }.over_http(&mut begun.stream).await;
            None
        }
    }
}

async fn tunnel(binding: &Arc<Binding>, mut begun: Begun, head: Head) -> Option<(Judged, Begun)> {
    let Target::Tunnel { host, port } = head.target else { return None };
    let attempt = Attempt { via: Via::Connect, host: Ok(host), port, original: None, request: None };
    match judge(binding, attempt).await {
        Err(refused) => {
            refused.over_http(&mut begun.stream).await;
            None
        }
        Ok(judged) => {
            let told = tell(&mut begun.stream, b"HTTP/1.1 200 Connection established\r\n\r\n").await;
            told.then_some((judged, begun))
        }
    }
}

async fn socks5(binding: &Arc<Binding>, mut begun: Begun) -> Option<(Judged, Begun)> {
    if !whole(&mut begun, socks::methods).await? {
        last_words(&mut begun.stream, &socks::NO_METHOD).await;
        return None;
    }
    if !tell(&mut begun.stream, &socks::ANYONE).await {
        return None;
    }
    let Wanted { host, port } = whole(&mut begun, socks::request).await?;
    let attempt = Attempt { via: Via::Socks5, host, port, original: None, request: None };
    match judge(binding, attempt).await {
        Err(refused) => {
            last_words(&mut begun.stream, &refused.reply().bytes()).await;
            None
        }
        Ok(judged) => {
            let told = tell(&mut begun.stream, &Reply::Done.bytes()).await;
            told.then_some((judged, begun))
        }
    }
}

/// Reads a message of SOCKS5.
async fn whole<T>(begun: &mut Begun, read: impl Fn(&[u8]) -> Read<T>) -> Option<T> {
    loop {
        match read(&begun.read) {
            Read::Whole(message, length) => {
                begun.take(length);
                return Some(message);
            }
            Read::Refused(reply) => {
                last_words(&mut begun.stream, &reply.bytes()).await;
                return None;
            }
            Read::Half => begun.more(socks::MAX_MESSAGE).await.ok()?,
        }
    }
}
