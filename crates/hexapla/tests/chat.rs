//! Conversations put down by templates, as transformers puts them down; and templates that are refused.

use std::collections::BTreeMap;
use std::time::Instant;

use hexapla::text::chat::{ChatTemplate, Message};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What `xtask/reference/chat.py` writes.
#[derive(Deserialize)]
struct Golden {
    tokens: BTreeMap<String, String>,
    templates: Vec<String>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    template: usize,
    messages: Vec<Message>,
    values: BTreeMap<String, Box<RawValue>>,
    answer: bool,
    text: Option<String>,
    error: Option<String>,
}

#[test]
fn conversations_are_those_of_transformers() {
    let golden = std::fs::read(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/golden/chat.json"
    ));
    let golden: Golden = serde_json::from_slice(&golden.unwrap()).unwrap();
    let (mut texts, mut errors) = (0, 0);
    for (number, case) in golden.cases.iter().enumerate() {
        let source = &golden.templates[case.template];
        let template = ChatTemplate::new(source, golden.tokens.clone()).unwrap();
        let found = template.render(&case.messages, case.answer, &case.values);
        match (&case.text, &case.error) {
            (Some(text), _) => {
                let found = found.unwrap_or_else(|e| panic!("case {number}: {e}"));
                assert_eq!(&found, text, "case {number}");
                texts += 1;
            }
            (None, error) => {
                let told = found.unwrap_err().to_string();
                let error = error.as_deref().unwrap();
                assert!(told.contains(error), "case {number}: {told}, {error}");
                errors += 1;
            }
        }
    }
    assert_eq!((texts, errors), (92, 8));
}

/// Prints lists of lists, 2⁴⁰ altogether, by `print`.
fn doubled(print: &str) -> String {
    let begin = "{% set ns = namespace(x=[1]) %}{% for i in range(40) %}{% set ns.x = [ns.x, ns.x] %}{% endfor %}";
    begin.to_string() + print
}

#[test]
fn templates_that_are_broken_or_do_not_end_are_refused() {
    let message = [Message::new("user", "Hello")];
    let render = |source: &str| {
        let template = ChatTemplate::new(source, BTreeMap::new())?;
        template.render(&message, true, &BTreeMap::new())
    };
    let started = Instant::now();
    for (source, said) in [
        ("a\n{% if", "line 2"),
        ("{% for x in messages %}", "chat template"),
        ("{{ nothing.at.all }}", "chat template"),
        ("{% include '/etc/passwd' %}", "chat template"),
        ("{% import 'os' as os %}", "chat template"),
        ("{{ messages.__class__.__mro__ }}", "chat template"),
        ("{{ raise_exception('not so') }}", "not so"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x{% endfor %}{% endfor %}{% endfor %}",
            "runs on and on",
        ),
        ("{{ 'a' * 1000000000 }}", "runs on and on"),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "chat template",
        ),
        // What a parser, a printer or a drop would go down in.
        (&format!("{{{{ {} }}}}", "(".repeat(100_000)), "1000 tokens"),
        (
            &format!("{{{{ {}1 }}}}", "-".repeat(100_000)),
            "1000 tokens",
        ),
        (
            &format!("{{{{ 1{} }}}}", "+1".repeat(100_000)),
            "1000 tokens",
        ),
        (
            &format!("{{{{ 1{} }}}}", "|a".repeat(100_000)),
            "1000 tokens",
        ),
        (&"{% if true %}".repeat(50_000), "chat template"),
        (
            &format!("{{% if a %}}{}{{% endif %}}", "{% elif a %}".repeat(80_000)),
            "2000 `elif`",
        ),
        (
            "{% set ns = namespace() %}{% set ns.x = ns %}{{ ns.x }}",
            "namespace",
        ),
        ("{% set f = namespace %}{% set ns = f() %}", "namespace"),
        (
            "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% for j in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}",
            "runs on and on",
        ),
        (
            "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
            "recursion",
        ),
        (&"x".repeat(10 << 20), "1048576 bytes"),
        // What grows as powers of two, or goes down without end, once it is put down.
        (&doubled("{{ ns.x }}"), "65536 parts"),
        (&doubled("{{ ns.x | tojson }}"), "65536 parts"),
        (&doubled("{{ ns.x | string | length }}"), "65536 parts"),
        (
            &doubled("{% set ns.m = {'a': ns.x} %}{{ ns.m }}"),
            "65536 parts",
        ),
        (
            "{% set ns = namespace(x=[]) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}{{ ns.x | tojson(indent=16) }}",
            "200 levels",
        ),
    ] {
        let shown = &source[..source.len().min(60)];
        let told = render(source).unwrap_err().to_string();
        assert!(told.contains(said), "{shown}: {told}");
    }
    // As deep as it goes, and as long.
    let deep = "{% set ns = namespace(x=[]) %}{% for i in range(5) %}{% for j in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
    let source = format!("{deep}{{{{ ns.x == ns.x }}}}");
    render(&source).unwrap();
    render(&format!("{{{{ {}1 }}}}", "-".repeat(990))).unwrap();
    let branches = "{% elif a %}".repeat(1900);
    render(&format!("{{% if a %}}{branches}{{% endif %}}")).unwrap();
    // No machine takes a minute for bounded work.
    assert!(started.elapsed().as_secs() < 60);
}
