//! Files of arrays: `.npy`, and `.npz`, a zip of these.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Write};
use std::sync::Arc;

use onnxseal_data::npy::{Element, Header, Kind, MAX_ARRAYS};
use onnxseal_data::{LABELS, Room, Sink};
use onnxseal_store::parallel::{for_each, lock, n_cores};
use onnxseal_store::{Output, Permitted, create_file, is_same_file, open_regular};
use zip::result::ZipError;
use zip::{ZipArchive, ZipWriter};

use crate::apply::{Cipher, ValueType};
use crate::data::report::ArrayDone;
use crate::data::run::{Fault, Run, Task, misfit, refused, unreadable};
use crate::error::{Error, Result};
use crate::key::Layout;
use crate::values::Values;

/// The approximate bytes that a core works on at once, which stay in its cache.
const CHUNK_BYTES: usize = 1 << 20;

/// From this many bytes on, an entry's lengths are written in 64 bits.
const LARGE: u64 = u32::MAX as u64;

/// The types of values: NumPy's kind and width in bytes, and its notation.
const TYPES: [(Kind, usize, ValueType, &str); 5] = [
    (Kind::Unsigned, 1, ValueType::U8, "|u1"),
    (Kind::Unsigned, 2, ValueType::U16, "<u2"),
    (Kind::Signed, 1, ValueType::I8, "|i1"),
    (Kind::Float, 2, ValueType::F16, "<f2"),
    (Kind::Float, 4, ValueType::F32, "<f4"),
];

pub(super) fn npy(run: &Run, task: &Task) -> Result<(), Fault> {
    let (file, len) = opened(task)?;
    let mut from = BufReader::new(file);
    let header = Header::read(&mut from)?;
    let images = Images::of(run, &header, len)?;
    let output = begin(run, task)?;
    let mut to = BufWriter::new(file_of(&*output)?);
    images.pump(task, len, &mut from, &mut to)?;
    to.flush().map_err(unwritable(task))?;
    drop(to);
    run.transformed(images.n);
    publish(run, task, output)
}

/// Transforms the arrays of images in an `.npz`, and copies the others.
pub(super) fn npz(run: &Run, task: &Task) -> Result<(), Fault> {
    let (file, len) = opened(task)?;
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    let n = archive.len();
    if n > MAX_ARRAYS {
        return refused(format!("it has {n} arrays (limit {MAX_ARRAYS})"));
    }
    let output = begin(run, task)?;
    let mut to = ZipWriter::new(BufWriter::new(Sink::new(file_of(&*output)?)));
    let packing = |error: ZipError| unwritable(task)(error.into());
    let (mut room, mut n_images, mut done) = (Room::of(len), 0, Vec::new());
    for i in 0..n {
        let mut entry = archive.by_index(i).map_err(broken)?;
        let (file, packed_bytes) = (entry.name().to_owned(), entry.compressed_size());
        let options = entry.options();
        let name = file.strip_suffix(".npy");
        let header = name.and_then(|name| header_of_images(run, name, &mut entry));
        let name = name.unwrap_or(&file);
        done.push(ArrayDone {
            path: task.source.clone(),
            name: name.to_owned(),
            is_transformed: header.is_some(),
        });
        let Some(header) = header else {
            drop(entry);
            let entry = archive.by_index_raw(i).map_err(broken)?;
            to.raw_copy_file(entry).map_err(packing)?;
            run.advance(packed_bytes)?;
            continue;
        };
        room.unpack(header.elements_bytes)?;
        let in_array = |fault: Fault| fault.in_array(name);
        let images = Images::of(run, &header, len).map_err(in_array)?;
        // The widest result has four times the bytes, and packing makes noise slightly longer.
        let most = header.elements_bytes.saturating_mul(4);
        let is_large = most.saturating_add(LARGE / 8) > LARGE;
        to.start_file(&file, options.large_file(is_large))
            .map_err(packing)?;
        let pumped = images.pump(task, packed_bytes, &mut entry, &mut to);
        pumped.map_err(in_array)?;
        n_images += images.n;
    }
    if !done.iter().any(|array| array.is_transformed) {
        return misfit(
            "none of its arrays is images: those have 4 axes, or 3 where the key is for 1 channel",
        );
    }
    let mut file = to.finish().map_err(packing)?;
    file.flush().map_err(unwritable(task))?;
    drop(file);
    publish(run, task, output)?;
    run.transformed(n_images);
    lock(&run.report).arrays.extend(done);
    Ok(())
}

/// Reads the header of an entry of an archive, if it is an array of images.
fn header_of_images(run: &Run, name: &str, entry: &mut impl Read) -> Option<Header> {
    if LABELS.contains(&name) {
        return None;
    }
    let header = Header::read(entry).ok()?;
    let n_axes = header.dims.len();
    (n_axes == 4 || (n_axes == 3 && run.key.spec().channels == 1)).then_some(header)
}

/// An array of images, and what becomes of it.
struct Images<'r> {
    run: &'r Run<'r>,
    cipher: Arc<Cipher>,
    n: u64,
    from: ValueType,
    to: ValueType,
    /// The header of the result.
    header: Vec<u8>,
}

impl<'r> Images<'r> {
    /// Prepares the key for an array in a file of `len` bytes.
    fn of(run: &'r Run<'r>, header: &Header, len: u64) -> Result<Images<'r>, Fault> {
        let from = value_type(&header.element)?;
        let to = run.result(from)?;
        let spec = run.key.spec();
        // Images of one channel need no axis for it.
        let has_axis = spec.layout == Layout::Nhwc && header.dims.last() == Some(&1);
        let is_grey = spec.channels == 1 && header.dims.len() == 3 && !has_axis;
        let (n, image) = match &header.dims[..] {
            [n, image @ ..] if image.len() == 3 || is_grey => (*n, image),
            image => (1, image),
        };
        // The key's table for the size, and an image, its masked values and the result.
        let each = (size_of::<u32>() + 3 * size_of::<f32>()) as u64;
        let n_bytes = image
            .iter()
            .fold(each, |n, dim| n.saturating_mul(*dim as u64));
        Room::of(len).claim(n_bytes, "save it unpacked")?;
        let cipher = match *image {
            [rows, columns] if is_grey => run.key.cipher(rows, columns)?,
            _ => run.key.cipher_for(&header.dims)?,
        };
        let notation = TYPES.iter().find(|(_, _, of, _)| *of == to);
        Ok(Images {
            run,
            cipher,
            n: n as u64,
            from,
            to,
            header: Header::bytes_of(notation.map_or("", |of| of.3), &header.dims),
        })
    }

    /// Transforms the images of a stream, which must end with them, and writes the array. Of the
    /// source, `bytes` bytes are the array.
    fn pump(
        &self,
        task: &Task,
        bytes: u64,
        from: &mut impl Read,
        to: &mut impl Write,
    ) -> Result<(), Fault> {
        to.write_all(&self.header).map_err(unwritable(task))?;
        let image_bytes = self.cipher.image_values() * self.from.len_bytes();
        let each = (CHUNK_BYTES / image_bytes.max(1)).max(1) as u64;
        // Fewer chunks for large images, since all of these are in memory at once.
        let n_chunks = (2 * n_cores() * CHUNK_BYTES / image_bytes.max(CHUNK_BYTES)).max(1);
        let mut chunks = vec![Vec::new(); n_chunks];
        let n = if image_bytes == 0 { 0 } else { self.n };
        let (mut done, mut advanced) = (0, 0);
        while done < n {
            // Chunks for all cores, read and written in order.
            let mut read = 0;
            for chunk in &mut chunks {
                chunk.clear();
                let wanted = each.min(n - done) * image_bytes as u64;
                // Grows with the bytes that exist rather than with the claim.
                let found = from.take(wanted).read_to_end(chunk);
                if (found.map_err(unreadable)? as u64) < wanted {
                    return refused("it ends too early");
                }
                done += each.min(n - done);
                read += usize::from(wanted > 0);
            }
            let chunks = &mut chunks[..read];
            let transform = |(): &mut (), chunk| self.transform(chunk);
            for_each(false, read as u64, chunks.iter_mut(), || (), transform)?;
            for chunk in chunks {
                to.write_all(chunk).map_err(unwritable(task))?;
            }
            let share = (u128::from(bytes) * u128::from(done) / u128::from(n)) as u64;
            self.run.advance(share - advanced)?;
            advanced = share;
        }
        // Reading to the end makes the archive check its sums.
        match from.read(&mut [0]).map_err(unreadable)? {
            0 => Ok(()),
            _ => refused("it has more than its shape says"),
        }
    }

    /// Transforms the little-endian values of some images, which may change their type.
    fn transform(&self, bytes: &mut Vec<u8>) -> Result<()> {
        let Images { run, cipher, .. } = self;
        let (direction, scale) = (run.direction(), run.options.scale);
        if (self.from, self.to) == (ValueType::U8, ValueType::U8) {
            return cipher.replace(direction, (&mut bytes[..]).into(), scale);
        }
        let mut from = Values::of_bytes(self.from, bytes);
        if self.from.is_float() && !run.options.decrypt {
            run.see(&from.to_numbers());
        }
        if self.from == self.to {
            cipher.replace(direction, from.values_mut(), scale)?;
            from.to_bytes(bytes);
        } else {
            let mut to = Values::zeros(self.to, bytes.len() / self.from.len_bytes());
            cipher.convert(direction, from.values(), to.values_mut(), scale)?;
            to.to_bytes(bytes);
        }
        Ok(())
    }
}

fn value_type(element: &Element) -> Result<ValueType, Fault> {
    let Element {
        kind,
        width,
        is_big,
    } = *element;
    if is_big && width > 1 {
        return refused(
            "its elements have their highest byte first: save `array.astype(array.dtype.newbyteorder(\"<\"))`",
        );
    }
    match TYPES.iter().find(|of| (of.0, of.1) == (kind, width)) {
        Some((_, _, of, _)) => Ok(*of),
        None => refused(format!(
            "elements of {width} bytes ({kind:?}) are no pixels here: uint8, uint16, int8, float16 and float32 are"
        )),
    }
}

fn opened(task: &Task) -> Result<(File, u64), Fault> {
    let file = open_regular(&task.source).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    Ok((file, len))
}

pub(super) fn begin(run: &Run, task: &Task) -> Result<Box<dyn Output>, Fault> {
    let target = &task.target;
    let mut spared = run.options.spared.iter();
    if spared.any(|file| is_same_file(file, target)) {
        let reason = format!("{} would be written over what is read", target.display());
        return Err(Fault::Fatal(Error::Usage(reason)));
    }
    Ok(create_file(target, 0, run.options.output.replace)?)
}

fn file_of(output: &dyn Output) -> Result<&File, Fault> {
    output
        .file()
        .map_or_else(|| refused("it is to become no file"), |(_, file)| Ok(file))
}

pub(super) fn publish(run: &Run, task: &Task, output: Box<dyn Output>) -> Result<(), Fault> {
    let like = Permitted::like(&fs::metadata(&task.source).map_err(unreadable)?);
    output.finish(run.options.output.flush)?;
    output.publish(like, run.options.output)?;
    Ok(())
}

fn unwritable(task: &Task) -> impl FnOnce(std::io::Error) -> Fault + '_ {
    move |error| onnxseal_store::io("write", &task.target)(error).into()
}

fn broken(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => unreadable(error),
        other => Fault::Refused(format!("not a zip of arrays that can be read ({other})")),
    }
}
