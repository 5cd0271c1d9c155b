//! Rewrites what cannot be encrypted where it lies, before a model is planned.

use onnxseal_onnx::detail::raw_elements;
use onnxseal_onnx::edit::{Elements, move_elements};
use onnxseal_onnx::model::{Payload, Span, Unpatchable};
use onnxseal_plan::Gap;
use onnxseal_store::Bytes;
use zeroize::Zeroizing;

use crate::check::rows::RepackedRow;
use crate::error::{Result, model as model_error};
use crate::pass::gaps::gaps;
use crate::pass::source::Source;

/// Moves elements that are coded as varints, or scattered over several fields, to `raw_data`, and
/// lists the bytes of external data files in which no tensor lies. Packed copies are such bytes, and
/// the model names them no more: ONNX Runtime would take zeros for weights.
pub(crate) fn repack(source: Source) -> Result<(Source, Vec<Gap>, Option<RepackedRow>)> {
    let model = source.locate(source.input.len)?;
    source.check_protectable(&model)?;
    let zeroed = gaps(&model, &source.open_external(&model)?)?;
    let is_coded = |why: &Unpatchable| {
        use Unpatchable::{Fragmented, Int32Data, Int64Data, Uint64Data};
        matches!(why, Int32Data | Int64Data | Uint64Data | Fragmented)
    };
    let coded = (model.tensors.iter())
        .filter(|tensor| matches!(&tensor.payload, Payload::Unpatchable(why) if is_coded(why)));
    let mut row = RepackedRow {
        tensors: 0,
        zeroed_bytes: zeroed.iter().map(|gap| gap.span.len).sum(),
    };
    if coded.clone().next().is_none() && model.prepacked.is_empty() {
        drop(model);
        return Ok((source, zeroed, Some(row)));
    }
    // Read all bytes: the source may hold only the structure.
    let bytes = Zeroizing::new(source.input.read_all()?);
    let malformed = |error| model_error(&source.input.path, &bytes, error);
    let mut raw: Vec<(Span, Zeroizing<Vec<u8>>)> = Vec::new();
    for tensor in coded {
        if let Some(elements) = raw_elements(&bytes, tensor).map_err(malformed)? {
            raw.push((tensor.message, Zeroizing::new(elements)));
        }
    }
    row.tensors = raw.len() as u64;
    let moved = raw
        .iter()
        .map(|(at, elements)| (*at, Elements::Inline(elements)));
    let unpacked = model.prepacked.iter().map(|at| (*at, Elements::Unpacked));
    let moved: Vec<_> = moved.chain(unpacked).collect();
    let mut edited = move_elements(&bytes, &moved).map_err(malformed)?;
    drop(model);
    let edited = Bytes::from(std::mem::take(&mut *edited));
    let source = Source::of(source.input.edited(edited));
    Ok((source, zeroed, Some(row)))
}
