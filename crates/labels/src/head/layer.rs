//! The layer that answers: Gemm, MatMul with or without an Add, or Conv.

use onnxseal_onnx::model::{Node, NodeId, TensorId};
use onnxseal_rewrite::{DataType, Error, Graph, Refusal, Result, is_float};

/// The advice for a layer that cannot be rewritten.
pub(super) const EXPORT: &str = "export the model with a last Gemm, MatMul or Conv in floats, and with nothing behind it but Softmax, ArgMax and the like";

/// The most nodes through which a constant passes.
const MAX_CHAIN: usize = 16;

/// The operator of a layer, and the layout of its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Weights `[R, D]`, `transB = 1`.
    Gemm,
    /// Weights `[D, R]`.
    MatMul,
    /// Weights `[R, C, height, width]`.
    Conv,
}

impl Kind {
    pub(super) fn axis(self) -> i32 {
        match self {
            Kind::MatMul => -1,
            Kind::Gemm | Kind::Conv => 1,
        }
    }
}

/// A layer that can be rewritten.
#[derive(Debug)]
pub(super) struct Layer {
    pub(super) kind: Kind,
    /// The node with the weights.
    pub(super) node: NodeId,
    /// The Add after a MatMul.
    pub(super) add: Option<NodeId>,
    pub(super) input: String,
    pub(super) result: String,
    pub(super) rows: usize,
    pub(super) columns: usize,
    pub(super) weights: Weights,
    pub(super) bias: Option<Weights>,
    /// Shape of one row of a Conv's weights.
    pub(super) window: Vec<u64>,
}

/// The numbers of a constant; of a layer's weights, a row for each class.
#[derive(Debug)]
pub(super) struct Weights {
    dims: Vec<u64>,
    pub(super) values: Vec<f64>,
    /// The type in which the layer computes.
    pub(super) data_type: DataType,
    pub(super) tensor: TensorId,
    /// The nodes through which the constant passes.
    pub(super) nodes: Vec<NodeId>,
}

/// Returns the layer that ends at this node, if any.
pub(super) fn layer_at(graph: &Graph<'_>, id: NodeId) -> Result<Option<Layer>> {
    let node = graph.node(id)?;
    if !node.domain.is_empty() {
        return Ok(None);
    }
    let weight = |node: &Node<'_>| {
        node.inputs
            .get(1)
            .is_some_and(|name| is_static(graph, name))
    };
    let layer = match node.op_type {
        "Gemm" if weight(node) => gemm(graph, id, node),
        "MatMul" if weight(node) => mat_mul(graph, id, node, None),
        "Conv" if weight(node) => conv(graph, id, node),
        "Add" => match added(graph, node) {
            Some((product, bias)) => {
                mat_mul(graph, product, graph.node(product)?, Some((id, bias)))
            }
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    match layer {
        Ok(layer) => Ok(Some(layer)),
        Err(Error::Refused(refusal)) => Err(refusal.at(node).advise(EXPORT).into()),
        Err(error) => Err(error),
    }
}

/// Returns the MatMul before an Add, and the name of the added value.
fn added<'a>(graph: &Graph<'a>, node: &Node<'a>) -> Option<(NodeId, &'a str)> {
    let [a, b] = node.inputs[..] else {
        return None;
    };
    [(a, b), (b, a)].into_iter().find_map(|(product, bias)| {
        let (id, before) = graph.producer(product)?;
        let is_product = before.op_type == "MatMul"
            && before.domain.is_empty()
            && before
                .inputs
                .get(1)
                .is_some_and(|name| is_static(graph, name));
        let is_alone = graph.only_reader(product).is_some();
        (is_product && is_alone && is_static(graph, bias)).then_some((id, bias))
    })
}

fn gemm(graph: &Graph<'_>, id: NodeId, node: &Node<'_>) -> Result<Layer> {
    let attributes = graph.attributes(node)?;
    let is_one = |name| attributes.float(name, 1.0) == 1.0;
    if !is_one("alpha") || !is_one("beta") || attributes.int("transA", 0) != 0 {
        return Err(Refusal::new("its alpha or beta is not 1, or it transposes its input").into());
    }
    let weights = matrix(load(graph, node)?, attributes.int("transB", 0) == 0)?;
    let bias = own_bias(graph, node, &weights)?;
    Layer::new(Kind::Gemm, id, node, weights, bias)
}

fn mat_mul(
    graph: &Graph<'_>,
    id: NodeId,
    node: &Node<'_>,
    add: Option<(NodeId, &str)>,
) -> Result<Layer> {
    let weights = matrix(load(graph, node)?, true)?;
    let Some((add, name)) = add else {
        return Layer::new(Kind::MatMul, id, node, weights, None);
    };
    let bias = bias(constant(graph, name)?, &weights)?;
    let result = graph
        .node(add)?
        .outputs
        .first()
        .copied()
        .unwrap_or_default();
    Ok(Layer {
        add: Some(add),
        result: result.to_owned(),
        ..Layer::new(Kind::MatMul, id, node, weights, Some(bias))?
    })
}

fn conv(graph: &Graph<'_>, id: NodeId, node: &Node<'_>) -> Result<Layer> {
    if graph.attributes(node)?.int("group", 1) != 1 {
        return Err(Refusal::new("it is a grouped convolution").into());
    }
    let mut weights = load(graph, node)?;
    let window = weights.dims.get(1..).unwrap_or_default().to_vec();
    let rows = weights.rows() as u64;
    let columns = (weights.values.len() as u64).checked_div(rows).unwrap_or(0);
    if window.len() < 2 || columns == 0 {
        return Err(Refusal::new("its weights are no kernels").into());
    }
    weights.dims = vec![rows, columns];
    let bias = own_bias(graph, node, &weights)?;
    Ok(Layer {
        window,
        ..Layer::new(Kind::Conv, id, node, weights, bias)?
    })
}

impl Layer {
    fn new(
        kind: Kind,
        id: NodeId,
        node: &Node<'_>,
        weights: Weights,
        bias: Option<Weights>,
    ) -> Result<Layer> {
        let name = |names: &[&str]| names.first().copied().unwrap_or_default().to_owned();
        Ok(Layer {
            kind,
            node: id,
            add: None,
            input: name(&node.inputs),
            result: name(&node.outputs),
            rows: weights.rows(),
            columns: weights.dims.last().copied().unwrap_or(0) as usize,
            weights,
            bias,
            window: Vec::new(),
        })
    }

    /// Returns the nodes of the layer.
    pub(super) fn nodes(&self) -> impl Iterator<Item = NodeId> {
        [self.node].into_iter().chain(self.add)
    }

    pub(super) fn constants(&self) -> impl Iterator<Item = &Weights> {
        [&self.weights].into_iter().chain(&self.bias)
    }
}

impl Weights {
    fn rows(&self) -> usize {
        self.dims.first().copied().unwrap_or(0) as usize
    }

    fn transpose(&mut self, n: u64, m: u64) {
        self.values = transposed(&self.values, n as usize, m as usize);
        self.dims = vec![m, n];
    }
}

/// Makes a matrix with a row for each class, from one that may be transposed.
fn matrix(mut weights: Weights, is_across: bool) -> Result<Weights> {
    let [n, m] = weights.dims[..] else {
        return Err(Refusal::new("its weights are no matrix").into());
    };
    if is_across {
        weights.transpose(n, m);
    }
    match weights.dims.last() {
        Some(0) => Err(Refusal::new("its weights are empty").into()),
        _ => Ok(weights),
    }
}

/// Returns the biases of a Gemm or a Conv, if it has any.
fn own_bias(graph: &Graph<'_>, node: &Node<'_>, weights: &Weights) -> Result<Option<Weights>> {
    match node.inputs.get(2).filter(|name| !name.is_empty()) {
        Some(name) => Ok(Some(bias(constant(graph, name)?, weights)?)),
        None => Ok(None),
    }
}

/// Returns one bias for each row of weights.
fn bias(mut bias: Weights, weights: &Weights) -> Result<Weights> {
    let rows = weights.rows();
    if let [value] = bias.values[..] {
        bias.values = vec![value; rows];
    }
    // Any rank will do, if the last axis has all biases.
    let is_row = matches!(bias.dims.split_last(), None | Some((_, [])))
        || bias.dims.last() == Some(&(rows as u64));
    if bias.values.len() == rows && is_row {
        Ok(bias)
    } else {
        Err(Refusal::new("its bias has not one value for each class").into())
    }
}

fn transposed(values: &[f64], n: usize, m: usize) -> Vec<f64> {
    let mut out = vec![0.0; values.len()];
    for (i, row) in values.chunks_exact(m.max(1)).enumerate() {
        for (j, value) in row.iter().enumerate() {
            if let Some(place) = out.get_mut(j * n + i) {
                *place = *value;
            }
        }
    }
    out
}

/// Returns the numbers of a node's second input.
fn load(graph: &Graph<'_>, node: &Node<'_>) -> Result<Weights> {
    constant(graph, node.inputs.get(1).copied().unwrap_or_default())
}

/// Returns the numbers of a constant, which may pass through Identity, Cast, Reshape and Transpose.
fn constant(graph: &Graph<'_>, name: &str) -> Result<Weights> {
    let (name, mut nodes) = graph.back(name, |node| match (node.domain, node.op_type) {
        ("", "Identity" | "Cast" | "Reshape" | "Transpose") => Ok(true),
        (_, "DequantizeLinear") => Err(Refusal::new("its weights are quantised").into()),
        (_, other) => {
            let other = onnxseal_onnx::excerpt(other);
            Err(Refusal::new(format!("its weights come through {other}")).into())
        }
    })?;
    let Some(tensor) = graph.constant(name) else {
        return Err(Refusal::new("its weights are no constants").into());
    };
    nodes.extend(graph.producer(name).map(|(id, _)| id));
    let stored = graph.tensor(tensor)?;
    if !is_float(stored.data_type) {
        let name = stored.data_type.as_str_name();
        return Err(Refusal::new(format!("its weights are of type {name}")).into());
    }
    let elements = graph.load(tensor)?;
    let mut loaded = Weights {
        dims: stored.dims.clone(),
        values: (0..elements.len()).map(|i| elements.get(i)).collect(),
        data_type: stored.data_type,
        tensor,
        nodes: Vec::new(),
    };
    for id in nodes.iter().rev() {
        through(graph, graph.node(*id)?, &mut loaded)?;
    }
    loaded.nodes = nodes;
    Ok(loaded)
}

/// Applies a node to a constant.
fn through(graph: &Graph<'_>, node: &Node<'_>, loaded: &mut Weights) -> Result<()> {
    let attributes = graph.attributes(node)?;
    match node.op_type {
        "Cast" => {
            let to = DataType::try_from(attributes.int("to", 0) as i32);
            loaded.data_type = to
                .ok()
                .filter(|to| is_float(*to))
                .ok_or_else(|| Refusal::new("its weights become integers"))?;
        }
        "Reshape" => {
            let shape = match node.inputs.get(1) {
                Some(name) => graph.integers(name)?,
                None => None,
            };
            let shape =
                shape.ok_or_else(|| Refusal::new("the shape of its weights is not constant"))?;
            loaded.dims = reshaped(&loaded.dims, &shape)
                .ok_or_else(|| Refusal::new("the shape of its weights does not fit"))?;
        }
        "Transpose" => {
            let [n, m] = loaded.dims[..] else {
                return Err(Refusal::new("its weights are no matrix").into());
            };
            if !matches!(attributes.ints("perm"), None | Some([1, 0])) {
                return Err(Refusal::new("its weights are transposed in another way").into());
            }
            loaded.transpose(n, m);
        }
        _ => {}
    }
    Ok(())
}

/// Returns the shape after a Reshape.
fn reshaped(dims: &[u64], shape: &[i64]) -> Option<Vec<u64>> {
    let n: u64 = dims.iter().product();
    let mut new = Vec::new();
    for (i, size) in shape.iter().enumerate() {
        new.push(match size {
            0 => *dims.get(i)?,
            -1 => 0,
            size => u64::try_from(*size).ok()?,
        });
    }
    let known = shape.iter().zip(&new).filter(|(size, _)| **size != -1);
    let known = known
        .map(|(_, size)| size)
        .try_fold(1u64, |all, size| all.checked_mul(*size))?;
    if let Some(free) = shape.iter().position(|size| *size == -1) {
        *new.get_mut(free)? = n.checked_div(known)?;
    }
    let product = new
        .iter()
        .try_fold(1u64, |all, size| all.checked_mul(*size))?;
    (product == n).then_some(new)
}

/// Returns whether a value is independent of all inputs of the graph.
pub(super) fn is_static(graph: &Graph<'_>, name: &str) -> bool {
    fn within(graph: &Graph<'_>, name: &str, depth: usize) -> bool {
        if graph.constant(name).is_some() {
            return true;
        }
        let Some((_, node)) = graph.producer(name) else {
            return false;
        };
        if node.op_type == "Constant" {
            return true;
        }
        let mut inputs = node
            .inputs
            .iter()
            .filter(|name| !name.is_empty())
            .peekable();
        depth < MAX_CHAIN
            && !node.op_type.starts_with("Random")
            && inputs.peek().is_some()
            && inputs.all(|name| within(graph, name, depth + 1))
    }
    within(graph, name, 0)
}
