//! Text in, text out: sentences, ids, search, and back.

use std::borrow::Cow;
use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use rayon::ThreadPool;

use super::engine::{Engine, Request};
pub use super::line::Translation;
use super::line::{Found, LineCutter};
use super::{Alignment, Hypothesis, SearchOptions, TranslateOptions};
use crate::config::{
    AlignmentReading, AlignmentWeights, ComputeType, LanguagePair, tagged_language,
};
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::formats::{self, Family, ManifestMetric, generation::GenerationDefaults};
use crate::text::direction::Direction;
use crate::text::tokenizer::Tokenizers;

/// Tokens of a batch whose alignments are read.
const ALIGNED_TOKENS: usize = 1024;
/// Most lines that are translated together.
const MOST_LINES: usize = 256;

/// Who decodes the sentences of texts: an [`Engine`] by itself, or one that does so for several callers together.
pub trait Decode {
    /// As [`Engine::generate`].
    ///
    /// # Errors
    /// As [`Engine::generate`].
    fn decode(
        &self,
        requests: &[Request],
        options: &SearchOptions,
        batch_tokens: usize,
    ) -> Result<Vec<Vec<Hypothesis>>>;
}

impl Decode for Engine {
    fn decode(
        &self,
        requests: &[Request],
        options: &SearchOptions,
        batch_tokens: usize,
    ) -> Result<Vec<Vec<Hypothesis>>> {
        self.generate(requests, options, batch_tokens)
    }
}

/// A model folder made ready to translate.
///
/// ```
/// use hexapla::Translator;
///
/// let model = Translator::builder().to("de").open("../../models/demo")?;
/// println!("{}", model.translate("I am tired. Good night.")?);
/// # Ok::<(), hexapla::Error>(())
/// ```
#[derive(Debug)]
pub struct Translator {
    engine: Engine,
    tokenizers: Tokenizers,
    generation: GenerationDefaults,
    family: Family,
    directions: BTreeSet<LanguagePair>,
    metrics: Vec<ManifestMetric>,
    alignment: Option<AlignmentReading>,
    /// That of texts for which no other is asked.
    direction: Option<Direction>,
}

/// How a [`Translator`] is opened.
#[derive(Debug, Clone, Default)]
pub struct TranslatorBuilder {
    compute_type: ComputeType,
    from: Option<String>,
    to: Option<String>,
    threads: Option<Arc<ThreadPool>>,
}

impl TranslatorBuilder {
    /// The number type of the matrices; by default that in which the folder stores them.
    #[must_use]
    pub fn compute_type(self, compute_type: ComputeType) -> Self {
        TranslatorBuilder {
            compute_type,
            ..self
        }
    }

    /// The language of the texts, for a model that has several. Where absent it is recognised if that matters.
    #[must_use]
    pub fn from(self, language: impl Into<String>) -> Self {
        TranslatorBuilder {
            from: Some(language.into()),
            ..self
        }
    }

    /// The language to translate into, for a model that has several.
    #[must_use]
    pub fn to(self, language: impl Into<String>) -> Self {
        TranslatorBuilder {
            to: Some(language.into()),
            ..self
        }
    }

    /// Whose threads do the work; rayon's own where absent. The results are the same.
    #[must_use]
    pub fn thread_pool(self, pool: Arc<ThreadPool>) -> Self {
        TranslatorBuilder {
            threads: Some(pool),
            ..self
        }
    }

    /// Opens a model folder.
    ///
    /// # Errors
    /// As [`formats::open`], [`Tokenizers::open_folder`] and [`Direction::new`].
    pub fn open(self, folder: impl Into<Folder>) -> Result<Translator> {
        let folder = folder.into();
        let mut translator = match &self.threads {
            Some(pool) => pool.install(|| Translator::open_with(folder, self.compute_type))?,
            None => Translator::open_with(folder, self.compute_type)?,
        };
        if let Some(pool) = self.threads {
            translator.engine = translator.engine.with_thread_pool(pool);
        }
        if self.from.is_some() || self.to.is_some() {
            let direction = translator.direction(self.from.as_deref(), self.to.as_deref())?;
            translator.direction = Some(direction);
        }
        Ok(translator)
    }
}

impl Translator {
    /// Opens a model folder with all defaults.
    ///
    /// # Errors
    /// As [`TranslatorBuilder::open`].
    pub fn open(folder: impl Into<Folder>) -> Result<Self> {
        Translator::builder().open(folder)
    }

    /// Opens a model folder in another way.
    pub fn builder() -> TranslatorBuilder {
        TranslatorBuilder::default()
    }

    fn open_with(folder: Folder, compute_type: ComputeType) -> Result<Self> {
        // Either may take most of the time from the start to the first word.
        let model = || {
            let opened = formats::open(folder.clone())?;
            opened.encoder_decoder()?;
            let packed = opened.pack(compute_type)?;
            Ok::<_, Error>((opened, packed))
        };
        let mut opened = None;
        // The tokenizer, a hundred thousand small allocations, on this thread: glibc grows the heap of any other than the
        // first a page at a time.
        let tokenizers = rayon::in_place_scope(|scope| {
            scope.spawn(|_| opened = Some(model()));
            Tokenizers::open_folder(folder.clone())
        });
        let (opened, packed) = opened.unwrap_or_else(model)?;
        let model = opened.model().clone();
        let fields = opened.manifest.map(|manifest| manifest.fields);
        let fields = fields.unwrap_or_default();
        Ok(Translator {
            tokenizers: tokenizers?,
            engine: Engine::new(model, packed),
            generation: opened.generation,
            family: opened.family,
            directions: fields.directions,
            metrics: fields.metrics,
            alignment: fields.alignment,
            direction: None,
        })
    }

    /// The model.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Its tokenizers.
    pub fn tokenizers(&self) -> &Tokenizers {
        &self.tokenizers
    }

    /// Whose layout its folder has.
    pub fn family(&self) -> Family {
        self.family
    }

    /// Source and target language of each direction that it was trained on; nothing where the folder does not say.
    pub fn directions(&self) -> &BTreeSet<LanguagePair> {
        &self.directions
    }

    /// Its measured quality, as its folder tells it.
    #[doc(hidden)]
    pub fn metrics(&self) -> &[ManifestMetric] {
        &self.metrics
    }

    /// Where alignments are read: where its folder says, else the mean of the last layer's heads.
    pub fn alignment_reading(&self) -> AlignmentReading {
        let layers = self.engine.config().decoder_layers;
        let of_folder = self.alignment.clone();
        of_folder.unwrap_or_else(|| AlignmentReading::of_last_layer(layers))
    }

    /// The direction between two of its languages, either of which may be left open.
    ///
    /// # Errors
    /// As [`Direction::new`].
    pub fn direction(&self, from: Option<&str>, to: Option<&str>) -> Result<Direction> {
        Direction::new(&self.tokenizers.source, &self.directions, from, to)
    }

    /// Whether the decoder starts with the target's language (mBART's first version) instead of producing it first.
    fn starts_with_the_language(&self) -> bool {
        self.family == Family::Mbart && self.tokenizers.source.has_language_behind()
    }

    fn name_of(&self, token: u32) -> String {
        let name = self.tokenizers.target.id_to_token(token);
        format!("`{}`", name.unwrap_or_else(|| token.to_string()))
    }

    fn cutter(&self) -> LineCutter<'_> {
        LineCutter {
            tokenizers: &self.tokenizers,
            eos_token_id: self.engine.config().eos_token_id,
            max_tokens: self.engine.max_tokens(),
        }
    }

    /// How it translates where nothing else is said: as its folder asks for.
    pub fn options(&self) -> TranslateOptions {
        let config = self.engine.config();
        let options = TranslateOptions::for_folder(config, &self.generation);
        TranslateOptions {
            direction: self.direction.clone(),
            ..options
        }
    }

    /// Translates a text, line by line: the result has its lines.
    ///
    /// # Errors
    /// As [`Translator::translate_with`].
    pub fn translate(&self, text: &str) -> Result<String> {
        let lines: Vec<&str> = text.split('\n').collect();
        Ok(self.translate_lines(&lines)?.join("\n"))
    }

    /// Translates each of `lines`.
    ///
    /// # Errors
    /// As [`Translator::translate_with`].
    pub fn translate_lines<S: AsRef<str>>(&self, lines: &[S]) -> Result<Vec<String>> {
        let found = self.translate_with(lines, &self.options())?;
        let best = |translations: Vec<Translation>| translations.into_iter().next();
        let text = |line| best(line).map_or_else(String::new, |t| t.text);
        Ok(found.into_iter().map(text).collect())
    }

    /// Translates lines as they come: an iterator with the translations of each, the best first.
    ///
    /// ```
    /// # use hexapla::Translator;
    /// # let model = Translator::builder().to("de").open("../../models/demo")?;
    /// let lines = ["Good morning.", "Thank you."];
    /// for translations in model.stream(lines, model.options().with_n_best(2)) {
    ///     println!("{}", translations?[0].text);
    /// }
    /// # Ok::<(), hexapla::Error>(())
    /// ```
    pub fn stream<I: IntoIterator<Item: AsRef<str>>>(
        &self,
        lines: I,
        options: TranslateOptions,
    ) -> Stream<'_, I::IntoIter> {
        Stream::new(self, lines.into_iter(), options)
    }

    /// The ids of a source sentence, with its end token and whatever else the tokenizer puts around a text. A leading tag such
    /// as `>>de<<` is part of `text`.
    ///
    /// # Errors
    /// The tokenizer cannot take the text.
    pub fn source_ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizers.source.encode(text)?;
        Ok(self.cutter().with_template(ids, None))
    }

    /// The ids of pairs as [`Engine::score`] takes them, in the direction that is named.
    ///
    /// # Errors
    /// The tokenizer cannot take a text.
    pub fn pair_ids<'a>(
        &self,
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        direction: Option<&Direction>,
    ) -> Result<Vec<(Vec<u32>, Vec<u32>)>> {
        let cutter = self.cutter();
        let (from, to) = direction.map_or((None, None), Direction::language_tokens);
        let to =
            match to {
                Some(to) if self.starts_with_the_language() => {
                    let start = self.engine.config().decoder_start_token_id;
                    if to != start {
                        return Err(Error::settings(
                            "the model scores texts of one language alone",
                        )
                        .at("--to")
                        .expected(self.name_of(start))
                        .found(self.name_of(to))
                        .hint("it is that of `decoder_start_token_id` in generation_config.json"));
                    }
                    None
                }
                to => to,
            };
        let ids = |(source, target): (&'a str, &str)| {
            let source = direction.map_or(Cow::Borrowed(source), |d| d.tagged(source));
            let source = self.tokenizers.source.encode(source.trim())?;
            let target = self.tokenizers.target.encode(target.trim())?;
            let target = to.into_iter().chain(target).collect();
            Ok((cutter.with_template(source, from), target))
        };
        pairs.into_iter().map(ids).collect()
    }

    /// The ids of a text that a translation is to start with.
    ///
    /// # Errors
    /// The tokenizer cannot take the text, or it leaves the model no room to go on.
    pub fn prefix_ids(&self, text: &str) -> Result<Vec<u32>> {
        let ids = self.tokenizers.target.encode(text)?;
        if ids.len() >= self.engine.max_tokens() {
            return Err(Error::input("a target prefix is too long")
                .at("prefix")
                .expected(format!("fewer than {} tokens", self.engine.max_tokens()))
                .found(format!("{} tokens", ids.len()))
                .hint("shorten the prefix, or cut the line into sentences"));
        }
        Ok(ids)
    }

    /// The search with what the direction asks of it, and the token of the source's language.
    fn search_options(&self, options: &TranslateOptions) -> (SearchOptions, Option<u32>) {
        let direction = options.direction.as_ref();
        let (from, to) = direction.map_or((None, None), Direction::language_tokens);
        let mut search = options.search.clone();
        match to {
            Some(to) if self.starts_with_the_language() => search.start_id = to,
            _ => search.forced_bos_id = to.or(search.forced_bos_id),
        }
        (search, from)
    }

    /// A line with its direction's tag, and without what no model should see.
    fn prepared<'a>(
        &self,
        cutter: &LineCutter,
        line: &'a str,
        options: &TranslateOptions,
    ) -> Cow<'a, str> {
        let direction = options.direction.as_ref();
        cutter.visible(direction.map_or(Cow::Borrowed(line), |d| d.tagged(line)))
    }

    /// The sentences of a line that are translated, as [`Translator::translate_with`] gives them to the model, and how their
    /// outputs are searched for.
    ///
    /// # Errors
    /// A text that the tokenizer refuses.
    #[doc(hidden)]
    pub fn sentences(
        &self,
        line: &str,
        options: &TranslateOptions,
    ) -> Result<(SearchOptions, Vec<(String, Request)>)> {
        let cutter = self.cutter();
        let (search, from) = self.search_options(options);
        let line = self.prepared(&cutter, line, options);
        let mut requests = Vec::new();
        let cut = cutter.cut((0, &line, from), Vec::new(), options, &mut requests)?;
        let texts = cut.texts().map(String::from);
        Ok((search, texts.zip(requests).collect()))
    }

    /// Translates each of `lines`: for each the `n_best` translations, best first.
    ///
    /// # Errors
    /// Settings that do not fit, or a text that the tokenizer refuses.
    pub fn translate_with<S: AsRef<str>>(
        &self,
        lines: &[S],
        options: &TranslateOptions,
    ) -> Result<Vec<Vec<Translation>>> {
        self.translate_by(&self.engine, lines, options)
    }

    /// As [`Translator::translate_with`], with sentences that `decoder` decodes by this model.
    ///
    /// # Errors
    /// As [`Translator::translate_with`], or those of `decoder`.
    pub fn translate_by<S: AsRef<str>>(
        &self,
        decoder: &dyn Decode,
        lines: &[S],
        options: &TranslateOptions,
    ) -> Result<Vec<Vec<Translation>>> {
        let cutter = self.cutter();
        let (search, from) = self.search_options(options);
        let lines: Vec<Cow<str>> = lines
            .iter()
            .map(|line| self.prepared(&cutter, line.as_ref(), options))
            .collect();
        let mut requests = Vec::new();
        let mut cut = Vec::with_capacity(lines.len());
        for (number, line) in (options.first_line..).zip(&lines) {
            let name = || format!("line {}", number + 1);
            let prefix = match options.prefixes.get(&number) {
                Some(text) => self
                    .prefix_ids(text)
                    .map_err(|e| e.at(format!("prefix of {}", name())))?,
                None => Vec::new(),
            };
            // The language comes first, then what was given.
            let prefix = match search.forced_bos_id {
                Some(bos) if !prefix.is_empty() && prefix[0] != bos => {
                    [bos].into_iter().chain(prefix).collect()
                }
                _ => prefix,
            };
            let line = cutter.cut((number, line, from), prefix, options, &mut requests);
            cut.push(line.map_err(|e| e.within(name()))?);
        }
        let hypotheses = decoder
            .decode(&requests, &search, options.batch_tokens)
            .map_err(|e| {
                e.item_as(|request| match requests.get(request) {
                    Some(request) => format!("line {}", request.line() + 1),
                    None => format!("sentence {}", request + 1),
                })
            })?;
        let alignments = match &options.alignment {
            Some(reading) => self.alignments(&requests, &hypotheses, &search, reading)?,
            None => Vec::new(),
        };
        let found = Found {
            hypotheses,
            alignments,
        };
        cut.iter()
            .map(|line| cutter.join(line, &requests, &found, options))
            .collect()
    }

    /// How each hypothesis of each request is aligned.
    fn alignments(
        &self,
        requests: &[Request],
        hypotheses: &[Vec<Hypothesis>],
        search: &SearchOptions,
        reading: &AlignmentReading,
    ) -> Result<Vec<Vec<Alignment>>> {
        // The pass reads the start token too: of a translation of the greatest length the last token has no row.
        let most = self.engine.max_tokens() - 1;
        let pair = |source: &Vec<u32>, h: &Hypothesis| {
            let target = h.tokens();
            (source.clone(), target[..target.len().min(most)].to_vec())
        };
        let all = requests.iter().zip(hypotheses);
        let pairs: Vec<_> = all
            .flat_map(|(request, found)| found.iter().map(|h| pair(&request.source, h)))
            .collect();
        let mut aligned = self
            .align_ids(&pairs, search.start_id, reading)?
            .into_iter();
        let of_request = |found: &Vec<Hypothesis>| -> Vec<Alignment> {
            aligned.by_ref().take(found.len()).collect()
        };
        Ok(hypotheses.iter().map(of_request).collect())
    }

    /// Which source token each target token of `pairs` stands for; ids as [`Translator::pair_ids`] gives them, token numbers as
    /// [`Translation::alignment`] has them.
    ///
    /// # Errors
    /// An id or a length out of range ([`Error::item`] says of which pair), or a reading that the model does not have.
    pub fn align(
        &self,
        pairs: &[(Vec<u32>, Vec<u32>)],
        reading: &AlignmentReading,
    ) -> Result<Vec<Alignment>> {
        let start = self.engine.config().decoder_start_token_id;
        self.align_ids(pairs, start, reading)
    }

    fn align_ids(
        &self,
        pairs: &[(Vec<u32>, Vec<u32>)],
        start: u32,
        reading: &AlignmentReading,
    ) -> Result<Vec<Alignment>> {
        self.engine.check_alignment(reading)?;
        let lengths = reading.weights == AlignmentWeights::Norm;
        let layer = Some(reading.layer);
        let attention =
            self.engine
                .source_attention(pairs, start, layer, lengths, ALIGNED_TOKENS)?;
        let pairs = attention.iter().zip(pairs);
        Ok(pairs
            .map(|(attention, pair)| self.alignment_of(&attention.rows(reading), pair))
            .collect())
    }

    /// Whether a token of the source, or of the target, is part of a text: not a tag or what stands around one.
    #[doc(hidden)]
    pub fn is_text(&self, id: u32, is_source: bool) -> bool {
        let tokenizer = match is_source {
            true => &self.tokenizers.source,
            false => &self.tokenizers.target,
        };
        let token = tokenizer.id_to_token(id);
        let is_tag = token.is_some_and(|token| tagged_language(&token).is_some());
        // A word that the vocabulary does not have is one all the same.
        let is_unknown = tokenizer.unk_id() == Some(id);
        is_unknown || !tokenizer.is_special(id) && !is_tag
    }

    /// Of the words alone: a tag or an end token stands for none.
    #[doc(hidden)]
    pub fn alignment_of(
        &self,
        rows: &[Vec<f32>],
        (source, target): &(Vec<u32>, Vec<u32>),
    ) -> Alignment {
        let is_text = |ids: &[u32], is_source: bool| -> Vec<bool> {
            ids.iter().map(|id| self.is_text(*id, is_source)).collect()
        };
        let (sources, targets) = (is_text(source, true), is_text(target, false));
        Alignment::from_weights(rows, |i| sources[i], |i| targets[i])
    }
}

/// The translations of lines, one result for each line, in their order; made by
/// [`Translator::stream`].
///
/// The first line is answered before the second is asked for. Then more and more lines are taken together, which is faster.
#[derive(Debug)]
pub struct Stream<'a, I: Iterator> {
    translator: &'a Translator,
    lines: I,
    options: TranslateOptions,
    /// Lines to take next.
    count: usize,
    ready: VecDeque<Result<Vec<Translation>>>,
}

impl<'a, I: Iterator> Stream<'a, I> {
    fn new(translator: &'a Translator, lines: I, options: TranslateOptions) -> Self {
        Stream {
            translator,
            lines,
            options,
            count: 1,
            ready: VecDeque::new(),
        }
    }
}

impl<I: Iterator<Item: AsRef<str>>> Iterator for Stream<'_, I> {
    type Item = Result<Vec<Translation>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.is_empty() {
            let lines: Vec<I::Item> = self.lines.by_ref().take(self.count).collect();
            match self.translator.translate_with(&lines, &self.options) {
                Ok(translations) => self.ready.extend(translations.into_iter().map(Ok)),
                // One line cannot be translated: the others can.
                Err(_) => {
                    for (number, line) in lines.iter().enumerate() {
                        let mut options = self.options.clone();
                        options.first_line += number as u64;
                        let found = self.translator.translate_with(&[line.as_ref()], &options);
                        let found = found.map(|lines| lines.into_iter().flatten().collect());
                        self.ready.push_back(found);
                    }
                }
            }
            self.options.first_line += lines.len() as u64;
            self.count = (self.count * 2).min(MOST_LINES);
        }
        self.ready.pop_front()
    }
}
