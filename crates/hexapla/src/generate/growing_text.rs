//! A text as a model writes it.

use std::sync::Arc;

use crate::error::Result;
use crate::text::tokenizer::TextStream;

/// A text as its tokens come, up to a stop string.
#[derive(Debug, Clone)]
pub(super) struct GrowingText {
    stream: TextStream,
    stop: Arc<[String]>,
    /// Tokens that are in it.
    tokens: usize,
    /// What is certain.
    pub(super) text: String,
    /// What may still become part of a stop string.
    held: String,
    pub(super) stopped: bool,
}

impl GrowingText {
    pub(super) fn new(stream: TextStream, stop: Arc<[String]>) -> Self {
        GrowingText {
            stream,
            stop,
            tokens: 0,
            text: String::new(),
            held: String::new(),
            stopped: false,
        }
    }

    /// The text that the newest of `ids` make certain; an end token, the last one of what is `finished`, has none.
    pub(super) fn grow(&mut self, ids: &[u32], finished: bool) -> Result<String> {
        self.push(ids.get(self.tokens..).unwrap_or_default(), finished)
    }

    /// As [`GrowingText::grow`], of the new tokens alone.
    pub(super) fn push(&mut self, new: &[u32], finished: bool) -> Result<String> {
        let mut certain = String::new();
        for id in &new[..new.len() - usize::from(finished && !new.is_empty())] {
            if self.stopped {
                break;
            }
            let new = self.stream.push(*id)?;
            certain.push_str(&self.take(&new, false));
            self.tokens += 1;
        }
        Ok(certain)
    }

    /// The rest, when nothing follows.
    pub(super) fn finish(&mut self) -> Result<String> {
        if self.stopped {
            return Ok(String::new());
        }
        let rest = self.stream.finish()?;
        Ok(self.take(&rest, true))
    }

    fn take(&mut self, new: &str, last: bool) -> String {
        self.held.push_str(new);
        let stops = self.stop.iter().filter(|stop| !stop.is_empty());
        let found = stops
            .clone()
            .filter_map(|stop| self.held.find(stop.as_str()));
        if let Some(at) = found.min() {
            self.held.truncate(at);
            self.stopped = true;
        }
        // The longest end that a stop string may begin with.
        let kept = match last || self.stopped {
            true => 0,
            false => stops
                .map(|stop| overlap(&self.held, stop))
                .max()
                .unwrap_or(0),
        };
        let rest = self.held.split_off(self.held.len() - kept);
        let certain = std::mem::replace(&mut self.held, rest);
        self.text.push_str(&certain);
        certain
    }
}

/// Length of the longest end of `text` that `stop` begins with, but is not.
fn overlap(text: &str, stop: &str) -> usize {
    let starts = text.char_indices().map(|(i, _)| i);
    let ends = starts.map(|i| &text[i..]);
    ends.filter(|end| end.len() < stop.len() && stop.starts_with(end))
        .map(str::len)
        .max()
        .unwrap_or(0)
}
