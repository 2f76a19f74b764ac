//! Numbers that GGUF stores in blocks: a scale for 32 of them, or for 256 with smaller scales inside.

/// How the numbers of a tensor are stored, by the names of GGUF.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::formats) enum BlockFormat {
    Q4_0,
    Q4_1,
    Q5_0,
    Q5_1,
    Q8_0,
    Q4K,
    Q5K,
    Q6K,
}

impl BlockFormat {
    /// Numbers of a block.
    pub(in crate::formats) fn numbers(self) -> usize {
        match self {
            BlockFormat::Q4K | BlockFormat::Q5K | BlockFormat::Q6K => 256,
            _ => 32,
        }
    }

    /// Bytes of a block.
    pub(in crate::formats) fn bytes(self) -> usize {
        match self {
            BlockFormat::Q4_0 => 2 + 16,
            BlockFormat::Q4_1 => 4 + 16,
            BlockFormat::Q5_0 => 2 + 4 + 16,
            BlockFormat::Q5_1 => 4 + 4 + 16,
            BlockFormat::Q8_0 => 2 + 32,
            BlockFormat::Q4K => 4 + 12 + 128,
            BlockFormat::Q5K => 4 + 12 + 32 + 128,
            BlockFormat::Q6K => 128 + 64 + 16 + 2,
        }
    }

    /// Appends the numbers of whole blocks.
    pub(in crate::formats) fn append(self, bytes: &[u8], values: &mut Vec<f32>) {
        for block in bytes.chunks_exact(self.bytes()) {
            match self {
                BlockFormat::Q4_0 => {
                    let d = half(block, 0);
                    nibbles(&block[2..], values, |q, _| d * (f32::from(q) - 8.0));
                }
                BlockFormat::Q4_1 => {
                    let (d, m) = (half(block, 0), half(block, 2));
                    nibbles(&block[4..], values, |q, _| d * f32::from(q) + m);
                }
                BlockFormat::Q5_0 => {
                    let (d, high) = (half(block, 0), word(block, 2));
                    nibbles(&block[6..], values, |q, i| {
                        d * (f32::from(fifth(q, high, i)) - 16.0)
                    });
                }
                BlockFormat::Q5_1 => {
                    let (d, m, high) = (half(block, 0), half(block, 2), word(block, 4));
                    nibbles(&block[8..], values, |q, i| {
                        d * f32::from(fifth(q, high, i)) + m
                    });
                }
                BlockFormat::Q8_0 => {
                    let d = half(block, 0);
                    values.extend(block[2..].iter().map(|b| d * f32::from(*b as i8)));
                }
                BlockFormat::Q4K => {
                    let scales = Scales::new(block);
                    for (pair, bytes) in block[16..].chunks_exact(32).enumerate() {
                        let (d, m) = scales.of(2 * pair);
                        values.extend(bytes.iter().map(|b| d * f32::from(b & 15) - m));
                        let (d, m) = scales.of(2 * pair + 1);
                        values.extend(bytes.iter().map(|b| d * f32::from(b >> 4) - m));
                    }
                }
                BlockFormat::Q5K => {
                    let scales = Scales::new(block);
                    let high = &block[16..48];
                    for (pair, bytes) in block[48..].chunks_exact(32).enumerate() {
                        for (half, shift) in [(0, 0), (1, 4)] {
                            let run = 2 * pair + half;
                            let (d, m) = scales.of(run);
                            values.extend(bytes.iter().zip(high).map(|(b, high)| {
                                let q = (b >> shift & 15) | (high >> run & 1) << 4;
                                d * f32::from(q) - m
                            }));
                        }
                    }
                }
                BlockFormat::Q6K => {
                    let (low, rest) = block.split_at(128);
                    let (high, rest) = rest.split_at(64);
                    let (scales, d) = rest.split_at(16);
                    let d = half(d, 0);
                    for part in 0..2 {
                        for quarter in 0..4 {
                            for i in 0..32 {
                                let byte = low[64 * part + 32 * (quarter % 2) + i];
                                let bits = high[32 * part + i] >> (2 * quarter) & 3;
                                let q = (byte >> (4 * (quarter / 2)) & 15) | bits << 4;
                                let scale = scales[8 * part + 2 * quarter + i / 16] as i8;
                                values.push(d * f32::from(scale) * (f32::from(q) - 32.0));
                            }
                        }
                    }
                }
            }
        }
    }
}

/// The 16-bit number at a byte.
fn half(bytes: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Four bits with a fifth one, which stands at bit `i` of `high`.
fn fifth(q: u8, high: u32, i: usize) -> u8 {
    q | ((high >> i & 1) as u8) << 4
}

/// The lower halves of 16 bytes, then the upper ones; `of` is given the number's index too.
fn nibbles(bytes: &[u8], values: &mut Vec<f32>, of: impl Fn(u8, usize) -> f32) {
    let bytes = &bytes[..16];
    values.extend(bytes.iter().enumerate().map(|(i, b)| of(b & 15, i)));
    values.extend(bytes.iter().enumerate().map(|(i, b)| of(b >> 4, i + 16)));
}

/// Scales and minima of the eight runs of a block of 256, six bits each.
struct Scales<'a> {
    d: f32,
    least: f32,
    packed: &'a [u8],
}

impl<'a> Scales<'a> {
    fn new(block: &'a [u8]) -> Self {
        Scales {
            d: half(block, 0),
            least: half(block, 2),
            packed: &block[4..16],
        }
    }

    fn of(&self, run: usize) -> (f32, f32) {
        let p = self.packed;
        let (scale, least) = match run {
            0..4 => (p[run] & 63, p[run + 4] & 63),
            _ => (
                p[run + 4] & 15 | p[run - 4] >> 6 << 4,
                p[run + 4] >> 4 | p[run] >> 6 << 4,
            ),
        };
        (self.d * f32::from(scale), self.least * f32::from(least))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    #[test]
    fn numbers_are_those_of_the_reference_reader() {
        let golden = include_str!("../../../tests/golden/gguf_blocks.json");
        let golden: Value = serde_json::from_str(golden).unwrap();
        for (name, format) in [
            ("Q4_0", BlockFormat::Q4_0),
            ("Q4_1", BlockFormat::Q4_1),
            ("Q5_0", BlockFormat::Q5_0),
            ("Q5_1", BlockFormat::Q5_1),
            ("Q8_0", BlockFormat::Q8_0),
            ("Q4_K", BlockFormat::Q4K),
            ("Q5_K", BlockFormat::Q5K),
            ("Q6_K", BlockFormat::Q6K),
        ] {
            let of: Vec<u8> = serde_json::from_value(golden[name]["bytes"].clone()).unwrap();
            let expected: Vec<f32> =
                serde_json::from_value(golden[name]["numbers"].clone()).unwrap();
            assert_eq!(of.len() % format.bytes(), 0);
            let mut found = Vec::new();
            format.append(&of, &mut found);
            assert_eq!(found.len(), of.len() / format.bytes() * format.numbers());
            for (i, (f, e)) in found.iter().zip(&expected).enumerate() {
                assert!((f - e).abs() <= 1e-6 * e.abs(), "{name} {i}: {f} {e}");
            }
        }
    }
}
