//! One tensor: its shape, its type, and where its elements lie.

use super::attribute::Holder;
use super::payload::{
    Coded, MAX_SIZE, TOO_LARGE, coded, count, fixed, length, misplaced, n_bytes, raw, strings,
};
use super::runs::Runs;
use super::{Locator, fits, within};
use crate::data_type::element_bits;
use crate::error::{Error, Fault, excerpt};
use crate::limits::Limits;
use crate::model::{FileId, GraphId, Payload, PayloadField, Span, Tensor, TensorRole, Unpatchable};
use crate::proto::tensor_proto::{DataLocation, DataType};
use crate::wire::{Field, Message, Value};
use crate::{external, schema};

const NO_LOCATION: &str = "expected external_data to have a location, found none";
/// The entries of `external_data` that ONNX Runtime accepts.
const KEYS: &str = "keys location, offset, length, checksum or prepacked, and a value";

impl<'a> Locator<'a, '_> {
    pub(super) fn initializer(&mut self, graph: GraphId, field: Field<'a>) -> Result<(), Error> {
        self.tensor(graph, TensorRole::Initializer, None, field)
    }

    pub(super) fn held_tensor(
        &mut self,
        graph: GraphId,
        holder: Holder<'a>,
        field: Field<'a>,
    ) -> Result<(), Error> {
        self.tensor(graph, holder.place(), Some(holder.value_name), field)
    }

    /// Reads values and indices of a sparse tensor, which belongs to an attribute if there is a
    /// holder.
    pub(super) fn sparse_tensor(
        &mut self,
        graph: GraphId,
        holder: Option<Holder<'a>>,
        field: Field<'a>,
    ) -> Result<(), Error> {
        let name = holder.map(|holder| holder.value_name);
        let mut fields = field.message()?.fields(schema::SPARSE_TENSOR);
        while let Some(field) = fields.next()? {
            let (place, segment) = match field.number {
                1 => (TensorRole::SparseValues, "values"),
                2 => (TensorRole::SparseIndices, "indices"),
                _ => continue,
            };
            let mark = self.enter(segment);
            self.tensor(graph, place, name, field)?;
            self.leave(mark);
        }
        Ok(())
    }

    pub(super) fn push_tensor(&mut self, tensor: Tensor<'a>) -> Result<(), Error> {
        let limit = self.limits.tensors;
        within(self.model.tensors.len(), limit, "tensors", tensor.offset)?;
        let holder = match tensor.place {
            TensorRole::Attribute { attribute, .. } => attribute.len(),
            _ => 0,
        };
        self.name_bytes = self
            .name_bytes
            .saturating_add(tensor.name.len())
            .saturating_add(holder);
        let (bytes, limit) = (self.name_bytes, self.limits.name_bytes);
        fits(bytes, limit, "bytes of tensor names", tensor.offset)?;
        self.model.tensors.push(tensor);
        Ok(())
    }

    fn tensor(
        &mut self,
        graph: GraphId,
        place: TensorRole<'a>,
        name: Option<&'a str>,
        field: Field<'a>,
    ) -> Result<(), Error> {
        let message = field.message()?;
        let mut parts = Parts::new(message, std::mem::take(&mut self.dims));
        let located = parts
            .read(message, self.limits)
            .and_then(|()| self.located(graph, place, name, &mut parts));
        let shown = name.unwrap_or(parts.name);
        self.dims = parts.dims;
        located.map_err(|error| error.in_tensor(shown))
    }

    fn located(
        &mut self,
        graph: GraphId,
        place: TensorRole<'a>,
        name: Option<&'a str>,
        parts: &mut Parts<'a>,
    ) -> Result<(), Error> {
        let n_elements = parts.n_elements()?;
        let data_type = parts.data_type(n_elements)?;
        let payload = self.payload(parts, data_type, n_elements)?;
        let path = self.path_here(parts.offset)?;
        self.push_tensor(Tensor {
            name: name.unwrap_or(parts.name),
            graph,
            place,
            path,
            data_type,
            dims: parts.dims.to_vec(),
            n_elements,
            offset: parts.offset,
            len: parts.len,
            payload,
        })
    }

    fn payload(
        &mut self,
        parts: &Parts<'a>,
        data_type: DataType,
        n: u64,
    ) -> Result<Payload, Error> {
        if parts.is_external && !matches!(parts.source, Some((Source::External, _))) {
            return Err(Error::malformed(parts.offset, NO_LOCATION));
        }
        let Some((source, offset)) = parts.source else {
            return match n {
                0 => Ok(Payload::Empty),
                _ => Err(Error::malformed(parts.offset, count(n, 0))),
            };
        };
        let payload = match source {
            Source::Raw => raw(parts.raw, data_type, n),
            Source::Float => fixed(parts.floats, data_type, n, PayloadField::FloatData),
            Source::Double => fixed(parts.doubles, data_type, n, PayloadField::DoubleData),
            Source::Int32 => coded(parts.coded, data_type, n, Unpatchable::Int32Data),
            Source::Int64 => coded(parts.coded, data_type, n, Unpatchable::Int64Data),
            Source::Uint64 => coded(parts.coded, data_type, n, Unpatchable::Uint64Data),
            Source::String => strings(parts.n_strings, data_type, n),
            Source::External if parts.is_external => {
                return self
                    .external(parts, data_type, n)
                    .map_err(|error| error.in_field(source.field_name()));
            }
            // ONNX ignores external_data unless data_location says otherwise.
            Source::External if n == 0 => Ok(Payload::Empty),
            Source::External => Err(count(n, 0)),
        };
        payload.map_err(|fault| Error::malformed(offset, fault).in_field(source.field_name()))
    }

    fn external(
        &mut self,
        parts: &Parts<'a>,
        data_type: DataType,
        n: u64,
    ) -> Result<Payload, Error> {
        let at = |fault: Fault| Error::malformed(parts.offset, fault);
        let bits = element_bits(data_type).ok_or_else(|| at(misplaced(data_type)))?;
        let expected = n_bytes(n, bits).map_err(at)?;
        let entries = &parts.external;
        let file = self.external_file(entries, parts.offset)?;
        let len = entries.length.filter(|len| *len > 0).unwrap_or(expected);
        if len != expected {
            return Err(at(length(expected, len)));
        }
        let start = entries.offset.unwrap_or(0);
        if start.checked_add(len).is_none_or(|end| end > MAX_SIZE) {
            return Err(at(TOO_LARGE.into()));
        }
        if entries.is_prepacked {
            self.model.prepacked.push(Span {
                start: parts.offset,
                len: parts.len,
            });
        }
        if self.model.stray_key.is_none()
            && let Some((key, offset)) = entries.stray
        {
            let found = format!("{:?}", excerpt(key));
            let error = Error::malformed(offset, Fault::expected(KEYS, found));
            let error = error.in_field(Source::External.field_name());
            self.model.stray_key = error.in_tensor(parts.name).under(&self.path).into_fault();
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
        let limit = self.limits.location_bytes;
        if location.len() > limit as usize {
            return Err(Error::limit(
                offset,
                "bytes in a location",
                u64::from(limit),
            ));
        }
        let location =
            external::normalise(location).map_err(|fault| Error::malformed(offset, fault))?;
        if let Some(&id) = self.external_ids.get(&location) {
            return Ok(id);
        }
        let n_files = self.model.external_files.len();
        within(
            n_files,
            self.limits.external_files,
            "external data files",
            offset,
        )?;
        let id = FileId(n_files as u32 + 1);
        self.external_ids.insert(location.clone(), id);
        self.model.external_files.push(location);
        Ok(id)
    }
}

/// The fields of a `TensorProto`.
struct Parts<'a> {
    /// Offset of the message.
    offset: u64,
    /// Length of the message.
    len: u64,
    name: &'a str,
    dims: Vec<u64>,
    /// The number in the file, and the offset of its field.
    data_type: (i32, u64),
    /// `data_location` is `EXTERNAL`.
    is_external: bool,
    /// The field with the elements, and its offset.
    source: Option<(Source, u64)>,
    raw: Span,
    floats: Runs,
    doubles: Runs,
    coded: Coded,
    n_strings: u64,
    external: external::Entries<'a>,
}

/// The fields that can contain elements.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Raw,
    Float,
    Double,
    Int32,
    Int64,
    Uint64,
    String,
    External,
}

impl Source {
    fn field_name(self) -> &'static str {
        match self {
            Source::Raw => "TensorProto.raw_data",
            Source::Float => "TensorProto.float_data",
            Source::Double => "TensorProto.double_data",
            Source::Int32 => "TensorProto.int32_data",
            Source::Int64 => "TensorProto.int64_data",
            Source::Uint64 => "TensorProto.uint64_data",
            Source::String => "TensorProto.string_data",
            Source::External => "TensorProto.external_data",
        }
    }
}

impl<'a> Parts<'a> {
    /// Makes empty parts, which reuse the memory of `dims`.
    fn new(message: Message<'a>, mut dims: Vec<u64>) -> Parts<'a> {
        dims.clear();
        Parts {
            offset: message.offset(),
            len: message.span().len,
            name: "",
            dims,
            data_type: (DataType::Undefined as i32, message.offset()),
            is_external: false,
            source: None,
            raw: Span { start: 0, len: 0 },
            floats: Runs::default(),
            doubles: Runs::default(),
            coded: Coded::default(),
            n_strings: 0,
            external: external::Entries::default(),
        }
    }

    fn read(&mut self, message: Message<'a>, limits: &Limits) -> Result<(), Error> {
        let mut fields = message.fields(schema::TENSOR);
        while let Some(field) = fields.next()? {
            match field.number {
                1 => self.read_dims(&field, limits)?,
                2 => self.data_type = (field.int32()?, field.offset),
                4 => {
                    self.floats.add(&field, 4)?;
                    self.found_if(self.floats.n > 0, Source::Float, &field)?;
                }
                5 => self.read_coded(&field, Source::Int32)?,
                6 => {
                    field.message()?;
                    self.n_strings += 1;
                    self.found(Source::String, &field)?;
                }
                7 => self.read_coded(&field, Source::Int64)?,
                8 => self.name = field.string()?,
                9 => {
                    self.raw = field.message()?.span();
                    self.found(Source::Raw, &field)?;
                }
                10 => {
                    self.doubles.add(&field, 8)?;
                    self.found_if(self.doubles.n > 0, Source::Double, &field)?;
                }
                11 => self.read_coded(&field, Source::Uint64)?,
                13 => {
                    self.external.add(&field)?;
                    self.found(Source::External, &field)?;
                }
                14 => self.is_external = is_external(&field)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn read_dims(&mut self, field: &Field<'a>, limits: &Limits) -> Result<(), Error> {
        let Value::Delimited(packed) = field.value else {
            return self.read_dim(field.varint()?, field, limits);
        };
        let mut dims = packed.varints();
        while let Some(dim) = dims.next().map_err(|error| field.name(error))? {
            self.read_dim(dim, field, limits)?;
        }
        Ok(())
    }

    fn read_dim(&mut self, dim: u64, field: &Field<'a>, limits: &Limits) -> Result<(), Error> {
        within(self.dims.len(), limits.dims, "dims", field.offset)
            .map_err(|error| field.name(error))?;
        if i64::try_from(dim).is_err() {
            let fault = Fault::expected("a dimension of at least 0", dim as i64);
            return Err(field.name(Error::malformed(field.offset, fault)));
        }
        self.dims.push(dim);
        Ok(())
    }

    fn read_coded(&mut self, field: &Field<'a>, source: Source) -> Result<(), Error> {
        match field.value {
            Value::Varint(_) => self.coded.n_unpacked += 1,
            Value::Delimited(packed) if packed.span().len == 0 => return Ok(()),
            Value::Delimited(packed) => self.coded.packed_bytes += packed.span().len,
            _ => return Err(field.wire_type("a varint or a length-delimited value")),
        }
        self.found(source, field)
    }

    fn found_if(&mut self, any: bool, source: Source, field: &Field<'_>) -> Result<(), Error> {
        if any {
            self.found(source, field)
        } else {
            Ok(())
        }
    }

    /// Notes the field with elements, and fails if there is another.
    fn found(&mut self, source: Source, field: &Field<'_>) -> Result<(), Error> {
        let (first, _) = *self.source.get_or_insert((source, field.offset));
        if first != source {
            let found = format!("them in {} and {}", first.field_name(), source.field_name());
            let fault = Fault::expected("elements in one field", found);
            return Err(field.name(Error::malformed(field.offset, fault)));
        }
        Ok(())
    }

    /// Returns the product of the dimensions.
    fn n_elements(&self) -> Result<u64, Error> {
        if self.dims.contains(&0) {
            return Ok(0);
        }
        self.dims
            .iter()
            .try_fold(1_u64, |n, &dim| {
                n.checked_mul(dim).filter(|&n| n <= MAX_SIZE)
            })
            .ok_or_else(|| Error::malformed(self.offset, TOO_LARGE).in_field("TensorProto.dims"))
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
