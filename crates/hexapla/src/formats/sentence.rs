//! The files with which sentence-transformers says how a text becomes one vector: `modules.json` and what it names.
//!
//! | file | what |
//! | --- | --- |
//! | `modules.json` | the modules in their order, each with its kind and its folder |
//! | `sentence_bert_config.json` beside the encoder | `max_seq_length`, `do_lower_case` |
//! | `1_Pooling/config.json` | which rows of a text, and what they become |
//! | `2_Dense/config.json`, `2_Dense/model.safetensors` | a linear layer with an activation |
//! | `config_sentence_transformers.json` | prompts, and how vectors are compared |

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::keys::Keys;
use super::safetensors::{TensorStore, WEIGHTS_FILE, is_plain_name};
use crate::config::Activation;
use crate::error::{Error, Result};
use crate::files::Folder;
use crate::ops::pool::Pooling;

/// Names the modules.
pub(crate) const MODULES_FILE: &str = "modules.json";
const SETTINGS_FILE: &str = "config_sentence_transformers.json";
const MAX_BYTES: u64 = 16 << 20;
/// Of a module.
const MAX_WEIGHTS: u64 = 512 << 20;

/// What a folder says of its vectors.
#[derive(Debug, Clone, Default)]
pub(crate) struct SentenceSettings {
    /// Whether the folder has `modules.json`.
    pub(crate) described: bool,
    /// The folder of the encoder inside the folder; itself where this is empty.
    pub(crate) encoder: String,
    /// Whether the first module is a table of vectors instead of an encoder.
    pub(crate) is_table: bool,
    /// Longest text in tokens, all that is put around it included.
    pub(crate) max_tokens: Option<usize>,
    /// Whether texts are lower-cased before all else.
    pub(crate) lowercase: bool,
    /// What follows the encoder.
    pub(crate) modules: Vec<Module>,
    /// Texts that are put before a text, by name.
    pub(crate) prompts: BTreeMap<String, String>,
    /// The name of the one that is put there where none is asked for.
    pub(crate) default_prompt: Option<String>,
    /// How two vectors are compared.
    pub(crate) similarity: Similarity,
}

/// A step from the encoder's rows to a text's vector.
#[derive(Debug, Clone)]
pub(crate) enum Module {
    /// Rows to one vector; of several kinds end to end.
    Pooling {
        kinds: Vec<Pooling>,
        /// Whether the rows of a prompt take part.
        include_prompt: bool,
    },
    /// A linear layer.
    Dense(Dense),
    /// To length 1.
    Normalize,
}

/// A linear layer with an activation.
#[derive(Debug, Clone)]
pub(crate) struct Dense {
    /// `[out, in]`.
    pub(crate) weight: Vec<f32>,
    /// `[out]`.
    pub(crate) bias: Option<Vec<f32>>,
    pub(crate) inputs: usize,
    pub(crate) outputs: usize,
    pub(crate) activation: Option<Activation>,
}

/// How alike two vectors are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Similarity {
    /// The cosine of the angle between them.
    #[default]
    Cosine,
    /// Their dot product.
    Dot,
    /// Their distance, negated.
    Euclidean,
    /// The sum of the differences of their numbers, negated.
    Manhattan,
}

impl SentenceSettings {
    /// Reads what `folder` says. Nothing of it is there in a folder that is an encoder and no more.
    ///
    /// # Errors
    /// A file that cannot be read, a module or a setting that is not known, weights that do not fit.
    pub(crate) fn read(folder: &Folder) -> Result<Self> {
        let mut settings = SentenceSettings::default();
        settings.read_prompts(folder)?;
        if !folder.contains(MODULES_FILE) {
            settings.read_limits(folder, "")?;
            return Ok(settings);
        }
        settings.described = true;
        let location = folder.path_of(MODULES_FILE).display().to_string();
        let refuse = |key: String, expected: &str, found: &Value| {
            Error::model("the modules cannot be used")
                .at(format!("{location}, {key}"))
                .expected(expected)
                .found(found.to_string().chars().take(80).collect::<String>())
                .hint("copy or download the folder again")
        };
        let modules: Value = serde_json::from_slice(&folder.read(MODULES_FILE, MAX_BYTES)?)
            .map_err(|e| {
                refuse(
                    "the whole".into(),
                    "a list of modules",
                    &json!(e.to_string()),
                )
            })?;
        let list = modules.as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| refuse("the whole".into(), "a list of modules", &modules))?;
        for (number, module) in list.iter().enumerate() {
            let path = module["path"].as_str().unwrap_or_default();
            if !(path.is_empty() || is_plain_name(path)) {
                let expected = "the name of a folder inside this one";
                return Err(refuse(
                    format!("[{number}].path"),
                    expected,
                    &module["path"],
                ));
            }
            // The kind is a class of Python's, which has moved more than once.
            let kind = module["type"]
                .as_str()
                .and_then(|kind| kind.rsplit('.').next());
            match (number, kind.unwrap_or_default()) {
                (0, "Transformer") => {
                    settings.encoder = path.to_string();
                    settings.read_limits(folder, path)?;
                }
                (0, "StaticEmbedding") => {
                    settings.encoder = path.to_string();
                    settings.is_table = true;
                }
                (1.., "Pooling") => settings.modules.push(read_pooling(folder, path)?),
                (1.., "Dense") => {
                    settings
                        .modules
                        .push(Module::Dense(read_dense(folder, path)?));
                }
                (1.., "Normalize") => settings.modules.push(Module::Normalize),
                // Only while it trains.
                (1.., "Dropout") => (),
                _ => {
                    let expected = "Transformer or StaticEmbedding first, then Pooling, Dense, Normalize or Dropout";
                    return Err(refuse(
                        format!("[{number}].type"),
                        expected,
                        &module["type"],
                    ));
                }
            }
        }
        let poolings = settings
            .modules
            .iter()
            .filter(|m| matches!(m, Module::Pooling { .. }));
        let first = settings.modules.first();
        if !settings.is_table
            && (poolings.count() != 1 || !matches!(first, Some(Module::Pooling { .. })))
        {
            return Err(refuse(
                "the whole".into(),
                "one Pooling behind the Transformer",
                &modules,
            ));
        }
        Ok(settings)
    }

    fn read_limits(&mut self, folder: &Folder, path: &str) -> Result<()> {
        let name = inside(path, "sentence_bert_config.json");
        if !folder.contains(&name) {
            return Ok(());
        }
        let mut keys = Keys::read(folder, &name)?;
        self.max_tokens = keys.size("max_seq_length")?;
        self.lowercase = keys.flag("do_lower_case")?.unwrap_or(false);
        if self.max_tokens == Some(0) {
            return Err(keys
                .error("max_seq_length")
                .expected("1 or more")
                .found("0"));
        }
        // Newer files say here how Python is to call the model; an encoder of text has but one way.
        keys.only("transformer_task", &[json!("feature-extraction")]);
        keys.pass_over(&[
            "modality_config",
            "module_output_name",
            "processing_kwargs",
            "unpad_inputs",
        ]);
        keys.finish()
    }

    fn read_prompts(&mut self, folder: &Folder) -> Result<()> {
        if !folder.contains(SETTINGS_FILE) {
            return Ok(());
        }
        let mut keys = Keys::read(folder, SETTINGS_FILE)?;
        let prompts = keys.take("prompts").unwrap_or_default();
        self.prompts = serde_json::from_value(match prompts {
            Value::Null => json!({}),
            some => some,
        })
        .map_err(|e| {
            keys.error("prompts")
                .expected("a text for each name")
                .found(e.to_string())
        })?;
        self.default_prompt = keys.text("default_prompt_name")?;
        if let Some(name) = self
            .default_prompt
            .as_ref()
            .filter(|name| !self.prompts.contains_key(*name))
        {
            return Err(keys
                .error("default_prompt_name")
                .expected("the name of one of `prompts`")
                .found(name));
        }
        let similarity = keys.text("similarity_fn_name")?;
        self.similarity = match similarity.as_deref() {
            None | Some("cosine") => Similarity::Cosine,
            Some("dot" | "dot_score") => Similarity::Dot,
            Some("euclidean") => Similarity::Euclidean,
            Some("manhattan") => Similarity::Manhattan,
            Some(other) => {
                return Err(keys
                    .error("similarity_fn_name")
                    .expected("cosine, dot, euclidean or manhattan")
                    .found(other));
            }
        };
        keys.pass_over(&["__version__", "model_type"]);
        keys.finish()
    }
}

/// The files of the modules that follow the encoder.
///
/// # Errors
/// `modules.json` cannot be read.
pub(super) fn module_files(folder: &Folder) -> Result<Vec<String>> {
    if !folder.contains(MODULES_FILE) {
        return Ok(Vec::new());
    }
    let modules: Value =
        serde_json::from_slice(&folder.read(MODULES_FILE, MAX_BYTES)?).unwrap_or_default();
    let paths = modules.as_array().into_iter().flatten();
    let paths = paths.filter_map(|module| module["path"].as_str());
    let files = paths
        .filter(|path| is_plain_name(path))
        .flat_map(|path| ["config.json", WEIGHTS_FILE].map(|name| inside(path, name)));
    Ok(files.filter(|name| folder.contains(name)).collect())
}

/// The modules of sentence-transformers around a model that lies in a folder of its own inside `folder`, as they are once it lies at
/// the top.
///
/// # Errors
/// A file cannot be read.
pub(super) fn files_around(folder: &Folder) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut modules: Value =
        serde_json::from_slice(&folder.read(MODULES_FILE, MAX_BYTES)?).unwrap_or_default();
    let encoder = modules[0]["path"].as_str().unwrap_or_default();
    let inner = format!("{encoder}/");
    let names = module_files(folder)?.into_iter();
    let mut files = BTreeMap::new();
    for name in names.filter(|name| !name.starts_with(&inner)) {
        let bytes = folder.read(&name, MAX_WEIGHTS)?.into_owned();
        files.insert(name, bytes);
    }
    modules[0]["path"] = json!("");
    files.insert(
        MODULES_FILE.to_string(),
        format!("{modules:#}\n").into_bytes(),
    );
    Ok(files)
}

/// The file `name` of the folder `path` inside the model's.
fn inside(path: &str, name: &str) -> String {
    match path {
        "" => name.to_string(),
        path => format!("{path}/{name}"),
    }
}

/// The old files have a flag for each kind, the new ones name it.
const POOLINGS: [(&str, &str, Pooling); 6] = [
    ("pooling_mode_cls_token", "cls", Pooling::First),
    ("pooling_mode_max_tokens", "max", Pooling::Max),
    ("pooling_mode_mean_tokens", "mean", Pooling::Mean),
    (
        "pooling_mode_mean_sqrt_len_tokens",
        "mean_sqrt_len_tokens",
        Pooling::MeanSqrtLen,
    ),
    (
        "pooling_mode_weightedmean_tokens",
        "weightedmean",
        Pooling::WeightedMean,
    ),
    ("pooling_mode_lasttoken", "lasttoken", Pooling::Last),
];

fn read_pooling(folder: &Folder, path: &str) -> Result<Module> {
    let mut keys = Keys::read(folder, &inside(path, "config.json"))?;
    let mut kinds = Vec::new();
    for (flag, _, pooling) in POOLINGS {
        if keys.flag(flag)?.unwrap_or(false) {
            kinds.push(pooling);
        }
    }
    let named = match keys.take("pooling_mode") {
        None => Vec::new(),
        Some(Value::Array(names)) => names,
        Some(Value::String(names)) => names.split('+').map(|name| json!(name)).collect(),
        Some(other) => vec![other],
    };
    if !named.is_empty() {
        kinds.clear();
    }
    for name in named {
        let known = POOLINGS.iter().find(|(_, known, _)| name == *known);
        kinds.push(known.map(|(_, _, pooling)| *pooling).ok_or_else(|| {
            let known: Vec<&str> = POOLINGS.iter().map(|(_, known, _)| *known).collect();
            keys.error("pooling_mode")
                .expected(format!("one of {}", known.join(", ")))
                .found(name.to_string())
        })?);
    }
    if kinds.is_empty() {
        kinds.push(Pooling::Mean);
    }
    let include_prompt = keys.flag("include_prompt")?.unwrap_or(true);
    keys.pass_over(&["word_embedding_dimension", "embedding_dimension"]);
    keys.finish()?;
    Ok(Module::Pooling {
        kinds,
        include_prompt,
    })
}

fn read_dense(folder: &Folder, path: &str) -> Result<Dense> {
    let mut keys = Keys::read(folder, &inside(path, "config.json"))?;
    let (inputs, outputs) = (keys.size("in_features")?, keys.size("out_features")?);
    let bias = keys.flag("bias")?.unwrap_or(true);
    let activation = keys.text("activation_function")?;
    let activation = match activation
        .as_deref()
        .map(|name| name.rsplit('.').next().unwrap_or(name))
    {
        None | Some("Tanh") => Some(Activation::Tanh),
        Some("Identity") => None,
        Some("ReLU") => Some(Activation::Relu),
        Some("GELU") => Some(Activation::Gelu),
        Some("SiLU") => Some(Activation::Swish),
        Some(other) => {
            return Err(keys
                .error("activation_function")
                .expected("Tanh, Identity, ReLU, GELU or SiLU of torch.nn")
                .found(other));
        }
    };
    for key in ["module_input_name", "module_output_name"] {
        keys.only(key, &[json!("sentence_embedding")]);
    }
    keys.only("use_residual", &[json!(false)]);
    let most = 1..=1 << 16;
    let (Some(inputs), Some(outputs)) = (
        inputs.filter(|n| most.contains(n)),
        outputs.filter(|n| most.contains(n)),
    ) else {
        return Err(keys
            .error("in_features, out_features")
            .expected("1 to 65536")
            .found(format!("{inputs:?}, {outputs:?}")));
    };
    keys.finish()?;
    let tensors = TensorStore::open_in(folder.clone(), &inside(path, WEIGHTS_FILE))?;
    Ok(Dense {
        weight: tensors.read("linear.weight", &[outputs, inputs])?,
        bias: match bias {
            true => Some(tensors.read("linear.bias", &[outputs])?),
            false => None,
        },
        inputs,
        outputs,
        activation,
    })
}

impl Similarity {
    /// How alike two vectors of one width are.
    pub fn of(self, a: &[f32], b: &[f32]) -> f32 {
        let pairs = || a.iter().zip(b);
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
        match self {
            // Vectors of zeros are alike to none.
            Similarity::Cosine => dot(a, b) / (dot(a, a) * dot(b, b)).sqrt().max(1e-12),
            Similarity::Dot => dot(a, b),
            Similarity::Euclidean => -pairs().map(|(x, y)| (x - y) * (x - y)).sum::<f32>().sqrt(),
            Similarity::Manhattan => -pairs().map(|(x, y)| (x - y).abs()).sum::<f32>(),
        }
    }
}

/// A vector for each token, whatever its text.
#[derive(Debug, Clone)]
pub(crate) struct WordVectors {
    /// Numbers of a vector.
    pub(crate) width: usize,
    /// `[rows, width]`.
    rows: Vec<f32>,
    /// The row of each token; its id where absent.
    mapping: Option<Vec<usize>>,
    /// What each token counts for; 1 where absent.
    weights: Option<Vec<f32>>,
    /// Whether unknown tokens are left out.
    without_unknown: bool,
}

impl WordVectors {
    /// Number of vectors.
    pub(crate) fn len(&self) -> usize {
        self.rows.len() / self.width.max(1)
    }

    /// Whether `folder` holds a table of the program model2vec.
    pub(crate) fn is_model2vec(folder: &Folder) -> bool {
        const CONFIG_FILE: &str = "config.json";
        let settings = folder.read(CONFIG_FILE, MAX_BYTES).ok();
        let settings = settings.and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        settings.is_some_and(|settings| settings["model_type"] == "model2vec")
    }

    /// Reads the table of `folder`; says whether its vectors are to have length 1.
    ///
    /// # Errors
    /// Tensors that are missing or do not fit together.
    pub(crate) fn read(folder: &Folder) -> Result<(Self, bool)> {
        let tensors = TensorStore::open_in(folder.clone(), WEIGHTS_FILE)?;
        let (name, is_model2vec) = match tensors.contains("embedding.weight") {
            true => ("embedding.weight", false),
            false => ("embeddings", true),
        };
        let normalize = match is_model2vec && folder.contains("config.json") {
            true => {
                let mut keys = Keys::read(folder, "config.json")?;
                keys.flag("normalize")?.unwrap_or(true)
            }
            false => false,
        };
        let shape = tensors.shape(name).map(<[_]>::to_vec).unwrap_or_default();
        let error = |expected: &str, found: String| {
            Error::model("a table of vectors cannot be used")
                .at(format!("{}, tensor `{name}`", tensors.path().display()))
                .expected(expected)
                .found(found)
                .hint("copy or download the folder again")
        };
        let &[count, width] = shape.as_slice() else {
            return Err(error("a row for each token", format!("{shape:?}")));
        };
        if width == 0 || width > 1 << 16 || count == 0 {
            return Err(error("rows of 1 to 65536 numbers", format!("{shape:?}")));
        }
        let rows = tensors.read_small(name, &shape)?;
        let list = |name: &str| -> Result<Option<Vec<f32>>> {
            match tensors.shape(name) {
                Some(shape @ [_]) => tensors.read_small(name, shape).map(Some),
                _ => Ok(None),
            }
        };
        let mapping = list("mapping")?
            .map(|rows| rows.into_iter().map(|row| row as usize).collect::<Vec<_>>());
        if let Some(beyond) = mapping.iter().flatten().find(|row| **row >= count) {
            return Err(error("a mapping to its rows", beyond.to_string()));
        }
        let vectors = WordVectors {
            width,
            rows,
            mapping,
            weights: list("weights")?,
            without_unknown: is_model2vec,
        };
        Ok((vectors, normalize))
    }

    /// The mean of the vectors of `ids`; zeros where there is none.
    pub(crate) fn mean(&self, ids: &[u32], unknown: Option<u32>) -> Vec<f32> {
        let mut sum = vec![0.0; self.width];
        let mut count = 0.0f32;
        for id in ids {
            if self.without_unknown && Some(*id) == unknown {
                continue;
            }
            let id = *id as usize;
            let row = match &self.mapping {
                Some(mapping) => mapping.get(id).copied(),
                None => Some(id),
            };
            let row = row.and_then(|row| self.rows.get(row * self.width..(row + 1) * self.width));
            let Some(row) = row else { continue };
            let weight = self
                .weights
                .as_ref()
                .and_then(|w| w.get(id))
                .copied()
                .unwrap_or(1.0);
            sum.iter_mut().zip(row).for_each(|(s, v)| *s += weight * v);
            count += 1.0;
        }
        sum.iter_mut().for_each(|s| *s /= count.max(1.0));
        sum
    }
}
