//! Requests that are decoded together, each with settings of its own. Some may come and others go between steps.

use std::ops::Range;
use std::sync::Arc;

use super::search::{Done, Search, no_attention};
use super::state_decoder::StateDecoder;
use super::{Hypothesis, Progress, SearchInput, SearchOptions};
use crate::config::Assembly;
use crate::error::Result;
use crate::model::transformer::Transformer;
use crate::ops::Run;
use crate::packed::PackedWeights;
use crate::tensor::Arena;
use crate::workers::Workers;

/// A model made ready to run, as a batch of its requests needs it.
pub trait Model: Sync {
    /// What is asked of it.
    type Request: Sync;

    /// Its shape.
    #[doc(hidden)]
    fn transformer(&self) -> &Transformer;

    /// Its numbers.
    #[doc(hidden)]
    fn parameters(&self) -> &PackedWeights;

    /// Who does its work.
    #[doc(hidden)]
    fn workers(&self) -> &Workers;

    /// Refuses what the model has no row for, and what it has no room for.
    ///
    /// # Errors
    /// An id or a length out of range.
    fn check(&self, request: &Self::Request) -> Result<()>;

    /// What the search is told of a request.
    #[doc(hidden)]
    fn input(&self, request: &Self::Request) -> SearchInput;

    /// Computes what comes before the output, into one hypothesis more for each of `requests`. With `attention` the attention over
    /// their sources is wanted.
    #[doc(hidden)]
    fn read(&self, decoder: &mut StateDecoder, requests: &[&Self::Request], attention: bool);
}

/// A batch under way (continuous batching). What comes of a request does not depend, to the bit, on the others, nor on when it came.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use hexapla::config::ComputeType;
/// # use hexapla::generate::generator::{Generator, Prompt};
/// # use hexapla::generate::SearchOptions;
/// # fn main() -> hexapla::Result<()> {
/// let generator = Generator::open("gpt2", ComputeType::Auto)?;
/// let options = Arc::new(SearchOptions::new(50256, 50256));
/// let mut batch = generator.running();
/// let prompt = Prompt { ids: vec![464, 3290], max_new_tokens: 20, seed_index: 0 };
/// batch.add(&prompt, &options)?;
/// while !batch.is_empty() {
///     for (number, outputs) in batch.step(None)? {
///         println!("{number}: {:?}", outputs?[0].ids);
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct RunningBatch<'a, M> {
    model: &'a M,
    search: Search<StateDecoder<'a>>,
}

impl<'a, M: Model> RunningBatch<'a, M> {
    /// Nothing yet, on all threads.
    pub fn new(model: &'a M) -> Self {
        RunningBatch::in_arena(model, &Arena::default(), true)
    }

    /// Nothing yet; its buffers come from `arena`. Where it is `alone` all threads share its products.
    pub(super) fn in_arena(model: &'a M, arena: &Arena, alone: bool) -> Self {
        let run = Run::inference(arena, model.parameters()).alone(alone);
        RunningBatch {
            model,
            search: Search::new(StateDecoder::new(model.transformer(), run)),
        }
    }

    /// Whether all threads share its products, as is best while there is no other batch. That changes no result.
    pub fn set_alone(&mut self, alone: bool) {
        self.search.decoder_mut().run().set_alone(alone);
    }

    /// Requests that are not done.
    pub fn len(&self) -> usize {
        self.search.len()
    }

    /// Whether all are done.
    pub fn is_empty(&self) -> bool {
        self.search.is_empty()
    }

    /// Takes in a request and reads what comes before its output. Gives its number: requests are counted as they come.
    ///
    /// # Errors
    /// A request or settings out of range.
    pub fn add(&mut self, request: &M::Request, options: &Arc<SearchOptions>) -> Result<usize> {
        let model = self.model;
        let numbers = model
            .workers()
            .on_threads(|| self.add_all(&[(request, options.clone())]))?;
        Ok(numbers.start)
    }

    /// Takes in requests together, on this thread and those that it shares its work with. Gives their numbers.
    ///
    /// # Errors
    /// A request or settings out of range ([`crate::Error::item`] says which). None of them is taken in then.
    pub fn add_all(
        &mut self,
        requests: &[(&M::Request, Arc<SearchOptions>)],
    ) -> Result<Range<usize>> {
        let model = self.model;
        for (i, (request, _)) in requests.iter().enumerate() {
            model.check(request).map_err(|e| e.in_item(i))?;
        }
        let attention = requests.iter().any(|(_, options)| options.attention);
        if attention && matches!(model.transformer().assembly(), Assembly::Decoder(_)) {
            return Err(no_attention());
        }
        let input = |(request, options): &(&M::Request, Arc<SearchOptions>)| {
            (model.input(request), options.clone())
        };
        let inputs = requests.iter().map(input).collect();
        let requests: Vec<_> = requests.iter().map(|(request, _)| *request).collect();
        self.search.add(inputs, |decoder| {
            model.read(decoder, &requests, attention);
            Ok(())
        })
    }

    /// Lets go of a request that is not done. Whether there was one with this number.
    pub fn remove(&mut self, number: usize) -> bool {
        self.search.remove(number)
    }

    /// Decodes one token for every open hypothesis, and gives the requests that are done then, in the order in which they came.
    /// `progress` sees every chain that has grown, by the numbers of its request and of its sample, and may end it; an error of it is
    /// its request's. In beam search, where nothing is known before the end, it sees nothing.
    ///
    /// # Errors
    /// What is wrong with the model. Nothing can be decoded any more then.
    pub fn step(&mut self, progress: Option<&mut Progress>) -> Result<Vec<Done>> {
        let model = self.model;
        model.workers().on_threads(|| self.search.step(progress))
    }

    /// Steps until all is done that was ever added. Gives the outputs in order.
    pub(super) fn finish(
        &mut self,
        progress: Option<&mut Progress>,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.search.finish(progress)
    }
}
