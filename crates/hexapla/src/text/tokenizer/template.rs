//! What a `tokenizer.json` puts around a text: its post-processor.

use serde_json::Value;

use crate::error::{Error, Result};

/// Ids before and after those of the text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Template {
    pub(super) before: Vec<u32>,
    pub(super) after: Vec<u32>,
    /// How many tokens it all is filled up to, and with which.
    pub(super) padding: Option<(usize, u32)>,
}

/// Reads the post-processor of a tokenizer; nothing is put around a text where there is none.
///
/// # Errors
/// It is of a kind that is not known here, or contradicts itself: what it adds is part of the model's input.
pub(super) fn read(tokenizer: &Value) -> Result<Template> {
    let mut template = Template::default();
    add(&tokenizer["post_processor"], &mut template)?;
    Ok(template)
}

fn add(processor: &Value, template: &mut Template) -> Result<()> {
    match processor["type"].as_str() {
        None if processor.is_null() => Ok(()),
        // Moves offsets, and adds nothing.
        Some("ByteLevel") => Ok(()),
        Some("Sequence") => processor["processors"]
            .as_array()
            .into_iter()
            .flatten()
            .try_for_each(|inner| add(inner, template)),
        Some("BertProcessing" | "RobertaProcessing") => {
            let id = |key: &str| as_id(&processor[key][1]).ok_or_else(|| refused(processor, key));
            template.before.insert(0, id("cls")?);
            template.after.push(id("sep")?);
            Ok(())
        }
        Some("TemplateProcessing") => add_template(processor, template),
        _ => Err(refused(processor, "type")),
    }
}

fn add_template(processor: &Value, template: &mut Template) -> Result<()> {
    let wrong = || refused(processor, "single");
    let parts = processor["single"].as_array().ok_or_else(wrong)?;
    let (mut before, mut after, mut texts) = (Vec::new(), Vec::new(), 0);
    for part in parts {
        if part["Sequence"]["id"].as_str() == Some("A") {
            texts += 1;
            continue;
        }
        let name = part["SpecialToken"]["id"].as_str().ok_or_else(wrong)?;
        let ids = processor["special_tokens"][name]["ids"].as_array();
        let side = if texts == 0 { &mut before } else { &mut after };
        for id in ids.ok_or_else(wrong)? {
            side.push(as_id(id).ok_or_else(wrong)?);
        }
    }
    if texts != 1 {
        return Err(wrong());
    }
    // A later processor takes what the earlier ones made.
    before.append(&mut template.before);
    template.before = before;
    template.after.append(&mut after);
    Ok(())
}

fn as_id(value: &Value) -> Option<u32> {
    value.as_u64()?.try_into().ok()
}

fn refused(processor: &Value, key: &str) -> Error {
    Error::model("the tokenizer has a post-processor that is not known")
        .at(format!("post_processor.{key}"))
        .expected("TemplateProcessing with one `A` and known tokens, BertProcessing, RobertaProcessing, ByteLevel, or a Sequence of them")
        .found(processor[key].to_string().chars().take(80).collect::<String>())
        .hint("what it puts around a text would be missing from the model's input")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(processor: Value) -> Result<(Vec<u32>, Vec<u32>)> {
        let template = read(&json!({"post_processor": processor}))?;
        Ok((template.before, template.after))
    }

    #[test]
    fn what_is_put_around_a_text() {
        let special = |id: &str| json!({"SpecialToken": {"id": id, "type_id": 0}});
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let nllb = json!({
            "type": "TemplateProcessing",
            "single": [special("eng_Latn"), text, special("</s>")],
            "special_tokens": {"eng_Latn": {"ids": [4]}, "</s>": {"ids": [2]}},
        });
        assert_eq!(of(nllb.clone()).unwrap(), (vec![4], vec![2]));
        let roberta = json!({"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0]});
        assert_eq!(of(roberta).unwrap(), (vec![0], vec![2]));
        let sequence = json!({"type": "Sequence", "processors": [{"type": "ByteLevel"}, nllb]});
        assert_eq!(of(sequence).unwrap(), (vec![4], vec![2]));
        assert_eq!(of(Value::Null).unwrap(), (vec![], vec![]));
    }

    #[test]
    fn what_is_not_known_is_refused_by_name() {
        let text = json!({"Sequence": {"id": "A", "type_id": 0}});
        let unknown = json!({"SpecialToken": {"id": "x", "type_id": 0}});
        for (processor, name) in [
            (json!({"type": "Other"}), "Other"),
            (
                json!({"type": "TemplateProcessing", "single": [text, text], "special_tokens": {}}),
                "single",
            ),
            (
                json!({"type": "TemplateProcessing", "single": [text, unknown], "special_tokens": {}}),
                "single",
            ),
            (
                json!({"type": "BertProcessing", "cls": ["a", -1], "sep": ["b", 1]}),
                "cls",
            ),
        ] {
            let told = of(processor).unwrap_err().to_string();
            assert!(told.contains(name), "{told}");
        }
    }
}
