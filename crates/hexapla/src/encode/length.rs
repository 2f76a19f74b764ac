//! Texts that are longer than a model.

use crate::error::{Error, Result};
use crate::text::tokenizer::{EncodedText, EncoderTokenizer, TextTokens};

/// What becomes of a text that is longer than the model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LongTexts {
    /// An error.
    #[default]
    Refuse,
    /// What is too long is cut off at its end.
    Cut,
    /// It is cut into windows, each as long as the model takes; what is found in them is put together.
    Windows,
}

impl std::str::FromStr for LongTexts {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "error" => Ok(LongTexts::Refuse),
            "cut" => Ok(LongTexts::Cut),
            "windows" => Ok(LongTexts::Windows),
            _ => Err(crate::error::unknown_name(
                "way with long texts",
                name,
                &["error", "cut", "windows"],
            )),
        }
    }
}

/// How long texts may be.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limit {
    /// Longest text in tokens, all that is put around it included.
    pub(crate) max_tokens: usize,
    /// What becomes of longer ones.
    pub(crate) long: LongTexts,
}

impl Limit {
    /// The windows of `text`, one where it is short enough; each with what is put around a text.
    ///
    /// # Errors
    /// It is too long and that is not allowed.
    pub(crate) fn single(
        self,
        tokenizer: &EncoderTokenizer,
        text: TextTokens,
    ) -> Result<Vec<EncodedText>> {
        let windows = self.windows(text, tokenizer.added_tokens(false))?;
        let finish = |window| tokenizer.finish(window, None);
        windows.into_iter().map(finish).collect()
    }

    /// `second` behind `first`, which stands whole in each of several windows.
    ///
    /// # Errors
    /// As [`Limit::single`]; or `first` leaves no room.
    pub(super) fn pair(
        self,
        tokenizer: &EncoderTokenizer,
        first: &TextTokens,
        second: TextTokens,
    ) -> Result<Vec<EncodedText>> {
        let windows = self.windows(second, tokenizer.added_tokens(true) + first.len())?;
        let finish = |window| tokenizer.finish(first.clone(), Some(window));
        windows.into_iter().map(finish).collect()
    }

    /// `around` tokens stand around each window.
    fn windows(self, text: TextTokens, around: usize) -> Result<Vec<TextTokens>> {
        let room = self.max_tokens.saturating_sub(around);
        if text.len() <= room {
            return Ok(vec![text]);
        }
        if self.long == LongTexts::Refuse || room == 0 {
            return Err(Error::input("a text is longer than the model takes")
                .expected(format!("at most {} tokens", self.max_tokens))
                .found(format!("{} tokens", text.len() + around))
                .hint("shorten it, or give --long windows (all of it counts) or --long cut (its beginning alone)"));
        }
        let mut windows = text.windows(room);
        if self.long == LongTexts::Cut {
            windows.truncate(1);
        }
        Ok(windows)
    }
}
