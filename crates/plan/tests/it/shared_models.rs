//! Models that nobody here wrote: everything plans, and `full` leaves nothing in clear but what it
//! may.

use std::collections::BTreeMap;

use onnxseal_onnx::{Limits, locate};
use onnxseal_plan::{Plan, Policy, Preset, Reason};
use onnxseal_testkit::shared::{shared_models, shared_models_in};

use crate::common;

/// Checks that what `full` leaves in clear is a shape, a position, text or a single element, or
/// cannot be encrypted where it lies.
fn check_clear(name: &str, full: &Plan) {
    for clear in &full.clear {
        let may_be = matches!(
            clear.reason,
            Reason::Empty
                | Reason::Shape
                | Reason::SparseIndices
                | Reason::Strings
                | Reason::OneElement
                | Reason::Unpatchable(_)
        );
        assert!(may_be, "{name}: {clear:?}");
    }
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
        let full = common::plan(&model, &Policy::preset(Preset::Full));
        check_clear(&path.display().to_string(), &full);
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
        let plans = Preset::ALL.map(|preset| common::plan(&model, &Policy::preset(preset)));
        let shares = plans.each_ref().map(Plan::share);
        assert!(shares[0] > 0.0 && shares.is_sorted(), "{name}: {shares:?}");
        let mut clear: BTreeMap<String, u64> = BTreeMap::new();
        for tensor in &plans[2].clear {
            *clear.entry(tensor.reason.to_string()).or_default() += tensor.bytes;
        }
        let mut clear: Vec<_> = clear
            .into_iter()
            .filter(|(_, bytes)| *bytes >= 256)
            .collect();
        clear.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
        let total = plans[2].total_bytes();
        println!("{name:24} {shares:.3?} of {total} bytes; clear: {clear:?}");
        assert!(shares[2] >= 0.95, "{name}: {clear:?}");
    }
}

/// Under `full` each of these is sealed whole, or refused with the name of what cannot be.
#[test]
fn what_stood_in_clear_is_encrypted_or_named() {
    let Some(mut paths) = shared_models_in("clear") else {
        return;
    };
    paths.extend(shared_models_in("reports").unwrap_or_default());
    let refused: BTreeMap<&str, &str> = [
        ("custom_op_attr_str", "attribute \"weights\""),
        ("ep_ctx_embed", "attribute \"ep_cache_context\""),
        ("matmul_FLOAT16_typed", "varints (int32_data)"),
        ("mixed_varint", "varints (int32_data)"),
        ("training_info", "training_info[0]"),
    ]
    .into();
    for path in paths {
        let name = path.file_stem().unwrap().to_str().unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let policy = Policy::preset(Preset::Full);
        let model = locate(&bytes, &Limits::default()).unwrap();
        let plan = common::plan(&model, &policy);
        check_clear(name, &plan);
        let told = common::violations(&bytes, &policy);
        match refused.get(name) {
            Some(what) => {
                assert!(
                    told.iter().any(|told| told.contains(what)),
                    "{name}: {told:?}"
                );
                assert!(plan.share() < 0.6, "{name}");
            }
            None => assert_eq!((told, plan.share()), (vec![], 1.0), "{name}"),
        }
    }
}
