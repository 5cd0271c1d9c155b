//! Finds which tensors are weights, and why the others are not, for any policy.

use std::collections::{BTreeSet, HashSet};

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
    pub node: NodeId,
    pub slot: Slot<'a>,
    /// Whether the node uses the tensor as weights.
    pub as_weight: bool,
}

/// Why a tensor stays in clear, in words for [`Display`](std::fmt::Display).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    #[error("it has no elements")]
    Empty,
    #[error("no operator reads it")]
    Unconsumed,
    /// ONNX's checker reads them.
    #[error("it holds positions, not values, of a sparse tensor")]
    SparseIndices,
    /// And nothing else.
    #[error("the graph's shapes are computed from it")]
    Shape,
    #[error("it holds text")]
    Strings,
    /// And no operator reads it as a weight.
    #[error("it has one element")]
    OneElement,
    /// It is a weight whose elements cannot be replaced without moving other bytes.
    #[error("{}", unpatchable(*.0))]
    Unpatchable(Unpatchable),
    /// Only operators without a rule, each type once, read it.
    #[error("no rule says what {} does with it", op_types.join(", "))]
    UnknownOperator { op_types: Vec<String> },
    /// It has enough floats to be learnt, but only operators that usually take no weights, each
    /// type once, read it.
    #[error("weights are unusual in {}", op_types.join(", "))]
    NoWeights { op_types: Vec<String> },
    /// By the operator method, elements of this type are no weights.
    #[error("only `full` takes elements of type {} for weights", .0.as_str_name())]
    ElementType(DataType),
    /// The first operator that reads it takes no weights in this input or attribute.
    #[error("{slot} of {op_type} is not a weight")]
    NotAWeight { op_type: String, slot: String },
    /// Too few for a constant of the first operator that reads it.
    #[error("{op_type} reads fewer than {MIN_ARITHMETIC_ELEMENTS} elements, too few to be learnt")]
    TooSmall { op_type: String },
    #[error("its operators cannot be traced within the limits of the search")]
    NotFollowed,
    #[error("the policy gives it coefficient 0")]
    ZeroCoefficient,
    /// The plan selected no part of it.
    #[error("it was not selected")]
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
    let flow = &Dataflow::new(model);
    let mut follower = Follower::new(flow);
    let tensors = model.tensors_with_ids().zip(flow.shape_tensors());
    let classified = tensors.map(|((id, tensor), is_shape)| {
        let reached = follower.follow(id);
        let consumers = reached.consumers.iter();
        let fits = consumers.map(|&(node, slot)| (node, slot, fit(flow, node, slot, tensor)));
        let fits: Vec<(NodeId, Slot<'a>, Fit)> = fits.collect();
        let is_shape = is_shape && tensor.n_elements <= MAX_SHAPE_ELEMENTS
            || is_shape_attribute(model, tensor);
        let reason = match kept(tensor, is_shape) {
            Some(kept) => Some(kept),
            None => reason(model, tensor, &fits, reached.complete),
        };
        let consumers = fits.into_iter().map(|(node, slot, fit)| Consumer {
            node,
            slot,
            as_weight: fit == Fit::Weight,
        });
        Classified {
            consumers: consumers.collect(),
            reason,
            bytes: payload_bytes(tensor),
        }
    });
    classified.collect()
}

/// Returns the length of a tensor's elements in bytes, saturating.
fn payload_bytes(tensor: &Tensor<'_>) -> u64 {
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
    let is_slot = match (rule.role, slot) {
        (Role::Inputs(_, slots), Slot::Input(slot)) => {
            slots.contain(slot) || (slot == DATA_SLOT && plain && large)
        }
        (Role::Attributes(names), Slot::Attribute(name)) => names.contains(&name),
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
    tensor: &Tensor<'_>,
    fits: &[(NodeId, Slot<'_>, Fit)],
    complete: bool,
) -> Option<Reason> {
    let fitting = |wanted| {
        let fitting = fits.iter().filter(move |(.., fit)| *fit == wanted);
        fitting.map(|(node, ..)| op_type(model, *node))
    };
    let each_once = |wanted| {
        let op_types: BTreeSet<String> = fitting(wanted).collect();
        let op_types: Vec<String> = op_types.into_iter().collect();
        Some(op_types).filter(|op_types| !op_types.is_empty())
    };
    if fits.iter().any(|(.., fit)| *fit == Fit::Weight) {
        return match tensor.payload {
            Payload::Unpatchable(why) => Some(Reason::Unpatchable(why)),
            _ => None,
        };
    }
    Some(match fits.first().filter(|_| complete) {
        _ if tensor.n_elements == 1 => Reason::OneElement,
        None if complete => Reason::Unconsumed,
        _ if !rules::learnable(tensor.data_type) => Reason::ElementType(tensor.data_type),
        None => Reason::NotFollowed,
        Some((first, slot, _)) => {
            if let Some(op_types) = each_once(Fit::Unknown) {
                Reason::UnknownOperator { op_types }
            } else if let Some(op_type) = fitting(Fit::TooSmall).next() {
                Reason::TooSmall { op_type }
            } else if let Some(op_types) = each_once(Fit::NoWeights) {
                Reason::NoWeights { op_types }
            } else {
                let op_type = op_type(model, *first);
                let slot = match slot {
                    Slot::Input(slot) => format!("input {slot}"),
                    Slot::Attribute(name) => format!("attribute {name:?}"),
                };
                Reason::NotAWeight { op_type, slot }
            }
        }
    })
}

/// Returns the qualified operator type of a node.
fn op_type(model: &Model<'_>, node: NodeId) -> String {
    let node = model.nodes.get(node.index());
    node.map(|node| rules::qualified(node.domain, node.op_type).into_owned())
        .unwrap_or_default()
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
