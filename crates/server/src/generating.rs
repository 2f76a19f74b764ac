//! Prompts to go on with, each decoded together with those of all other requests; what comes of them is told as it comes.

use std::sync::Arc;
use std::time::Instant;

use hexapla::generate::Hypothesis;
use hexapla::generate::generator::Prompt;
use hexapla::generate::language_model::{Continuation, GenerateOptions};
use hexapla::generate::outputs::Outputs;
use hexapla::{Error, Result};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::app::App;
use crate::call::Call;
use crate::engine::admission::Permit;
use crate::engine::scheduler::{Job, Listener};
use crate::metrics::{ModelLabels, ReasonLabels};
use crate::models::{Language, Served};
use crate::refusal::Refusal;

/// What is told of prompts under way.
pub(crate) enum Event {
    /// Text of a sample that has become certain, and the tokens since the last one.
    Grown {
        prompt: usize,
        sample: usize,
        text: String,
        tokens: Tokens,
    },
    /// All of a prompt: each sample whole, and what was not told of it before.
    Done {
        prompt: usize,
        outputs: Vec<(Continuation, String, Tokens)>,
    },
    /// A prompt has failed, and nothing more comes.
    Failed(Error),
}

/// Tokens of an output.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tokens {
    pub(crate) ids: Vec<u32>,
    pub(crate) log_probs: Vec<f32>,
    /// The likeliest at each place, where that was asked for.
    pub(crate) likeliest: Vec<Vec<(u32, f32)>>,
}

impl Tokens {
    fn of(chain: &Hypothesis, from: usize) -> Self {
        let to = chain.tokens().len();
        let from = from.min(to);
        let likeliest = chain.likeliest.get(from..to).unwrap_or_default();
        Tokens {
            ids: chain.ids[from..to].to_vec(),
            log_probs: chain.token_log_probs[from..to].to_vec(),
            likeliest: likeliest.to_vec(),
        }
    }
}

/// Prompts under way. Dropped, they are let go of.
pub(crate) struct Generating {
    events: UnboundedReceiver<Event>,
    open: usize,
    _permit: Permit,
    /// The model stays as long as its answer is under way.
    _model: Arc<Served>,
}

struct Writer {
    app: Arc<App>,
    model: ModelLabels,
    number: usize,
    is_streamed: bool,
    has_stops: bool,
    outputs: Option<Outputs>,
    /// Tokens of each sample that were told.
    told: Vec<usize>,
    tell: UnboundedSender<Event>,
    started: Instant,
    stepped: Option<Instant>,
}

impl Writer {
    fn tokens(&mut self, sample: usize, chain: &Hypothesis) -> Tokens {
        if self.told.len() <= sample {
            self.told.resize(sample + 1, 0);
        }
        let tokens = Tokens::of(chain, self.told[sample]);
        self.told[sample] += tokens.ids.len();
        tokens
    }

    fn count_step(&mut self) {
        let metrics = &self.app.metrics;
        match self.stepped {
            None => metrics
                .first_token
                .get_or_create(&self.model)
                .observe(self.started.elapsed().as_secs_f64()),
            Some(last) => metrics
                .between_tokens
                .get_or_create(&self.model)
                .observe(last.elapsed().as_secs_f64()),
        }
        self.stepped = Some(Instant::now());
    }
}

impl Listener for Writer {
    fn watches(&self) -> bool {
        self.is_streamed || self.has_stops
    }

    fn grown(&mut self, sample: usize, chain: &Hypothesis) -> Result<bool> {
        let Some(outputs) = &mut self.outputs else {
            return Ok(false);
        };
        let text = outputs.grow(sample, chain)?;
        let is_stopped = outputs.is_stopped(sample);
        if sample == 0 {
            self.count_step();
        }
        if self.is_streamed && !text.is_empty() {
            let tokens = self.tokens(sample, chain);
            let event = Event::Grown {
                prompt: self.number,
                sample,
                text,
                tokens,
            };
            // Nobody listens any more: it is seen after this step.
            let _ = self.tell.send(event);
        }
        Ok(!is_stopped)
    }

    fn is_gone(&self) -> bool {
        self.tell.is_closed()
    }

    fn done(mut self: Box<Self>, found: Result<Vec<Hypothesis>>) {
        let event = match (found, self.outputs.take()) {
            (Ok(found), Some(outputs)) => {
                let tokens: Vec<Tokens> = found
                    .iter()
                    .enumerate()
                    .map(|(sample, chain)| self.tokens(sample, chain))
                    .collect();
                let all: Result<Vec<_>> = outputs.finish(found).collect();
                match all {
                    Ok(all) => Event::Done {
                        prompt: self.number,
                        outputs: all
                            .into_iter()
                            .zip(tokens)
                            .map(|((output, rest), tokens)| (output, rest, tokens))
                            .collect(),
                    },
                    Err(e) => Event::Failed(e),
                }
            }
            (Err(e), _) => Event::Failed(e),
            (Ok(_), None) => return,
        };
        let _ = self.tell.send(event);
    }
}

/// Tokens that a prompt may take to compute.
fn tokens_of(prompt: &Prompt, options: &GenerateOptions) -> usize {
    let samples = options.search.n_best.max(options.search.beam_size);
    prompt.ids.len() + prompt.max_new_tokens.saturating_mul(samples)
}

impl Generating {
    /// Begins to go on with prompts.
    ///
    /// # Errors
    /// A prompt or settings that do not fit, or no room for them.
    pub(crate) fn start(
        call: &Call,
        (model, language): (&Arc<Served>, &Language),
        prompts: Vec<Prompt>,
        options: &GenerateOptions,
        is_streamed: bool,
    ) -> std::result::Result<Self, Refusal> {
        let tokens = prompts.iter().map(|prompt| tokens_of(prompt, options));
        let permit = call.admit(model, &[""; 0], tokens.fold(0, usize::saturating_add))?;
        let read = prompts.iter().map(|prompt| prompt.ids.len()).sum();
        call.count_tokens(model, "prompt", read);
        let (tell, events) = unbounded_channel();
        let search = Arc::new(options.search.clone());
        let open = prompts.len();
        for (number, prompt) in prompts.into_iter().enumerate() {
            let writer = Writer {
                app: call.app.clone(),
                model: ModelLabels {
                    model: model.name().to_string(),
                },
                number,
                is_streamed,
                has_stops: !options.stop.is_empty(),
                outputs: Some(language.model.outputs(&prompt, options)?),
                told: Vec::new(),
                tell: tell.clone(),
                started: call.started,
                stepped: None,
            };
            let job = Job {
                tokens: tokens_of(&prompt, options),
                request: prompt,
                options: search.clone(),
                listener: Box::new(writer),
            };
            language.scheduler.submit(call.caller.client, job)?;
        }
        Ok(Generating {
            events,
            open,
            _permit: permit,
            _model: model.clone(),
        })
    }

    /// What comes next; nothing once all prompts are done.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        if self.open == 0 {
            return None;
        }
        let failed = || Event::Failed(Error::internal("the model failed").hint("ask again"));
        let event = self.events.recv().await.unwrap_or_else(failed);
        match event {
            Event::Done { .. } => self.open -= 1,
            Event::Failed(_) => self.open = 0,
            Event::Grown { .. } => (),
        }
        Some(event)
    }

    /// All outputs, in the order of the prompts.
    ///
    /// # Errors
    /// A prompt that failed.
    pub(crate) async fn finish(
        mut self,
        app: &App,
    ) -> std::result::Result<Vec<Vec<(Continuation, Tokens)>>, Refusal> {
        let mut all = vec![Vec::new(); self.open];
        while let Some(event) = self.next().await {
            match event {
                Event::Done { prompt, outputs } => {
                    count_finished(app, outputs.iter().map(|(output, ..)| output));
                    all[prompt] = outputs
                        .into_iter()
                        .map(|(output, _, tokens)| (output, tokens))
                        .collect();
                }
                Event::Failed(e) => return Err(e.into()),
                Event::Grown { .. } => (),
            }
        }
        Ok(all)
    }
}

/// Counts why outputs have ended.
pub(crate) fn count_finished<'a>(app: &App, outputs: impl Iterator<Item = &'a Continuation>) {
    use hexapla::generate::language_model::Finish;
    for output in outputs {
        let reason = match output.finish {
            Finish::End => "end",
            Finish::Stop => "stop",
            Finish::Length => "length",
        };
        app.metrics
            .finished
            .get_or_create(&ReasonLabels { reason })
            .inc();
    }
}
