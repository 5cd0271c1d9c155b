//! Figures of real models, where they are.

use std::fs;

use onnxseal_testkit::shared::shared_models_in;

use crate::*;

#[test]
fn real_models_name_their_customer() {
    for path in shared_models_in("real").unwrap_or_default() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let model = fs::read(&path).unwrap();
        let result = apply(&location(&model), &secret(1), "a", None, &Silent);
        let Ok(marked) = result else {
            eprintln!("{name}: {}", result.unwrap_err());
            continue;
        };
        let z = least(&model, &read(&marked.model), &["a"]);
        eprintln!("{name}: {} elements, z {z:.0}", marked.report.elements);
        assert!(z > 20.0, "{name}: {z}");
    }
}
