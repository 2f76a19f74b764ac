//! Token vectors plus positions (paper, sections 3.4 and 3.5).

use std::borrow::Cow;
use std::sync::Arc;

use crate::batch::Rows;
use crate::config::{EmbeddingConfig, Positions};
use crate::model::layers::{Linear, Norm};
use crate::model::positions::Sinusoids;
use crate::ops::Run;
use crate::ops::add_rows::add_rows;
use crate::ops::embedding::{Embedding, PositionTable, embed};
use crate::ops::pointwise::dropout;
use crate::tensor::Tensor;
use crate::weights::{Kind, ParameterId, ParameterIndex};

/// Tokens and their positions as rows.
#[derive(Debug, Clone)]
pub(super) struct Embedder {
    /// `[vocab, d_model]`.
    table: ParameterId,
    positions: PositionRows,
    scale: f32,
    offset: u32,
    unplaced_token: Option<u32>,
    /// `[segments, width]`.
    segments: Option<ParameterId>,
    norm: Option<Norm>,
    /// From the tables' width to d_model.
    projection: Option<Linear>,
    dropout: f32,
}

#[derive(Debug, Clone)]
enum PositionRows {
    /// None are added.
    None,
    /// `[positions, d_model]`.
    Learned(ParameterId),
    Computed(Arc<Sinusoids>),
}

/// The table called `name`, which may be there already.
pub(super) fn table(
    index: &mut ParameterIndex,
    name: &str,
    [rows, d_model]: [usize; 2],
) -> ParameterId {
    let found = index.find(name);
    found.unwrap_or_else(|| index.add(name, &[rows, d_model], Kind::Table(deviation(d_model))))
}

/// Of a table's random numbers.
fn deviation(d_model: usize) -> f32 {
    (d_model as f32).powf(-0.5)
}

impl Embedder {
    /// `half` and `side` name its parameters: of the encoder, and of the source. `table` is that of the tokens, `shared` the
    /// tables of positions that were computed before.
    pub(super) fn new(
        index: &mut ParameterIndex,
        (half, side): (&str, &str),
        table: ParameterId,
        shared: &mut Vec<Arc<Sinusoids>>,
        d_model: usize,
        config: &EmbeddingConfig,
    ) -> Self {
        let rows = config.max_positions + config.position_offset;
        let width = config.width;
        let table_of = |index: &mut ParameterIndex, name: &str, rows: usize| {
            let name = format!("{side}_{name}.weight");
            index.add(name, &[rows, width], Kind::Positions(deviation(width)))
        };
        Embedder {
            table,
            positions: match config.positions {
                None => PositionRows::None,
                Some(Positions::Learned) => {
                    PositionRows::Learned(table_of(index, "positions", rows))
                }
                Some(computed) => {
                    PositionRows::Computed(Sinusoids::among(shared, computed, config, width))
                }
            },
            scale: config.scale,
            offset: config.position_offset as u32,
            unplaced_token: config.unplaced_token,
            segments: (config.segments > 0).then(|| table_of(index, "segments", config.segments)),
            norm: config.norm.as_ref().map(|norm| {
                let name = format!("{half}.embedding_norm");
                Norm::new(index, &name, width, norm)
            }),
            projection: (width != d_model).then(|| {
                let name = format!("{half}.embedding_projection");
                Linear::new(index, &name, [width, d_model], true)
            }),
            dropout: config.dropout,
        }
    }

    /// The position of each row of whole texts, from 0. A token that has none does not count for those behind it. (In a step
    /// it does: transformers counts what its cache holds.)
    pub(super) fn positions<'a>(&self, rows: &'a Rows) -> Cow<'a, [u32]> {
        let Some(unplaced) = self.unplaced_token.filter(|id| rows.ids.contains(id)) else {
            return Cow::Borrowed(&rows.positions);
        };
        let mut positions = Vec::with_capacity(rows.len());
        for span in &rows.spans {
            let mut next = 0;
            for id in &rows.ids[span.start..span.start + span.len] {
                positions.push(next);
                next += u32::from(*id != unplaced);
            }
        }
        Cow::Owned(positions)
    }

    /// Whole texts: `[rows, d_model]`.
    pub(super) fn texts(&self, run: &mut Run, rows: &Rows) -> Tensor {
        let x = self.tokens(run, &rows.ids, &self.positions(rows));
        self.finish(run, x, &rows.segments)
    }

    /// Each token at its position, in a step: `[tokens, d_model]`.
    pub(super) fn step(&self, run: &mut Run, ids: &[u32], positions: &[u32]) -> Tensor {
        let x = self.tokens(run, ids, positions);
        self.finish(run, x, &[])
    }

    /// Segments, norm, and the way to d_model. Rows beyond `segments` are in the first one.
    fn finish(&self, run: &mut Run, x: Tensor, segments: &[u32]) -> Tensor {
        let mut x = x;
        if let Some(table) = self.segments {
            let segment = |row| segments.get(row).copied().unwrap_or(0);
            x = add_rows(run, &x, table, (0..x.rows()).map(segment));
        }
        if let Some(norm) = &self.norm {
            x = norm.forward(run, &x);
            x = dropout(run, x, self.dropout);
        }
        match &self.projection {
            Some(projection) => projection.forward(run, &x),
            None => x,
        }
    }

    /// The sums of tokens and positions: `[tokens, width]`.
    fn tokens(&self, run: &mut Run, ids: &[u32], positions: &[u32]) -> Tensor {
        let row = |(id, position): (&u32, &u32)| match self.unplaced_token {
            // Its row of the table is zero.
            Some(unplaced) if *id == unplaced => (*id, unplaced),
            _ => (*id, position + self.offset),
        };
        let tokens = ids.iter().zip(positions).map(row);
        let rows = tokens.clone().map(|(_, row)| row as usize + 1).max();
        let options = Embedding {
            table: self.table,
            scale: self.scale,
            positions: match &self.positions {
                PositionRows::None => PositionTable::None,
                PositionRows::Learned(table) => PositionTable::Learned(*table),
                PositionRows::Computed(table) => {
                    PositionTable::Fixed(table.rows(rows.unwrap_or(0)))
                }
            },
            dropout: match self.norm {
                Some(_) => 0.0,
                None => self.dropout,
            },
        };
        embed(run, &options, tokens)
    }
}
