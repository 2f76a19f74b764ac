//! AMX: products of tiles, which are 16 rows of 64 bytes (Intel's Architecture Instruction Set Extensions, "AMX").
//!
//! Stable Rust has no names for these instructions, so the one loop that uses them is written in assembly. Where a CPU lacks
//! them the tests run an emulation in plain Rust, so that packing and the order of tiles are tested there too.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
use std::mem::offset_of;
use std::sync::OnceLock;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;
/// Bytes in a row of a tile: 64 numbers of 8 bits, 32 of 16, or 16 sums of 32.
pub(crate) const ROW: usize = 64;

/// Whether the CPU has tiles and the system lets this process use them.
pub(crate) fn is_allowed() -> bool {
    static ALLOWED: OnceLock<bool> = OnceLock::new();
    *ALLOWED.get_or_init(|| {
        // Leaf 7, EDX: bit 22 is AMX-BF16, 24 AMX-TILE, 25 AMX-INT8.
        const ALL: u32 = 1 << 22 | 1 << 24 | 1 << 25;
        let has = __cpuid_count(0, 0).eax >= 7 && __cpuid_count(7, 0).edx & ALL == ALL;
        has && system_allows()
    })
}

/// Asks the system for the tiles' state, which threads would otherwise not have (`arch_prctl(2)`).
fn system_allows() -> bool {
    if cfg!(not(target_os = "linux")) {
        return false;
    }
    const ARCH_PRCTL: i64 = 158;
    const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
    const XTILEDATA: u64 = 18;
    let result: i64;
    // SAFETY: the call reads and writes none of the program's memory; it gives this process a right, or an error where the
    // system knows no such call.
    unsafe {
        asm!("syscall", inlateout("rax") ARCH_PRCTL => result, in("rdi") ARCH_REQ_XCOMP_PERM, in("rsi") XTILEDATA,
            out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}

/// What tiles hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbers {
    /// bf16 in A and in B, sums in f32.
    Bf16,
    /// Unsigned bytes in A, signed ones in B, sums in 32 bits modulo 2³².
    Bytes,
}

/// A product over all steps of k: of bytes of 16 rows by 64 columns, as a panel of weights has them, so that it is read in one
/// go; of bf16 of 16 or 32 rows by 32 columns.
///
/// In a step, A has 64 bytes of k for each row; B has, for each 4 bytes of k, 4 bytes for each column.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Tiles {
    /// The first row of A.
    pub(crate) a: *const u8,
    /// Of bf16 its row 16; null where there is none.
    pub(crate) second: *const u8,
    /// Bytes between rows.
    pub(crate) a_stride: usize,
    /// Bytes between steps.
    pub(crate) a_step: usize,
    /// The columns' first 4 bytes of k.
    pub(crate) b: *const u8,
    /// Bytes between 4 bytes of k and the next.
    pub(crate) b_stride: usize,
    pub(crate) steps: usize,
    /// What the sums start from, rows so many bytes apart.
    pub(crate) starts: *const u8,
    pub(crate) start_stride: usize,
    /// Where the sums go.
    pub(crate) sums: *mut u8,
    pub(crate) sum_stride: usize,
    /// Memory that is wanted soon, two cache lines here and each `next_stride` bytes on, of which each step asks for so many: only
    /// a hint.
    pub(crate) next: *const u8,
    pub(crate) next_stride: usize,
    pub(crate) next_count: usize,
}

/// The tiles' registers, made ready for this thread; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Registers(());

impl Registers {
    /// Makes all eight registers tiles of 16 rows of 64 bytes.
    pub(crate) fn new() -> Self {
        #[repr(C, align(64))]
        struct Settings([u8; 64]);
        static SETTINGS: Settings = {
            // Byte 0 is the palette; from 16 on the bytes of a row (in 16 bits) and from 48 on the rows of each register.
            let mut settings = [0; 64];
            settings[0] = 1;
            let mut i = 0;
            while i < 8 {
                settings[16 + 2 * i] = ROW as u8;
                settings[48 + i] = ROWS as u8;
                i += 1;
            }
            Settings(settings)
        };
        if is_allowed() {
            // SAFETY: the CPU has tiles and the system allows them; the settings are 64 bytes of a palette that it has.
            unsafe { asm!("ldtilecfg [{0}]", in(reg) &SETTINGS, options(nostack, readonly)) };
        }
        Registers(())
    }

    /// # Safety
    /// All rows and steps of A and B and all rows of the starts may be read, and those of the sums written: 16 rows for each
    /// tile of rows. There is at least one step, the CPU has tiles, and this thread holds their registers.
    pub(crate) unsafe fn multiply(numbers: Numbers, t: &Tiles) {
        #[cfg(test)]
        if !is_allowed() {
            // SAFETY: passed on.
            return unsafe { emulate(numbers, t) };
        }
        macro_rules! run {
            ($product:literal, [$($start:expr),*], [$($step:expr),*], [$($end:expr),*]) => {
                // SAFETY: what is read and written is the caller's promise; the registers are 16 rows of 64 bytes,
                // since `Registers` exist; the compiler itself uses no tile.
                unsafe {
                    asm!(
                        // There are too few registers to hold what is needed but once.
                        "mov {x}, [{t} + {starts}]",
                        "mov {y}, [{t} + {start_stride}]",
                        "tileloadd tmm0, [{x} + {y}*1]",
                        "tileloadd tmm1, [{x} + {y}*1 + 64]",
                        $($start,)*
                        "mov {x}, [{t} + {next}]",
                        "2:",
                        "mov {y}, [{t} + {next_count}]",
                        "test {y}, {y}",
                        "jz 4f",
                        "3:",
                        "prefetcht0 [{x}]",
                        "prefetcht0 [{x} + 64]",
                        "add {x}, [{t} + {next_stride}]",
                        "dec {y}",
                        "jnz 3b",
                        "4:",
                        "tileloadd tmm4, [{a} + {a_stride}*1]",
                        "tileloadd tmm6, [{b} + {b_stride}*1]",
                        concat!($product, " tmm0, tmm4, tmm6"),
                        "tileloadd tmm7, [{b} + {b_stride}*1 + 64]",
                        concat!($product, " tmm1, tmm4, tmm7"),
                        $($step,)*
                        "add {a}, {a_step}",
                        "add {b}, {b_step}",
                        "dec {steps}",
                        "jnz 2b",
                        "mov {x}, [{t} + {sums}]",
                        "mov {y}, [{t} + {sum_stride}]",
                        "tilestored [{x} + {y}*1], tmm0",
                        "tilestored [{x} + {y}*1 + 64], tmm1",
                        $($end,)*
                        t = in(reg) t, x = out(reg) _, y = out(reg) _,
                        starts = const offset_of!(Tiles, starts), start_stride = const offset_of!(Tiles, start_stride),
                        sums = const offset_of!(Tiles, sums), sum_stride = const offset_of!(Tiles, sum_stride),
                        next = const offset_of!(Tiles, next), next_stride = const offset_of!(Tiles, next_stride),
                        next_count = const offset_of!(Tiles, next_count),
                        a = inout(reg) t.a => _, a_stride = in(reg) t.a_stride, a_step = in(reg) t.a_step,
                        b = inout(reg) t.b => _, b_stride = in(reg) t.b_stride, b_step = in(reg) ROWS * t.b_stride,
                        second = inout(reg) t.second => _, steps = inout(reg) t.steps => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                }
            };
        }
        match (numbers, t.second.is_null()) {
            (Numbers::Bytes, _) => run!(
                "tdpbusd",
                [
                    "tileloadd tmm2, [{x} + {y}*1 + 128]",
                    "tileloadd tmm3, [{x} + {y}*1 + 192]"
                ],
                [
                    "/* {second} */",
                    "tileloadd tmm5, [{b} + {b_stride}*1 + 128]",
                    "tdpbusd tmm2, tmm4, tmm5",
                    "tileloadd tmm6, [{b} + {b_stride}*1 + 192]",
                    "tdpbusd tmm3, tmm4, tmm6"
                ],
                [
                    "tilestored [{x} + {y}*1 + 128], tmm2",
                    "tilestored [{x} + {y}*1 + 192], tmm3"
                ]
            ),
            (Numbers::Bf16, true) => run!("tdpbf16ps", [], ["/* {second} */"], []),
            (Numbers::Bf16, false) => run!(
                "tdpbf16ps",
                [
                    "shl {y}, 4",
                    "add {x}, {y}",
                    "shr {y}, 4",
                    "tileloadd tmm2, [{x} + {y}*1]",
                    "tileloadd tmm3, [{x} + {y}*1 + 64]"
                ],
                [
                    "tileloadd tmm5, [{second} + {a_stride}*1]",
                    "tdpbf16ps tmm2, tmm5, tmm6",
                    "tdpbf16ps tmm3, tmm5, tmm7",
                    "add {second}, {a_step}"
                ],
                [
                    "shl {y}, 4",
                    "add {x}, {y}",
                    "shr {y}, 4",
                    "tilestored [{x} + {y}*1], tmm2",
                    "tilestored [{x} + {y}*1 + 64], tmm3"
                ]
            ),
        }
    }
}

impl Drop for Registers {
    fn drop(&mut self) {
        if is_allowed() {
            // SAFETY: the CPU has tiles; nobody expects anything in them any more.
            unsafe { asm!("tilerelease", options(nomem, nostack)) };
        }
    }
}

/// What [`Registers::multiply`] does, in plain Rust.
///
/// # Safety
/// As there, but for the CPU.
#[cfg(test)]
unsafe fn emulate(numbers: Numbers, t: &Tiles) {
    let (rows, columns) = match (numbers, t.second.is_null()) {
        (Numbers::Bytes, _) => (ROWS, 4 * ROWS),
        (Numbers::Bf16, true) => (ROWS, 2 * ROWS),
        (Numbers::Bf16, false) => (2 * ROWS, 2 * ROWS),
    };
    for row in 0..rows {
        let a = if row < ROWS { t.a } else { t.second };
        for column in 0..columns {
            // SAFETY: rows and columns of the caller's tiles, and their steps.
            unsafe {
                let start = t.starts.add(row * t.start_stride).cast::<u32>().add(column);
                let mut sum = start.read_unaligned();
                for step in 0..t.steps {
                    let a = a.add(row % ROWS * t.a_stride + step * t.a_step);
                    let b = t.b.add(step * ROWS * t.b_stride + 4 * column);
                    let word = |i: usize| {
                        let a = a.cast::<u32>().add(i).read_unaligned();
                        (a, b.add(i * t.b_stride).cast::<u32>().read_unaligned())
                    };
                    match numbers {
                        Numbers::Bytes => {
                            for (a, b) in (0..ROWS).map(word) {
                                for (a, b) in a.to_le_bytes().into_iter().zip(b.to_le_bytes()) {
                                    sum = sum
                                        .wrapping_add((i32::from(a) * i32::from(b as i8)) as u32);
                                }
                            }
                        }
                        Numbers::Bf16 => {
                            // The products of even k and those of odd k are summed apart.
                            let mut halves = [0.0f32; 2];
                            for (a, b) in (0..ROWS).map(word) {
                                for (half, shift) in halves.iter_mut().zip([16, 0]) {
                                    let number = |w: u32| f32::from_bits(w << shift & 0xFFFF_0000);
                                    *half = number(a).mul_add(number(b), *half);
                                }
                            }
                            let both = halves[0] + halves[1];
                            sum = (f32::from_bits(sum) + both).to_bits();
                        }
                    }
                }
                let to = t.sums.add(row * t.sum_stride).cast::<u32>().add(column);
                to.write_unaligned(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where the CPU has tiles, the emulation computes what they do.
    #[test]
    fn the_emulation_computes_what_tiles_do() {
        if !is_allowed() {
            println!("no AMX here");
            return;
        }
        for (numbers, second, columns) in [
            (Numbers::Bytes, false, 4 * ROWS),
            (Numbers::Bf16, false, 2 * ROWS),
            (Numbers::Bf16, true, 2 * ROWS),
        ] {
            let steps = 3;
            let bits = |i: usize| match numbers {
                // Any bytes; numbers of bf16 between -2 and 2.
                Numbers::Bytes => (i as u32).wrapping_mul(2_654_435_761),
                Numbers::Bf16 => {
                    let half = |i: usize| ((i as f32 * 0.7).sin() * 2.0).to_bits() >> 16;
                    half(2 * i) | half(2 * i + 1) << 16
                }
            };
            let a: Vec<u32> = (0..2 * ROWS * steps * 16).map(bits).collect();
            let b: Vec<u32> = (0..steps * ROWS * columns).map(|i| bits(i + 77)).collect();
            let starts: Vec<u32> = (0..2 * ROWS * columns)
                .map(|i| (i as f32).to_bits())
                .collect();
            let run = |how: &dyn Fn(&Tiles)| {
                let mut sums = vec![0u32; 2 * ROWS * columns];
                let second_row = a[ROWS * steps * 16..].as_ptr().cast();
                how(&Tiles {
                    a: a.as_ptr().cast(),
                    second: if second { second_row } else { std::ptr::null() },
                    a_stride: steps * ROW,
                    a_step: ROW,
                    b: b.as_ptr().cast(),
                    b_stride: 4 * columns,
                    steps,
                    starts: starts.as_ptr().cast(),
                    start_stride: 4 * columns,
                    sums: sums.as_mut_ptr().cast(),
                    sum_stride: 4 * columns,
                    next: std::ptr::null(),
                    next_stride: 2 * ROW,
                    next_count: 2,
                });
                sums
            };
            let registers = Registers::new();
            // SAFETY: 32 rows of 3 steps, 3 · 16 lines of all columns, and 32 rows of sums exist; the CPU has tiles, and this
            // thread their registers.
            let found = run(&|t| unsafe { Registers::multiply(numbers, t) });
            drop(registers);
            // SAFETY: as above.
            let expected = run(&|t| unsafe { emulate(numbers, t) });
            assert_eq!(found, expected, "{numbers:?} {second}");
            assert_eq!(found[ROWS * columns..].iter().any(|s| *s != 0), second);
        }
    }
}
