//! What a policy demands and a plan does not meet.

use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{AttributeProto, GraphProto, NodeProto, TrainingInfoProto};
use onnxseal_plan::{Policy, Preset};
use onnxseal_testkit::build::{
    GraphBuilder, floats_attribute, function, in_domain, int64s, node, node_with, raw_tensor,
    strings_attribute, tensor_attribute, weights,
};
use prost::Message;

use crate::common::{self, located, string_data, varints, violations, with_functions};
use crate::plans::layers;

fn policy(toml: &str) -> Policy {
    Policy::parse(toml).unwrap()
}

/// Floats and quantised values for operators that take no weights: `full` encrypts them, other
/// presets report them.
#[test]
fn floats_of_operators_without_weights_are_findings() {
    let bytes = GraphBuilder::new("bounds")
        .initializer(weights("bound", &[4, 4], 0))
        .initializer(weights("short", &[15], 0))
        .initializer(raw_tensor("mask", DataType::Int8, &[64], vec![1; 64]))
        .initializer(weights("added", &[4, 4], 0))
        .node(node("Max", &["x", "bound"], &["a"]))
        .node(node("Identity", &["bound"], &["same"]))
        .node(node("Where", &["mask", "same", "a"], &["b"]))
        .node(node("Min", &["b", "short", "added"], &["c"]))
        .node(node("Add", &["c", "added"], &["d"]))
        .encode();
    let strict = "[require]\nunknown_op = \"error\"\n";
    let full = policy(strict);
    assert_eq!(violations(&bytes, &full), [""; 0]);
    assert_eq!(common::plan(&located(&bytes), &full).share(), 1.0);
    let strong = format!("preset = \"strong\"\n{strict}");
    assert_eq!(
        violations(&bytes, &policy(&strong)),
        [
            "\"bound\" (graph.initializer[0]) may be a weight: \
             weights are unusual in Max, Where",
            "\"mask\" (graph.initializer[2]) may be a weight: \
             weights are unusual in Where"
        ]
    );
    // An override settles it, either way.
    for (coefficient, told, encrypted) in [
        (0.0, &["nothing is encrypted"][..], 64),
        (1.0, &[], 64 + 60 + 64 + 64),
    ] {
        let named = |name: &str, coefficient: f64| {
            format!("[[override]]\ninitializer = \"{name}\"\ncoefficient = {coefficient:?}\n")
        };
        let all = strong.clone() + &named("*", coefficient);
        assert_eq!(violations(&bytes, &policy(&all)), told);
        let policy = policy(&(all + &named("added", 1.0)));
        let plan = common::plan(&located(&bytes), &policy);
        assert_eq!(plan.encrypted_bytes(), encrypted);
    }
}

#[test]
fn demands_turn_reports_into_violations() {
    let bytes = GraphBuilder::new("demanding")
        .initializer(varints("varints"))
        .initializer(weights("mystery", &[8, 8], 0))
        .initializer(weights("w", &[4, 4], 0))
        .initializer(string_data("words"))
        .node(node("MatMulInteger", &["x", "varints"], &["a"]))
        .node(node("Conv", &["x", "w"], &["b"]))
        .node(in_domain("my", node("Mystery", &["mystery"], &["c"])))
        .node(in_domain(
            "ai.onnx.ml",
            node_with(
                "LabelEncoder",
                &["words"],
                &["d"],
                vec![strings_attribute("keys_strings", &["a word"; 20])],
            ),
        ))
        .encode();
    let bytes_of_words = common::classified(&located(&bytes), "words").bytes;
    let total = 64 + 256 + 64 + bytes_of_words;
    let plan = common::plan(&located(&bytes), &Policy::default());
    assert_eq!((plan.total_bytes(), plan.encrypted_bytes()), (total, 320));
    let told = |preset: &str, demand: &str| {
        let demand = format!("preset = \"{preset}\"\n[require]\n{demand}");
        violations(&bytes, &policy(&demand))
    };
    let unpatchable = "tensor \"varints\" (graph.initializer[0]) cannot be encrypted: \
         its elements are varints (int32_data), which change length";
    let mystery = "\"mystery\" (graph.initializer[1]) may be a weight: \
         no rule says what my.Mystery does with it";
    let words = "the text of tensor \"words\" (graph.initializer[3]) stays in clear";
    let keys = "attribute \"keys_strings\" (graph.node[3].attribute[0]) stays in clear";
    for preset in Preset::ALL.map(Preset::name) {
        assert_eq!(told(preset, ""), [unpatchable], "{preset}");
        let settings = told(preset, "settings = \"error\"");
        assert_eq!(settings, [unpatchable, words, keys], "{preset}");
    }
    let unknown = "unknown_op = \"error\"";
    assert_eq!(told("full", unknown), [unpatchable]);
    assert_eq!(told("strong", unknown), [unpatchable, mystery]);
    let share = format!(
        "{:.1} % of all tensors' bytes are encrypted, at least 95.0 % are demanded",
        32000.0 / total as f64
    );
    let [_, few] = &told("full", "min_share = 0.95")[..] else {
        panic!()
    };
    assert_eq!(few, &share);
    assert_eq!(told("full", "min_share = 0.5"), [unpatchable]);
    // Nobody asked for any.
    let none = policy("[default]\ncoefficient = 0");
    assert_eq!(violations(&bytes, &none), [""; 0]);
}

/// Another reader, one that takes no weights where they arrive, does not make them harmless.
#[test]
fn harmless_readers_hide_nothing() {
    let bytes = GraphBuilder::new("hidden")
        .initializer(weights("w", &[8, 8], 0))
        .initializer(weights("mask", &[8, 8], 1))
        .initializer(raw_tensor(
            "quantised",
            DataType::Int8,
            &[8, 8],
            vec![1; 64],
        ))
        .initializer(weights("scale", &[1], 2))
        .initializer(weights("conv", &[8, 8], 3))
        .node(node("Relu", &["w"], &["r"]))
        .node(node("MatMul", &["x", "r"], &["y"]))
        .node(node("CastLike", &["x", "w"], &["like"]))
        .node(node("CastLike", &["x", "mask"], &["like2"]))
        .node(node("Where", &["c", "mask", "x"], &["where"]))
        .node(node("DequantizeLinear", &["quantised", "scale"], &["q"]))
        .node(node("Relu", &["q"], &["rq"]))
        .node(node("MatMul", &["x", "rq"], &["z"]))
        .node(node("Conv", &["z", "conv"], &["out"]))
        .encode();
    let of = |preset: &str| {
        let policy = policy(&format!(
            "preset = \"{preset}\"\n[require]\nunknown_op = \"error\""
        ));
        let told = violations(&bytes, &policy);
        let names = told
            .iter()
            .map(|told| told.split('"').nth(1).unwrap().to_owned());
        names.collect::<Vec<_>>()
    };
    assert_eq!(of("strong"), ["w", "mask", "quantised"]);
    assert_eq!(of("full"), [""; 0]);
}

#[test]
fn entries_that_match_nothing_are_violations() {
    let bytes = layers();
    let told = |toml: &str| violations(&bytes, &policy(toml));
    for preset in Preset::ALL {
        assert_eq!(violations(&bytes, &Policy::preset(preset)), [""; 0]);
    }
    let matching = "[op.Conv]\ncoefficient = 0.5\n[op.\"ai.onnx.MatMul\"]\ncoefficient = 0.5\n\
                    [[override]]\nnode = \"make_?\"\ncoefficient = 0.0\n\
                    [[override]]\nnode = \"make_b\"\ncoefficient = 0.0\n\
                    [[override]]\ninitializer = \"*\"\ncoefficient = 1.0\n";
    assert_eq!(told(matching), [""; 0]);
    let others = "allow_clear = [\"fliters\", \"filters\"]\n\
                  [op.ConvTranspose]\ncoefficient = 0.5\n[op.LSTM]\ncoefficient = 0.5\n\
                  [[override]]\nnode = \"makeb\"\ncoefficient = 0.0\n\
                  [[override]]\ninitializer = \"filter\"\ncoefficient = 1.0\n\
                  [[override]]\ninitializer = \"head.*\"\ncoefficient = 1.0\n";
    assert_eq!(
        told(others),
        [
            "the coefficient of ConvTranspose matches nothing in the model: did you mean \"Conv\"?",
            "the coefficient of LSTM matches nothing in the model",
            "the override of node \"makeb\" matches nothing in the model: did you mean \"make_b\"?",
            "the override of initializer \"filter\" matches nothing in the model: did you mean \"filters\"?",
            "the override of initializer \"head.*\" matches nothing in the model",
            "the name \"fliters\" that may stay in clear matches nothing in the model: did you mean \"filters\"?",
        ]
    );
    let allowed = format!("{others}[require]\nunmatched = \"report\"\n");
    assert_eq!(told(&allowed), [""; 0]);
}

#[test]
fn overrides_that_encrypt_nothing_are_violations() {
    let bytes = GraphBuilder::new("without effect")
        .initializer(weights("w", &[8, 8], 0))
        .initializer(int64s("shape", &[2], &[4, 4]))
        .initializer(int64s("indices", &[2], &[0, 1]))
        .initializer(string_data("words"))
        .node(node("MatMul", &["x", "w"], &["a"]))
        .node(NodeProto {
            name: Some("reshape".into()),
            ..node("Reshape", &["a", "shape"], &["b"])
        })
        .node(NodeProto {
            name: Some("gather".into()),
            ..node("Gather", &["words", "indices"], &["c"])
        })
        .encode();
    let told = |pattern: &str, coefficient: f64, more: &str| {
        let named =
            format!("[[override]]\ninitializer = \"{pattern}\"\ncoefficient = {coefficient:?}\n");
        violations(&bytes, &policy(&format!("{named}{more}")))
    };
    for (name, reason) in [
        ("shape", "the graph's shapes are computed from it"),
        ("words", "it holds text"),
    ] {
        let expected = format!("the override of initializer {name:?} encrypts nothing: {reason}");
        assert_eq!(told(name, 0.5, ""), [expected]);
        assert_eq!(told(name, 0.0, ""), [""; 0]);
        assert_eq!(
            told(name, 0.5, "[require]\nunmatched = \"report\""),
            [""; 0]
        );
    }
    let of_node = |name: &str| {
        let named = format!("[[override]]\nnode = {name:?}\ncoefficient = 1.0\n");
        violations(&bytes, &policy(&named))
    };
    let expected = "the override of node \"reshape\" encrypts nothing: the graph's shapes are computed from it";
    assert_eq!(of_node("reshape"), [expected]);
    // Its indices are encrypted.
    assert_eq!(of_node("gather"), [""; 0]);
    // It encrypts something, or a later one takes it back.
    let later = "[[override]]\ninitializer = \"indices\"\ncoefficient = 0.0";
    for (name, more) in [("*", ""), ("indices", ""), ("indices", later)] {
        assert_eq!(told(name, 1.0, more), [""; 0], "{name}");
    }
}

#[test]
fn encrypting_nothing_is_a_violation() {
    let reshape = node("Reshape", &["x", "shape"], &["y"]);
    let shape = int64s("shape", &[2], &[4, 4]);
    let bytes = GraphBuilder::new("g")
        .initializer(shape)
        .node(reshape)
        .encode();
    for preset in Preset::ALL {
        assert_eq!(
            violations(&bytes, &Policy::preset(preset)),
            ["nothing is encrypted"]
        );
    }
    for nobody_asks in ["[default]\ncoefficient = 0", "budget = 0.0"] {
        assert_eq!(violations(&bytes, &policy(nobody_asks)), [""; 0]);
    }
}

/// What cannot be encrypted where it lies, beside `w`, which can.
fn hidden() -> Vec<u8> {
    let long = "0123456789".repeat(10);
    let custom = vec![
        strings_attribute("blob", &[&long]),
        strings_attribute("mode", &["fast"]),
    ];
    let graph = GraphBuilder::new("hidden")
        .initializer(weights("w", &[8, 8], 0))
        .initializer(varints("codes"))
        .node(node("MatMul", &["x", "w"], &["a"]))
        .node(node("MatMulInteger", &["a", "codes"], &["b"]))
        .node(in_domain("my", node_with("Op", &["b"], &["c"], custom)));
    let mut default = function(
        "my",
        "f",
        &["x"],
        &["y"],
        vec![node("Relu", &["x"], &["y"])],
    );
    default.attribute_proto = vec![floats_attribute("learnt", &[0.5; 64])];
    let bytes = with_functions(graph, vec![default]);
    let mut model = onnxseal_onnx::proto::ModelProto::decode(&bytes[..]).unwrap();
    let value: AttributeProto = tensor_attribute("value", weights("t", &[8, 8], 1));
    let training = GraphProto {
        node: vec![node_with("Constant", &[], &["t"], vec![value])],
        ..GraphProto::default()
    };
    model.training_info = vec![TrainingInfoProto {
        initialization: Some(training),
        ..TrainingInfoProto::default()
    }];
    model.encode_to_vec()
}

#[test]
fn what_cannot_be_encrypted_is_a_violation_unless_the_policy_names_it() {
    let bytes = hidden();
    let told = [
        (
            "codes",
            "graph.initializer[1]",
            "tensor \"codes\" (graph.initializer[1]) cannot be encrypted: its elements are varints (int32_data), which change length",
        ),
        (
            "training_info[[]0[]]*",
            "training_info[[]0[]]*",
            "training_info[0] may hold weights, and stays in clear",
        ),
        (
            "functions[[]0[]].*",
            "functions[[]0[]].attribute_proto[[]0[]]",
            "functions[0].attribute_proto[0] may hold weights, and stays in clear",
        ),
        (
            "blob",
            "graph.node[[]2[]].attribute[[]0[]]",
            "attribute \"blob\" (graph.node[2].attribute[0]) has 102 bytes, may hold weights, and stays in clear",
        ),
    ];
    let all = told.map(|(_, _, told)| told);
    for preset in Preset::ALL {
        let mut policy = Policy::preset(preset);
        assert_eq!(violations(&bytes, &policy), all, "{preset:?}");
        for (i, (name, path, _)) in told.into_iter().enumerate() {
            let mut rest = all.to_vec();
            rest.remove(i);
            for pattern in [name, path] {
                let mut policy = Policy::preset(preset);
                policy
                    .allow_clear(&pattern.replace("initializer[1]", "initializer[[]1[]]"))
                    .unwrap();
                assert_eq!(violations(&bytes, &policy), rest, "{pattern}");
            }
            policy.allow_clear(name).unwrap();
        }
        assert_eq!(violations(&bytes, &policy), [""; 0], "{preset:?}");
        // Allowed, and part of the whole all the same.
        assert!(common::plan(&located(&bytes), &policy).share() < 0.5);
    }
    assert!(Policy::parse("allow_clear = [\"a[\"]").is_err());
}

#[test]
fn violations_do_not_repeat_long_names() {
    let long = "n".repeat(1 << 20);
    let text = "t".repeat(100);
    let long_text = vec![strings_attribute(&long, &[&text])];
    let bytes = GraphBuilder::new("long")
        .initializer(varints(&long))
        .node(in_domain(
            "my",
            node_with(&long, &[&long], &["y"], long_text),
        ))
        .encode();
    let told = violations(
        &bytes,
        &policy("preset = \"strong\"\n[require]\nunknown_op = \"error\""),
    );
    let heads: Vec<_> = told
        .iter()
        .map(|told| &told[..told.len().min(60)])
        .collect();
    assert_eq!(told.len(), 2, "{heads:?}");
    assert!(told.iter().all(|told| told.len() < 1000));
}
