//! What a tokenizer does to a text, in numbers: why subwords.

use std::collections::HashMap;
use std::fmt;

use super::{Inner, Marker, Tokenizer, codes, guarded};
use crate::error::{Error, Result};
use crate::text::script::is_han;

/// Rows of the table of splits.
const SPLITS: usize = 20;

/// A word and the pieces it is cut into.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    /// The word.
    pub word: String,
    /// Its pieces, readable.
    pub pieces: Vec<String>,
    /// How often it occurs.
    pub count: usize,
}

/// Counts over a text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct TokenizerStats {
    /// Size of the vocabulary.
    pub vocab_size: usize,
    /// Lines.
    pub lines: usize,
    /// Characters.
    pub characters: usize,
    /// Tokens.
    pub tokens: usize,
    /// Words: what stands between spaces and holds no Chinese character.
    pub words: usize,
    /// Tokens of those words, punctuation included.
    pub word_tokens: usize,
    /// Chinese characters.
    pub han: usize,
    /// Tokens that start with one.
    pub han_tokens: usize,
    /// Unknown tokens.
    pub unknown: usize,
    /// Tokens that are bytes of a character without a piece of its own.
    pub byte_tokens: usize,
    /// Words that stay whole.
    pub whole_words: usize,
    /// The words that are cut most often, commonest first.
    pub splits: Vec<Split>,
}

impl TokenizerStats {
    /// Tokenises `lines` and counts.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn of<S: AsRef<str>>(
        tokenizer: &Tokenizer,
        lines: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let mut stats = TokenizerStats {
            vocab_size: tokenizer.vocab_size(),
            ..Default::default()
        };
        let mut splits: HashMap<String, (usize, Vec<String>)> = HashMap::new();
        for line in lines {
            stats.add_line(tokenizer, line.as_ref(), &mut splits)?;
        }
        let mut splits: Vec<Split> = splits
            .into_iter()
            .map(|(word, (count, pieces))| Split {
                word,
                pieces,
                count,
            })
            .collect();
        splits.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.word.cmp(&b.word)));
        splits.truncate(SPLITS);
        stats.splits = splits;
        Ok(stats)
    }

    fn add_line(
        &mut self,
        tokenizer: &Tokenizer,
        line: &str,
        splits: &mut HashMap<String, (usize, Vec<String>)>,
    ) -> Result<()> {
        let Inner::Library(library) = &tokenizer.inner else {
            return Err(Error::settings(
                "statistics are counted for a tokenizer.json alone",
            ));
        };
        let encoding = guarded("cannot tokenise the text", || library.encode(line, false))?;
        self.lines += 1;
        self.characters += line.chars().count();
        self.han += line.chars().filter(|c| is_han(*c)).count();
        self.tokens += encoding.len();
        let mut tokens = Vec::with_capacity(encoding.len());
        for (id, (start, end)) in encoding.get_ids().iter().zip(encoding.get_offsets()) {
            let id = tokenizer.as_text(*id);
            self.unknown += usize::from(Some(id) == tokenizer.unk_id());
            self.byte_tokens += usize::from(tokenizer.is_byte(id));
            let first = line.get(*start..).unwrap_or("").trim_start();
            if first.chars().next().is_some_and(is_han) && start < end {
                self.han_tokens += 1;
            }
            // A token may start with the space before its word.
            tokens.push((id, line.len() - first.len().min(line.len())));
        }
        let mut tokens = tokens.into_iter().peekable();
        for (start, end) in word_spans(line, tokenizer.marker == Marker::Joiner) {
            let mut ids = Vec::new();
            while let Some((id, _)) = tokens.next_if(|(_, at)| *at < end) {
                ids.push(id);
            }
            let word = &line[start..end];
            if word.chars().any(is_han) {
                continue;
            }
            self.words += 1;
            self.word_tokens += ids.len();
            let pieces: Vec<String> = ids
                .into_iter()
                .filter(|id| !tokenizer.is_special(*id) || Some(*id) == tokenizer.unk_id())
                .map(|id| tokenizer.readable(id))
                .filter(|piece| piece.chars().any(char::is_alphanumeric))
                .collect();
            if pieces.len() < 2 {
                self.whole_words += 1;
                continue;
            }
            let word = codes::join_pieces(word);
            let word = word
                .trim_matches(|c: char| !c.is_alphanumeric())
                .to_string();
            splits.entry(word).or_insert((0, pieces)).0 += 1;
        }
        Ok(())
    }
}

/// Start and end of every word; with `joined`, pieces that end in `@@` belong to the word that follows.
fn word_spans(line: &str, joined: bool) -> Vec<(usize, usize)> {
    let mut spans: Vec<(usize, usize)> = Vec::new();
    let mut open = false;
    for word in line.split_whitespace() {
        let start = word.as_ptr() as usize - line.as_ptr() as usize;
        let end = start + word.len();
        match spans.last_mut() {
            Some(last) if open => last.1 = end,
            _ => spans.push((start, end)),
        }
        open = joined && word.ends_with(codes::JOINER);
    }
    spans
}

impl Tokenizer {
    /// Whether a token is a byte of a character that has no piece of its own.
    fn is_byte(&self, id: u32) -> bool {
        let Some(token) = self.id_to_token(id) else {
            return false;
        };
        match self.marker {
            Marker::Bytes => !self.is_special(id) && self.readable(id).starts_with("<0x"),
            _ => token.len() == 6 && token.starts_with("<0x") && token.ends_with('>'),
        }
    }

    /// A token for people: `▁` for a leading space; parts of a character over bytes as `<0xE4>`.
    fn readable(&self, id: u32) -> String {
        let piece = self.piece(id).unwrap_or_default();
        if self.marker != Marker::Bytes || self.special.contains(&id) {
            return piece;
        }
        let bytes: Vec<u8> = piece.chars().filter_map(gpt2_byte).collect();
        match std::str::from_utf8(&bytes) {
            Ok(text) => text.replace(' ', "▁"),
            Err(_) => bytes.iter().map(|byte| format!("<0x{byte:02X}>")).collect(),
        }
    }
}

/// The byte behind one of GPT-2's letters: printable bytes stand for themselves, the others follow from U+0100.
fn gpt2_byte(c: char) -> Option<u8> {
    let printable = |byte: &u8| matches!(byte, 0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF);
    let code = u32::from(c);
    match u8::try_from(code) {
        Ok(byte) => Some(byte).filter(printable),
        Err(_) => (0..=255u8)
            .filter(|byte| !printable(byte))
            .nth((code - 0x100) as usize),
    }
}

fn per(a: usize, b: usize) -> String {
    if b == 0 {
        "–".into()
    } else {
        format!("{:.2}", a as f64 / b as f64)
    }
}

fn share(a: usize, b: usize) -> String {
    if b == 0 {
        "–".into()
    } else {
        format!("{:.2} %", 100.0 * a as f64 / b as f64)
    }
}

impl fmt::Display for TokenizerStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rows = [
            ("vocabulary", self.vocab_size.to_string()),
            ("lines", self.lines.to_string()),
            ("tokens", self.tokens.to_string()),
            ("characters per token", per(self.characters, self.tokens)),
            ("tokens per word", per(self.word_tokens, self.words)),
            (
                "tokens per Chinese character",
                per(self.han_tokens, self.han),
            ),
            ("words that stay whole", share(self.whole_words, self.words)),
            ("unknown tokens", share(self.unknown, self.tokens)),
            ("byte tokens", share(self.byte_tokens, self.tokens)),
        ];
        for (label, value) in rows {
            writeln!(f, "{label:<30}{value:>12}")?;
        }
        if self.splits.is_empty() {
            return writeln!(f, "no word is cut");
        }
        writeln!(f, "\nwords that are cut most often")?;
        for split in &self.splits {
            writeln!(
                f,
                "{:>8}  {:<24} {}",
                split.count,
                split.word,
                split.pieces.join(" ")
            )?;
        }
        Ok(())
    }
}
