//! Figures of real models, where they are.

use std::fs;

use onnxseal_testkit::shared::shared_models_in;

use crate::*;

#[test]
fn real_models_name_their_customer() {
    for path in shared_models_in("real").unwrap_or_default() {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let model = fs::read(&path).unwrap();
        let files = open(&model);
        let result = apply(&files, &secret(1), "a", None, &Silent);
        let Ok(marked) = result else {
            eprintln!("{name}: {}", result.unwrap_err());
            continue;
        };
        let leak = files.read(&marked.edits).unwrap().0;
        eprintln!(
            "{name}: {} elements, z {:.0}",
            marked.report.elements,
            least(&model, &leak, &["a"])
        );
    }
}
