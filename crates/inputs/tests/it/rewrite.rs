//! Rewritten models against plain arithmetic: what they compute of transformed images is what they
//! did of plain ones.
#![allow(clippy::needless_range_loop)]

use onnxseal_inputs::rewrite::{Files, Rewritten, Source, inspect, rekey, rewrite};
use onnxseal_inputs::{BlockMap, Error, InputKey, Layout, Result};
use onnxseal_onnx::model::{Payload, Span};
use onnxseal_onnx::proto::attribute_proto::AttributeType;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{ModelProto, NodeProto, TensorProto};
use onnxseal_onnx::{Limits, locate};
use onnxseal_rewrite::{Error as RewriteError, apply};
use onnxseal_store::{Location, OutputOptions};
use onnxseal_testkit::build::*;
use prost::Message as _;

fn key(transforms: &str, block: u32, rest: &str) -> InputKey {
    let channels = if rest.contains("channels") {
        ""
    } else {
        "channels = 3\n"
    };
    let seed = format!("{:02x}", block + transforms.len() as u32 * 7).repeat(32);
    let rest = match rest.contains("range") {
        true => rest.to_owned(),
        false => format!("range = [0.0, 255.0]\n{rest}"),
    };
    let layout = match rest.contains("layout") {
        true => "",
        false => "layout = \"nchw\"\n",
    };
    InputKey::from_text(&format!(
        "version = 1\ntransforms = {transforms}\nblock = {block}\n{channels}{layout}{rest}\nseed = \"{seed}\"\n"
    ))
    .unwrap()
}

const SHUFFLE: &str = r#"["shuffle"]"#;
const NEGATIVE: &str = r#"["negative"]"#;
const BOTH: &str = r#"["shuffle", "negative"]"#;
const ORTHOGONAL: &str = r#"["orthogonal"]"#;

fn no_external(_: &str, _: Span) -> onnxseal_rewrite::Result<Vec<u8>> {
    Err(onnxseal_rewrite::Error::Usage(
        "there is no external data".into(),
    ))
}

fn run(bytes: &[u8], key: &InputKey) -> Result<Rewritten> {
    let model = locate(bytes, &Limits::default()).unwrap();
    let source = Source {
        bytes,
        model: &model,
        external: &no_external,
    };
    rewrite(&source, key, None)
}

/// The model after it is rewritten.
fn rewritten(bytes: &[u8], key: &InputKey) -> Vec<u8> {
    let rewritten = run(bytes, key).unwrap();
    apply(bytes, &rewritten.edits).unwrap()
}

/// The numbers of a tensor.
fn numbers(bytes: &[u8], name: &str) -> Vec<f64> {
    let model = ModelProto::decode(bytes).unwrap();
    let graph = model.graph.unwrap();
    let held = graph.node.iter().flat_map(|node| &node.attribute);
    let held = held.filter_map(|attribute| attribute.t.as_ref());
    let mut tensors = graph.initializer.iter().chain(held);
    let tensor = tensors.find(|tensor| tensor.name() == name).unwrap();
    let raw = tensor.raw_data();
    match tensor.data_type() {
        _ if !tensor.float_data.is_empty() => {
            tensor.float_data.iter().map(|x| f64::from(*x)).collect()
        }
        n if n == DataType::Float as i32 => (raw.chunks(4))
            .map(|x| f64::from(f32::from_le_bytes(x.try_into().unwrap())))
            .collect(),
        n if n == DataType::Int32 as i32 => (raw.chunks(4))
            .map(|x| f64::from(i32::from_le_bytes(x.try_into().unwrap())))
            .collect(),
        n if n == DataType::Int8 as i32 => raw.iter().map(|x| f64::from(*x as i8)).collect(),
        _ => raw.iter().map(|x| f64::from(*x)).collect(),
    }
}

const SIDE: usize = 8;

/// An image `[3, 8, 8]` of pixels 0 to 255.
fn image() -> Vec<f64> {
    let floats = floats(3 * SIDE * SIDE, 9);
    floats
        .iter()
        .map(|x| (f64::from(*x) * 127.5 + 127.5).floor())
        .collect()
}

/// The image, transformed.
fn transformed(image: &[f64], key: &InputKey, sum: f64) -> Vec<f64> {
    let m = key.spec().block as usize;
    let mut out = image.to_vec();
    for by in 0..SIDE / m {
        for bx in 0..SIDE / m {
            let place = |t: usize| {
                let (pixel, c) = (t / 3, t % 3);
                (c * SIDE + by * m + pixel / m) * SIDE + bx * m + pixel % m
            };
            for t in 0..m * m * 3 {
                out[place(t)] = match key.map().unwrap() {
                    BlockMap::Signed { places, negated } => {
                        let value = image[place(places[t] as usize)];
                        if negated[t] { sum - value } else { value }
                    }
                    BlockMap::Orthogonal(matrix) => (0..matrix.nrows())
                        .map(|j| matrix[(t, j)] * image[place(j)])
                        .sum(),
                };
            }
        }
    }
    out
}

/// A convolution `[d, 3, k, k]` of stride `s` and padding `pad` of an image.
fn conv(image: &[f64], w: &[f64], b: &[f64], k: usize, s: usize, pad: usize) -> Vec<f64> {
    let d = w.len() / (3 * k * k);
    let n = (SIDE + 2 * pad - k) / s + 1;
    let mut out = Vec::new();
    for o in 0..d {
        for y in 0..n {
            for x in 0..n {
                let mut sum = b.get(o).copied().unwrap_or(0.0);
                for c in 0..3 {
                    for i in 0..k {
                        for j in 0..k {
                            let (row, column) = (y * s + i, x * s + j);
                            if (pad..SIDE + pad).contains(&row)
                                && (pad..SIDE + pad).contains(&column)
                            {
                                let pixel = image[(c * SIDE + row - pad) * SIDE + column - pad];
                                sum += w[((o * 3 + c) * k + i) * k + j] * pixel;
                            }
                        }
                    }
                }
                out.push(sum);
            }
        }
    }
    out
}

fn assert_near(a: &[f64], b: &[f64], what: &str) {
    let largest = b.iter().fold(1e-9f64, |most, x| most.max(x.abs()));
    for (a, b) in a.iter().zip(b) {
        assert!((a - b).abs() <= 4e-6 * largest, "{what}: {a} and {b}");
    }
    assert_eq!(a.len(), b.len());
}

fn conv_node(k: i64, s: i64, pad: i64, inputs: &[&str]) -> NodeProto {
    node_with(
        "Conv",
        inputs,
        &["y"],
        vec![
            ints_attribute("kernel_shape", &[k, k]),
            ints_attribute("strides", &[s, s]),
            ints_attribute("pads", &[pad; 4]),
        ],
    )
}

fn graph() -> GraphBuilder {
    GraphBuilder::new("g")
        .input("x", &[1, 3, 8, 8])
        .output("y", &[1, 2, 2, 2])
}

fn plain(k: i64, s: i64, pad: i64) -> Vec<u8> {
    graph()
        .initializer(weights("w", &[2, 3, k, k], 1))
        .initializer(weights("b", &[2], 2))
        .node(conv_node(k, s, pad, &["x", "w", "b"]))
        .encode()
}

#[test]
fn convolutions_compute_of_transformed_images_what_they_did_of_plain_ones() {
    let normalised = "mean = [100.0, 120.0, 90.0]\nstd = [50.0, 60.0, 55.0]";
    let symmetric = "range = [-127.5, 127.5]";
    for (k, s, pad, block, rest, maps) in [
        (4, 4, 0, 4, "", &[SHUFFLE, NEGATIVE, BOTH, ORTHOGONAL][..]),
        (4, 4, 0, 2, "", &[BOTH, ORTHOGONAL]),
        (4, 4, 0, 1, "", &[BOTH]),
        (4, 4, 0, 4, normalised, &[SHUFFLE, BOTH, ORTHOGONAL]),
        // Windows that overlap.
        (4, 2, 0, 2, "", &[BOTH, ORTHOGONAL]),
        (8, 4, 0, 4, normalised, &[BOTH]),
        // Padding, where zero stays zero.
        (4, 2, 2, 2, "", &[SHUFFLE]),
        (4, 2, 2, 2, symmetric, &[SHUFFLE, BOTH, ORTHOGONAL]),
    ] {
        for map in maps {
            let what = format!("{map} k{k} s{s} p{pad} M{block} {rest}");
            let key = key(map, block, rest);
            let bytes = plain(k, s, pad);
            let after = rewritten(&bytes, &key);
            assert_eq!(after.len(), bytes.len());
            let sum = key.spec().sum();
            let offset = if rest == symmetric { 127.5 } else { 0.0 };
            let image: Vec<f64> = image().iter().map(|x| x - offset).collect();
            let statistics = key.spec().statistics();
            let fed = |pixels: Vec<f64>| -> Vec<f64> {
                let pixels = pixels.iter().enumerate();
                let normal = |(i, x): (usize, &f64)| {
                    let (m, s) = statistics[i / (SIDE * SIDE)];
                    (x - m) / s
                };
                pixels.map(normal).collect()
            };
            let of = |bytes: &[u8], image: &[f64]| {
                let (w, b) = (numbers(bytes, "w"), numbers(bytes, "b"));
                conv(image, &w, &b, k as usize, s as usize, pad as usize)
            };
            let before = of(&bytes, &fed(image.clone()));
            let keyed = fed(transformed(&image, &key, sum));
            assert_near(&of(&after, &keyed), &before, &what);
        }
    }
}

#[test]
fn weights_are_found_wherever_they_lie() {
    let key = key(BOTH, 4, "");
    let image = image();
    let keyed = transformed(&image, &key, 255.0);
    let unpacked = {
        // Each float in a field of its own, as old writers have it.
        let bytes = graph()
            .initializer(float_data("w", &[2, 3, 4, 4], 1))
            .initializer(weights("b", &[2], 2));
        bytes.node(conv_node(4, 4, 0, &["x", "w", "b"])).encode()
    };
    let half = |name: &str, dims: &[i64], seed| {
        let values = floats(dims.iter().product::<i64>() as usize, seed);
        TensorProto {
            int32_data: values
                .iter()
                .map(|x| i32::from(half::f16::from_f32(*x).to_bits()))
                .collect(),
            ..bare_tensor(name, DataType::Float16, dims)
        }
    };
    let coded = GraphBuilder::new("g")
        .typed_input("x", DataType::Float16, &[1, 3, 8, 8])
        .initializer(half("w", &[2, 3, 4, 4], 1))
        .initializer(half("b", &[2], 2))
        .node(conv_node(4, 4, 0, &["x", "w", "b"]))
        .encode();
    let no_bias = graph()
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .node(conv_node(4, 4, 0, &["x", "w"]))
        .encode();
    let empty_bias = graph()
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .initializer(weights("w_bias", &[2], 2))
        .node(conv_node(4, 4, 0, &["x", "w", ""]))
        .node(node("Neg", &["w_bias"], &["z"]))
        .encode();
    let constants = graph()
        .node(constant(weights("w", &[2, 3, 4, 4], 1)))
        .node(constant(weights("b", &[2], 2)))
        .node(conv_node(4, 4, 0, &["x", "w", "b"]))
        .encode();
    let shared = graph()
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .initializer(weights("b", &[2], 2))
        .node(node("Identity", &["b"], &["copy"]))
        .node(conv_node(4, 4, 0, &["x", "w", "copy"]))
        .node(node("Add", &["b", "b"], &["z"]))
        .encode();
    for (what, bytes) in [
        ("unpacked", unpacked),
        ("no bias", no_bias),
        ("empty bias", empty_bias),
        ("constants", constants),
        ("shared", shared),
    ] {
        let after = rewritten(&bytes, &key);
        let of = |bytes: &[u8], image: &[f64]| {
            let model = locate(bytes, &Limits::default()).unwrap();
            model.check_unambiguous().unwrap();
            let node = model
                .nodes
                .iter()
                .find(|node| node.op_type == "Conv")
                .unwrap();
            let bias = match node.inputs.get(2) {
                None | Some(&"") => vec![0.0; 2],
                Some(&"copy") => numbers(bytes, "b"),
                Some(name) => numbers(bytes, name),
            };
            conv(image, &numbers(bytes, "w"), &bias, 4, 4, 0)
        };
        assert_near(&of(&after, &keyed), &of(&bytes, &image), what);
    }
    // Elements coded as varints move to raw_data.
    let after = rewritten(&coded, &key);
    let model = locate(&after, &Limits::default()).unwrap();
    let dense = |tensor: &&onnxseal_onnx::model::Tensor<'_>| {
        matches!(
            tensor.payload,
            Payload::Dense {
                element_bits: 16,
                ..
            }
        )
    };
    assert_eq!(model.tensors.iter().filter(dense).count(), 2);
}

#[test]
fn a_key_is_changed_without_the_original() {
    let bytes = plain(4, 4, 0);
    for (old, new) in [(BOTH, SHUFFLE), (NEGATIVE, BOTH), (ORTHOGONAL, ORTHOGONAL)] {
        let old = key(old, 4, "");
        let text = key(new, 4, "")
            .to_text()
            .replace("seed = \"", "seed = \"ab");
        let start = text.find("seed = \"").unwrap() + 8;
        let text = format!("{}\"\n", &text[..start + 64]);
        let new = InputKey::from_text(&text).unwrap();
        let once = rewritten(&bytes, &old);
        let model = locate(&once, &Limits::default()).unwrap();
        let source = Source {
            bytes: &once,
            model: &model,
            external: &no_external,
        };
        let again = rekey(&source, &old, &new, None).unwrap();
        let again = apply(&once, &again.edits).unwrap();
        let direct = rewritten(&bytes, &new);
        assert_near(&numbers(&again, "w"), &numbers(&direct, "w"), "w");
        // In between, a bias may be some hundred times as large.
        let biases = numbers(&again, "b").into_iter().zip(numbers(&direct, "b"));
        assert!(biases.into_iter().all(|(a, b)| (a - b).abs() < 1e-3));
        let other = key(BOTH, 2, "");
        assert!(matches!(
            rekey(&source, &old, &other, None),
            Err(Error::Usage(_))
        ));
    }
}

fn refused(bytes: &[u8], key: &InputKey, reason: &str) {
    match run(bytes, key) {
        Err(Error::Rewrite(RewriteError::Refused(refusal))) => {
            assert!(
                refusal.to_string().contains(reason),
                "{refusal}, not {reason}"
            );
        }
        other => panic!("{other:?}, not {reason}"),
    }
}

#[test]
fn what_cannot_be_followed_is_refused_with_the_node() {
    let base = || {
        graph()
            .initializer(weights("w", &[2, 3, 4, 4], 1))
            .initializer(weights("b", &[2], 2))
    };
    let four = || conv_node(4, 4, 0, &["x", "w", "b"]);
    let both = key(BOTH, 4, "");
    let with = |more: NodeProto| base().node(four()).node(more).encode();
    refused(
        &with(node("Relu", &["x"], &["z"])),
        &both,
        "before any weights",
    );
    refused(&with(node("Neg", &["w"], &["z"])), &both, "those of node");
    refused(
        &with(node("Add", &["x", "x"], &["z"])),
        &both,
        "more than once",
    );
    refused(&plain(4, 2, 0), &both, "stride has 2 x 2 pixels");
    refused(&plain(6, 4, 0), &both, "window has 6 x 6 pixels");
    refused(&plain(4, 4, 1), &both, "padding has 1 x 1 pixels");
    refused(&plain(4, 4, 4), &both, "pads the image");
    // Windows of 4 in steps of 8 leave gaps, and ONNX Runtime starts within the first one.
    for auto_pad in ["SAME_UPPER", "SAME_LOWER"] {
        let mut same = conv_node(4, 8, 0, &["x", "w", "b"]);
        same.attribute
            .retain(|attribute| attribute.name() != "pads");
        let mut text = int_attribute("auto_pad", 0);
        text.set_type(AttributeType::String);
        (text.i, text.s) = (None, Some(auto_pad.into()));
        same.attribute.push(text);
        refused(&base().node(same).encode(), &both, "a part of the image");
    }
    let mut grouped = four();
    grouped.attribute.push(int_attribute("group", 3));
    refused(&base().node(grouped).encode(), &both, "groups");
    let mut dilated = four();
    dilated.attribute.push(ints_attribute("dilations", &[2, 2]));
    refused(&base().node(dilated).encode(), &both, "dilated");
    let computed =
        base()
            .node(node("Neg", &["w"], &["v"]))
            .node(conv_node(4, 4, 0, &["x", "v", "b"]));
    refused(&computed.encode(), &both, "not constant");
    let output = base().node(four()).output("x", &[1]).encode();
    refused(&output, &both, "is an output");
    refused(
        &plain(4, 4, 0),
        &key(BOTH, 4, "layout = \"nhwc\""),
        "channels",
    );
    refused(
        &plain(4, 4, 0),
        &key(BOTH, 4, "channels = 1"),
        "channels, not 1",
    );
    let late =
        base()
            .node(conv_node(4, 4, 0, &["s", "w", "b"]))
            .node(node("Identity", &["x"], &["s"]));
    refused(&late.encode(), &both, "not in the order");
    let mut sealed = base().node(four()).model();
    sealed.metadata_props.push(entry("onnxseal.manifest", "x"));
    refused(&sealed.encode_to_vec(), &both, "protected");
    // One bias that is not there, and nowhere to put one.
    let mut old = graph()
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .node(conv_node(4, 4, 0, &["x", "w"]))
        .model();
    old.ir_version = Some(3);
    refused(&old.encode_to_vec(), &both, "IR version");
    assert!(
        run(&old.encode_to_vec(), &key(SHUFFLE, 4, ""))
            .unwrap()
            .is_exact
    );
    let ffx = key(r#"["shuffle", "ffx"]"#, 4, "");
    assert!(matches!(run(&plain(4, 4, 0), &ffx), Err(Error::Usage(_))));
    // Readers of the shape alone do no harm.
    assert!(run(&with(node("Shape", &["x"], &["z"])), &both).is_ok());
}

/// A model whose pixels are quantised by their own range, with weights of integers.
fn dynamic() -> Vec<u8> {
    graph()
        .initializer(raw_tensor("w", DataType::Uint8, &[2, 3, 4, 4], vec![7; 96]))
        .node(node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]))
        .node(conv_node(4, 4, 0, &["q", "w", "z"]))
        .encode()
}

#[test]
fn quantised_models_are_refused_with_what_to_do() {
    let pixels = || raw_tensor("z", DataType::Uint8, &[], vec![3]);
    let scale = || raw_tensor("s", DataType::Float, &[], 0.5f32.to_le_bytes().to_vec());
    let bytes = || raw_tensor("q", DataType::Uint8, &[2, 3, 4, 4], vec![7; 96]);
    let inputs = ["x", "s", "z", "q", "s", "z", "s", "z"];
    let direct = GraphBuilder::new("g")
        .typed_input("x", DataType::Uint8, &[1, 3, 8, 8])
        .initializer(bytes())
        .initializer(scale())
        .initializer(pixels())
        .node(node("QLinearConv", &inputs, &["y"]));
    let of_weights = graph()
        .initializer(bytes())
        .initializer(scale())
        .initializer(pixels())
        .node(node("DequantizeLinear", &["q", "s", "z"], &["w"]))
        .node(conv_node(4, 4, 0, &["x", "w"]));
    for bytes in [dynamic(), direct.encode(), of_weights.encode()] {
        let Err(Error::Rewrite(RewriteError::Refused(refusal))) = run(&bytes, &key(SHUFFLE, 4, ""))
        else {
            panic!();
        };
        let text = refusal.to_string();
        assert!(text.contains("quantised"), "{text}");
        assert!(refusal.advice.unwrap().contains("quantise the result"));
    }
    for name in ["digits_cnn_qdq", "digits_cnn_qoperator"] {
        let path = format!(
            "{}/../../fixtures/models/{name}.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let files = Files::open(&Location::File(path.into())).unwrap();
        let found = files.with(inspect).unwrap().remove(0).found;
        assert!(
            found.unwrap_err().to_string().contains("quantised"),
            "{name}"
        );
    }
}

#[test]
fn inspection_says_which_blocks_are_possible() {
    let look = |bytes: &[u8]| {
        let model = locate(bytes, &Limits::default()).unwrap();
        let source = Source {
            bytes,
            model: &model,
            external: &no_external,
        };
        inspect(&source).unwrap().remove(0).found
    };
    let entry = look(&plain(4, 4, 0)).unwrap();
    assert_eq!((entry.blocks, entry.channels), (vec![1, 2, 4], 3));
    assert!(entry.shuffle_alone.is_none() && entry.is_shuffle_exact);
    assert_eq!(entry.nodes, ["\"make_y\" (Conv)"]);
    let padded = look(&plain(4, 2, 2)).unwrap();
    assert_eq!((padded.blocks, padded.middle), (vec![1, 2], Some(0.0)));
    assert!(look(&plain(3, 2, 1)).unwrap().blocks == [1]);
    let last = GraphBuilder::new("g")
        .input("x", &[1, 8, 8, 3])
        .initializer(weights("w", &[2, 3, 4, 4], 1))
        .node(node_with(
            "Transpose",
            &["x"],
            &["t"],
            vec![ints_attribute("perm", &[0, 3, 1, 2])],
        ))
        .node(conv_node(4, 4, 0, &["t", "w"]));
    let entry = look(&last.encode()).unwrap();
    assert_eq!((entry.layout, entry.blocks), (Layout::Nhwc, vec![1, 2, 4]));
    let deep = graph()
        .initializer(weights("w", &[2, 12, 1, 1], 1))
        .node(node_with(
            "SpaceToDepth",
            &["x"],
            &["t"],
            vec![int_attribute("blocksize", 2)],
        ))
        .node(conv_node(1, 1, 0, &["t", "w"]));
    assert_eq!(look(&deep.encode()).unwrap().blocks, [1, 2]);
    assert!(look(&graph().node(node("Relu", &["x"], &["y"])).encode()).is_err());
}

#[test]
fn damaged_models_are_refused_or_rewritten_and_nothing_panics() {
    let both = key(BOTH, 4, "");
    let orthogonal = key(ORTHOGONAL, 4, "");
    for bytes in [plain(4, 4, 0), dynamic()] {
        for i in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff, bytes[i] ^ 1] {
                let mut damaged = bytes.clone();
                damaged[i] = value;
                let Ok(model) = locate(&damaged, &Limits::default()) else {
                    continue;
                };
                let source = Source {
                    bytes: &damaged,
                    model: &model,
                    external: &no_external,
                };
                let _ = inspect(&source);
                for key in [&both, &orthogonal] {
                    let _ = rewrite(&source, key, None);
                }
            }
        }
    }
}

#[test]
fn files_are_written_whole_and_nothing_is_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let at = |name: &str| Location::File(path(name));
    let bytes = graph()
        .initializer(external("w", &[2, 3, 4, 4], "w.bin", Some(16), Some(384)))
        .node(conv_node(4, 4, 0, &["x", "w"]))
        .encode();
    let mut data = vec![7; 16];
    data.extend(le_bytes(&floats(96, 1)));
    data.extend([9; 3]);
    std::fs::write(path("m.onnx"), &bytes).unwrap();
    std::fs::write(path("w.bin"), &data).unwrap();
    let files = Files::open(&at("m.onnx")).unwrap();
    let key = key(BOTH, 4, "");
    let done = files
        .with(|source| rewrite(source, &key, None))
        .unwrap()
        .edits;
    let options = OutputOptions::default();
    // Beside the model, its data needs another name; elsewhere it keeps its own.
    let written = files.write(&done, &at("out.onnx"), options).unwrap();
    assert_eq!(written.files, [path("out.onnx.data"), path("out.onnx")]);
    files.write(&done, &at("sub/out.onnx"), options).unwrap();
    let moved = std::fs::read(path("sub/w.bin")).unwrap();
    assert_eq!(moved, std::fs::read(path("out.onnx.data")).unwrap());
    assert_eq!((&moved[..16], &moved[400..]), (&data[..16], &data[400..]));
    assert_ne!(moved[16..400], data[16..400]);
    let again = Files::open(&at("out.onnx")).unwrap();
    assert!(again.with(inspect).unwrap()[0].found.is_ok());
    for name in ["out.onnx", "sub/out.onnx", "m.onnx"] {
        let before = std::fs::read(path(name)).unwrap();
        assert!(files.write(&done, &at(name), options).is_err(), "{name}");
        assert_eq!(std::fs::read(path(name)).unwrap(), before);
    }
    assert_eq!(std::fs::read(path("w.bin")).unwrap(), data);
    std::fs::remove_file(path("sub/out.onnx")).unwrap();
    assert!(files.write(&done, &at("sub/out.onnx"), options).is_err());
    assert!(!path("sub/out.onnx").exists());
}
