//! Where the weights of a training begin.

use std::sync::Arc;

use crate::config::InitialWeights;
use crate::random::{SplitMix, mix};
use crate::weights::{Kind, Parameter, ParameterIndex, Weights};

/// Deviation of GPT-2's weights (Radford et al. 2019, section 2.3, and its code).
const DEVIATION: f32 = 0.02;
/// The last layers of the sublayers: what they give is added to the residual stream.
const PROJECTIONS: [&str; 2] = ["attention.output.weight", "feed_forward.outer.weight"];

/// Seeded random numbers, the same for a seed on every machine.
pub fn weights(index: Arc<ParameterIndex>, seed: u64, initial: InitialWeights) -> Weights {
    let mut weights = Weights::random(index.clone(), seed);
    if initial == InitialWeights::Glorot {
        return weights;
    }
    let is_projection = |p: &Parameter| PROJECTIONS.iter().any(|end| p.name.ends_with(end));
    let sublayers = index.iter().filter(|p| is_projection(p)).count();
    for (number, parameter) in index.iter().enumerate() {
        let deviation = match (parameter.kind, is_projection(parameter)) {
            (Kind::Vector(_), _) => continue,
            (_, false) => DEVIATION,
            (_, true) if initial == InitialWeights::ZeroProjections => 0.0,
            (_, true) => DEVIATION / (sublayers as f32).sqrt(),
        };
        let mut random = SplitMix(mix(seed ^ mix(number as u64)));
        let values = &mut weights.data[parameter.range.clone()];
        values
            .iter_mut()
            .for_each(|v| *v = deviation * random.normal());
    }
    weights
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ModelTable;
    use crate::model::transformer::Transformer;

    #[test]
    fn weights_begin_as_they_are_meant_to() {
        let mut config = ModelTable::default().resolve_decoder().unwrap();
        (config.vocab_size, config.layers) = (50, 2);
        let index = Transformer::new(config).unwrap().index().clone();
        let begin = |initial| weights(index.clone(), 3, initial);
        assert_eq!(
            begin(InitialWeights::Glorot),
            Weights::random(index.clone(), 3)
        );
        let [gpt2, zero] = [InitialWeights::Gpt2, InitialWeights::ZeroProjections].map(begin);
        for (number, p) in index.iter().enumerate() {
            let deviation = |weights: &Weights| {
                let values = weights.data[p.range.clone()].iter();
                let n = p.range.len() as f32;
                (values.map(|v| v * v).sum::<f32>() / n).sqrt()
            };
            if let Kind::Vector(value) = p.kind {
                assert_eq!(deviation(&gpt2), value.abs(), "{}", p.name);
                continue;
            }
            let (expected, of_zero) =
                match p.name.contains("output.weight") || p.name.contains("outer") {
                    true => (0.01, 0.0),
                    false => (0.02, 0.02),
                };
            assert!(
                (deviation(&gpt2) / expected - 1.0).abs() < 0.05,
                "{number} {}",
                p.name
            );
            assert!(
                (deviation(&zero) - of_zero).abs() < 0.001,
                "{number} {}",
                p.name
            );
        }
    }
}
