//! Random numbers from a seed, independent of threads.

use chacha20::ChaCha20Rng;
use chacha20::rand_core::{Rng as _, SeedableRng as _};

/// Makes the generator for one part of the work.
pub(crate) fn stream(seed: &[u8; 32], number: u64) -> ChaCha20Rng {
    let mut rng = ChaCha20Rng::from_seed(*seed);
    rng.set_stream(number);
    rng
}

/// Makes the generator for a caller's number.
#[cfg(feature = "engine")]
pub(crate) fn numbered(seed: u64) -> ChaCha20Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    ChaCha20Rng::from_seed(key)
}

pub(crate) fn uniform(rng: &mut ChaCha20Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

/// Puts values in random order (Fisher and Yates).
pub(crate) fn shuffle<T>(values: &mut [T], rng: &mut ChaCha20Rng) {
    for i in (1..values.len()).rev() {
        // 64 bits for fewer than 2^21 places: the bias is below 2^-43.
        let r = (rng.next_u64() % (i as u64 + 1)) as usize;
        values.swap(i, r);
    }
}
