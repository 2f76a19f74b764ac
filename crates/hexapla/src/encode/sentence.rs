//! One vector for each text: the encoder, pooling and what follows it, as the folder of a sentence-transformers model says.

use std::sync::Arc;

use hexapla_kernels::{Dropout, Isa, Matrix, MatrixMut, Plus, activate, gemm};
use rayon::ThreadPool;
use rayon::prelude::*;

use super::encoder::{Encoder, Input};
use super::length::{Limit, LongTexts};
use super::reader::{each_text, inputs};
use crate::batch::{Rows, Span};
use crate::config::ComputeType;
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats::sentence::{Dense, Module, SentenceSettings, Similarity, WordVectors};
use crate::model::layers::activation;
use crate::ops::Run;
use crate::ops::pool::{Pooling, pool};
use crate::tensor::Tensor;
use crate::text::tokenizer::{EncodedText, EncoderTokenizer};

/// A model that makes one vector of each text.
///
/// ```no_run
/// use hexapla::encode::{EmbedOptions, SentenceEncoder};
///
/// let model = SentenceEncoder::open("all-MiniLM-L6-v2", Default::default())?;
/// let vectors = model.embed(&["A man eats.", "Someone has dinner."], &EmbedOptions::default())?;
/// println!("{}", model.similarity(&vectors[0], &vectors[1]));
/// # Ok::<(), hexapla::Error>(())
/// ```
#[derive(Debug)]
pub struct SentenceEncoder {
    source: Source,
    tokenizer: EncoderTokenizer,
    settings: SentenceSettings,
}

/// Where the rows of a text come from.
#[derive(Debug)]
enum Source {
    /// Each row sees the whole text.
    Encoder(Box<Encoder>),
    /// Each token has one vector, whatever its text (model2vec).
    Table(WordVectors),
}

/// How texts are embedded.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct EmbedOptions {
    /// The name of the prompt that is put before each text; the folder's default where absent.
    pub prompt: Option<String>,
    /// Keep the first numbers of each vector only (matryoshka models).
    pub dimensions: Option<usize>,
    /// Divide each vector by its length, whatever the folder says.
    pub normalize: bool,
    /// What becomes of texts that are longer than the model.
    pub long: LongTexts,
}

impl SentenceEncoder {
    /// Opens the folder of a sentence-transformers model, of a bare encoder, whose rows' mean is taken then, or of a model2vec
    /// table.
    ///
    /// # Errors
    /// As [`Encoder::open`]; or a module, a pooling or a tokenizer that is not known.
    pub fn open(folder: impl Into<Folder>, compute_type: ComputeType) -> Result<Self> {
        let folder = folder.into();
        let mut settings = SentenceSettings::read(&folder).map_err(Error::of_model)?;
        let (inner, is_table) = Self::source_folder(&folder)?;
        settings.is_table = is_table;
        let source = match settings.is_table {
            true => {
                let (vectors, normalize) = WordVectors::read(&inner).map_err(Error::of_model)?;
                if normalize {
                    settings.modules.push(Module::Normalize);
                }
                Source::Table(vectors)
            }
            false => Source::Encoder(Box::new(Encoder::open(inner.clone(), compute_type)?)),
        };
        // The tokenizer lies beside the encoder, or at the top.
        let beside = EncoderTokenizer::is_in(&inner) || !EncoderTokenizer::is_in(&folder);
        let tokenizer = EncoderTokenizer::open_folder(if beside { &inner } else { &folder });
        let tokenizer = tokenizer.map_err(Error::of_model)?;
        if settings.modules.is_empty() && !settings.is_table {
            settings.modules.push(Module::Pooling {
                kinds: vec![Pooling::Mean],
                include_prompt: true,
            });
        }
        let model = SentenceEncoder {
            source,
            tokenizer,
            settings,
        };
        model
            .check_widths()
            .map_err(|e| e.within(folder.path().display()))?;
        Ok(model)
    }

    /// The folder of the encoder, or of the table of vectors, inside `folder`; and whether it is a table.
    ///
    /// # Errors
    /// A module that is not known.
    pub fn source_folder(folder: &Folder) -> Result<(Folder, bool)> {
        let settings = SentenceSettings::read(folder).map_err(Error::of_model)?;
        let inner = match settings.encoder.as_str() {
            "" => folder.clone(),
            name => folder.join(name),
        };
        let is_table = settings.is_table || WordVectors::is_model2vec(&inner);
        Ok((inner, is_table))
    }

    /// What the table of vectors in `folder` is, as names and values.
    ///
    /// # Errors
    /// Tensors that do not fit together.
    pub fn describe_table(folder: &Folder) -> Result<Vec<(&'static str, String)>> {
        let (table, normalize) = WordVectors::read(folder).map_err(Error::of_model)?;
        Ok(vec![
            ("model_type", "a table of vectors (embed)".into()),
            (
                "vectors",
                format!("{} of {} numbers", table.len(), table.width),
            ),
            ("normalize", normalize.to_string()),
        ])
    }

    /// What a folder says of its vectors, as names and values.
    ///
    /// # Errors
    /// As [`SentenceEncoder::open`].
    pub fn describe(folder: &Folder) -> Result<Vec<(&'static str, String)>> {
        let settings = SentenceSettings::read(folder).map_err(Error::of_model)?;
        let mut lines = Vec::new();
        let module = |module: &Module| match module {
            Module::Pooling {
                kinds,
                include_prompt,
            } => {
                let kinds: Vec<String> = kinds.iter().map(|kind| format!("{kind:?}")).collect();
                let without = if *include_prompt {
                    ""
                } else {
                    " without the prompt"
                };
                format!("pooling {}{without}", kinds.join(" + "))
            }
            Module::Dense(dense) => format!("dense {} to {}", dense.inputs, dense.outputs),
            Module::Normalize => "normalize".into(),
        };
        if settings.described {
            let modules: Vec<String> = settings.modules.iter().map(module).collect();
            lines.push(("modules", modules.join(", ")));
            lines.push(("similarity", format!("{:?}", settings.similarity)));
        }
        if let Some(most) = settings.max_tokens {
            lines.push(("longest text", format!("{most} tokens")));
        }
        if !settings.prompts.is_empty() {
            let names: Vec<&str> = settings.prompts.keys().map(String::as_str).collect();
            lines.push(("prompts", names.join(", ")));
        }
        Ok(lines)
    }

    /// Refuses layers whose widths do not follow from one another.
    fn check_widths(&self) -> Result<usize> {
        let mut width = match &self.source {
            Source::Encoder(encoder) => encoder.config().d_model,
            Source::Table(table) => table.width,
        };
        for module in &self.settings.modules {
            match module {
                Module::Pooling { kinds, .. } => width *= kinds.len(),
                Module::Dense(dense) if dense.inputs != width => {
                    return Err(
                        Error::model("a linear layer does not fit what comes before it")
                            .at("in_features")
                            .expected(width.to_string())
                            .found(dense.inputs.to_string())
                            .hint("copy or download the folder again"),
                    );
                }
                Module::Dense(dense) => width = dense.outputs,
                Module::Normalize => (),
            }
        }
        Ok(width)
    }

    /// The same on the threads of `pool` instead of rayon's own. The results are the same.
    #[must_use]
    pub fn with_thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        let source = match self.source {
            Source::Encoder(encoder) => Source::Encoder(Box::new(encoder.with_thread_pool(pool))),
            table => table,
        };
        SentenceEncoder { source, ..self }
    }

    /// What cuts its texts.
    pub fn tokenizer(&self) -> &EncoderTokenizer {
        &self.tokenizer
    }

    /// Numbers of a vector.
    pub fn width(&self) -> usize {
        self.check_widths().unwrap_or(0)
    }

    /// Whether the folder says how rows become a vector; otherwise their mean is taken.
    pub fn says_its_pooling(&self) -> bool {
        self.settings.described || self.settings.is_table
    }

    /// Longest text in tokens, all that is put around it included.
    pub fn max_tokens(&self) -> usize {
        let own = match &self.source {
            Source::Encoder(encoder) => encoder.max_tokens(),
            Source::Table(_) => usize::MAX,
        };
        own.min(self.settings.max_tokens.unwrap_or(usize::MAX))
    }

    /// The names of the prompts that it has.
    pub fn prompts(&self) -> impl Iterator<Item = &str> {
        self.settings.prompts.keys().map(String::as_str)
    }

    /// How two vectors are compared.
    pub fn similarity_kind(&self) -> Similarity {
        self.settings.similarity
    }

    /// How alike two vectors are; the greater the more.
    pub fn similarity(&self, a: &[f32], b: &[f32]) -> f32 {
        self.settings.similarity.of(a, b)
    }

    /// One vector for each of `texts`, in their order.
    ///
    /// # Errors
    /// A prompt or a number of dimensions that the model does not have, or a text that is too long for it. [`Error::item`] says
    /// which.
    pub fn embed<S: AsRef<str> + Sync>(
        &self,
        texts: &[S],
        options: &EmbedOptions,
    ) -> Result<Vec<Vec<f32>>> {
        let prompt = self.prompt(options.prompt.as_deref())?;
        let width = self.width();
        if let Some(dimensions) = options.dimensions.filter(|n| !(1..=width).contains(n)) {
            return Err(Error::settings("the vectors have not so many numbers")
                .at("dimensions")
                .expected(format!("1 to {width}"))
                .found(dimensions.to_string())
                .hint("leave it out for all of them"));
        }
        let limit = Limit {
            max_tokens: self.max_tokens(),
            long: options.long,
        };
        let before = match prompt {
            "" => 0,
            prompt => self.prompt_tokens(prompt)?,
        };
        let encoded = each_text(texts, |text| {
            let text = match self.settings.lowercase {
                true => format!("{prompt}{}", text.to_lowercase()),
                false => format!("{prompt}{text}"),
            };
            let tokens = self.tokenizer.tokens(&text)?;
            match &self.source {
                Source::Encoder(_) => limit.single(&self.tokenizer, tokens),
                Source::Table(_) => Ok(vec![EncodedText {
                    ids: tokens.ids().to_vec(),
                    ..EncodedText::default()
                }]),
            }
        })?;
        let vectors = match &self.source {
            Source::Encoder(encoder) => self.encode(encoder, &encoded, before)?,
            Source::Table(table) => {
                let mean = |windows: &Vec<EncodedText>| {
                    let mut vector = table.mean(&windows[0].ids, self.tokenizer.unknown_id());
                    self.follow(&mut vector);
                    vector
                };
                encoded.par_iter().map(mean).collect()
            }
        };
        Ok(vectors
            .into_iter()
            .map(|mut vector| {
                vector.truncate(options.dimensions.unwrap_or(width));
                if options.normalize {
                    normalize(&mut vector);
                }
                vector
            })
            .collect())
    }

    /// As [`SentenceEncoder::embed`], of ids with all that the model wants around them.
    ///
    /// # Errors
    /// As [`Encoder::hidden`]; or the model is a table.
    #[doc(hidden)]
    pub fn embed_inputs(&self, texts: &[Input]) -> Result<Vec<Vec<f32>>> {
        let Source::Encoder(encoder) = &self.source else {
            return Err(Error::settings("a table of vectors is not raced"));
        };
        let text = |input: &Input| EncodedText {
            ids: input.ids.clone(),
            segments: input.segments.clone(),
            ..EncodedText::default()
        };
        let texts: Vec<_> = texts.iter().map(|input| vec![text(input)]).collect();
        self.encode(encoder, &texts, 0)
    }

    /// The text of a prompt.
    fn prompt(&self, name: Option<&str>) -> Result<&str> {
        let prompts = &self.settings.prompts;
        let Some(name) = name.or(self.settings.default_prompt.as_deref()) else {
            return Ok("");
        };
        prompts.get(name).map(String::as_str).ok_or_else(|| {
            let known: Vec<&str> = self.prompts().collect();
            let error = Error::settings("the model has no such prompt")
                .at("prompt")
                .found(format!("`{name}`"));
            match known.is_empty() {
                true => error
                    .expected("none: its folder names no prompts")
                    .hint("write the prompt before each text yourself, such as `query: ` for E5"),
                false => error
                    .expected(format!("one of {}", known.join(", ")))
                    .hint("`hexapla inspect` shows them; without the flag the default is taken"),
            }
        })
    }

    /// Rows that a prompt takes at the beginning of a text, with what is put before it.
    fn prompt_tokens(&self, prompt: &str) -> Result<usize> {
        let alone = self
            .tokenizer
            .finish(self.tokenizer.tokens(prompt)?, None)?;
        Ok(alone.ids.len().saturating_sub(1))
    }

    /// The vectors of texts, each of one window or several.
    fn encode(
        &self,
        encoder: &Encoder,
        texts: &[Vec<EncodedText>],
        before: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let inputs = inputs(texts, encoder.config().segments);
        let owner = || {
            texts
                .iter()
                .enumerate()
                .flat_map(|(i, windows)| windows.iter().map(move |_| i))
        };
        let pooled = encoder
            .each(&inputs, |run, hidden, rows| {
                self.pooled(run, hidden, rows, before)
            })
            .map_err(|e| match e.item().and_then(|window| owner().nth(window)) {
                Some(text) => e.in_item(text),
                None => e,
            })?;
        let mut pooled = pooled.into_iter();
        Ok(texts
            .iter()
            .map(|windows| {
                let mut windows = windows.iter().zip(pooled.by_ref());
                let Some((first, mut vector)) = windows.next() else {
                    return Vec::new();
                };
                let mut weight = first.ids.len() as f32;
                let mut several = false;
                for (window, other) in windows {
                    if !several {
                        vector.iter_mut().for_each(|v| *v *= weight);
                    }
                    several = true;
                    let own = window.ids.len() as f32;
                    vector
                        .iter_mut()
                        .zip(&other)
                        .for_each(|(v, o)| *v += own * o);
                    weight += own;
                }
                if several {
                    vector.iter_mut().for_each(|v| *v /= weight);
                }
                self.follow(&mut vector);
                vector
            })
            .collect())
    }

    /// The texts' rows as one vector each.
    fn pooled(
        &self,
        run: &mut Run,
        hidden: &Tensor,
        rows: &Rows,
        before: usize,
    ) -> Result<Vec<Vec<f32>>> {
        let Some(Module::Pooling {
            kinds,
            include_prompt,
        }) = self.settings.modules.first()
        else {
            return Err(Error::internal("a text without pooling"));
        };
        let skipped = if *include_prompt { 0 } else { before };
        let spans: Vec<Span> = rows
            .spans
            .iter()
            .map(|span| Span {
                start: span.start + skipped.min(span.len),
                len: span.len - skipped.min(span.len),
            })
            .collect();
        let mut vectors = vec![Vec::new(); spans.len()];
        for kind in kinds {
            let mut pooled = pool(run, hidden, &spans, *kind);
            if *kind == Pooling::WeightedMean && skipped > 0 {
                // The rows keep the weights that they have in the whole text.
                let mean = pool(run, hidden, &spans, Pooling::Mean);
                let numbers = pooled.data_mut().chunks_exact_mut(hidden.columns());
                for ((row, mean), span) in numbers
                    .zip(mean.data().chunks_exact(hidden.columns()))
                    .zip(&spans)
                {
                    let n = span.len as f32;
                    let (own, all) = (n * (n + 1.0) / 2.0, n * skipped as f32);
                    let sum = (own + all).max(1.0);
                    row.iter_mut()
                        .zip(mean)
                        .for_each(|(r, m)| *r = (own * *r + all * m) / sum);
                }
            }
            for (vector, row) in vectors
                .iter_mut()
                .zip(pooled.data().chunks_exact(hidden.columns()))
            {
                vector.extend_from_slice(row);
            }
        }
        Ok(vectors)
    }

    /// What follows pooling.
    fn follow(&self, vector: &mut Vec<f32>) {
        for module in &self.settings.modules {
            match module {
                Module::Pooling { .. } => (),
                Module::Dense(dense) => *vector = apply(dense, vector),
                Module::Normalize => normalize(vector),
            }
        }
    }
}

/// `activation(x · Wᵀ + b)`.
fn apply(dense: &Dense, x: &[f32]) -> Vec<f32> {
    let isa = Isa::best();
    let mut y = vec![0.0; dense.outputs];
    let weight = Matrix::new(&dense.weight, dense.outputs, dense.inputs, dense.inputs);
    let plus = dense
        .bias
        .as_ref()
        .map_or(Plus::Nothing, |bias| Plus::Bias(bias));
    let to = MatrixMut::new(&mut y, 1, dense.outputs, dense.outputs);
    gemm(
        isa,
        to,
        Matrix::new(x, 1, dense.inputs, dense.inputs),
        weight.transposed(),
        plus,
    );
    let Some(kind) = dense.activation.map(activation) else {
        return y;
    };
    let mut activated = vec![0.0; y.len()];
    activate(isa, &mut activated, &y, kind, Dropout::NONE);
    activated
}

/// Divides a vector by its length; one of zeros stays.
pub fn normalize(vector: &mut [f32]) {
    let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt().max(1e-12);
    vector.iter_mut().for_each(|v| *v /= length);
}
