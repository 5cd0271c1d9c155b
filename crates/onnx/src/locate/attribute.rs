//! Attributes of nodes: their tensors, floats and subgraphs.

use super::runs::Runs;
use super::{Locator, Slot};
use crate::error::Error;
use crate::model::{
    GraphId, GraphOwner, LongSetting, MAX_SETTING_BYTES, NodeId, Payload, PayloadField, Span,
    Tensor, TensorRole, Unpatchable,
};
use crate::proto::tensor_proto::DataType;
use crate::schema::{attribute, node};
use crate::wire::{Field, Message, Value};

/// The fewest numbers of an attribute to count as weights rather than a setting.
const MIN_NUMBERS: u64 = 2;

/// The contents of an attribute, as far as they are no messages.
#[derive(Default)]
struct Contents {
    floats: Runs,
    n_ints: u64,
    /// Bytes of `f`, `i`, `s`, `ints` and `strings`, with tags and lengths.
    plain_bytes: u64,
    /// Whether there are messages that can contain tensors.
    holds_messages: bool,
}

impl Contents {
    fn add(&mut self, field: &Field<'_>) -> Result<(), Error> {
        match field.number {
            attribute::floats => drop(self.floats.add(field, 4)?),
            attribute::f | attribute::i | attribute::s | attribute::strings => {
                self.plain_bytes += field.span().len;
            }
            attribute::ints => {
                self.plain_bytes += field.span().len;
                self.n_ints += match field.value {
                    Value::Delimited(packed) => {
                        packed.slice().iter().filter(|byte| **byte < 0x80).count() as u64
                    }
                    _ => 1,
                };
            }
            _ => self.holds_messages |= field.inside().is_some(),
        }
        Ok(())
    }
}

/// Returns whether an attribute has fields from which [`Locator::attributes`] would take tensors, or
/// numbers and text that are long enough to be weights.
fn may_hold_weights(message: Message<'_>) -> Result<bool, Error> {
    let mut contents = Contents::default();
    for field in message.fields(&attribute::SCHEMA) {
        contents.add(&field?)?;
        if contents.holds_messages {
            return Ok(true);
        }
    }
    Ok(contents.floats.n >= MIN_NUMBERS || contents.plain_bytes > MAX_SETTING_BYTES)
}

impl<'a> Locator<'a, '_> {
    /// Notes the default of a function's attribute as not read, if it may contain weights.
    pub(super) fn default_attribute(&mut self, field: Field<'a>) -> Result<(), Error> {
        if may_hold_weights(field.message()?)? {
            self.pass_over(field)?;
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
        let mut walk = self.walk(message, &node::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            if field.number == node::attribute {
                self.attribute(graph, node, value_name, field)?;
            }
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
        let mut contents = Contents::default();
        for field in message.fields(&attribute::SCHEMA) {
            let field = field?;
            match field.number {
                attribute::name => attribute = field.string()?,
                _ => contents.add(&field)?,
            }
        }
        let Contents { floats, n_ints, .. } = contents;
        if floats.n < MIN_NUMBERS {
            contents.plain_bytes += 4 * floats.n;
        }
        let slot = Slot {
            graph,
            place: TensorRole::Attribute { node, attribute },
            name: Some(value_name.unwrap_or(attribute)),
        };
        // Only in Constant does the value have a name of its own.
        let is_constant = value_name.is_some() && attribute == "value_ints";
        if is_constant && n_ints >= MIN_NUMBERS {
            let payload = Payload::Unpatchable(Unpatchable::AttributeInts);
            let numbers = (DataType::Int64, n_ints, payload);
            self.attribute_numbers(slot, "ints", numbers, message.span())?;
        } else if contents.plain_bytes > 0 {
            self.settings(node, attribute, contents.plain_bytes, field.offset)?;
        }
        // Walk the tags again, because the attribute's name may come last.
        if contents.holds_messages {
            self.attribute_messages(slot, GraphOwner::Node { node, attribute }, message)?;
        }
        if floats.n >= MIN_NUMBERS {
            let payload = floats.payload(PayloadField::AttributeFloats, 32);
            let numbers = (DataType::Float, floats.n, payload);
            self.attribute_numbers(slot, "floats", numbers, message.span())?;
        }
        Ok(())
    }

    /// Notes the numbers and the text of an attribute, which take `bytes`.
    fn settings(
        &mut self,
        node: NodeId,
        attribute: &'a str,
        bytes: u64,
        offset: u64,
    ) -> Result<(), Error> {
        self.model.settings.n += 1;
        self.model.settings.bytes += bytes;
        if bytes > MAX_SETTING_BYTES {
            let path = self.path_here(offset)?;
            self.model.long_settings.push(LongSetting {
                node,
                attribute,
                path,
                bytes,
            });
        }
        Ok(())
    }

    fn attribute_messages(
        &mut self,
        slot: Slot<'a>,
        owner: GraphOwner<'a>,
        message: Message<'a>,
    ) -> Result<(), Error> {
        let mut walk = self.walk(message, &attribute::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            match field.number {
                attribute::t | attribute::tensors => self.tensor(slot, field)?,
                attribute::g | attribute::graphs => self.subgraph(owner, field)?,
                attribute::sparse_tensor | attribute::sparse_tensors => {
                    self.sparse_tensor(slot, field)?;
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn subgraph(&mut self, owner: GraphOwner<'a>, field: Field<'a>) -> Result<(), Error> {
        let maximum = self.limits.graph_depth;
        if self.depth >= maximum {
            let maximum = u64::from(maximum);
            return Err(Error::limit(field.offset, "nested graphs", maximum));
        }
        let id = self.new_graph(owner, field.offset)?;
        self.depth += 1;
        self.graph(id, field.message()?)?;
        self.depth -= 1;
        Ok(())
    }

    /// Adds the numbers in a field of an attribute as a tensor: their type, how many they are, and
    /// where.
    fn attribute_numbers(
        &mut self,
        slot: Slot<'a>,
        field: &str,
        (data_type, n, payload): (DataType, u64, Payload),
        message: Span,
    ) -> Result<(), Error> {
        let path_len = self.path.len();
        self.path.push('.');
        self.path.push_str(field);
        let path = self.path_here(message.start)?;
        self.push_tensor(Tensor {
            name: slot.name.unwrap_or_default(),
            graph: slot.graph,
            place: slot.place,
            path,
            data_type,
            dims: vec![n],
            n_elements: n,
            message,
            payload,
        })?;
        self.path.truncate(path_len);
        Ok(())
    }
}
