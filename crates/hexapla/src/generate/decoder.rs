//! What a search asks of a model.

use std::ops::Range;

use hexapla_kernels::Buffer;

use crate::error::Result;

/// A model that decodes one token for all live hypotheses at once.
///
/// It starts with one live hypothesis for each sentence of the batch, in the batch's order; more may come behind them between steps
/// ([`Search::add`](super::Search::add)).
pub trait StepDecoder {
    /// Number of token ids that the model can produce.
    fn vocab_size(&self) -> usize;

    /// Feeds one token to every live hypothesis, in order.
    ///
    /// # Errors
    /// Whatever keeps the model from it.
    fn step(&mut self, tokens: &[u32]) -> Result<()>;

    /// Fills `logits` with the raw logits of some hypotheses after the last step, `[hypotheses, vocab]`.
    ///
    /// # Errors
    /// Whatever keeps the model from computing them.
    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()>;

    /// Keeps these of the live hypotheses, in this order; a repeated index makes copies, an absent one is forgotten,
    /// and none is left where there are none.
    ///
    /// Not called where nothing would change.
    fn reorder(&mut self, parents: &[usize]);

    /// Cross-attention of the last step, averaged over heads: for each live hypothesis one weight for each source
    /// token. `None` from a model that has none. Asked for only where [`SearchOptions::attention`] is set.
    ///
    /// [`SearchOptions::attention`]: super::SearchOptions::attention
    fn attention(&self) -> Option<Vec<Vec<f32>>>;
}

impl<D: StepDecoder + ?Sized> StepDecoder for &mut D {
    fn vocab_size(&self) -> usize {
        (**self).vocab_size()
    }

    fn step(&mut self, tokens: &[u32]) -> Result<()> {
        (**self).step(tokens)
    }

    fn logits(&mut self, hypotheses: Range<usize>, logits: &mut Buffer) -> Result<()> {
        (**self).logits(hypotheses, logits)
    }

    fn reorder(&mut self, parents: &[usize]) {
        (**self).reorder(parents);
    }

    fn attention(&self) -> Option<Vec<Vec<f32>>> {
        (**self).attention()
    }
}
