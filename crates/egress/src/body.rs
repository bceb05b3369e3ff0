//! A body on its way, looked through for secrets.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};

use crate::secrets::Look;

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body broke off: {0}")]
    Broken(#[from] hyper::Error),
    #[error("the body holds a secret")]
    Secret,
}

/// A body that comes from one side, or words of our own.
pub(crate) struct Body(Kind);

enum Kind {
    Looked { body: Incoming, look: Look, cut: Box<dyn Fn() + Send + Sync> },
    Text(Full<Bytes>),
}

impl Body {
    /// What comes in, up to where `look` finds something; `cut` is told of that.
    pub(crate) fn looked_at(body: Incoming, look: Look, cut: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Kind::Looked { body, look, cut: Box::new(cut) })
    }

    /// Words of our own.
    pub(crate) fn text(text: String) -> Self {
        Self(Kind::Text(Full::new(text.into())))
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match &mut self.0 {
            Kind::Text(text) => Pin::new(text).poll_frame(context).map_err(|never| match never {}),
            Kind::Looked { body, look, cut } => {
                let frame = std::task::ready!(Pin::new(body).poll_frame(context));
                Poll::Ready(match frame {
                    Some(Ok(frame)) if frame.data_ref().is_some_and(|part| look.finds(part)) => {
                        cut();
                        Some(Err(BodyError::Secret))
                    }
                    // Fields behind a body are not looked at by anybody, so nobody gets them.
                    Some(Ok(frame)) if frame.is_trailers() => None,
                    Some(Ok(frame)) => Some(Ok(frame)),
                    Some(Err(error)) => Some(Err(error.into())),
                    None => None,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Kind::Text(text) => text.is_end_stream(),
            Kind::Looked { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Kind::Text(text) => text.size_hint(),
            Kind::Looked { body, .. } => body.size_hint(),
        }
    }
}
