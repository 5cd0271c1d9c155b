//! Random numbers from a seed, reproducible on every machine.

use chacha20::ChaCha8Rng;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_distr::{Distribution, StandardNormal};

/// Makes the generator for one purpose: other labels give other numbers.
pub fn rng(seed: u64, label: &str) -> ChaCha8Rng {
    let mut key = [0_u8; 32];
    key[..8].copy_from_slice(&seed.to_le_bytes());
    // The label, folded, is the rest of the key.
    for (i, byte) in label.bytes().enumerate() {
        let at = 8 + i % 24;
        key[at] = key[at].wrapping_mul(31).wrapping_add(byte);
    }
    ChaCha8Rng::from_seed(key)
}

/// Draws a number with mean 0 and deviation 1.
pub fn gaussian(rng: &mut ChaCha8Rng) -> f32 {
    StandardNormal.sample(rng)
}

/// Returns the numbers below `n` in random order.
pub fn shuffled(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    order.shuffle(rng);
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_and_a_label_give_the_same_numbers() {
        let draw = |seed, label| gaussian(&mut rng(seed, label));
        assert_eq!(draw(1, "a"), draw(1, "a"));
        assert_ne!(draw(1, "a"), draw(1, "b"));
        assert_ne!(draw(1, "a"), draw(2, "a"));
        let mut order = shuffled(9, &mut rng(3, "x"));
        assert_ne!(order, Vec::from_iter(0..9));
        order.sort_unstable();
        assert_eq!(order, Vec::from_iter(0..9));
    }
}
