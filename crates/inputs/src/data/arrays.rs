//! Files of one array: `.npy`, IDX, CIFAR's binary version.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Read, Seek, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use onnxseal_data::cifar::{self, PIXELS, SIDE};
use onnxseal_data::idx::{self, GZIP};
use onnxseal_data::npy::{self, Kind};
use onnxseal_data::{Format, Room};
use onnxseal_store::parallel::{for_each, lock, n_cores};
use onnxseal_store::{Output, Permitted, create_file, is_same_file, open_regular, read_exact_at};

use crate::apply::{Cipher, ValueType};
use crate::data::bytes::Transformer;
use crate::data::run::{Fault, Run, misfit, refused, unreadable};
use crate::data::sources::Task;
use crate::error::Error;
use crate::key::{InputKey, Layout, Order};

/// The approximate bytes that a core works on at once, which stay in its cache.
const CHUNK_BYTES: usize = 1 << 20;

/// The most values of an image, which limits the memory that a file may claim.
const MAX_IMAGE_VALUES: usize = 1 << 28;

/// Contiguous images in a file.
struct Images {
    cipher: Arc<Cipher>,
    n: u64,
    from: ValueType,
    to: ValueType,
    /// Bytes of labels before each image, which stay.
    label_bytes: usize,
    /// The offset of the first one.
    begin: u64,
    /// The header of the output.
    header: Vec<u8>,
}

/// Transforms a file.
pub(super) fn run(run: &Run, task: &Task) -> Result<(), Fault> {
    let mut file = open_regular(&task.source).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let images = match Format::of(&task.source) {
        Some(Format::Npy) => of_npy(run, &file, len)?,
        Some(Format::Cifar) => of_cifar(run, len)?,
        _ => {
            let mut first = Vec::new();
            (&file)
                .take(4)
                .read_to_end(&mut first)
                .map_err(unreadable)?;
            if !idx::is_idx(&first) {
                return refused(
                    "not a data set by its name (.npz, .npy, .bin, .png, .jpg) or its first bytes (IDX, gzipped or not), and no folder",
                );
            }
            file.rewind().map_err(unreadable)?;
            if first.starts_with(&GZIP) {
                return gzipped(run, task, file, len);
            }
            of_idx(run, &mut BufReader::new(&file), len, false)?
        }
    };
    records(run, task, &file, &images)
}

fn of_npy(run: &Run, file: &File, len: u64) -> Result<Images, Fault> {
    let header = npy::Header::read(&mut BufReader::new(file))?;
    check_length(len, header.len_bytes, header.elements_bytes)?;
    let from = value_type(&header.element)?;
    let to = run.result(from)?;
    let (cipher, n) = of_shape(run.key, &header.dims, len)?;
    let header_bytes = if from == to {
        let mut bytes = vec![0; header.len_bytes as usize];
        read_exact_at(file, &mut bytes, 0).map_err(unreadable)?;
        bytes
    } else {
        npy::Header::bytes_of(descr(to), &header.dims)
    };
    Ok(Images {
        cipher,
        n,
        from,
        to,
        label_bytes: 0,
        begin: header.len_bytes,
        header: header_bytes,
    })
}

fn of_cifar(run: &Run, len: u64) -> Result<Images, Fault> {
    let label_bytes = cifar::n_labels(len)?;
    run.stays(ValueType::U8, "CIFAR's binary version")?;
    check_channels(run.key, cifar::CHANNELS)?;
    Ok(Images {
        cipher: run.key.cipher_of_files(Layout::Nchw, SIDE, SIDE)?,
        n: len / (label_bytes + PIXELS) as u64,
        from: ValueType::U8,
        to: ValueType::U8,
        label_bytes,
        begin: 0,
        header: Vec::new(),
    })
}

/// Describes the images in an IDX file of `len` bytes, packed or not.
fn of_idx(run: &Run, from: &mut impl Read, len: u64, is_packed: bool) -> Result<Images, Fault> {
    let header = idx::Header::read(from)?;
    let begin = header.bytes.len() as u64;
    if !is_packed {
        check_length(len, begin, header.elements_bytes)?;
    }
    let from = match header.element {
        idx::Element::U8 => ValueType::U8,
        idx::Element::I8 => ValueType::I8,
        _ => return refused("of IDX, bytes are read: save larger elements as .npy or .npz"),
    };
    run.stays(from, "IDX")?;
    let (cipher, n) = of_shape(run.key, &header.dims, len)?;
    Ok(Images {
        cipher,
        n,
        from,
        to: from,
        label_bytes: 0,
        begin,
        header: header.bytes,
    })
}

/// Prepares the key for an array in a file of `len` bytes. Returns the number of images too.
pub(super) fn of_shape(
    key: &InputKey,
    dims: &[usize],
    len: u64,
) -> Result<(Arc<Cipher>, u64), Fault> {
    let is_stack = is_stack(key, dims);
    let (n, image) = match *dims {
        [n, rows, columns] if is_stack => (n, [1, rows, columns]),
        [n, a, b, c] => (n, [a, b, c]),
        [a, b, c] => (1, [a, b, c]),
        // This reports what is wrong with the axes.
        _ => return Ok((key.cipher_for(dims)?, 0)),
    };
    let values = image.iter().try_fold(1_usize, |n, dim| n.checked_mul(*dim));
    let Some(values @ ..=MAX_IMAGE_VALUES) = values else {
        return refused(format!(
            "an image of shape {image:?} is too large (limit {MAX_IMAGE_VALUES} values)"
        ));
    };
    // The key's table for the size, and an image, its masked values and the result.
    let n_bytes = values as u64 * (size_of::<u32>() + 3 * size_of::<f32>()) as u64;
    Room::of(len).claim(n_bytes, "save it unpacked")?;
    let cipher = if is_stack {
        key.cipher(image[1], image[2])?
    } else {
        key.cipher_for(dims)?
    };
    Ok((cipher, n as u64))
}

/// Returns whether three axes describe images of one channel without an axis for it.
fn is_stack(key: &InputKey, dims: &[usize]) -> bool {
    let has_axis = key.spec().layout == Layout::Nhwc && dims.last() == Some(&1);
    key.spec().channels == 1 && dims.len() == 3 && !has_axis
}

pub(super) fn check_channels(key: &InputKey, found: usize) -> Result<(), Fault> {
    match key.spec().channels as usize {
        wanted if wanted == found => Ok(()),
        wanted => misfit(format!(
            "it has images of {}, and the key is for {wanted}",
            match found {
                1 => "1 channel".to_owned(),
                n => format!("{n} channels"),
            }
        )),
    }
}

fn check_length(found: u64, header: u64, elements: u64) -> Result<(), Fault> {
    let wanted = header.saturating_add(elements);
    if found < wanted {
        return refused(format!("it ends after {found} of {wanted} bytes"));
    }
    if found > wanted {
        return refused(format!("it has more than the {wanted} bytes of its shape"));
    }
    Ok(())
}

/// Returns the value type of NumPy's elements.
pub(super) fn value_type(element: &npy::Element) -> Result<ValueType, Fault> {
    if element.is_big && element.width > 1 {
        return refused(
            "its elements have their highest byte first: save `array.astype(array.dtype.newbyteorder(\"<\"))`",
        );
    }
    match (element.kind, element.width) {
        (Kind::Unsigned, 1) => Ok(ValueType::U8),
        (Kind::Unsigned, 2) => Ok(ValueType::U16),
        (Kind::Signed, 1) => Ok(ValueType::I8),
        (Kind::Float, 2) => Ok(ValueType::F16),
        (Kind::Float, 4) => Ok(ValueType::F32),
        (kind, width) => refused(format!(
            "elements of {width} bytes ({kind:?}) are no pixels here: uint8, uint16, int8, float16 and float32 are"
        )),
    }
}

/// Returns NumPy's notation for a type.
pub(super) fn descr(of: ValueType) -> &'static str {
    match of {
        ValueType::U8 => "|u1",
        ValueType::U16 => "<u2",
        ValueType::I8 => "|i1",
        ValueType::F16 => "<f2",
        ValueType::F32 => "<f4",
    }
}

impl Images {
    fn transformer<'c>(&'c self, run: &'c Run) -> Transformer<'c> {
        Transformer {
            cipher: &self.cipher,
            decrypt: run.options.decrypt,
            scale: run.options.scale,
            from: self.from,
            to: self.to,
            floats: &run.floats,
        }
    }

    /// Returns the bytes of an image and its label, before and after.
    fn record_bytes(&self) -> (usize, usize) {
        let bytes = |of: ValueType| self.label_bytes + self.cipher.image_values() * of.len_bytes();
        (bytes(self.from), bytes(self.to))
    }
}

/// The buffers that a thread keeps between chunks.
#[derive(Default)]
struct Buffers {
    records: Vec<u8>,
    pixels: Vec<u8>,
}

/// Transforms the images in an unpacked file on all cores, chunk by chunk.
fn records(run: &Run, task: &Task, file: &File, images: &Images) -> Result<(), Fault> {
    let output = begin(run, &task.target)?;
    output.write_all_at(&images.header, 0)?;
    let (before, after) = images.record_bytes();
    let each = (CHUNK_BYTES / before.max(1)).max(1) as u64;
    let n_chunks = match before {
        0 => 0,
        _ => images.n.div_ceil(each),
    };
    let transformer = images.transformer(run);
    let work = |buffers: &mut Buffers, chunk: u64| -> Result<(), Fault> {
        let first = chunk * each;
        let n = each.min(images.n - first) as usize;
        let Buffers { records, pixels } = buffers;
        records.resize(n * before, 0);
        let begin = images.begin + first * before as u64;
        read_exact_at(file, records, begin).map_err(unreadable)?;
        let made: &[u8] = match images.label_bytes {
            0 => {
                transformer.run(records)?;
                records
            }
            labels => {
                pixels.clear();
                for record in records.chunks_exact(before) {
                    pixels.extend_from_slice(&record[labels..]);
                }
                transformer.run(pixels)?;
                // With labels, values keep their type.
                let each = records.chunks_exact_mut(before);
                for (record, pixels) in each.zip(pixels.chunks_exact(before - labels)) {
                    record[labels..].copy_from_slice(pixels);
                }
                records
            }
        };
        let at = images.header.len() as u64 + first * after as u64;
        output.write_all_at(made, at)?;
        run.advance((n * before) as u64)?;
        Ok(())
    };
    for_each(false, n_chunks, 0..n_chunks, Buffers::default, work)?;
    run.transformed(images.n);
    publish(run, task, output)
}

/// Unpacks images one after the other, transforms and packs them.
fn gzipped(run: &Run, task: &Task, file: File, len: u64) -> Result<(), Fault> {
    let mut from = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
    let images = of_idx(run, &mut from, len, true)?;
    let output = begin(run, &task.target)?;
    let Some((_, file)) = output.file() else {
        return refused("it is to become no file");
    };
    let mut to = GzEncoder::new(BufWriter::new(file), Compression::default());
    to.write_all(&images.header).map_err(unwritable(task))?;
    pump(
        run,
        task,
        &images.transformer(run),
        images.n,
        &mut from,
        &mut to,
    )?;
    let mut file = to.finish().map_err(unwritable(task))?;
    file.flush().map_err(unwritable(task))?;
    drop(file);
    run.transformed(images.n);
    run.advance(task.bytes)?;
    publish(run, task, output)
}

/// Transforms `n` images of a stream, which must end with them.
pub(super) fn pump(
    run: &Run,
    task: &Task,
    transformer: &Transformer,
    n: u64,
    from: &mut impl Read,
    to: &mut impl Write,
) -> Result<(), Fault> {
    let image_bytes = transformer.cipher.image_values() * transformer.from.len_bytes();
    let each = (CHUNK_BYTES / image_bytes.max(1)).max(1) as u64;
    // Fewer chunks for large images, since all of these are in memory at once.
    let n_chunks = (2 * n_cores() * CHUNK_BYTES / image_bytes.max(CHUNK_BYTES)).max(1);
    let mut left = match image_bytes {
        0 => 0,
        _ => n,
    };
    let mut chunks: Vec<Mutex<Vec<u8>>> = Vec::new();
    while left > 0 {
        // Chunks for all cores, read and written in order.
        let mut read = 0;
        while left > 0 && read < n_chunks {
            let n = each.min(left);
            if chunks.len() == read {
                chunks.push(Mutex::default());
            }
            let mut chunk = lock(&chunks[read]);
            chunk.clear();
            let wanted = n * image_bytes as u64;
            // Grows with the bytes that exist rather than with the claim.
            let found = from.take(wanted).read_to_end(&mut chunk);
            if (found.map_err(unreadable)? as u64) < wanted {
                return refused("it ends too early");
            }
            left -= n;
            read += 1;
        }
        let jobs = chunks[..read].iter();
        for_each(
            false,
            read as u64,
            jobs,
            || (),
            |(), chunk| transformer.run(&mut lock(chunk)),
        )?;
        for chunk in &chunks[..read] {
            to.write_all(&lock(chunk)).map_err(unwritable(task))?;
        }
        run.go_on()?;
    }
    // Reading to the end makes the archive check its sums.
    match from.read(&mut [0]).map_err(unreadable)? {
        0 => Ok(()),
        _ => refused("it has more than its shape says"),
    }
}

pub(super) fn begin(run: &Run, target: &Path) -> Result<Box<dyn Output>, Fault> {
    let mut spared = run.options.spared.iter();
    if spared.any(|file| is_same_file(file, target)) {
        let reason = format!("{} would be written over what is read", target.display());
        return Err(Fault::Fatal(Error::Usage(reason)));
    }
    Ok(create_file(target, 0, run.options.output.replace)?)
}

pub(super) fn publish(run: &Run, task: &Task, output: Box<dyn Output>) -> Result<(), Fault> {
    let like = Permitted::like(&fs::metadata(&task.source).map_err(unreadable)?);
    output.finish(run.options.output.flush)?;
    output.publish(like, run.options.output)?;
    Ok(())
}

/// Makes the fault for an output that cannot be written.
pub(super) fn unwritable(task: &Task) -> impl FnOnce(std::io::Error) -> Fault + '_ {
    move |error| onnxseal_store::io("write", &task.target)(error).into()
}

impl InputKey {
    /// Prepares the key for images of files, in the files' layout, with channels red, green, blue.
    pub(super) fn cipher_of_files(
        &self,
        layout: Layout,
        rows: usize,
        columns: usize,
    ) -> crate::error::Result<Arc<Cipher>> {
        self.cipher_by(layout, self.spec().order == Order::Bgr, rows, columns)
    }
}
