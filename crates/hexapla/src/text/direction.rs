//! From which language into which a multilingual model translates.
//!
//! Such a model is told its target by a tag before the source, `>>de<<`. Which languages it has is read from the tags among
//! its tokens; which of their pairs it was trained on, its manifest may say.

use std::borrow::Cow;
use std::collections::BTreeSet;

use super::clean::clean;
use super::language::recognise;
use super::tokenizer::Tokenizer;
use crate::config::{LanguagePair, tagged_language};
use crate::error::{Error, Result};

/// Chooses the target of a text whose language is the second argument, if that is known, among the languages of the first.
pub type OpenTarget = fn(&[String], Option<&str>) -> Option<&'static str>;

/// What stands for `--from` and `--to` of a model: which tag a line gets.
#[derive(Debug, Clone)]
pub struct Direction {
    /// The model's languages.
    languages: Vec<String>,
    /// The tag of each, where it has tags.
    tags: Vec<String>,
    /// Where they are tokens of their own and no tags (`deu_Latn`, `__de__`, `de_DE`): each with its id.
    codes: Vec<(String, u32)>,
    /// The pairs of them that it was trained on; nothing where that is not known.
    trained: BTreeSet<LanguagePair>,
    /// The language of all lines; recognised line by line where absent.
    from: Option<String>,
    /// The target of all lines; chosen by each line's language where absent.
    to: Option<String>,
    /// How it is chosen; lines stay as they are where it is not.
    open_target: Option<OpenTarget>,
}

impl Direction {
    /// The languages that `tokenizer` has tags or tokens for.
    pub fn languages(tokenizer: &Tokenizer) -> Vec<String> {
        known_languages(tokenizer).languages
    }

    /// The direction `from` → `to`, either of which may be left open, for the model of `tokenizer` that was trained on the
    /// pairs `trained` (any, where it is empty). Where `to` is open, lines stay as they are, or
    /// [`Direction::with_open_target`] chooses.
    ///
    /// # Errors
    /// A language that the model has no tag for, the same language twice, or two that it was not trained on.
    pub fn new(
        tokenizer: &Tokenizer,
        trained: &BTreeSet<LanguagePair>,
        from: Option<&str>,
        to: Option<&str>,
    ) -> Result<Self> {
        let KnownLanguages {
            languages,
            tags,
            codes,
        } = known_languages(tokenizer);
        for (flag, name) in [("--from", from), ("--to", to)] {
            if let Some(name) = name.filter(|name| !languages.iter().any(|l| l == name)) {
                return Err(unknown(flag, name, &languages));
            }
        }
        if let Some(both) = from.filter(|from| to == Some(*from)) {
            return Err(
                Error::settings("a text cannot be translated into its own language")
                    .at("--from and --to")
                    .expected("two languages")
                    .found(format!("`{both}` twice"))
                    .hint("leave out --from, and the language of each line is recognised"),
            );
        }
        let direction = Direction {
            languages,
            tags,
            codes,
            trained: trained.clone(),
            from: from.map(str::to_string),
            to: to.map(str::to_string),
            open_target: None,
        };
        match from.zip(to) {
            Some((from, to)) if !direction.is_trained(from, to) => {
                Err(untrained(&format!("`{from}-{to}`"), trained))
            }
            _ => Ok(direction),
        }
    }

    /// The same, with targets chosen by `open_target` where none is named.
    #[must_use]
    pub fn with_open_target(self, open_target: OpenTarget) -> Self {
        Direction {
            open_target: Some(open_target),
            ..self
        }
    }

    fn is_trained(&self, from: &str, to: &str) -> bool {
        let named = |pair: &LanguagePair| pair.source == from && pair.target == to;
        self.trained.is_empty() || self.trained.iter().any(named)
    }

    /// The language that `line` seems to be in, if the model was not trained to translate from that one into the target of
    /// all lines. `None` where that is not known, and for a line that brings its tag.
    pub fn untrained(&self, line: &str) -> Option<&str> {
        let (None, Some(to)) = (&self.from, &self.to) else {
            return None;
        };
        if self.trained.is_empty() || self.has_tag(&clean(line)) {
            return None;
        }
        self.recognised(line.trim_start())
            .filter(|from| !self.is_trained(from, to))
    }

    /// `line` with the tag of its target language before it. A line that is empty or has a tag, and any line whose target is
    /// open or no matter of a tag, stays as it is.
    pub fn tagged<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let clean = clean(line);
        let text = clean.trim_start();
        let target = self.target(text).filter(|_| !text.is_empty());
        let mut named = self.languages.iter().zip(&self.tags);
        let named = target.and_then(|to| named.find(|(language, _)| *language == to));
        match named {
            Some((_, tag)) if !self.has_tag(text) => Cow::Owned(format!("{tag} {line}")),
            _ => Cow::Borrowed(line),
        }
    }

    /// The token that says the source's language, and the one that the target begins with, where the model has such tokens and
    /// `--from` and `--to` name them.
    pub fn language_tokens(&self) -> (Option<u32>, Option<u32>) {
        let token = |name: &Option<String>| {
            let name = name.as_ref()?;
            let named = self.codes.iter().find(|(code, _)| code == name);
            named.map(|(_, id)| *id)
        };
        (token(&self.from), token(&self.to))
    }

    fn has_tag(&self, text: &str) -> bool {
        let known = |tag: &str| self.tags.iter().any(|known| known == tag);
        !leading_tag(text, known).0.is_empty()
    }

    /// The language of the model that `text` seems to be in.
    fn recognised(&self, text: &str) -> Option<&str> {
        let known: Vec<&str> = self.languages.iter().map(String::as_str).collect();
        recognise(text, &known)
    }

    /// The language that `text` is translated into.
    fn target(&self, text: &str) -> Option<&str> {
        if let Some(to) = &self.to {
            return Some(to);
        }
        let choose = self.open_target?;
        let from = match &self.from {
            Some(from) => Some(from.as_str()),
            None => self.recognised(text),
        };
        choose(&self.languages, from)
    }
}

/// A tag such as `>>de<<` or `<2de>` at the start of a line, one that is `known`, and the rest, without the space after the tag. White space
/// that stands before the tag, or further after it, is the text's.
pub fn leading_tag(line: &str, known: impl Fn(&str) -> bool) -> (&str, &str) {
    let text = line.trim_start();
    let end = match text.strip_prefix(">>") {
        Some(rest) => rest.find("<<").map(|end| end + 4),
        None => text.find('>').map(|end| end + 1),
    };
    let tag = end.map(|end| text.split_at(end));
    match tag.filter(|(tag, _)| tagged_language(tag).is_some()) {
        Some((tag, rest)) if known(tag) => (tag, rest.strip_prefix(' ').unwrap_or(rest)),
        _ => ("", line),
    }
}

fn unknown(flag: &str, name: &str, languages: &[String]) -> Error {
    let error = Error::settings("the model has no tag for this language")
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

fn untrained(found: &str, trained: &BTreeSet<LanguagePair>) -> Error {
    let pairs: Vec<String> = trained.iter().map(ToString::to_string).collect();
    Error::settings("the model was not trained to translate in this direction")
        .at("--from and --to")
        .expected(format!("one of {}", pairs.join(", ")))
        .found(found)
        .hint("translate twice, by way of a language that it has both directions for")
}

/// The languages that a tokenizer has tags or tokens for.
struct KnownLanguages {
    languages: Vec<String>,
    /// The tag of each, if they have such.
    tags: Vec<String>,
    /// Its tokens with their ids where these stand alone (`deu_Latn`).
    codes: Vec<(String, u32)>,
}

fn known_languages(tokenizer: &Tokenizer) -> KnownLanguages {
    let mut tags: Vec<String> = tokenizer
        .tokens()
        .filter(|token| tagged_language(token).is_some())
        .collect();
    let is_special = |tag: &String| {
        let id = tokenizer.token_to_id(tag);
        id.is_some_and(|id| tokenizer.is_special(id))
    };
    if tags.iter().any(|tag| tag.starts_with(">>")) {
        tags.retain(|tag| tag.starts_with(">>"));
    } else if tags.len() < LEAST_TAGS {
        // A few words such as `<2nd>` in another vocabulary are no tags.
        tags.retain(is_special);
    }
    let codes = match tags.is_empty() {
        true => tokenizer.language_codes(),
        false => Vec::new(),
    };
    let of_tags = tags.iter().filter_map(|tag| tagged_language(tag));
    let of_codes = codes.iter().map(|(code, _)| code.as_str());
    KnownLanguages {
        languages: of_tags.chain(of_codes).map(str::to_string).collect(),
        tags,
        codes,
    }
}

/// Fewest tokens of the form `<2de>` that a vocabulary has by intention, where they are not special.
const LEAST_TAGS: usize = 8;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::TokenizerTable;

    /// A model that does not say what it was trained on.
    fn direction(tokenizer: &Tokenizer, from: Option<&str>, to: Option<&str>) -> Result<Direction> {
        Direction::new(tokenizer, &BTreeSet::new(), from, to)
    }

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
    fn an_open_target_is_chosen_by_the_language() {
        let tokenizer = tokenizer(&["en", "de", "zh"]);
        let choose: OpenTarget = |languages, from| {
            assert_eq!(languages, ["en", "de", "zh"]);
            Some(if from == Some("en") { "zh" } else { "en" })
        };
        let direction = |tokenizer: &Tokenizer, from, to| {
            direction(tokenizer, from, to).map(|d| d.with_open_target(choose))
        };
        let open = direction(&tokenizer, None, None).unwrap();
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
        let from = direction(&tokenizer, Some("en"), None).unwrap();
        assert_eq!(from.tagged("Tom"), ">>zh<< Tom");
        let from = direction(&tokenizer, Some("de"), None).unwrap();
        assert_eq!(from.tagged("Tom"), ">>en<< Tom");
        let to = direction(&tokenizer, None, Some("de")).unwrap();
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
        let to = direction(&tokenizer(&["en", "de"]), None, Some("de")).unwrap();
        assert_eq!(to.tagged(">> He wrote."), ">>de<< >> He wrote.");
    }

    #[test]
    fn madlad_s_tags_are_tags_where_they_are_meant() {
        let of = |special_tokens: &[&str], texts: [&str; 2]| {
            let recipe = TokenizerTable {
                vocab_size: 300,
                special_tokens: special_tokens.iter().map(ToString::to_string).collect(),
                ..TokenizerTable::default()
            };
            Tokenizer::train(&recipe, texts.map(String::from).iter()).unwrap()
        };
        let model = of(&["<2de>", "<2ms_Arab_BN>", "<2fil>"], ["a b", "c"]);
        let to = |language| direction(&model, None, Some(language)).unwrap();
        assert_eq!(to("de").tagged("Good morning."), "<2de> Good morning.");
        let long = to("ms_Arab_BN");
        assert_eq!(long.tagged("a"), "<2ms_Arab_BN> a");
        // A line that brings its tag keeps it.
        assert_eq!(long.tagged("<2fil> a"), "<2fil> a");
        assert_eq!(long.tagged("<2nd> a"), "<2ms_Arab_BN> <2nd> a");
        assert!(direction(&model, None, Some("fr")).is_err());
        // Where Marian's are there, these are words.
        let both = of(&[">>de<<", "<2en>"], ["a b", "c"]);
        assert_eq!(Direction::languages(&both), ["de"]);
    }

    #[test]
    fn a_line_whose_target_nobody_chooses_stays_as_it_is() {
        for languages in [&["fr", "en"][..], &["en", "zh"], &[]] {
            let open = direction(&tokenizer(languages), None, None).unwrap();
            assert_eq!(open.tagged("Good morning."), "Good morning.");
        }
    }

    #[test]
    fn what_the_model_has_not_is_refused() {
        let of = |languages: &[&str], from, to| {
            direction(&tokenizer(languages), from, to)
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

    #[test]
    fn directions_that_were_not_trained_are_told() {
        let tokenizer = tokenizer(&["en", "de", "zh"]);
        let pairs = [("de", "en"), ("en", "de"), ("zh", "en"), ("en", "zh")];
        let pair = |(source, target): (&str, &str)| LanguagePair {
            source: source.to_string(),
            target: target.to_string(),
        };
        let trained = pairs.map(pair).into();
        let of = |from, to| Direction::new(&tokenizer, &trained, from, to);
        for (from, to) in pairs {
            of(Some(from), Some(to)).unwrap();
        }
        let e = of(Some("zh"), Some("de")).unwrap_err().to_string();
        assert!(
            e.contains("de-en, en-de, en-zh, zh-en") && e.contains("`zh-de`"),
            "{e}"
        );

        let to = of(None, Some("de")).unwrap();
        assert_eq!(to.untrained("车站在哪里？"), Some("zh"));
        assert_eq!(to.untrained(" Wo ist der Bahnhof?"), Some("de"));
        for line in ["Where is the station?", "", "42", ">>en<< 车站在哪里？"] {
            assert_eq!(to.untrained(line), None, "{line}");
        }
        assert_eq!(
            of(Some("en"), Some("de"))
                .unwrap()
                .untrained("车站在哪里？"),
            None
        );
        assert_eq!(of(None, None).unwrap().untrained("车站在哪里？"), None);
        let any = direction(&tokenizer, None, Some("de")).unwrap();
        assert_eq!(any.untrained("车站在哪里？"), None);
    }
}
