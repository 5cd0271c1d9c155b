//! What is measured of a model's answers.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use crate::engine::Table;
use crate::error::{Result, io};

/// What a metric is computed of.
#[derive(Debug)]
pub struct Answers<'a> {
    /// The model's output, one row for each of `rows`.
    pub outputs: &'a Table,
    /// The original's output for the same samples.
    pub original: &'a Table,
    /// The samples, as rows of the data.
    pub rows: &'a [usize],
    /// Their labels, where there are any.
    pub labels: Option<&'a [u32]>,
}

/// A metric of the caller's. More must be better for the attacker: of an error rate, take the negative.
pub trait Metric: Sync {
    /// Its name.
    fn name(&self) -> &str;

    /// Its value.
    ///
    /// # Errors
    /// Says why there is none.
    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String>;
}

impl<F: Fn(&Answers<'_>) -> f64 + Sync> Metric for F {
    fn name(&self) -> &str {
        "metric"
    }

    fn measure(&self, answers: &Answers<'_>) -> std::result::Result<f64, String> {
        Ok(self(answers))
    }
}

/// A program that is given the path of an `.npz` with `outputs`, `original`, `rows` and, where there are any, `labels`,
/// and prints a number.
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
        write_npz(&path, answers).map_err(|error| error.to_string())?;
        let output = Command::new(program).args(arguments).arg(&path).output();
        let output = output.map_err(|error| format!("{program}: {error}"))?;
        if !output.status.success() {
            let err = String::from_utf8_lossy(&output.stderr);
            let last = err.lines().last().unwrap_or_default();
            return Err(format!("{program}: {}: {last}", output.status));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        let number = text.trim().parse::<f64>();
        number.map_err(|_| {
            format!(
                "{program} printed {:?}, which is no number",
                text.trim().chars().take(80).collect::<String>()
            )
        })
    }
}

/// Writes what a metric is computed of, as NumPy reads it.
fn write_npz(path: &Path, answers: &Answers<'_>) -> Result<()> {
    let file = File::create(path).map_err(io(path))?;
    let mut archive = zip::ZipWriter::new(file);
    let stored =
        zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
    let mut put = |name: &str, descr: &str, dims: &[usize], bytes: &[u8]| {
        let mut put = || -> std::io::Result<()> {
            archive
                .start_file(format!("{name}.npy"), stored)
                .map_err(std::io::Error::other)?;
            archive.write_all(&npy_header(descr, dims))?;
            archive.write_all(bytes)
        };
        put().map_err(io(path))
    };
    for (name, table) in [("outputs", answers.outputs), ("original", answers.original)] {
        let dims = [&[table.n_rows()], &table.dims[..]].concat();
        let bytes: Vec<u8> = table
            .values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        put(name, "<f4", &dims, &bytes)?;
    }
    let n = answers.rows.len();
    let rows: Vec<u8> = answers
        .rows
        .iter()
        .flat_map(|row| (*row as u64).to_le_bytes())
        .collect();
    put("rows", "<u8", &[n], &rows)?;
    if let Some(labels) = answers.labels {
        let labels: Vec<u8> = labels
            .iter()
            .flat_map(|label| i64::from(*label).to_le_bytes())
            .collect();
        put("labels", "<i8", &[n], &labels)?;
    }
    archive
        .finish()
        .map_err(|error| io(path)(std::io::Error::other(error)))?;
    Ok(())
}

/// What stands before the elements in an `.npy` of version 1: magic, version, length, and a dictionary of Python's.
fn npy_header(descr: &str, dims: &[usize]) -> Vec<u8> {
    let shape: String = dims.iter().map(|dim| format!("{dim},")).collect();
    let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({shape}), }}");
    while !(10 + text.len() + 1).is_multiple_of(64) {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.as_bytes());
    header
}
