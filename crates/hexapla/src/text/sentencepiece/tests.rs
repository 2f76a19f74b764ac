use super::*;

#[test]
fn live() {
    let read = |name: &str| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(format!("/tmp/spm/{name}.json")).unwrap()).unwrap()
    };
    let test = read("test");
    for name in ["unigram", "bpe", "ubytes", "bbytes", "suffix", "nodummy"] {
        let model = SentencePiece::from_bytes(&std::fs::read(format!("/tmp/spm/{name}.model")).unwrap()).unwrap();
        let expected = read(name);
        let mut wrong = 0;
        for (text, e) in test.as_array().unwrap().iter().zip(expected.as_array().unwrap()) {
            let text = text.as_str().unwrap();
            let found = model.encode(text);
            let pieces: Vec<&str> = found.iter().map(|p| p.text.as_str()).collect();
            let ids: Vec<u32> = found.iter().map(|p| p.id).collect();
            let ok = serde_json::json!(pieces) == e[0] && serde_json::json!(ids) == e[1];
            let decoded = model.decode(&pieces);
            if !ok || decoded != e[2].as_str().unwrap() {
                wrong += 1;
                if wrong < 4 {
                    println!("{name} {text:?}\n  {pieces:?}\n  {}\n {decoded:?} {} {}", e[0], e[2], e[3]);
                }
            }
        }
        println!("{name}: {wrong} wrong");
    }
}
