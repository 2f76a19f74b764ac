//! The ways in which BLEU cuts a sentence into words.
//!
//! These rules are frozen: published scores depend on them, oddities included. White space is Python's,
//! which counts four control characters (U+001C to U+001F) that Unicode does not.

use std::sync::LazyLock;

use regex::Regex;

use crate::error::{Result, unknown_name};
use crate::text::script::{is_han, is_spaceless};

/// A way to cut sentences into words for BLEU.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Tokenizer {
    /// `13a`: the rules of WMT's `mteval-v13a`, made for Western languages.
    #[default]
    Mteval13a,
    /// `zh`: every Chinese character is a word, the rest as in `13a`.
    Chinese,
    /// `char`: every character is a word.
    Character,
    /// `intl`: all of Unicode's punctuation and symbols stand alone, as in `mteval-v14 --international-tokenization`.
    International,
    /// `none`: words are already separated by white space.
    None,
}

impl Tokenizer {
    /// Every tokenizer's name, the default first.
    pub const NAMES: [&'static str; 5] = ["13a", "zh", "char", "intl", "none"];

    /// The tokenizer that sacreBLEU calls `name`.
    ///
    /// # Errors
    /// An unknown name is refused with the nearest known one.
    pub fn from_name(name: &str) -> Result<Self> {
        Ok(match name {
            "13a" => Tokenizer::Mteval13a,
            "zh" => Tokenizer::Chinese,
            "char" => Tokenizer::Character,
            "intl" => Tokenizer::International,
            "none" => Tokenizer::None,
            _ => return Err(unknown_name("BLEU tokenizer", name, &Self::NAMES)),
        })
    }

    /// The tokenizer that fits `lines`: `zh` where some of them are Chinese, whatever the rest is, since it cuts the others as
    /// `13a` does; `char` where some are in another script that has no spaces between words; `13a` elsewhere. Fewer than one
    /// line in twenty decides nothing.
    pub fn fitting<S: AsRef<str>>(lines: &[S]) -> Self {
        let (mut all, mut chinese, mut others) = (0, 0, 0);
        for line in lines {
            let letters = || line.as_ref().chars().filter(|c| c.is_alphabetic());
            let han = letters().filter(|c| is_han(*c)).count();
            let spaceless = letters().filter(|c| is_spaceless(*c)).count();
            let count = letters().count();
            all += usize::from(count > 0);
            if 2 * (han + spaceless) <= count {
                continue;
            }
            // Japanese is written with both.
            match 20 * spaceless > count {
                true => others += 1,
                false => chinese += 1,
            }
        }
        if others * 20 > all {
            Tokenizer::Character
        } else if chinese * 20 > all {
            Tokenizer::Chinese
        } else {
            Tokenizer::Mteval13a
        }
    }

    /// sacreBLEU's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Tokenizer::Mteval13a => "13a",
            Tokenizer::Chinese => "zh",
            Tokenizer::Character => "char",
            Tokenizer::International => "intl",
            Tokenizer::None => "none",
        }
    }

    /// The sentence with white space between its words; [`words`] takes it apart.
    pub fn tokenize(self, sentence: &str) -> String {
        match self {
            Tokenizer::Mteval13a => mteval_13a(sentence),
            Tokenizer::Chinese => chinese(sentence),
            Tokenizer::Character => separate(sentence, |_| true),
            Tokenizer::International => international(sentence),
            Tokenizer::None => sentence.to_owned(),
        }
    }
}

/// Whether Python's `str.split` cuts at `c`.
pub(super) fn is_space(c: char) -> bool {
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// The parts of `text` between runs of white space.
pub fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(is_space).filter(|word| !word.is_empty())
}

/// Puts a space on both sides of each character that `stands_alone`.
fn separate(text: &str, stands_alone: impl Fn(char) -> bool) -> String {
    let mut out = String::with_capacity(2 * text.len());
    for c in text.chars() {
        if stands_alone(c) {
            out.extend([' ', c, ' ']);
        } else {
            out.push(c);
        }
    }
    out
}

/// Replaces every match of a pattern that is known to be sound.
fn replace(pattern: &'static LazyLock<Regex>, text: &str, with: &str) -> String {
    pattern.replace_all(text, with).into_owned()
}

/// Compiles one of the patterns below; they are constants, so a failure is a mistake in this file.
macro_rules! pattern {
    ($name:ident, $pattern:literal) => {
        static $name: LazyLock<Regex> =
            LazyLock::new(|| Regex::new($pattern).expect("the pattern is a constant"));
    };
}

pattern!(POINT_AFTER_NON_DIGIT, r"([^0-9])([.,])");
pattern!(POINT_BEFORE_NON_DIGIT, r"([.,])([^0-9])");
pattern!(DASH_AFTER_DIGIT, r"([0-9])(-)");

/// The rules that `13a` and `zh` share: ASCII punctuation stands alone, save for apostrophes, for hyphens not
/// after a digit, and for points and commas between digits.
fn western(text: &str) -> String {
    let text = separate(
        text,
        |c| matches!(c, ' '..='&' | '('..='+' | '/' | ':'..='@' | '['..='`' | '{'..='~'),
    );
    let text = replace(&POINT_AFTER_NON_DIGIT, &text, "$1 $2 ");
    let text = replace(&POINT_BEFORE_NON_DIGIT, &text, " $1 $2");
    replace(&DASH_AFTER_DIGIT, &text, "$1 $2 ")
}

fn mteval_13a(sentence: &str) -> String {
    let mut text = sentence
        .replace("<skipped>", "")
        .replace("-\n", "")
        .replace('\n', " ");
    // The order matters: `&amp;quot;` becomes `&quot;`, and `&amp;lt;` becomes `<`.
    for (entity, character) in [
        ("&quot;", "\""),
        ("&amp;", "&"),
        ("&lt;", "<"),
        ("&gt;", ">"),
    ] {
        text = text.replace(entity, character);
    }
    western(&format!(" {text} "))
}

fn chinese(sentence: &str) -> String {
    western(&separate(sentence.trim_matches(is_space), is_chinese))
}

/// The characters that `zh` sets apart.
///
/// The original list means to name two blocks beyond U+FFFF, but writes them as pairs of a four-digit escape and
/// one more character. Compared as strings they cover U+2001–U+2A6D (dashes, curly quotes, arrows, mathematics)
/// instead, and characters beyond U+FFFF are left together. Scores depend on it, so it is kept.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{2001}'..='\u{2a6d}'
        | '\u{2e80}'..='\u{2fdf}'   // radicals
        | '\u{2ff0}'..='\u{303f}'   // structure, punctuation
        | '\u{3100}'..='\u{312f}'   // bopomofo
        | '\u{31a0}'..='\u{31bf}'
        | '\u{31c0}'..='\u{31ef}'   // strokes
        | '\u{3200}'..='\u{4db5}'   // enclosed, compatibility, extension A
        | '\u{4e00}'..='\u{9fbb}'   // unified ideographs of Unicode 4.1
        | '\u{f900}'..='\u{fa2d}'
        | '\u{fa30}'..='\u{fa6a}'
        | '\u{fa70}'..='\u{fad9}'
        | '\u{fe10}'..='\u{fe1f}'   // vertical forms
        | '\u{fe30}'..='\u{fe4f}'
        | '\u{ff00}'..='\u{ffef}'   // full width
    )
}

pattern!(PUNCTUATION_AFTER_NON_NUMBER, r"(\P{N})(\p{P})");
pattern!(PUNCTUATION_BEFORE_NON_NUMBER, r"(\p{P})(\P{N})");
pattern!(SYMBOL, r"(\p{S})");

fn international(sentence: &str) -> String {
    let text = replace(&PUNCTUATION_AFTER_NON_NUMBER, sentence, "$1 $2 ");
    let text = replace(&PUNCTUATION_BEFORE_NON_NUMBER, &text, " $1 $2");
    replace(&SYMBOL, &text, " $1 ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(tokenizer: Tokenizer, sentence: &str) -> Vec<String> {
        words(&tokenizer.tokenize(sentence))
            .map(str::to_owned)
            .collect()
    }

    #[test]
    fn numbers_stay_whole_in_13a() {
        assert_eq!(
            cut(Tokenizer::Mteval13a, "It's 1,000.5-ish, (no?)."),
            ["It's", "1,000.5", "-", "ish", ",", "(", "no", "?", ")", "."]
        );
        assert_eq!(
            cut(Tokenizer::Mteval13a, "&quot;a&amp;lt;b"),
            ["\"", "a", "<", "b"]
        );
    }

    #[test]
    fn chinese_characters_are_words_in_zh() {
        assert_eq!(
            cut(Tokenizer::Chinese, "我有3.5元,OK。"),
            ["我", "有", "3.5", "元", ",", "OK", "。"]
        );
        assert_eq!(cut(Tokenizer::Chinese, "𠀀𠀁"), ["𠀀𠀁"]);
    }

    #[test]
    fn words_fit_the_script() {
        let fitting = |lines: &[&str]| Tokenizer::fitting(lines).name();
        for (line, name) in [
            ("Where is the station?", "13a"),
            ("车站在哪里？", "zh"),
            ("Tom 在家等着。", "zh"),
            ("駅はどこですか。", "char"),
            ("日本の東京都千代田区霞が関に合同庁舎がある", "char"),
            ("สถานีอยู่ที่ไหน", "char"),
            ("ສະຖານີຢູ່ໃສ", "char"),
            ("ស្ថានីយ៍នៅឯណា", "char"),
            ("ဘူတာရုံဘယ်မှာလဲ", "char"),
            ("ས་ཚིགས་ག་པར་ཡོད་རེད།", "char"),
            ("역이 어디예요?", "13a"),
            ("स्टेशन कहाँ है?", "13a"),
            ("123", "13a"),
            ("", "13a"),
        ] {
            assert_eq!(fitting(&[line]), name, "{line}");
        }
        // Several directions in one set.
        assert_eq!(fitting(&["Accidents happen.", "事故发生。"]), "zh");
        assert_eq!(
            fitting(&["Accidents happen.", "事故发生。", "駅はどこですか。"]),
            "char"
        );
        let mut stray = vec!["Accidents happen."; 40];
        stray.push("事故发生。");
        assert_eq!(fitting(&stray), "13a");
    }

    #[test]
    fn every_name_leads_back_to_its_tokenizer() {
        for name in Tokenizer::NAMES {
            assert_eq!(Tokenizer::from_name(name).unwrap().name(), name);
        }
        let e = Tokenizer::from_name("13b").unwrap_err().to_string();
        assert!(e.contains("`13a`"), "{e}");
    }

    #[test]
    fn white_space_is_pythons() {
        assert_eq!(
            words(" a\u{1c}b\u{85}c\u{3000}d ").collect::<Vec<_>>(),
            ["a", "b", "c", "d"]
        );
        // Neither counts the zero-width space.
        assert_eq!(words("a\u{200b}b").count(), 1);
    }
}
