//! Languages as clients write them, and in which one a text is.

use hexapla::text::language::recognise;

/// The model's code of a language that a client names; nothing where it is to be recognised.
pub(crate) fn of_client(code: &str) -> Option<String> {
    let code = code.trim();
    let lower = code.to_lowercase().replace('_', "-");
    match lower.as_str() {
        "" | "auto" => None,
        "zh" | "zh-hans" | "zh-cn" | "zh-sg" => Some("zh".to_string()),
        "zt" | "zh-hant" | "zh-tw" | "zh-hk" => Some("zh-Hant".to_string()),
        "pb" | "pt-br" => Some("pt-BR".to_string()),
        "en-us" | "en-gb" => Some("en".to_string()),
        "pt-pt" => Some("pt".to_string()),
        // Two letters are the same in any case; codes of models such as `deu_Latn` are written as they are.
        _ if lower.len() == 2 => Some(lower),
        _ => Some(code.to_string()),
    }
}

/// A model's language as clients know it.
pub(crate) fn to_client(code: &str) -> String {
    match code {
        "zh" => "zh-Hans".to_string(),
        other => other.to_string(),
    }
}

/// The English name of a language, or its code.
pub(crate) fn name(code: &str) -> String {
    let name = match code {
        "ar" => "Arabic",
        "bg" => "Bulgarian",
        "ca" => "Catalan",
        "cs" => "Czech",
        "da" => "Danish",
        "de" => "German",
        "el" => "Greek",
        "en" => "English",
        "es" => "Spanish",
        "et" => "Estonian",
        "fa" => "Persian",
        "fi" => "Finnish",
        "fr" => "French",
        "he" => "Hebrew",
        "hi" => "Hindi",
        "hu" => "Hungarian",
        "id" => "Indonesian",
        "it" => "Italian",
        "ja" => "Japanese",
        "ko" => "Korean",
        "lt" => "Lithuanian",
        "lv" => "Latvian",
        "nb" | "no" => "Norwegian",
        "nl" => "Dutch",
        "pl" => "Polish",
        "pt" => "Portuguese",
        "pt-BR" => "Portuguese (Brazil)",
        "ro" => "Romanian",
        "ru" => "Russian",
        "sk" => "Slovak",
        "sl" => "Slovenian",
        "sv" => "Swedish",
        "th" => "Thai",
        "tr" => "Turkish",
        "uk" => "Ukrainian",
        "vi" => "Vietnamese",
        "zh" | "zh-Hans" => "Chinese",
        "zh-Hant" => "Chinese (traditional)",
        other => other,
    };
    name.to_string()
}

/// A language, and how sure that is, from 0 to 100.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detected {
    pub(crate) language: String,
    pub(crate) confidence: f64,
}

/// Words of a piece that is looked at alone.
const PIECE: usize = 6;

/// In which of `known` languages a text is. The confidence is the share of its pieces of some words that say so too, half a piece
/// counted against it: of a few words one cannot be sure. English with the confidence 0 where nothing can be told, as
/// LibreTranslate says it.
pub(crate) fn detect(text: &str, known: &[&str]) -> Detected {
    let Some(language) = recognise(text, known) else {
        return Detected {
            language: "en".to_string(),
            confidence: 0.0,
        };
    };
    // Where there are no spaces a few characters are a word.
    let words: Vec<String> = text
        .split_whitespace()
        .flat_map(|word| {
            let characters: Vec<char> = word.chars().collect();
            characters
                .chunks(12)
                .map(String::from_iter)
                .collect::<Vec<_>>()
        })
        .collect();
    let pieces: Vec<Option<&str>> = words
        .chunks(PIECE)
        .map(|piece| recognise(&piece.join(" "), known))
        .collect();
    let agreeing = pieces
        .iter()
        .filter(|piece| **piece == Some(language))
        .count();
    let confidence = 100.0 * agreeing as f64 / (pieces.len() as f64 + 0.5);
    Detected {
        language: language.to_string(),
        confidence: confidence.round(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_write_languages_in_their_ways() {
        for (code, expected) in [
            ("auto", None),
            ("DE", Some("de")),
            ("zh-Hans", Some("zh")),
            ("zh-hans", Some("zh")),
            ("zh", Some("zh")),
            ("EN-US", Some("en")),
            ("pb", Some("pt-BR")),
            ("deu_Latn", Some("deu_Latn")),
        ] {
            assert_eq!(of_client(code).as_deref(), expected, "{code}");
        }
        assert_eq!(to_client("zh"), "zh-Hans");
    }

    #[test]
    fn the_more_there_is_the_surer_it_is() {
        let known = ["de", "en", "zh"];
        let short = detect("Guten Morgen", &known);
        let long = detect(
            &"Guten Morgen, wie geht es dir heute an diesem Tag? ".repeat(4),
            &known,
        );
        assert!(short.language == "de" && long.language == "de");
        assert!(short.confidence < long.confidence && long.confidence > 80.0);
        let none = detect("😀 12", &known);
        assert!(none.language == "en" && none.confidence == 0.0);
    }
}
