//! Event files read back: frame by frame here, and by TensorBoard where `HEXAPLA_PYTHON` names a Python that has it.

use std::path::Path;
use std::process::Command;

use hexapla::train::tensorboard::TensorBoard;

/// CRC-32C bit by bit, independent of the table that the writer uses.
fn masked_crc(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82F6_3B78 & 0u32.wrapping_sub(crc & 1));
        }
    }
    let crc = !crc;
    crc.rotate_left(17).wrapping_add(0xA282_EAD8)
}

/// The events of a file, every checksum verified.
fn frames(path: &Path) -> Vec<Vec<u8>> {
    let bytes = std::fs::read(path).unwrap();
    let mut rest = &bytes[..];
    let mut take = |n: usize| {
        let (taken, left) = rest.split_at_checked(n)?;
        rest = left;
        Some(taken)
    };
    let number = |bytes: &[u8]| u32::from_le_bytes(bytes.try_into().unwrap());
    let mut events = Vec::new();
    while let Some(length) = take(8) {
        assert_eq!(number(take(4).unwrap()), masked_crc(length));
        let event = take(u64::from_le_bytes(length.try_into().unwrap()) as usize).unwrap();
        assert_eq!(number(take(4).unwrap()), masked_crc(event));
        events.push(event.to_vec());
    }
    assert!(rest.is_empty());
    events
}

/// The fields of a protocol-buffer message: number, and value as its bytes (a varint as 8).
fn fields(mut message: &[u8]) -> Vec<(u64, Vec<u8>)> {
    fn varint(message: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let (byte, rest) = message.split_first().unwrap();
            *message = rest;
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut out = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let length = match key & 7 {
            0 => {
                out.push((key >> 3, varint(&mut message).to_le_bytes().to_vec()));
                continue;
            }
            1 => 8,
            2 => varint(&mut message) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let (value, rest) = message.split_at(length);
        out.push((key >> 3, value.to_vec()));
        message = rest;
    }
    out
}

fn field(message: &[u8], number: u64) -> Vec<u8> {
    let found = fields(message).into_iter().find(|(n, _)| *n == number);
    found.unwrap_or_else(|| panic!("no field {number}")).1
}

#[test]
fn every_frame_reads_back() {
    let folder = tempfile::tempdir().unwrap();
    let points = [
        ("loss", 0, 1.5),
        ("loss", 127, f32::MIN_POSITIVE),
        ("学习率", 128, -0.0),
        ("loss", u64::from(u32::MAX) + 1, f32::NAN),
        ("loss", i64::MAX as u64, f32::INFINITY),
    ];
    let mut board = TensorBoard::create(folder.path()).unwrap();
    for (tag, step, value) in points {
        board.scalar(tag, step, value).unwrap();
    }
    board.flush().unwrap();

    let events = frames(board.path());
    assert_eq!(events.len(), points.len() + 1);
    assert_eq!(field(&events[0], 3), b"brain.Event:2");
    for (event, (tag, step, value)) in events[1..].iter().zip(points) {
        let wall_time = f64::from_le_bytes(field(event, 1).try_into().unwrap());
        assert!(wall_time > 1.7e9);
        assert_eq!(field(event, 2), step.to_le_bytes());
        let point = field(&field(event, 5), 1);
        assert_eq!(field(&point, 1), tag.as_bytes());
        assert_eq!(field(&point, 2), value.to_le_bytes());
    }
}

const READ: &str = r#"
import sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1])
events.Reload()
for tag in sorted(events.Tags()["scalars"]):
    print(tag, " ".join(f"{s.step}:{s.value:g}" for s in events.Scalars(tag)))
"#;

#[test]
fn tensorboard_reads_a_run_that_was_resumed() {
    let Some(python) = std::env::var_os("HEXAPLA_PYTHON") else {
        eprintln!("skipped: HEXAPLA_PYTHON does not name a Python that has tensorboard");
        return;
    };
    let has = Command::new(&python)
        .args(["-c", "import tensorboard"])
        .output()
        .unwrap();
    if !has.status.success() {
        eprintln!("skipped: the Python that HEXAPLA_PYTHON names has no tensorboard");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut board = TensorBoard::create(folder.path()).unwrap();
    for step in 1..=6u8 {
        board
            .scalar("train/loss", step.into(), 10.0 / f32::from(step))
            .unwrap();
    }
    drop(board);
    // As after a kill: the last checkpoint was taken at step 3, and steps 4 to 6 come again.
    let mut board = TensorBoard::resume(folder.path(), 4).unwrap();
    board.scalar("train/loss", 4, 40.0).unwrap();
    board.scalar("valid/bleu", 5, 0.5).unwrap();
    board.flush().unwrap();

    let output = Command::new(&python)
        .args(["-c", READ])
        .arg(folder.path())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        String::from_utf8(output.stdout)
            .unwrap()
            .replace("\r\n", "\n"),
        "train/loss 1:10 2:5 3:3.33333 4:40\nvalid/bleu 5:0.5\n"
    );
}
