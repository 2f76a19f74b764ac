//! The interface of text-embeddings-inference: vectors, similarity, ranks, classes, tokens.

use std::sync::Arc;

use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Value, json};

use super::json_response;
use crate::app::MODEL;
use crate::call::{Call, internal};
use crate::embedding::{Embedding, count_tokens};
use crate::engine::gather::Texts as Gathered;
use crate::fields::{Fields, bounded, missing, wrong};
use crate::models::{Classes, LongWay, Served, Vectors, Work};
use crate::refusal::Refusal;

/// A refusal as TEI tells it.
pub(super) fn refusal(refusal: &Refusal) -> (StatusCode, Value) {
    let kind = match refusal.status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "unauthorized",
        StatusCode::TOO_MANY_REQUESTS => "overloaded",
        StatusCode::SERVICE_UNAVAILABLE => "unhealthy",
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => "validation",
        status if status.is_server_error() => "backend",
        _ => "validation",
    };
    (
        refusal.status,
        json!({"error": refusal.message, "error_type": kind}),
    )
}

fn answered(model: &Served, tokens: usize, answer: &impl Serialize) -> Response {
    let mut response = json_response(StatusCode::OK, answer);
    let headers = response.headers_mut();
    headers.insert("x-compute-tokens", HeaderValue::from(tokens));
    if let Ok(value) = HeaderValue::from_str(&model.fingerprint) {
        headers.insert(MODEL, value);
    }
    response
}

/// A text that is longer than the model is refused, unless its end may be cut off. From the other end nothing is cut.
fn long(fields: &mut Fields) -> Result<LongWay, Refusal> {
    let direction = fields.text("truncation_direction")?;
    if let Some(direction) = direction.filter(|direction| !direction.eq_ignore_ascii_case("right"))
    {
        return Err(Refusal::of_field(
            "truncation_direction",
            "`Right`",
            &direction,
        ));
    }
    Ok(match fields.flag("truncate")?.unwrap_or(false) {
        true => LongWay::Cut,
        false => LongWay::Refuse,
    })
}

fn vectors(call: &Call) -> Result<Arc<Served>, Refusal> {
    let is_vectors = |work: &Work| matches!(work, Work::Vectors(_));
    call.app.models.that(None, "vectors of texts", is_vectors)
}

fn classes(call: &Call) -> Result<Arc<Served>, Refusal> {
    let is_classes = |work: &Work| matches!(work, Work::Classes(_));
    call.app.models.that(None, "classes of texts", is_classes)
}

fn of_vectors(model: &Served) -> Result<&Vectors, Refusal> {
    match &model.work {
        Work::Vectors(vectors) => Ok(vectors),
        _ => Err(internal()),
    }
}

fn of_classes(model: &Served) -> Result<&Classes, Refusal> {
    match &model.work {
        Work::Classes(classes) => Ok(classes),
        _ => Err(internal()),
    }
}

/// `POST /embed`.
pub(crate) async fn embed(call: Call) -> Result<Response, Refusal> {
    let fields = call.json()?;
    embed_fields(&call, fields).await
}

async fn embed_fields(call: &Call, mut fields: Fields) -> Result<Response, Refusal> {
    let texts = fields.texts("inputs", call.app.settings.max_texts)?;
    let texts = texts.ok_or_else(|| missing("inputs"))?;
    let embedding = Embedding {
        prompt: fields.text("prompt_name")?,
        long: long(&mut fields)?,
        dimensions: fields.count("dimensions", 1..=1 << 20)?,
        // TEI's are of length 1 unless they are not to be.
        normalize: fields.flag("normalize")?.unwrap_or(true),
    };
    fields.nothing_left()?;
    if texts.texts.is_empty() {
        return Err(Refusal::bad("`inputs` has no text").in_field("inputs"));
    }
    let model = vectors(call)?;
    let found = embedding
        .of(call, (&model, of_vectors(&model)?), texts.texts)
        .await?;
    Ok(answered(&model, found.1, &found.0))
}

/// `POST /`: what the only model here does, as Hugging Face's clients ask for it.
pub(crate) async fn root(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let inputs = fields.value("inputs").ok_or_else(|| missing("inputs"))?;
    let mut parameters = fields.object("parameters")?.unwrap_or_default();
    fields.ignore(&["options"]);
    let all = std::mem::take(&mut fields);
    parameters = parameters.or(all);
    match inputs {
        Value::Object(_) => {
            parameters.put("inputs", inputs);
            similarity_fields(&call, parameters).await
        }
        inputs => {
            parameters.put("inputs", inputs);
            match vectors(&call) {
                Ok(_) => embed_fields(&call, parameters).await,
                Err(_) => predict_fields(&call, parameters).await,
            }
        }
    }
}

/// `POST /similarity`.
pub(crate) async fn similarity(call: Call) -> Result<Response, Refusal> {
    let fields = call.json()?;
    similarity_fields(&call, fields).await
}

async fn similarity_fields(call: &Call, mut fields: Fields) -> Result<Response, Refusal> {
    let mut inputs = fields.object("inputs")?.ok_or_else(|| missing("inputs"))?;
    let mut parameters = fields.object("parameters")?.unwrap_or_default();
    let source = inputs.needed_text("source_sentence")?;
    let sentences = inputs.texts("sentences", call.app.settings.max_texts)?;
    let sentences = sentences.ok_or_else(|| missing("sentences"))?;
    inputs.nothing_left()?;
    let embedding = Embedding {
        prompt: parameters.text("prompt_name")?,
        long: long(&mut parameters)?,
        dimensions: None,
        normalize: false,
    };
    parameters.nothing_left()?;
    fields.nothing_left()?;
    let model = vectors(call)?;
    let vectors = of_vectors(&model)?;
    let texts = std::iter::once(source).chain(sentences.texts).collect();
    let (found, tokens) = embedding.of(call, (&model, vectors), texts).await?;
    let (first, others) = found.split_first().ok_or_else(internal)?;
    let scores: Vec<f32> = others
        .iter()
        .map(|other| vectors.encoder.similarity(first, other))
        .collect();
    Ok(answered(&model, tokens, &json!(scores)))
}

/// `POST /rerank`.
pub(crate) async fn rerank(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let query = fields.needed_text("query")?;
    let texts = fields.texts("texts", call.app.settings.max_texts)?;
    let texts = texts.ok_or_else(|| missing("texts"))?;
    let long = long(&mut fields)?;
    let with_text = fields.flag("return_text")?.unwrap_or(false);
    let raw = fields.flag("raw_scores")?.unwrap_or(false);
    fields.nothing_left()?;
    if texts.texts.is_empty() {
        return Err(Refusal::bad("`texts` has no text").in_field("texts"));
    }
    let model = classes(&call)?;
    let classes = of_classes(&model)?;
    let tokens = count_tokens(classes.classifier.tokenizer(), &texts.texts)?
        + query.len() / 4 * texts.texts.len();
    let _permit = call.admit(&model, &texts.texts, tokens)?;
    call.count_tokens(&model, "source", tokens);
    let gathered = Gathered {
        way: (Some(query), long),
        texts: texts.texts.clone(),
        tokens,
    };
    let found = classes
        .gatherer
        .compute(call.caller.client, gathered)
        .await?;
    let is_logit = matches!(
        classes.classifier.scores(),
        hexapla::config::ClassScores::Logits
    );
    let score = |scores: &Vec<f32>| {
        let score = scores.first().copied().unwrap_or(f32::NEG_INFINITY);
        // Where it is no probability already, and one is wanted.
        match is_logit && !raw {
            true => 1.0 / (1.0 + (-score).exp()),
            false => score,
        }
    };
    let mut ranks: Vec<(usize, f32)> = found.iter().map(score).enumerate().collect();
    ranks.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let ranked = ranks.into_iter().map(|(index, score)| match with_text {
        true => json!({"index": index, "score": score, "text": texts.texts[index]}),
        false => json!({"index": index, "score": score}),
    });
    Ok(answered(&model, tokens, &Value::Array(ranked.collect())))
}

/// `POST /predict`.
pub(crate) async fn predict(call: Call) -> Result<Response, Refusal> {
    let fields = call.json()?;
    predict_fields(&call, fields).await
}

async fn predict_fields(call: &Call, mut fields: Fields) -> Result<Response, Refusal> {
    let inputs = fields.value("inputs").ok_or_else(|| missing("inputs"))?;
    let long = long(&mut fields)?;
    let raw = fields.flag("raw_scores")?.unwrap_or(false);
    fields.nothing_left()?;
    let expected = "a text, or a list of lists of one text";
    // A list of texts is one text, or a pair; texts are several where each is a list.
    let one = |list: &[Value]| match list {
        [Value::String(text)] => Ok(text.clone()),
        [Value::String(_), Value::String(_)] => Err(Refusal::bad(
            "pairs of texts are ranked by `/rerank`; several texts are `[[\"a\"], [\"b\"]]`",
        )
        .in_field("inputs")),
        other => Err(wrong("inputs", expected, &Value::Array(other.to_vec()))),
    };
    let (texts, is_list) = match &inputs {
        Value::String(text) => (vec![text.clone()], false),
        Value::Array(list) if list.iter().any(Value::is_array) => {
            bounded("inputs", list.len(), call.app.settings.max_texts)?;
            let texts = list.iter().map(|inner| match inner {
                Value::Array(inner) => one(inner),
                other => Err(wrong("inputs", expected, other)),
            });
            (texts.collect::<Result<Vec<_>, _>>()?, true)
        }
        Value::Array(list) => (vec![one(list)?], false),
        other => return Err(wrong("inputs", expected, other)),
    };
    if texts.is_empty() {
        return Err(Refusal::bad("`inputs` has no text").in_field("inputs"));
    }
    let model = classes(call)?;
    let classes = of_classes(&model)?;
    if raw
        && !matches!(
            classes.classifier.scores(),
            hexapla::config::ClassScores::Logits
        )
    {
        return Err(Refusal::bad("the model gives probabilities alone").in_field("raw_scores"));
    }
    let tokens = count_tokens(classes.classifier.tokenizer(), &texts)?;
    let _permit = call.admit(&model, &texts, tokens)?;
    call.count_tokens(&model, "source", tokens);
    let gathered = Gathered {
        way: (None, long),
        texts,
        tokens,
    };
    let found = classes
        .gatherer
        .compute(call.caller.client, gathered)
        .await?;
    let labels = classes.classifier.labels();
    let of_text = |scores: &Vec<f32>| {
        let mut all: Vec<(&String, f32)> = labels.iter().zip(scores.iter().copied()).collect();
        all.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        let all = all
            .into_iter()
            .map(|(label, score)| json!({"label": label, "score": score}));
        Value::Array(all.collect())
    };
    let mut answers: Vec<Value> = found.iter().map(of_text).collect();
    let answer = match is_list {
        true => Value::Array(answers),
        false => answers.pop().unwrap_or(Value::Null),
    };
    Ok(answered(&model, tokens, &answer))
}

/// The first model that has a tokenizer for encoders.
fn tokenizer_of(call: &Call) -> Result<Arc<Served>, Refusal> {
    vectors(call).or_else(|_| classes(call))
}

/// `POST /tokenize`.
pub(crate) async fn tokenize(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let texts = fields.texts("inputs", call.app.settings.max_texts)?;
    let texts = texts.ok_or_else(|| missing("inputs"))?;
    let special = fields.flag("add_special_tokens")?.unwrap_or(true);
    if fields.text("prompt_name")?.is_some() {
        return Err(Refusal::bad("`prompt_name` is not supported here").in_field("prompt_name"));
    }
    fields.nothing_left()?;
    let model = tokenizer_of(&call)?;
    let tokenizer = model.encoder_tokenizer().ok_or_else(internal)?;
    let tokens = count_tokens(tokenizer, &texts.texts)?;
    let _permit = call.admit(&model, &texts.texts, tokens)?;
    let of_text = |text: &String| -> Result<Vec<Told>, Refusal> {
        let whole = tokenizer.finish(tokenizer.tokens(text)?, None)?;
        // Offsets are counted in characters there; bytes only go on.
        let (mut bytes, mut characters) = (0, 0);
        let mut count = |to: usize| {
            if to < bytes {
                (bytes, characters) = (0, 0);
            }
            characters += text.get(bytes..to).map_or(0, |part| part.chars().count());
            bytes = to;
            characters
        };
        let mut all = Vec::new();
        for (id, range) in whole.ids.iter().zip(&whole.bytes) {
            // What stands around a text has no place in it.
            let is_special = range.is_empty();
            if is_special && !special {
                continue;
            }
            all.push(Told {
                id: *id,
                text: match is_special {
                    true => tokenizer.id_to_token(*id).unwrap_or_default(),
                    false => text.get(range.clone()).unwrap_or_default().to_string(),
                },
                special: is_special,
                start: (!is_special).then(|| count(range.start)),
                stop: (!is_special).then(|| count(range.end)),
            });
        }
        Ok(all)
    };
    let all = tokio::task::block_in_place(|| {
        let all = texts.texts.iter().map(of_text);
        all.collect::<Result<Vec<_>, _>>()
    })?;
    Ok(answered(&model, tokens, &all))
}

/// A token, as TEI tells it.
#[derive(Serialize)]
struct Told {
    id: u32,
    text: String,
    special: bool,
    start: Option<usize>,
    stop: Option<usize>,
}

/// `POST /decode`.
pub(crate) async fn decode(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.json()?;
    let ids = fields.value("ids").ok_or_else(|| missing("ids"))?;
    let skip = fields.flag("skip_special_tokens")?.unwrap_or(true);
    fields.nothing_left()?;
    let model = tokenizer_of(&call)?;
    let tokenizer = model.encoder_tokenizer().ok_or_else(internal)?;
    let expected = "a list of token ids of the model, or a list of such lists";
    let read = |list: &[Value]| -> Option<Vec<u32>> {
        let id = |id: &Value| u32::try_from(id.as_u64()?).ok();
        list.iter().map(id).collect()
    };
    let Value::Array(list) = &ids else {
        return Err(wrong("ids", expected, &ids));
    };
    let lists: Option<Vec<Vec<u32>>> = match list.first() {
        Some(Value::Array(_)) => list
            .iter()
            .map(|one| one.as_array().and_then(|one| read(one)))
            .collect(),
        _ => read(list).map(|one| vec![one]),
    };
    let lists = lists.ok_or_else(|| wrong("ids", expected, &ids))?;
    let decoded = lists.iter().map(|ids| tokenizer.decode(ids, skip));
    let texts = decoded.collect::<hexapla::Result<Vec<String>>>()?;
    Ok(answered(&model, 0, &json!(texts)))
}

/// `GET /info`.
pub(crate) async fn info(call: Call) -> Result<Response, Refusal> {
    let model = tokenizer_of(&call)?;
    let settings = &call.app.settings;
    let (kind, most) = match &model.work {
        Work::Vectors(vectors) => (
            json!({"embedding": {"pooling": "model"}}),
            Some(vectors.encoder.max_tokens()),
        ),
        Work::Classes(classes) => {
            let labels = classes.classifier.labels();
            let ids = labels.iter().enumerate();
            let id2label: serde_json::Map<String, Value> = ids
                .clone()
                .map(|(id, label)| (id.to_string(), json!(label)))
                .collect();
            let label2id: serde_json::Map<String, Value> =
                ids.map(|(id, label)| (label.clone(), json!(id))).collect();
            let name = if labels.len() == 1 {
                "reranker"
            } else {
                "classifier"
            };
            (
                json!({name: {"id2label": id2label, "label2id": label2id}}),
                Some(classes.classifier.max_tokens()),
            )
        }
        _ => return Err(internal()),
    };
    let answer = json!({
        "model_id": model.name(),
        "model_sha": model.fingerprint,
        "model_dtype": model.settings.compute_type.to_string(),
        "model_type": kind,
        "max_concurrent_requests": settings.max_connections,
        "max_input_length": most.filter(|most| *most < usize::MAX),
        "max_batch_tokens": model.settings.max_tokens,
        "max_client_batch_size": settings.max_texts,
        "auto_truncate": false,
        "tokenization_workers": 1,
        "version": env!("CARGO_PKG_VERSION"),
    });
    Ok(answered(&model, 0, &answer))
}
