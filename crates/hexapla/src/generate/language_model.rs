//! Text to text by a decoder alone.

use std::sync::{Arc, Mutex, PoisonError};

use rayon::ThreadPool;

use super::generator::{Generator, Prompt};
use super::growing_text::GrowingText;
use super::outputs::Outputs;
pub use super::outputs::{Continuation, Finish};
use super::sliding::slide_where_needed;
use super::{Hypothesis, SearchOptions};
use crate::config::ComputeType;
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats::{self, Family, ManifestMetric};
use crate::text::chat::{ChatSettings, ChatTemplate, Message, Values};
use crate::text::tokenizer::DecoderTokenizer;

/// A decoder with its tokenizer: goes on with texts.
#[derive(Debug)]
pub struct LanguageModel {
    generator: Generator,
    tokenizer: Arc<DecoderTokenizer>,
    chat: Result<ChatSettings>,
    options: GenerateOptions,
    family: Family,
    metrics: Vec<ManifestMetric>,
}

/// How to go on with texts.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub search: SearchOptions,
    /// Most tokens of an output, its end included; as many as the model has room for where absent.
    pub max_new_tokens: Option<usize>,
    /// An output ends before the first of these.
    pub stop: Vec<String>,
    /// The number of the first text, from 0: which random streams the texts sample from.
    pub first_text: u64,
    /// Go on beyond the longest text that the model takes: whenever it is full, the older half is let go and the newer one read anew
    /// ([`Generator::slide`]). Without it such a prompt is refused before anything is computed.
    pub slide: bool,
}

impl LanguageModel {
    /// The decoder in `folder`, with its matrices in `compute_type`.
    ///
    /// # Errors
    /// As [`Generator::open`]; or the folder has no tokenizer, or one with more tokens than the model.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let opened = formats::open(folder)?;
        let config = opened.decoder()?;
        let tokenizer = match DecoderTokenizer::from_files(&opened.files) {
            Ok(None) => DecoderTokenizer::open_folder(opened.folder()),
            Ok(Some(tokenizer)) => Ok(tokenizer),
            Err(e) => Err(e.within(opened.folder().path().display())),
        };
        let tokenizer = tokenizer.map_err(Error::of_model)?;
        // What is wrong with it is told to whoever wants to talk.
        let chat = ChatSettings::read(opened.folder(), &opened.files);
        let options = GenerateOptions {
            search: SearchOptions::for_decoder(config, &opened.generation),
            max_new_tokens: opened.generation.max_new_tokens,
            stop: Vec::new(),
            first_text: 0,
            slide: false,
        };
        let packed = opened.pack(compute_type)?;
        let generator = Generator::new(opened.model().clone(), packed);
        let fields = opened.manifest.map(|manifest| manifest.fields);
        Ok(LanguageModel {
            generator,
            tokenizer: Arc::new(tokenizer),
            chat,
            options,
            family: opened.family,
            metrics: fields.unwrap_or_default().metrics,
        })
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        LanguageModel {
            generator: self.generator.with_thread_pool(pool),
            ..self
        }
    }

    /// The same, as [`Generator::with_prefix_cache`].
    #[must_use]
    pub fn with_prefix_cache(self, bytes: usize) -> Self {
        LanguageModel {
            generator: self.generator.with_prefix_cache(bytes),
            ..self
        }
    }

    /// How the model's folder says that it generates.
    pub fn options(&self) -> GenerateOptions {
        self.options.clone()
    }

    /// Ids to ids.
    pub fn generator(&self) -> &Generator {
        &self.generator
    }

    /// Texts to ids.
    pub fn tokenizer(&self) -> &Arc<DecoderTokenizer> {
        &self.tokenizer
    }

    /// Whose layout its folder has.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Its measured quality, as its folder tells it.
    #[doc(hidden)]
    pub fn metrics(&self) -> &[ManifestMetric] {
        &self.metrics
    }

    /// How its makers put conversations down.
    ///
    /// # Errors
    /// The folder does not say, or not in a way that can be read.
    pub fn chat_template(&self) -> Result<ChatTemplate> {
        self.chat.as_ref().map_err(Clone::clone)?.template()
    }

    /// Goes on with each prompt: for each as many outputs as `options.search.n_best`.
    ///
    /// # Errors
    /// A prompt that leaves the model no room, settings that do not fit, or output that is not a number. [`Error::item`] says in
    /// which prompt.
    pub fn generate(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
    ) -> Result<Vec<Vec<Continuation>>> {
        self.go_on(prompts, options, None)
    }

    /// As [`LanguageModel::generate`] for one prompt; `each` is given text as it becomes certain, at each step and perhaps none, with
    /// the number of its sample, and says whether that sample is to go on. In beam search the text comes all at once.
    ///
    /// # Errors
    /// As [`LanguageModel::generate`], or that of `each`, which ends all.
    pub fn stream(
        &self,
        prompt: &Prompt,
        options: &GenerateOptions,
        each: impl FnMut(usize, &str) -> Result<bool> + Send,
    ) -> Result<Vec<Continuation>> {
        let each = Mutex::new(each);
        let told = |sample: usize, text: &str| {
            let mut each = each.lock().unwrap_or_else(PoisonError::into_inner);
            (*each)(sample, text)
        };
        let found = self.go_on(std::slice::from_ref(prompt), options, Some(&told))?;
        let found = found.into_iter().next().unwrap_or_default();
        if options.search.beam_size > 1 {
            for (number, output) in found.iter().enumerate() {
                told(number, &output.text)?;
            }
        }
        Ok(found)
    }

    /// −ln p of each token of `text` but the first, by what stands before it. A text that is longer than the model takes is read in
    /// windows that each begin `stride` tokens behind the last one, so that a token sees as many before it as a window has beside its
    /// stride, at least.
    ///
    /// # Errors
    /// A stride out of range, or a text that the tokenizer cannot take.
    pub fn losses(&self, text: &str, stride: usize) -> Result<Vec<f32>> {
        let window = self.generator.max_tokens();
        // A window of one token foresees nothing.
        if window < 2 || !(1..=window).contains(&stride) {
            return Err(Error::settings("the stride does not fit the model")
                .at("stride")
                .expected(format!("1 to {window}, the tokens that the model takes"))
                .found(stride.to_string())
                .hint("half of them is usual"));
        }
        let ids = self.tokenizer.encode(text, true)?;
        let (mut losses, mut start, mut done) = (Vec::new(), 0, 1);
        while done < ids.len() {
            let end = ids.len().min(start + window);
            losses.extend(self.generator.losses(&ids[start..end], done - start)?);
            done = end;
            // A token is foreseen from another before it.
            start = (start + stride).min(done - 1);
        }
        Ok(losses)
    }

    /// The tokens of a conversation up to where the model's answer begins, as the `number`th prompt. `values` are others that the
    /// template knows.
    ///
    /// # Errors
    /// What the template refuses, or a text that the tokenizer cannot take.
    pub fn conversation(
        &self,
        template: &ChatTemplate,
        (messages, values): (&[Message], &Values),
        number: u64,
        options: &GenerateOptions,
    ) -> Result<Prompt> {
        // The template writes what stands around a text itself.
        let text = template.render(messages, true, values)?;
        self.prompt(self.tokenizer.encode(&text, false)?, number, options)
    }

    /// The tokens of texts, with what stands around a text.
    ///
    /// # Errors
    /// A text that the tokenizer cannot take, or an empty one where nothing begins a text. [`Error::item`] says which.
    pub fn prompts<S: AsRef<str>>(
        &self,
        texts: &[S],
        options: &GenerateOptions,
    ) -> Result<Vec<Prompt>> {
        let prompt = |(i, text): (usize, &S)| {
            let number = options.first_text + i as u64;
            self.text_prompt(text.as_ref(), number, options)
                .map_err(|e| e.in_item(i))
        };
        texts.iter().enumerate().map(prompt).collect()
    }

    /// The tokens of one text, as the `number`th prompt.
    ///
    /// # Errors
    /// As [`LanguageModel::prompts`].
    pub fn text_prompt(
        &self,
        text: &str,
        number: u64,
        options: &GenerateOptions,
    ) -> Result<Prompt> {
        self.prompt(self.tokenizer.encode(text, true)?, number, options)
    }

    /// A prompt of these tokens, or of the token that begins a text where there are none.
    ///
    /// # Errors
    /// There are none, and no such token; or they leave the model no room.
    pub fn prompt(&self, ids: Vec<u32>, number: u64, options: &GenerateOptions) -> Result<Prompt> {
        let config = self.generator.config();
        let ids = match (ids.is_empty(), config.bos_token_id) {
            (false, _) => ids,
            (true, Some(bos)) => vec![bos],
            (true, None) => {
                return Err(Error::input("there is nothing to go on with")
                    .at("prompt")
                    .expected("a token; this model has none that begins a text")
                    .found("an empty text")
                    .hint("write the text's beginning"));
            }
        };
        let room = self.generator.room(ids.len(), options.slide);
        Ok(Prompt {
            max_new_tokens: options.max_new_tokens.unwrap_or(room),
            ids,
            seed_index: number,
        })
    }

    /// What comes behind `prompt`.
    fn growing(&self, prompt: &Prompt, options: &GenerateOptions) -> Result<GrowingText> {
        let stream = self.tokenizer.stream(&prompt.ids)?;
        Ok(GrowingText::new(stream, options.stop.as_slice().into()))
    }

    /// The texts behind `prompt`, for whoever drives the search: a [`super::running::RunningBatch`] shows it each step of them.
    ///
    /// # Errors
    /// The tokenizer's decoder cannot take the prompt.
    pub fn outputs(&self, prompt: &Prompt, options: &GenerateOptions) -> Result<Outputs> {
        self.growing(prompt, options).map(Outputs::new)
    }

    /// One output of `prompt`, beyond the model's length. `told` is given its text as it becomes certain.
    fn slide(
        &self,
        (prompt, sample): (&Prompt, usize),
        options: &GenerateOptions,
        told: Option<&Listener>,
    ) -> Result<Continuation> {
        let mut text = self.growing(prompt, options)?;
        let tell = |certain: &str| match told {
            Some(told) if !certain.is_empty() => told(sample, certain),
            _ => Ok(true),
        };
        let each = |new: &[u32], finished: bool| {
            let certain = text.push(new, finished)?;
            text.stopped |= !tell(&certain)?;
            Ok(!text.stopped)
        };
        let generator = &self.generator;
        let found = generator.slide(prompt, sample, &options.search, each)?;
        tell(&text.finish()?)?;
        Ok(Continuation::new(found, text))
    }

    /// Goes on with `prompts`. `told` is given the text of each sample of the first one as it becomes certain.
    fn go_on(
        &self,
        prompts: &[Prompt],
        options: &GenerateOptions,
        told: Option<&Listener>,
    ) -> Result<Vec<Vec<Continuation>>> {
        if options.slide {
            let within = GenerateOptions {
                slide: false,
                ..options.clone()
            };
            return slide_where_needed(
                prompts,
                |prompt| self.generator.fits(prompt),
                |these| self.go_on(these, &within, told),
                |number, prompt| {
                    let told = told.filter(|_| number == 0);
                    let samples = 0..options.search.n_best;
                    let one = |sample| self.slide((prompt, sample), options, told);
                    samples.map(one).collect()
                },
            );
        }
        // Nobody else need look at every step.
        let is_watched = told.is_some() || !options.stop.is_empty();
        let told = |sample: usize, text: &str| told.map_or(Ok(true), |told| told(sample, text));
        let outputs = prompts.iter().map(|prompt| self.outputs(prompt, options));
        let outputs = Mutex::new(outputs.collect::<Result<Vec<Outputs>>>()?);
        let watch = |prompt: usize, sample: usize, chain: &Hypothesis| {
            let mut outputs = outputs.lock().unwrap_or_else(PoisonError::into_inner);
            let output = &mut outputs[prompt];
            let certain = output.grow(sample, chain)?;
            if prompt == 0 && !told(sample, &certain)? {
                output.stop(sample);
            }
            Ok(!output.is_stopped(sample))
        };
        let found = self.generator.generate_watched(
            prompts,
            &options.search,
            is_watched.then_some(&watch),
        )?;
        let outputs = outputs.into_inner().unwrap_or_else(PoisonError::into_inner);
        let mut all = Vec::with_capacity(prompts.len());
        for (prompt, (hypotheses, outputs)) in found.into_iter().zip(outputs).enumerate() {
            let mut continuations = Vec::with_capacity(hypotheses.len());
            for (sample, found) in outputs.finish(hypotheses).enumerate() {
                let (continuation, rest) = found?;
                if prompt == 0 && options.search.beam_size == 1 && !rest.is_empty() {
                    told(sample, &rest)?;
                }
                continuations.push(continuation);
            }
            all.push(continuations);
        }
        Ok(all)
    }
}

/// Is told the text of a sample as it becomes certain, and says whether the sample is to go on.
type Listener<'a> = dyn Fn(usize, &str) -> Result<bool> + Sync + 'a;
