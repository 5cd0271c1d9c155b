//! Opens a protected model in ONNX Runtime and runs it once, on zeros.
//!
//! ```text
//! ORT_DYLIB_PATH=libonnxruntime.so cargo run --release -p onnxseal-runtime --example infer -- MODEL IDENTITY [CLAIM ...]
//! ```

use std::error::Error;
use std::fs::File;

use onnxseal_runtime::{Identities, Location, Model, Options, Requirements, Silent, load};
use ort::session::{Session, SessionInputValue};
use ort::value::{DynTensor, ValueType};

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [model, identity, claims @ ..] = args.as_slice() else {
        return Err("expected MODEL IDENTITY [CLAIM ...]".into());
    };
    let environment = load()?.build()?;
    let identities = Identities::read(File::open(identity)?, identity)?;
    let options = Options {
        require: Requirements::parse(claims)?,
        ..Options::default()
    };
    let model = Model::open_with(Location::parse(model)?, &identities, &options, &Silent)?;
    for (key, value) in model.claims() {
        println!("{key}: {value}");
    }
    let mut session = model.into_session(Session::builder(&environment)?)?;

    let mut inputs: Vec<(String, SessionInputValue<'_>)> = Vec::new();
    for input in session.inputs() {
        let ValueType::Tensor { ty, shape, .. } = input.dtype() else {
            return Err(format!("{} is no tensor", input.name()).into());
        };
        // One in place of a dimension that is left open.
        let shape: Vec<i64> = shape.iter().map(|dim| (*dim).max(1)).collect();
        let zeros = DynTensor::new(&ort::memory::Allocator::default(), *ty, shape)?;
        inputs.push((input.name().to_owned(), zeros.into()));
    }
    for (name, value) in session.run(inputs)?.iter() {
        println!("{name}: {}", value.dtype());
    }
    Ok(())
}
