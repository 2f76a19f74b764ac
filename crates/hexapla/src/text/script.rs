//! Which script a character belongs to.

/// Whether a character is Chinese (a Han ideograph, or one of the two marks that are written as one).
pub(crate) fn is_han(c: char) -> bool {
    matches!(u32::from(c), 0x3005 | 0x3007 | 0x3400..=0x4DBF | 0x4E00..=0x9FFF | 0xF900..=0xFAFF | 0x20000..=0x323AF)
}

/// Whether a letter is of a script without spaces between its words, Han aside: kana, Thai, Lao, Tibetan, Burmese, Khmer, and
/// those of Southwest China.
pub(crate) fn is_spaceless(c: char) -> bool {
    matches!(u32::from(c),
        0xE00..=0xEFF            // Thai, Lao
        | 0xF00..=0xFFF          // Tibetan
        | 0x1000..=0x109F | 0xA9E0..=0xA9FF | 0xAA60..=0xAA7F // Burmese
        | 0x1780..=0x17FF        // Khmer
        | 0x1950..=0x19DF        // Tai Le, New Tai Lue
        | 0x1A20..=0x1AAF        // Tai Tham
        | 0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9D | 0x1B000..=0x1B16F // kana
        | 0xAA80..=0xAADF) // Tai Viet
}

/// The script of a letter, as far as corpora are told apart by it.
pub(crate) fn script(c: char) -> &'static str {
    if is_han(c) {
        return "Han";
    }
    match u32::from(c) {
        0x41..=0x24F
        | 0x250..=0x2AF
        | 0x1E00..=0x1EFF
        | 0x2C60..=0x2C7F
        | 0xA720..=0xA7FF
        | 0xFF21..=0xFF5A => "Latin",
        0x370..=0x3FF | 0x1F00..=0x1FFF => "Greek",
        0x400..=0x52F | 0x1C80..=0x1C8F | 0x2DE0..=0x2DFF | 0xA640..=0xA69F => "Cyrillic",
        0x530..=0x58F => "Armenian",
        0x590..=0x5FF => "Hebrew",
        0x600..=0x6FF | 0x750..=0x77F | 0x8A0..=0x8FF | 0xFB50..=0xFDFF | 0xFE70..=0xFEFF => {
            "Arabic"
        }
        0x900..=0x97F => "Devanagari",
        0x980..=0x9FF => "Bengali",
        0xB80..=0xBFF => "Tamil",
        0xE00..=0xE7F => "Thai",
        0xE80..=0xEFF => "Lao",
        0xF00..=0xFFF => "Tibetan",
        0x1000..=0x109F => "Burmese",
        0x1780..=0x17FF => "Khmer",
        0x10A0..=0x10FF => "Georgian",
        0x3040..=0x30FF | 0x31F0..=0x31FF | 0xFF66..=0xFF9D => "Kana",
        0x1100..=0x11FF | 0x3130..=0x318F | 0xAC00..=0xD7AF => "Hangul",
        _ => "other",
    }
}
