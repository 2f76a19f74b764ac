//! AMX: products of tiles, which are 16 rows of 64 bytes (Intel's Architecture Instruction Set Extensions, "AMX").
//!
//! Stable Rust has no names for these instructions, so the one loop that uses them is written in assembly. Where a CPU lacks
//! them the tests run an emulation in plain Rust, so that packing and the order of tiles are tested there too.

use std::arch::asm;
use std::arch::x86_64::__cpuid_count;
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

/// A product of 16 or 32 rows by 32 columns, over all steps of k.
///
/// In a step, A has 64 bytes of k for each row; B has, for each 4 bytes of k, 4 bytes for each column.
#[derive(Debug)]
pub(crate) struct Tiles {
    /// The first row of A.
    pub(crate) a: *const u8,
    /// Its row 16; null where there is none.
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
        if cfg!(test) && !is_allowed() {
            // SAFETY: passed on.
            return unsafe { emulate(numbers, t) };
        }
        // There are too few registers for what is needed but once.
        let seldom = [
            t.starts.addr(),
            t.start_stride,
            ROWS * t.start_stride,
            t.sums.addr(),
            t.sum_stride,
            ROWS * t.sum_stride,
            t.next.addr(),
            t.next_count,
            t.next_stride,
        ];
        macro_rules! run {
            ($product:literal, [$($start:expr),*], [$($step:expr),*], [$($end:expr),*]) => {
                // SAFETY: what is read and written is the caller's promise; the registers are 16 rows of 64 bytes,
                // since `Registers` exist; the compiler itself uses no tile.
                unsafe {
                    asm!(
                        "mov {x}, [{seldom}]",
                        "mov {y}, [{seldom} + 8]",
                        "tileloadd tmm0, [{x} + {y}*1]",
                        "tileloadd tmm1, [{x} + {y}*1 + 64]",
                        $($start,)*
                        "mov {x}, [{seldom} + 48]",
                        "2:",
                        "mov {y}, [{seldom} + 56]",
                        "test {y}, {y}",
                        "jz 4f",
                        "3:",
                        "prefetcht0 [{x}]",
                        "prefetcht0 [{x} + 64]",
                        "add {x}, [{seldom} + 64]",
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
                        "mov {x}, [{seldom} + 24]",
                        "mov {y}, [{seldom} + 32]",
                        "tilestored [{x} + {y}*1], tmm0",
                        "tilestored [{x} + {y}*1 + 64], tmm1",
                        $($end,)*
                        seldom = in(reg) seldom.as_ptr(), x = out(reg) _, y = out(reg) _,
                        a = inout(reg) t.a => _, a_stride = in(reg) t.a_stride, a_step = in(reg) t.a_step,
                        b = inout(reg) t.b => _, b_stride = in(reg) t.b_stride, b_step = in(reg) ROWS * t.b_stride,
                        second = inout(reg) t.second => _, steps = inout(reg) t.steps => _,
                        out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                        out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                        options(nostack),
                    )
                }
            };
            ($product:literal) => {
                if t.second.is_null() {
                    run!($product, [], ["/* {second} */"], [])
                } else {
                    run!($product, [
                        "add {x}, [{seldom} + 16]",
                        "tileloadd tmm2, [{x} + {y}*1]",
                        "tileloadd tmm3, [{x} + {y}*1 + 64]"
                    ], [
                        "tileloadd tmm5, [{second} + {a_stride}*1]",
                        concat!($product, " tmm2, tmm5, tmm6"),
                        concat!($product, " tmm3, tmm5, tmm7"),
                        "add {second}, {a_step}"
                    ], [
                        "add {x}, [{seldom} + 40]",
                        "tilestored [{x} + {y}*1], tmm2",
                        "tilestored [{x} + {y}*1 + 64], tmm3"
                    ])
                }
            };
        }
        match numbers {
            Numbers::Bf16 => run!("tdpbf16ps"),
            Numbers::Bytes => run!("tdpbusd"),
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
unsafe fn emulate(numbers: Numbers, t: &Tiles) {
    let tiles_of_rows = if t.second.is_null() { 1 } else { 2 };
    for row in 0..tiles_of_rows * ROWS {
        let a = if row < ROWS { t.a } else { t.second };
        for column in 0..2 * ROWS {
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
        for (numbers, second) in [
            (Numbers::Bytes, false),
            (Numbers::Bytes, true),
            (Numbers::Bf16, false),
            (Numbers::Bf16, true),
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
            let b: Vec<u32> = (0..steps * ROWS * 32).map(|i| bits(i + 77)).collect();
            let starts: Vec<u32> = (0..2 * ROWS * 32).map(|i| (i as f32).to_bits()).collect();
            let run = |how: &dyn Fn(&Tiles)| {
                let mut sums = vec![0u32; 2 * ROWS * 32];
                let second_row = a[ROWS * steps * 16..].as_ptr().cast();
                how(&Tiles {
                    a: a.as_ptr().cast(),
                    second: if second { second_row } else { std::ptr::null() },
                    a_stride: steps * ROW,
                    a_step: ROW,
                    b: b.as_ptr().cast(),
                    b_stride: 2 * ROW,
                    steps,
                    starts: starts.as_ptr().cast(),
                    start_stride: 2 * ROW,
                    sums: sums.as_mut_ptr().cast(),
                    sum_stride: 2 * ROW,
                    next: std::ptr::null(),
                    next_stride: 2 * ROW,
                    next_count: 2,
                });
                sums
            };
            let registers = Registers::new();
            // SAFETY: 32 rows of 3 steps, 3 · 16 lines of 32 columns, and 32 rows of 32 sums exist; the CPU has tiles, and this
            // thread their registers.
            let found = run(&|t| unsafe { Registers::multiply(numbers, t) });
            drop(registers);
            // SAFETY: as above.
            let expected = run(&|t| unsafe { emulate(numbers, t) });
            assert_eq!(found, expected, "{numbers:?} {second}");
            assert_eq!(found[ROWS * 32..].iter().any(|s| *s != 0), second);
        }
    }
}
