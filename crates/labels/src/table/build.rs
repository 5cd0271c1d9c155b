//! Makes the table of a model.

use onnxseal_store::parallel;

use super::{Description, MAX_CLASSES, MAX_POINTS, MAX_ROWS, Raw, RowKind, SIGNED, Table, VERSION};
use crate::authority::{Authority, random_seed};
use crate::error::{Error, Result};
use crate::exponents::Randomness;
use crate::group::{Hidden, Place};

impl Table {
    /// Makes the table of a model with rows of these `kinds`, in order.
    pub fn build(
        authority: &Authority,
        about: &Description<'_>,
        classes: u32,
        codewords: u32,
        kinds: &[RowKind],
    ) -> Result<Table> {
        let n_generators = u64::from(authority.collusion()) + 1;
        let n_rows = kinds.len() as u64;
        if n_rows > u64::from(MAX_ROWS)
            || n_rows * n_generators > MAX_POINTS
            || classes > MAX_CLASSES
        {
            return Err(Error::Usage(format!(
                "{n_rows} rows with {n_generators} points each are too many: take fewer codewords"
            )));
        }
        let digest = about.digest();
        let seed = random_seed()?;
        let exponents = authority.exponents();
        let rows = parallel::map(kinds.len(), |c| -> Result<_> {
            let place = Place {
                digest: &digest,
                row: c as u32,
                classes,
            };
            let mut random = Randomness::new(&seed, c as u64);
            Ok(match kinds.get(c) {
                Some(RowKind::Share { class, weight }) => {
                    let hidden = Hidden {
                        class: *class,
                        weight: *weight,
                    };
                    exponents.share(place, hidden, &random.scalar())
                }
                _ => exponents.fake(place, &mut random),
            })
        })?;
        let (check_points, check) =
            exponents.check(&digest, &Randomness::new(&seed, u64::MAX).scalar());
        let is_trace = |(_, kind): &(u32, &RowKind)| matches!(kind, RowKind::Trace);
        let raw = Raw {
            version: VERSION,
            classes,
            codewords,
            traces: (0u32..)
                .zip(kinds)
                .filter(is_trace)
                .map(|(c, _)| c)
                .collect(),
            generators: exponents.points().concat(),
            points: rows
                .iter()
                .flat_map(|row| row.points.iter().flatten().copied())
                .collect(),
            pads: words(rows.iter().map(|row| row.pad)),
            weights: words(rows.iter().map(|row| row.weight)),
            check_points: check_points.concat(),
            check: check.to_vec(),
            digest: digest.to_vec(),
            authority: authority.public().to_vec(),
            answers: about.answers.to_owned(),
            axis: about.axis,
            tail: about.tail.to_vec(),
            logits: about.logits.to_owned(),
            revoked: authority.revoked_ids(),
            outputs: about.outputs.to_vec(),
        };
        let bytes = raw.to_bytes();
        let signature = authority.sign(&[SIGNED, &bytes].concat())?;
        Table::new(bytes, signature)
    }
}

/// Encodes 32-bit numbers, little-endian.
fn words(numbers: impl Iterator<Item = u32>) -> Vec<u8> {
    numbers.flat_map(u32::to_le_bytes).collect()
}
