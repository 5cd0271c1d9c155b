//! Scores weights by their difference from a public model.

use crate::attack::base::Base;
use crate::error::Result;
use crate::hidden::{Hidden, HiddenTensor};
use crate::rank::scores::{Scores, energy, scores, values};
use crate::subject::Subject;
use crate::weights::decode;

/// Computes `(w - base's w)^2`, as a share of the tensor's energy: 0 for equal weights. Tensors
/// that the base lacks count with their whole energy.
pub(super) fn rank(
    subject: &Subject,
    hidden: &Hidden,
    base: &Subject,
    unit_bytes: u64,
) -> Result<Scores> {
    let base = Base::of(hidden, base)?;
    Ok(scores(hidden, unit_bytes, |tensor| {
        let own = values(subject, tensor)?;
        let Some(public) = public(&base, tensor) else {
            return Some(energy(tensor, &own));
        };
        let all: f64 = own.iter().map(|value| f64::from(*value).powi(2)).sum();
        let square = |(own, public): (&f32, &f32)| {
            (f64::from(*own) - f64::from(*public)).powi(2) / all.max(1e-300)
        };
        Some(own.iter().zip(&public).map(square).collect())
    }))
}

fn public(base: &Base, tensor: &HiddenTensor) -> Option<Vec<f32>> {
    let elements = base.elements(tensor)?;
    let public = decode(tensor.data_type, &elements, tensor.n_elements)?;
    (public.len() == tensor.n_elements).then_some(public)
}
