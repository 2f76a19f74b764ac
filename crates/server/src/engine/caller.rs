//! Whoever waits for sentences to be decoded.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};

use hexapla::generate::engine::{Engine, Request};
use hexapla::generate::translator::{Decode, Translator};
use hexapla::generate::{Hypothesis, SearchOptions};
use hexapla::{Error, Result};

use super::admission::Permit;
use super::queue::Client;
use super::scheduler::{Job, Listener, Scheduler, Serves};

/// Whether somebody still waits. What is dropped at one end is seen at the others.
#[derive(Debug, Clone, Default)]
pub(crate) struct Presence(Arc<AtomicBool>);

/// The end whose drop tells that nobody waits any more.
#[derive(Debug)]
pub(crate) struct Present(Presence);

impl Presence {
    /// Somebody who waits as long as the second is not dropped.
    pub(crate) fn new() -> (Self, Present) {
        let presence = Presence::default();
        (presence.clone(), Present(presence))
    }

    /// Whether nobody waits any more.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.0.store(true, Ordering::Release);
    }
}

impl Serves for Translator {
    type Model = Engine;

    fn model(&self) -> &Engine {
        self.engine()
    }
}

/// Decodes the sentences of one request together with those of all others.
pub(crate) struct SharedDecoder<'a> {
    pub(crate) scheduler: &'a Scheduler<Translator>,
    pub(crate) client: Client,
    pub(crate) presence: Presence,
    /// The room that the request has; told how much it is in truth.
    pub(crate) permit: std::sync::Mutex<Permit>,
}

/// Waits for one of several sentences.
struct OneOf {
    number: usize,
    tell: mpsc::Sender<(usize, Result<Vec<Hypothesis>>)>,
    presence: Presence,
    /// Whether another sentence of the same request has failed.
    others: Presence,
}

impl Listener for OneOf {
    fn is_gone(&self) -> bool {
        self.presence.is_gone() || self.others.is_gone()
    }

    fn done(self: Box<Self>, found: Result<Vec<Hypothesis>>) {
        // Nobody listens where another sentence has failed.
        let _ = self.tell.send((self.number, found));
    }
}

/// Tokens that a sentence may take to compute: of each hypothesis about as many as its source has.
pub(crate) fn tokens_of(request: &Request, options: &SearchOptions) -> usize {
    let hypotheses = options.beam_size.max(options.n_best);
    request.source.len() * (1 + hypotheses)
}

impl Decode for SharedDecoder<'_> {
    fn decode(
        &self,
        requests: &[Request],
        options: &SearchOptions,
        _batch_tokens: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        let options = Arc::new(options.clone());
        let tokens = requests.iter().map(|request| tokens_of(request, &options));
        if let Ok(mut permit) = self.permit.lock() {
            permit.counted(tokens.sum());
        }
        let (others, _waiting) = Presence::new();
        let (tell, told) = mpsc::channel();
        for (number, request) in requests.iter().enumerate() {
            let listener = OneOf {
                number,
                tell: tell.clone(),
                presence: self.presence.clone(),
                others: others.clone(),
            };
            let job = Job {
                tokens: tokens_of(request, &options),
                request: request.clone(),
                options: options.clone(),
                listener: Box::new(listener),
            };
            let submitted = self.scheduler.submit(self.client, job);
            submitted.map_err(|e| e.in_item(number))?;
        }
        drop(tell);
        let mut found = vec![Vec::new(); requests.len()];
        for _ in requests {
            let (number, hypotheses) = told.recv().map_err(|_| gone())?;
            found[number] = hypotheses.map_err(|e| e.in_item(number))?;
        }
        Ok(found)
    }
}

/// Of whom this is told nobody hears it.
fn gone() -> Error {
    Error::internal("whoever asked has gone")
}
