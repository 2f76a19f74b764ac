//! What nobody can guess, and comparing with it.

use subtle::ConstantTimeEq;

/// So many bytes by chance, in hexadecimal digits.
///
/// # Errors
/// The system gives no random numbers.
pub(crate) fn drawn<const N: usize>() -> Result<String, String> {
    let mut bytes = [0u8; N];
    getrandom::fill(&mut bytes).map_err(|e| e.to_string())?;
    Ok(hexadecimal(&bytes))
}

/// Bytes in hexadecimal digits.
pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Whether two texts are equal, in a time that does not tell how far.
pub(crate) fn is_equal(a: &[u8], b: &[u8]) -> bool {
    a.ct_eq(b).into()
}
