//! Turns answers back into logits.

use onnxseal_store::parallel;

use crate::error::{Error, Result};
use crate::group::{Hidden, Place, UNIT, check_value, is_weight, open, shared};
use crate::key::UserKey;
use crate::table::Table;

/// Decodes answers with one key, for which the table is decrypted once.
#[derive(Clone, Debug)]
pub struct Decoder {
    classes: usize,
    n_rows: usize,
    axis: i32,
    /// Rows and weights of the shares, class by class.
    shares: Vec<(u32, f64)>,
    /// The end of each class's shares.
    ends: Vec<usize>,
    /// Rows of traces, and the class that this key reads in each.
    traces: Vec<(u32, u32)>,
}

impl Decoder {
    /// Decrypts the table, on all cores.
    pub fn new(table: &Table, key: &UserKey) -> Result<Decoder> {
        let user = || key.name().to_owned();
        if table.authority() != key.authority() {
            return Err(Error::OtherAuthority { user: user() });
        }
        table.verify()?;
        if table.is_revoked(&key.id()) {
            return Err(Error::Revoked { user: user() });
        }
        fitting(table, key)?;
        let (points, check) = table.check_row();
        if check_value(table.digest(), &shared(key.secrets(), &points)?) != *check {
            return Err(Error::WrongKey { user: user() });
        }
        let decoder = Decoder::unchecked(table, key)?;
        let is_legal = |(_, p): &(u32, f64)| is_weight((p / UNIT) as i32);
        let n_codewords = table.codewords() as usize;
        let is_whole = decoder.of_classes().all(|rows| rows.len() == n_codewords);
        if is_whole && decoder.shares.iter().all(is_legal) {
            Ok(decoder)
        } else {
            Err(Error::MalformedTable {
                reason: "a class has not the rows that it needs",
            })
        }
    }

    /// Decrypts the table with any key, without checks, as an attacker's program would.
    pub fn unchecked(table: &Table, key: &UserKey) -> Result<Decoder> {
        fitting(table, key)?;
        let classes = table.classes() as usize;
        let hidden = parallel::map(table.n_rows() as usize, |c| {
            let place = Place {
                digest: table.digest(),
                row: c as u32,
                classes: table.classes(),
            };
            let row = table.row(c as u32).ok_or(Error::MalformedTable {
                reason: "a row is missing",
            })?;
            open(place, &row, key.secrets())
        })?;
        let mut of_class: Vec<Vec<(u32, f64)>> = vec![Vec::new(); classes];
        let mut traces = Vec::new();
        for (c, Hidden { class, weight }) in (0u32..).zip(hidden) {
            match table.traces().binary_search(&c) {
                Ok(_) => traces.push((c, class)),
                Err(_) => {
                    if let Some(rows) = of_class.get_mut(class as usize) {
                        rows.push((c, f64::from(weight) * UNIT));
                    }
                }
            }
        }
        let mut ends = Vec::with_capacity(classes);
        let mut shares = Vec::new();
        for rows in of_class {
            shares.extend(rows);
            ends.push(shares.len());
        }
        Ok(Decoder {
            classes,
            n_rows: table.n_rows() as usize,
            axis: table.axis(),
            shares,
            ends,
            traces,
        })
    }

    fn of_classes(&self) -> impl Iterator<Item = &[(u32, f64)]> {
        let starts = std::iter::once(&0).chain(&self.ends);
        let ranges = starts.zip(&self.ends).map(|(start, end)| *start..*end);
        ranges.map(|rows| self.shares.get(rows).unwrap_or_default())
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// Returns the class that this key reads in each trace, in the order of rows.
    pub fn trace_classes(&self) -> impl Iterator<Item = u32> {
        self.traces.iter().map(|(_, class)| *class)
    }

    /// Returns the shape of the logits for answers of `shape`.
    pub fn shape(&self, shape: &[usize]) -> Result<Vec<usize>> {
        let mut logits = shape.to_vec();
        match self.axis_of(shape).and_then(|axis| logits.get_mut(axis)) {
            Some(n) if *n == self.n_rows => {
                *n = self.classes;
                Ok(logits)
            }
            _ => Err(Error::Usage(format!(
                "answers of shape {shape:?} are not those of the model: axis {} has {} rows",
                self.axis, self.n_rows
            ))),
        }
    }

    fn axis_of(&self, shape: &[usize]) -> Option<usize> {
        match self.axis {
            -1 => shape.len().checked_sub(1),
            axis => usize::try_from(axis).ok(),
        }
    }

    /// Computes the logits of answers of this shape: `z_y = sum of p_c l_c` over the rows of class
    /// y, plus the contributions of traces. Computes in 64-bit floats, then rounds.
    pub fn decode(&self, answers: &[f32], shape: &[usize]) -> Result<Vec<f32>> {
        let mut logits = vec![0.0; self.shape(shape)?.iter().product()];
        self.decode_into(answers, shape, &mut logits)?;
        Ok(logits)
    }

    /// Decodes as [`Decoder::decode`] does, into `logits`.
    pub fn decode_into(&self, answers: &[f32], shape: &[usize], logits: &mut [f32]) -> Result<()> {
        if logits.len() != self.shape(shape)?.iter().product::<usize>() {
            return Err(Error::Usage("logits have another shape".into()));
        }
        let n: usize = shape.iter().product();
        if n != answers.len() {
            return Err(Error::Usage(format!(
                "there are {} answers, not {n}",
                answers.len()
            )));
        }
        // Positions after the axis: 1 if it is the last.
        let inner: usize = self
            .axis_of(shape)
            .map_or(1, |axis| shape.iter().skip(axis + 1).product());
        let each_in = (self.n_rows * inner).max(1);
        let each_out = (self.classes * inner).max(1);
        for (answers, out) in answers
            .chunks_exact(each_in)
            .zip(logits.chunks_exact_mut(each_out))
        {
            for i in 0..inner {
                self.one(answers, out, (inner, i));
            }
        }
        Ok(())
    }

    /// Computes the logits of one position of one sample.
    fn one(&self, answers: &[f32], out: &mut [f32], (inner, i): (usize, usize)) {
        let answer = |row: u32| {
            let answer = answers.get(row as usize * inner + i);
            answer.map_or(f64::NAN, |answer| f64::from(*answer))
        };
        for (rows, out) in self.of_classes().zip(out.iter_mut().skip(i).step_by(inner)) {
            let sum: f64 = rows.iter().map(|(row, p)| p * answer(*row)).sum();
            *out = sum as f32;
        }
        for (row, class) in &self.traces {
            let answer = answer(*row);
            // NaN stays NaN: traces do not hide it.
            if let Some(out) = out.get_mut(*class as usize * inner + i)
                && answer > 0.0
            {
                *out = (f64::from(*out) + answer) as f32;
            }
        }
    }
}

/// Fails if the key does not have as many secrets as a row has points.
fn fitting(table: &Table, key: &UserKey) -> Result<()> {
    if key.secrets().len() == table.n_generators() {
        Ok(())
    } else {
        Err(Error::WrongKey {
            user: key.name().to_owned(),
        })
    }
}

/// Returns the class of each sample of logits, `[n, K]`: the first of the largest, as ArgMax does.
pub fn classes(logits: &[f32], n_classes: usize) -> Vec<usize> {
    let first_largest = |row: &[f32]| {
        let mut best = 0;
        for (class, value) in row.iter().enumerate() {
            if row.get(best).is_none_or(|largest| value > largest) {
                best = class;
            }
        }
        best
    };
    logits
        .chunks_exact(n_classes.max(1))
        .map(first_largest)
        .collect()
}

/// Computes the softmax of each sample of logits, `[n, K]`:
/// <https://onnx.ai/onnx/operators/onnx__Softmax.html>.
pub fn softmax(logits: &[f32], n_classes: usize) -> Vec<f32> {
    let mut all = Vec::with_capacity(logits.len());
    for row in logits.chunks_exact(n_classes.max(1)) {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let powers = row.iter().map(|value| f64::from(value - largest).exp());
        let sum: f64 = powers.clone().sum();
        all.extend(powers.map(|power| (power / sum) as f32));
    }
    all
}
