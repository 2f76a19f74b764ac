//! What a reader of a translation should know: it was cut, or a number or a placeholder of the source is not in it.

use serde::Serialize;

/// What may be wrong with a translation.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Warning {
    /// A sentence is as long as it may be, and has no end.
    LengthReached,
    /// The source has a number that the translation has not.
    NumberLost { text: String },
    /// The same of a placeholder, an address or a tag.
    PlaceholderLost { text: String },
}

/// Numbers and placeholders of a text that are looked for in its translation.
const LOOKED_FOR: usize = 64;

/// All that may be wrong with a translation.
pub(crate) fn warnings(source: &str, translation: &str, finished: bool) -> Vec<Warning> {
    let mut found = Vec::new();
    if !finished {
        found.push(Warning::LengthReached);
    }
    let target_digits = digits(translation);
    for number in numbers(source).into_iter().take(LOOKED_FOR) {
        // Points and commas change with the language.
        if !target_digits.contains(&digits(&number)) {
            found.push(Warning::NumberLost { text: number });
        }
    }
    for placeholder in placeholders(source).into_iter().take(LOOKED_FOR) {
        if !translation.contains(&placeholder) {
            found.push(Warning::PlaceholderLost { text: placeholder });
        }
    }
    found
}

fn digits(text: &str) -> String {
    let keep = |c: char| match c.is_numeric() {
        true => Some(c),
        false if c == '.' || c == ',' || c == '\u{a0}' || c == '\u{202f}' => None,
        false => Some(' '),
    };
    text.chars().filter_map(keep).collect()
}

/// The numbers of two digits and more; a single one is often written as a word.
fn numbers(text: &str) -> Vec<String> {
    let is_part = |c: char| c.is_numeric() || c == '.' || c == ',';
    let all = text.split(|c: char| !is_part(c));
    let trimmed = all.map(|part| part.trim_matches(['.', ',']).to_string());
    let is_number = |part: &String| part.chars().filter(|c| c.is_numeric()).count() >= 2;
    trimmed.filter(is_number).collect()
}

/// `{name}`, `%1$s`, `<x/>`, `$VARIABLE`, and addresses.
fn placeholders(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('{', '}'), ('<', '>')] {
        let mut rest = text;
        while let Some(start) = rest.find(open) {
            let behind = &rest[start..];
            let Some(end) = behind.find(close) else { break };
            let inside = &behind[..=end];
            let is_one = inside.len() > 2 && !inside[1..].starts_with(char::is_whitespace);
            if is_one {
                found.push(inside.to_string());
            }
            rest = &behind[end + 1..];
        }
    }
    for word in text.split_whitespace() {
        let word = word.trim_matches(|c: char| "()[]„“\"',.;:!?".contains(c));
        let is_address = word.starts_with("http://")
            || word.starts_with("https://")
            || word
                .split_once('@')
                .is_some_and(|(a, b)| !a.is_empty() && b.contains('.'));
        if is_address {
            found.push(word.to_string());
        }
    }
    let mut rest = text;
    while let Some(start) = rest.find('%') {
        let behind = &rest[start + 1..];
        let position = behind.trim_start_matches(|c: char| c.is_ascii_digit());
        let position = position.strip_prefix('$').unwrap_or(position);
        if let Some(kind) = position.chars().next().filter(|c| "sdifux@".contains(*c)) {
            let after = position[kind.len_utf8()..].chars().next();
            if !after.is_some_and(char::is_alphabetic) {
                let len = behind.len() - position.len() + kind.len_utf8();
                found.push(format!("%{}", &behind[..len]));
            }
        }
        rest = behind;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_is_told() {
        let lost = |source: &str, translation: &str| -> Vec<String> {
            let all = warnings(source, translation, true).into_iter();
            all.map(|warning| match warning {
                Warning::NumberLost { text } | Warning::PlaceholderLost { text } => text,
                Warning::LengthReached => "length".to_string(),
            })
            .collect()
        };
        assert_eq!(
            lost("Es kostet 1.234,50 Euro.", "It costs 1,234.50 euros."),
            [""; 0]
        );
        assert_eq!(
            lost("Es kostet 1.234,50 Euro.", "It costs 1,234 euros."),
            ["1.234,50"]
        );
        assert_eq!(lost("Um 3 Uhr", "At three"), [""; 0]);
        assert_eq!(
            lost("Hallo {name}, %1$s von %d, <x id=\"1\"/>", "Hello {name}"),
            ["<x id=\"1\"/>", "%1$s", "%d"]
        );
        assert_eq!(
            lost(
                "100 % sicher, 5 < 6 und 7 > 6",
                "100% sure, 5 < 6 and 7 > 6"
            ),
            [""; 0]
        );
        assert_eq!(
            lost(
                "Siehe https://a.example/x, oder a@b.example.",
                "See https://a.example/x or."
            ),
            ["a@b.example"]
        );
        assert_eq!(warnings("a", "b", false), [Warning::LengthReached]);
    }
}
