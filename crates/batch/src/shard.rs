//! Parts of a batch, for machines that share only the folders.

use std::path::Path;
use std::str::FromStr;

/// Part `index` of `count`: the models whose paths below the output folder hash to it, independent
/// of other models.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    pub(crate) index: u64,
    pub(crate) count: u64,
}

impl Shard {
    /// Makes part `index` of `count`, counted from 0, or returns `None` if there is no such part.
    pub fn new(index: u64, count: u64) -> Option<Shard> {
        (index < count).then_some(Shard { index, count })
    }

    /// A whole batch.
    pub(crate) const ALL: Shard = Shard { index: 0, count: 1 };

    /// Returns whether a model can be in this part and in `other`.
    pub(crate) fn may_share_with(self, other: Shard) -> bool {
        let (mut a, mut b) = (self.count, other.count);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        // That needs equal remainders modulo the greatest common divisor.
        self.index % a == other.index % a
    }

    /// Returns whether the model that goes to `relative` is in this part: the first 8 bytes of
    /// BLAKE3 of its names with `/` between them, as a big-endian number, modulo the number of
    /// parts.
    pub fn has(&self, relative: &Path) -> bool {
        let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(&key(relative)).as_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h]) % self.count == self.index
    }
}

/// Joins the names of a path with `/`.
pub(crate) fn key(relative: &Path) -> Vec<u8> {
    let names: Vec<&[u8]> = (relative.iter())
        .map(|name| name.as_encoded_bytes())
        .collect();
    names.join(&b'/')
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Shard, String> {
        let (index, count) = text.split_once('/').ok_or("expected I/N, such as 0/4")?;
        let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
        let (index, count): (u64, u64) = (number(index)?, number(count)?);
        Shard::new(index, count).ok_or(format!(
            "there is no part {index} of {count}: parts are counted from 0"
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn every_model_is_in_one_part() {
        let paths: Vec<String> = (0..1000).map(|i| format!("a/{i}.onnx")).collect();
        for count in [1, 2, 3, 7] {
            let in_part = |path: &str| {
                let has = |index: &u64| Shard::new(*index, count).unwrap().has(Path::new(path));
                (0..count).filter(has).collect::<Vec<_>>()
            };
            let parts: Vec<_> = paths.iter().map(|path| in_part(path)).collect();
            assert!(parts.iter().all(|parts| parts.len() == 1));
            for index in 0..count {
                let n = parts.iter().filter(|parts| parts[0] == index).count() as u64;
                assert!(
                    n > 700 / count && n < 1300 / count,
                    "{n} of 1000 in {index}/{count}"
                );
            }
        }
    }

    /// `printf %s a/b.onnx | b3sum` begins with 8231...; those 16 digits as a number end in 402.
    #[test]
    fn parts_do_not_change_between_versions() {
        let shard = Shard::new(402, 1000).unwrap();
        assert!(shard.has(Path::new("a/b.onnx")));
        assert!(shard.has(Path::new("a//b.onnx")));
        assert!(!shard.has(Path::new("b/a.onnx")));
    }

    #[test]
    fn parts_share_models_where_their_numbers_meet() {
        for (n, m) in [(1, 1), (1, 5), (2, 4), (3, 4), (4, 6)] {
            for (i, j) in (0..n).flat_map(|i| (0..m).map(move |j| (i, j))) {
                let expected = (0..n * m).any(|hash| hash % n == i && hash % m == j);
                let [one, other] = [(i, n), (j, m)].map(|(i, n)| Shard::new(i, n).unwrap());
                assert_eq!(one.may_share_with(other), expected, "{one} {other}");
                assert_eq!(other.may_share_with(one), expected);
            }
        }
    }

    #[test]
    fn parts_are_counted_from_0() {
        assert_eq!("0/1".parse(), Ok(Shard { index: 0, count: 1 }));
        assert_eq!("3/4".parse::<Shard>().unwrap().to_string(), "3/4");
        for bad in ["", "1", "1/1", "4/4", "0/0", "-1/4", "a/4", "1/4/2", "0 /4"] {
            assert!(bad.parse::<Shard>().is_err(), "{bad}");
        }
    }
}
