//! One tensor: its shape, its type, and where its elements lie.

use super::payload::{
    Coded, MAX_SIZE, TOO_LARGE, coded, count, fixed, length, misplaced, n_bytes, raw, strings,
};
use super::runs::Runs;
use super::{Locator, Slot, fits, within};
use crate::data_type::element_bits;
use crate::error::{Error, Fault, excerpt};
use crate::external;
use crate::limits::Limits;
use crate::model::{FileId, Payload, PayloadField, Span, Tensor, TensorRole, Unpatchable};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::schema::{sparse_tensor, tensor};
use crate::wire::{Field, Message};

const EXTERNAL_DATA: &str = "TensorProto.external_data";
const NO_LOCATION: &str = "expected external_data to have a location, found none";
/// The entries of `external_data` that ONNX Runtime accepts.
const KEYS: &str = "keys location, offset, length, checksum or prepacked, and a value";

impl<'a> Locator<'a, '_> {
    /// Reads values and indices of the sparse tensor at `slot`.
    pub(super) fn sparse_tensor(&mut self, slot: Slot<'a>, field: Field<'a>) -> Result<(), Error> {
        let mut walk = self.walk(field.message()?, &sparse_tensor::SCHEMA);
        while let Some(field) = self.step(&mut walk)? {
            let place = match field.number {
                sparse_tensor::values => TensorRole::SparseValues,
                sparse_tensor::indices => TensorRole::SparseIndices,
                _ => continue,
            };
            self.tensor(Slot { place, ..slot }, field)?;
        }
        Ok(())
    }

    pub(super) fn push_tensor(&mut self, tensor: Tensor<'a>) -> Result<(), Error> {
        let (n, start) = (self.model.tensors.len(), tensor.message.start);
        within(n, self.limits.tensors, "tensors", start)?;
        let holder = match tensor.place {
            TensorRole::Attribute { attribute, .. } => attribute.len(),
            _ => 0,
        };
        self.name_bytes = self
            .name_bytes
            .saturating_add(tensor.name.len())
            .saturating_add(holder);
        let (bytes, limit) = (self.name_bytes, self.limits.name_bytes);
        fits(bytes, limit, "bytes of tensor names", start)?;
        self.model.tensors.push(tensor);
        Ok(())
    }

    pub(super) fn tensor(&mut self, slot: Slot<'a>, field: Field<'a>) -> Result<(), Error> {
        let message = field.message()?;
        let mut parts = Parts::new(message.span(), std::mem::take(&mut self.dims));
        let located = parts
            .read(message, self.limits)
            .and_then(|()| self.located(slot, &parts));
        let shown = slot.name.unwrap_or(parts.name);
        self.dims = parts.dims;
        located.map_err(|error| error.in_tensor(shown))
    }

    fn located(&mut self, slot: Slot<'a>, parts: &Parts<'a>) -> Result<(), Error> {
        let n_elements = parts.n_elements()?;
        let data_type = parts.data_type(n_elements)?;
        let payload = self.payload(parts, data_type, n_elements)?;
        let path = self.path_here(parts.message.start)?;
        self.push_tensor(Tensor {
            name: slot.name.unwrap_or(parts.name),
            graph: slot.graph,
            place: slot.place,
            path,
            data_type,
            dims: parts.dims.to_vec(),
            n_elements,
            message: parts.message,
            payload,
        })
    }

    fn payload(
        &mut self,
        parts: &Parts<'a>,
        data_type: DataType,
        n: u64,
    ) -> Result<Payload, Error> {
        let start = parts.message.start;
        let (number, offset) = match parts.source {
            Some(source @ (tensor::external_data, _)) => source,
            _ if parts.is_external => return Err(Error::malformed(start, NO_LOCATION)),
            Some(source) => source,
            None if n == 0 => return Ok(Payload::Empty),
            None => return Err(Error::malformed(start, count(n, 0))),
        };
        let in_field = |error: Error| error.in_field(tensor::SCHEMA.field_name(number));
        let payload = match number {
            tensor::raw_data => raw(parts.raw, data_type, n),
            tensor::float_data => fixed(parts.runs, data_type, n, PayloadField::FloatData),
            tensor::double_data => fixed(parts.runs, data_type, n, PayloadField::DoubleData),
            tensor::int32_data => coded(parts.coded, data_type, n, Unpatchable::Int32Data),
            tensor::int64_data => coded(parts.coded, data_type, n, Unpatchable::Int64Data),
            tensor::uint64_data => coded(parts.coded, data_type, n, Unpatchable::Uint64Data),
            tensor::string_data => strings(parts.n_strings, data_type, n),
            _ if parts.is_external => {
                return self.external(parts, data_type, n).map_err(in_field);
            }
            // ONNX ignores external_data unless data_location says otherwise.
            _ if n == 0 => Ok(Payload::Empty),
            _ => Err(count(n, 0)),
        };
        payload.map_err(|fault| in_field(Error::malformed(offset, fault)))
    }

    fn external(
        &mut self,
        parts: &Parts<'a>,
        data_type: DataType,
        n: u64,
    ) -> Result<Payload, Error> {
        let at = |fault: Fault| Error::malformed(parts.message.start, fault);
        let bits = element_bits(data_type).ok_or_else(|| at(misplaced(data_type)))?;
        let expected = n_bytes(n, bits).map_err(at)?;
        let entries = &parts.external;
        let file = self.external_file(entries, parts.message.start)?;
        let len = entries.length.filter(|len| *len > 0).unwrap_or(expected);
        if len != expected {
            return Err(at(length(expected, len)));
        }
        let start = entries.offset.unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > MAX_SIZE) {
            return Err(at(TOO_LARGE.into()));
        }
        if entries.is_prepacked {
            self.model.prepacked.push(parts.message);
        }
        if self.model.stray_key.is_none()
            && let Some((key, offset)) = entries.stray
        {
            let found = format!("{:?}", excerpt(key));
            let error = Error::malformed(offset, Fault::expected(KEYS, found));
            let error = error.in_field(EXTERNAL_DATA).in_tensor(parts.name);
            self.model.stray_key = error.under(&self.path).into_fault();
        }
        Ok(Payload::Dense {
            file,
            span: Span { start, len },
            field: PayloadField::ExternalData,
            element_bits: bits,
        })
    }

    fn external_file(
        &mut self,
        entries: &external::Entries<'a>,
        offset: u64,
    ) -> Result<FileId, Error> {
        let Some((location, offset)) = entries.location else {
            return Err(Error::malformed(offset, NO_LOCATION));
        };
        let (len, limit) = (location.len(), self.limits.location_bytes);
        fits(len, limit, "bytes in a location", offset)?;
        let location =
            external::normalise(location).map_err(|fault| Error::malformed(offset, fault))?;
        if let Some(&id) = self.external_ids.get(&location) {
            return Ok(id);
        }
        let (n, limit) = (self.model.external_files.len(), self.limits.external_files);
        within(n, limit, "external data files", offset)?;
        let id = FileId(n as u32 + 1);
        self.external_ids.insert(location.clone(), id);
        self.model.external_files.push(location);
        Ok(id)
    }
}

struct Parts<'a> {
    message: Span,
    name: &'a str,
    dims: Vec<u64>,
    /// The number in the file, and the offset of its field.
    data_type: (i32, u64),
    /// `data_location` is `EXTERNAL`.
    is_external: bool,
    /// The number of the field with the elements, and its offset.
    source: Option<(u32, u64)>,
    raw: Span,
    /// Elements in `float_data` or `double_data`.
    runs: Runs,
    coded: Coded,
    n_strings: u64,
    external: external::Entries<'a>,
}

impl<'a> Parts<'a> {
    /// Makes empty parts, which reuse the memory of `dims`.
    fn new(message: Span, mut dims: Vec<u64>) -> Parts<'a> {
        dims.clear();
        Parts {
            message,
            name: "",
            dims,
            data_type: (DataType::Undefined as i32, message.start),
            is_external: false,
            source: None,
            raw: Span { start: 0, len: 0 },
            runs: Runs::default(),
            coded: Coded::default(),
            n_strings: 0,
            external: external::Entries::default(),
        }
    }

    fn read(&mut self, message: Message<'a>, limits: &Limits) -> Result<(), Error> {
        for field in message.fields(&tensor::SCHEMA) {
            let field = field?;
            let has_elements = match field.number {
                tensor::float_data => self.runs.add(&field, 4)?,
                tensor::double_data => self.runs.add(&field, 8)?,
                tensor::int32_data | tensor::int64_data | tensor::uint64_data => {
                    self.coded.add(&field)?
                }
                tensor::string_data => {
                    field.message()?;
                    self.n_strings += 1;
                    true
                }
                tensor::raw_data => {
                    self.raw = field.message()?.span();
                    true
                }
                tensor::external_data => {
                    self.external.add(&field)?;
                    true
                }
                number => {
                    match number {
                        tensor::dims => self.read_dims(&field, limits)?,
                        tensor::data_type => self.data_type = (field.int32()?, field.offset),
                        tensor::name => self.name = field.string()?,
                        tensor::data_location => self.is_external = is_external(&field)?,
                        _ => {}
                    }
                    false
                }
            };
            if has_elements {
                self.found(&field)?;
            }
        }
        Ok(())
    }

    fn read_dims(&mut self, field: &Field<'a>, limits: &Limits) -> Result<(), Error> {
        field.varints(|dim| {
            within(self.dims.len(), limits.dims, "dims", field.offset)?;
            if i64::try_from(dim).is_err() {
                let fault = Fault::expected("a dimension of at least 0", dim as i64);
                return Err(Error::malformed(field.offset, fault));
            }
            self.dims.push(dim);
            Ok(())
        })
    }

    /// Notes the field with elements, and fails if there is another.
    fn found(&mut self, field: &Field<'_>) -> Result<(), Error> {
        let (first, _) = *self.source.get_or_insert((field.number, field.offset));
        if first != field.number {
            let [first, second] = [first, field.number].map(|n| tensor::SCHEMA.field_name(n));
            let found = format!("them in {first} and {second}");
            let fault = Fault::expected("elements in one field", found);
            return Err(field.name(Error::malformed(field.offset, fault)));
        }
        Ok(())
    }

    fn n_elements(&self) -> Result<u64, Error> {
        if self.dims.contains(&0) {
            return Ok(0);
        }
        let times = |n: u64, dim: &u64| n.checked_mul(*dim).filter(|n| *n <= MAX_SIZE);
        let too_large = || Error::malformed(self.message.start, TOO_LARGE);
        (self.dims.iter().try_fold(1, times))
            .ok_or_else(|| too_large().in_field("TensorProto.dims"))
    }

    fn data_type(&self, n_elements: u64) -> Result<DataType, Error> {
        let (found, offset) = self.data_type;
        match DataType::try_from(found) {
            Ok(data_type) if data_type != DataType::Undefined => Ok(data_type),
            _ if n_elements == 0 => Ok(DataType::Undefined),
            _ => Err(
                Error::malformed(offset, Fault::expected("a known data_type", found))
                    .in_field("TensorProto.data_type"),
            ),
        }
    }
}

fn is_external(field: &Field<'_>) -> Result<bool, Error> {
    let found = field.int32()?;
    match DataLocation::try_from(found) {
        Ok(location) => Ok(location == DataLocation::External),
        Err(_) => {
            let fault = Fault::expected("data_location 0 or 1", found);
            Err(field.name(Error::malformed(field.offset, fault)))
        }
    }
}
