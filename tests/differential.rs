//! An independent decoder, `onnx-protobuf`, sees the same model before and after: all but the
//! elements that the manifest names, and the metadata that protecting adds.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::collections::BTreeMap;
use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use onnx_protobuf::{AttributeProto, GraphProto, Message, ModelProto, NodeProto, TensorProto};
use onnxseal_core::manifest::Tensor;
use onnxseal_core::{
    Manifest, Policy, Preset, ProtectOptions, Recipients, Silent, generate_identity, protect,
};
use onnxseal_onnx::tail::LOCK;
use onnxseal_testkit::{samples, shared};

#[test]
fn samples_differ_in_their_targets_alone() {
    for sample in samples::all() {
        let dir = tempfile::tempdir().unwrap();
        let path = sample.write(dir.path()).unwrap();
        for preset in Preset::ALL {
            compare(&path, preset);
        }
    }
}

#[test]
fn fixtures_differ_in_their_targets_alone() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    let entries = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    let models: Vec<PathBuf> = entries
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    assert!(models.len() >= 10);
    for path in models {
        compare(&path, Preset::Balanced);
        compare(&path, Preset::Full);
    }
}

#[test]
fn models_from_outside_differ_in_their_targets_alone() {
    for kind in ["real", "edge"] {
        for path in shared::shared_models_in(kind).unwrap_or_default() {
            compare(&path, Preset::Balanced);
        }
    }
}

/// Protects the model at `path` and compares the two as messages.
fn compare(path: &Path, preset: Preset) {
    let shown = format!("{} under {}", path.display(), preset.name());
    let dir = tempfile::tempdir().unwrap();
    let sealed = dir.path().join("model.onnx");
    let recipients = Recipients::parse(&[generate_identity().recipient()]).unwrap();
    let mut policy = Policy::preset(preset);
    policy.allow_clear("*").unwrap();
    let options = ProtectOptions::new(policy);
    protect(path, &sealed, &recipients, &options, &Silent).unwrap();

    let mut before = decode(path);
    let mut after = decode_unlocked(&sealed);
    let added = after.metadata_props.split_off(before.metadata_props.len());
    let keys: Vec<&str> = added.iter().map(|entry| entry.key.as_str()).collect();
    let expected = ["manifest", "tags", "mac", "key.1"].map(|key| format!("onnxseal.{key}"));
    assert_eq!(keys, expected, "{shown}");
    let manifest = Manifest::parse(added[0].value.as_bytes()).unwrap();

    // Files beside the model, as their bytes: before, and after.
    let mut files: BTreeMap<&str, [Vec<u8>; 2]> = BTreeMap::new();
    for file in manifest.files().iter().skip(1) {
        let [before, after] = [path, &sealed].map(|model| read_beside(model, &file.path));
        files.insert(&file.path, [before, after]);
    }
    let mut changed = 0;
    for tensor in manifest.tensors() {
        changed += match tensor.file {
            0 => {
                let [a, b] = [&mut before, &mut after].map(|model| blank(model, tensor));
                difference(&a, &b)
            }
            file => {
                let (location, offset) = external(&mut after, tensor);
                let path = &manifest.files()[file as usize].path;
                assert_eq!((&location, offset), (path, tensor.offset), "{shown}");
                let [before, after] = files.get_mut(path.as_str()).unwrap();
                let [a, b] =
                    [before, after].map(|bytes| blank_bytes(bytes, offset as usize, tensor));
                difference(&a, &b)
            }
        };
    }
    let encrypted: u64 = manifest.tensors().iter().map(Tensor::encrypted_bytes).sum();
    assert!(changed <= encrypted, "{shown}: {changed} bytes changed");
    // Ciphertext is plaintext once in 256 bytes.
    assert!(changed > 0 || encrypted < 4, "{shown}: nothing changed");
    for (name, [before, after]) in files {
        assert!(
            before == after,
            "{shown}: {name} differs beyond its targets"
        );
    }
    // As bytes where there are NaNs, which differ from themselves.
    let same = before == after || encode(&before) == encode(&after);
    assert!(same, "{shown}: the messages differ beyond their targets");
}

/// A file beside the model, by its location in the manifest.
fn read_beside(model: &Path, location: &str) -> Vec<u8> {
    fs::read(model.parent().unwrap().join(location)).unwrap()
}

fn decode(path: &Path) -> ModelProto {
    ModelProto::parse_from_bytes(&fs::read(path).unwrap()).unwrap()
}

/// The model without the lock. This decoder keeps the last graph of a message, where others merge them.
fn decode_unlocked(path: &Path) -> ModelProto {
    let bytes = fs::read(path).unwrap();
    let mut places = bytes.windows(LOCK.len());
    let at = places.rposition(|bytes| bytes == LOCK).unwrap();
    let locked = ModelProto::parse_from_bytes(&bytes).unwrap();
    let nodes = &locked.graph.node;
    assert_eq!(nodes[0].op_type, "ProtectedModel_OpenItWithOnnxseal");
    let unlocked = [&bytes[..at], &bytes[at + LOCK.len()..]].concat();
    ModelProto::parse_from_bytes(&unlocked).unwrap()
}

fn encode(model: &ModelProto) -> Vec<u8> {
    model.write_to_bytes().unwrap()
}

fn difference(a: &[u8], b: &[u8]) -> u64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).filter(|(a, b)| a != b).count() as u64
}

/// The target elements of `tensor`, by the formula of docs/FORMAT.md.
fn targets(tensor: &Tensor) -> Vec<Range<usize>> {
    let elements: u64 = tensor.dims.iter().product();
    let mut next = 0;
    let runs = tensor.targets.chunks(2).map(|run| {
        let first = next + run[0];
        next = first + run[1];
        (first * tensor.unit) as usize..(next * tensor.unit).min(elements) as usize
    });
    runs.collect()
}

/// Blanks the targets of `tensor` in the model and returns what was there, as bytes.
fn blank(model: &mut ModelProto, tensor: &Tensor) -> Vec<u8> {
    match find(model, &tensor.at) {
        TensorRole::Floats(floats) => blank_values(floats, tensor, f32::to_le_bytes),
        TensorRole::Tensor(found) => {
            let dims: Vec<u64> = found.dims.iter().map(|&dim| dim as u64).collect();
            assert_eq!(dims, tensor.dims, "{}", tensor.at);
            if !found.float_data.is_empty() {
                return blank_values(&mut found.float_data, tensor, f32::to_le_bytes);
            }
            if !found.double_data.is_empty() {
                return blank_values(&mut found.double_data, tensor, f64::to_le_bytes);
            }
            blank_bytes(&mut found.raw_data, 0, tensor)
        }
    }
}

fn blank_values<T: Copy + Default, const N: usize>(
    values: &mut [T],
    tensor: &Tensor,
    bytes: impl Fn(T) -> [u8; N],
) -> Vec<u8> {
    let per_element = tensor.data_type.bits() as usize / 8;
    // A complex number is two values.
    let width = per_element / N;
    let mut was = Vec::new();
    for run in targets(tensor) {
        let values = &mut values[run.start * width..run.end * width];
        was.extend(values.iter().flat_map(|value| bytes(*value)));
        values.fill(T::default());
    }
    was
}

fn blank_bytes(bytes: &mut [u8], offset: usize, tensor: &Tensor) -> Vec<u8> {
    let bits = tensor.data_type.bits() as usize;
    let mut was = Vec::new();
    for run in targets(tensor) {
        let bytes =
            &mut bytes[offset + run.start * bits / 8..offset + (run.end * bits).div_ceil(8)];
        was.extend_from_slice(bytes);
        bytes.fill(0);
    }
    was
}

/// Location, without `./`, and offset of a tensor's external data.
fn external(model: &mut ModelProto, tensor: &Tensor) -> (String, u64) {
    let TensorRole::Tensor(found) = find(model, &tensor.at) else {
        panic!("{} is no tensor", tensor.at);
    };
    let entry = |key: &str| found.external_data.iter().find(|entry| entry.key == key);
    let location = entry("location").unwrap().value.trim_start_matches("./");
    let offset = entry("offset").map_or(0, |offset| offset.value.parse().unwrap());
    (location.to_owned(), offset)
}

enum TensorRole<'a> {
    Tensor(&'a mut TensorProto),
    Floats(&'a mut Vec<f32>),
}

/// The parts of a path: `node[3]` is `("node", 3)`.
type Parts<'p> = &'p mut dyn Iterator<Item = (String, usize)>;

/// What stands at a path such as `graph.node[5].attribute[0].t`.
fn find<'m>(model: &'m mut ModelProto, path: &str) -> TensorRole<'m> {
    let mut parts = path.split('.').map(|part| match part.split_once('[') {
        Some((name, index)) => (
            name.to_owned(),
            index.trim_end_matches(']').parse().unwrap(),
        ),
        None => (part.to_owned(), 0),
    });
    let (name, index) = parts.next().unwrap();
    match name.as_str() {
        "graph" => in_graph(model.graph.as_mut().unwrap(), &mut parts),
        "functions" => {
            let (name, node) = parts.next().unwrap();
            assert_eq!(name, "node", "{path}");
            in_node(&mut model.functions[index].node[node], &mut parts)
        }
        _ => panic!("{path}"),
    }
}

fn in_graph<'m>(graph: &'m mut GraphProto, parts: Parts) -> TensorRole<'m> {
    let (name, index) = parts.next().unwrap();
    match name.as_str() {
        "initializer" => TensorRole::Tensor(&mut graph.initializer[index]),
        "sparse_initializer" => sparse(graph.sparse_initializer[index].values.as_mut(), parts),
        "node" => in_node(&mut graph.node[index], parts),
        _ => panic!("a graph's {name}"),
    }
}

fn in_node<'m>(node: &'m mut NodeProto, parts: Parts) -> TensorRole<'m> {
    let (name, index) = parts.next().unwrap();
    assert_eq!(name, "attribute");
    let attribute: &mut AttributeProto = &mut node.attribute[index];
    let (name, index) = parts.next().unwrap();
    match name.as_str() {
        "t" => TensorRole::Tensor(attribute.t.as_mut().unwrap()),
        "tensors" => TensorRole::Tensor(&mut attribute.tensors[index]),
        "g" => in_graph(attribute.g.as_mut().unwrap(), parts),
        "graphs" => in_graph(&mut attribute.graphs[index], parts),
        "sparse_tensor" => sparse(
            attribute.sparse_tensor.as_mut().unwrap().values.as_mut(),
            parts,
        ),
        "floats" => TensorRole::Floats(&mut attribute.floats),
        _ => panic!("an attribute's {name}"),
    }
}

fn sparse<'m>(values: Option<&'m mut TensorProto>, parts: Parts) -> TensorRole<'m> {
    assert_eq!(parts.next().unwrap().0, "values");
    TensorRole::Tensor(values.unwrap())
}
