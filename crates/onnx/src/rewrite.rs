//! Copies a model file with the elements of some tensors elsewhere.

use zeroize::Zeroizing;

use crate::error::Error;
use crate::schema::{self, DATA_LOCATION, EXTERNAL_DATA};
use crate::wire::{Message, Value, put_varint};

/// Where the elements of a tensor lie in a copy.
#[derive(Clone, Copy, Debug)]
pub enum Elements<'e> {
    /// In `raw_data`.
    Inline(&'e [u8]),
    /// In the external data file `location`, from its beginning: so many bytes.
    External {
        /// `location` in `TensorProto.external_data`.
        location: &'e str,
        /// `length` there, in bytes.
        len: u64,
    },
}

/// Fields of `TensorProto` that hold elements, or say where they are.
const OF_ELEMENTS: [u32; 9] = [4, 5, 6, 7, 9, 10, 11, 13, 14];
const RAW_DATA: u32 = 9;

/// Copies the model file `bytes` with the elements of some tensors elsewhere.
///
/// `moved` has the offset of each of these tensors ([`Tensor::offset`](crate::model::Tensor)), in
/// ascending order. All else is copied as it is; what is not copied is not read.
///
/// # Errors
/// [`Error::Malformed`] where a tensor or what holds it is no sequence of fields; [`Error::Memory`].
pub fn rewrite(bytes: &[u8], moved: &[(u64, Elements<'_>)]) -> Result<Zeroizing<Vec<u8>>, Error> {
    copy(bytes, Message::of_file(bytes), moved)
}

/// A copy of `message`, which holds all the tensors that are `moved` and is none itself.
fn copy(
    bytes: &[u8],
    message: Message<'_>,
    mut moved: &[(u64, Elements<'_>)],
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut out = Buffer::default();
    let mut fields = message.fields(schema::ANY);
    while let Some(field) = fields.next()? {
        let n_inside = moved.partition_point(|(offset, _)| *offset < field.end);
        let (inside, after) = moved.split_at(n_inside);
        match (field.value, inside) {
            (Value::Delimited(message), [(offset, elements)]) if *offset == message.offset() => {
                out.put_message(field.number, &tensor(bytes, message, *elements)?)?;
            }
            (Value::Delimited(message), [_, ..]) => {
                out.put_message(field.number, &copy(bytes, message, inside)?)?;
            }
            _ => {
                let field = field.offset as usize..field.end as usize;
                out.put(bytes.get(field).unwrap_or_default())?;
            }
        }
        moved = after;
    }
    Ok(out.0)
}

/// A copy of the `TensorProto` in `message` whose elements lie elsewhere.
fn tensor(
    bytes: &[u8],
    message: Message<'_>,
    elements: Elements<'_>,
) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut out = Buffer::default();
    let mut fields = message.fields(schema::TENSOR);
    while let Some(field) = fields.next()? {
        if !OF_ELEMENTS.contains(&field.number) {
            let field = field.offset as usize..field.end as usize;
            out.put(bytes.get(field).unwrap_or_default())?;
        }
    }
    match elements {
        Elements::Inline(bytes) => out.put_message(RAW_DATA, bytes)?,
        Elements::External { location, len } => {
            for (key, value) in [
                ("location", location),
                ("offset", "0"),
                ("length", &len.to_string()),
            ] {
                let mut entry = Buffer::default();
                entry.put_message(1, key.as_bytes())?;
                entry.put_message(2, value.as_bytes())?;
                out.put_message(EXTERNAL_DATA, &entry.0)?;
            }
            // DataLocation.EXTERNAL
            out.put_varint(u64::from(DATA_LOCATION << 3))?;
            out.put_varint(1)?;
        }
    }
    Ok(out.0)
}

/// Bytes that grow, and leave none of them behind when they move.
#[derive(Default)]
struct Buffer(Zeroizing<Vec<u8>>);

impl Buffer {
    fn put(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let needed = self.0.len() + bytes.len();
        if needed > self.0.capacity() {
            let len_bytes = needed.max(2 * self.0.capacity());
            let mut larger = Zeroizing::new(Vec::new());
            let reserved = larger.try_reserve_exact(len_bytes);
            reserved.map_err(|_| Error::Memory { len_bytes })?;
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    /// A length-delimited field.
    fn put_message(&mut self, number: u32, bytes: &[u8]) -> Result<(), Error> {
        self.put_varint(u64::from(number << 3 | 2))?;
        self.put_varint(bytes.len() as u64)?;
        self.put(bytes)
    }

    fn put_varint(&mut self, value: u64) -> Result<(), Error> {
        let mut put = Ok(());
        put_varint(value, |part| {
            if put.is_ok() {
                put = self.put(part);
            }
        });
        put
    }
}
