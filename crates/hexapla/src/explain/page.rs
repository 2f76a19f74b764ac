//! A document inside the page that shows it.

use std::str::FromStr;

use crate::error::{Error, Result, unknown_name};

/// The page without a document: built from the folder `page`.
const PAGE: &str = include_str!("page.html");
/// What the document takes the place of.
const PLACE: &str = "<script type=\"application/json\" id=\"trace\"></script>";

/// Languages of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Chinese, in simplified characters.
    Chinese,
}

impl Language {
    /// As HTML names it.
    pub fn code(self) -> &'static str {
        match self {
            Language::English => "en",
            Language::Chinese => "zh",
        }
    }
}

impl FromStr for Language {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "en" => Ok(Language::English),
            "zh" => Ok(Language::Chinese),
            _ => Err(unknown_name("language of the page", name, &["en", "zh"])),
        }
    }
}

/// The page with `document`, the JSON of [`super::document()`]. `language` is that in which it opens; where absent the browser's.
pub fn page(document: &str, language: Option<Language>) -> String {
    filled(document, language, "")
}

/// [`page`] for a server that answers what the page asks (`explain` beside it, see docs/explain.md). `languages` are those that it
/// can translate into, nothing where there is no choice.
pub fn live_page(document: &str, language: Option<Language>, languages: &[String]) -> String {
    let plain = |name: &&String| {
        name.chars()
            .all(|c| c.is_ascii_alphanumeric() || "-_".contains(c))
    };
    let names: Vec<&str> = languages.iter().filter(plain).map(String::as_str).collect();
    let live = format!(" data-live=\"true\" data-languages=\"{}\"", names.join(" "));
    filled(document, language, &live)
}

fn filled(document: &str, language: Option<Language>, live: &str) -> String {
    let language = language.map_or("", Language::code);
    let data = format!(
        "<script type=\"application/json\" id=\"trace\" data-language=\"{language}\"{live}>{}</script>",
        escaped(document)
    );
    PAGE.replacen(PLACE, &data, 1)
}

/// JSON that nothing in a page can end or start: `<` begins a tag, and two separators once ended a line of a script.
fn escaped(json: &str) -> String {
    json.replace('<', "\\u003c")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_cannot_leave_its_place() {
        let hostile = serde_json::json!({"text": "</script><script>alert(1)</script>\u{2028}<!--"});
        let page = page(&hostile.to_string(), Some(Language::Chinese));
        let start = page.find("data-language=\"zh\">").unwrap();
        let inside = &page[start..];
        let end = inside.find("</script>").unwrap();
        let json = &inside["data-language=\"zh\">".len()..end];
        assert!(!json.contains('<') && !json.contains('\u{2028}'));
        let read: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(read, hostile);
        assert!(PAGE.contains(PLACE));
        assert!("de".parse::<Language>().is_err());
    }
}
