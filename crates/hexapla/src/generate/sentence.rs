//! One sentence of a batch being searched, by whatever method.

use super::hypothesis::Hypothesis;
use super::trace::Live;
use crate::error::{Error, Result};

/// One sentence's part of a step.
pub(super) struct StepInput<'a> {
    /// `[open hypotheses, vocab]`, to be overwritten freely.
    pub(super) logits: &'a mut [f32],
    pub(super) vocab_size: usize,
    /// One row for each open hypothesis, or none where attention is not asked for.
    pub(super) attention: Vec<Vec<f32>>,
}

/// One sentence of a batch being searched.
pub(super) trait Sentence: Send {
    /// The open hypotheses; none once the sentence is done.
    fn live(&self) -> &[Live];
    /// Takes the logits of the open hypotheses and continues them.
    fn advance(&mut self, step: StepInput) -> Result<()>;
    /// The result, once done.
    fn hypotheses(&self) -> Vec<Hypothesis>;
    /// Tells `watch` of each chain that has grown in the last step, and ends those of which it says no. Beams, which are not known
    /// before their end, tell nothing.
    ///
    /// # Errors
    /// That of `watch`.
    fn watch(&mut self, watch: &mut Chain) -> Result<()> {
        let _ = watch;
        Ok(())
    }
}

/// Looks at a chain, by the number of its sample; says whether it is to go on.
pub(super) type Chain<'a> = dyn FnMut(usize, &Hypothesis) -> Result<bool> + 'a;

/// The error for logits that cannot be turned into probabilities.
pub(super) fn not_a_number() -> Error {
    Error::model("the model's output is not a number")
        .expected("finite logits")
        .found("NaN or infinity")
        .hint("the weights may be damaged, or training has diverged")
}
