//! From text that Moses' tokenizer made back to text as people write it.

/// What Moses writes for characters that its formats use.
const ENTITIES: [(&str, &str); 8] = [
    ("&#124;", "|"),
    ("&#91;", "["),
    ("&#93;", "]"),
    ("&lt;", "<"),
    ("&gt;", ">"),
    ("&apos;", "'"),
    ("&quot;", "\""),
    // Last, or `&amp;lt;` would become `<`.
    ("&amp;", "&"),
];

/// The tokens of `line`, which stand between spaces, as one text: no space before closing and after opening punctuation,
/// quotation marks in pairs, ` @-@ ` a hyphen. As sacremoses does for languages without rules of their own.
pub fn detokenize(line: &str) -> String {
    let mut line = line.replace(" @-@ ", "-");
    for (entity, character) in ENTITIES {
        line = line.replace(entity, character);
    }
    let mut text = String::with_capacity(line.len());
    let mut space = "";
    // Marks that opened and did not close yet.
    let mut open = Vec::new();
    for token in line.split_whitespace() {
        let mut after = " ";
        if all_of(token, "$£¥€([{¿¡„‚«") {
            after = "";
            if token == "„" {
                open.push('“');
            }
        } else if all_of(token, ",.?!:;%}])»…") {
            space = "";
        } else if let Some(mark) = quotation_mark(token) {
            // Each kind by itself: an apostrophe may stay open.
            if let Some(index) = open.iter().position(|m| *m == mark) {
                open.remove(index);
                space = "";
            } else {
                open.push(mark);
                after = "";
            }
        }
        text.push_str(space);
        text.push_str(token);
        space = after;
    }
    text
}

fn all_of(token: &str, characters: &str) -> bool {
    token.chars().all(|c| characters.contains(c))
}

fn quotation_mark(token: &str) -> Option<char> {
    let mut characters = token.chars();
    let only = characters.next().filter(|_| characters.next().is_none())?;
    match only {
        '"' | '\'' => Some(only),
        '“' | '”' => Some('“'),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_text() {
        for (tokens, text) in [
            (
                "ein mann , der etwas anstarrt .",
                "ein mann, der etwas anstarrt.",
            ),
            (
                "ein schild mit der aufschrift &quot; stop &quot; .",
                "ein schild mit der aufschrift \"stop\".",
            ),
            ("saftig @-@ grünes gras", "saftig-grünes gras"),
            ("er ( 30 % ) sagt : ja !", "er (30%) sagt: ja!"),
            (
                "&quot; mary &apos; s &quot; steht da",
                "\"mary 's\" steht da",
            ),
            ("a &amp; b &amp;lt; c", "a & b &lt; c"),
            ("„ so “ , sagt er", "„so“, sagt er"),
            ("", ""),
        ] {
            assert_eq!(detokenize(tokens), text, "{tokens}");
        }
    }
}
