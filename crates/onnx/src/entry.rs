//! Keys with values: `StringStringEntryProto`.

use crate::error::Error;
use crate::schema;
use crate::wire::Message;

/// Returns key and value of a `StringStringEntryProto`.
pub(crate) fn entry(message: Message<'_>) -> Result<(&str, &str), Error> {
    let (mut key, mut value) = ("", "");
    let mut fields = message.fields(schema::ENTRY);
    while let Some(field) = fields.next()? {
        match field.number {
            1 => key = field.string()?,
            2 => value = field.string()?,
            _ => {}
        }
    }
    Ok((key, value))
}
