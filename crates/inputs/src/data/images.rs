//! Image files, one by one.

use onnxseal_data::Format;
use onnxseal_data::images::{Samples, decode};

use crate::apply::{ImagesMut, Scale, ValueType};
use crate::data::arrays::{begin, check_channels, publish};
use crate::data::run::{Fault, Run, refused};
use crate::data::sources::Task;
use crate::key::Layout;

/// Transforms an image, and packs it in `encoded`.
pub(super) fn run(encoded: &mut Vec<u8>, run: &Run, task: &Task) -> Result<(), Fault> {
    if run.options.decrypt && Format::of(&task.source) == Some(Format::Jpeg) {
        return refused("keyed images are never JPEG, which would lose what the key made");
    }
    let mut image = decode(&task.source)?;
    if !matches!(image.channels, 1 | 3) {
        return refused("it has an alpha channel, which models do not take: save it without");
    }
    let of = match image.samples {
        Samples::U8(_) => ValueType::U8,
        Samples::U16(_) => ValueType::U16,
    };
    run.stays(of, "PNG")?;
    check_channels(run.key, image.channels)?;
    let (rows, columns) = (image.rows as usize, image.columns as usize);
    let cipher = run.key.cipher_of_files(Layout::Nhwc, rows, columns)?;
    let values = match &mut image.samples {
        Samples::U8(values) => ImagesMut::U8(values),
        Samples::U16(values) => ImagesMut::U16(values),
    };
    if run.options.decrypt {
        cipher.invert_in_place(values, Scale::Pixels)?
    } else {
        cipher.apply_in_place(values, Scale::Pixels)?
    }
    encoded.clear();
    image
        .encode(encoded)
        .map_err(|error| Fault::Refused(format!("it does not become PNG: {error}")))?;
    let output = begin(run, &task.target)?;
    output.write_all_at(encoded, 0)?;
    publish(run, task, output)?;
    run.transformed(1);
    Ok(())
}
