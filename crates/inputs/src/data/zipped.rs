//! `.npz`: a zip of arrays. Transforms the arrays of images in it.

use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};

use onnxseal_data::npy::{Header, MAX_ARRAYS};
use onnxseal_data::{LABELS, Room, Sink};
use onnxseal_store::open_regular;
use zip::result::ZipError;
use zip::{ZipArchive, ZipWriter};

use crate::data::arrays::{
    begin, check_channels, descr, of_shape, publish, pump, unwritable, value_type,
};
use crate::data::bytes::Transformer;
use crate::data::report::ArrayDone;
use crate::data::run::{Fault, Run, misfit, refused, unreadable};
use crate::data::sources::Task;
use crate::key::Layout;
use onnxseal_store::parallel::lock;

/// From this many bytes on, an entry's lengths are written in 64 bits.
const LARGE: u64 = u32::MAX as u64;

/// Transforms a file.
pub(super) fn run(run: &Run, task: &Task) -> Result<(), Fault> {
    let file = open_regular(&task.source).map_err(unreadable)?;
    let len = file.metadata().map_err(unreadable)?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(broken)?;
    if archive.len() > MAX_ARRAYS {
        return refused(format!(
            "it has {} arrays (limit {MAX_ARRAYS})",
            archive.len()
        ));
    }
    let headers = headers(run, &mut archive, len)?;
    if !headers.iter().any(Option::is_some) {
        return misfit(
            "none of its arrays is images: those have 4 axes, or 3 where the key is for 1 channel",
        );
    }
    let output = begin(run, &task.target)?;
    let Some((_, file)) = output.file() else {
        return refused("it is to become no file");
    };
    let mut to = ZipWriter::new(BufWriter::new(Sink::new(file)));
    let (mut done, mut n_images) = (Vec::new(), 0);
    for (i, header) in headers.into_iter().enumerate() {
        let entry = archive.by_index_raw(i).map_err(broken)?;
        let (packed_bytes, name) = (entry.compressed_size(), entry.name().to_owned());
        done.push(ArrayDone {
            path: task.source.clone(),
            name: name.strip_suffix(".npy").unwrap_or(&name).to_owned(),
            is_transformed: header.is_some(),
        });
        let Some(header) = header else {
            to.raw_copy_file(entry).map_err(unpackable(task))?;
            run.advance(packed_bytes)?;
            continue;
        };
        let options = entry.options();
        drop(entry);
        let from = value_type(&header.element)?;
        let to_type = run.result(from)?;
        let (cipher, n) = of_shape(run.key, &header.dims, len)?;
        let mut entry = archive.by_index(i).map_err(broken)?;
        let head = if from == to_type {
            let mut head = vec![0; header.len_bytes as usize];
            entry.read_exact(&mut head).map_err(unreadable)?;
            head
        } else {
            Header::read(&mut entry)?;
            Header::bytes_of(descr(to_type), &header.dims)
        };
        // Packing makes noise slightly longer.
        let len = header
            .elements_bytes
            .saturating_mul(4)
            .saturating_add(LARGE / 8);
        to.start_file(&name, options.large_file(len > LARGE))
            .map_err(unpackable(task))?;
        to.write_all(&head).map_err(unwritable(task))?;
        let transformer = Transformer {
            cipher: &cipher,
            decrypt: run.options.decrypt,
            scale: run.options.scale,
            from,
            to: to_type,
            floats: &run.floats,
        };
        pump(run, task, &transformer, n, &mut entry, &mut to)?;
        n_images += n;
        run.advance(packed_bytes)?;
    }
    let mut file = to.finish().map_err(unpackable(task))?;
    file.flush().map_err(unwritable(task))?;
    drop(file);
    publish(run, task, output)?;
    run.transformed(n_images);
    lock(&run.report).arrays.extend(done);
    Ok(())
}

/// Returns, for each entry of a file of `len` bytes, its header if it has images to transform.
fn headers(
    run: &Run,
    archive: &mut ZipArchive<BufReader<File>>,
    len: u64,
) -> Result<Vec<Option<Header>>, Fault> {
    let (mut headers, mut room) = (Vec::new(), Room::of(len));
    for i in 0..archive.len() {
        let mut entry = archive.by_index(i).map_err(broken)?;
        let name = entry.name().strip_suffix(".npy").map(str::to_owned);
        let Some(name) = name.filter(|name| !LABELS.contains(&name.as_str())) else {
            headers.push(None);
            continue;
        };
        let in_array = |fault: Fault| fault.in_array(&name);
        // Entries other than arrays of numbers are copied too.
        let header = Header::read(&mut entry).ok().filter(|header| {
            let is_grey = run.key.spec().channels == 1;
            header.dims.len() == 4 || (header.dims.len() == 3 && is_grey)
        });
        if let Some(header) = &header {
            let channels = match (run.key.spec().layout, &header.dims[..]) {
                (Layout::Nchw, [_, channels, _, _]) | (Layout::Nhwc, [_, _, _, channels]) => {
                    *channels
                }
                _ => 1,
            };
            check_channels(run.key, channels).map_err(in_array)?;
            let of = value_type(&header.element).map_err(in_array)?;
            run.result(of).map_err(in_array)?;
            room.unpack(header.elements_bytes)?;
            of_shape(run.key, &header.dims, len).map_err(in_array)?;
        }
        headers.push(header);
    }
    Ok(headers)
}

fn broken(error: ZipError) -> Fault {
    match error {
        ZipError::Io(error) => unreadable(error),
        other => Fault::Refused(format!("not a zip of arrays that can be read ({other})")),
    }
}

fn unpackable(task: &Task) -> impl FnOnce(ZipError) -> Fault + '_ {
    move |error| unwritable(task)(error.into())
}
