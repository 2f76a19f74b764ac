//! A text to read: a file, a pipe or standard input, plain or compressed by gzip or zstd.
//!
//! What a file is is told by its first bytes, never by its name. A compressed file is decompressed as it is read, within the
//! memory that its format's window takes.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

use sha2::{Digest, Sha256};

use super::checksum::hexadecimal;
use crate::error::{Error, Result};

const ROOM: usize = 1 << 16;
const GZIP: &[u8] = b"\x1F\x8B";
const ZSTD: &[u8] = b"\x28\xB5\x2F\xFD";
/// The largest window of zstd that is decompressed: what `zstd --long` needs at its default.
const ZSTD_WINDOW: u64 = 1 << 27;
/// Other formats by their first bytes, and how to make text of them. No text begins so (bzip2 at its usual level).
const OTHERS: [(&[u8], &str, &str); 13] = [
    (
        b"BZh91AY&SY",
        "bzip2",
        "decompress it first, for example with `bunzip2`",
    ),
    (
        b"\xFD7zXZ\0",
        "xz",
        "decompress it first, for example with `unxz`",
    ),
    (
        b"\x04\x22\x4D\x18",
        "lz4",
        "decompress it first, for example with `unlz4`",
    ),
    (b"7z\xBC\xAF\x27\x1C", "7z", "unpack it first"),
    (b"Rar!\x1A\x07", "rar", "unpack it first"),
    (
        b"PK\x03\x04",
        "zip (or a document of an office program)",
        "unpack it, or save the document as plain text in UTF-8",
    ),
    (b"%PDF-1.", "PDF", "save its text as a file in UTF-8"),
    (b"%PDF-2.", "PDF", "save its text as a file in UTF-8"),
    (
        b"PAR1\x15",
        "Parquet",
        "write it as text, two columns with a tab between them",
    ),
    (
        b"SQLite format 3\0",
        "SQLite",
        "write it as text, two columns with a tab between them",
    ),
    (
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1",
        "an old office program",
        "save the document as plain text in UTF-8",
    ),
    (
        b"\xFF\xFE",
        "UTF-16",
        "convert it, for example with `iconv -f UTF-16 -t UTF-8`",
    ),
    (
        b"\xFE\xFF",
        "UTF-16",
        "convert it, for example with `iconv -f UTF-16 -t UTF-8`",
    ),
];
/// Bytes that tell all of these apart.
const MOST_MAGIC: usize = 16;

/// What is read from.
pub type Input = Box<dyn BufRead>;

/// The SHA-256 of a file's bytes as they were read, before they were decompressed: what can be read but once is known by it too.
#[derive(Debug, Clone, Default)]
pub struct Fingerprint(Arc<Mutex<Sha256>>);

impl Fingerprint {
    /// In hexadecimal digits. Of the whole file once its reader is at its end.
    pub fn sha256(&self) -> String {
        let hash = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        hexadecimal(&hash.clone().finalize())
    }
}

/// Takes the fingerprint of what passes through.
struct Hashed<R> {
    reader: R,
    fingerprint: Fingerprint,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.reader.read(buffer)?;
        let hash = self.fingerprint.0.lock();
        let mut hash = hash.unwrap_or_else(PoisonError::into_inner);
        hash.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Opens the file at `path`, or standard input for `-`; gives its name for errors too.
///
/// # Errors
/// There is no such file, it is a folder, or it is in a format that is no text.
pub fn open_input(path: &Path) -> Result<(Input, String)> {
    open(path, None)
}

/// As [`open_input`], with the file's fingerprint.
///
/// # Errors
/// As [`open_input`].
pub fn open_fingerprinted(path: &Path) -> Result<(Input, String, Fingerprint)> {
    let fingerprint = Fingerprint::default();
    let (input, name) = open(path, Some(&fingerprint))?;
    Ok((input, name, fingerprint))
}

fn open(path: &Path, fingerprint: Option<&Fingerprint>) -> Result<(Input, String)> {
    let buffered = |reader: Box<dyn Read>| -> Input {
        match fingerprint {
            None => Box::new(BufReader::with_capacity(ROOM, reader)),
            Some(fingerprint) => {
                let fingerprint = fingerprint.clone();
                let hashed = Hashed {
                    reader,
                    fingerprint,
                };
                Box::new(BufReader::with_capacity(ROOM, hashed))
            }
        }
    };
    if path == Path::new("-") {
        let name = "standard input";
        let reader = buffered(Box::new(io::stdin().lock()));
        return Ok((sniffed(reader, name)?, name.into()));
    }
    let name = path.display().to_string();
    let fail = |e: io::Error| Error::io("cannot read the text", path, &e);
    let file = File::open(path).map_err(fail)?;
    if file.metadata().map_err(fail)?.is_dir() {
        return Err(Error::input("cannot read the text")
            .at(name)
            .expected("a file")
            .found("a folder")
            .hint("name a file inside of this folder"));
    }
    Ok((sniffed(buffered(Box::new(file)), &name)?, name))
}

/// `reader`, decompressed if its first bytes say that it is compressed. Of a pipe no more is awaited than tells that.
fn sniffed(mut reader: Input, name: &str) -> Result<Input> {
    let failed = |e: io::Error| Error::io("cannot read the text", Path::new(name), &e);
    let all = || OTHERS.iter().map(|other| other.0).chain([GZIP, ZSTD]);
    let mut first = Vec::new();
    // One byte more, as long as something may begin so.
    while first.len() < MOST_MAGIC
        && all().any(|magic| magic.len() > first.len() && magic.starts_with(&first))
    {
        let mut byte = [0];
        match reader.read(&mut byte) {
            Ok(0) => break,
            Ok(_) => first.extend(byte),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(failed(e)),
        }
    }
    let is = |magic: &[u8]| first.starts_with(magic);
    if let Some((_, format, hint)) = OTHERS.iter().find(|other| is(other.0)) {
        return Err(Error::input("the file is in a format that is not read")
            .at(name)
            .expected("text in UTF-8, as it is or compressed by gzip or zstd")
            .found(*format)
            .hint(*hint));
    }
    let (gzip, zstd) = (is(GZIP), is(ZSTD));
    let whole = Cursor::new(first).chain(reader);
    Ok(match (gzip, zstd) {
        (true, _) => Box::new(BufReader::with_capacity(
            ROOM,
            Gzip(MultiGzDecoder::new(whole)),
        )),
        (_, true) => Box::new(BufReader::with_capacity(ROOM, Zstd::new(Box::new(whole)))),
        _ => Box::new(whole),
    })
}

fn damaged(format: &str, what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{format}: {what}"))
}

/// A file of gzip, of one member or several.
struct Gzip<R>(MultiGzDecoder<R>);

impl<R: BufRead> Read for Gzip<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer).map_err(|e| match e.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::Interrupted => e,
            _ => damaged("gzip", e),
        })
    }
}

/// A file of zstd: frames, one after another, and others that are passed over.
struct Zstd {
    source: Input,
    decoder: FrameDecoder,
    /// Within a frame, whose header is read.
    in_frame: bool,
}

impl Zstd {
    fn new(source: Input) -> Self {
        let mut decoder = FrameDecoder::new();
        decoder.set_max_window_size(ZSTD_WINDOW);
        Zstd {
            source,
            decoder,
            in_frame: false,
        }
    }

    /// Begins the next frame; false at the end of the file.
    fn next_frame(&mut self) -> io::Result<bool> {
        loop {
            if self.source.fill_buf()?.is_empty() {
                return Ok(false);
            }
            match self.decoder.init(&mut self.source) {
                Ok(()) => return Ok(true),
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame {
                    length,
                    ..
                })) => {
                    let length = u64::from(length);
                    let mut frame = (&mut self.source).take(length);
                    if io::copy(&mut frame, &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(e) => return Err(damaged("zstd", e)),
            }
        }
    }

    /// Compares the checksum at a frame's end, where it has one.
    fn end_frame(&mut self) -> io::Result<()> {
        self.in_frame = false;
        let said = self.decoder.get_checksum_from_data();
        if said.is_some() && said != self.decoder.get_calculated_checksum() {
            return Err(damaged("zstd", "a checksum that does not fit its content"));
        }
        Ok(())
    }
}

impl Read for Zstd {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if !self.in_frame {
                self.in_frame = self.next_frame()?;
                if !self.in_frame {
                    return Ok(0);
                }
            }
            while self.decoder.can_collect() == 0 && !self.decoder.is_finished() {
                let one = BlockDecodingStrategy::UptoBlocks(1);
                self.decoder
                    .decode_blocks(&mut self.source, one)
                    .map_err(|e| damaged("zstd", e))?;
            }
            let count = self.decoder.read(buffer)?;
            if count > 0 || buffer.is_empty() {
                return Ok(count);
            }
            self.end_frame()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(text: &[u8]) -> Vec<u8> {
        compress_to_vec(text, CompressionLevel::Fastest)
    }

    fn read(bytes: &[u8]) -> io::Result<Vec<u8>> {
        let mut reader = sniffed(Box::new(Cursor::new(bytes.to_vec())), "x").unwrap();
        let mut all = Vec::new();
        reader.read_to_end(&mut all).map(|_| all)
    }

    #[test]
    fn compressed_files_are_their_text() {
        let text = "ein Satz\n一句话\n".repeat(50_000).into_bytes();
        for compress in [gzip, zstd] {
            assert_eq!(read(&compress(&text)).unwrap(), text);
            // Several members or frames, an empty one among them.
            let several = [compress(b"a\n"), compress(b""), compress(b"b\n")].concat();
            assert_eq!(read(&several).unwrap(), b"a\nb\n");
        }
        let skippable = [&b"\x50\x2A\x4D\x18\x03\0\0\0xyz"[..], &zstd(b"b")].concat();
        assert_eq!(read(&[zstd(b"a"), skippable].concat()).unwrap(), b"ab");
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in [
            "",
            "B",
            "BZh is a head",
            "7",
            "PK",
            "%PDF- is one",
            "PAR1 is a receptor",
            "\u{FEFF}text",
            "(",
            "一",
        ] {
            assert_eq!(read(text.as_bytes()).unwrap(), text.as_bytes());
        }
    }

    #[test]
    fn a_part_or_a_damaged_file_is_an_error() {
        let text = "ein Satz\n".repeat(10_000).into_bytes();
        for compress in [gzip, zstd] {
            let whole = compress(&text);
            for end in [4, 12, whole.len() / 2, whole.len() - 1] {
                assert!(read(&whole[..end]).is_err(), "{end} of {}", whole.len());
            }
        }
        let mut bad = gzip(&text);
        let middle = bad.len() / 2;
        bad[middle] ^= 0x55;
        assert!(read(&bad).is_err());
        // A window of 2 GiB.
        let huge = b"\x28\xB5\x2F\xFD\x00\xA8\x01\0\0";
        let told = read(huge).unwrap_err().to_string();
        assert!(told.starts_with("zstd"), "{told}");
    }

    #[test]
    fn other_formats_are_named() {
        for (magic, format, _) in OTHERS {
            let bytes = [magic, b"rest"].concat();
            let refused = sniffed(Box::new(Cursor::new(bytes)), "x").err().unwrap();
            assert!(refused.to_string().contains(format), "{refused}");
        }
    }
}
