//! Finds which tensors are weights, and why the others are not, for any policy.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::{LongSetting, Model, NodeId, Payload, Tensor, TensorRole, Unpatchable};
use onnxseal_onnx::proto::tensor_proto::DataType;

use crate::dataflow::{Dataflow, Follower, Kind, Slot};
use crate::rules::shapes::MAX_SHAPE_ELEMENTS;
use crate::rules::{self, Class, MIN_ARITHMETIC_ELEMENTS, Role, Rule};

/// The class of one tensor.
#[derive(Clone, Debug)]
pub struct Classified<'a> {
    /// The uses of the tensor, in file order, after it passed through reshapes and the like.
    pub consumers: Vec<Consumer<'a>>,
    /// Why the tensor cannot be encrypted as a weight; `None` if it can.
    pub reason: Option<Reason>,
    /// Length of the elements in bytes; for elements that cannot be replaced, their length as
    /// `raw_data`.
    pub bytes: u64,
}

impl Classified<'_> {
    /// Returns the nodes that use the tensor, in file order, each once.
    pub fn nodes(&self) -> impl Iterator<Item = NodeId> {
        let mut last = None;
        let nodes = self.consumers.iter().map(|consumer| consumer.node);
        nodes.filter(move |&node| last.replace(node) != Some(node))
    }
}

/// One use of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Consumer<'a> {
    /// The node.
    pub node: NodeId,
    /// The node's input or attribute.
    pub slot: Slot<'a>,
    /// Whether the node uses the tensor as weights.
    pub as_weight: bool,
}

/// Why a tensor stays in clear.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// It has no elements.
    Empty,
    /// No node reads it.
    Unconsumed,
    /// It holds the indices of a sparse tensor, which ONNX's checker reads.
    SparseIndices,
    /// Shapes are computed from it, and nothing else.
    Shape,
    /// It holds text.
    Strings,
    /// It has a single element, and no operator reads it as a weight.
    OneElement,
    /// It is a weight whose elements cannot be replaced without moving other bytes.
    Unpatchable(Unpatchable),
    /// Only operators without a rule read it.
    UnknownOperator {
        /// Their qualified types, each once.
        op_types: Vec<String>,
    },
    /// It has enough floats to be learnt, but only operators that usually take no weights read it.
    NoWeights {
        /// Their qualified types, each once.
        op_types: Vec<String>,
    },
    /// By the operator method, elements of this type are no weights.
    ElementType {
        /// The type.
        data_type: DataType,
    },
    /// Its operators read it in inputs or attributes that take no weights.
    NotAWeight {
        /// Qualified type of the first operator that reads it.
        op_type: String,
        /// The operator's input or attribute.
        slot: String,
    },
    /// It has too few elements for a learnt constant of an arithmetic operator.
    TooSmall {
        /// Qualified type of the first operator that reads it.
        op_type: String,
    },
    /// The way to its operators exceeds the limits of the search.
    NotFollowed,
    /// The policy leaves it in clear with a coefficient of 0.
    ZeroCoefficient,
    /// The plan selected no part of it.
    NoVolume,
}

/// Tells weights from other tensors. Returns one entry for each of `model.tensors`, in their order.
///
/// Limits hold however a file connects its nodes. All tensors together have at most
/// `2^18 + 2 * inputs` consumers of [`size_of::<Consumer>`](Consumer) bytes, where `inputs` counts
/// the nodes' inputs that name a value. The names that a report would repeat for them have at most
/// 256 times `2^20 + 4 * (values + nodes)` bytes, not counting names of less than 256 bytes.
/// Tensors beyond these limits are [`Reason::NotFollowed`].
pub fn classify<'a>(model: &Model<'a>) -> Vec<Classified<'a>> {
    classify_in(model, &Dataflow::new(model))
}

/// Classifies tensors as [`classify`] does, with the model's nodes already connected.
pub(crate) fn classify_in<'a>(model: &Model<'a>, flow: &Dataflow<'_, 'a>) -> Vec<Classified<'a>> {
    let mut follower = Follower::new(flow);
    let shapes = flow.shape_tensors();
    let classified = model
        .tensors_with_ids()
        .zip(shapes)
        .map(|((id, tensor), is_shape)| {
            let reached = follower.follow(id);
            let consumers: Vec<_> = (reached.consumers.iter())
                .map(|&(node, slot)| {
                    let as_weight = fit(flow, node, slot, tensor) == Fit::Weight;
                    Consumer {
                        node,
                        slot,
                        as_weight,
                    }
                })
                .collect();
            let is_shape = is_shape && tensor.n_elements <= MAX_SHAPE_ELEMENTS
                || is_shape_attribute(model, tensor);
            let reason = match kept(tensor, is_shape) {
                Some(kept) => Some(kept),
                None => reason(model, flow, tensor, &consumers, reached.complete),
            };
            Classified {
                consumers,
                reason,
                bytes: payload_bytes(tensor),
            }
        });
    classified.collect()
}

/// Returns the length of a tensor's elements in bytes, saturating.
pub(crate) fn payload_bytes(tensor: &Tensor<'_>) -> u64 {
    let of = |bits: u32| {
        let bits = u128::from(tensor.n_elements) * u128::from(bits);
        u64::try_from(bits.div_ceil(8)).unwrap_or(u64::MAX)
    };
    match tensor.payload {
        Payload::Empty => 0,
        Payload::Dense { element_bits, .. } | Payload::Strided { element_bits, .. } => {
            of(element_bits)
        }
        Payload::Unpatchable(Unpatchable::Strings) => tensor.message.len,
        Payload::Unpatchable(_) => element_bits(tensor.data_type).map_or(0, of),
    }
}

/// The most bytes that all tensors of a model may have, a limit of the format's integers.
pub(crate) const MAX_BYTES: u64 = (1 << 53) - 1;

/// Returns the bytes of a model that a share is a share of: all tensors, the parts of the file that
/// are not searched, and long attributes of operators that nobody knows.
pub fn total_bytes(model: &Model<'_>, classified: &[Classified<'_>]) -> u64 {
    let tensors = classified.iter().map(|tensor| tensor.bytes);
    let parts = model.passed_over.iter().map(|part| part.field.len);
    let settings = model.long_settings.iter();
    let settings = settings.filter(is_opaque(model));
    let settings = settings.map(|setting| setting.bytes);
    tensors
        .chain(parts)
        .chain(settings)
        .fold(0, u64::saturating_add)
}

/// Returns a test whether a long attribute may hold weights: no rule says what its operator is, or a
/// function of the model takes the operator's place.
pub fn is_opaque<'m, 'a>(model: &'m Model<'a>) -> impl Fn(&&LongSetting<'_>) -> bool + use<'m, 'a> {
    let functions = model.functions.iter();
    let functions: HashSet<_> = functions.map(|one| (one.domain, one.name)).collect();
    move |setting| {
        let node = model.nodes.get(setting.node.index());
        node.is_none_or(|node| {
            rules::find(node.domain, node.op_type).is_none()
                || functions.contains(&(node.domain, node.op_type))
        })
    }
}

fn is_shape_attribute(model: &Model<'_>, tensor: &Tensor<'_>) -> bool {
    let TensorRole::Attribute { node, attribute } = tensor.place else {
        return false;
    };
    let node = model.nodes.get(node.index());
    node.is_some_and(|node| rules::shapes::is_shape_attribute(node.domain, node.op_type, attribute))
}

/// The data input of every operator with weights. A constant there may have been learnt, as queries
/// and start tokens are, and runtimes do not look at its values when they load a model.
const DATA_SLOT: u32 = 0;

/// How a tensor fits the input or attribute of a node at which it arrives.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fit {
    Weight,
    TooSmall,
    NotAWeight,
    /// As [`Fit::NotAWeight`], but the tensor looks like one.
    NoWeights,
    Unknown,
}

fn fit(flow: &Dataflow<'_, '_>, node: NodeId, slot: Slot<'_>, tensor: &Tensor<'_>) -> Fit {
    let fit = match flow.kind(node) {
        Kind::Known(rule) => fit_rule(rule, slot, tensor),
        Kind::Unknown | Kind::Call => fit_unknown(tensor),
    };
    match slot {
        // An attribute of a call goes wherever the function's body refers to it.
        Slot::Attribute(_) if fit != Fit::Weight && flow.is_call(node) => fit_unknown(tensor),
        _ => fit,
    }
}

fn fit_rule(rule: &Rule, slot: Slot<'_>, tensor: &Tensor<'_>) -> Fit {
    let plain = rules::float_or_quantised(tensor.data_type);
    let large = tensor.n_elements >= MIN_ARITHMETIC_ELEMENTS;
    if rule.role == Role::NoWeights && rules::may_be_learnt(tensor) {
        return Fit::NoWeights;
    }
    let is_slot = match (rule, slot) {
        (
            Rule {
                role: Role::Inputs(_, slots),
                ..
            },
            Slot::Input(slot),
        ) => slots.contain(slot) || (slot == DATA_SLOT && plain && large),
        (
            Rule {
                role: Role::Attributes(names),
                ..
            },
            Slot::Attribute(name),
        ) => names.contains(&name),
        _ => false,
    };
    if !is_slot || !rules::learnable(tensor.data_type) {
        return Fit::NotAWeight;
    }
    match rule.class() {
        Some(Class::Embedding | Class::Arithmetic) if !plain => Fit::NotAWeight,
        Some(Class::Embedding) if tensor.dims.len() < 2 && !large => Fit::TooSmall,
        Some(Class::Arithmetic) if !large => Fit::TooSmall,
        _ => Fit::Weight,
    }
}

fn fit_unknown(tensor: &Tensor<'_>) -> Fit {
    match rules::learnable(tensor.data_type) {
        false => Fit::NotAWeight,
        true if tensor.n_elements < MIN_ARITHMETIC_ELEMENTS => Fit::TooSmall,
        true => Fit::Unknown,
    }
}

/// Returns why a tensor stays in clear under every policy, if it does.
fn kept(tensor: &Tensor<'_>, is_shape: bool) -> Option<Reason> {
    if tensor.payload == Payload::Empty || tensor.n_elements == 0 {
        Some(Reason::Empty)
    } else if tensor.place == TensorRole::SparseIndices {
        Some(Reason::SparseIndices)
    } else if is_shape {
        Some(Reason::Shape)
    } else if tensor.data_type == DataType::String {
        Some(Reason::Strings)
    } else {
        None
    }
}

fn reason(
    model: &Model<'_>,
    flow: &Dataflow<'_, '_>,
    tensor: &Tensor<'_>,
    consumers: &[Consumer<'_>],
    complete: bool,
) -> Option<Reason> {
    if consumers.iter().any(|consumer| consumer.as_weight) {
        return match tensor.payload {
            Payload::Unpatchable(why) => Some(Reason::Unpatchable(why)),
            _ => None,
        };
    }
    if tensor.n_elements == 1 {
        return Some(Reason::OneElement);
    }
    if complete && consumers.is_empty() {
        return Some(Reason::Unconsumed);
    }
    if !rules::learnable(tensor.data_type) {
        let data_type = tensor.data_type;
        return Some(Reason::ElementType { data_type });
    }
    let Some(first) = consumers.first().filter(|_| complete) else {
        return Some(Reason::NotFollowed);
    };
    let fits = |wanted| {
        let fitting = consumers
            .iter()
            .filter(move |c| fit(flow, c.node, c.slot, tensor) == wanted);
        fitting.map(|consumer| op_type(model, consumer.node))
    };
    let each_once = |mut op_types: Vec<String>| {
        op_types.sort_unstable();
        op_types.dedup();
        op_types
    };
    let unknown: Vec<_> = fits(Fit::Unknown).collect();
    if !unknown.is_empty() {
        let op_types = each_once(unknown);
        return Some(Reason::UnknownOperator { op_types });
    }
    if let Some(op_type) = fits(Fit::TooSmall).next() {
        return Some(Reason::TooSmall { op_type });
    }
    let without: Vec<_> = fits(Fit::NoWeights).collect();
    if !without.is_empty() {
        let op_types = each_once(without);
        return Some(Reason::NoWeights { op_types });
    }
    let slot = match first.slot {
        Slot::Input(slot) => format!("input {slot}"),
        Slot::Attribute(name) => format!("attribute {name:?}"),
    };
    Some(Reason::NotAWeight {
        op_type: op_type(model, first.node),
        slot,
    })
}

/// Returns the qualified operator type of a node.
fn op_type(model: &Model<'_>, node: NodeId) -> String {
    let node = model.nodes.get(node.index());
    node.map(|node| rules::qualified(node.domain, node.op_type).into_owned())
        .unwrap_or_default()
}

impl Reason {
    /// Returns the text of [`Display`](fmt::Display), without a copy if it is constant.
    pub fn text(&self) -> Cow<'static, str> {
        match self {
            Reason::Empty => "it has no elements".into(),
            Reason::Unconsumed => "no operator reads it".into(),
            Reason::SparseIndices => "it holds positions, not values, of a sparse tensor".into(),
            Reason::Unpatchable(why) => unpatchable(*why).into(),
            Reason::Shape => "the graph's shapes are computed from it".into(),
            Reason::Strings => "it holds text".into(),
            Reason::OneElement => "it has one element".into(),
            Reason::NotFollowed => "its operators cannot be traced within the limits of the search".into(),
            Reason::ZeroCoefficient => "the policy gives it coefficient 0".into(),
            Reason::NoVolume => "it was not selected".into(),
            Reason::UnknownOperator { op_types } => {
                format!("no rule says what {} does with it", op_types.join(", ")).into()
            }
            Reason::NoWeights { op_types } => {
                format!("weights are unusual in {}", op_types.join(", ")).into()
            }
            Reason::ElementType { data_type } => {
                format!("only `full` takes elements of type {} for weights", data_type.as_str_name()).into()
            }
            Reason::NotAWeight { op_type, slot } => {
                format!("{slot} of {op_type} is not a weight").into()
            }
            Reason::TooSmall { op_type } => format!(
                "{op_type} reads fewer than {MIN_ARITHMETIC_ELEMENTS} elements, too few to be learnt"
            )
            .into(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text())
    }
}

fn unpatchable(why: Unpatchable) -> &'static str {
    match why {
        Unpatchable::Int32Data => "its elements are varints (int32_data), which change length",
        Unpatchable::Int64Data => "its elements are varints (int64_data), which change length",
        Unpatchable::Uint64Data => "its elements are varints (uint64_data), which change length",
        Unpatchable::AttributeInts => "its elements are varints (ints), which change length",
        Unpatchable::Strings => "its elements are strings",
        Unpatchable::Fragmented => "its elements are scattered over several fields",
        _ => "its elements cannot be replaced in place",
    }
}
