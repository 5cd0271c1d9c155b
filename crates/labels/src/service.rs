//! The inputs for a service to trace a leak, and its answers.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_data::npy::Stored;

use crate::authority::Protected;
use crate::error::{Error, Result};

impl Protected {
    /// Returns the inputs of all traces, for an `.npz`: one array for each input of the model.
    pub fn trace_inputs(&self) -> Result<Vec<Stored>> {
        let malformed = |reason: &str| Error::MalformedAuthority {
            reason: reason.to_owned(),
        };
        let stored = self.inputs.iter().map(|input| {
            let mut known = ["<f4", "<f8", "<i8"].into_iter();
            let descr = known.find(|descr| *descr == input.dtype);
            let bytes = STANDARD.decode(&input.data);
            Ok(Stored {
                name: input.name.clone(),
                descr: descr.ok_or_else(|| malformed("it has inputs of an unknown type"))?,
                dims: input.shape.iter().map(|dim| *dim as usize).collect(),
                bytes: bytes.map_err(|_| malformed("it has inputs that cannot be read"))?,
            })
        });
        stored.collect()
    }

    /// Returns the class in each line of a service's answers: a number, or the position of the
    /// largest of several numbers, separated by commas; `None` for numbers past the last class.
    pub fn trace_answers(&self, text: &str) -> Result<Vec<Option<u32>>> {
        let lines = text.lines().map(str::trim);
        let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
        if lines.len() != self.traces.len() {
            return Err(Error::Usage(format!(
                "there are {} answers for {} trace{}: one line for each, in order",
                lines.len(),
                self.traces.len(),
                if self.traces.len() == 1 { "" } else { "s" }
            )));
        }
        let of_line = |(number, line): (usize, &&str)| -> Result<Option<u32>> {
            let bad = || {
                Error::Usage(format!(
                    "line {number} of the answers is neither a class nor numbers with commas between"
                ))
            };
            if !line.contains(',') {
                let class: u32 = line.parse().map_err(|_| bad())?;
                return Ok((class < self.classes).then_some(class));
            }
            let values = line.split(',').map(|value| value.trim().parse::<f64>());
            let values: Vec<f64> = values
                .collect::<std::result::Result<_, _>>()
                .map_err(|_| bad())?;
            let best = (0u32..)
                .zip(&values)
                .max_by(|(i, a), (j, b)| a.total_cmp(b).then(j.cmp(i)));
            Ok(best.map(|(class, _)| class))
        };
        (1..).zip(&lines).map(of_line).collect()
    }
}
