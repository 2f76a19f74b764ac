//! The library as a program that calls it sees it: `hexapla::Translator` and what stands beside it.

use std::path::Path;
use std::sync::Arc;

use hexapla::{
    ComputeType, Engine, ErrorKind, Recipe, Request, Sampling, Session, SessionOptions, Translator,
};

const DEMO: &str = "../../models/demo";

fn to_german() -> Translator {
    Translator::builder().to("de").open(DEMO).unwrap()
}

#[test]
fn a_text_keeps_its_lines() {
    let model = to_german();
    let lines = ["Thank you.", "", "Good morning. How are you?"];
    let text = model.translate(&lines.join("\n")).unwrap();
    let found: Vec<&str> = text.split('\n').collect();
    assert_eq!(found, model.translate_lines(&lines).unwrap());
    assert!(
        found[0].starts_with("Danke") && found[1].is_empty(),
        "{text}"
    );
    // A tag in the line says the same as the builder.
    let tagged = Translator::open(DEMO).unwrap();
    assert_eq!(tagged.translate(">>de<< Thank you.").unwrap(), found[0]);
}

#[test]
fn a_stream_answers_each_line_before_it_asks_for_more_than_it_needs() {
    let model = to_german();
    let lines: Vec<String> = (0..40).map(|i| format!("I have {i} books.")).collect();
    let whole = model.translate_lines(&lines).unwrap();
    let asked = std::cell::Cell::new(0);
    let counted = lines.iter().inspect(|_| asked.set(asked.get() + 1));
    let mut stream = model.stream(counted, model.options());
    let first = stream.next().unwrap().unwrap();
    assert_eq!(asked.get(), 1);
    let rest = stream.map(|line| line.unwrap().remove(0).text);
    let found: Vec<String> = [first[0].text.clone()].into_iter().chain(rest).collect();
    assert_eq!(found, whole);
}

#[test]
fn a_line_that_cannot_be_translated_costs_no_other() {
    let model = to_german();
    let mut options = model.options();
    // Longer than the model takes.
    options.prefixes.insert(4, "Haus ".repeat(2000));
    let found: Vec<_> = model.stream(["Thank you."; 9], options).collect();
    assert_eq!(found.len(), 9);
    for (number, line) in found.iter().enumerate() {
        match line {
            Ok(line) => assert!(number != 4 && line[0].text.starts_with("Danke")),
            Err(e) => {
                assert_eq!((number, e.kind()), (4, ErrorKind::Input));
                assert!(e.to_string().contains("prefix of line 5"), "{e}");
            }
        }
    }
}

#[test]
fn samples_are_the_same_in_a_stream_and_on_other_threads() {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build();
    let pool = Arc::new(pool.unwrap());
    let lines = ["Where is the station?"; 8];
    let draw = |model: &Translator| -> Vec<String> {
        let sampling = Sampling {
            seed: 3,
            ..Sampling::default()
        };
        let options = model.options().with_sampling(sampling).with_n_best(2);
        let found: Vec<_> = model.stream(lines, options.clone()).collect();
        let at_once = model.translate_with(&lines, &options).unwrap();
        assert_eq!(
            at_once,
            found.into_iter().map(Result::unwrap).collect::<Vec<_>>()
        );
        at_once.into_iter().flatten().map(|t| t.text).collect()
    };
    let ours = to_german();
    let theirs = Translator::builder().to("de").thread_pool(pool.clone());
    let theirs = theirs.open(DEMO).unwrap();
    let samples = draw(&ours);
    assert_eq!(samples, draw(&theirs));
    // Two samples for each of eight equal lines: not all alike.
    assert!(samples.iter().any(|sample| *sample != samples[0]));
    // What a call leaves behind may be freed between any two.
    theirs.engine().trim();
    assert_eq!(samples, draw(&theirs));
}

#[test]
fn a_pool_that_is_handed_in_does_the_work() {
    let asked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // A thread of this pool that is never free: who uses the pool waits for ever, who does not is done at once.
    let pool = Arc::new(
        rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap(),
    );
    let engine = Arc::new(Engine::open(DEMO, ComputeType::Int8).unwrap());
    let eos = engine.config().eos_token_id;
    let busy = Arc::new(std::sync::Barrier::new(2));
    let hold = busy.clone();
    pool.spawn(move || {
        hold.wait();
    });
    let engine = Arc::into_inner(engine).unwrap().with_thread_pool(pool);
    let options = hexapla::SearchOptions::for_model(engine.config());
    let done = asked.clone();
    let work = std::thread::spawn(move || {
        engine
            .generate(&[Request::new(vec![7, 8, eos])], &options, 64)
            .unwrap();
        done.store(true, std::sync::atomic::Ordering::SeqCst);
    });
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert!(!asked.load(std::sync::atomic::Ordering::SeqCst));
    busy.wait();
    work.join().unwrap();
}

#[test]
fn errors_say_who_can_mend_them() {
    let kind = |e: hexapla::Error| e.kind();
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none");
    assert_eq!(
        kind(Translator::open(&missing).unwrap_err()),
        ErrorKind::Model
    );
    // A setting of a folder that no model has is the model's fault, not the caller's.
    for name in std::fs::read_dir(DEMO).unwrap() {
        let name = name.unwrap();
        std::fs::copy(name.path(), folder.path().join(name.file_name())).unwrap();
    }
    std::fs::remove_file(folder.path().join("manifest.json")).unwrap();
    let config = folder.path().join("config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("\"d_model\":", "\"d_model\": 7, \"d\":"),
    )
    .unwrap();
    assert_eq!(
        kind(Translator::open(folder.path()).unwrap_err()),
        ErrorKind::Model
    );

    let unknown = Translator::builder().to("tlh").open(DEMO).unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Settings);
    let model = to_german();
    let wide = model.options().with_beam_size(100_000);
    let refused = model.translate_with(&["a"], &wide).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Settings);
    let options = model.options().search;
    let ids = [Request::new(vec![u32::MAX])];
    let refused = model.engine().generate(&ids, &options, 64).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Input);
    assert_eq!(refused.item(), Some(0));

    // Somebody's model is not replaced.
    let recipe = Recipe::parse("[data]\ntsv = \"pairs.tsv\"", "a test").unwrap();
    let refused = Session::open(SessionOptions::new(recipe, folder.path())).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Conflict);
    let unreadable = Recipe::open(Path::new("no such recipe")).unwrap_err();
    assert_eq!(unreadable.kind(), ErrorKind::Io);
}
