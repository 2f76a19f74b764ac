//! A body that something lives as long as.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use hyper::body::{Frame, SizeHint};

/// A body, and what is dropped with it: at its end, or when its client goes away.
pub(crate) struct Watched<T> {
    body: Body,
    /// Gone at the end of the body: whoever keeps an empty body keeps nothing else.
    kept: Option<T>,
}

impl<T> Watched<T> {
    pub(crate) fn new(body: Body, kept: T) -> Self {
        Watched {
            body,
            kept: Some(kept),
        }
    }
}

impl<T: Unpin> HttpBody for Watched<T> {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(cx);
        if matches!(frame, Poll::Ready(None)) {
            self.kept = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
