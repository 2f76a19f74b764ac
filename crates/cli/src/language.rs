//! `--from` and `--to`: the direction of a multilingual model.

use hexapla::error::Result;
use hexapla::generate::translator::Translator;
use hexapla::text::direction::Direction;

#[derive(Debug, clap::Args)]
pub(crate) struct LanguageFlags {
    /// Source language; each line's is recognised where absent. It decides the target where --to is absent.
    #[arg(long)]
    from: Option<String>,
    /// Target language of a multilingual model: `>>to<<` is put before each line. The embedded model has de, en and zh. Where absent: English, or Chinese for English text.
    #[arg(long)]
    to: Option<String>,
}

/// Of the embedded model, and of any with its two languages: English goes to Chinese, and all else to English.
fn open_target(languages: &[String], from: Option<&str>) -> Option<&'static str> {
    let (english, chinese) = ("en", "zh");
    let has = |name: &&str| languages.iter().any(|language| language == *name);
    let to = if from == Some(english) {
        chinese
    } else {
        english
    };
    [english, chinese].iter().all(has).then_some(to)
}

impl LanguageFlags {
    /// Whether a language is named.
    pub(crate) fn is_given(&self) -> bool {
        self.from.is_some() || self.to.is_some()
    }

    pub(crate) fn direction(&self, model: &Translator) -> Result<Direction> {
        let direction = model.direction(self.from.as_deref(), self.to.as_deref())?;
        Ok(direction.with_open_target(open_target))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn english_goes_to_chinese_and_all_else_to_english() {
        let known = ["de", "en", "zh"].map(String::from);
        for (from, to) in [
            (Some("en"), "zh"),
            (Some("zh"), "en"),
            (Some("de"), "en"),
            (None, "en"),
        ] {
            assert_eq!(open_target(&known, from), Some(to));
            assert_eq!(open_target(&known[..2], from), None);
        }
    }
}
