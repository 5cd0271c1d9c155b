//! The tail: the nodes after the layer, which move behind decoding.

use std::collections::{BTreeMap, HashSet};

use onnxseal_onnx::edit::{PartKind, parts};
use onnxseal_onnx::model::{Node, NodeId, Span, TensorId};
use onnxseal_onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TypeProto,
    ValueInfoProto, attribute_proto, type_proto,
};
use onnxseal_rewrite::{DataType, Graph, Refusal, Result, slice};
use prost::Message as _;

use crate::head::layer::{EXPORT, Kind, Layer, is_static};
use crate::stored::MAX_TAIL_BYTES;

/// Operators without weights of their own, which can move behind decoding.
const OPS: &str = "Abs Add ArgMax ArgMin ArrayFeatureExtractor AveragePool Cast CastLike Clip Concat Constant \
    ConstantOfShape Div Dropout Elu Equal Erf Exp Expand Flatten Gather GatherElements \
    GlobalAveragePool GlobalMaxPool Greater HardSigmoid Hardmax Identity LabelEncoder LeakyRelu \
    Less Log LogSoftmax Max Mean Min Mul Neg Normalizer Not OneHot Pow Range Reciprocal ReduceL1 \
    ReduceL2 ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Round Shape \
    Sigmoid Size Softmax Softplus Sqrt Squeeze Sub Sum Tanh TopK Transpose Unsqueeze Where \
    ZipMap";

/// Operators that combine all positions of a Conv, or take the only one.
const POOLING: &str = "AveragePool Flatten GlobalAveragePool GlobalMaxPool ReduceMax ReduceMean ReduceSum Reshape \
    Squeeze";

/// Operators that show by their names that weights are integers.
const QUANTISED: &str = "QuantizeLinear DequantizeLinear QGemm QLinearMatMul QLinearConv \
    MatMulNBits MatMulInteger ConvInteger DynamicQuantizeMatMul QLinearAdd";

fn is_in(ops: &str, op_type: &str) -> bool {
    ops.split(' ').any(|op| op == op_type)
}

/// The nodes after a layer, and those that make constants for them.
#[derive(Debug)]
pub(super) struct Tail {
    /// Nodes that depend on the layer, by position.
    nodes: BTreeMap<u32, NodeId>,
    /// Nodes that make constants for these, by position.
    constants: BTreeMap<u32, NodeId>,
    /// Outputs of the graph that depend on the layer.
    pub(super) outputs: Vec<String>,
    /// Values that the nodes make.
    values: HashSet<String>,
}

/// Fails if a node cannot move behind decoding.
pub(super) fn check_op(node: &Node<'_>) -> Result<()> {
    let is_known = matches!(node.domain, "" | "ai.onnx.ml") && is_in(OPS, node.op_type);
    if is_known {
        return Ok(());
    }
    let reason = match node.op_type {
        "Slice" | "Split" => {
            "it takes a part of what comes before it: several heads share the layer"
        }
        op if is_in(QUANTISED, op) => "the last layer is quantised",
        "LinearClassifier" | "TreeEnsembleClassifier" | "TreeEnsemble" | "SVMClassifier" => {
            "it has its weights in attributes"
        }
        "If" | "Loop" | "Scan" => "the last layer lies within it, or before it",
        _ => {
            "it stands between the last layer with weights and the output, and cannot be computed behind decoding"
        }
    };
    Err(Refusal::new(reason).at(node).advise(EXPORT).into())
}

impl Tail {
    /// Collects the nodes after a layer.
    pub(super) fn find(graph: &Graph<'_>, layer: &Layer) -> Result<Tail> {
        let model = graph.model();
        let mut tail = Tail {
            nodes: BTreeMap::new(),
            constants: BTreeMap::new(),
            outputs: Vec::new(),
            values: HashSet::new(),
        };
        let mut values: Vec<String> = vec![layer.result.clone()];
        while let Some(value) = values.pop() {
            if graph.is_output(&value) {
                tail.outputs.push(value.clone());
            }
            for id in graph.readers(&value) {
                let node = graph.node(*id)?;
                if node.graph != model.main() {
                    let reason = "it stands in an inner graph and reads what the layer computes";
                    return Err(Refusal::new(reason).at(node).into());
                }
                check_op(node)?;
                if tail.nodes.insert(node.position, *id).is_none() {
                    let made = node.outputs.iter().filter(|name| !name.is_empty());
                    values.extend(made.map(|name| (*name).to_owned()));
                }
            }
            if value != layer.result {
                tail.values.insert(value);
            }
        }
        if layer.kind == Kind::Conv {
            tail.check_positions(graph, layer)?;
        }
        tail.add_constants(graph, layer)?;
        Ok(tail)
    }

    /// Fails if a Conv gives classes for each position.
    fn check_positions(&self, graph: &Graph<'_>, layer: &Layer) -> Result<()> {
        let ops: Result<Vec<&str>> = self
            .nodes
            .values()
            .map(|id| Ok(graph.node(*id)?.op_type))
            .collect();
        let ops = ops?;
        if ops.iter().any(|op| is_in(POOLING, op)) && !ops.contains(&"Transpose") {
            Ok(())
        } else {
            Err(Refusal::new("it gives classes for each position, as detection and segmentation do: only classifiers can be rewritten")
                .at(graph.node(layer.node)?)
                .into())
        }
    }

    /// Adds the nodes that make constants, and fails if a node reads a value that the decoder
    /// lacks.
    fn add_constants(&mut self, graph: &Graph<'_>, layer: &Layer) -> Result<()> {
        let mut open: Vec<NodeId> = self.nodes.values().copied().collect();
        while let Some(id) = open.pop() {
            let node = graph.node(id)?;
            for name in node.inputs.iter().filter(|name| !name.is_empty()) {
                if *name == layer.result || self.values.contains(*name) {
                    continue;
                }
                if !is_static(graph, name) {
                    let other = onnxseal_onnx::excerpt(name);
                    let reason =
                        format!("it reads {other:?} too, which does not come of the layer");
                    return Err(Refusal::new(reason).at(node).advise(EXPORT).into());
                }
                if let Some((id, before)) = graph.producer(name)
                    && self.constants.insert(before.position, id).is_none()
                {
                    open.push(id);
                }
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.values().copied()
    }

    pub(super) fn constants(&self) -> impl Iterator<Item = NodeId> {
        self.constants.values().copied()
    }

    /// The tail as a model whose input is `logits`, in floats; empty where there is nothing to
    /// compute.
    pub(super) fn model(
        &self,
        graph: &Graph<'_>,
        layer: &Layer,
        logits: &str,
        outputs: &[&str],
    ) -> Result<Vec<u8>> {
        if self.nodes.is_empty() && logits == layer.result {
            return Ok(Vec::new());
        }
        let mut nodes = Vec::new();
        if logits != layer.result {
            nodes.push(cast(logits, &layer.result, layer.weights.data_type));
        }
        let mut tensors: Vec<TensorId> = Vec::new();
        let mut all = self.nodes.clone();
        all.extend(&self.constants);
        for id in all.values() {
            let node = graph.node(*id)?;
            nodes.push(decoded::<NodeProto>(graph, node.message)?);
            let constants = node.inputs.iter().filter_map(|name| graph.constant(name));
            for id in constants {
                let is_initializer =
                    graph.tensor(id)?.place == onnxseal_onnx::model::TensorRole::Initializer;
                if is_initializer && !tensors.contains(&id) {
                    tensors.push(id);
                }
            }
        }
        let initializers: Result<Vec<TensorProto>> = tensors
            .into_iter()
            .map(|id| initializer(graph, id))
            .collect();
        let all = parts(graph.source.bytes)?;
        let is_moved = |name: &str| {
            let is_own = name == layer.result && logits == name;
            self.outputs.iter().any(|output| output == name) && !is_own && outputs.contains(&name)
        };
        let moved = all
            .all
            .iter()
            .filter(|part| part.kind == PartKind::Output && is_moved(part.name));
        let moved: Result<Vec<ValueInfoProto>> =
            moved.map(|part| decoded(graph, part.message)).collect();
        let model = ModelProto {
            ir_version: graph.model().ir_version,
            opset_import: (graph.model().opset_imports.iter())
                .map(|import| OperatorSetIdProto {
                    domain: Some(import.domain.to_owned()),
                    version: Some(import.version),
                })
                .collect(),
            graph: Some(GraphProto {
                node: nodes,
                name: Some("tail".into()),
                initializer: initializers?,
                input: vec![value_info(logits, DataType::Float, None)],
                output: moved?,
                ..GraphProto::default()
            }),
            ..ModelProto::default()
        };
        let bytes = model.encode_to_vec();
        if bytes.len() <= MAX_TAIL_BYTES {
            Ok(bytes)
        } else {
            Err(Refusal::new(format!(
                "what follows it takes {} bytes, and at most {MAX_TAIL_BYTES} can move behind decoding",
                bytes.len()
            ))
            .at(graph.node(layer.node)?)
            .into())
        }
    }
}

pub(super) fn cast(from: &str, to: &str, data_type: DataType) -> NodeProto {
    NodeProto {
        input: vec![from.to_owned()],
        output: vec![to.to_owned()],
        op_type: Some("Cast".into()),
        attribute: vec![AttributeProto {
            name: Some("to".into()),
            i: Some(data_type as i64),
            r#type: Some(attribute_proto::AttributeType::Int as i32),
            ..AttributeProto::default()
        }],
        ..NodeProto::default()
    }
}

/// Describes a value of the graph. `shape` is `None` if unknown.
pub(super) fn value_info(
    name: &str,
    data_type: DataType,
    shape: Option<onnxseal_onnx::proto::TensorShapeProto>,
) -> ValueInfoProto {
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto {
            value: Some(type_proto::Value::TensorType(type_proto::Tensor {
                elem_type: Some(data_type as i32),
                shape,
            })),
            ..TypeProto::default()
        }),
        ..ValueInfoProto::default()
    }
}

/// A message that lies in the model file, and is short.
pub(super) fn decoded<T: prost::Message + Default>(graph: &Graph<'_>, span: Span) -> Result<T> {
    // Messages take memory out of all proportion to their bytes.
    if span.len > MAX_TAIL_BYTES as u64 {
        return Err(Refusal::new(format!("a part of the graph behind the layer, or of its own, takes {} bytes, and at most {MAX_TAIL_BYTES} can move", span.len)).into());
    }
    let bytes = slice(graph.source.bytes, span).unwrap_or_default();
    T::decode(bytes).map_err(|_| Refusal::new("a part of the graph cannot be read").into())
}

/// A tensor with its elements in it, wherever they lie.
fn initializer(graph: &Graph<'_>, id: TensorId) -> Result<TensorProto> {
    let tensor = graph.tensor(id)?;
    let proto: TensorProto = decoded(graph, tensor.message)?;
    if proto.external_data.is_empty() {
        return Ok(proto);
    }
    Ok(TensorProto {
        external_data: Vec::new(),
        data_location: None,
        raw_data: Some(graph.load(id)?.into_raw()),
        ..proto
    })
}
