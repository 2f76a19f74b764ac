//! What becomes of a text before it is cut: characters replaced by the file's map, spaces joined.
//!
//! The map is a double array (Aoe 1989) as the program Darts-clone lays it out: the longest text that it knows at a place is
//! replaced. All of its numbers are checked where they are used.

use super::SPACE;
use super::proto::NormalizerSpec;
use super::trie::Prefixes;
use super::{Result, broken};

#[derive(Debug)]
pub(super) struct Normalizer {
    map: Option<CharacterMap>,
    add_dummy_prefix: bool,
    remove_extra_whitespaces: bool,
    escape_whitespaces: bool,
}

/// What texts are replaced by.
#[derive(Debug)]
struct CharacterMap {
    units: Vec<u32>,
    /// The replacements, each up to a zero byte.
    replacements: Vec<u8>,
}

impl Normalizer {
    pub(super) fn new(spec: NormalizerSpec) -> Result<Self> {
        let map = spec.precompiled_charsmap.as_deref().unwrap_or_default();
        Ok(Normalizer {
            map: match map {
                [] => None,
                map => Some(CharacterMap::read(map)?),
            },
            add_dummy_prefix: spec.add_dummy_prefix(),
            remove_extra_whitespaces: spec.remove_extra_whitespaces(),
            escape_whitespaces: spec.escape_whitespaces(),
        })
    }

    /// Whether a space is put before a text, or behind it.
    pub(super) fn adds_space(&self) -> bool {
        self.add_dummy_prefix
    }

    /// Whether spaces at the ends of a text fall away, and several become one.
    pub(super) fn joins_spaces(&self) -> bool {
        self.remove_extra_whitespaces
    }

    /// `user` are texts that stay as they are.
    pub(super) fn normalize(&self, text: &str, user: &Prefixes, space_behind: bool) -> String {
        let space = if self.escape_whitespaces { SPACE } else { " " };
        let mut rest = text;
        if self.remove_extra_whitespaces {
            while !rest.is_empty() {
                let (new, len) = self.replaced(rest, user);
                if new != " " {
                    break;
                }
                rest = &rest[len..];
            }
        }
        let mut out = String::with_capacity(text.len() + text.len() / 2);
        if rest.is_empty() {
            return out;
        }
        if self.add_dummy_prefix && !space_behind {
            out.push_str(space);
        }
        let mut after_space = self.remove_extra_whitespaces;
        while !rest.is_empty() {
            let (mut new, len) = self.replaced(rest, user);
            if after_space {
                new = new.trim_start_matches(' ');
            }
            if !new.is_empty() {
                match self.escape_whitespaces {
                    true => {
                        new.split_inclusive(' ')
                            .for_each(|part| match part.strip_suffix(' ') {
                                Some(word) => {
                                    out.push_str(word);
                                    out.push_str(space);
                                }
                                None => out.push_str(part),
                            })
                    }
                    false => out.push_str(new),
                }
                after_space = new.ends_with(' ');
            }
            rest = &rest[len..];
            if !self.remove_extra_whitespaces {
                after_space = false;
            }
        }
        if self.remove_extra_whitespaces {
            while let Some(shorter) = out.strip_suffix(space) {
                out.truncate(shorter.len());
            }
        }
        if self.add_dummy_prefix && space_behind {
            out.push_str(space);
        }
        out
    }

    /// What the beginning of `text` becomes, and how long that is: at least a character.
    fn replaced<'a>(&'a self, text: &'a str, user: &Prefixes) -> (&'a str, usize) {
        if !user.is_empty() {
            let len = user.longest(text.as_bytes());
            // A piece is whole characters.
            if len > 0 {
                return (&text[..len], len);
            }
        }
        if let Some(map) = &self.map
            && let Some((new, len)) = map.longest(text)
        {
            return (new, len);
        }
        let len = text.chars().next().map_or(0, char::len_utf8);
        (&text[..len], len)
    }
}

impl CharacterMap {
    fn read(bytes: &[u8]) -> Result<Self> {
        let wrong = |found: String| broken("a map of characters: a table and texts", found);
        let (size, rest) = bytes
            .split_first_chunk::<4>()
            .ok_or_else(|| wrong(format!("{} bytes", bytes.len())))?;
        let size = u32::from_le_bytes(*size) as usize;
        if size > rest.len() || !size.is_multiple_of(4) || size == 0 {
            return Err(wrong(format!("a table of {size} bytes in {}", rest.len())));
        }
        let (table, replacements) = rest.split_at(size);
        Ok(CharacterMap {
            units: table
                .as_chunks::<4>()
                .0
                .iter()
                .map(|unit| u32::from_le_bytes(*unit))
                .collect(),
            replacements: replacements.to_vec(),
        })
    }

    /// The replacement of the longest text that is known at the beginning of `text`, and that text's length.
    fn longest<'a>(&'a self, text: &str) -> Option<(&'a str, usize)> {
        let offset = |unit: u32| ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize;
        let mut node = offset(*self.units.first()?);
        let mut best = None;
        for (i, byte) in text.bytes().enumerate() {
            node ^= usize::from(byte);
            let Some(unit) = self.units.get(node).copied() else {
                break;
            };
            if unit & (1 << 31 | 0xFF) != u32::from(byte) {
                break;
            }
            node ^= offset(unit);
            if unit >> 8 & 1 == 1 {
                let value = self
                    .units
                    .get(node)
                    .map(|unit| (unit & !(1 << 31)) as usize);
                best = value.map(|value| (value, i + 1)).or(best);
            }
        }
        let (value, len) = best?;
        // A damaged map may end within a character, or point beyond its texts.
        let new = self.replacements.get(value..)?;
        let new = new.split(|byte| *byte == 0).next().unwrap_or_default();
        let new = std::str::from_utf8(new).ok()?;
        text.is_char_boundary(len).then_some((new, len))
    }
}
