//! A task that needs no data: Chinese numerals ↔ English number words, 一千二百三十四 ↔ one thousand two hundred
//! thirty-four. The rules are few, but the two languages group digits differently (by four and by three), so that a
//! model must learn to reorder and not only to replace words.

use std::collections::HashSet;

use hexapla::error::{Error, Result};
use hexapla::random::SplitMix;

/// The largest number of the task: ten digits.
pub(crate) const MAX: u64 = 9_999_999_999;

/// Most pairs that can be drawn; there are enough numbers of every greater length.
pub(crate) const MAX_PAIRS: usize = 1_000_000;

const CHINESE_DIGITS: [char; 10] = ['零', '一', '二', '三', '四', '五', '六', '七', '八', '九'];
const CHINESE_PLACES: [(u64, &str); 4] = [(1000, "千"), (100, "百"), (10, "十"), (1, "")];

/// `n` in Chinese numerals as they are read aloud in mathematics (二, never 两); none above [`MAX`].
pub(crate) fn chinese(n: u64) -> Option<String> {
    match n {
        0 => Some("零".to_owned()),
        1..=MAX => Some(chinese_sections(n)),
        _ => None,
    }
}

fn chinese_sections(n: u64) -> String {
    let mut text = String::new();
    for (size, name) in [(100_000_000, "亿"), (10_000, "万"), (1, "")] {
        let section = n / size % 10_000;
        if section > 0 {
            chinese_section(section, &mut text);
            text.push_str(name);
        } else if !text.is_empty() && size > 1 {
            // A whole empty section is read as one 零 if anything follows.
            text.push('零');
        }
    }
    let text = text.trim_end_matches('零');
    // Only at the very beginning is 一十 shortened: 十二, but 一百一十二.
    match text.strip_prefix("一十") {
        Some(rest) => format!("十{rest}"),
        None => text.to_owned(),
    }
}

/// Appends 1 to 9999. Zeros between written digits, and those before the first unless it begins the number, are
/// read as a single 零; those at the section's end are silent.
fn chinese_section(section: u64, text: &mut String) {
    for (unit, name) in CHINESE_PLACES {
        let digit = (section / unit % 10) as usize;
        if digit > 0 {
            text.push(CHINESE_DIGITS[digit]);
            text.push_str(name);
        } else if !text.is_empty() && !text.ends_with('零') && !section.is_multiple_of(unit) {
            text.push('零');
        }
    }
}

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
const TENS: [&str; 10] = [
    "", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
];

/// `n` in English words, with hyphens within tens and without "and"; none above [`MAX`].
pub(crate) fn english(n: u64) -> Option<String> {
    match n {
        0 => Some(ONES[0].to_owned()),
        1..=MAX => Some(english_groups(n)),
        _ => None,
    }
}

fn english_groups(n: u64) -> String {
    let mut words: Vec<String> = Vec::new();
    for (size, name) in [
        (1_000_000_000, "billion"),
        (1_000_000, "million"),
        (1000, "thousand"),
        (1, ""),
    ] {
        let group = (n / size % 1000) as usize;
        if group >= 100 {
            words.extend([ONES[group / 100].to_owned(), "hundred".to_owned()]);
        }
        match group % 100 {
            0 => {}
            rest @ 1..=19 => words.push(ONES[rest].to_owned()),
            rest if rest % 10 == 0 => words.push(TENS[rest / 10].to_owned()),
            rest => words.push(format!("{}-{}", TENS[rest / 10], ONES[rest % 10])),
        }
        if group > 0 && size > 1 {
            words.push(name.to_owned());
        }
    }
    words.join(" ")
}

/// One number in both languages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumeralPair {
    /// The number.
    pub(crate) number: u64,
    /// Its Chinese numeral.
    pub(crate) chinese: String,
    /// Its English words.
    pub(crate) english: String,
}

impl NumeralPair {
    /// The number `number`, if it is at most [`MAX`].
    pub(crate) fn new(number: u64) -> Option<Self> {
        Some(NumeralPair {
            number,
            chinese: chinese(number)?,
            english: english(number)?,
        })
    }
}

/// Pairs to train with, and others to test with: no number is in both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NumeralPairs {
    /// To train with.
    pub(crate) training: Vec<NumeralPair>,
    /// To test with.
    pub(crate) held_out: Vec<NumeralPair>,
}

/// Draws `count` distinct numbers for training and `held_out` others, the same for a `seed` on every machine.
///
/// Each draw chooses a length of 1 to 10 digits, then a number of that length, so that short numbers are as likely
/// as long ones until they are used up. Half of the draws then lose about half of their digits but the first to zero:
/// what is hard in these numerals stands around zeros, and there are too few of them in numbers drawn evenly.
///
/// # Errors
/// More than [`MAX_PAIRS`] numbers are asked for.
pub(crate) fn pairs(seed: u64, count: usize, held_out: usize) -> Result<NumeralPairs> {
    let total = count
        .checked_add(held_out)
        .filter(|&total| total <= MAX_PAIRS)
        .ok_or_else(|| {
            Error::settings("cannot draw so many distinct numbers")
                .expected(format!("at most {MAX_PAIRS}"))
                .found(format!("{count} and {held_out} held out"))
        })?;
    let mut random = SplitMix(seed);
    let mut seen = HashSet::with_capacity(total);
    let mut numbers = Vec::with_capacity(total);
    while numbers.len() < total {
        let number = draw(&mut random);
        if seen.insert(number) {
            numbers.push(number);
        }
    }
    // Short numbers come early, before they are used up: without this the held-out part would lack them.
    random.shuffle(&mut numbers);
    let (test, training) = numbers.split_at(held_out);
    let make = |numbers: &[u64]| {
        numbers
            .iter()
            .copied()
            .filter_map(NumeralPair::new)
            .collect()
    };
    Ok(NumeralPairs {
        training: make(training),
        held_out: make(test),
    })
}

fn draw(random: &mut SplitMix) -> u64 {
    let digits = 1 + random.below(10) as u32;
    let first = if digits == 1 {
        0
    } else {
        10u64.pow(digits - 1)
    };
    let numbers = 10u64.pow(digits) - first;
    // The high half of a 128-bit product, as `below` does, but in 64 bits on every machine.
    let number = first + ((u128::from(random.next_u64()) * u128::from(numbers)) >> 64) as u64;
    if random.below(2) == 0 {
        return number;
    }
    let mut sparse = number;
    for unit in (0..digits.saturating_sub(1)).map(|unit| 10u64.pow(unit)) {
        if random.below(2) == 0 {
            sparse -= number / unit % 10 * unit;
        }
    }
    sparse
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads Chinese numerals by the names of their units alone, so that it shares no rule with [`chinese`].
    fn parse_chinese(text: &str) -> u64 {
        let (mut total, mut section, mut digit) = (0, 0, None);
        for c in text.chars() {
            let unit = match c {
                '千' => 1000,
                '百' => 100,
                '十' => 10,
                '万' | '亿' => {
                    section += digit.take().unwrap_or(0);
                    total += section * if c == '万' { 10_000 } else { 100_000_000 };
                    section = 0;
                    continue;
                }
                _ => {
                    digit = Some(CHINESE_DIGITS.iter().position(|&d| d == c).unwrap() as u64);
                    continue;
                }
            };
            section += digit.take().unwrap_or(1) * unit;
        }
        total + section + digit.unwrap_or(0)
    }

    fn parse_english(text: &str) -> u64 {
        let (mut total, mut group) = (0, 0);
        for word in text.split([' ', '-']) {
            if let Some(n) = ONES.iter().position(|&w| w == word) {
                group += n as u64;
            } else if let Some(n) = TENS.iter().position(|&w| w == word) {
                group += 10 * n as u64;
            } else if word == "hundred" {
                group *= 100;
            } else {
                let names = ["thousand", "million", "billion"];
                let power = 1 + names.iter().position(|&w| w == word).unwrap() as u32;
                total += group * 1000u64.pow(power);
                group = 0;
            }
        }
        total + group
    }

    #[test]
    fn both_languages_read_as_people_say_them() {
        assert_eq!(chinese(1005).as_deref(), Some("一千零五"));
        assert_eq!(chinese(100_012).as_deref(), Some("十万零一十二"));
        assert_eq!(
            english(1234).as_deref(),
            Some("one thousand two hundred thirty-four")
        );
    }

    #[test]
    fn tricky_numbers_are_right() {
        for (n, zh, en) in [
            (0, "零", "zero"),
            (7, "七", "seven"),
            (10, "十", "ten"),
            (12, "十二", "twelve"),
            (20, "二十", "twenty"),
            (40, "四十", "forty"),
            (99, "九十九", "ninety-nine"),
            (100, "一百", "one hundred"),
            (101, "一百零一", "one hundred one"),
            (110, "一百一十", "one hundred ten"),
            (112, "一百一十二", "one hundred twelve"),
            (200, "二百", "two hundred"),
            (1005, "一千零五", "one thousand five"),
            (1010, "一千零一十", "one thousand ten"),
            (1200, "一千二百", "one thousand two hundred"),
            (
                1234,
                "一千二百三十四",
                "one thousand two hundred thirty-four",
            ),
            (2002, "二千零二", "two thousand two"),
            (10_000, "一万", "ten thousand"),
            (10_001, "一万零一", "ten thousand one"),
            (10_300, "一万零三百", "ten thousand three hundred"),
            (12_000, "一万二千", "twelve thousand"),
            (30_012, "三万零一十二", "thirty thousand twelve"),
            (100_000, "十万", "one hundred thousand"),
            (100_012, "十万零一十二", "one hundred thousand twelve"),
            (105_000, "十万五千", "one hundred five thousand"),
            (
                120_304,
                "十二万零三百零四",
                "one hundred twenty thousand three hundred four",
            ),
            (1_000_000, "一百万", "one million"),
            (
                10_010_010,
                "一千零一万零一十",
                "ten million ten thousand ten",
            ),
            (100_000_000, "一亿", "one hundred million"),
            (100_000_001, "一亿零一", "one hundred million one"),
            (
                100_005_000,
                "一亿零五千",
                "one hundred million five thousand",
            ),
            (
                100_050_000,
                "一亿零五万",
                "one hundred million fifty thousand",
            ),
            (110_000_000, "一亿一千万", "one hundred ten million"),
            (1_000_000_000, "十亿", "one billion"),
            (
                1_000_120_000,
                "十亿零一十二万",
                "one billion one hundred twenty thousand",
            ),
            (1_100_000_000, "十一亿", "one billion one hundred million"),
            (2_000_000_010, "二十亿零一十", "two billion ten"),
            (
                MAX,
                "九十九亿九千九百九十九万九千九百九十九",
                "nine billion nine hundred ninety-nine million nine hundred ninety-nine thousand nine hundred \
                 ninety-nine",
            ),
        ] {
            assert_eq!(
                (chinese(n).as_deref(), english(n).as_deref()),
                (Some(zh), Some(en)),
                "{n}"
            );
            assert_eq!((parse_chinese(zh), parse_english(en)), (n, n));
        }
    }

    #[test]
    fn all_small_numbers_go_there_and_back() {
        for n in 0..120_000 {
            let pair = NumeralPair::new(n).unwrap();
            assert_eq!(
                (parse_chinese(&pair.chinese), parse_english(&pair.english)),
                (n, n)
            );
        }
    }

    proptest! {
        #[test]
        fn drawn_numbers_go_there_and_back(seed: u64) {
            let n = draw(&mut SplitMix(seed));
            prop_assert!(n <= MAX);
            let text = chinese(n).unwrap();
            prop_assert_eq!((parse_chinese(&text), parse_english(&english(n).unwrap())), (n, n));
            prop_assert!(!text.contains("零零") && !text.contains('两'));
            prop_assert!(!["零千", "零百", "零十", "零万", "零亿"].iter().any(|wrong| text.contains(wrong)));
            prop_assert!(text == "零" || !text.ends_with('零'));
        }
    }

    #[test]
    fn training_and_test_share_no_number_and_cover_every_length() {
        let drawn = pairs(7, 20_000, 2_000).unwrap();
        assert_eq!(
            (drawn.training.len(), drawn.held_out.len()),
            (20_000, 2_000)
        );
        assert_eq!(drawn, pairs(7, 20_000, 2_000).unwrap());
        assert_ne!(drawn, pairs(8, 20_000, 2_000).unwrap());
        let numbers: HashSet<u64> = drawn
            .training
            .iter()
            .chain(&drawn.held_out)
            .map(|p| p.number)
            .collect();
        assert_eq!(numbers.len(), 22_000);
        for digits in 3..=10 {
            let long = |p: &&NumeralPair| p.number.to_string().len() == digits;
            assert!(
                drawn.training.iter().filter(long).count() > 500,
                "{digits} digits"
            );
            assert!(
                drawn.held_out.iter().filter(long).count() > 50,
                "{digits} digits"
            );
        }
    }

    #[test]
    fn too_many_numbers_are_refused() {
        assert!(pairs(1, MAX_PAIRS, 1).is_err());
        assert!(pairs(1, usize::MAX, 1).is_err());
        assert!(pairs(1, 0, 0).unwrap().training.is_empty());
        assert!(
            [chinese(MAX + 1), english(u64::MAX)]
                .iter()
                .all(Option::is_none)
        );
    }
}
