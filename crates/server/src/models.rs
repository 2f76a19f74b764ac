//! The models that are served, by name. One may be swapped for another while requests are under way: each is answered by the one
//! that it began with.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{SystemTime, UNIX_EPOCH};

use hexapla::config::{Assembly, ComputeType, EncoderHead, LanguagePair};
use hexapla::encode::{Classifier, EmbedOptions, LongTexts, SentenceEncoder};
use hexapla::files::{Folder, sha256_bytes, sha256_file};
use hexapla::formats;
use hexapla::generate::generator::Generator;
use hexapla::generate::language_model::LanguageModel;
use hexapla::text::direction::Direction;
use hexapla::text::tokenizer::EncoderTokenizer;
use hexapla::{Error, Result, Translator};
use serde::Deserialize;

use crate::engine::admission::Admission;
use crate::engine::gather::Gatherer;
use crate::engine::scheduler::{Activity, Scheduler, Serves};
use crate::refusal::Refusal;

/// A model, as the settings name it.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSettings {
    /// What requests call it.
    pub name: String,
    /// Its folder, or a GGUF file; the embedded model where absent.
    pub folder: Option<PathBuf>,
    /// The number type of its matrices.
    #[serde(default, with = "compute_type")]
    pub compute_type: ComputeType,
    /// The language that it translates from, where its folder does not say.
    pub from: Option<String>,
    /// The language that it translates into, likewise.
    pub to: Option<String>,
    /// Most tokens under way at a time.
    #[serde(default = "max_tokens")]
    pub max_tokens: usize,
    /// Bytes of keys and values of earlier prompts that are kept, in MiB.
    #[serde(default = "prefix_cache")]
    pub prefix_cache_mib: usize,
}

fn max_tokens() -> usize {
    1 << 20
}

fn prefix_cache() -> usize {
    256
}

mod compute_type {
    use hexapla::config::ComputeType;
    use serde::{Deserialize, Deserializer, de::Error};

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<ComputeType, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

impl ModelSettings {
    /// The model in a folder under a name, with all defaults.
    pub fn new(name: impl Into<String>, folder: Option<PathBuf>) -> Self {
        ModelSettings {
            name: name.into(),
            folder,
            compute_type: ComputeType::default(),
            from: None,
            to: None,
            max_tokens: max_tokens(),
            prefix_cache_mib: prefix_cache(),
        }
    }
}

/// Opens folders; the program knows where the embedded one is.
pub type OpenFolder = dyn Fn(Option<&std::path::Path>) -> Folder + Send + Sync;

/// A model that is served.
pub(crate) struct Served {
    pub(crate) settings: ModelSettings,
    /// Which it is: the SHA-256 of its configuration and of its weights' places and sizes, or of all of it where that is small.
    pub(crate) fingerprint: String,
    /// Seconds since 1970.
    pub(crate) loaded: u64,
    pub(crate) admission: Arc<Admission>,
    pub(crate) work: Work,
}

/// What a model does.
pub(crate) enum Work {
    Translation(Translation),
    Language(Language),
    Vectors(Vectors),
    Classes(Classes),
}

/// A model that translates.
pub(crate) struct Translation {
    pub(crate) translator: Arc<Translator>,
    pub(crate) scheduler: Scheduler<Translator>,
    /// What it translates from and into, where that is known.
    pub(crate) pairs: Vec<LanguagePair>,
    /// Whether its requests have to name the target.
    pub(crate) is_tagged: bool,
}

/// A decoder alone.
pub(crate) struct Language {
    pub(crate) model: Arc<LanguageModel>,
    pub(crate) scheduler: Scheduler<LanguageModel>,
}

/// An encoder whose vectors are the answer.
pub(crate) struct Vectors {
    pub(crate) encoder: Arc<SentenceEncoder>,
    /// By the prompt's name and what becomes of long texts.
    pub(crate) gatherer: Gatherer<(Option<String>, LongWay), Vec<f32>>,
}

/// An encoder with classes of texts, or of pairs of them.
pub(crate) struct Classes {
    pub(crate) classifier: Arc<Classifier>,
    /// By the query, where there is one, and what becomes of long texts.
    pub(crate) gatherer: Gatherer<(Option<String>, LongWay), Vec<f32>>,
}

/// What becomes of a text that is longer than the model: it is refused, or cut where that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LongWay {
    Refuse,
    Cut,
}

impl From<LongWay> for LongTexts {
    fn from(way: LongWay) -> Self {
        match way {
            LongWay::Refuse => LongTexts::Refuse,
            LongWay::Cut => LongTexts::Cut,
        }
    }
}

impl Serves for LanguageModel {
    type Model = Generator;

    fn model(&self) -> &Generator {
        self.generator()
    }
}

impl Served {
    /// Opens a model, with so many batches at a time.
    ///
    /// # Errors
    /// A folder that cannot be opened, or a model that answers nothing of what is served.
    pub(crate) fn open(
        settings: &ModelSettings,
        folder: &OpenFolder,
        batches: usize,
    ) -> Result<Self> {
        let folder = folder(settings.folder.as_deref());
        let work = Work::open(settings, &folder, batches)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        Ok(Served {
            settings: settings.clone(),
            fingerprint: fingerprint(&folder)?,
            loaded: now.map_or(0, |since| since.as_secs()),
            admission: Admission::new(settings.max_tokens),
            work,
        })
    }

    /// What requests call it.
    pub(crate) fn name(&self) -> &str {
        &self.settings.name
    }

    /// What it is doing.
    pub(crate) fn activity(&self) -> Activity {
        match &self.work {
            Work::Translation(model) => model.scheduler.activity(),
            Work::Language(model) => model.scheduler.activity(),
            Work::Vectors(model) => model.gatherer.activity(),
            Work::Classes(model) => model.gatherer.activity(),
        }
    }

    /// What cuts its texts, where it is an encoder.
    pub(crate) fn encoder_tokenizer(&self) -> Option<&EncoderTokenizer> {
        match &self.work {
            Work::Vectors(model) => Some(model.encoder.tokenizer()),
            Work::Classes(model) => Some(model.classifier.tokenizer()),
            Work::Translation(_) | Work::Language(_) => None,
        }
    }

    /// What it does, in a word.
    pub(crate) fn task(&self) -> &'static str {
        match &self.work {
            Work::Translation(_) => "translation",
            Work::Language(_) => "generation",
            Work::Vectors(_) => "embedding",
            Work::Classes(_) => "classification",
        }
    }
}

/// The SHA-256 of what a model is: of the manifest that names the checksums of all its files, or of all its files.
fn fingerprint(folder: &Folder) -> Result<String> {
    if folder.path().is_file() {
        return sha256_file(&folder.path());
    }
    let manifest = "manifest.json".to_string();
    let names = match folder.contains(&manifest) {
        true => vec![manifest],
        false => folder.names()?,
    };
    let mut all = String::new();
    list(folder, names, "", &mut all)?;
    Ok(sha256_bytes(all.as_bytes()))
}

/// The checksums of files, also of those in folders.
fn list(folder: &Folder, names: Vec<String>, within: &str, all: &mut String) -> Result<()> {
    for name in names {
        let path = format!("{within}{name}");
        match folder.path_of(&name).is_dir() {
            true => {
                let inner = folder.join(&name);
                let names = inner.names()?;
                list(&inner, names, &format!("{path}/"), all)?;
            }
            false => {
                let _ = writeln!(all, "{} {path}", folder.sha256(&name)?);
            }
        }
    }
    Ok(())
}

fn no_thread(e: &std::io::Error) -> Error {
    Error::internal("the system gives no thread").found(e.to_string())
}

impl Work {
    fn open(settings: &ModelSettings, folder: &Folder, batches: usize) -> Result<Self> {
        let compute_type = settings.compute_type;
        let (_, is_table) = SentenceEncoder::source_folder(folder)?;
        if is_table || folder.contains("modules.json") {
            return Ok(Work::Vectors(Vectors::open(folder, compute_type)?));
        }
        let head = {
            let opened = formats::open(folder.clone())?;
            match opened.model().assembly() {
                Assembly::EncoderDecoder(_) => {
                    return Ok(Work::Translation(Translation::open(
                        settings, folder, batches,
                    )?));
                }
                Assembly::Decoder(_) => {
                    return Ok(Work::Language(Language::open(settings, folder, batches)?));
                }
                Assembly::Encoder(config) => config.head.clone(),
            }
        };
        match head {
            EncoderHead::Classes { .. } => Ok(Work::Classes(Classes::open(folder, compute_type)?)),
            EncoderHead::Hidden { .. } => Ok(Work::Vectors(Vectors::open(folder, compute_type)?)),
            EncoderHead::Tokens { .. } | EncoderHead::TokenClasses { .. } => {
                Err(Error::model("the model has a head that is not served")
                    .at(folder.path().display().to_string())
                    .expected("vectors of texts, or classes of texts")
                    .found("a head for each token")
                    .hint("`hexapla fill` and `hexapla tag` use it"))
            }
        }
    }
}

impl Translation {
    fn open(settings: &ModelSettings, folder: &Folder, batches: usize) -> Result<Self> {
        let translator = Translator::builder().compute_type(settings.compute_type);
        let translator = Arc::new(translator.open(folder.clone())?);
        let tagged = Direction::languages(&translator.tokenizers().source);
        let mut pairs: Vec<LanguagePair> = translator.directions().iter().cloned().collect();
        if pairs.is_empty() && tagged.len() > 1 {
            for source in &tagged {
                let others = tagged.iter().filter(|target| *target != source);
                pairs.extend(others.map(|target| LanguagePair {
                    source: source.clone(),
                    target: target.clone(),
                }));
            }
        }
        let named = settings.from.as_ref().zip(settings.to.as_ref());
        if let Some((source, target)) = named {
            let pair = LanguagePair {
                source: source.clone(),
                target: target.clone(),
            };
            pairs.retain(|known| *known == pair);
            if pairs.is_empty() {
                pairs.push(pair);
            }
        }
        Ok(Translation {
            scheduler: Scheduler::start(translator.clone(), batches).map_err(|e| no_thread(&e))?,
            translator,
            pairs,
            is_tagged: !tagged.is_empty(),
        })
    }

    /// The direction between two languages, the first of which may be left to be recognised.
    ///
    /// # Errors
    /// Languages that the model does not translate between.
    pub(crate) fn direction(&self, from: Option<&str>, to: &str) -> Result<Option<Direction>> {
        let fits =
            |pair: &&LanguagePair| pair.target == to && from.is_none_or(|from| pair.source == from);
        if self.pairs.iter().find(fits).is_none() {
            let pairs: Vec<String> = self.pairs.iter().map(ToString::to_string).collect();
            return Err(Error::input("the model does not translate between these languages")
                .at("source and target")
                .expected(match pairs.is_empty() {
                    true => "a model whose folder, or `from` and `to` in the server's settings, says its languages".to_string(),
                    false => pairs.join(", "),
                })
                .found(format!("{}-{to}", from.unwrap_or("auto"))));
        }
        if !self.is_tagged {
            return Ok(None);
        }
        self.translator.direction(from, Some(to)).map(Some)
    }
}

impl Language {
    fn open(settings: &ModelSettings, folder: &Folder, batches: usize) -> Result<Self> {
        let model = LanguageModel::open(folder.clone(), settings.compute_type)?;
        let model = Arc::new(model.with_prefix_cache(settings.prefix_cache_mib << 20));
        Ok(Language {
            scheduler: Scheduler::start(model.clone(), batches).map_err(|e| no_thread(&e))?,
            model,
        })
    }
}

impl Vectors {
    fn open(folder: &Folder, compute_type: ComputeType) -> Result<Self> {
        let encoder = Arc::new(SentenceEncoder::open(folder.clone(), compute_type)?);
        let model = encoder.clone();
        let gatherer = Gatherer::start(move |(prompt, long): &(Option<String>, LongWay), texts| {
            let options = EmbedOptions {
                prompt: prompt.clone(),
                long: LongTexts::from(*long),
                ..EmbedOptions::default()
            };
            model.embed(texts, &options)
        });
        Ok(Vectors {
            encoder,
            gatherer: gatherer.map_err(|e| no_thread(&e))?,
        })
    }
}

impl Classes {
    fn open(folder: &Folder, compute_type: ComputeType) -> Result<Self> {
        let classifier = Arc::new(Classifier::open(folder.clone(), compute_type)?);
        let model = classifier.clone();
        let gatherer = Gatherer::start(move |(query, long): &(Option<String>, LongWay), texts| {
            let long = LongTexts::from(*long);
            match query {
                Some(query) => {
                    let scores = model.rank(query, texts, long)?;
                    Ok(scores.into_iter().map(|score| vec![score]).collect())
                }
                None => model.classify(texts, long),
            }
        });
        Ok(Classes {
            classifier,
            gatherer: gatherer.map_err(|e| no_thread(&e))?,
        })
    }
}

/// All that are served, in the order of the settings.
#[derive(Default)]
pub(crate) struct Models {
    served: RwLock<Vec<Arc<Served>>>,
}

impl Models {
    /// All of them.
    pub(crate) fn all(&self) -> Vec<Arc<Served>> {
        let served = self.served.read().unwrap_or_else(PoisonError::into_inner);
        served.clone()
    }

    /// Serves a model, in the place of the one of its name if there is one, which is given back too: it answers what it has begun.
    pub(crate) fn put(&self, model: Served) -> (Arc<Served>, Option<Arc<Served>>) {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let model = Arc::new(model);
        let old = match served.iter_mut().find(|old| old.name() == model.name()) {
            Some(old) => Some(std::mem::replace(old, model.clone())),
            None => {
                served.push(model.clone());
                None
            }
        };
        (model, old)
    }

    /// Serves a model no longer.
    pub(crate) fn remove(&self, name: &str) -> Option<Arc<Served>> {
        let mut served = self.served.write().unwrap_or_else(PoisonError::into_inner);
        let place = served.iter().position(|model| model.name() == name)?;
        Some(served.remove(place))
    }

    /// The model of this name.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn named(&self, name: &str) -> std::result::Result<Arc<Served>, Refusal> {
        let all = self.all();
        let found = all.iter().find(|model| model.name() == name).cloned();
        found.ok_or_else(|| {
            let names: Vec<String> = all
                .iter()
                .map(|model| format!("`{}`", model.name()))
                .collect();
            Refusal::not_found(format!(
                "there is no model `{name}`; there are {}",
                match names.is_empty() {
                    true => "none yet".to_string(),
                    false => names.join(", "),
                }
            ))
            .in_field("model")
            .with_code("model_not_found")
        })
    }

    /// The model of this name, or the first that does what is asked.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn that(
        &self,
        name: Option<&str>,
        what: &str,
        does: impl Fn(&Work) -> bool,
    ) -> std::result::Result<Arc<Served>, Refusal> {
        match name {
            Some(name) => {
                let model = self.named(name)?;
                match does(&model.work) {
                    true => Ok(model),
                    false => Err(Refusal::bad(format!(
                        "the model `{name}` is one of {}: {what} are asked of another",
                        model.task()
                    ))
                    .in_field("model")),
                }
            }
            None => {
                let found = self.all().into_iter().find(|model| does(&model.work));
                found.ok_or_else(|| {
                    Refusal::not_found(format!("no model here gives {what}"))
                        .with_code("model_not_found")
                })
            }
        }
    }
}
