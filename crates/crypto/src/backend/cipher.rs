//! The tag that both back ends give, and the counter block that both use.

pub const TAG_BYTES: usize = 16;

/// The AES-GCM tag of a chunk, which is public: it is in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(pub [u8; TAG_BYTES]);

/// `nonce ‖ u32be(counter)`
pub(super) fn block(nonce: [u8; 12], counter: u32) -> [u8; 16] {
    let mut block = [0; 16];
    let (prefix, rest) = block.split_at_mut(12);
    prefix.copy_from_slice(&nonce);
    rest.copy_from_slice(&counter.to_be_bytes());
    block
}
