//! Which of many texts another one begins with.

use std::ops::Range;

/// Sorted texts with their numbers.
#[derive(Debug)]
pub(super) struct Prefixes {
    /// End to end.
    bytes: Vec<u8>,
    /// Where each lies, in their order, and its number.
    texts: Vec<(Range<usize>, u32)>,
    /// Those that begin with each byte.
    first: Vec<Range<usize>>,
}

impl Prefixes {
    pub(super) fn new(mut texts: Vec<(&[u8], u32)>) -> Self {
        texts.sort_unstable();
        let mut bytes = Vec::new();
        let mut ranges = Vec::with_capacity(texts.len());
        for (text, id) in &texts {
            let start = bytes.len();
            bytes.extend_from_slice(text);
            ranges.push((start..bytes.len(), *id));
        }
        let with = |byte: u8| {
            let below = texts.partition_point(|(text, _)| text.first().is_none_or(|b| *b < byte));
            let until = texts.partition_point(|(text, _)| text.first().is_none_or(|b| *b <= byte));
            below..until
        };
        Prefixes {
            first: (0..=255).map(with).collect(),
            bytes,
            texts: ranges,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Calls `found` with the length and the number of each text that `text` begins with, the shortest first.
    pub(super) fn each(&self, text: &[u8], mut found: impl FnMut(usize, u32)) {
        let Some(first) = text.first() else { return };
        let mut left = self.first[*first as usize].clone();
        let mut depth = 1;
        while !left.is_empty() {
            // Of texts with one beginning the shortest stands first.
            let (range, id) = &self.texts[left.start];
            if range.len() == depth {
                found(depth, *id);
                left.start += 1;
            }
            let Some(next) = text.get(depth) else { return };
            let texts = &self.texts[left.clone()];
            let byte = |(range, _): &(Range<usize>, u32)| self.bytes[range.start + depth];
            let start = texts.partition_point(|text| byte(text) < *next);
            let len = texts[start..].partition_point(|text| byte(text) == *next);
            left = left.start + start..left.start + start + len;
            depth += 1;
        }
    }

    /// The length of the longest text that `text` begins with; 0 where there is none.
    pub(super) fn longest(&self, text: &[u8]) -> usize {
        let mut longest = 0;
        self.each(text, |len, _| longest = len);
        longest
    }
}
