//! Did both sides compute the same thing? Without an [`Agreed`] there is no ratio.

use crate::Result;

/// Both sides computed the same thing, and how that was seen. Made only by the checks below.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Agreed(String);

impl Agreed {
    /// How it was seen.
    pub(crate) fn how(&self) -> &str {
        &self.0
    }
}

/// The same training losses, step by step, to a relative `tolerance`.
///
/// # Errors
/// Says where they part.
pub(crate) fn losses(ours: &[f64], peer: &[f64], tolerance: f64) -> Result<Agreed> {
    if ours.is_empty() || ours.len() != peer.len() {
        return Err(format!(
            "{} losses of ours and {} of the peer's",
            ours.len(),
            peer.len()
        ));
    }
    let mut furthest = 0.0f64;
    for (step, (a, b)) in ours.iter().zip(peer).enumerate() {
        let off = (a / b - 1.0).abs();
        // Not `off > tolerance`: that would let NaN pass.
        if off.is_nan() || off > tolerance {
            return Err(format!(
                "the losses part at step {step}: ours {a}, the peer's {b}"
            ));
        }
        furthest = furthest.max(off);
    }
    Ok(Agreed(format!(
        "{} losses within {furthest:.0e}",
        ours.len()
    )))
}

/// The same ids in at least `share` of the sentences.
///
/// # Errors
/// Says how many are equal, and shows the first that is not.
pub(crate) fn outputs(ours: &[Vec<u32>], peer: &[Vec<u32>], share: f64) -> Result<Agreed> {
    if ours.is_empty() || ours.len() != peer.len() {
        return Err(format!(
            "{} sentences of ours and {} of the peer's",
            ours.len(),
            peer.len()
        ));
    }
    let unequal = |(a, b): &(&Vec<u32>, &Vec<u32>)| a != b;
    let equal = ours.len() - ours.iter().zip(peer).filter(unequal).count();
    let said = format!("{equal} of {} sentences equal", ours.len());
    if equal as f64 >= share * ours.len() as f64 {
        return Ok(Agreed(said));
    }
    match ours.iter().zip(peer).find(unequal) {
        Some((a, b)) => Err(format!("{said}; ours {a:?}, the peer's {b:?}")),
        None => Err(said),
    }
}

/// Two engines of 8 bits against one reference of 32: both round, each in its own way, so they are not asked to be equal;
/// ours must stay as near to the reference as the peer does (`slack` is the share that it may be further off), and make
/// as many tokens.
///
/// # Errors
/// Says how near each is.
pub(crate) fn nearness(
    ours: &[Vec<u32>],
    peer: &[Vec<u32>],
    reference: &[Vec<u32>],
    slack: f64,
) -> Result<Agreed> {
    let tokens = |outputs: &[Vec<u32>]| outputs.iter().map(Vec::len).sum::<usize>();
    if tokens(ours) != tokens(peer) || tokens(ours) != tokens(reference) || reference.is_empty() {
        return Err(format!(
            "{} tokens of ours, {} of the peer's, {} of the reference",
            tokens(ours),
            tokens(peer),
            tokens(reference)
        ));
    }
    let (a, b) = (kept(ours, reference), kept(peer, reference));
    let said = format!(
        "tokens before the first that float32 says otherwise: ours {:.1} %, the peer's {:.1} %",
        100.0 * a,
        100.0 * b
    );
    if a >= b - slack {
        Ok(Agreed(said))
    } else {
        Err(said)
    }
}

/// How the vectors of `found` point beside those of `expected`: the cosine of the worst.
///
/// # Errors
/// There are not as many, or one is nothing.
fn worst_cosine(found: &[Vec<f32>], expected: &[Vec<f32>]) -> Result<f64> {
    if found.is_empty() || found.len() != expected.len() {
        return Err(format!("{} vectors and {}", found.len(), expected.len()));
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        let both = a.iter().zip(b);
        both.map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let mut worst = f64::INFINITY;
    for (a, b) in found.iter().zip(expected) {
        let cosine = dot(a, b) / (dot(a, a) * dot(b, b)).sqrt();
        if a.len() != b.len() || cosine.is_nan() {
            return Err(format!("vectors of {} and {} numbers", a.len(), b.len()));
        }
        worst = worst.min(cosine);
    }
    Ok(worst)
}

/// Vectors of one direction: a cosine of at least `bar` for each. Scores, of which each text has one, are one vector.
///
/// # Errors
/// Says how far the worst is off.
pub(crate) fn vectors(ours: Vec<Vec<f32>>, peer: Vec<Vec<f32>>, bar: f64) -> Result<Agreed> {
    let worst = worst_cosine(&whole(ours), &whole(peer))?;
    let said = format!("worst cosine {worst:.5}");
    if worst >= bar {
        Ok(Agreed(said))
    } else {
        Err(said)
    }
}

/// Engines of 8 bits against a reference of 32: ours keeps at least `bar` of the direction of every vector.
///
/// # Errors
/// Says how far the worst of each is off.
pub(crate) fn near_vectors(
    ours: Vec<Vec<f32>>,
    peer: Vec<Vec<f32>>,
    reference: Vec<Vec<f32>>,
    bar: f64,
) -> Result<Agreed> {
    let reference = whole(reference);
    let (a, b) = (
        worst_cosine(&whole(ours), &reference)?,
        worst_cosine(&whole(peer), &reference)?,
    );
    let said = format!("worst cosine to float32: ours {a:.4}, the peer's {b:.4}");
    if a >= bar {
        Ok(Agreed(said))
    } else {
        Err(said)
    }
}

/// Scores as one vector, less their mean; vectors as they are.
fn whole(vectors: Vec<Vec<f32>>) -> Vec<Vec<f32>> {
    if vectors.iter().any(|v| v.len() != 1) {
        return vectors;
    }
    let mut scores: Vec<f32> = vectors.into_iter().flatten().collect();
    let mean = scores.iter().sum::<f32>() / scores.len().max(1) as f32;
    scores.iter_mut().for_each(|x| *x -= mean);
    vec![scores]
}

/// The share of the reference's tokens that come before a sentence's first difference from it.
fn kept(outputs: &[Vec<u32>], reference: &[Vec<u32>]) -> f64 {
    let all: usize = reference.iter().map(Vec::len).sum();
    let same = |(a, b): (&Vec<u32>, &Vec<u32>)| a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let same: usize = outputs.iter().zip(reference).map(same).sum();
    same as f64 / all.max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_that_part_are_refused() {
        let agreed = losses(&[9.0, 8.0], &[9.00001, 8.0], 1e-4).unwrap();
        assert_eq!(agreed.how(), "2 losses within 1e-6");
        assert!(
            losses(&[9.0, 8.0], &[9.0, 8.1], 1e-4)
                .unwrap_err()
                .contains("step 1")
        );
        assert!(losses(&[f64::NAN], &[f64::NAN], 1e-4).is_err());
        assert!(losses(&[9.0], &[9.0, 8.0], 1e-4).is_err());
        assert!(losses(&[], &[], 1e-4).is_err());
    }

    #[test]
    fn other_words_are_refused() {
        let (a, b) = (vec![vec![1, 2], vec![3, 4]], vec![vec![1, 2], vec![3, 5]]);
        assert_eq!(
            outputs(&a, &a, 1.0).unwrap().how(),
            "2 of 2 sentences equal"
        );
        assert!(outputs(&a, &b, 0.5).is_ok());
        assert!(outputs(&a, &b, 0.99).unwrap_err().contains("[3, 4]"));
        assert!(outputs(&a, &b[..1], 0.0).is_err());
        assert!(outputs(&[], &[], 0.0).is_err());
    }

    #[test]
    fn vectors_that_point_elsewhere_are_refused() {
        let (a, b) = (
            vec![vec![1.0, 0.0], vec![0.0, 2.0]],
            vec![vec![2.0, 0.0], vec![0.0, 1.0]],
        );
        assert_eq!(
            vectors(a.clone(), b.clone(), 0.9999).unwrap().how(),
            "worst cosine 1.00000"
        );
        let off = vec![vec![1.0, 0.1], vec![0.0, 1.0]];
        assert!(
            vectors(a.clone(), off.clone(), 0.9999)
                .unwrap_err()
                .contains("0.99504")
        );
        assert!(near_vectors(off.clone(), b.clone(), a.clone(), 0.995).is_ok());
        assert!(near_vectors(off, b.clone(), a.clone(), 0.996).is_err());
        assert!(
            vectors(a.clone(), b[..1].to_vec(), 0.0).is_err()
                && vectors(vec![], vec![], 0.0).is_err()
        );
        assert!(vectors(vec![vec![0.0, 0.0]], vec![vec![1.0, 0.0]], -1.0).is_err());
        // Scores: their order and distances count, not the mean.
        let scores = |x: [f32; 3]| x.map(|x| vec![x]).to_vec();
        assert!(vectors(scores([1.0, 2.0, 4.0]), scores([2.0, 3.0, 5.0]), 0.9999).is_ok());
        assert!(vectors(scores([1.0, 2.0, 4.0]), scores([2.0, 1.0, 4.0]), 0.9999).is_err());
    }

    #[test]
    fn eight_bits_must_be_as_near_as_the_peers() {
        let reference = vec![vec![1, 2, 3, 4]];
        let near = vec![vec![1, 2, 3, 9]];
        // What follows a difference does not count.
        let far = vec![vec![1, 9, 3, 4]];
        assert!(nearness(&near, &far, &reference, 0.0).is_ok());
        assert!(
            nearness(&far, &near, &reference, 0.05)
                .unwrap_err()
                .contains("25.0 %")
        );
        assert!(nearness(&far, &near, &reference, 0.5).is_ok());
        // Fewer tokens are less work.
        assert!(nearness(&[vec![1, 2, 3]], &near, &reference, 1.0).is_err());
    }
}
