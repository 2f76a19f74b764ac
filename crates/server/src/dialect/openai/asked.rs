//! What completions and chats are asked with.

use hexapla::generate::Sampling;
use hexapla::generate::language_model::GenerateOptions;
use serde_json::Value;

use crate::fields::{Fields, bounded, wrong};
use crate::refusal::Refusal;

/// Fields that change nothing of the answer.
const IGNORED: [&str; 6] = [
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
];

/// Stop strings of a request, and their bytes.
const STOPS: usize = 16;
const STOP_BYTES: usize = 1024;
/// Likeliest tokens that are told.
const LIKELIEST: usize = 20;

/// How outputs are asked for.
#[derive(Debug, Clone, Default)]
pub(super) struct Asked {
    pub(super) model: Option<String>,
    pub(super) max_tokens: Option<usize>,
    temperature: Option<f64>,
    top_p: Option<f64>,
    top_k: Option<usize>,
    min_p: Option<f64>,
    seed: Option<i64>,
    pub(super) n: usize,
    pub(super) best_of: usize,
    stop: Vec<String>,
    presence_penalty: f64,
    frequency_penalty: f64,
    repetition_penalty: Option<f64>,
    logit_bias: Vec<(u32, f32)>,
    pub(super) is_streamed: bool,
    pub(super) with_usage: bool,
    /// Tell the tokens' probabilities.
    pub(super) log_probs: bool,
    /// And those of so many others.
    pub(super) likeliest: usize,
    /// Of a translation.
    pub(super) from: Option<String>,
    pub(super) to: Option<String>,
}

impl Asked {
    /// Reads the fields that completions and chats share; `log_probs` are read by whoever knows their form.
    ///
    /// # Errors
    /// A value out of range.
    pub(super) fn read(fields: &mut Fields, most: usize) -> Result<Self, Refusal> {
        fields.ignore(&IGNORED);
        let options = fields.object("stream_options")?;
        let with_usage = match options {
            None => false,
            Some(mut options) => {
                let with_usage = options.flag("include_usage")?.unwrap_or(false);
                options.ignore(&["include_obfuscation"]);
                options.nothing_left()?;
                with_usage
            }
        };
        let mut own = fields.object("hexapla")?.unwrap_or_default();
        let (from, to) = (own.text("from")?, own.text("to")?);
        own.nothing_left()?;
        let n = fields.count("n", 1..=most)?.unwrap_or(1);
        Ok(Asked {
            model: fields.text("model")?,
            // `max_completion_tokens` is the newer name.
            max_tokens: match fields.count("max_completion_tokens", 0..=1 << 24)? {
                Some(most) => Some(most),
                None => fields.count("max_tokens", 0..=1 << 24)?,
            },
            temperature: fields.number("temperature", 0.0..=2.0)?,
            top_p: fields.number("top_p", 0.0..=1.0)?,
            top_k: fields.count("top_k", 0..=1 << 24)?,
            min_p: fields.number("min_p", 0.0..=1.0)?,
            seed: fields.integer("seed", i64::MIN..=i64::MAX)?,
            n,
            best_of: fields.count("best_of", n..=most)?.unwrap_or(n),
            stop: stops(fields)?,
            presence_penalty: fields
                .number("presence_penalty", -2.0..=2.0)?
                .unwrap_or(0.0),
            frequency_penalty: fields
                .number("frequency_penalty", -2.0..=2.0)?
                .unwrap_or(0.0),
            repetition_penalty: fields.number("repetition_penalty", 0.01..=10.0)?,
            logit_bias: logit_bias(fields)?,
            is_streamed: fields.flag("stream")?.unwrap_or(false),
            with_usage,
            log_probs: false,
            likeliest: 0,
            from,
            to,
        })
    }

    /// Refuses what a translation cannot be told. (`temperature` and `max_tokens`, which most clients send in any case, change
    /// nothing there.)
    pub(super) fn refuse_for_translation(&self) -> Result<(), Refusal> {
        let field = match self {
            asked if asked.log_probs => "logprobs",
            asked if !asked.stop.is_empty() => "stop",
            asked if !asked.logit_bias.is_empty() => "logit_bias",
            asked if asked.best_of > asked.n => "best_of",
            _ => return Ok(()),
        };
        let refused = Refusal::bad(format!(
            "`{field}` cannot be asked of a model that translates"
        ));
        Err(refused.in_field(field))
    }

    /// Reads `logprobs` as completions have it: a number.
    pub(super) fn read_completion_log_probs(&mut self, fields: &mut Fields) -> Result<(), Refusal> {
        if let Some(count) = fields.count("logprobs", 0..=LIKELIEST)? {
            (self.log_probs, self.likeliest) = (true, count);
        }
        Ok(())
    }

    /// Reads `logprobs` and `top_logprobs` as chats have them.
    pub(super) fn read_chat_log_probs(&mut self, fields: &mut Fields) -> Result<(), Refusal> {
        self.log_probs = fields.flag("logprobs")?.unwrap_or(false);
        if let Some(count) = fields.count("top_logprobs", 0..=LIKELIEST)? {
            if !self.log_probs {
                return Err(
                    Refusal::bad("`top_logprobs` needs `logprobs`").in_field("top_logprobs")
                );
            }
            self.likeliest = count;
        }
        Ok(())
    }

    /// These settings, on top of the model's own. A seed that is not named is drawn.
    pub(super) fn options(&self, defaults: GenerateOptions) -> Result<GenerateOptions, Refusal> {
        let mut options = defaults;
        let search = &mut options.search;
        let own = search.sampling;
        // OpenAI's temperature is 1 where it is not named, unless the model's folder says another.
        let temperature = match (self.temperature, &own) {
            (Some(named), _) => named as f32,
            (None, Some(own)) => own.temperature,
            (None, None) => 1.0,
        };
        search.beam_size = 1;
        search.sampling = match temperature {
            0.0 => None,
            _ => {
                let own = own.unwrap_or_default();
                Some(Sampling {
                    temperature,
                    top_p: self.top_p.map_or(own.top_p, |p| p as f32),
                    top_k: self.top_k.unwrap_or(own.top_k),
                    min_p: self.min_p.map_or(own.min_p, |p| p as f32),
                    seed: match self.seed {
                        Some(seed) => seed.cast_unsigned(),
                        None => drawn()?,
                    },
                })
            }
        };
        // The likeliest output is one, however many are asked for.
        search.n_best = match search.sampling {
            Some(_) => self.best_of,
            None => 1,
        };
        search.presence_penalty = self.presence_penalty as f32;
        search.frequency_penalty = self.frequency_penalty as f32;
        if let Some(penalty) = self.repetition_penalty {
            search.repetition_penalty = penalty as f32;
        }
        search.logit_bias.clone_from(&self.logit_bias);
        search.likeliest = self.likeliest;
        options.stop.clone_from(&self.stop);
        options.slide = false;
        Ok(options)
    }
}

/// A seed by chance.
fn drawn() -> Result<u64, Refusal> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|_| crate::call::internal())?;
    Ok(u64::from_le_bytes(bytes))
}

fn stops(fields: &mut Fields) -> Result<Vec<String>, Refusal> {
    let stops = fields.texts("stop", STOPS)?;
    let stops = stops.map_or_else(Vec::new, |stops| stops.texts);
    for stop in &stops {
        if stop.is_empty() || stop.len() > STOP_BYTES {
            let expected = format!("texts of 1 to {STOP_BYTES} bytes");
            return Err(Refusal::of_field(
                "stop",
                &expected,
                &format!("one of {}", stop.len()),
            ));
        }
    }
    Ok(stops)
}

fn logit_bias(fields: &mut Fields) -> Result<Vec<(u32, f32)>, Refusal> {
    let Some(value) = fields.value("logit_bias") else {
        return Ok(Vec::new());
    };
    let expected = "an object of token ids and numbers from -100 to 100";
    let Value::Object(all) = &value else {
        return Err(wrong("logit_bias", expected, &value));
    };
    bounded("logit_bias", all.len(), 1024)?;
    let one = |(id, bias): (&String, &Value)| {
        let bias = bias
            .as_f64()
            .filter(|bias| (-100.0..=100.0).contains(bias))?;
        Some((id.parse().ok()?, bias as f32))
    };
    let pairs: Option<Vec<_>> = all.iter().map(one).collect();
    pairs.ok_or_else(|| wrong("logit_bias", expected, &value))
}
