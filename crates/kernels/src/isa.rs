//! Which instructions this CPU has, as a value that cannot be made where it has them not.

use std::sync::OnceLock;

/// An instruction set that the running CPU has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Level);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    Scalar,
    #[cfg(target_arch = "x86_64")]
    Avx2,
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX-512 with VNNI and BF16, and AMX's tiles.
    #[cfg(target_arch = "x86_64")]
    Amx,
    #[cfg(target_arch = "aarch64")]
    Neon,
}

impl Isa {
    /// Plain Rust, on every CPU: the reference for all others.
    pub const SCALAR: Isa = Isa(Level::Scalar);

    /// All that this CPU has, the plainest first.
    pub fn available() -> Vec<Isa> {
        #[allow(unused_mut)]
        let mut all = vec![Isa::SCALAR];
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                all.push(Isa(Level::Avx2));
                if ["avx512f", "avx512vl", "avx512bw", "avx512dq"]
                    .iter()
                    .all(|f| has(f))
                {
                    all.push(Isa(Level::Avx512));
                    // Tests emulate its tiles where the CPU has none.
                    if Isa(Level::Avx512).has_vnni()
                        && Isa(Level::Avx512).has_bf16()
                        && (crate::amx::is_allowed() || cfg!(test))
                    {
                        all.push(Isa(Level::Amx));
                    }
                }
            }
        }
        #[cfg(target_arch = "aarch64")]
        all.push(Isa(Level::Neon));
        all
    }

    /// The best that this CPU has, or the lesser one that the environment variable `HEXAPLA_ISA` names.
    /// A name that is unknown, or of a set that this CPU lacks, is ignored here; see [`Isa::from_environment`].
    pub fn best() -> Isa {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| {
            let strongest = *Isa::available().last().unwrap_or(&Isa::SCALAR);
            Isa::from_environment().ok().flatten().unwrap_or(strongest)
        })
    }

    /// What `HEXAPLA_ISA` asks for, if it is set.
    ///
    /// # Errors
    /// The names that would have been possible, where it names none of them.
    pub fn from_environment() -> Result<Option<Isa>, String> {
        let Ok(wanted) = std::env::var("HEXAPLA_ISA") else {
            return Ok(None);
        };
        let all = Isa::available();
        match all.iter().find(|isa| isa.name() == wanted) {
            Some(isa) => Ok(Some(*isa)),
            None => Err(all
                .iter()
                .map(|isa| isa.name())
                .collect::<Vec<_>>()
                .join(", ")),
        }
    }

    /// Whether this set multiplies bytes and sums four of the products in one instruction (AVX-512 VNNI).
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn has_vnni(self) -> bool {
        self.0 == Level::Amx || self.0 == Level::Avx512 && is_x86_feature_detected!("avx512vnni")
    }

    /// Whether this set sums four products of signed bytes in one instruction.
    #[cfg(target_arch = "aarch64")]
    pub(crate) fn has_sdot(self) -> bool {
        self.0 == Level::Neon && std::arch::is_aarch64_feature_detected!("dotprod")
    }

    /// Whether this set multiplies bf16 numbers and sums two of the products in one instruction (AVX-512 BF16, AMX).
    pub fn has_bf16(self) -> bool {
        #[cfg(target_arch = "x86_64")]
        return self.0 == Level::Amx
            || self.0 == Level::Avx512 && is_x86_feature_detected!("avx512bf16");
        #[cfg(not(target_arch = "x86_64"))]
        return false;
    }

    /// `scalar`, `avx2`, `avx512`, `amx` or `neon`.
    pub fn name(self) -> &'static str {
        match self.0 {
            Level::Scalar => "scalar",
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => "avx2",
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => "avx512",
            #[cfg(target_arch = "x86_64")]
            Level::Amx => "amx",
            #[cfg(target_arch = "aarch64")]
            Level::Neon => "neon",
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn has(feature: &str) -> bool {
    match feature {
        "avx512f" => is_x86_feature_detected!("avx512f"),
        "avx512vl" => is_x86_feature_detected!("avx512vl"),
        "avx512bw" => is_x86_feature_detected!("avx512bw"),
        "avx512dq" => is_x86_feature_detected!("avx512dq"),
        _ => false,
    }
}

/// Compiles one plain-Rust body for each instruction set and picks by [`Isa`].
///
/// The body is inlined into functions with the instruction set enabled, so that the compiler's own vectorizer uses it.
macro_rules! multiversion {
    ($(#[$doc:meta])* $vis:vis fn $name:ident($($arg:ident: $ty:ty),* $(,)?) $(-> $ret:ty)? $body:block) => {
        $(#[$doc])*
        #[allow(clippy::too_many_arguments)]
        $vis fn $name(isa: $crate::Isa, $($arg: $ty),*) $(-> $ret)? {
            #[inline(always)]
            #[allow(clippy::too_many_arguments)]
            fn plain($($arg: $ty),*) $(-> $ret)? $body
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma")]
            #[allow(clippy::too_many_arguments)]
            fn avx2($($arg: $ty),*) $(-> $ret)? { plain($($arg),*) }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,avx512f,avx512vl,avx512bw,avx512dq")]
            #[allow(clippy::too_many_arguments)]
            fn avx512($($arg: $ty),*) $(-> $ret)? { plain($($arg),*) }
            match isa.0 {
                $crate::isa::Level::Scalar => plain($($arg),*),
                #[cfg(target_arch = "aarch64")]
                $crate::isa::Level::Neon => plain($($arg),*),
                // SAFETY: an `Isa` of this level exists only where the CPU has these features.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx2 => unsafe { avx2($($arg),*) },
                // SAFETY: as above.
                #[cfg(target_arch = "x86_64")]
                $crate::isa::Level::Avx512 | $crate::isa::Level::Amx => unsafe { avx512($($arg),*) },
            }
        }
    };
}
pub(crate) use multiversion;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scalar_set_is_everywhere() {
        assert_eq!(Isa::available()[0], Isa::SCALAR);
        println!("instruction sets here: {:?}", Isa::available());
    }
}
