//! Whether a part of the model that is not read keeps elements in external files.

use crate::schema::{self, Kind};
use crate::wire::{Message, Value};

/// Whether any tensor of `message` may have its elements in an external file, in the eyes of any
/// parser.
///
/// Parsers differ in what a field means that occurs twice, or has a value that no enumeration has.
/// So no value is resolved: a tensor counts that has an entry of `external_data`, or a
/// `data_location` other than 0, anywhere. So does whatever is not made of fields, and what lies in
/// more than `max_depth` graphs around a graph.
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
                // Parsers pass over a field of another wire type, as a rule.
                (Some(_), _) => true,
            },
        };
        if names_files_here {
            return true;
        }
    }
}
