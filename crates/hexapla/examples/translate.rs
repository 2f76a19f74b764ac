//! Translates standard input line by line; each line is answered as soon as it is there.
//!
//! `echo "Good morning. How are you?" | cargo run --release -p hexapla --example translate -- models/demo de`
//!
//! The second argument is the target language of a model that has several.

use std::io::{BufRead, Write};

use hexapla::{Result, Translator};

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let Some(folder) = arguments.next() else {
        return Err("usage: translate FOLDER [LANGUAGE] < TEXT".into());
    };
    let model = open(&folder, arguments.next())?;
    let lines = std::io::stdin()
        .lock()
        .lines()
        .map_while(std::io::Result::ok);
    let mut out = std::io::stdout().lock();
    for translation in translations(&model, lines) {
        writeln!(out, "{}", translation?)?;
        out.flush()?;
    }
    Ok(())
}

fn open(folder: &str, language: Option<String>) -> Result<Translator> {
    match language {
        Some(language) => Translator::builder().to(language).open(folder),
        None => Translator::open(folder),
    }
}

/// The best translation of each line, found with a beam of four.
fn translations(
    model: &Translator,
    lines: impl Iterator<Item = String>,
) -> impl Iterator<Item = Result<String>> {
    let options = model.options().with_beam_size(4);
    model.stream(lines, options).map(|translations| {
        let best = translations?.into_iter().next();
        Ok(best.map_or_else(String::new, |translation| translation.text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_translated_in_their_order() {
        let model = open("../../models/demo", Some("de".into())).unwrap();
        let lines = ["Thank you.", "", "Good morning."].map(String::from);
        let found: Result<Vec<String>> = translations(&model, lines.into_iter()).collect();
        let found = found.unwrap();
        assert!(found[0].starts_with("Danke"), "{found:?}");
        assert!(
            found[1].is_empty() && found[2].starts_with("Guten Morgen"),
            "{found:?}"
        );
    }
}
