//! Image files, one by one.

use onnxseal_data::Format;
use onnxseal_data::images::{Samples, decode};

use crate::apply::{ImagesMut, Scale};
use crate::data::arrays::{begin, publish};
use crate::data::run::{Fault, Run, Task, misfit, refused};
use crate::key::{Layout, Order};

/// Transforms an image, and packs it in `encoded`.
pub(super) fn run(encoded: &mut Vec<u8>, run: &Run, task: &Task) -> Result<(), Fault> {
    if run.options.decrypt && Format::of(&task.source) == Some(Format::Jpeg) {
        return refused("keyed images are never JPEG, which would lose what the key made");
    }
    let mut image = decode(&task.source)?;
    if !matches!(image.channels, 1 | 3) {
        return refused("it has an alpha channel, which models do not take: save it without");
    }
    let values = match &mut image.samples {
        Samples::U8(values) => ImagesMut::U8(values),
        Samples::U16(values) => ImagesMut::U16(values),
    };
    let (of, spec) = (values.value_type(), run.key.spec());
    if !run.results(of).contains(&of) {
        return refused("PNG cannot hold what the key makes of it; .npy and .npz can");
    }
    if image.channels != spec.channels as usize {
        return misfit(match image.channels {
            1 => format!("it has 1 channel, and the key is for {}", spec.channels),
            n => format!("it has {n} channels, and the key is for {}", spec.channels),
        });
    }
    let (rows, columns) = (image.rows as usize, image.columns as usize);
    let is_reversed = spec.order == Order::Bgr;
    let cipher = (run.key).cipher_by((Layout::Nhwc, is_reversed), rows, columns)?;
    cipher.replace(run.direction(), values, Scale::Pixels)?;
    encoded.clear();
    image
        .encode(encoded)
        .map_err(|error| Fault::Refused(format!("it does not become PNG: {error}")))?;
    let output = begin(run, task)?;
    output.write_all_at(encoded, 0)?;
    publish(run, task, output)?;
    run.transformed(1);
    Ok(())
}
