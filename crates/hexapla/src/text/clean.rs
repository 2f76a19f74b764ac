//! What is taken away from text before a model sees it: characters that nobody sees, and forms that are one letter in another
//! width.
//!
//! Soft hyphens, zero-width spaces and direction marks come from web pages and word processors. No model has seen enough of
//! them to pass over them, and one of them in a word makes another word of it.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::Chars;

/// `text` without default-ignorable format characters, and with full-width letters and digits and Latin ligatures as the plain
/// letters that they are.
///
/// Kept are ZWJ and ZWNJ, which spell words (Persian, Hindi) and emoji; a Mongolian vowel separator in Mongolian; and the tags
/// that spell a flag after U+1F3F4. Full-width punctuation stays: `，` is no `,`.
pub fn clean(text: &str) -> Cow<'_, str> {
    let Some(start) = text.find(|c| invisible(c) || folded(c).is_some()) else {
        return Cow::Borrowed(text);
    };
    let mut clean = String::with_capacity(text.len());
    let (before, rest) = text.split_at(start);
    clean.push_str(before);
    let mut rest = rest.chars().peekable();
    let mut previous = before.chars().next_back();
    if previous == Some(BLACK_FLAG) {
        take_tags(&mut rest, &mut clean);
    }
    while let Some(c) = rest.next() {
        if let Some(plain) = folded(c) {
            plain.push_to(&mut clean);
        } else if !invisible(c) || c == VOWEL_SEPARATOR && previous.is_some_and(is_mongolian) {
            clean.push(c);
        } else {
            continue;
        }
        if c == BLACK_FLAG {
            take_tags(&mut rest, &mut clean);
        }
        previous = Some(c);
    }
    Cow::Owned(clean)
}

/// Whether [`clean`] takes anything away from `text`; what it only folds does not count.
pub fn has_invisible(text: &str) -> bool {
    text.contains(invisible)
        && clean(text).chars().filter(|c| invisible(*c)).count()
            < text.chars().filter(|c| invisible(*c)).count()
}

const VOWEL_SEPARATOR: char = '\u{180E}';
const BLACK_FLAG: char = '\u{1F3F4}';

fn is_mongolian(c: char) -> bool {
    matches!(c, '\u{1820}'..='\u{18AA}')
}

/// The tags behind a black flag, which make it that of a region.
fn take_tags(rest: &mut Peekable<Chars<'_>>, clean: &mut String) {
    while let Some(tag) = rest.next_if(|c| matches!(c, '\u{E0020}'..='\u{E007F}')) {
        clean.push(tag);
    }
}

/// Format characters (Cf) among the default-ignorable ones of Unicode, without ZWNJ (U+200C) and ZWJ (U+200D).
fn invisible(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{61C}' | VOWEL_SEPARATOR
        | '\u{200B}' | '\u{200E}' | '\u{200F}'
        | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}'
        | '\u{FEFF}'
        | '\u{1BCA0}'..='\u{1BCA3}'
        | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0001}' | '\u{E0020}'..='\u{E007F}')
}

/// The plain letters that stand for one character.
enum Plain {
    Letter(char),
    Letters(&'static str),
}

impl Plain {
    fn push_to(&self, text: &mut String) {
        match self {
            Plain::Letter(c) => text.push(*c),
            Plain::Letters(s) => text.push_str(s),
        }
    }
}

/// What a full-width digit or letter, or a Latin ligature, is in plain letters.
fn folded(c: char) -> Option<Plain> {
    let ligatures = ["ff", "fi", "fl", "ffi", "ffl", "st", "st"];
    match c {
        '\u{FF10}'..='\u{FF19}' | '\u{FF21}'..='\u{FF3A}' | '\u{FF41}'..='\u{FF5A}' => {
            char::from_u32(u32::from(c) - 0xFEE0).map(Plain::Letter)
        }
        '\u{FB00}'..='\u{FB06}' => {
            let number = u32::from(c) as usize - 0xFB00;
            ligatures.get(number).map(|letters| Plain::Letters(letters))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_characters_go() {
        for c in [
            '\u{AD}',
            '\u{61C}',
            '\u{180E}',
            '\u{200B}',
            '\u{200E}',
            '\u{200F}',
            '\u{202A}',
            '\u{202E}',
            '\u{2060}',
            '\u{2064}',
            '\u{2066}',
            '\u{2069}',
            '\u{206F}',
            '\u{FEFF}',
            '\u{1D173}',
            '\u{E0001}',
            '\u{E0041}',
        ] {
            assert_eq!(clean(&format!("Fuß{c}ball")), "Fußball", "{c:?}");
            assert_eq!(clean(&format!("{c}{c}a{c}")), "a", "{c:?}");
            assert_eq!(clean(&String::from(c)), "");
            assert!(has_invisible(&format!("a{c}")));
        }
    }

    #[test]
    fn what_spells_something_stays() {
        for text in [
            "می‌خواهم",
            "क्‍ष",
            "👩‍🚒 ❤️",
            "🏴\u{E0067}\u{E0062}\u{E0065}\u{E006E}\u{E0067}\u{E007F}",
            "ᠬᠠᠷ\u{180E}ᠠ",
            "，。！？（）「」",
            "ﾊﾟ ㍿ ㎏ ½ ﷽",
            "plain",
            "",
        ] {
            assert_eq!(clean(text), text);
            assert!(!has_invisible(text));
        }
        // A separator and tags elsewhere are nothing.
        assert_eq!(clean("a\u{180E}b\u{E0067}c"), "abc");
    }

    #[test]
    fn widths_and_ligatures_are_folded() {
        assert_eq!(
            clean("１２３４５６７８９０，ＡＺａｚ！"),
            "1234567890，AZaz！"
        );
        assert_eq!(clean("ﬀ ﬁ ﬂ ﬃ ﬄ ﬅ ﬆ"), "ff fi fl ffi ffl st st");
        assert!(!has_invisible("１ﬁ"));
    }

    #[test]
    fn cleaning_twice_is_cleaning_once() {
        let all: String = ('\u{0}'..=char::MAX).step_by(7).collect();
        let once = clean(&all).into_owned();
        assert_eq!(clean(&once), once);
    }
}
