//! Finds the nodes that a tensor reaches: directly, through operators that pass it on, into and out
//! of subgraphs and model-local functions.

mod scope;
mod shapes;

use std::collections::{HashMap, HashSet};

use onnxseal_onnx::model::{GraphOwner, Model, NodeId, TensorId, TensorRole};
use scope::{Scopes, Use, Value};

use crate::lists::Lists;
use crate::op_types::OfOpTypes;
use crate::rules::{self, Role, Rule};

/// Bytes of a node's names that count as one step, because reports repeat the names for every
/// tensor the node reads.
const NAME_BYTES_PER_STEP: usize = 256;

/// The deepest nesting of function calls that is followed.
const MAX_CALL_DEPTH: u32 = 64;

/// How a node uses its inputs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// Only a call of a model-local function.
    Call,
    /// An operator with a rule; possibly a call too, see [`Node::body`].
    Known(&'static Rule),
    /// An operator without a rule.
    Unknown,
}

/// A node in the flow of values.
#[derive(Clone, Copy)]
struct Node {
    id: NodeId,
    kind: Kind,
    /// The body of the model-local function that the node calls.
    ///
    /// If an operator has the function's name, ONNX Runtime runs the operator, provided that the
    /// model's opset has it, whatever overload the node names; other runtimes may run the function.
    /// So a value that arrives is followed both ways.
    body: Option<u32>,
}

/// The place of a node at which a tensor arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Slot<'a> {
    /// An input, by position.
    Input(u32),
    /// An attribute, by name.
    Attribute(&'a str),
}

/// The nodes of a model, connected by the values that flow between them.
pub(crate) struct Dataflow<'m, 'a> {
    model: &'m Model<'a>,
    scopes: Scopes,
    nodes: Vec<Node>,
    /// The subgraphs of each node.
    bodies: Lists<u32>,
    /// The nodes that call each function, by its body.
    calls: Lists<u32>,
}

impl<'m, 'a> Dataflow<'m, 'a> {
    pub fn new(model: &'m Model<'a>) -> Dataflow<'m, 'a> {
        // Runtimes refuse functions with the same names: ignore all of these.
        let mut functions = HashMap::new();
        for function in &model.functions {
            let key = (function.domain, function.name, function.overload);
            let body = Some(function.body.index() as u32);
            let once = |other: &mut Option<u32>| *other = None;
            functions.entry(key).and_modify(once).or_insert(body);
        }
        let rules = OfOpTypes::new(model);
        let nodes: Vec<Node> = model
            .nodes_with_ids()
            .map(|(id, node)| {
                let key = (node.domain, node.op_type, node.overload);
                let body = functions.get(&key).copied().flatten();
                let rule = rules.get(id, rules::find).copied().flatten();
                let kind = match (rule, body) {
                    (Some(rule), _) => Kind::Known(rule),
                    (None, Some(_)) if !rules::is_builtin_domain(node.domain) => Kind::Call,
                    _ => Kind::Unknown,
                };
                Node { id, kind, body }
            })
            .collect();
        let calls = (0..)
            .zip(&nodes)
            .filter_map(|(index, node)| node.body.map(|body| (body, index)));
        let calls: Vec<_> = calls.collect();
        let bodies = (0..)
            .zip(&model.graphs)
            .filter_map(|(graph, names)| match names.owner {
                GraphOwner::Node { node, .. } => Some((node.index() as u32, graph)),
                _ => None,
            });
        let bodies: Vec<_> = bodies.collect();
        Dataflow {
            model,
            scopes: Scopes::new(model),
            bodies: Lists::new(nodes.len(), &bodies),
            calls: Lists::new(model.graphs.len(), &calls),
            nodes,
        }
    }

    pub fn kind(&self, node: NodeId) -> Kind {
        let node = self.nodes.get(node.index());
        node.map_or(Kind::Unknown, |node| node.kind)
    }

    /// Returns whether a node calls a model-local function, even if it is an operator too.
    pub fn is_call(&self, node: NodeId) -> bool {
        (self.nodes.get(node.index())).is_some_and(|node| node.body.is_some())
    }

    /// Returns the value at input `position` of a body.
    fn parameter(&self, graph: u32, position: u32) -> Value {
        let parameters = self.scopes.parameters.of(graph);
        *parameters.get(position as usize)?
    }

    fn output(&self, node: u32, position: u32) -> Value {
        let outputs = self.scopes.outputs.of(node);
        *outputs.get(position as usize)?
    }

    /// Returns the subgraphs of a node whose input `slot` is theirs too.
    fn bodies(&self, node: Node, slot: u32) -> Option<&[u32]> {
        let Kind::Known(rule) = node.kind else {
            return None;
        };
        let is_passed = rule.role == Role::Scan || rule.role == Role::Loop && slot >= 2;
        is_passed.then(|| self.bodies.of(node.id.index() as u32))
    }

    /// Names the nodes' outputs that output `position` of a graph becomes. Returns `false` if it is
    /// data for someone else.
    fn leave(&self, graph: u32, position: u32, mut becomes: impl FnMut(Value)) -> bool {
        let graphs = &self.model.graphs;
        match graphs.get(graph as usize).map(|graph| graph.owner) {
            None | Some(GraphOwner::Model) => false,
            Some(GraphOwner::Function(_)) => {
                for &node in self.calls.of(graph) {
                    becomes(self.output(node, position));
                }
                true
            }
            Some(GraphOwner::Node { node, .. }) => {
                let Kind::Known(rule) = self.kind(node) else {
                    return false;
                };
                let position = match rule.role {
                    Role::Branch | Role::Scan => Some(position),
                    // The first is whether to go on.
                    Role::Loop => position.checked_sub(1),
                    _ => return false,
                };
                if let Some(position) = position {
                    becomes(self.output(node.index() as u32, position));
                }
                true
            }
        }
    }
}

/// The call of values outside all functions, and of a function's own values.
const NO_CALL: u32 = 0;

/// A chain of function calls: a value leaves a function by the call through which it entered.
#[derive(Clone, Copy)]
struct Call {
    node: u32,
    from: u32,
    depth: u32,
}

/// Follows tensors to the nodes that read them.
pub(crate) struct Follower<'f, 'm, 'a> {
    flow: &'f Dataflow<'m, 'a>,
    /// Steps left for all tensors together. They limit the time for tangled files, and the memory
    /// for their reports.
    steps: usize,
    /// Consumers left for all tensors together, since reports list each of them.
    consumers: usize,
    calls: Vec<Call>,
    call_ids: HashMap<(u32, u32), u32>,
    /// The tensor that last reached each value outside calls.
    seen: Vec<u32>,
    seen_in_calls: HashSet<(u32, u32)>,
    pending: Vec<(u32, u32)>,
    reached: Reached<'a>,
}

/// The nodes that read a tensor.
pub(crate) struct Reached<'a> {
    /// The uses, by node and slot.
    pub consumers: Vec<(NodeId, Slot<'a>)>,
    /// Whether the list is complete.
    pub complete: bool,
}

impl<'f, 'm, 'a> Follower<'f, 'm, 'a> {
    pub fn new(flow: &'f Dataflow<'m, 'a>) -> Follower<'f, 'm, 'a> {
        let n_values = flow.scopes.n_values;
        Follower {
            flow,
            steps: (1 << 20) + 4 * (n_values + flow.nodes.len()),
            consumers: (1 << 18) + 2 * flow.scopes.uses.len(),
            calls: vec![Call {
                node: u32::MAX,
                from: NO_CALL,
                depth: 0,
            }],
            call_ids: HashMap::new(),
            seen: vec![u32::MAX; n_values],
            seen_in_calls: HashSet::new(),
            pending: Vec::new(),
            reached: Reached {
                consumers: Vec::new(),
                complete: true,
            },
        }
    }

    /// Follows a tensor.
    pub fn follow(&mut self, id: TensorId) -> &Reached<'a> {
        self.reached.consumers.clear();
        self.reached.complete = true;
        let flow = self.flow;
        let index = id.index() as u32;
        match flow.scopes.tensors.get(id.index()).copied().flatten() {
            Some(value) => self.reach(index, Some(value), NO_CALL),
            None => {
                let tensor = flow.model.tensors.get(id.index());
                if let Some(TensorRole::Attribute { node, attribute }) = tensor.map(|of| of.place) {
                    self.consume(node, Slot::Attribute(attribute));
                }
            }
        }
        while let Some((value, call)) = self.pending.pop() {
            for &place in flow.scopes.uses.of(value) {
                if !self.spend(1) {
                    self.pending.clear();
                    self.reached.complete = false;
                    break;
                }
                match place {
                    Use::Input { node, slot } => {
                        let Some(&node) = flow.nodes.get(node as usize) else {
                            continue;
                        };
                        let called = self.enter_function(index, node, slot, call);
                        if !called && !self.enter(index, node, slot, call) {
                            self.consume(node.id, Slot::Input(slot));
                        }
                    }
                    Use::Output { graph, position } => self.leave(index, graph, position, call),
                }
            }
        }
        if !self.seen_in_calls.is_empty() {
            // Not `clear`, which takes time by the set's capacity, for every tensor.
            self.seen_in_calls = HashSet::new();
        }
        self.reached.consumers.sort_unstable();
        self.reached.consumers.dedup();
        &self.reached
    }

    /// Spends `steps` if that many are left.
    fn spend(&mut self, steps: usize) -> bool {
        let left = self.steps.checked_sub(steps);
        self.steps = left.unwrap_or_default();
        left.is_some()
    }

    /// Notes where a tensor is used.
    fn consume(&mut self, node: NodeId, slot: Slot<'a>) {
        let names = self.flow.model.nodes.get(node.index()).map_or(0, |node| {
            node.name.len() + node.op_type.len() + node.domain.len()
        });
        let left = self.consumers.checked_sub(1);
        self.consumers = left.unwrap_or_default();
        if self.spend(names / NAME_BYTES_PER_STEP) && left.is_some() {
            self.reached.consumers.push((node, slot))
        } else {
            self.reached.complete = false
        }
    }

    /// Follows an input into the function that a node calls. Returns whether that is all the node
    /// does with the input.
    fn enter_function(&mut self, tensor: u32, node: Node, slot: u32, call: u32) -> bool {
        let Some(body) = node.body else { return false };
        let Some(parameter) = self.flow.parameter(body, slot) else {
            // The function lacks this input, so its use is unknown.
            return false;
        };
        match self.call(node.id.index() as u32, call) {
            Some(call) => self.reach(tensor, Some(parameter), call),
            None => self.reached.complete = false,
        }
        matches!(node.kind, Kind::Call)
    }

    /// Follows an input through an operator, unless the operator itself uses the tensor.
    fn enter(&mut self, tensor: u32, node: Node, slot: u32, call: u32) -> bool {
        let flow = self.flow;
        let Kind::Known(rule) = node.kind else {
            return false;
        };
        match rule.role {
            Role::PassThrough(slots) if slots.contain(slot) => {
                for &value in flow.scopes.outputs.of(node.id.index() as u32) {
                    self.reach(tensor, value, call);
                }
                true
            }
            _ => flow.bodies(node, slot).is_some_and(|bodies| {
                for &graph in bodies {
                    self.reach(tensor, flow.parameter(graph, slot), call);
                }
                true
            }),
        }
    }

    /// Follows a value out of a graph at output `position`.
    fn leave(&mut self, tensor: u32, graph: u32, position: u32, call: u32) {
        let flow = self.flow;
        let graphs = &flow.model.graphs;
        let owner = graphs.get(graph as usize).map(|graph| graph.owner);
        match (owner, self.calls.get(call as usize)) {
            (Some(GraphOwner::Function(_)), Some(&Call { node, from, .. })) if call != NO_CALL => {
                self.reach(tensor, flow.output(node, position), from);
            }
            _ => {
                flow.leave(graph, position, |value| self.reach(tensor, value, call));
            }
        }
    }

    /// Adds a call by `node` to the chain `from`. Returns `None` if the chain gets too long.
    fn call(&mut self, node: u32, from: u32) -> Option<u32> {
        let depth = self.calls.get(from as usize)?.depth + 1;
        if depth > MAX_CALL_DEPTH {
            return None;
        }
        let new = self.calls.len() as u32;
        let id = *self.call_ids.entry((node, from)).or_insert(new);
        if id == new {
            self.calls.push(Call { node, from, depth });
        }
        Some(id)
    }

    fn reach(&mut self, tensor: u32, value: Value, call: u32) {
        self.steps = self.steps.saturating_sub(1);
        let Some(value) = value else { return };
        let is_new = if call == NO_CALL {
            let seen = self.seen.get_mut(value as usize);
            seen.is_some_and(|seen| std::mem::replace(seen, tensor) != tensor)
        } else {
            self.seen_in_calls.insert((value, call))
        };
        if is_new {
            self.pending.push((value, call));
        }
    }
}
