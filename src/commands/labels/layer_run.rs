//! Runs of a model that show what its last layer reads and gives.

use anyhow::{Context as _, Result};
use onnxseal_core::Location;
use onnxseal_data::DataSet;
use onnxseal_engine::{Engine, Files as InMemory, Net, Samples, Table, fit, random};
use onnxseal_rewrite::Files;

use crate::cli::assess::DataArgs;

/// A model on ONNX Runtime that gives what a layer reads and gives, too.
pub struct LayerRun {
    net: Net,
    /// Which outputs these are: what the layer reads, and what it gives.
    outputs: [usize; 2],
}

/// What a layer reads and gives, a row a sample.
pub struct Ran {
    pub features: Table,
    pub answers: Table,
}

impl LayerRun {
    /// Makes a session of the model.
    pub fn new(model: &Location, files: &Files, features: &str, answers: &str) -> Result<LayerRun> {
        let memory = InMemory::new(files.bytes(), files.read_external()?);
        LayerRun::of(model, &memory, features, answers)
    }

    /// The same of a model in memory, which messages call as `model`.
    pub fn of(
        model: &Location,
        memory: &InMemory,
        features: &str,
        answers: &str,
    ) -> Result<LayerRun> {
        let engine = Engine::load()?;
        let name = model.to_name().display().to_string();
        let net = Net::new(&engine, memory, &[features, answers], &name)?;
        let place = |name: &str| {
            let found = net.outputs().iter().position(|output| output.name == name);
            found.context("the layer's values are missing")
        };
        Ok(LayerRun {
            outputs: [place(features)?, place(answers)?],
            net,
        })
    }

    /// A data set as the model's inputs.
    pub fn samples(&self, data: &DataSet, args: &DataArgs) -> Result<Vec<Samples>> {
        Ok(fit(data, self.net.inputs(), &args.options())?)
    }

    /// Random numbers as the model's inputs.
    pub fn random(&self, n: usize) -> Vec<Samples> {
        random(self.net.inputs(), n, 0)
    }

    /// Runs the first `n` samples.
    pub fn run(&mut self, samples: &[Samples], n: usize) -> Result<Ran> {
        let rows: Vec<usize> = (0..n).collect();
        let mut tables = self.net.run(samples, &rows, &self.outputs)?.into_iter();
        let ran = tables.next().zip(tables.next());
        let (features, answers) = ran.context("the model gave nothing")?;
        Ok(Ran { features, answers })
    }
}
