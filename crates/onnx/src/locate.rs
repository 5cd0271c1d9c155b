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

use crate::entry::entry;
use crate::error::Error;
use crate::limits::Limits;
use crate::model::{
    FileId, Function, FunctionId, Graph, GraphId, GraphOwner, MetadataProp, Model, Node, NodeId,
    OpsetImport, PassedOver, Settings,
};
use crate::names::Names;
use crate::names_files::names_files;
use crate::schema::{self, Kind};
use crate::tail;
use crate::wire::{Field, Message, Value};

/// Reads a model file's structure and locates its tensors.
///
/// Refuses files that parsers would read differently, such as one with a second `graph`, and
/// elements whose place or number does not match shape and type. Ignores the lock of a protected
/// model. Reads no other file: [`crate::external`] checks that external data exists and is long
/// enough.
///
/// # Errors
///
/// [`Error::Malformed`] or [`Error::LimitExceeded`], with the absolute offset.
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
            ir_version: None,
            opset_imports: Vec::new(),
            metadata_props: Vec::new(),
            graphs: vec![Graph::new(GraphOwner::Model, "graph".to_owned())],
            nodes: Vec::new(),
            tensors: Vec::new(),
            functions: Vec::new(),
            external_files: Vec::new(),
            passed_over: Vec::new(),
            settings: Settings::default(),
            long_settings: Vec::new(),
            prepacked: Vec::new(),
            stray_key: None,
            names: Names::default(),
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
    /// Inputs and outputs of all nodes and graphs.
    values: usize,
    /// Inputs and outputs of the node being read.
    of_node: [Vec<&'a str>; 2],
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
        let mut n_functions = 0u64;
        let mut n_training_infos = 0u64;
        let mut fields = message.fields(schema::MODEL);
        while let Some(field) = fields.next()? {
            match field.number {
                // The lock belongs to a tail, which `tail::split` judges.
                8 if self.is_within_tail() && tail::is_lock_at(message.slice(), field.offset) => {
                    fields.seek(field.offset as usize + tail::LOCK.len());
                }
                1 => self.model.ir_version = Some(field.varint()? as i64),
                7 => {
                    has_graph = true;
                    let mark = self.enter("graph");
                    self.graph(self.model.main(), field.message()?)?;
                    self.leave(mark);
                }
                8 => self.opset_import(field)?,
                14 => self.metadata_prop(field)?,
                20 => {
                    let mark = self.enter_item("training_info", n_training_infos);
                    self.pass_over(Kind::TrainingInfo, field)?;
                    self.leave(mark);
                    n_training_infos += 1;
                }
                25 => {
                    let mark = self.enter_item("functions", n_functions);
                    self.function(field)?;
                    self.leave(mark);
                    n_functions += 1;
                }
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

    /// Returns whether the last entry belongs to a tail.
    fn is_within_tail(&self) -> bool {
        let last = self.model.metadata_props.last();
        last.is_some_and(|prop| prop.key.starts_with(tail::PREFIX))
    }

    fn opset_import(&mut self, field: Field<'a>) -> Result<(), Error> {
        let limit = self.limits.opset_imports;
        within(
            self.model.opset_imports.len(),
            limit,
            "opset imports",
            field.offset,
        )?;
        let mut import = OpsetImport {
            domain: "",
            version: 0,
        };
        let mut fields = field.message()?.fields(schema::OPSET_IMPORT);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => import.domain = folded(field.string()?),
                2 => import.version = field.varint()? as i64,
                _ => {}
            }
        }
        self.model.opset_imports.push(import);
        Ok(())
    }

    fn metadata_prop(&mut self, field: Field<'a>) -> Result<(), Error> {
        let limit = self.limits.metadata_props;
        within(
            self.model.metadata_props.len(),
            limit,
            "metadata entries",
            field.offset,
        )?;
        let (key, value) = entry(field.message()?)?;
        self.model.metadata_props.push(MetadataProp {
            key,
            value,
            field: field.span(),
        });
        Ok(())
    }

    fn function(&mut self, field: Field<'a>) -> Result<(), Error> {
        within(
            self.model.functions.len(),
            self.limits.functions,
            "functions",
            field.offset,
        )?;
        let id = FunctionId(self.model.functions.len() as u32);
        let body = self.new_graph(GraphOwner::Function(id), field.offset)?;
        self.model.functions.push(Function {
            domain: "",
            name: "",
            overload: "",
            body,
        });
        let mut position = 0;
        let mut n_attribute_protos = 0u64;
        let mut fields = field.message()?.fields(schema::FUNCTION);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    let name = field.string()?;
                    self.function_mut(id, |function| function.name = name);
                    self.graph_mut(body, |graph| graph.name = name);
                }
                4 => {
                    let name = self.value(field)?;
                    self.graph_mut(body, |graph| graph.inputs.push(name));
                }
                5 => {
                    let name = self.value(field)?;
                    self.graph_mut(body, |graph| graph.outputs.push(name));
                }
                7 => {
                    self.node(body, position, field)?;
                    position += 1;
                }
                10 => {
                    let domain = folded(field.string()?);
                    self.function_mut(id, |function| function.domain = domain);
                }
                11 => {
                    let mark = self.enter_item("attribute_proto", n_attribute_protos);
                    self.default_attribute(field)?;
                    self.leave(mark);
                    n_attribute_protos += 1;
                }
                13 => {
                    let overload = field.string()?;
                    self.function_mut(id, |function| function.overload = overload);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn graph(&mut self, id: GraphId, message: Message<'a>) -> Result<(), Error> {
        let mut position = 0;
        let mut n_initializers = 0u64;
        let mut n_sparse = 0u64;
        let mut fields = message.fields(schema::GRAPH);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => {
                    self.node(id, position, field)?;
                    position += 1;
                }
                2 => {
                    let name = field.string()?;
                    self.graph_mut(id, |graph| graph.name = name);
                }
                5 => {
                    let mark = self.enter_item("initializer", n_initializers);
                    self.initializer(id, field)?;
                    self.leave(mark);
                    n_initializers += 1;
                }
                11 => {
                    let name = self.value_info(field)?;
                    self.graph_mut(id, |graph| graph.inputs.push(name));
                }
                12 => {
                    let name = self.value_info(field)?;
                    self.graph_mut(id, |graph| graph.outputs.push(name));
                }
                15 => {
                    let mark = self.enter_item("sparse_initializer", n_sparse);
                    self.sparse_tensor(id, None, field)?;
                    self.leave(mark);
                    n_sparse += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn node(&mut self, graph: GraphId, position: u32, field: Field<'a>) -> Result<(), Error> {
        let mark = self.enter_item("node", position.into());
        within(
            self.model.nodes.len(),
            self.limits.nodes,
            "nodes",
            field.offset,
        )?;
        let id = NodeId(self.model.nodes.len() as u32);
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
            offset: message.offset(),
            len: message.span().len,
        };
        let mut has_attributes = false;
        self.of_node.iter_mut().for_each(Vec::clear);
        let mut fields = message.fields(schema::NODE);
        while let Some(field) = fields.next()? {
            match field.number {
                number @ (1 | 2) => {
                    let name = self.value(field)?;
                    self.of_node[number as usize - 1].push(name);
                }
                3 => node.name = field.string()?,
                4 => node.op_type = field.string()?,
                5 => has_attributes = true,
                7 => node.domain = folded(field.string()?),
                8 => node.overload = field.string()?,
                _ => {}
            }
        }
        // Growing lists would take two or four times the memory.
        [node.inputs, node.outputs] = self.of_node.each_ref().map(|names| names.to_vec());
        let name = node.name;
        let value_name = match (node.op_type, node.domain) {
            ("Constant", "") => node.outputs.first().copied(),
            _ => None,
        };
        (node.domain, node.op_type) = self.op_types.add(node.domain, node.op_type);
        self.model.nodes.push(node);
        // Walk the tags again, because names that attributes' tensors need may come last.
        if has_attributes {
            self.attributes(graph, id, value_name, message)
                .map_err(|error| error.in_node(name))?;
        }
        self.leave(mark);
        Ok(())
    }

    /// Returns the name of a graph's input or output.
    fn value_info(&mut self, field: Field<'a>) -> Result<&'a str, Error> {
        within(self.values, self.limits.values, "values", field.offset)?;
        self.values += 1;
        let mut name = "";
        let mut fields = field.message()?.fields(schema::VALUE_INFO);
        while let Some(field) = fields.next()? {
            if field.number == 1 {
                name = field.string()?;
            }
        }
        Ok(name)
    }

    /// Returns the name of a node's or function's input or output.
    fn value(&mut self, field: Field<'a>) -> Result<&'a str, Error> {
        within(self.values, self.limits.values, "values", field.offset)?;
        self.values += 1;
        field.string()
    }

    fn new_graph(&mut self, owner: GraphOwner<'a>, offset: u64) -> Result<GraphId, Error> {
        within(
            self.model.graphs.len(),
            self.limits.graphs,
            "graphs",
            offset,
        )?;
        let id = GraphId(self.model.graphs.len() as u32);
        let path = self.path_here(offset)?;
        self.model.graphs.push(Graph::new(owner, path));
        Ok(id)
    }

    fn graph_mut(&mut self, id: GraphId, edit: impl FnOnce(&mut Graph<'a>)) {
        if let Some(graph) = self.model.graphs.get_mut(id.index()) {
            edit(graph);
        }
    }

    fn function_mut(&mut self, id: FunctionId, edit: impl FnOnce(&mut Function<'a>)) {
        if let Some(function) = self.model.functions.get_mut(id.index()) {
            edit(function);
        }
    }

    /// Notes that the message at the current path may contain weights and is not read.
    fn pass_over(&mut self, kind: Kind, field: Field<'a>) -> Result<(), Error> {
        let path = self.path_here(field.offset)?;
        let names_files = match field.value {
            Value::Delimited(message) => names_files(kind, message, self.limits.graph_depth),
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

    /// Appends to the path and returns what [`Locator::leave`] needs to undo that.
    fn enter(&mut self, field: &str) -> usize {
        let mark = self.path.len();
        if mark > 0 {
            self.path.push('.');
        }
        self.path.push_str(field);
        mark
    }

    /// Appends one of several messages in a field to the path, as [`Locator::enter`] does.
    fn enter_item(&mut self, field: &str, index: u64) -> usize {
        let mark = self.enter(field);
        self.path.push('[');
        // Writing to a String does not fail.
        let _ = write!(self.path, "{index}");
        self.path.push(']');
        mark
    }

    fn leave(&mut self, mark: usize) {
        self.path.truncate(mark);
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
