//! In which language a text is written.

use whichlang::Lang;

use super::script::is_han;

/// The language of `text` among `known` (two-letter codes of ISO 639-1). `None` where `text` has no letter, or is in none
/// of them as far as can be told.
///
/// Letter pairs decide. In a text of one or two words they say little: such German without umlauts is often taken for
/// English.
pub fn recognise<'a>(text: &str, known: &[&'a str]) -> Option<&'a str> {
    if !text.chars().any(char::is_alphabetic) {
        return None;
    }
    let among = |code: &str| known.iter().copied().find(|name| *name == code);
    let lang = whichlang::detect_language(text);
    // A few Chinese characters alone look like Japanese as well. Kana would decide.
    let chinese = || among("zh").filter(|_| text.chars().any(is_han));
    among(code(lang))
        .or_else(chinese)
        // What looks like a cousin is the cousin, where that one cannot be meant.
        .or_else(|| among("de").filter(|_| matches!(lang, Lang::Nld | Lang::Swe)))
        .or_else(|| among("en").filter(|_| !text.chars().any(is_han)))
}

/// All languages that can be recognised.
pub const CODES: [&str; 16] = [
    "ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "nl", "pt", "ru", "sv", "tr", "vi", "zh",
];

/// The code of ISO 639-1.
fn code(lang: Lang) -> &'static str {
    match lang {
        Lang::Ara => "ar",
        Lang::Cmn => "zh",
        Lang::Deu => "de",
        Lang::Eng => "en",
        Lang::Fra => "fr",
        Lang::Hin => "hi",
        Lang::Ita => "it",
        Lang::Jpn => "ja",
        Lang::Kor => "ko",
        Lang::Nld => "nl",
        Lang::Por => "pt",
        Lang::Rus => "ru",
        Lang::Spa => "es",
        Lang::Swe => "sv",
        Lang::Tur => "tr",
        Lang::Vie => "vi",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KNOWN: [&str; 3] = ["de", "en", "zh"];

    #[test]
    fn sentences_are_told_apart() {
        for (text, language) in [
            ("Where is the station?", "en"),
            ("Wo ist der Bahnhof?", "de"),
            ("Ich habe Hunger.", "de"),
            ("车站在哪里？", "zh"),
            ("請問車站在哪裡？", "zh"),
            ("日本", "zh"),
            ("Tom 在家。", "zh"),
        ] {
            assert_eq!(recognise(text, &KNOWN), Some(language), "{text}");
        }
    }

    #[test]
    fn only_known_languages_are_named() {
        assert_eq!(recognise("Wo ist der Bahnhof?", &["en", "zh"]), Some("en"));
        assert_eq!(recognise("Où est la gare?", &["fr", "en"]), Some("fr"));
        assert_eq!(recognise("Où est la gare?", &KNOWN), Some("en"));
        assert_eq!(recognise("车站在哪里？", &["de", "en"]), None);
        assert_eq!(recognise("Wo ist der Bahnhof?", &[]), None);
    }

    #[test]
    fn what_has_no_letters_has_no_language() {
        for text in ["", "  ", "123", "?!", "😀"] {
            assert_eq!(recognise(text, &KNOWN), None, "{text}");
        }
    }

    #[test]
    fn real_sentences_are_told_apart() {
        let Some(folder) = std::env::var_os("HEXAPLA_DATA") else {
            println!("skipped: HEXAPLA_DATA does not name the folder with the data");
            return;
        };
        for (file, sides) in [
            ("en-de.train.tsv", ["en", "de"]),
            ("en-zh.train.tsv", ["en", "zh"]),
        ] {
            let path = std::path::Path::new(&folder).join("tatoeba").join(file);
            let pairs = crate::text::corpus::SentencePairs::from_tsv(&path, false).unwrap();
            for (language, lines) in sides.iter().zip([pairs.source, pairs.target]) {
                let right = |line: &&String| recognise(line, &KNOWN) == Some(*language);
                let rate = lines.iter().filter(right).count() as f64 / lines.len() as f64;
                println!("{file}, {language}: {:.2} %", 100.0 * rate);
                assert!(rate > 0.99, "{file}, {language}: {rate}");
            }
        }
    }
}
