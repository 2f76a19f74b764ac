//! `hexapla evaluate` with the model inside the program.

use std::fs;
use std::process::Command;

const PAIRS: &str = "Thank you for everything.\tVielen Dank für alles.\nI am very tired.\tIch bin sehr müde.\n\
    Where is the station?\tWo ist der Bahnhof?\nI like to drink tea.\tIch trinke gern Tee.\n";

#[test]
fn confidence_is_measured_and_drawn() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("pairs.tsv"), PAIRS).unwrap();
    let far = "Quantum chromodynamics confines quarks.\n\nThe lessee shall indemnify the lessor.\n";
    fs::write(folder.path().join("far.txt"), far).unwrap();
    let evaluate = |args: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_hexapla"))
            .arg("evaluate")
            .args(args.split(' '))
            .current_dir(folder.path())
            .output()
            .unwrap();
        let errors = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{errors}");
        String::from_utf8(out.stdout).unwrap()
    };
    let said = evaluate(
        "--tsv pairs.tsv --to de --output found --calibration c.svg --calibration-text far.txt",
    );
    for part in [
        "BLEU = ",
        "chrF2 = ",
        "expected calibration error",
        "4 lines), rank correlation with chrF",
        "far.txt: confidence",
        "2 lines), below the test set",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let found = fs::read_to_string(folder.path().join("found")).unwrap();
    assert_eq!(found.lines().count(), 4);
    let picture = fs::read_to_string(folder.path().join("c.svg")).unwrap();
    assert!(picture.contains("far.txt") && picture.matches("<polyline").count() == 5);
    // The other direction: German is recognised, and English its target.
    let back = evaluate("--tsv pairs.tsv --reverse");
    let named = evaluate("--tsv pairs.tsv --reverse --from de --to en");
    assert_eq!(back, named);
}
