//! `cargo xtask curves`: what trainings' validations said, as one SVG.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Result;
use crate::bench::plot::plot;

#[derive(Debug, clap::Args)]
pub(crate) struct CurvesArgs {
    /// Trainings: a name for each and the folder that `hexapla train --output` filled.
    #[arg(value_name = "NAME=FOLDER", required = true, value_parser = named)]
    trainings: Vec<(String, PathBuf)>,
    /// What to draw: a key of `training/validations.jsonl`.
    #[arg(long, default_value = "bleu")]
    metric: String,
    /// Validations before this update are left out.
    #[arg(long, default_value_t = 0)]
    from_step: u64,
    /// What stands above the lines.
    #[arg(long, default_value = "")]
    title: String,
    /// The SVG file to write.
    #[arg(long)]
    output: PathBuf,
}

fn named(argument: &str) -> std::result::Result<(String, PathBuf), String> {
    let (name, folder) = argument
        .split_once('=')
        .ok_or("expected a name, `=`, and a folder")?;
    Ok((name.into(), folder.into()))
}

pub(crate) fn run(args: &CurvesArgs) -> Result<()> {
    let lines = args
        .trainings
        .iter()
        .map(|(name, folder)| Ok((name.clone(), points(folder, &args.metric, args.from_step)?)));
    let y = format!("validation {}", args.metric.replace('_', " "));
    let lines = lines.collect::<Result<_>>()?;
    plot(
        &args.output,
        &args.title,
        ["million target tokens", &y],
        false,
        lines,
    )
}

/// Million target tokens, and the metric after them.
fn points(folder: &Path, metric: &str, from_step: u64) -> Result<Vec<(f64, f64)>> {
    let path = folder.join("training/validations.jsonl");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let mut points = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        let wrong = |what: &str| format!("{}, line {number}: {what}", path.display());
        let v: Value = serde_json::from_str(line).map_err(|e| wrong(&e.to_string()))?;
        let get = |key: &str| {
            let value = v[key].as_f64();
            value.ok_or_else(|| wrong(&format!("no number `{key}`")))
        };
        if get("step")? >= from_step as f64 {
            points.push((get("target_tokens")? / 1e6, get(metric)?));
        }
    }
    if points.is_empty() {
        return Err(format!(
            "{}: no validation from update {from_step} on",
            path.display()
        ));
    }
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str, text: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("curves-{name}-{}", std::process::id()));
        std::fs::create_dir_all(folder.join("training")).unwrap();
        std::fs::write(folder.join("training/validations.jsonl"), text).unwrap();
        folder
    }

    #[test]
    fn validations_become_points() {
        let text = "{\"step\":5,\"target_tokens\":1000000,\"bleu\":1.5}\n{\"step\":9,\"target_tokens\":2500000,\"bleu\":3.0}\n";
        let folder = folder("points", text);
        assert_eq!(
            points(&folder, "bleu", 0).unwrap(),
            [(1.0, 1.5), (2.5, 3.0)]
        );
        assert_eq!(points(&folder, "bleu", 6).unwrap(), [(2.5, 3.0)]);
        assert!(
            points(&folder, "bleu", 10)
                .unwrap_err()
                .contains("update 10")
        );
        assert!(
            points(&folder, "loss", 0)
                .unwrap_err()
                .contains("line 1: no number `loss`")
        );
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_training_has_a_name() {
        assert_eq!(
            named("seed 1=m/a=b").unwrap(),
            ("seed 1".into(), "m/a=b".into())
        );
        assert!(named("m").is_err());
    }
}
