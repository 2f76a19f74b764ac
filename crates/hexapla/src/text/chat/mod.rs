//! Conversations as the text that a model was trained on: chat templates, in Jinja, as the library transformers renders them.

mod python;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use minijinja::machinery::{Token, tokenize};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Serde, Value};
use minijinja::{AutoEscape, Environment, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::files::Folder;

const TEMPLATE: &str = "chat_template.jinja";
const SETTINGS: &str = "tokenizer_config.json";
/// Longest template in bytes; those of models have a few thousand.
const MAX_BYTES: usize = 1 << 20;
/// What a template may spend: about one for each instruction, and for each 64 bytes that it makes.
const FUEL: u64 = 500_000;
/// Longest expression in tokens: what is nested deeper than it is long does not exist.
const MAX_TOKENS: usize = 1000;
/// Most branches of all conditions together, each of which may stand inside the one before.
const MAX_BRANCHES: usize = 2000;
/// Bytes of the stack on which a template runs: values may be nested as deep as `FUEL` allows.
const STACK: usize = 256 << 20;
/// The name under which the one template is known.
const NAME: &str = "chat";

/// One turn of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Message {
    /// Who speaks: `system`, `user` or `assistant`; what others a model knows, its template tells.
    pub role: String,
    /// What is said.
    pub content: String,
}

impl Message {
    /// What the one in this role says.
    pub fn new(role: &str, content: impl Into<String>) -> Self {
        Message {
            role: role.into(),
            content: content.into(),
        }
    }
}

/// Values that a template knows beside the conversation, such as `enable_thinking`, as JSON.
pub type Values = BTreeMap<String, Box<RawValue>>;

/// How a model's makers put conversations down. A template makes text and can do nothing else: it knows no file and no network, and
/// ends with an error where it would run long.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Special tokens by their names in a template, such as `bos_token`.
    tokens: BTreeMap<String, String>,
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("tokens", &self.tokens)
            .finish_non_exhaustive()
    }
}

impl ChatTemplate {
    /// A template, and the special tokens that it may name (`bos_token`, `eos_token`, …).
    ///
    /// # Errors
    /// It is too long, or no Jinja; the error says in which line.
    pub fn new(source: &str, tokens: BTreeMap<String, String>) -> Result<Self> {
        if source.len() > MAX_BYTES {
            return Err(refused()
                .expected(format!("at most {MAX_BYTES} bytes"))
                .found(format!("{} bytes", source.len())));
        }
        let source = python::rewritten(source);
        check(&source)?;
        let mut environment = environment();
        deep(|| {
            let added = environment.add_template_owned(NAME, source);
            added.map_err(|e| of_template(&e))
        })??;
        Ok(ChatTemplate {
            environment,
            tokens,
        })
    }

    /// The text of a conversation; with `answer` up to where the model's answer begins.
    ///
    /// # Errors
    /// What the template refuses (two turns of one speaker, …), or it runs too long.
    pub fn render(&self, messages: &[Message], answer: bool, values: &Values) -> Result<String> {
        let mut context: BTreeMap<&str, Value> = BTreeMap::new();
        context.extend(self.tokens.iter().map(|(k, v)| (k.as_str(), v.into())));
        context.insert("tools", Value::from(()));
        context.insert("documents", Value::from(()));
        for (name, value) in values {
            // In the order of the text.
            let value: Value = serde_json::from_str(value.get()).map_err(|e| {
                let at = format!("the template's value `{name}`");
                refused().at(at).expected("JSON").found(e.to_string())
            })?;
            context.insert(name, value);
        }
        context.insert("messages", Value::from(Serde(messages)));
        context.insert("add_generation_prompt", answer.into());
        deep(|| {
            let template = self.environment.get_template(NAME);
            let rendered = template.and_then(|template| template.render(context));
            // An error may hold values too.
            rendered.map_err(|e| of_template(&e))
        })?
    }
}

/// What a model's folder says of conversations, as text: it is read as Jinja once somebody asks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ChatSettings {
    pub(crate) template: Option<String>,
    pub(crate) tokens: BTreeMap<String, String>,
}

impl ChatSettings {
    /// Those of a folder, or among the files that would lie beside a model.
    pub(crate) fn read(folder: &Folder, files: &BTreeMap<String, Vec<u8>>) -> Result<Self> {
        let text = |name: &str| -> Result<Option<String>> {
            let bytes = match files.get(name) {
                Some(bytes) => bytes.clone(),
                None if files.is_empty() && folder.contains(name) => {
                    folder.read(name, MAX_BYTES as u64 * 16)?.into_owned()
                }
                None => return Ok(None),
            };
            let text = String::from_utf8(bytes).map_err(|e| {
                refused()
                    .at(folder.path_of(name).display().to_string())
                    .expected("UTF-8")
                    .found(e.to_string())
            })?;
            Ok(Some(text))
        };
        let settings: Json = match text(SETTINGS)? {
            Some(settings) => serde_json::from_str(&settings).unwrap_or_default(),
            None => Json::Null,
        };
        let template = match text(TEMPLATE)? {
            Some(template) => Some(template),
            None => template_of(&settings["chat_template"]),
        };
        let named = settings.as_object().into_iter().flatten();
        let tokens = named.filter(|(name, _)| name.ends_with("_token"));
        let tokens = tokens.filter_map(|(name, token)| {
            let text = token.as_str().or_else(|| token["content"].as_str())?;
            Some((name.clone(), text.to_string()))
        });
        Ok(ChatSettings {
            template,
            tokens: tokens.collect(),
        })
    }

    /// The template, ready for use.
    pub(crate) fn template(&self) -> Result<ChatTemplate> {
        let Some(source) = &self.template else {
            return Err(refused()
                .expected(format!("{TEMPLATE}, or `chat_template` in {SETTINGS}"))
                .found("none")
                .hint("a model that was not trained on conversations goes on with texts: `hexapla generate`"));
        };
        ChatTemplate::new(source, self.tokens.clone())
    }
}

/// One template, or the one called `default` of several.
fn template_of(setting: &Json) -> Option<String> {
    let of_several = || {
        let several = setting.as_array()?;
        let found = several.iter().find(|one| one["name"] == "default")?;
        found["template"].as_str()
    };
    setting.as_str().or_else(of_several).map(String::from)
}

/// What `work` gives, on a stack of its own that is deep enough for it.
fn deep<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    let failed = |found: &str| Error::internal("a template cannot be run").found(found);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|e| failed(&e.to_string()))?;
        thread.join().map_err(|_| failed("a panic"))
    })
}

/// Refuses what a parser or a printer could go down in without end: long expressions, and namespaces that could hold themselves.
fn check(source: &str) -> Result<()> {
    let mut tokens = Vec::new();
    for token in tokenize(source, false, SyntaxConfig::default()) {
        let (token, span) = token.map_err(|e| of_template(&e))?;
        tokens.push((token, span.start_line));
    }
    let refuse = |line: u16, expected: String, found: &str| {
        Err(refused()
            .at(format!("chat template, line {line}"))
            .expected(expected)
            .found(found.chars().take(60).collect::<String>())
            .hint("a template that conversations need is far from these bounds"))
    };
    let name = |i: usize| match tokens.get(i) {
        Some((Token::Ident(name), _)) => Some(*name),
        _ => None,
    };
    let is = |i: usize, is: fn(&Token) -> bool| tokens.get(i).is_some_and(|(token, _)| is(token));
    let creates = |i: usize| {
        name(i) == Some("set")
            && is(i + 2, |t| matches!(t, Token::Assign))
            && name(i + 3) == Some("namespace")
            && is(i + 4, |t| matches!(t, Token::ParenOpen))
    };
    let namespaces: BTreeSet<&str> = (0..tokens.len())
        .filter(|i| creates(*i))
        .filter_map(|i| name(i + 1))
        .collect();
    let (mut length, mut branches) = (0, 0);
    for (i, (token, line)) in tokens.iter().enumerate() {
        length = match token {
            Token::TemplateData(_) | Token::BlockStart | Token::VariableStart => 0,
            _ => length + 1,
        };
        if length > MAX_TOKENS {
            let expected = format!("expressions of at most {MAX_TOKENS} tokens");
            return refuse(*line, expected, "a longer one");
        }
        let Token::Ident(found) = token else { continue };
        branches += usize::from(matches!(*found, "elif" | "else"));
        if branches > MAX_BRANCHES {
            let expected = format!("at most {MAX_BRANCHES} `elif` and `else`");
            return refuse(*line, expected, "more");
        }
        let before = i.checked_sub(1);
        let is_attribute = before.is_some_and(|i| is(i, |t| matches!(t, Token::Dot)));
        let is_argument = is(i + 1, |t| matches!(t, Token::Assign))
            && before.is_some_and(|i| is(i, |t| matches!(t, Token::ParenOpen | Token::Comma)));
        if is_attribute || is_argument {
            continue;
        }
        let is_created = before.is_some_and(creates);
        let has_attribute = is(i + 1, |t| matches!(t, Token::Dot | Token::BracketOpen));
        if namespaces.contains(found) && !is_created && !has_attribute {
            return refuse(*line, "attributes of a namespace".into(), found);
        }
        if *found == "namespace" && !i.checked_sub(3).is_some_and(creates) {
            return refuse(*line, "`set name = namespace(…)`".into(), found);
        }
    }
    Ok(())
}

fn environment() -> Environment<'static> {
    let mut environment = Environment::new();
    let mut syntax = SyntaxConfig::builder();
    // The usual delimiters go together.
    if let Ok(syntax) = syntax.trim_blocks(true).lstrip_blocks(true).build() {
        environment.set_syntax(syntax);
    }
    environment.set_auto_escape_callback(|_| AutoEscape::None);
    environment.set_unknown_method_callback(python::method);
    environment.set_fuel(Some(FUEL));
    environment.add_function(
        "raise_exception",
        |message: String| -> std::result::Result<Value, minijinja::Error> {
            Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
        },
    );
    environment.add_function("strftime_now", python::strftime_now);
    environment.set_formatter(python::print);
    environment.add_filter("tojson", python::to_json);
    environment.add_filter("string", python::string);
    environment.add_test("iterable", python::is_iterable);
    environment.add_test("sequence", python::is_iterable);
    environment
}

fn refused() -> Error {
    Error::model("the conversation cannot be put down").at("chat template")
}

/// What went wrong in a template, with its line.
fn of_template(error: &minijinja::Error) -> Error {
    let line = error
        .line()
        .map_or(String::new(), |n| format!(", line {n}"));
    let found = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "one that runs on and on".to_string(),
        (_, Some(detail)) => detail.chars().take(300).collect(),
        (kind, None) => kind.to_string(),
    };
    Error::model("the conversation cannot be put down")
        .at(format!("chat template{line}"))
        .expected("a template that makes text of these messages")
        .found(found)
        .hint("templates refuse roles and orders that their model was not trained on")
}
