//! Metrics of a model's answers.

use std::path::Path;
use std::process::Command;

use onnxseal_data::npy::{Stored, write_npz};
use onnxseal_engine::Table;

/// The input of a metric.
#[derive(Debug)]
pub struct Answers<'a> {
    /// The model's output, one row for each of `rows`.
    pub outputs: &'a Table,
    /// The original's output for the same samples.
    pub original: &'a Table,
    /// The samples, as rows of the data.
    pub rows: &'a [usize],
    /// Their labels, if there are any.
    pub labels: Option<&'a [u32]>,
}

/// A metric of the caller's. More must be better for the attacker, so negate an error rate.
pub trait Metric: Sync {
    /// Returns the name of the metric.
    fn name(&self) -> &str {
        "metric"
    }

    /// Computes the value.
    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String>;
}

impl<F: Fn(&Answers<'_>) -> f64 + Sync> Metric for F {
    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String> {
        Ok(self(answers))
    }
}

/// A program that gets the path of an `.npz` with `outputs`, `original`, `rows` and, if there are
/// any, `labels`, and prints a number.
#[derive(Clone, Debug)]
pub struct CommandMetric {
    /// The program and its arguments, before the path.
    pub command: Vec<String>,
}

impl Metric for CommandMetric {
    fn name(&self) -> &str {
        self.command.first().map_or("command", String::as_str)
    }

    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String> {
        let (program, arguments) = self.command.split_first().ok_or("the command is empty")?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let path = folder.path().join("answers.npz");
        write(&path, answers).map_err(|error| error.to_string())?;
        let output = Command::new(program).args(arguments).arg(&path).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            let err = String::from_utf8_lossy(&output.stderr);
            let last = err.lines().last().unwrap_or_default();
            return Err(format!("{program}: {}: {last}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        text.trim().parse::<f64>().map_err(|_| {
            let text: String = text.trim().chars().take(80).collect();
            format!("{program} printed {text:?}, expected a number")
        })
    }
}

/// Writes the input of a metric, as NumPy reads it.
fn write(path: &Path, answers: &Answers<'_>) -> onnxseal_data::Result<()> {
    let stored = |name: &str, descr, dims: &[usize], bytes| Stored {
        name: name.to_owned(),
        descr,
        dims: dims.to_vec(),
        bytes,
    };
    let table = |name, table: &Table| {
        let dims = [&[table.n_rows()], &table.dims[..]].concat();
        let bytes = table.values.iter().flat_map(|value| value.to_le_bytes());
        stored(name, "<f4", &dims, bytes.collect())
    };
    let (n, rows) = ([answers.rows.len()], answers.rows.iter());
    let rows = rows.flat_map(|row| (*row as u64).to_le_bytes()).collect();
    let mut arrays = vec![
        table("outputs", answers.outputs),
        table("original", answers.original),
        stored("rows", "<u8", &n, rows),
    ];
    if let Some(labels) = answers.labels {
        let bytes = labels
            .iter()
            .flat_map(|label| i64::from(*label).to_le_bytes());
        arrays.push(stored("labels", "<i8", &n, bytes.collect()));
    }
    write_npz(path, &arrays)
}
