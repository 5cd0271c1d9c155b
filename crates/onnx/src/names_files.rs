//! Finds external files in parts of the model that are not read.

use crate::schema::{self, graph, tensor};
use crate::wire::{Message, Schema, Value};

/// Returns whether any parser may look for elements of a tensor of `message` in an external file.
///
/// Parsers disagree on fields that occur twice, or have a value outside their enumeration. So this
/// resolves no values: a tensor counts if it has an entry of `external_data`, or a `data_location`
/// other than 0, anywhere. A message that does not consist of fields counts too, and so does a
/// graph nested deeper than `max_depth`.
pub(crate) fn names_files(schema: &Schema, message: Message<'_>, max_depth: u32) -> bool {
    message.fields(&schema::ANY).any(|field| {
        let Ok(field) = field else { return true };
        if schema.is(&tensor::SCHEMA) {
            return match field.number {
                tensor::external_data => true,
                tensor::data_location => !matches!(field.value, Value::Varint(0)),
                _ => false,
            };
        }
        match (schema.inside(field.number), field.value) {
            (None, _) => false,
            (Some(inside), Value::Delimited(message)) => {
                let max_depth = max_depth.checked_sub(inside.is(&graph::SCHEMA).into());
                max_depth.is_none_or(|max_depth| names_files(inside, message, max_depth))
            }
            // Parsers usually ignore a field of another wire type.
            (Some(_), _) => true,
        }
    })
}
