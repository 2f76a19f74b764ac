//! Long text into sentences, and sentences that are too long into parts. Nothing is lost: the parts joined are the text.

mod long;

use super::script::is_han;
pub use long::split_long;

/// A part of a text, and what stands between it and the next part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment<'a> {
    /// The sentence without white space around it; empty where the text starts with white space.
    pub text: &'a str,
    /// White space after it; often empty in Chinese.
    pub separator: &'a str,
}

impl<'a> Segment<'a> {
    /// A text as one sentence, with the white space around it.
    pub fn whole(text: &'a str) -> Vec<Segment<'a>> {
        let mut segments = Vec::new();
        push(&mut segments, text);
        segments
    }
}

/// Abbreviations after which no sentence ends (lower case, without the last full stop).
const ABBREVIATIONS: [&str; 55] = [
    "mr", "mrs", "ms", "dr", "prof", "st", "jr", "sr", "vs", "figs", "ed", "eds", "al", "cf",
    "approx", "dept", "gen", "col", "capt", "lt", "sgt", "rev", "hon", "gov", "sen", "rep", "pres",
    "mt", "ave", "inc", "ltd", "jan", "feb", "apr", "aug", "sept", "oct", "nov", "dec", "hr", "fr",
    "str", "bzw", "ca", "vgl", "evtl", "ggf", "inkl", "usf", "hrsg", "ing", "tel", "mme", "mlle",
    "z",
];

/// Abbreviations only where a number follows: `No. 5`, but `He said no.`
const BEFORE_NUMBERS: [&str; 13] = [
    "no", "nos", "nr", "vol", "fig", "eq", "sec", "ch", "p", "pp", "abb", "bd", "art",
];

/// Cuts `text` into sentences: after `。！？；…` at once, after `.`, `!` and `?` where a space follows and no abbreviation,
/// initial or number stands before, and at every line end and tab. Closing quotes and brackets stay with their sentence.
///
/// ```
/// use hexapla::text::segment::{join, segment};
/// let text = "Dr. Wu paid $3.50. \"Why?\" she asked. 他说：“好。”然后走了。";
/// let parts = segment(text);
/// assert_eq!(parts[0].text, "Dr. Wu paid $3.50.");
/// assert_eq!(parts[2].text, "他说：“好。”");
/// assert_eq!(join(parts.iter().map(|part| (part.text, part.separator))), text);
/// ```
pub fn segment(text: &str) -> Vec<Segment<'_>> {
    let chars: Vec<(usize, char)> = text.char_indices().collect();
    let ahead = Ahead::of(&chars);
    let offset = |i: usize| chars.get(i).map_or(text.len(), |(at, _)| *at);
    let mut segments = Vec::new();
    let mut start = 0;
    let mut i = 0;
    while i < chars.len() {
        let end = match chars[i].1 {
            c if is_line_end(c) => i,
            c if is_terminator(c) => {
                let run = run_end(&chars, i);
                let closed = closers_end(&chars, &ahead, start, run);
                if !ends_sentence(&chars, &ahead, start, i, run, closed) {
                    i = closed.max(i + 1);
                    continue;
                }
                closed
            }
            _ => {
                i += 1;
                continue;
            }
        };
        let next = (end..chars.len())
            .find(|j| !chars[*j].1.is_whitespace())
            .unwrap_or(chars.len());
        push(&mut segments, &text[offset(start)..offset(next)]);
        start = next;
        i = next;
    }
    push(&mut segments, &text[offset(start)..]);
    segments
}

/// Adds `part` as one segment, and one before it where it starts with white space.
fn push<'a>(segments: &mut Vec<Segment<'a>>, part: &'a str) {
    let body = part.trim_start();
    let (leading, _) = part.split_at(part.len() - body.len());
    if !leading.is_empty() {
        segments.push(Segment {
            text: "",
            separator: leading,
        });
    }
    let text = body.trim_end();
    if !text.is_empty() {
        segments.push(Segment {
            text,
            separator: &body[text.len()..],
        });
    }
}

/// What ends a line or a column: no sentence goes on behind it.
fn is_line_end(c: char) -> bool {
    matches!(
        c,
        '\n' | '\t' | '\u{B}' | '\u{C}' | '\u{85}' | '\u{2028}' | '\u{2029}'
    )
}

/// What is to be known of the text around each character, gathered in one pass: asked for at every full stop, a search would
/// read a text of full stops again and again.
struct Ahead {
    /// The first letter or digit at or after each character, and none at the end.
    alphanumeric: Vec<Option<char>>,
    /// Straight double and single quotes before each character.
    quotes: Vec<[u32; 2]>,
}

impl Ahead {
    fn of(chars: &[(usize, char)]) -> Self {
        let mut alphanumeric = vec![None; chars.len() + 1];
        for (i, (_, c)) in chars.iter().enumerate().rev() {
            alphanumeric[i] = match c.is_alphanumeric() {
                true => Some(*c),
                false => alphanumeric[i + 1],
            };
        }
        let mut counts = [0; 2];
        let mut quotes = Vec::with_capacity(chars.len() + 1);
        quotes.push(counts);
        for (_, c) in chars {
            counts[0] += u32::from(*c == '"');
            counts[1] += u32::from(*c == '\'');
            quotes.push(counts);
        }
        Ahead {
            alphanumeric,
            quotes,
        }
    }

    /// Whether a quote of the kind of `c` that was opened in `range` is open at its end.
    fn is_open(&self, c: char, range: std::ops::Range<usize>) -> bool {
        let kind = usize::from(c == '\'');
        let before = |i: usize| self.quotes.get(i).map_or(0, |counts| counts[kind]);
        (before(range.end) - before(range.start)) % 2 == 1
    }
}

fn is_cjk_terminator(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '｡')
}

fn is_terminator(c: char) -> bool {
    is_cjk_terminator(c) || matches!(c, '.' | '!' | '?' | '…')
}

fn is_cjk(c: char) -> bool {
    is_han(c) || matches!(u32::from(c), 0x3000..=0x30FF | 0xFF00..=0xFF65)
}

fn is_closer(c: char) -> bool {
    matches!(
        c,
        ')' | ']'
            | '}'
            | '”'
            | '’'
            | '»'
            | '›'
            | '」'
            | '』'
            | '）'
            | '】'
            | '》'
            | '〉'
            | '］'
            | '〕'
    )
}

fn run_end(chars: &[(usize, char)], from: usize) -> usize {
    (from..chars.len())
        .find(|i| !is_terminator(chars[*i].1))
        .unwrap_or(chars.len())
}

/// Past the closing quotes and brackets after a run of terminators. A straight quote closes where one is open.
fn closers_end(chars: &[(usize, char)], ahead: &Ahead, start: usize, run: usize) -> usize {
    let mut end = run;
    while let Some((_, c)) = chars.get(end) {
        let straight = matches!(c, '"' | '\'') && ahead.is_open(*c, start..end);
        if !is_closer(*c) && !straight {
            break;
        }
        end += 1;
    }
    end
}

/// Whether the terminators `at..run`, closed at `closed`, end the sentence that began at `start`.
fn ends_sentence(
    chars: &[(usize, char)],
    ahead: &Ahead,
    start: usize,
    at: usize,
    run: usize,
    closed: usize,
) -> bool {
    let Some((_, next)) = chars.get(closed) else {
        return true;
    };
    if chars[at..run].iter().any(|(_, c)| is_cjk_terminator(*c)) {
        // 「好。」，他说: a comma or the like goes on with the sentence.
        return !matches!(next, '，' | '、' | '：' | ',' | ':');
    }
    let after_cjk = at > start && is_cjk(chars[at - 1].1);
    if after_cjk && run - at >= 1 && chars[at].1 != '.' {
        return !matches!(next, '，' | '、' | '：' | ',' | ':');
    }
    if !next.is_whitespace() {
        return is_cjk(*next) && chars[at..run].iter().any(|(_, c)| matches!(c, '!' | '?'));
    }
    if is_line_end(*next) {
        return true;
    }
    let following = ahead.alphanumeric.get(closed).copied().flatten();
    if following.is_some_and(char::is_lowercase) {
        return false;
    }
    let single_stop = run - at == 1 && chars[at].1 == '.';
    let number_follows = following.is_some_and(char::is_numeric);
    !(single_stop && stop_belongs_to_word(chars, start, at, number_follows))
}

/// Whether the full stop at `at` belongs to an abbreviation, an initial or an ordinal number.
fn stop_belongs_to_word(
    chars: &[(usize, char)],
    start: usize,
    at: usize,
    number_follows: bool,
) -> bool {
    let word_start = (start..at)
        .rev()
        .find(|i| !(chars[*i].1.is_alphanumeric() || matches!(chars[*i].1, '.' | '-')))
        .map_or(start, |i| i + 1);
    let word: String = chars[word_start..at].iter().map(|(_, c)| *c).collect();
    let letters = word.chars().filter(|c| c.is_alphabetic()).count();
    let digits = word.chars().filter(char::is_ascii_digit).count();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase) && word != "I";
    // z.B, U.S, e.g: letters with stops between them.
    let dotted =
        word.contains('.') && digits == 0 && word.split('.').all(|part| part.chars().count() <= 2);
    let ordinal = letters == 0 && (1..=2).contains(&digits) && word.chars().count() == digits;
    let word = word.to_lowercase();
    initial
        || dotted
        || ordinal
        || ABBREVIATIONS.contains(&word.as_str())
        || number_follows && BEFORE_NUMBERS.contains(&word.as_str())
}

/// Puts parts and the separators after them together.
pub fn join<'a>(parts: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    parts
        .into_iter()
        .flat_map(|(text, separator)| [text, separator])
        .collect()
}

/// Puts the translations of `segments` together, in the target's manner: where Chinese had no space between sentences, a
/// translation into a script with spaces gets one, and the other way round. Line ends and wider space stay as they were.
pub fn join_translated<S: AsRef<str>>(segments: &[Segment], translations: &[S]) -> String {
    let mut text = String::new();
    for (i, (segment, translation)) in segments.iter().zip(translations).enumerate() {
        text.push_str(translation.as_ref());
        let next = translations
            .get(i + 1)
            .and_then(|next| next.as_ref().chars().next());
        let between = text
            .chars()
            .next_back()
            .zip(next)
            .filter(|_| i + 1 < segments.len());
        text.push_str(match (segment.separator, between) {
            ("", Some((last, next))) if !is_cjk(last) && !is_cjk(next) => " ",
            (" ", Some((last, next))) if is_cjk(last) && is_cjk(next) => "",
            (separator, _) => separator,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use unicode_segmentation::UnicodeSegmentation;

    /// Not by a clock: a search at each full stop would take some 10¹¹ steps of these texts.
    #[test]
    fn a_text_of_nothing_but_ends_is_cut_in_one_pass() {
        for unit in [
            "? ", ".\"a", "a.", ". ", "?)", "…", ".' ", "! \n", "?\"", "。」",
        ] {
            let text = unit.repeat((1 << 20) / unit.len());
            let parts = segment(&text);
            assert_eq!(join(parts.iter().map(|p| (p.text, p.separator))), text);
        }
    }

    #[test]
    fn columns_and_lines_are_apart() {
        let parts = segment("one two\tthree.\u{2028}  four");
        let parts: Vec<_> = parts.iter().map(|p| (p.text, p.separator)).collect();
        assert_eq!(
            parts,
            [("one two", "\t"), ("three.", "\u{2028}  "), ("four", "")]
        );
    }

    fn texts(text: &str) -> Vec<&str> {
        segment(text)
            .iter()
            .map(|part| part.text)
            .filter(|text| !text.is_empty())
            .collect()
    }

    #[test]
    fn latin_sentences() {
        assert_eq!(
            texts("It rains. We stay! Why? Yes."),
            ["It rains.", "We stay!", "Why?", "Yes."]
        );
        for whole in [
            "Mr. Smith met Dr. J. K. Brown at 3.14 p.m. on Nov. 5.",
            "See e.g. Figure 3. of www.example.com, i.e. the U.S. one.",
            "Das ist z.B. am 3. Oktober bzw. später.",
            "Well... maybe not.",
            "\"Stop!\" he said.",
            "What?! no…",
        ] {
            assert_eq!(texts(whole), [whole]);
        }
        assert_eq!(
            texts("He said \"No.\" She left."),
            ["He said \"No.\"", "She left."]
        );
        assert_eq!(texts("(It rains.) We stay."), ["(It rains.)", "We stay."]);
        assert_eq!(
            texts("So did I. Then we left."),
            ["So did I.", "Then we left."]
        );
        assert_eq!(
            texts("See No. 5 in the book. I said no. We left."),
            ["See No. 5 in the book.", "I said no.", "We left."]
        );
        assert_eq!(texts("Wait... Now go."), ["Wait...", "Now go."]);
        assert_eq!(
            texts("one line\nanother line"),
            ["one line", "another line"]
        );
    }

    #[test]
    fn chinese_sentences() {
        assert_eq!(
            texts("你好。我很好！你呢？"),
            ["你好。", "我很好！", "你呢？"]
        );
        assert_eq!(
            texts("他说：“走吧。”我们走了……天黑了"),
            ["他说：“走吧。”", "我们走了……", "天黑了"]
        );
        assert_eq!(
            texts("圆周率是3.14。对；不对"),
            ["圆周率是3.14。", "对；", "不对"]
        );
        assert_eq!(texts("「好。」，他说。"), ["「好。」，他说。"]);
    }

    #[test]
    fn white_space_is_kept() {
        let text = "  Ab.  Cd.\n\n e \n";
        let parts = segment(text);
        assert_eq!(
            parts[0],
            Segment {
                text: "",
                separator: "  "
            }
        );
        assert_eq!(
            parts[1],
            Segment {
                text: "Ab.",
                separator: "  "
            }
        );
        assert_eq!(
            parts[2],
            Segment {
                text: "Cd.",
                separator: "\n\n "
            }
        );
        assert_eq!(
            join(parts.iter().map(|part| (part.text, part.separator))),
            text
        );
        assert!(segment("").is_empty());
    }

    #[test]
    fn translations_are_joined_in_the_targets_manner() {
        assert_eq!(
            join_translated(&segment("你好。再见。"), &["Hello.", "Goodbye."]),
            "Hello. Goodbye."
        );
        assert_eq!(
            join_translated(&segment("Hello. Goodbye.\n"), &["你好。", "再见。"]),
            "你好。再见。\n"
        );
        assert_eq!(
            join_translated(&segment("Aa.  Bb."), &["a.", "b."]),
            "a.  b."
        );
    }

    proptest! {
        #[test]
        fn nothing_is_lost(text in "([a-zA-Z0-9 .!?…,;:\"'()\n\t]|[。！？；，、“”」你好]|\\PC|[ -~]|\u{2028}|\u{200D}|\u{FE0F}|👨|é){0,60}", max in 0usize..12) {
            let parts = segment(&text);
            prop_assert_eq!(join(parts.iter().map(|part| (part.text, part.separator))), text.clone());
            let units = |part: &str| part.chars().count();
            let parts = split_long(&text, max, units);
            prop_assert_eq!(join(parts.iter().map(|part| (part.text, part.separator))), text.clone());
            for part in parts {
                prop_assert!(units(part.text) <= max || part.text.graphemes(true).count() <= 1, "{:?}", part);
            }
        }
    }
}
