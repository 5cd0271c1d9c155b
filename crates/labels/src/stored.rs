//! Types that the table and the layer share.

pub(crate) const MAX_TAIL_BYTES: usize = 1 << 20;

/// The weights of the new layer as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub dims: Vec<u64>,
    /// Elements, little-endian floats.
    pub weights: Vec<u8>,
    /// Biases, little-endian floats.
    pub bias: Option<Vec<u8>>,
}
