//! Vectors of texts, as every dialect asks for them.

use std::sync::Arc;

use hexapla::encode::normalize;
use hexapla::text::tokenizer::EncoderTokenizer;

use crate::call::Call;
use crate::engine::gather::Texts;
use crate::models::{LongWay, Served, Vectors};
use crate::refusal::Refusal;

/// Tokens of texts, with what is put around each.
///
/// # Errors
/// A text that the tokenizer cannot take.
pub(crate) fn count_tokens(
    tokenizer: &EncoderTokenizer,
    texts: &[String],
) -> Result<usize, Refusal> {
    let around = tokenizer.added_tokens(false);
    // Of megabytes this takes a while, in which others are answered.
    tokio::task::block_in_place(|| {
        let counts = texts.iter().enumerate().map(|(i, text)| {
            let tokens = tokenizer.tokens(text).map_err(|e| e.in_item(i))?;
            Ok(tokens.len() + around)
        });
        counts.sum::<hexapla::Result<usize>>()
    })
    .map_err(Refusal::from)
}

/// How texts are embedded.
#[derive(Debug, Clone)]
pub(crate) struct Embedding {
    /// The name of the prompt that is put before each text.
    pub(crate) prompt: Option<String>,
    pub(crate) long: LongWay,
    /// Keep the first numbers of each vector only.
    pub(crate) dimensions: Option<usize>,
    /// Divide each vector by its length, whatever the folder says.
    pub(crate) normalize: bool,
}

impl Embedding {
    /// A vector for each of `texts`, and their tokens.
    ///
    /// # Errors
    /// A text that is too long, a prompt or a number of dimensions that the model does not have, or no room.
    pub(crate) async fn of(
        &self,
        call: &Call,
        (model, vectors): (&Arc<Served>, &Vectors),
        texts: Vec<String>,
    ) -> Result<(Vec<Vec<f32>>, usize), Refusal> {
        let width = vectors.encoder.width();
        if let Some(dimensions) = self.dimensions.filter(|n| *n > width) {
            let expected = format!("1 to {width}");
            return Err(Refusal::of_field(
                "dimensions",
                &expected,
                &dimensions.to_string(),
            ));
        }
        if let Some(name) = self.prompt.as_deref()
            && !vectors.encoder.prompts().any(|known| known == name)
        {
            let known: Vec<&str> = vectors.encoder.prompts().collect();
            let expected = format!("one of {}", known.join(", "));
            return Err(Refusal::of_field("prompt_name", &expected, name));
        }
        let tokens = count_tokens(vectors.encoder.tokenizer(), &texts)?;
        let _permit = call.admit(model, &texts, tokens)?;
        call.count_tokens(model, "source", tokens);
        let texts = Texts {
            way: (self.prompt.clone(), self.long),
            texts,
            tokens,
        };
        let mut found = vectors.gatherer.compute(call.caller.client, texts).await?;
        for vector in &mut found {
            vector.truncate(self.dimensions.unwrap_or(width));
            if self.normalize {
                normalize(vector);
            }
        }
        Ok((found, tokens))
    }
}
