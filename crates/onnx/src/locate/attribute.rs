//! Attributes of nodes: their tensors, floats and subgraphs.

use super::Locator;
use super::payload::TOO_LARGE;
use super::runs::{Layout, Runs};
use crate::error::Error;
use crate::model::{
    FileId, GraphId, GraphOwner, LongSetting, MAX_SETTING_BYTES, NodeId, Payload, PayloadField,
    Span, Tensor, TensorRole, Unpatchable,
};
use crate::proto::tensor_proto::DataType;
use crate::schema::{self, Kind};
use crate::wire::{Field, Message, Value};

/// The fewest numbers of an attribute to count as weights rather than a setting.
const MIN_NUMBERS: u64 = 2;

/// The attribute that contains a tensor.
#[derive(Clone, Copy)]
pub(super) struct Holder<'a> {
    node: NodeId,
    attribute: &'a str,
    /// The name for the tensor.
    pub(super) value_name: &'a str,
}

impl<'a> Holder<'a> {
    pub(super) fn place(&self) -> TensorRole<'a> {
        TensorRole::Attribute {
            node: self.node,
            attribute: self.attribute,
        }
    }
}

/// Returns whether an attribute has fields from which [`Locator::attributes`] would take tensors, or
/// numbers and text that are long enough to be weights.
fn may_hold_weights(message: Message<'_>) -> Result<bool, Error> {
    let (mut floats, mut plain) = (Runs::default(), Plain::default());
    let mut fields = message.fields(schema::ATTRIBUTE);
    while let Some(field) = fields.next()? {
        match field.number {
            5 | 6 | 10 | 11 | 22 | 23 => return Ok(true),
            7 => floats.add(&field, 4)?,
            2 | 3 | 4 | 8 | 9 => plain.add(&field),
            _ => {}
        }
    }
    Ok(floats.n >= MIN_NUMBERS || plain.bytes > MAX_SETTING_BYTES)
}

impl<'a> Locator<'a, '_> {
    /// Notes the default of a function's attribute as not read, if it may contain weights.
    pub(super) fn default_attribute(&mut self, field: Field<'a>) -> Result<(), Error> {
        if may_hold_weights(field.message()?)? {
            self.pass_over(Kind::Attribute, field)?;
        }
        Ok(())
    }

    /// Reads the attributes of a node. `value_name` names its tensors, if not the attribute's name.
    pub(super) fn attributes(
        &mut self,
        graph: GraphId,
        node: NodeId,
        value_name: Option<&'a str>,
        message: Message<'a>,
    ) -> Result<(), Error> {
        let mut n_attributes = 0u64;
        let mut fields = message.fields(schema::NODE);
        while let Some(field) = fields.next()? {
            if field.number != 5 {
                continue;
            }
            let mark = self.enter_item("attribute", n_attributes);
            self.attribute(graph, node, value_name, field)?;
            self.leave(mark);
            n_attributes += 1;
        }
        Ok(())
    }

    fn attribute(
        &mut self,
        graph: GraphId,
        node: NodeId,
        value_name: Option<&'a str>,
        field: Field<'a>,
    ) -> Result<(), Error> {
        let message = field.message()?;
        let mut attribute = "";
        let mut floats = Runs::default();
        let mut holds_messages = false;
        let mut plain = Plain::default();
        let mut fields = message.fields(schema::ATTRIBUTE);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => attribute = field.string()?,
                5 | 6 | 10 | 11 | 22 | 23 => holds_messages = true,
                7 => floats.add(&field, 4)?,
                2 | 3 | 4 | 8 | 9 => plain.add(&field),
                _ => {}
            }
        }
        if floats.n < MIN_NUMBERS {
            plain.bytes += 4 * floats.n;
        }
        let holder = Holder {
            node,
            attribute,
            value_name: value_name.unwrap_or(attribute),
        };
        // Only in Constant does the value have a name of its own.
        let is_constant = value_name.is_some() && attribute == "value_ints";
        if is_constant && plain.n_ints >= MIN_NUMBERS {
            let why = Unpatchable::AttributeInts;
            let (data_type, n) = (DataType::Int64, plain.n_ints);
            let payload = Payload::Unpatchable(why);
            self.attribute_numbers(graph, holder, "ints", data_type, n, payload, message.span())?;
        } else if plain.bytes > 0 {
            self.settings(holder, plain, field.offset)?;
        }
        // Walk the tags again, because the attribute's name may come last.
        if holds_messages {
            self.attribute_messages(graph, holder, message)?;
        }
        if floats.n >= MIN_NUMBERS {
            let payload = floats_payload(floats, message.span().start)?;
            let (data_type, n) = (DataType::Float, floats.n);
            self.attribute_numbers(
                graph,
                holder,
                "floats",
                data_type,
                n,
                payload,
                message.span(),
            )?;
        }
        Ok(())
    }

    /// Notes the numbers and the text of an attribute.
    fn settings(&mut self, holder: Holder<'a>, plain: Plain, offset: u64) -> Result<(), Error> {
        self.model.settings.n += 1;
        self.model.settings.bytes += plain.bytes;
        if plain.bytes > MAX_SETTING_BYTES {
            let path = self.path_here(offset)?;
            self.model.long_settings.push(LongSetting {
                node: holder.node,
                attribute: holder.attribute,
                path,
                bytes: plain.bytes,
            });
        }
        Ok(())
    }

    fn attribute_messages(
        &mut self,
        graph: GraphId,
        holder: Holder<'a>,
        message: Message<'a>,
    ) -> Result<(), Error> {
        let (mut n_tensors, mut n_graphs, mut n_sparse) = (0u64, 0u64, 0u64);
        let mut fields = message.fields(schema::ATTRIBUTE);
        while let Some(field) = fields.next()? {
            let mark = match field.number {
                5 => self.enter("t"),
                6 => self.enter("g"),
                10 => self.enter_item("tensors", n_tensors),
                11 => self.enter_item("graphs", n_graphs),
                22 => self.enter("sparse_tensor"),
                23 => self.enter_item("sparse_tensors", n_sparse),
                _ => continue,
            };
            match field.number {
                5 => self.held_tensor(graph, holder, field)?,
                6 => self.subgraph(holder, field)?,
                10 => {
                    self.held_tensor(graph, holder, field)?;
                    n_tensors += 1;
                }
                11 => {
                    self.subgraph(holder, field)?;
                    n_graphs += 1;
                }
                22 => self.sparse_tensor(graph, Some(holder), field)?,
                _ => {
                    self.sparse_tensor(graph, Some(holder), field)?;
                    n_sparse += 1;
                }
            }
            self.leave(mark);
        }
        Ok(())
    }

    fn subgraph(&mut self, holder: Holder<'a>, field: Field<'a>) -> Result<(), Error> {
        let maximum = self.limits.graph_depth;
        if self.depth >= maximum {
            let maximum = u64::from(maximum);
            return Err(Error::limit(field.offset, "nested graphs", maximum));
        }
        let owner = GraphOwner::Node {
            node: holder.node,
            attribute: holder.attribute,
        };
        let id = self.new_graph(owner, field.offset)?;
        self.depth += 1;
        self.graph(id, field.message()?)?;
        self.depth -= 1;
        Ok(())
    }

    /// Adds the numbers in a field of an attribute as a tensor.
    #[allow(clippy::too_many_arguments)]
    fn attribute_numbers(
        &mut self,
        graph: GraphId,
        holder: Holder<'a>,
        field: &str,
        data_type: DataType,
        n: u64,
        payload: Payload,
        span: Span,
    ) -> Result<(), Error> {
        let offset = span.start;
        let mark = self.enter(field);
        let path = self.path_here(offset)?;
        self.push_tensor(Tensor {
            name: holder.value_name,
            graph,
            place: holder.place(),
            path,
            data_type,
            dims: vec![n],
            n_elements: n,
            offset,
            len: span.len,
            payload,
        })?;
        self.leave(mark);
        Ok(())
    }
}

/// Returns where the floats of the attribute at `offset` lie.
fn floats_payload(floats: Runs, offset: u64) -> Result<Payload, Error> {
    let field = PayloadField::AttributeFloats;
    Ok(match floats.layout {
        Layout::None => Payload::Empty,
        Layout::Dense(start) => Payload::Dense {
            file: FileId::MODEL,
            span: Span {
                start,
                len: floats
                    .n
                    .checked_mul(4)
                    .ok_or_else(|| Error::malformed(offset, TOO_LARGE))?,
            },
            field,
            element_bits: 32,
        },
        Layout::Strided(start, stride) => Payload::Strided {
            start,
            stride,
            field,
            element_bits: 32,
        },
        Layout::Scattered => Payload::Unpatchable(Unpatchable::Fragmented),
    })
}

/// The numbers and the text of an attribute: `f`, `i`, `s`, `ints`, `strings`.
#[derive(Clone, Copy, Default)]
struct Plain {
    bytes: u64,
    n_ints: u64,
}

impl Plain {
    fn add(&mut self, field: &Field<'_>) {
        self.bytes += field.span().len;
        if field.number == 8 {
            self.n_ints += match field.value {
                Value::Delimited(packed) => {
                    packed.slice().iter().filter(|byte| **byte < 0x80).count() as u64
                }
                _ => 1,
            };
        }
    }
}
