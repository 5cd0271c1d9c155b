//! How much a file may ask for.

use onnxseal_onnx::model::{
    Function, Graph, MetadataProp, Node, OpsetImport, PassedOver, Payload, Tensor,
};
use onnxseal_onnx::{Error, Limits, locate};
use onnxseal_testkit::build::external;
use onnxseal_testkit::{samples, wire};
use prost::Message;

use crate::support::located;

/// The name of the limit that stops `locate`, having been changed by `set`.
fn limited(bytes: &[u8], set: fn(&mut Limits)) -> &'static str {
    located(bytes);
    let mut limits = Limits::default();
    set(&mut limits);
    match locate(bytes, &limits) {
        Err(Error::LimitExceeded { what, .. }) => what,
        other => panic!("expected a limit, found {other:?}"),
    }
}

#[test]
fn limits_hold() {
    let gemm = samples::gemm();
    let functions = samples::local_function();
    let external = samples::external_data().model;
    let branches = samples::if_branches();
    let mut metadata = gemm.clone();
    metadata.extend(wire::field(14, &[]));
    assert_eq!(limited(&branches, |l| l.graph_depth = 0), "nested graphs");
    assert_eq!(limited(&branches, |l| l.graphs = 2), "graphs");
    assert_eq!(limited(&functions, |l| l.functions = 0), "functions");
    assert_eq!(limited(&branches, |l| l.nodes = 3), "nodes");
    assert_eq!(limited(&gemm, |l| l.tensors = 1), "tensors");
    assert_eq!(limited(&gemm, |l| l.values = 5), "values");
    assert_eq!(limited(&gemm, |l| l.dims = 1), "dims");
    assert_eq!(
        limited(&gemm, |l| l.path_bytes = 39),
        "bytes of tensor paths"
    );
    assert_eq!(
        limited(&gemm, |l| l.name_bytes = 1),
        "bytes of tensor names"
    );
    assert_eq!(
        limited(&metadata, |l| l.metadata_props = 0),
        "metadata entries"
    );
    assert_eq!(limited(&gemm, |l| l.opset_imports = 0), "opset imports");
    assert_eq!(
        limited(&external, |l| l.external_files = 1),
        "external data files"
    );
    assert_eq!(
        limited(&external, |l| l.location_bytes = 12),
        "bytes in a location"
    );

    let mut exact = Limits::default();
    (exact.nodes, exact.tensors, exact.values, exact.dims) = (1, 2, 6, 2);
    (exact.graph_depth, exact.graphs, exact.path_bytes) = (0, 1, 40);
    exact.name_bytes = 2;
    (exact.opset_imports, exact.functions, exact.external_files) = (1, 0, 0);
    assert!(locate(&gemm, &exact).is_ok());
}

#[test]
fn deep_nesting() {
    let depth = Limits::default().graph_depth as usize;
    assert_eq!(located(&wire::nested_graphs(depth)).graphs.len(), depth + 1);
    for depth in [depth + 1, 10_000] {
        let error = locate(&wire::nested_graphs(depth), &Limits::default()).unwrap_err();
        assert!(matches!(
            error,
            Error::LimitExceeded {
                what: "nested graphs",
                ..
            }
        ));
    }
}

#[test]
fn graphs_side_by_side_are_not_deep() {
    let subgraph = wire::field(1, &wire::field(5, &wire::field(6, &[])));
    let n = 2 * Limits::default().graph_depth as usize;
    let bytes = wire::field(7, &subgraph.repeat(n));
    assert_eq!(located(&bytes).graphs.len(), n + 1);
}

#[test]
fn more_nodes_than_anybody_needs() {
    let n = Limits::default().nodes as usize + 1;
    let bytes = wire::field(7, &wire::field(1, &[]).repeat(n));
    let error = locate(&bytes, &Limits::default()).unwrap_err();
    assert!(matches!(error, Error::LimitExceeded { what: "nodes", .. }));
}

#[test]
fn a_tensor_far_larger_than_its_file() {
    let tensor = external("w", &[1 << 50], "w.bin", None, None);
    let bytes = wire::model_of_tensors(&[tensor.encode_to_vec()]);
    let model = located(&bytes);
    assert!(matches!(model.tensors[0].payload, Payload::Dense { span, .. } if span.len == 1 << 52));
}

/// One long name that many tensors share takes little room in the file, but much in a report.
#[test]
fn a_name_that_many_tensors_share() {
    let attribute = [
        wire::field(1, "X".repeat(1 << 20).as_bytes()),
        wire::field(10, &wire::varint_field(1, 0)).repeat(40),
    ];
    let node = wire::field(1, &wire::field(5, &attribute.concat()));
    let error = locate(&wire::field(7, &node), &Limits::default()).unwrap_err();
    assert!(matches!(
        error,
        Error::LimitExceeded {
            what: "bytes of tensor names",
            ..
        }
    ));
}

/// The documentation of [`Limits`] says 2 GiB.
#[test]
fn what_a_model_takes() {
    let limits = Limits::default();
    let many = |n: u32, bytes: usize| n as usize * bytes;
    // Vec takes room for at least four small items, an allocation 32 bytes.
    let vec_of_names = 4 * size_of::<&str>();
    let shortest_path = "training_info[0]".len();
    let bytes = many(limits.nodes, size_of::<Node<'_>>() + 2 * vec_of_names)
        + many(limits.values, 2 * size_of::<&str>())
        + many(limits.tensors, size_of::<Tensor<'_>>())
        + many(limits.tensors, limits.dims as usize * size_of::<u64>())
        + many(limits.path_bytes, size_of::<PassedOver>() + 32) / shortest_path
        + many(limits.graphs, size_of::<Graph<'_>>() + 32)
        + many(limits.functions, size_of::<Function<'_>>())
        + many(limits.metadata_props, size_of::<MetadataProp<'_>>())
        + many(limits.opset_imports, size_of::<OpsetImport<'_>>())
        + 2 * many(limits.external_files, limits.location_bytes as usize);
    assert!(bytes <= 1 << 31, "{bytes}");
}
