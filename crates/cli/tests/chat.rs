//! `hexapla chat`: what is said and kept, and what is refused.

mod common;

use std::fs;
use std::process::Stdio;

use common::{TestDir, decoder, text};
use serde_json::{Value, json};

/// Words of `decoder`'s tokenizer: users say w5, answers follow w6, a system text follows w7.
const TEMPLATE: &str = "\
{%- for m in messages %}
{%- if m.role == 'system' %}{{ 'w7 ' }}{% elif m.role == 'user' %}{{ 'w5 ' }}{% else %}{{ 'w6 ' }}{% endif %}
{{- m.content | trim }} {% endfor %}
{%- if add_generation_prompt %}{{ 'w6' }}{% endif %}{% if shout %}{{ ' w8 w8' }}{% endif %}";

fn talker() -> TestDir {
    let dir = decoder("llama_shared");
    dir.write("model/chat_template.jinja", TEMPLATE);
    dir
}

const ASKED: &str = "chat --model model --max-new-tokens 6";

/// What `generate` writes behind a text.
fn behind(dir: &TestDir, given: &str) -> String {
    let said = dir
        .command("generate --model model --max-new-tokens 6 --json")
        .arg(given)
        .output()
        .unwrap();
    let line: Value = serde_json::from_str(&text(&said.stdout)).unwrap();
    line["text"].as_str().unwrap().to_string()
}

fn fed(dir: &TestDir, args: &str, input: &str) -> (String, String, bool) {
    let out = dir.feed(args, input.as_bytes());
    (text(&out.stdout), text(&out.stderr), out.status.success())
}

#[test]
fn a_conversation_goes_on_is_saved_and_is_loaded() {
    let dir = talker();
    let first = behind(&dir, "w7 w20 w5 w9 w10 w6");
    let (told, _, _) = fed(
        &dir,
        &format!("{ASKED} --system w20 --save kept.json"),
        "w9 \\\nw10\n",
    );
    assert_eq!(told, format!("{first}\n"));
    let kept: Value = serde_json::from_str(&dir.read("kept.json")).unwrap();
    assert_eq!(
        kept,
        json!([
            {"role": "system", "content": "w20"},
            {"role": "user", "content": "w9 \nw10"},
            {"role": "assistant", "content": first},
        ])
    );
    // Whether it is loaded again, said at once, or line by line, the second answer knows the first.
    let second = behind(
        &dir,
        &format!("w7 w20 w5 w9 w10 w6 {} w5 w11 w6", first.trim()),
    );
    let (told, _) = dir.accept(&format!("{ASKED} w11 --load kept.json"));
    assert_eq!(told, format!("{second}\n"));
    let mut lines = dir.command(&format!("{ASKED} --system w20"));
    lines.args(["w9 \nw10", "w11"]);
    let told = text(&lines.output().unwrap().stdout);
    assert_eq!(told, format!("{first}\n{second}\n"));
    // A conversation that waits for an answer gets it.
    let waiting = json!([{"role": "user", "content": "w9"}]);
    dir.write("waiting.json", waiting.to_string());
    let (told, _, _) = fed(&dir, &format!("{ASKED} --load waiting.json"), "");
    assert_eq!(told, behind(&dir, "w5 w9 w6") + "\n");
    // What a template knows beside the messages.
    let (told, _) = dir.accept(&format!("{ASKED} w9 --template-value shout=true"));
    assert_eq!(told, behind(&dir, "w5 w9 w6 w8 w8") + "\n");
    // `generate` takes conversations too.
    let messages = json!({"messages": [{"role": "user", "content": "w9"}]});
    dir.write("asked.jsonl", format!("{messages}\n\"w5 w9 w6\"\n"));
    let (told, _) =
        dir.accept("generate --model model --max-new-tokens 6 --json-lines asked.jsonl");
    let answers: Vec<Value> = told
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers[0]["text"], answers[1]["text"]);
    assert_eq!(answers[0]["text"], json!(behind(&dir, "w5 w9 w6")));
}

#[test]
fn lines_that_begin_with_a_slash_are_obeyed() {
    let dir = talker();
    let one = behind(&dir, "w5 w9 w6");
    let with_system = behind(&dir, "w7 w21 w5 w9 w6");
    let (told, said, _) = fed(
        &dir,
        ASKED,
        "w9\n/undo\nw9\n/retry\n/reset\n\nw9\n/reset\n/system w21\nw9\n/save a.json\n/help\n/exit\nw9\n",
    );
    let expected = [&one, &one, &one, &one, &with_system].map(|line| format!("{line}\n"));
    assert_eq!(told, expected.concat());
    assert!(said.contains("/retry"), "{said}");
    assert_eq!(dir.read("a.json").matches("role").count(), 3);
    // Each answer is drawn from a random stream of its own, and the whole conversation repeats itself.
    let drawn = format!("{ASKED} --temperature 1.5 --seed 3");
    let (told, _, _) = fed(&dir, &drawn, "w9\n/retry\n");
    let answers: Vec<&str> = told.lines().collect();
    assert!(answers.len() == 2 && answers[0] != answers[1], "{told}");
    assert_eq!(fed(&dir, &drawn, "w9\n/retry\n").0, told);
    for line in ["/sing", "/undo", "/retry", "/save"] {
        let (_, said, well) = fed(&dir, ASKED, &format!("{line}\n"));
        assert!(
            !well && said.contains("error: ") && said.contains("hint: "),
            "{said}"
        );
    }
}

#[test]
fn a_conversation_that_is_too_long_is_refused_or_loses_its_beginning() {
    let dir = talker();
    let long = |n: usize| vec!["w9"; n].join(" ");
    let lines = format!("{}\n{}\n{}\n", long(20), long(20), long(20));
    let (told, said, well) = fed(&dir, &format!("{ASKED} --save kept.json"), &lines);
    assert!(!well && said.contains("--drop-oldest"), "{said}");
    // What was answered is kept, and what was not is no part of it.
    let kept = dir.read("kept.json");
    assert_eq!(kept.matches("user").count(), told.lines().count());
    let (told, said, well) = fed(&dir, &format!("{ASKED} --drop-oldest"), &lines);
    assert!(well && said.contains("left out"), "{said}");
    assert_eq!(told.lines().count(), 3);
    let (_, said, well) = fed(&dir, &format!("{ASKED} --drop-oldest"), &long(70));
    assert!(!well && said.contains("1 to 60 tokens"), "{said}");
}

#[test]
fn what_is_no_conversation_is_refused() {
    let dir = talker();
    dir.write("broken.json", "[{\"role\": \"user\"}]");
    dir.write("other.json", "[{\"role\": \"tool\", \"content\": \"w9\"}]");
    for (args, said) in [
        ("w9 --model nowhere", "no model folder"),
        ("w9 --model model --n 2", "--n"),
        ("w9 --model model --load nowhere.json", "nowhere.json"),
        ("w9 --model model --load broken.json", "broken.json"),
        ("w9 --model model --save nowhere/a.json", "nowhere/a.json"),
        (
            "w9 --model model --template-value shout",
            "--template-value",
        ),
        ("w9 --model model --template-value shout=yes", "shout=yes"),
        ("w9 --model model --temperature nan", "temperature"),
    ] {
        let told = dir.refuse(&format!("chat {args}"));
        assert!(told.contains(said), "{args}: {told}");
    }
    // A conversation that is there stays until there is an answer.
    dir.write("kept.json", "[]");
    dir.write("broken.toml", "");
    for model in ["nowhere", "broken.toml"] {
        dir.refuse(&format!("chat w9 --model {model} --save kept.json"));
    }
    let long = vec!["w9"; 70].join(" ");
    dir.write("kept.json", "[{\"role\": \"user\", \"content\": \"w3\"}]");
    let before = dir.read("kept.json");
    fed(&dir, &format!("{ASKED} --save kept.json"), &long);
    assert_eq!(dir.read("kept.json"), before);
    // Templates that are none, that refuse, that run on, and none at all.
    for (template, said) in [
        ("{% for", "line 1"),
        ("{{ raise_exception('no such role') }}", "no such role"),
        (
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
            "runs on and on",
        ),
    ] {
        dir.write("model/chat_template.jinja", template);
        let told = dir.refuse(ASKED.replace("chat", "chat w9").as_str());
        assert!(told.contains(said), "{told}");
    }
    fs::remove_file(dir.path("model/chat_template.jinja")).unwrap();
    let told = dir.refuse("chat w9 --model model");
    assert!(told.contains("hexapla generate"), "{told}");
    // The template may stand where it stood before it had a file of its own, beside its tokens.
    let settings = json!({"bos_token": "w3", "chat_template": [{"name": "tools", "template": "no"}, {"name": "default", "template": "{{ bos_token }} w9"}]});
    dir.write("model/tokenizer_config.json", settings.to_string());
    let (told, _) = dir.accept(ASKED.replace("chat", "chat w8").as_str());
    assert_eq!(told, behind(&dir, "w3 w9") + "\n");
}

#[test]
fn a_reader_who_goes_away_ends_it() {
    let dir = talker();
    let mut child = dir
        .command("chat w9 w10 w11 --model model --max-new-tokens 20")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}
