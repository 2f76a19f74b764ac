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

impl LanguageFlags {
    pub(crate) fn direction(&self, model: &Translator) -> Result<Direction> {
        let tokenizer = &model.tokenizers.source;
        Direction::new(
            tokenizer,
            &model.directions,
            self.from.as_deref(),
            self.to.as_deref(),
        )
    }
}
