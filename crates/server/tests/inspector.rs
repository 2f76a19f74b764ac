//! The live page over HTTP: what it answers, and whom it refuses.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hexapla::generate::translator::Translator;
use hexapla_server::{Inspector, serve};
use serde_json::{Value, json};

/// Where the server is, and the secret part of its address.
#[derive(Clone)]
struct At {
    host: String,
    path: String,
}

/// A server of the embedded model, for as long as the test runs.
fn start() -> At {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/demo");
        let model = Translator::builder()
            .to("en")
            .open(folder.as_path())
            .unwrap();
        let inspector = Inspector {
            name: "demo".into(),
            translate: model.options(),
            model,
            language: None,
            text: "我爱你。".into(),
        };
        let listen = "127.0.0.1:0".parse().unwrap();
        serve(inspector, listen, |address| {
            sender.send(address.to_string()).unwrap();
            Ok(())
        })
        .unwrap();
    });
    let address = receiver.recv().unwrap();
    let rest = address.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    At {
        host: host.into(),
        path: format!("/{path}"),
    }
}

/// Sends `bytes` and reads all that comes: the status, and what stands behind the head.
fn send(at: &At, bytes: &[u8]) -> (u16, String) {
    let mut stream = TcpStream::connect(&at.host).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    // A server that refuses need not read to the end.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer.get(9..12).and_then(|s| s.parse().ok()).unwrap_or(0);
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    (status, body.to_string())
}

fn request(at: &At, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String) {
    let length = body.len();
    let mut bytes = format!(
        "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n",
        at.host
    )
    .into_bytes();
    bytes.extend(body);
    send(at, &bytes)
}

fn ask(at: &At, asked: &Value) -> (u16, Value) {
    let path = format!("{}explain", at.path);
    let json = "Content-Type: application/json\r\n";
    let (status, body) = request(at, "POST", &path, json, asked.to_string().as_bytes());
    (status, serde_json::from_str(&body).unwrap_or(Value::Null))
}

#[test]
fn the_page_and_what_its_reader_asks() {
    let at = start();
    let (status, page) = request(&at, "GET", &at.path, "", b"");
    assert_eq!(status, 200);
    assert!(page.starts_with("<!doctype html>") && page.contains("data-live=\"true\""));
    assert!(page.contains("data-languages=\"de en zh\""));
    // Another text, into another language.
    let (status, trace) = ask(&at, &json!({"text": "Good morning.", "to": "de"}));
    assert_eq!(status, 200);
    assert_eq!(trace["text"]["output"], "Guten Morgen!");
    assert!(trace["influence"]["heads"].as_array().unwrap().len() > 4);
    // It goes on after a token that somebody else chose.
    let (_, plain) = ask(&at, &json!({"text": "我爱你。"}));
    assert_eq!(plain["text"]["output"], "I love you.");
    let other = plain["candidates"][0]["tokens"][1][0].as_u64().unwrap();
    let (status, forced) = ask(&at, &json!({"text": "我爱你。", "prefix": [other]}));
    assert_eq!(status, 200);
    assert_eq!(forced["output"][0]["id"].as_u64(), Some(other));
    // A model that is changed says something else, and the trace is that of the changed pass.
    let edits = json!({"without_residual": true});
    let (status, edited) = ask(&at, &json!({"text": "我爱你。", "edits": edits}));
    assert_eq!(status, 200, "{edited}");
    assert_ne!(edited["text"]["output"], plain["text"]["output"]);
    assert_eq!(edited["influence"], Value::Null);
    let hidden =
        json!({"hidden_source": [2], "heads_off": [["encoder.layers.0.self_attention", 1]]});
    assert_eq!(
        ask(&at, &json!({"text": "我爱你。", "edits": hidden})).0,
        200
    );
    // The whole of another sentence in the last layer's place is that sentence.
    let layers = plain["model"]["config"]["encoder"]["layers"]
        .as_array()
        .unwrap();
    let rows = plain["source"].as_array().unwrap().len();
    let value = match layers[0]["order"].as_str() {
        Some("pre") => "feed_forward.sum",
        _ => "feed_forward_norm",
    };
    let name = format!("encoder.layers.{}.{value}", layers.len() - 1);
    let patch = json!({"text": "我恨你。", "name": name, "rows": (0..rows).collect::<Vec<_>>()});
    let (status, patched) = ask(&at, &json!({"text": "我爱你。", "patch": patch}));
    assert_eq!(status, 200, "{patched}");
    let (_, hate) = ask(&at, &json!({"text": "我恨你。"}));
    assert_eq!(hate["source"].as_array().unwrap().len(), rows);
    assert_eq!(patched["text"]["output"], hate["text"]["output"]);
}

#[test]
fn nobody_else_gets_in() {
    let at = start();
    let explain = format!("{}explain", at.path);
    let json = "Content-Type: application/json\r\n";
    for (method, path, headers, status) in [
        ("GET", "/", "", 403),
        ("GET", "/0123456789abcdef0123456789abcdef/", "", 403),
        ("GET", &*at.path, "Origin: http://evil.example\r\n", 403),
        (
            "POST",
            &*explain,
            "Content-Type: application/json\r\nOrigin: null\r\n",
            403,
        ),
        ("POST", &*explain, "", 415),
        ("POST", &*explain, "Content-Type: text/plain\r\n", 415),
        ("GET", &*explain, "", 405),
        ("DELETE", &*at.path, "", 405),
        ("GET", &*format!("{}nothing", at.path), "", 404),
        ("POST", &*explain, json, 400),
    ] {
        let (found, body) = request(&at, method, path, headers, b"");
        assert_eq!(found, status, "{method} {path} {headers} {body}");
        assert!(!body.contains("hexapla-trace"));
    }
    // A name that a name server has led here.
    let other = At {
        host: at.host.clone(),
        path: at.path.clone(),
    };
    let bytes = format!(
        "GET {} HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n",
        at.path
    );
    assert_eq!(send(&other, bytes.as_bytes()).0, 403);
    // Others could reach it.
    let model = Translator::open(Path::new("../../models/demo")).unwrap();
    let inspector = Inspector {
        name: "demo".into(),
        translate: model.options(),
        model,
        language: None,
        text: "Ja.".into(),
    };
    let anywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let refused = serve(inspector, anywhere, |_| Ok(())).unwrap_err();
    assert!(refused.to_string().contains("--listen"), "{refused}");
}

#[test]
fn strange_requests_are_answered_and_harm_nobody() {
    let at = start();
    let explain = format!("{}explain", at.path);
    let json = "Content-Type: application/json\r\n";
    for text in [
        "</script><script>alert(1)</script>".to_string(),
        "a\u{202e}b\u{200d}👩‍👩‍👧‍👦\0c".to_string(),
        "word ".repeat(10_000),
        "。".repeat(3000),
        "x".repeat(50_000),
        "\0".to_string(),
    ] {
        let (status, answer) = ask(&at, &json!({"text": text}));
        assert_eq!(
            status,
            200,
            "{}: {}",
            text.chars().take(20).collect::<String>(),
            answer["error"]
        );
        assert_eq!(answer["format"], "hexapla-trace");
    }
    let long = "word ".repeat(400);
    for asked in [
        json!({"text": ""}),
        json!({"text": "   "}),
        json!({"text": "Ja.", "to": "xx"}),
        json!({"text": "Ja.", "sentence": 7}),
        json!({"text": "Ja.", "beam_size": 0}),
        json!({"text": "Ja.", "beam_size": 1_000_000_000}),
        json!({"text": "Ja.", "prefix": [4_000_000_000u32]}),
        json!({"text": "Ja.", "prefix": vec![5; 5000]}),
        json!({"text": "Ja.", "edits": {"heads_off": [["nowhere", 0]]}}),
        json!({"text": "Ja.", "edits": {"heads_off": [["encoder.layers.0.self_attention", 99]]}}),
        json!({"text": "Ja.", "edits": {"hidden_source": [99]}}),
        json!({"text": "Ja.", "edits": {"hidden_source": (0..9).collect::<Vec<_>>()}}),
        json!({"text": "Ja.", "patch": {"text": "Nein.", "name": "nowhere", "rows": [0]}}),
        json!({"text": "Ja.", "patch": {"text": "", "name": "encoder.norm", "rows": [0]}}),
        json!({"text": long, "edits": {"without_mask": true}}),
    ] {
        let (status, answer) = ask(&at, &asked);
        let said = answer["error"].as_str().unwrap_or_default();
        let shown: String = asked.to_string().chars().take(90).collect();
        assert_eq!(status, 400, "{shown}: {said}");
        assert!(said.contains("expected"), "{shown}: {said}");
    }
    let deep = format!("{{\"text\": {}", "[".repeat(30_000));
    assert_eq!(request(&at, "POST", &explain, json, deep.as_bytes()).0, 400);
    assert_eq!(
        request(&at, "POST", &explain, json, &vec![b' '; 200_000]).0,
        413
    );
    assert_eq!(
        request(&at, "POST", &explain, json, b"{\"text\": \"\xff\"}").0,
        400
    );
    // A head without an end is not waited for for ever, and takes nobody's place meanwhile.
    let mut silent: Vec<TcpStream> = (0..20)
        .map(|_| TcpStream::connect(&at.host).unwrap())
        .collect();
    for stream in &mut silent {
        stream.write_all(b"GET / HTTP/1.1\r\nX: ").unwrap();
    }
    let started = Instant::now();
    assert_eq!(ask(&at, &json!({"text": "Ja."})).0, 200);
    let mut rest = Vec::new();
    silent[0]
        .set_read_timeout(Some(Duration::from_secs(60)))
        .unwrap();
    let _ = silent[0].read_to_end(&mut rest);
    assert!(started.elapsed() < Duration::from_secs(30));
    let huge = format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "a".repeat(1 << 20));
    assert!([0, 400, 431].contains(&send(&at, huge.as_bytes()).0));
}

#[test]
fn those_who_go_away_leave_their_places() {
    let at = start();
    let body = json!({"text": "word ".repeat(100)}).to_string();
    for _ in 0..30 {
        let mut stream = TcpStream::connect(&at.host).unwrap();
        let head = format!(
            "POST {}explain HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            at.path,
            at.host,
            body.len()
        );
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(body.as_bytes()).unwrap();
    }
    let started = Instant::now();
    while ask(&at, &json!({"text": "Ja."})).0 != 200 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "their places are never free"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}
