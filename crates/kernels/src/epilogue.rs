//! What is done with a product's outputs before they are stored.

use crate::activation::{Activation, for_kind, value};
use crate::isa::multiversion;
use crate::matrix::Plus;

/// What a product is added to, and what its outputs then go through.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Epilogue<'a> {
    /// What the product is added to.
    pub plus: Plus<'a>,
    /// Applied last, if any, while the outputs are still in the nearest cache. NaN stays NaN, with [`Activation::Relu`]
    /// too.
    pub activation: Option<Activation>,
}

impl<'a> From<Plus<'a>> for Epilogue<'a> {
    /// No activation.
    fn from(plus: Plus<'a>) -> Self {
        Epilogue {
            plus,
            activation: None,
        }
    }
}

multiversion! {
    /// `x = activation(x)`.
    pub(crate) fn activate_in_place(x: &mut [f32], activation: Activation) -> () {
        macro_rules! run {
            ($kind:expr) => {
                x.iter_mut().for_each(|v| *v = value($kind, *v))
            };
        }
        for_kind!(activation, run);
    }
}
