//! Every tensor of a model, hidden: what floors replace, whatever a policy encrypts.

use onnxseal_engine::Files;
use onnxseal_onnx::detail;
use onnxseal_onnx::edit::{Change, apply, set_elements};
use onnxseal_onnx::model::{Payload, Unpatchable};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_plan::{Reason, classify};

use crate::error::Result;
use crate::hidden::{Hidden, HiddenTensor};
use crate::subject::{Subject, broken, located};

/// A model's files with every tensor hidden.
#[derive(Clone, Debug)]
pub(crate) struct Everything {
    /// The files, with the elements that were coded as varints in `raw_data`, where any value fits.
    pub(crate) files: Files,
    /// Every tensor of two or more elements in these, whole, but what the graph's shapes need.
    pub(crate) hidden: Hidden,
    /// Whether over a hundredth keeps its values: single numbers, strings, lists in attributes.
    pub(crate) lacks_some: bool,
}

impl Everything {
    /// Hides everything; with `keeps_short`, all but lists of up to 16 integers, which operators may
    /// need that no rule knows.
    pub(crate) fn of(subject: &Subject, keeps_short: bool) -> Result<Everything> {
        let mut files = subject.files().clone();
        let model = subject.located()?;
        let classified = classify(&model);
        let is_hidden = |i: &usize| {
            let (tensor, of) = (&model.tensors[*i], &classified[*i]);
            let is_int = matches!(tensor.data_type, DataType::Int32 | DataType::Int64);
            let is_short = keeps_short && is_int && tensor.n_elements <= 16;
            let is_kept = matches!(of.reason, Some(Reason::Shape | Reason::SparseIndices));
            tensor.n_elements > 1 && !(is_short || is_kept)
        };
        let n = model.tensors.len().min(classified.len());
        let hidden: Vec<usize> = (0..n).filter(is_hidden).collect();
        let mut changes = Vec::new();
        for tensor in hidden.iter().map(|i| &model.tensors[*i]) {
            // Elements that can be replaced where they are, or lie in an attribute, stay.
            let is_coded = matches!(tensor.payload, Payload::Unpatchable(of) if of != Unpatchable::AttributeInts);
            let raw = is_coded.then(|| detail::raw_elements(&files.model, tensor));
            let raw = raw.transpose().map_err(broken(&subject.name))?;
            if let Some(raw) = raw.flatten() {
                let set = set_elements(&files.model, tensor, &raw);
                let set = set.map_err(broken(&subject.name))?;
                changes.extend(set.into_iter().map(Change::into_owned));
            }
        }
        if !changes.is_empty() {
            let edited = apply(&files.model, changes).map_err(broken(&subject.name))?;
            files.model = edited.as_slice().into();
        }
        // The same tensors in the same order, elsewhere.
        let edited = located(&subject.name, &files.model)?;
        let whole = |i: &usize| {
            let consumers = &classified[*i].consumers;
            let owner = consumers.iter().find(|of| of.as_weight);
            let owner = owner.or(consumers.first());
            Some(HiddenTensor::new(&model, edited.tensors.get(*i)?, owner)?.whole())
        };
        let tensors: Vec<HiddenTensor> = hidden.iter().filter_map(whole).collect();
        let hidden = Hidden {
            weight_bytes: tensors.iter().map(HiddenTensor::bytes).sum(),
            tensors,
        };
        let kept = model
            .tensors
            .iter()
            .zip(&classified)
            .map(|(tensor, of)| match tensor.payload {
                Payload::Unpatchable(Unpatchable::Strings) => tensor.message.len,
                _ if tensor.n_elements < 2 && of.reason != Some(Reason::Shape) => of.bytes,
                _ => 0,
            });
        let kept = kept.fold(model.settings.bytes, u64::saturating_add);
        Ok(Everything {
            files,
            lacks_some: kept.saturating_mul(100) > hidden.weight_bytes,
            hidden,
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use onnxseal_testkit::build::{
        GraphBuilder, bare_tensor, constant, float_data, int64s, node, raw_tensor, weights,
    };

    use super::*;
    use crate::assessment::Fill;
    use crate::attack::filled;

    /// A model with numbers in every way of holding them, and with shapes.
    fn model() -> Vec<u8> {
        let coded = |name: &str, data_type, numbers: &[i32]| {
            let mut tensor = bare_tensor(name, data_type, &[numbers.len() as i64]);
            tensor.int32_data = numbers.to_vec();
            tensor
        };
        let odd: Vec<u8> = (1..=64_u8).collect();
        let mut whole = bare_tensor("whole", DataType::Int64, &[2, 3]);
        whole.int64_data = vec![7, -300, 12, 5_000_000, 9, 1];
        GraphBuilder::new("g")
            .input("x", &[1, 16])
            .output("y", &[1, 16])
            .initializer(weights("raw", &[16, 16], 1))
            .initializer(float_data("floats", &[16], 2))
            .initializer(coded(
                "half",
                DataType::Float16,
                &[0x3C00, 0x4100, 0x2E66, 0xC000],
            ))
            .initializer(coded("mask", DataType::Bool, &[1, 0, 0, 1, 1]))
            .initializer(whole)
            .initializer(raw_tensor("eights", DataType::Float8e4m3fn, &[64], odd))
            .initializer(int64s("shape", &[2], &[4, 4]))
            .initializer(int64s("one", &[1], &[31]))
            .node(constant(weights("held", &[8], 3)))
            .node(node("MatMul", &["x", "raw"], &["a"]))
            .node(node(
                "Mystery",
                &["a", "floats", "half", "mask", "held", "eights"],
                &["b"],
            ))
            .node(node("Cast", &["whole"], &["c"]))
            .node(node("Mul", &["c", "b"], &["d"]))
            .node(node("Reshape", &["d", "shape"], &["y"]))
            .encode()
    }

    #[test]
    fn every_element_is_replaced_but_what_shapes_need() {
        let files = Files::new(&model(), Vec::new());
        let subject = Subject::from_files("odd".to_owned(), files).unwrap();
        let all = Everything::of(&subject, false).unwrap();
        let names: Vec<&str> = all
            .hidden
            .tensors
            .iter()
            .map(|of| of.name.as_str())
            .collect();
        let mut hidden = ["raw", "floats", "half", "mask", "whole", "eights", "held"];
        hidden.sort_unstable_by_key(|name| names.iter().position(|of| of == name));
        assert_eq!(names, hidden);
        for fill in [Fill::Zero, Fill::Random] {
            let made = filled(&all.files, &all.hidden, fill, None, 0);
            // The model is still one, with the same tensors.
            let made = Subject::from_files("made".to_owned(), made).unwrap();
            let again = Everything::of(&made, false).unwrap();
            for (before, after) in all.hidden.tensors.iter().zip(&again.hidden.tensors) {
                let (old, new) = (before.gather(&all.files), after.gather(made.files()));
                assert_eq!((&before.path, old.len()), (&after.path, new.len()));
                // By chance, a truth value or a small number stays.
                let width = (before.element_bits / 8) as usize;
                let pairs = old.chunks(width).zip(new.chunks(width));
                let same = pairs.filter(|(old, new)| old == new).count();
                assert!(
                    same * 5 <= before.n_elements * 3,
                    "{} {fill:?}",
                    before.name
                );
            }
        }
        // The elements before they were coded.
        let whole = all
            .hidden
            .tensors
            .iter()
            .find(|of| of.name == "whole")
            .unwrap();
        let coded = [7_i64, -300, 12, 5_000_000, 9, 1]
            .map(i64::to_le_bytes)
            .concat();
        assert_eq!(whole.gather(&all.files), coded);
        let half = all
            .hidden
            .tensors
            .iter()
            .find(|of| of.name == "half")
            .unwrap();
        assert_eq!(
            half.gather(&all.files),
            [0, 0x3C, 0, 0x41, 0x66, 0x2E, 0, 0xC0]
        );

        assert!(!all.lacks_some);
        let mut numbers = GraphBuilder::new("g").initializer(weights("raw", &[16, 16], 1));
        let names: Vec<String> = (0..10).map(|i| format!("n{i}")).collect();
        for name in &names {
            numbers = numbers.initializer(weights(name, &[1], 2));
        }
        let inputs: Vec<&str> = names.iter().map(String::as_str).chain(["raw"]).collect();
        let numbers = numbers.node(node("Mystery", &inputs, &["y"])).encode();
        let numbers = Subject::from_files("n".to_owned(), Files::new(&numbers, Vec::new()));
        assert!(Everything::of(&numbers.unwrap(), false).unwrap().lacks_some);

        let without_short = Everything::of(&subject, true).unwrap().hidden;
        assert!(without_short.tensors.iter().all(|of| of.name != "whole"));
        assert_eq!(without_short.tensors.len() + 1, all.hidden.tensors.len());
        assert!(all.hidden.covers(&without_short) && !without_short.covers(&all.hidden));
    }
}
