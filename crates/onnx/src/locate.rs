//! Finds every tensor that may hold weights, and where its elements lie.
//!
//! One walk over the wire format skips unknown fields and elements by their length, so weights are
//! never read.

mod attribute;
mod names;
mod payload;
mod runs;
mod tensor;

use std::collections::HashMap;
use std::fmt::Write as _;

use names::OpTypes;

use crate::error::Error;
use crate::limits::Limits;
use crate::model::{
    FileId, Function, FunctionId, Graph, GraphId, GraphOwner, MetadataProp, Model, Node, NodeId,
    OpsetImport, PassedOver, TensorRole,
};
use crate::names_files::names_files;
use crate::schema::{entry, function, graph, model, node, opset_import, value_info};
use crate::tail;
use crate::wire::{Field, Fields, Message, Schema, Value};

/// Reads a model file's structure and locates its tensors.
///
/// Refuses files that parsers would read differently, such as one with a second `graph`, and
/// elements whose place or number does not match shape and type. Ignores the lock of a protected
/// model. Reads no other file: [`crate::external`] checks that external data exists and is long
/// enough.
pub fn locate<'a>(bytes: &'a [u8], limits: &Limits) -> Result<Model<'a>, Error> {
    let mut locator = Locator {
        limits,
        path: String::new(),
        path_bytes: 0,
        name_bytes: 0,
        values: 0,
        of_node: Default::default(),
        dims: Vec::new(),
        depth: 0,
        external_ids: HashMap::new(),
        op_types: OpTypes::default(),
        model: Model {
            len: bytes.len() as u64,
            graphs: vec![Graph::new(GraphOwner::Model, "graph".to_owned())],
            ..Model::default()
        },
    };
    match locator.model(Message::of_file(bytes)) {
        Ok(()) => {
            let mut model = locator.model;
            model.names = locator.op_types.names(&model);
            Ok(model)
        }
        // The path still shows where the walk stopped.
        Err(error) => Err(error.under(&locator.path)),
    }
}

/// The state of the walk.
struct Locator<'a, 'l> {
    limits: &'l Limits,
    /// Protobuf path of the message being read.
    path: String,
    /// Bytes of all tensors' paths.
    path_bytes: usize,
    /// Bytes of all tensors' names, counting shared ones each time, because reports repeat them.
    name_bytes: usize,
    values: usize,
    /// Inputs and outputs of the node being read.
    of_node: (Vec<&'a str>, Vec<&'a str>),
    /// Room for the shape of the tensor being read.
    dims: Vec<u64>,
    /// The number of graphs around the one being read.
    depth: u32,
    /// The ids of `model.external_files`.
    external_ids: HashMap<String, FileId>,
    op_types: OpTypes<'a>,
    model: Model<'a>,
}

impl<'a> Locator<'a, '_> {
    fn model(&mut self, message: Message<'a>) -> Result<(), Error> {
        if message.span().len == 0 {
            return Err(Error::malformed(0, "empty file"));
        }
        let mut has_graph = false;
        let mut walk = self.walk(message, &model::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            match field.number {
                // The lock belongs to a tail, which `tail::split` judges.
                model::opset_import
                    if self.is_within_tail() && tail::is_lock_at(message.slice(), field.offset) =>
                {
                    walk.fields.seek(field.offset as usize + tail::LOCK.len());
                }
                model::ir_version => self.model.ir_version = Some(field.varint()? as i64),
                model::graph => {
                    has_graph = true;
                    self.graph(self.model.main(), field.message()?)?;
                }
                model::opset_import => self.opset_import(field)?,
                model::metadata_props => self.metadata_prop(field)?,
                model::training_info => self.pass_over(field)?,
                model::functions => self.function(field)?,
                _ => {}
            }
        }
        if !has_graph {
            return Err(Error::malformed(
                message.span().end(),
                "not an ONNX model: no graph",
            ));
        }
        Ok(())
    }

    fn is_within_tail(&self) -> bool {
        let last = self.model.metadata_props.last();
        last.is_some_and(|prop| prop.key.starts_with(tail::PREFIX))
    }

    fn opset_import(&mut self, field: Field<'a>) -> Result<(), Error> {
        let (n, limit) = (self.model.opset_imports.len(), self.limits.opset_imports);
        within(n, limit, "opset imports", field.offset)?;
        let mut import = OpsetImport {
            domain: "",
            version: 0,
        };
        for field in field.message()?.fields(&opset_import::SCHEMA) {
            let field = field?;
            match field.number {
                opset_import::domain => import.domain = folded(field.string()?),
                opset_import::version => import.version = field.varint()? as i64,
                _ => {}
            }
        }
        self.model.opset_imports.push(import);
        Ok(())
    }

    fn metadata_prop(&mut self, field: Field<'a>) -> Result<(), Error> {
        let (n, limit) = (self.model.metadata_props.len(), self.limits.metadata_props);
        within(n, limit, "metadata entries", field.offset)?;
        let message = field.message()?;
        let [key, value] = message.strings(&entry::SCHEMA, [entry::key, entry::value])?;
        self.model.metadata_props.push(MetadataProp {
            key,
            value,
            field: field.span(),
        });
        Ok(())
    }

    fn function(&mut self, field: Field<'a>) -> Result<(), Error> {
        let n = self.model.functions.len();
        within(n, self.limits.functions, "functions", field.offset)?;
        let id = FunctionId(n as u32);
        let body = self.new_graph(GraphOwner::Function(id), field.offset)?;
        let (mut domain, mut name, mut overload) = ("", "", "");
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let mut walk = self.walk(field.message()?, &function::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            match field.number {
                function::name => name = field.string()?,
                function::input => inputs.push(self.value(field)?),
                function::output => outputs.push(self.value(field)?),
                function::node => self.node(body, walk.index, field)?,
                function::domain => domain = folded(field.string()?),
                function::attribute_proto => self.default_attribute(field)?,
                function::overload => overload = field.string()?,
                _ => {}
            }
        }
        self.model.functions.push(Function {
            domain,
            name,
            overload,
            body,
        });
        self.set_graph(body, name, inputs, outputs);
        Ok(())
    }

    fn graph(&mut self, id: GraphId, message: Message<'a>) -> Result<(), Error> {
        let mut name = "";
        let (mut inputs, mut outputs) = (Vec::new(), Vec::new());
        let mut walk = self.walk(message, &graph::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            match field.number {
                graph::node => self.node(id, walk.index, field)?,
                graph::name => name = field.string()?,
                graph::initializer => self.tensor(Slot::initializer(id), field)?,
                graph::input => inputs.push(self.value_info(field)?),
                graph::output => outputs.push(self.value_info(field)?),
                graph::sparse_initializer => self.sparse_tensor(Slot::initializer(id), field)?,
                _ => {}
            }
        }
        self.set_graph(id, name, inputs, outputs);
        Ok(())
    }

    /// Fills in what was read of a graph, whose place was taken before those in it.
    fn set_graph(
        &mut self,
        id: GraphId,
        name: &'a str,
        inputs: Vec<&'a str>,
        outputs: Vec<&'a str>,
    ) {
        if let Some(graph) = self.model.graphs.get_mut(id.index()) {
            (graph.name, graph.inputs, graph.outputs) = (name, inputs, outputs);
        }
    }

    fn node(&mut self, graph: GraphId, position: u32, field: Field<'a>) -> Result<(), Error> {
        let n = self.model.nodes.len();
        within(n, self.limits.nodes, "nodes", field.offset)?;
        let id = NodeId(n as u32);
        let message = field.message()?;
        let mut node = Node {
            graph,
            name: "",
            op_type: "",
            domain: "",
            overload: "",
            inputs: Vec::new(),
            outputs: Vec::new(),
            position,
            message: message.span(),
        };
        let mut has_attributes = false;
        let (mut inputs, mut outputs) = std::mem::take(&mut self.of_node);
        inputs.clear();
        outputs.clear();
        for field in message.fields(&node::SCHEMA) {
            let field = field?;
            match field.number {
                node::input => inputs.push(self.value(field)?),
                node::output => outputs.push(self.value(field)?),
                node::name => node.name = field.string()?,
                node::op_type => node.op_type = field.string()?,
                node::attribute => has_attributes = true,
                node::domain => node.domain = folded(field.string()?),
                node::overload => node.overload = field.string()?,
                _ => {}
            }
        }
        // Growing lists would take two or four times the memory.
        (node.inputs, node.outputs) = (inputs.to_vec(), outputs.to_vec());
        self.of_node = (inputs, outputs);
        let name = node.name;
        let value_name = match (node.op_type, node.domain) {
            ("Constant", "") => node.outputs.first().copied(),
            _ => None,
        };
        (node.domain, node.op_type) = self.op_types.add((node.domain, node.op_type));
        self.model.nodes.push(node);
        // Walk the tags again, because names that attributes' tensors need may come last.
        if has_attributes {
            self.attributes(graph, id, value_name, message)
                .map_err(|error| error.in_node(name))?;
        }
        Ok(())
    }

    /// Returns the name of a graph's input or output.
    fn value_info(&mut self, field: Field<'a>) -> Result<&'a str, Error> {
        self.count_value(field.offset)?;
        let [name] = (field.message()?).strings(&value_info::SCHEMA, [value_info::name])?;
        Ok(name)
    }

    /// Returns the name of a node's or function's input or output.
    fn value(&mut self, field: Field<'a>) -> Result<&'a str, Error> {
        self.count_value(field.offset)?;
        field.string()
    }

    fn count_value(&mut self, offset: u64) -> Result<(), Error> {
        within(self.values, self.limits.values, "values", offset)?;
        self.values += 1;
        Ok(())
    }

    fn new_graph(&mut self, owner: GraphOwner<'a>, offset: u64) -> Result<GraphId, Error> {
        let n = self.model.graphs.len();
        within(n, self.limits.graphs, "graphs", offset)?;
        let id = GraphId(n as u32);
        let path = self.path_here(offset)?;
        self.model.graphs.push(Graph::new(owner, path));
        Ok(id)
    }

    /// Notes that the message at the current path may contain weights and is not read.
    fn pass_over(&mut self, field: Field<'a>) -> Result<(), Error> {
        let path = self.path_here(field.offset)?;
        let names_files = match (field.inside(), field.value) {
            (Some(schema), Value::Delimited(message)) => {
                names_files(schema, message, self.limits.graph_depth)
            }
            _ => true,
        };
        self.model.passed_over.push(PassedOver {
            path,
            field: field.span(),
            names_files,
        });
        Ok(())
    }

    /// Returns a copy of the current path, within the limit.
    fn path_here(&mut self, offset: u64) -> Result<String, Error> {
        self.path_bytes = self.path_bytes.saturating_add(self.path.len());
        let (bytes, limit) = (self.path_bytes, self.limits.path_bytes);
        fits(bytes, limit, "bytes of tensor paths", offset)?;
        Ok(self.path.clone())
    }

    /// Begins to read the message at the current path.
    fn walk(&self, message: Message<'a>, schema: &'static Schema) -> Walk<'a> {
        Walk {
            fields: message.fields(schema),
            path_len: self.path.len(),
            counts: [0; 32],
            index: 0,
        }
    }

    /// Returns the next field, and sets the path to it if it can contain tensors.
    fn step(&mut self, walk: &mut Walk<'a>) -> Result<Option<Field<'a>>, Error> {
        self.path.truncate(walk.path_len);
        let Some(field) = walk.fields.next().transpose()? else {
            return Ok(None);
        };
        if field.inside().is_some()
            && let Some(known) = field.known()
        {
            if walk.path_len > 0 {
                self.path.push('.');
            }
            self.path.push_str(known.name);
            if let (false, Some(count)) =
                (known.is_single, walk.counts.get_mut(field.number as usize))
            {
                walk.index = *count;
                *count = count.saturating_add(1);
                // Writing to a String does not fail.
                let _ = write!(self.path, "[{}]", walk.index);
            }
        }
        Ok(Some(field))
    }
}

/// A message that is read field by field, with the path of each.
struct Walk<'a> {
    fields: Fields<'a>,
    /// Length of the path of the message.
    path_len: usize,
    /// How often each repeated field that can contain tensors has occurred.
    counts: [u32; 32],
    /// How often the field that was read last had occurred before.
    index: u32,
}

/// The place of a tensor in the model.
#[derive(Clone, Copy)]
struct Slot<'a> {
    graph: GraphId,
    place: TensorRole<'a>,
    /// The name, if not the tensor's own.
    name: Option<&'a str>,
}

impl Slot<'_> {
    fn initializer(graph: GraphId) -> Self {
        Slot {
            graph,
            place: TensorRole::Initializer,
            name: None,
        }
    }
}

/// Checks that the limit allows one more.
pub(crate) fn within(
    count: usize,
    maximum: u32,
    what: &'static str,
    offset: u64,
) -> Result<(), Error> {
    fits(count.saturating_add(1), maximum, what, offset)
}

/// Checks that the limit allows `count`.
fn fits(count: usize, maximum: u32, what: &'static str, offset: u64) -> Result<(), Error> {
    if count > maximum as usize {
        return Err(Error::limit(offset, what, u64::from(maximum)));
    }
    Ok(())
}

/// Returns a domain, with `ai.onnx` replaced by the equivalent empty one.
fn folded(domain: &str) -> &str {
    match domain {
        "ai.onnx" => "",
        other => other,
    }
}
