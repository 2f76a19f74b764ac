//! DeepL's interface, version 2: translate, languages, usage.

use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::json_response;
use crate::call::Call;
use crate::fields::missing;
use crate::languages;
use crate::models::Work;
use crate::refusal::Refusal;
use crate::translating::Translating;

/// A refusal as DeepL tells it.
pub(super) fn refusal(refusal: &Refusal) -> (StatusCode, Value) {
    let status = match refusal.status {
        // A key that is not known is forbidden to it.
        StatusCode::UNAUTHORIZED => StatusCode::FORBIDDEN,
        status => status,
    };
    let mut body = json!({"message": refusal.message});
    if let Some(field) = &refusal.field {
        body["detail"] = json!(format!("field: {field}"));
    }
    (status, body)
}

/// Texts of a request, as DeepL has it.
const TEXTS: usize = 50;

/// Fields that change nothing here.
const IGNORED: [&str; 7] = [
    "auth_key",
    "show_billed_characters",
    "preserve_formatting",
    "outline_detection",
    "context",
    "model_type",
    "enable_beta_languages",
];

/// `POST /v2/translate`.
pub(crate) async fn translate(call: Call) -> Result<Response, Refusal> {
    let mut fields = call.form().await?;
    let texts = fields
        .texts("text", TEXTS)?
        .ok_or_else(|| missing("text"))?;
    let target = fields.needed_text("target_lang")?;
    let source = fields.text("source_lang")?;
    let tags = fields.text("tag_handling")?;
    fields.ignore(&IGNORED);
    for name in ["formality", "split_sentences"] {
        let value = fields.value(name);
        let value = value.as_ref().and_then(Value::as_str).unwrap_or_default();
        let is_usual = [
            "",
            "default",
            "prefer_more",
            "prefer_less",
            "1",
            "nonewlines",
        ];
        if !is_usual.contains(&value) {
            return Err(Refusal::bad(format!("`{name}` cannot be {value} here")).in_field(name));
        }
    }
    fields.nothing_left()?;
    let is_html = match tags.as_deref() {
        None | Some("") => false,
        Some("html") => true,
        Some(other) => return Err(Refusal::of_field("tag_handling", "`html`", other)),
    };
    let translating = Translating {
        source: source.as_deref().and_then(languages::of_client),
        target: languages::of_client(&target)
            .ok_or_else(|| Refusal::of_field("target_lang", "a language", &target))?,
        is_html,
        ..Translating::default()
    };
    let found = translating.of(&call, &texts.texts).await?;
    let translations: Vec<Value> = found
        .iter()
        .zip(&texts.texts)
        .map(|(asked, text)| {
            json!({
                "detected_source_language": asked.source.language.to_uppercase(),
                "text": asked.text,
                "billed_characters": text.chars().count(),
                "model_type_used": "quality_optimized",
            })
        })
        .collect();
    let answer = json!({"translations": translations});
    Ok(Translating::named(
        &found,
        json_response(StatusCode::OK, &answer),
    ))
}

/// `GET /v2/languages`.
pub(crate) async fn languages(call: Call) -> Result<Response, Refusal> {
    // Its own client sends a body even here.
    let mut fields = call.form().await?;
    let kind = fields.text("type")?.unwrap_or_else(|| "source".to_string());
    let is_target = match kind.as_str() {
        "source" => false,
        "target" => true,
        other => return Err(Refusal::of_field("type", "`source` or `target`", other)),
    };
    let mut codes: Vec<String> = Vec::new();
    for model in call.app.models.all() {
        if let Work::Translation(translation) = &model.work {
            for pair in &translation.pairs {
                let code = if is_target {
                    &pair.target
                } else {
                    &pair.source
                };
                codes.extend(Some(code.clone()).filter(|code| !codes.contains(code)));
            }
        }
    }
    codes.sort();
    let list: Vec<Value> = codes
        .iter()
        .map(|code| {
            let mut language = json!({
                "language": match (code.as_str(), is_target) {
                    ("en", true) => "EN-US".to_string(),
                    ("zh", true) => "ZH-HANS".to_string(),
                    (code, _) => code.to_uppercase(),
                },
                "name": languages::name(code),
            });
            if is_target {
                language["supports_formality"] = json!(false);
            }
            language
        })
        .collect();
    Ok(json_response(StatusCode::OK, &Value::Array(list)))
}

/// `GET /v2/usage`: nothing is billed here, and nothing counted for longer than a minute.
pub(crate) async fn usage(call: Call) -> Result<Response, Refusal> {
    let limit = call.caller.characters_per_minute();
    let limit = limit.map_or(1_000_000_000_000_u64, u64::from);
    let answer = json!({"character_count": 0, "character_limit": limit});
    Ok(json_response(StatusCode::OK, &answer))
}
