//! What a model finds likely at each position of a translation that is given to it.
//!
//! `cargo run --release -p hexapla --example logits -- models/demo ">>de<< Thank you." "Danke."`
//!
//! prints for each token of the target, the end token last, the three likeliest tokens with their probabilities.

use hexapla::{Result, Translator};

/// A token and its probability.
type Candidate = (String, f32);

fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, source, target] = arguments.as_slice() else {
        return Err("usage: logits FOLDER SOURCE TARGET".into());
    };
    let model = Translator::open(folder)?;
    for candidates in likeliest(&model, source, target)? {
        let shown = candidates
            .iter()
            .map(|(token, p)| format!("{token} {p:.3}"));
        println!("{}", shown.collect::<Vec<_>>().join("  "));
    }
    Ok(())
}

fn likeliest(model: &Translator, source: &str, target: &str) -> Result<Vec<Vec<Candidate>>> {
    let source_ids = model.source_ids(source)?;
    let tokenizer = &model.tokenizers().target;
    // The decoder reads its start token, then the target, and says the next token at each position (paper, section 3.1).
    let mut decoder_ids = vec![model.options().search.start_id];
    decoder_ids.extend(tokenizer.encode(target)?);
    let logits = model.engine().logits(&[source_ids], &[decoder_ids])?;
    let of_position = |logits: &Vec<f32>| {
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f32 = logits.iter().map(|logit| (logit - greatest).exp()).sum();
        let mut order: Vec<usize> = (0..logits.len()).collect();
        order.sort_by(|a, b| logits[*b].total_cmp(&logits[*a]));
        let candidate = |id: &usize| {
            let token = tokenizer.id_to_token(*id as u32).unwrap_or_default();
            (token, (logits[*id] - greatest).exp() / sum)
        };
        order.iter().take(3).map(candidate).collect()
    };
    Ok(logits[0].iter().map(of_position).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_right_translation_is_likely() {
        let model = Translator::open("../../models/demo").unwrap();
        let found = likeliest(&model, ">>de<< Thank you.", "Danke.").unwrap();
        let tokens = model.tokenizers().target.encode("Danke.").unwrap();
        assert_eq!(found.len(), tokens.len() + 1);
        let first = model.tokenizers().target.id_to_token(tokens[0]).unwrap();
        assert!(
            found[0].iter().any(|(token, _)| *token == first),
            "{found:?}"
        );
        assert!(found.iter().all(|c| c[0].1 >= c[1].1 && c[1].1 >= c[2].1));
    }
}
