//! Models that nobody here wrote, where they are at hand.

use std::fs;
use std::path::{Path, PathBuf};

/// The folder with models from outside, `../shared/models` from the project's root.
pub fn shared_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/models")
}

/// All `.onnx` files in the folders `real`, `edge` and `hostile` of [`shared_dir`], sorted; says
/// that it skips them and returns `None` where they are absent.
pub fn shared_models() -> Option<Vec<PathBuf>> {
    let mut models = Vec::new();
    for kind in ["real", "edge", "hostile"] {
        models.extend(shared_models_in(kind)?);
    }
    Some(models)
}

/// All `.onnx` files in one folder of [`shared_dir`], as [`shared_models`].
pub fn shared_models_in(kind: &str) -> Option<Vec<PathBuf>> {
    let folder = shared_dir().join(kind);
    let Ok(entries) = fs::read_dir(&folder) else {
        eprintln!("skipped: no folder {}", folder.display());
        return None;
    };
    let mut models: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "onnx")
        })
        .collect();
    models.sort();
    Some(models)
}
