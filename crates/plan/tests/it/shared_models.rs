//! Models that nobody here wrote: everything plans, and little that is a weight stays in clear.

use std::collections::BTreeMap;

use onnxseal_onnx::{Limits, locate};
use onnxseal_plan::{Policy, Preset};
use onnxseal_testkit::shared::{shared_models, shared_models_in};

use crate::common;

/// Bytes of everything in a model that may be a weight by its element type: floats, and integers of
/// 8 bits. But for how often each node of a tree was visited, which predictions do not depend on.
fn plain_bytes(plan: &onnxseal_plan::Plan, model: &onnxseal_onnx::Model<'_>) -> u64 {
    let clear = plan.clear.iter().filter(|clear| {
        let tensor = &model.tensors[clear.tensor.index()];
        let data_type = tensor.data_type.as_str_name();
        ["FLOAT", "DOUBLE", "INT8"]
            .iter()
            .any(|plain| data_type.contains(plain))
            && tensor.name != "nodes_hitrates"
    });
    plan.weight_bytes() + clear.map(|clear| clear.bytes).sum::<u64>()
}

#[test]
fn whatever_can_be_located_can_be_planned() {
    let Some(paths) = shared_models() else { return };
    for path in paths {
        let bytes = std::fs::read(&path).unwrap();
        let Ok(model) = locate(&bytes, &Limits::default()) else {
            continue;
        };
        for preset in Preset::ALL {
            common::plan(&model, &Policy::preset(preset));
        }
    }
}

#[test]
fn real_models_are_covered() {
    let Some(paths) = shared_models_in("real") else {
        return;
    };
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let model = locate(&bytes, &Limits::default()).unwrap();
        let mut shares = Vec::new();
        for preset in Preset::ALL {
            let plan = common::plan(&model, &Policy::preset(preset));
            let share = plan.encrypted_bytes() as f64 / plain_bytes(&plan, &model) as f64;
            assert!(share > 0.0, "{name} under {}", preset.name());
            shares.push(share);
        }
        let plan = common::plan(&model, &Policy::preset(Preset::Full));
        let mut clear: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in &plan.clear {
            *clear.entry(tensor.reason.to_string()).or_default() += tensor.bytes;
        }
        let mut clear: Vec<_> = clear
            .into_iter()
            .filter(|(_, bytes)| *bytes >= 256)
            .collect();
        clear.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        println!(
            "{name:24} {shares:.3?} of {} bytes; clear: {clear:?}",
            plan.weight_bytes()
        );
        assert!(shares.is_sorted(), "{name}: {shares:?}");
        assert!(shares[3] >= 0.95, "{name}: {clear:?}");
    }
}
