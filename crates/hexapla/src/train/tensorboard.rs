//! Event files that TensorBoard reads.
//!
//! The protocol buffers are written by hand: the three messages that scalars need have seven fields in all and have
//! not changed in years, so that a code generator and its run-time library would outweigh the few lines here. A test reads
//! them back with TensorBoard itself.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc, Table};

use crate::error::{Error, Result};
use crate::files::write_error;

/// A curve for each tag, appended to one event file.
///
/// ```
/// # let folder = tempfile::tempdir().unwrap();
/// use hexapla::train::tensorboard::TensorBoard;
/// let mut board = TensorBoard::create(folder.path())?;
/// board.scalar("train/loss", 1, 6.25)?;
/// board.flush()?;
/// # Ok::<(), hexapla::error::Error>(())
/// ```
#[derive(Debug)]
pub struct TensorBoard {
    path: PathBuf,
    file: BufWriter<File>,
}

impl TensorBoard {
    /// Starts a new event file in `folder`, which is made if need be.
    ///
    /// # Errors
    /// The folder or the file cannot be made or written.
    pub fn create(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)
            .map_err(|e| write_error("cannot make the folder for event files", folder, &e))?;
        let (path, file) = new_file(folder)?;
        let mut board = TensorBoard {
            path,
            file: BufWriter::new(file),
        };
        board.write(&event(0, Content::FileVersion))?;
        board.flush()?;
        Ok(board)
    }

    /// Starts a further event file in `folder` for a run that goes on at `step`. TensorBoard forgets what earlier
    /// files say about `step` and later: a run that was killed may have written beyond its last checkpoint.
    ///
    /// # Errors
    /// As [`TensorBoard::create`].
    pub fn resume(folder: &Path, step: u64) -> Result<Self> {
        let mut board = TensorBoard::create(folder)?;
        board.write(&event(step, Content::Restart))?;
        board.flush()?;
        Ok(board)
    }

    /// Appends one point to the curve `tag`.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn scalar(&mut self, tag: &str, step: u64, value: f32) -> Result<()> {
        self.write(&event(step, Content::Scalar(tag, value)))
    }

    /// Hands everything written so far to the operating system.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn flush(&mut self) -> Result<()> {
        self.file.flush().map_err(|e| self.error(&e))
    }

    /// The event file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// One TFRecord: length, its checksum, the event, its checksum; integers in little endian.
    fn write(&mut self, event: &[u8]) -> Result<()> {
        let length = (event.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(event.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(event);
        record.extend(masked_crc(event).to_le_bytes());
        self.file.write_all(&record).map_err(|e| self.error(&e))
    }

    fn error(&self, error: &io::Error) -> Error {
        write_error("cannot write the event file", &self.path, error)
    }
}

/// TensorBoard reads a folder's files in order of their names, so that the name begins with the time; the last
/// number tells apart files of one second.
fn new_file(folder: &Path) -> Result<(PathBuf, File)> {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_secs());
    let mut number = 0;
    loop {
        let path = folder.join(format!(
            "events.out.tfevents.{seconds:010}.{number:04}.hexapla"
        ));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((path, file)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists && number < 9999 => number += 1,
            Err(e) => return Err(write_error("cannot make the event file", &path, &e)),
        }
    }
}

/// CRC-32C, rotated and shifted so that a checksum of data that holds checksums stays strong.
fn masked_crc(bytes: &[u8]) -> u32 {
    static CRC: Crc<u32, Table<16>> = Crc::<u32, Table<16>>::new(&CRC_32_ISCSI);
    CRC.checksum(bytes)
        .rotate_right(15)
        .wrapping_add(0xA282_EAD8)
}

/// What an event says.
enum Content<'a> {
    FileVersion,
    Restart,
    Scalar(&'a str, f32),
}

/// The message `tensorflow.Event`.
fn event(step: u64, content: Content) -> Vec<u8> {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0.0, |d| d.as_secs_f64());
    let mut event = Message::default();
    event.double(1, now);
    event.varint(2, step);
    match content {
        Content::FileVersion => event.bytes(3, b"brain.Event:2"),
        Content::Scalar(tag, value) => {
            let (mut summary, mut point) = (Message::default(), Message::default());
            point.bytes(1, tag.as_bytes());
            point.float(2, value);
            summary.bytes(1, &point.0);
            event.bytes(5, &summary.0);
        }
        Content::Restart => {
            const START: u64 = 1;
            let mut session = Message::default();
            session.varint(1, START);
            event.bytes(7, &session.0);
        }
    }
    event.0
}

/// A protocol-buffer message in the making: each field is its number and wire type, then its value.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn key(&mut self, field: u8, wire_type: u8) {
        self.0.push(field << 3 | wire_type);
    }

    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn varint(&mut self, field: u8, value: u64) {
        self.key(field, 0);
        self.raw_varint(value);
    }

    fn double(&mut self, field: u8, value: f64) {
        self.key(field, 1);
        self.0.extend(value.to_le_bytes());
    }

    fn bytes(&mut self, field: u8, value: &[u8]) {
        self.key(field, 2);
        self.raw_varint(value.len() as u64);
        self.0.extend(value);
    }

    fn float(&mut self, field: u8, value: f32) {
        self.key(field, 5);
        self.0.extend(value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_crc_32c_masked() {
        // CRC-32C's published check value for "123456789".
        let crc: u32 = 0xE306_9283;
        assert_eq!(
            masked_crc(b"123456789"),
            crc.rotate_left(17).wrapping_add(0xA282_EAD8)
        );
    }

    #[test]
    fn varints_have_seven_bits_a_byte() {
        let mut message = Message::default();
        message.varint(2, 300);
        assert_eq!(message.0, [0x10, 0xAC, 0x02]);
        message.0.clear();
        message.raw_varint(u64::MAX);
        assert_eq!(message.0.len(), 10);
    }

    #[test]
    fn files_of_one_second_are_distinct_and_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let boards: Vec<_> = (0..3)
            .map(|_| TensorBoard::create(folder.path()).unwrap())
            .collect();
        assert!(
            boards
                .windows(2)
                .all(|pair| pair[0].path() < pair[1].path())
        );
    }

    #[test]
    fn a_place_that_is_no_folder_is_named() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let e = TensorBoard::create(file.path()).unwrap_err().to_string();
        assert!(e.contains(&file.path().display().to_string()), "{e}");
    }
}
