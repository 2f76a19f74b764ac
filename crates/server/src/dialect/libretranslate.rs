//! LibreTranslate's interface (1.9): `/translate`, `/detect`, `/languages`, `/frontend/settings`.

use axum::http::StatusCode;
use axum::response::Response;
use hexapla::text::language;
use serde_json::{Value, json};

use super::json_response;
use crate::call::Call;
use crate::fields::{Fields, missing};
use crate::languages;
use crate::models::{Models, Served, Work};
use crate::refusal::Refusal;
use crate::translating::{Asked, Translating};

/// A refusal as LibreTranslate tells it.
pub(super) fn refusal(refusal: &Refusal) -> (StatusCode, Value) {
    let (status, message) = match (refusal.status, refusal.code) {
        // A key that is missing is a bad request to it, and a wrong one is forbidden.
        (StatusCode::UNAUTHORIZED, Some("missing_api_key")) => (
            StatusCode::BAD_REQUEST,
            "Please contact the server operator to get an API key".to_string(),
        ),
        (StatusCode::UNAUTHORIZED, _) => (StatusCode::FORBIDDEN, "Invalid API key".to_string()),
        (StatusCode::TOO_MANY_REQUESTS, _) => {
            (refusal.status, format!("Slowdown: {}", refusal.message))
        }
        (status, _) => (status, refusal.message.clone()),
    };
    (status, json!({"error": message}))
}

/// One answer, or one for each of a list.
fn as_asked<T: Into<Value>>(is_list: bool, mut values: Vec<T>) -> Value {
    match is_list {
        true => Value::Array(values.into_iter().map(Into::into).collect()),
        false => values.pop().map_or(Value::Null, Into::into),
    }
}

/// `POST /translate`.
pub(crate) async fn translate(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.form().await?;
    let settings = &call.app.settings;
    let texts = fields.texts("q", settings.max_texts)?;
    let texts = texts.ok_or_else(|| missing("q"))?;
    let source = fields.needed_text("source")?;
    let target = fields.needed_text("target")?;
    let format = fields.text("format")?.unwrap_or_else(|| "text".to_string());
    let alternatives = fields.count("alternatives", 0..=settings.max_alternatives - 1)?;
    let alternatives = alternatives.unwrap_or(0);
    let wanted = Extension::read(&mut fields)?;
    fields.ignore(&["api_key", "secret", "origin"]);
    let is_html = match format.as_str() {
        "text" => false,
        "html" => true,
        other => return Err(Refusal::of_field("format", "`text` or `html`", other)),
    };
    let translating = Translating {
        source: languages::of_client(&source),
        target: languages::of_client(&target)
            .ok_or_else(|| Refusal::of_field("target", "a language", &target))?,
        alternatives,
        is_html,
        is_part: false,
        confidence: wanted.confidence,
        alignments: wanted.alignments,
        model: wanted.model,
    };
    let found = translating.of(&call, &texts.texts).await?;
    let mut answer = json!({
        "translatedText": as_asked(
            texts.is_list,
            found.iter().map(|asked| asked.text.clone()).collect(),
        ),
    });
    if translating.source.is_none() {
        let detected = found.iter().map(|asked| {
            let code = languages::to_client(&asked.source.language);
            json!({"language": code, "confidence": asked.source.confidence})
        });
        answer["detectedLanguage"] = as_asked(texts.is_list, detected.collect());
    }
    if alternatives > 0 {
        let all = found
            .iter()
            .map(|asked| Value::from(asked.alternatives.clone()));
        answer["alternatives"] = as_asked(texts.is_list, all.collect());
    }
    if wanted.asked {
        let all = found.iter().map(Asked::extension);
        answer["hexapla"] = as_asked(texts.is_list, all.collect());
    }
    Ok(Translating::named(
        &found,
        json_response(StatusCode::OK, &answer),
    ))
}

/// What is asked under this server's own name.
#[derive(Debug, Default)]
pub(crate) struct Extension {
    pub(crate) asked: bool,
    pub(crate) confidence: bool,
    pub(crate) alignments: bool,
    pub(crate) model: Option<String>,
}

impl Extension {
    /// The field `hexapla`, an object.
    pub(crate) fn read(fields: &mut Fields) -> Result<Self, Refusal> {
        let Some(mut own) = fields.object("hexapla")? else {
            return Ok(Extension::default());
        };
        let extension = Extension {
            asked: true,
            confidence: own.flag("confidence")?.unwrap_or(false),
            alignments: own.flag("alignments")?.unwrap_or(false),
            model: own.text("model")?,
        };
        own.nothing_left()?;
        Ok(extension)
    }
}

/// `POST /detect`.
pub(crate) async fn detect(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.form().await?;
    let texts = fields.texts("q", call.app.settings.max_texts)?;
    let texts = texts.ok_or_else(|| missing("q"))?;
    let characters = texts.texts.iter().map(|text| text.chars().count()).sum();
    call.caller.count_characters(characters)?;
    let all = |text: &String| {
        let detected = languages::detect(text, &language::CODES);
        json!([{"language": languages::to_client(&detected.language), "confidence": detected.confidence}])
    };
    // One text has a list of guesses; several have a list of such lists.
    let answer = tokio::task::block_in_place(|| {
        as_asked(texts.is_list, texts.texts.iter().map(all).collect())
    });
    Ok(json_response(StatusCode::OK, &answer))
}

fn translations(models: &Models) -> Vec<std::sync::Arc<Served>> {
    let all = models.all().into_iter();
    all.filter(|model| matches!(model.work, Work::Translation(_)))
        .collect()
}

/// `GET /languages`.
pub(crate) async fn languages(call: Call) -> Result<Response, Refusal> {
    let mut all: Vec<(String, Vec<String>)> = Vec::new();
    for model in translations(&call.app.models) {
        let Work::Translation(translation) = &model.work else {
            continue;
        };
        for pair in &translation.pairs {
            let target = languages::to_client(&pair.target);
            let source = languages::to_client(&pair.source);
            match all.iter_mut().find(|(known, _)| *known == source) {
                Some((_, targets)) if targets.contains(&target) => (),
                Some((_, targets)) => targets.push(target),
                None => all.push((source, vec![target])),
            }
        }
    }
    let list: Vec<Value> = all
        .into_iter()
        .map(|(code, targets)| json!({"code": code, "name": languages::name(&code), "targets": targets}))
        .collect();
    Ok(json_response(StatusCode::OK, &Value::Array(list)))
}

/// `GET /frontend/settings`.
pub(crate) async fn settings(call: Call) -> Result<Response, Refusal> {
    let app = &call.app;
    let first = translations(&app.models)
        .into_iter()
        .find_map(|model| match &model.work {
            Work::Translation(translation) => translation.pairs.first().cloned(),
            _ => None,
        });
    let language = |code: Option<&str>| {
        let code = code.map_or("auto".to_string(), languages::to_client);
        json!({"code": code, "name": match code.as_str() {
            "auto" => "Auto Detect".to_string(),
            code => languages::name(code),
        }})
    };
    let answer = json!({
        "apiKeys": app.keys.are_needed(),
        "keyRequired": app.keys.are_needed(),
        "charLimit": app.settings.max_body_bytes,
        "filesTranslation": false,
        "frontendTimeout": 500,
        "language": {
            "source": language(None),
            "target": language(first.as_ref().map(|pair| pair.target.as_str())),
        },
        "suggestions": false,
        "supportedFilesFormat": [],
    });
    Ok(json_response(StatusCode::OK, &answer))
}
