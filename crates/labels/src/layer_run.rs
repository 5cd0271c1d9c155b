//! Runs of a model that show what its last layer reads and gives.

use onnxseal_data::{DataOptions, DataSet};
use onnxseal_engine::{
    Engine, Error as RunError, Files as InMemory, Net, Samples, Table, fit, random,
};
use onnxseal_rewrite::{Edit, Files};

use crate::error::Result;

/// A model on ONNX Runtime that gives what a layer reads and gives, too.
#[derive(Debug)]
pub struct LayerRun {
    net: Net,
    /// The indices of the layer's input and its output among the session's outputs.
    outputs: [usize; 2],
}

/// A layer's input and output, one row per sample.
#[derive(Debug)]
pub struct Ran {
    pub features: Table,
    pub answers: Table,
}

impl LayerRun {
    /// Makes a session of the model in `files` with edits, called `name` in messages.
    pub fn new(
        (files, edits): (&Files, &[Edit]),
        name: &str,
        features: &str,
        answers: &str,
    ) -> Result<LayerRun> {
        let (model, external) = files.read(edits)?;
        let memory = InMemory::new(&model, external);
        drop(model);
        let net = Net::new(&Engine::load()?, &memory, &[features, answers], name)?;
        let place = |name: &str| {
            let found = net.outputs().iter().position(|output| output.name == name);
            found.ok_or_else(|| missing(name))
        };
        Ok(LayerRun {
            outputs: [place(features)?, place(answers)?],
            net,
        })
    }

    pub fn samples(&self, data: &DataSet, options: &DataOptions) -> Result<Vec<Samples>> {
        Ok(fit(data, self.net.inputs(), options)?)
    }

    pub(crate) fn random(&self, n: usize) -> Vec<Samples> {
        random(self.net.inputs(), n, 0)
    }

    pub fn run(&mut self, samples: &[Samples], n: usize) -> Result<Ran> {
        let rows: Vec<usize> = (0..n).collect();
        let mut tables = self.net.run(samples, &rows, &self.outputs)?.into_iter();
        let ran = tables.next().zip(tables.next());
        let (features, answers) = ran.ok_or_else(|| missing(""))?;
        Ok(Ran { features, answers })
    }
}

fn missing(output: &str) -> RunError {
    RunError::Output {
        output: output.to_owned(),
        reason: "is missing".into(),
    }
}
