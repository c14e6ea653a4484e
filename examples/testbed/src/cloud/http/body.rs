//! The body of a file, which may end in the middle.

use bytes::Bytes;
use hyper::body::{Body, Frame};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::Sleep;

const BLOCK: usize = 64 << 10;
/// What was given out leaves before the connection does.
const LEAVING: Duration = Duration::from_millis(20);

pub(super) struct Part {
    left: Bytes,
    /// Bytes until the connection breaks.
    cut: Option<usize>,
    breaking: Option<Pin<Box<Sleep>>>,
}

impl Part {
    pub fn new(left: Bytes, cut: Option<usize>) -> Part {
        let cut = cut.filter(|cut| *cut < left.len());
        Part { left, cut, breaking: None }
    }

    /// Bytes that will leave.
    pub fn length(&self) -> usize {
        self.cut.unwrap_or(self.left.len())
    }
}

impl Body for Part {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        if self.cut == Some(0) {
            let breaking = self.breaking.get_or_insert_with(|| Box::pin(tokio::time::sleep(LEAVING)));
            return breaking.as_mut().poll(context).map(|()| Some(Err(io::Error::other("cut"))));
        }
        if self.left.is_empty() {
            return Poll::Ready(None);
        }
        let block = self.left.len().min(BLOCK).min(self.cut.unwrap_or(BLOCK));
        self.cut = self.cut.map(|cut| cut - block);
        let block = self.left.split_to(block);
        Poll::Ready(Some(Ok(Frame::data(block))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty()
    }
}
