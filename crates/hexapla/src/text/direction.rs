//! From which language into which a multilingual model translates.
//!
//! Such a model is told its target by a tag before the source, `>>de<<`. Which languages it has is read from the tags among
//! its tokens.

use super::language::recognise;
use super::tokenizer::Tokenizer;
use crate::error::{Error, Result};

/// What stands for `--from` and `--to` of a model: which tag a line gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direction {
    /// The model's languages.
    languages: Vec<String>,
    /// The language of all lines; recognised line by line where absent.
    from: Option<String>,
    /// The target of all lines; chosen by each line's language where absent.
    to: Option<String>,
}

impl Direction {
    /// The direction `from` → `to` for the model of `tokenizer`, either of which may be left open. Where `to` is open,
    /// English text goes to Chinese and all other text to English; a model without one of these needs `to`, or text that
    /// brings its tags.
    ///
    /// # Errors
    /// A language that the model has no tag for, or the same language twice.
    pub fn new(tokenizer: &Tokenizer, from: Option<&str>, to: Option<&str>) -> Result<Self> {
        let languages: Vec<String> = tokenizer
            .tokens()
            .filter_map(|token| Some(token.strip_prefix(">>")?.strip_suffix("<<")?.to_string()))
            .collect();
        for (flag, name) in [("--from", from), ("--to", to)] {
            if let Some(name) = name.filter(|name| !languages.iter().any(|l| l == name)) {
                return Err(unknown(flag, name, &languages));
            }
        }
        if let Some(both) = from.filter(|from| to == Some(*from)) {
            return Err(
                Error::new("a text cannot be translated into its own language")
                    .at("--from and --to")
                    .expected("two languages")
                    .found(format!("`{both}` twice"))
                    .hint("leave out --from, and the language of each line is recognised"),
            );
        }
        Ok(Direction {
            languages,
            from: from.map(str::to_string),
            to: to.map(str::to_string),
        })
    }

    /// `line` with the tag of its target language before it. A line that is empty or has a tag, and any line whose target is
    /// open, stays as it is.
    pub fn tagged(&self, line: &str) -> String {
        let text = line.trim_start();
        match self.target(text) {
            Some(to) if !text.is_empty() && !self.has_tag(text) => format!(">>{to}<< {line}"),
            _ => line.to_string(),
        }
    }

    fn has_tag(&self, text: &str) -> bool {
        let known = |tag: &str| self.languages.iter().any(|l| tag == format!(">>{l}<<"));
        !leading_tag(text, known).0.is_empty()
    }

    /// The language that `text` is translated into.
    fn target(&self, text: &str) -> Option<&str> {
        if let Some(to) = &self.to {
            return Some(to);
        }
        let known: Vec<&str> = self.languages.iter().map(String::as_str).collect();
        // Chinese and English are what an open target needs.
        let (english, chinese) = ("en", "zh");
        if !known.contains(&english) || !known.contains(&chinese) {
            return None;
        }
        let from = match &self.from {
            Some(from) => Some(from.as_str()),
            None => recognise(text, &known),
        };
        Some(if from == Some(english) {
            chinese
        } else {
            english
        })
    }
}

/// A tag such as `>>de<<` at the start of a line, one that is `known`, and the rest.
pub fn leading_tag(line: &str, known: impl Fn(&str) -> bool) -> (&str, &str) {
    let text = line.trim_start();
    let end = text.strip_prefix(">>").and_then(|rest| rest.find("<<"));
    match end.map(|end| text.split_at(end + 4)) {
        Some((tag, rest)) if known(tag) => (tag, rest.trim_start()),
        _ => ("", line),
    }
}

fn unknown(flag: &str, name: &str, languages: &[String]) -> Error {
    let error = Error::new("the model has no tag for this language")
        .at(flag)
        .found(format!("`{name}`"));
    match languages.is_empty() {
        true => error
            .expected(format!("no {flag}: this model has no language tags"))
            .hint("leave it out"),
        false => error
            .expected(format!("one of {}", languages.join(", ")))
            .hint("these are the languages of the model"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerTable;

    /// The tokenizer of a model with these languages.
    fn tokenizer(languages: &[&str]) -> Tokenizer {
        let recipe = TokenizerTable {
            vocab_size: 300,
            special_tokens: languages.iter().map(|l| format!(">>{l}<<")).collect(),
            ..TokenizerTable::default()
        };
        Tokenizer::train(&recipe, ["a b c", "d e f"].map(String::from).iter()).unwrap()
    }

    #[test]
    fn an_open_target_is_english_or_chinese() {
        let tokenizer = tokenizer(&["en", "de", "zh"]);
        let open = Direction::new(&tokenizer, None, None).unwrap();
        for (line, tagged) in [
            ("Good morning.", ">>zh<< Good morning."),
            (
                "Guten Morgen, mein Freund.",
                ">>en<< Guten Morgen, mein Freund.",
            ),
            ("早上好。", ">>en<< 早上好。"),
            ("", ""),
            ("  ", "  "),
            (">>de<< Good morning.", ">>de<< Good morning."),
            ("42", ">>en<< 42"),
        ] {
            assert_eq!(open.tagged(line), tagged);
        }
        let from = Direction::new(&tokenizer, Some("en"), None).unwrap();
        assert_eq!(from.tagged("Tom"), ">>zh<< Tom");
        let from = Direction::new(&tokenizer, Some("de"), None).unwrap();
        assert_eq!(from.tagged("Tom"), ">>en<< Tom");
        let to = Direction::new(&tokenizer, None, Some("de")).unwrap();
        assert_eq!(to.tagged(" Good morning."), ">>de<<  Good morning.");
    }

    #[test]
    fn tags_are_found_only_at_the_start_and_if_the_model_has_them() {
        let known = |tag: &str| [">>de<<", ">>simplified-chinese<<"].contains(&tag);
        for (line, tag, rest) in [
            (">>de<< Hello", ">>de<<", "Hello"),
            (
                "  >>simplified-chinese<<你好",
                ">>simplified-chinese<<",
                "你好",
            ),
            ("a >>de<< b", "", "a >>de<< b"),
            (">>fr<< Hello", "", ">>fr<< Hello"),
            (">> no << tag", "", ">> no << tag"),
            (">>open", "", ">>open"),
        ] {
            assert_eq!(leading_tag(line, known), (tag, rest));
        }
        let to = Direction::new(&tokenizer(&["en", "de"]), None, Some("de")).unwrap();
        assert_eq!(to.tagged(">> He wrote."), ">>de<< >> He wrote.");
    }

    #[test]
    fn models_without_these_languages_leave_the_line_alone() {
        for languages in [&["fr", "en"][..], &[]] {
            let open = Direction::new(&tokenizer(languages), None, None).unwrap();
            assert_eq!(open.tagged("Good morning."), "Good morning.");
        }
    }

    #[test]
    fn what_the_model_has_not_is_refused() {
        let of = |languages: &[&str], from, to| {
            Direction::new(&tokenizer(languages), from, to)
                .unwrap_err()
                .to_string()
        };
        let e = of(&["en", "de"], None, Some("fr"));
        assert!(e.contains("--to") && e.contains("en, de"), "{e}");
        let e = of(&["en", "de"], Some("xx"), None);
        assert!(e.contains("--from") && e.contains("`xx`"), "{e}");
        let e = of(&[], None, Some("de"));
        assert!(e.contains("no language tags"), "{e}");
        let e = of(&["en", "de"], Some("de"), Some("de"));
        assert!(e.contains("`de` twice"), "{e}");
    }
}
