//! What stays in clear. Under `full` that is only what shapes are computed from, text, positions of
//! sparse tensors, and single elements.

use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::proto::{AttributeProto, GraphProto, NodeProto, TensorProto};
use onnxseal_plan::{Policy, Preset, Reason};
use onnxseal_testkit::build::{
    GraphBuilder, constant, floats_attribute, function, graph_attribute, in_domain, int64s,
    ints_attribute, node, node_with, raw_tensor, strings_attribute, weights,
};

use crate::common::{self, string_data, varints, violations, with_functions};

/// The names of the tensors that `full` leaves in clear, all of them shapes.
fn shapes(bytes: &[u8]) -> Vec<String> {
    let clear = common::clear(bytes, &Policy::preset(Preset::Full));
    let names = clear.into_iter().map(|(name, reason)| {
        assert_eq!(reason, Reason::Shape, "{name}");
        name
    });
    names.collect()
}

fn pair(name: &str) -> TensorProto {
    int64s(name, &[2], &[4, 4])
}

/// Every input is a constant: those and only those with a mark are shapes.
#[test]
fn inputs_of_shape_inference_stay_in_clear() {
    for (domain, line) in [
        ("", "Reshape x #shape"),
        ("", "Expand x #shape"),
        ("", "Tile x #repeats"),
        ("", "Slice x #starts #ends #axes #steps"),
        ("", "Pad x #pads value #axes"),
        ("", "Resize x #roi #scales #sizes"),
        ("", "Upsample x #scales"),
        ("", "Unsqueeze x #axes"),
        ("", "Squeeze x #axes"),
        ("", "ReduceMean x #axes"),
        ("", "Split x #split"),
        ("", "TopK x #k"),
        ("", "OneHot indices #depth values"),
        ("", "ConstantOfShape #shape"),
        ("", "Range #start #limit #delta"),
        ("", "Loop #trips #go v"),
        ("com.microsoft", "ExpandDims x #axis"),
        ("", "Gather x indices"),
        ("", "ScatterND x indices updates"),
        ("", "Where c a b"),
        ("", "Identity x"),
        ("", "MatMul a b"),
        ("my", "Reshape x shape"),
    ] {
        let mut words = line.split(' ');
        let op_type = words.next().unwrap();
        let inputs: Vec<&str> = words.collect();
        let names: Vec<&str> = inputs
            .iter()
            .map(|name| name.trim_start_matches('#'))
            .collect();
        let graph = names.iter().fold(GraphBuilder::new("g"), |graph, name| {
            graph.initializer(pair(name))
        });
        let reader = in_domain(domain, node(op_type, &names, &["y"]));
        let bytes = graph.node(reader).output("y", &[]).encode();
        let marked = inputs.iter().filter_map(|name| name.strip_prefix('#'));
        assert_eq!(shapes(&bytes), marked.collect::<Vec<_>>(), "{line}");
    }
}

#[test]
fn shapes_are_followed_through_their_arithmetic() {
    let names = [
        "part", "sizes", "which", "same", "factor", "ones", "minus", "float",
    ];
    let graph = names.iter().fold(GraphBuilder::new("g"), |graph, name| {
        graph.initializer(pair(name))
    });
    let cast = raw_tensor("int32", DataType::Int32, &[2], vec![1; 8]);
    let bytes = graph
        .initializer(cast)
        .initializer(weights("table", &[8, 4], 1))
        .initializer(weights("w", &[8, 4], 2))
        .node(node("Gather", &["table", "ids"], &["rows"]))
        .node(node("Shape", &["rows"], &["of_rows"]))
        .node(node("Concat", &["of_rows", "part"], &["joined"]))
        .node(node("Reshape", &["rows", "joined"], &["a"]))
        .node(node("Cast", &["int32"], &["int64"]))
        .node(node("Expand", &["a", "int64"], &["b"]))
        .node(node("Gather", &["sizes", "which"], &["size"]))
        .node(node("Tile", &["b", "size"], &["c"]))
        .node(node("Identity", &["same"], &["still"]))
        .node(node("Mul", &["still", "factor"], &["doubled"]))
        .node(node("Unsqueeze", &["c", "doubled"], &["d"]))
        .node(node("Equal", &["still", "minus"], &["is_minus"]))
        .node(node("Where", &["is_minus", "ones", "still"], &["known"]))
        .node(node("Expand", &["d", "known"], &["e"]))
        .node(node("Resize", &["e", "", "float"], &["f"]))
        .node(node("MatMul", &["f", "w"], &["y"]))
        .output("y", &[])
        .encode();
    assert_eq!(shapes(&bytes), [&names[..], &["int32"]].concat());
}

#[test]
fn what_is_also_data_is_encrypted() {
    let with = |also: &[NodeProto], output: &str| {
        let graph = GraphBuilder::new("g").initializer(pair("s")).node(node(
            "Reshape",
            &["x", "s"],
            &["y"],
        ));
        let graph = also.iter().cloned().fold(graph, GraphBuilder::node);
        shapes(&graph.output(output, &[]).encode())
    };
    let cast = node("Cast", &["s"], &["c"]);
    for (also, output) in [
        (vec![], "y"),
        (vec![node("Expand", &["y", "s"], &["z"])], "z"),
        (vec![node("Shape", &["s"], &["z"])], "z"),
        (vec![cast.clone(), node("Tile", &["x", "c"], &["z"])], "z"),
    ] {
        assert_eq!(with(&also, output), ["s"], "{also:?}");
    }
    for (also, output) in [
        (vec![], "s"),
        (vec![node("Identity", &["s"], &["z"])], "z"),
        (vec![node("Add", &["y", "s"], &["z"])], "z"),
        (vec![node("Sin", &["s"], &["z"])], "y"),
        (vec![node("MatMul", &["y", "c"], &["z"]), cast], "y"),
        (vec![in_domain("my", node("Op", &["s"], &["z"]))], "y"),
        (vec![node("Gather", &["y", "s"], &["z"])], "z"),
    ] {
        assert_eq!(with(&also, output), [""; 0], "{also:?} {output}");
    }
    // Nothing needs a shape of that many dimensions; and a shape that nobody reads is none.
    for (n, clear) in [(256, &["s"][..]), (257, &[])] {
        let shape = int64s("s", &[n], &vec![1; n as usize]);
        let graph = GraphBuilder::new("g")
            .initializer(shape)
            .initializer(pair("unread"));
        let bytes = graph.node(node("Reshape", &["x", "s"], &["y"])).encode();
        assert_eq!(shapes(&bytes), clear);
    }
}

#[test]
fn shapes_go_into_subgraphs_and_out_of_them() {
    let reshape = |shape: &str, output: &str| node("Reshape", &["x", shape], &[output]);
    let branch = |own: &str| {
        let graph = GraphBuilder::new(own)
            .node(constant(pair(own)))
            .node(reshape("outer", "inner_y"))
            .output(own, &[]);
        graph.output("inner_y", &[]).graph()
    };
    let branches = vec![
        graph_attribute("then_branch", branch("a")),
        graph_attribute("else_branch", branch("b")),
    ];
    let body = |also: Option<NodeProto>| -> GraphProto {
        let graph = GraphBuilder::new("body")
            .input("i", &[])
            .input("go", &[])
            .input("carried", &[])
            .node(reshape("carried", "z"))
            .node(node("Identity", &["carried"], &["next"]));
        let graph = also.into_iter().fold(graph, GraphBuilder::node);
        graph
            .output("go", &[])
            .output("next", &[])
            .output("z", &[])
            .graph()
    };
    let with = |last: NodeProto, also: Option<NodeProto>| {
        let body = vec![graph_attribute("body", body(also))];
        let graph = ["outer", "start"]
            .iter()
            .fold(GraphBuilder::new("main"), |graph, name| {
                graph.initializer(pair(name))
            });
        let bytes = graph
            .node(node_with("If", &["c"], &["ab", "y"], branches.clone()))
            .node(node_with("Loop", &["", "", "start"], &["end", "zs"], body))
            .node(node("Expand", &["y", "ab"], &["u"]))
            .node(last)
            .output("v", &[])
            .encode();
        shapes(&bytes)
    };
    let expand = || node("Expand", &["u", "end"], &["v"]);
    let sin = |name: &str| Some(node("Sin", &[name], &["sin"]));
    assert_eq!(with(expand(), None), ["a", "b", "outer", "start"]);
    assert_eq!(
        with(node("Add", &["u", "end"], &["v"]), None),
        ["a", "b", "outer"]
    );
    assert_eq!(
        with(node("Add", &["u", "ab"], &["v"]), None),
        ["outer", "start"]
    );
    assert_eq!(with(expand(), sin("carried")), ["a", "b", "outer"]);
    assert_eq!(with(expand(), sin("outer")), ["a", "b", "start"]);
}

#[test]
fn shapes_go_into_functions_and_out_of_them() {
    let with = |inside: &str, after: &str| {
        let body = vec![
            node("Identity", &["given"], &["same"]),
            constant(pair("own")),
            node(inside, &["v", "same"], &["out"]),
        ];
        let f = function("my", "f", &["v", "given"], &["out", "own"], body);
        let graph = GraphBuilder::new("main")
            .initializer(pair("s"))
            .initializer(weights("w", &[8, 8], 0))
            .node(in_domain("my", node("f", &["w", "s"], &["a", "b"])))
            .node(node(after, &["a", "b"], &["y"]))
            .output("y", &[]);
        shapes(&with_functions(graph, vec![f]))
    };
    assert_eq!(with("Reshape", "Expand"), ["s", "own"]);
    assert_eq!(with("Add", "Expand"), ["own"]);
    assert_eq!(with("Reshape", "Add"), ["s"]);
}

#[test]
fn attributes_are_shapes_too() {
    let ints = vec![ints_attribute("value_ints", &[4, 300])];
    let with = |readers: Vec<NodeProto>| {
        let graph = GraphBuilder::new("g")
            .initializer(weights("w", &[8, 8], 0))
            .node(node("MatMul", &["x", "w"], &["xw"]))
            .node(node_with("Constant", &[], &["ints"], ints.clone()));
        readers.into_iter().fold(graph, GraphBuilder::node).encode()
    };
    let full = Policy::preset(Preset::Full);
    let reshape = || node("Reshape", &["x", "ints"], &["y"]);
    let bytes = with(vec![reshape()]);
    assert_eq!(shapes(&bytes), ["ints"]);
    assert_eq!(violations(&bytes, &full), [""; 0]);
    // Data as well, or unread.
    for readers in [
        vec![reshape(), node("MatMul", &["x", "ints"], &["z"])],
        vec![],
    ] {
        let bytes = with(readers);
        assert_eq!(
            violations(&bytes, &full),
            [
                "tensor \"ints\" (graph.node[1].attribute[0].ints) cannot be encrypted: \
              its elements are varints (ints), which change length"
            ]
        );
        // By the operator method, these are indices.
        assert_eq!(violations(&bytes, &Policy::preset(Preset::Strong)), [""; 0]);
    }
    let scales = vec![floats_attribute("scales", &[1.0, 1.0, 2.0, 2.0])];
    let scaling = |op_type: &str| node_with(op_type, &["x"], &["y"], scales.clone());
    assert_eq!(
        shapes(&with(vec![reshape(), scaling("Upsample")])),
        ["ints", "scales"]
    );
    let other = in_domain("my", scaling("Upsample"));
    assert_eq!(shapes(&with(vec![reshape(), other])), ["ints"]);
}

/// Whatever reads a tensor, and whatever its type: `full` takes it. The other presets take what
/// operators use as weights, and `strong` all of it, in a model as small as this.
#[test]
fn full_takes_whatever_it_can() {
    let raw = |name: &str, data_type, dims: &[i64], bytes| {
        raw_tensor(name, data_type, dims, vec![1; bytes])
    };
    // In clear under all presets but `full`, each beside its reader.
    let bytes = GraphBuilder::new("everything")
        .initializer(raw("int64_cast", DataType::Int64, &[4, 4], 128))
        .node(node("Cast", &["int64_cast"], &["cast"]))
        .node(node("MatMul", &["x", "cast"], &["y1"]))
        .initializer(raw("uint32", DataType::Uint32, &[32], 128))
        .node(node("Gather", &["uint32", "i"], &["y2"]))
        .initializer(raw("mask", DataType::Bool, &[32], 32))
        .initializer(weights("chosen", &[32], 1))
        .node(node("Where", &["mask", "chosen", "x"], &["y3"]))
        .initializer(weights("bias", &[10], 2))
        .node(node("Add", &["y1", "bias"], &["y4"]))
        .initializer(weights("scales", &[16], 3))
        .initializer(raw("zero_points", DataType::Int8, &[16], 16))
        .initializer(raw("quantised", DataType::Int8, &[16, 4], 64))
        .node(node(
            "DequantizeLinear",
            &["quantised", "scales", "zero_points"],
            &["q"],
        ))
        .node(node("Gemm", &["x", "q"], &["y5"]))
        .initializer(weights("state", &[1, 1, 16], 4))
        .initializer(weights("cell", &[1, 1, 16], 5))
        .node(node(
            "LSTM",
            &["x", "w", "r", "b", "", "state", "cell"],
            &["y6"],
        ))
        .initializer(raw("int32_rows", DataType::Int32, &[32, 2], 256))
        .node(node("Gather", &["int32_rows", "i"], &["y7"]))
        .initializer(weights("bound", &[32], 6))
        .node(node("Greater", &["x", "bound"], &["y8"]))
        .initializer(weights("angle", &[8, 8], 7))
        .node(node("Sin", &["angle"], &["sine"]))
        .node(node("MatMul", &["x", "sine"], &["y9"]))
        .initializer(weights("least", &[8, 8], 8))
        .node(node("Max", &["least", "l"], &["most"]))
        .node(node("MatMul", &["x", "most"], &["y10"]))
        .initializer(weights("scattered", &[8, 8], 9))
        .initializer(int64s("places", &[8, 1], &[1; 8]))
        .initializer(weights("updates", &[8, 8], 10))
        .node(node(
            "ScatterND",
            &["scattered", "places", "updates"],
            &["y11"],
        ))
        .initializer(weights("mystery", &[8, 8], 11))
        .initializer(weights("few_mystery", &[2], 12))
        .node(in_domain(
            "my",
            node("Mystery", &["mystery", "few_mystery"], &["y12"]),
        ))
        .initializer(weights("unread", &[16], 13))
        .initializer(int64s("unread_pair", &[2], &[1, 2]))
        // In clear under `full` too.
        .initializer(varints("varints"))
        .node(node("MatMulInteger", &["x", "varints"], &["y13"]))
        .initializer(string_data("words"))
        .node(node("Gather", &["words", "i"], &["y14"]))
        .initializer(weights("one", &[1], 14))
        .node(node("Add", &["x", "one"], &["y15"]))
        .initializer(weights("none", &[0, 4], 15))
        .node(node("Conv", &["x", "none"], &["y16"]))
        .initializer(pair("shape"))
        .node(node("Reshape", &["x", "shape"], &["y17"]))
        // In clear under no preset.
        .initializer(weights("table", &[16], 16))
        .node(node("Gather", &["table", "i"], &["y18"]))
        .initializer(weights("data", &[1, 16], 17))
        .node(node("Conv", &["data", "w"], &["y19"]))
        .node(node_with(
            "Constant",
            &[],
            &["floats"],
            vec![floats_attribute("value_floats", &[0.5; 16])],
        ))
        .node(node("Add", &["x", "floats"], &["y20"]))
        .encode();
    let names = |preset| {
        let clear = common::clear(&bytes, &Policy::preset(preset)).into_iter();
        clear.map(|(name, _)| name).collect::<Vec<_>>()
    };
    let full = ["varints", "words", "one", "none", "shape"];
    assert_eq!(names(Preset::Full), full);
    let partial = [
        "int64_cast",
        "uint32",
        "mask",
        "chosen",
        "bias",
        "scales",
        "zero_points",
        "state",
        "cell",
        "int32_rows",
        "bound",
        "angle",
        "least",
        "scattered",
        "places",
        "updates",
        "mystery",
        "few_mystery",
        "unread",
        "unread_pair",
    ];
    assert_eq!(names(Preset::Strong), [&partial[..], &full].concat());
    let told = violations(&bytes, &Policy::preset(Preset::Full));
    assert!(
        told.len() == 1 && told[0].contains("\"varints\""),
        "{told:?}"
    );
}

/// Long numbers or text that a function may read as weights: its defaults, and what calls pass.
#[test]
fn what_functions_are_given_is_no_setting() {
    let long = "w".repeat(160);
    let with = |name: &str, domain: &str, default: Option<AttributeProto>| {
        let mut f = function(
            domain,
            name,
            &["v"],
            &["out"],
            vec![node("Identity", &["v"], &["out"])],
        );
        f.attribute_proto.extend(default);
        let call = node_with(
            name,
            &["x"],
            &["y"],
            vec![strings_attribute("text", &[&long])],
        );
        let graph = GraphBuilder::new("g")
            .initializer(weights("w", &[8, 8], 0))
            .node(node("MatMul", &["x", "w"], &["xw"]))
            .node(in_domain(domain, call));
        violations(
            &with_functions(graph, vec![f]),
            &Policy::preset(Preset::Full),
        )
    };
    let short = strings_attribute("d", &["short"]);
    for (name, domain) in [("f", "my"), ("Relu", ""), ("Relu", "ai.onnx")] {
        let told = with(name, domain, Some(short.clone()));
        assert!(
            told.len() == 1 && told[0].contains("\"text\""),
            "{name}: {told:?}"
        );
    }
    for default in [
        strings_attribute("d", &[&long]),
        ints_attribute("d", &[300; 80]),
    ] {
        let told = with("f", "my", Some(default));
        let is_default = |text: &String| text.contains("functions[0].attribute_proto[0]");
        assert!(told.iter().any(is_default), "{told:?}");
    }
}
