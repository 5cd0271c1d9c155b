//! Finds external files in parts of the model that are not read.

use crate::schema::{self, Kind};
use crate::wire::{Message, Value};

/// Returns whether any parser may look for elements of a tensor of `message` in an external file.
///
/// Parsers disagree on fields that occur twice, or have a value outside their enumeration. So this
/// resolves no values: a tensor counts if it has an entry of `external_data`, or a `data_location`
/// other than 0, anywhere. A message that does not consist of fields counts too, and so does a
/// graph nested deeper than `max_depth`.
pub(crate) fn names_files(kind: Kind, message: Message<'_>, max_depth: u32) -> bool {
    let mut fields = message.fields(schema::ANY);
    loop {
        let field = match fields.next() {
            Ok(Some(field)) => field,
            Ok(None) => return false,
            Err(_) => return true,
        };
        let names_files_here = match (kind, field.number) {
            (Kind::Tensor, schema::EXTERNAL_DATA) => true,
            (Kind::Tensor, schema::DATA_LOCATION) => !matches!(field.value, Value::Varint(0)),
            (_, number) => match (kind.inside(number), field.value) {
                (None, _) => false,
                (Some(Kind::Graph), Value::Delimited(graph)) => match max_depth.checked_sub(1) {
                    Some(max_depth) => names_files(Kind::Graph, graph, max_depth),
                    None => true,
                },
                (Some(kind), Value::Delimited(message)) => names_files(kind, message, max_depth),
                // Parsers usually ignore a field of another wire type.
                (Some(_), _) => true,
            },
        };
        if names_files_here {
            return true;
        }
    }
}
