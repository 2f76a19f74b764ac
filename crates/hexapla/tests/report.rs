//! A report as a whole, with made-up numbers. `HEXAPLA_REPORT=file` keeps the page, to be looked at.

use hexapla::chart::{Curve, Series};
use hexapla::random::SplitMix;
use hexapla::train::progress::Sample;
use hexapla::train::report::Report;

fn curve(title: &str, y_label: &str, series: &[(&str, Vec<(f64, f64)>)]) -> Curve {
    let series = series.iter().map(|(name, points)| Series {
        name: (*name).to_owned(),
        points: points.clone(),
    });
    Curve {
        logarithmic: false,
        title: title.to_owned(),
        x_label: "updates".to_owned(),
        y_label: y_label.to_owned(),
        series: series.collect(),
    }
}

fn made_up() -> Report {
    let mut random = SplitMix(3);
    let every = |step: usize, f: &mut dyn FnMut(f64) -> f64| -> Vec<(f64, f64)> {
        (1..=20_000 / step)
            .map(|i| (i * step) as f64)
            .map(|x| (x, f(x)))
            .collect()
    };
    let loss = |x: f64| 1.6 + 7.0 * (-x / 1500.0).exp() + 1.2 * (-x / 8000.0).exp();
    let rate = |x: f64| 1e-3 * (x / 4000.0).min((4000.0 / x).sqrt());
    let mut noisy = |f: &dyn Fn(f64) -> f64, amount: f64, step| {
        every(step, &mut |x| {
            f(x) * (1.0 + amount * f64::from(random.normal()))
        })
    };
    let train = noisy(&loss, 0.03, 10);
    let valid = noisy(&|x| loss(x) + 0.25 + x / 60_000.0, 0.004, 1000);
    let bleu = noisy(&|x| 38.0 * (1.0 - (-x / 4000.0).exp()), 0.01, 1000);
    let chrf = noisy(&|x| 20.0 + 42.0 * (1.0 - (-x / 3000.0).exp()), 0.01, 1000);
    let norm = noisy(&|x| 0.4 + 3.0 * (-x / 900.0).exp(), 0.2, 10);
    let speed = noisy(&|_| 14_300.0, 0.02, 50);
    let text = |rows: &[(&str, &str)]| {
        rows.iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect()
    };
    let samples = [
        ("七十一", "seventy-one"),
        ("二百零七", "two hundred seven"),
        ("一千二百三十四", "one thousand two hundred thirty-four"),
    ]
    .into_iter()
    .map(|(source, reference)| Sample {
        hypothesis: reference.replace("seventy", "seventeen"),
        source: source.to_owned(),
        reference: reference.to_owned(),
    });
    Report {
        task: hexapla::config::Task::Translation,
        title: "Chinese numerals → English".to_owned(),
        command: "hexapla train --config numerals.toml --out models/numerals --threads 2 --seed 1".to_owned(),
        config_toml: "[model]\npreset = \"tiny\"\ndropout = 0.1\n\n[training]\nlearning_rate = 0.001\n".to_owned(),
        audit: "pairs            29,000\nsource tokens   377,534   longest 46\ntarget tokens   360,706   longest 48\n"
            .to_owned(),
        filters: "empty                12\nratio above 3       141   for example line 271\nduplicates           58\n"
            .to_owned(),
        summary: text(&[
            ("BLEU", "37.61\nnrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:2.6.0"),
            ("chrF", "61.90\nnrefs:1|case:mixed|eff:yes|nc:6|nw:0|space:no|version:2.6.0"),
            ("Updates", "20,000"),
            ("Time", "28 min 14 s"),
            ("Speed", "14,300 tokens/s"),
            ("Parameters", "3,146,240"),
        ]),
        curves: vec![
            curve("Loss", "nats per token", &[("training", train), ("validation", valid)]),
            curve("Translation quality", "0 to 100", &[("BLEU", bleu), ("chrF", chrf)]),
            curve("Learning rate", "", &[("learning rate", every(50, &mut |x| rate(x)))]),
            curve("Gradient norm", "before clipping", &[("norm", norm)]),
            curve("Speed", "target tokens/s", &[("training", speed)]),
        ],
        samples: samples.collect(),
        versions: text(&[("linux", "x86_64")]),
    }
}

#[test]
fn a_whole_report_is_well_formed_and_small() {
    let page = made_up().to_html();
    if let Some(path) = std::env::var_os("HEXAPLA_REPORT") {
        std::fs::write(path, &page).unwrap();
    }
    // 2,000 points a line are thinned.
    assert!(page.len() < 150_000, "{} bytes", page.len());
    assert_eq!(page.matches("<figure>").count(), 5);
    assert_eq!(page.matches("<polyline").count(), 7);
    assert!(!page.contains("NaN"));
    // Elements open and close in pairs, inside one another.
    let mut open = Vec::new();
    let void = ["meta", "!DOCTYPE"];
    for tag in page.split('<').skip(1) {
        let name = tag
            .split(|c: char| c == '>' || c.is_whitespace())
            .next()
            .unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if void.contains(&name) => {}
            None => open.push(name),
        }
    }
    assert!(open.is_empty(), "{open:?}");
}
