//! Ways from a model in files to a session.

use std::collections::BTreeMap;

use onnxseal_core::Preset;

/// Where the weights lie.
#[derive(Clone, Copy, PartialEq)]
pub enum Form {
    OneFile,
    External,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Form::OneFile => "one file",
            Form::External => "external data",
        }
    }
}

/// The library that makes sessions.
#[derive(Clone, Copy, PartialEq)]
pub enum Api {
    Rust,
    Python,
    /// Python with `SessionOptions`.
    Options,
}

impl Api {
    pub const ALL: [Api; 3] = [Api::Rust, Api::Python, Api::Options];

    pub fn name(self) -> &'static str {
        match self {
            Api::Rust => "Rust",
            Api::Python => "Python",
            Api::Options => "Python with SessionOptions",
        }
    }

    /// Rust is compared with Rust, Python with Python.
    pub fn plain(self) -> Api {
        match self {
            Api::Options => Api::Python,
            api => api,
        }
    }
}

/// The model that a way opens.
#[derive(Clone, Copy, PartialEq)]
pub enum What {
    Plain,
    Protected(Preset),
    /// Other ways to come from a protected file to a session.
    Peer(&'static str),
}

/// A way to start, and what its processes said.
pub struct Way {
    pub what: What,
    pub form: Form,
    pub api: Api,
    pub command: Vec<String>,
    pub runs: Vec<BTreeMap<String, f64>>,
}

impl Way {
    pub fn name(&self) -> String {
        let what = match self.what {
            What::Plain => "plain",
            What::Protected(preset) => preset.name(),
            What::Peer(name) => name,
        };
        format!("{what}, {}", self.api.name())
    }

    pub fn median(&self, key: &str) -> f64 {
        let mut values: Vec<f64> = self.runs.iter().map(|run| run[key]).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    }
}

/// The plain ways in the language of `way`: in its form, and with external data.
pub fn plains<'a>(ways: &'a [Way], way: &Way) -> (&'a Way, &'a Way) {
    let of_form = |form| {
        let is_it =
            |it: &&Way| it.what == What::Plain && it.form == form && it.api == way.api.plain();
        ways.iter().find(is_it).unwrap()
    };
    (of_form(way.form), of_form(Form::External))
}
