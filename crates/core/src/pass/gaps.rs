//! Finds the bytes of external data files in which no tensor lies.

use onnxseal_onnx::Model;
use onnxseal_onnx::model::{FileId, Payload, Span};
use onnxseal_plan::Gap;
use onnxseal_store::Input;

use crate::error::{Error, Result};
use crate::format::manifest::Manifest;

const PIECE: u64 = 256 << 10;

/// Returns the gaps between the tensors of `model` in its `external` files, which are not all
/// zeros: zeros only align what follows them.
pub(crate) fn gaps<'i>(
    model: &Model<'_>,
    external: impl IntoIterator<Item = &'i Input>,
) -> Result<Vec<Gap>> {
    let mut spans: Vec<(FileId, Span)> = Vec::new();
    for tensor in &model.tensors {
        if let Payload::Dense { file, span, .. } = tensor.payload
            && file != FileId::MODEL
        {
            spans.push((file, span));
        }
    }
    // Most files have their tensors in order.
    if !spans.is_sorted() {
        spans.sort_unstable();
    }
    let mut spans = spans.into_iter().peekable();
    let mut gaps = Vec::new();
    for (file, input) in (1..).map(FileId).zip(external) {
        let mut end = 0;
        let mut hole = |start, end| {
            let len = u64::saturating_sub(end, start);
            let span = Span { start, len };
            if !is_zero(input, span)? {
                let location = model.location(file).unwrap_or_default().to_owned();
                gaps.push(Gap {
                    file,
                    location,
                    span,
                });
            }
            Ok::<_, Error>(())
        };
        while let Some((_, span)) = spans.next_if(|(of, _)| *of == file) {
            hole(end, span.start)?;
            end = end.max(span.end());
        }
        hole(end, input.len)?;
    }
    Ok(gaps)
}

/// Finds gaps as [`gaps`] does, in a protected model, under the names that the original's files have.
pub(crate) fn gaps_of_original<'i>(
    model: &Model<'_>,
    external: impl IntoIterator<Item = &'i Input>,
    manifest: &Manifest,
) -> Result<Vec<Gap>> {
    let mut gaps = gaps(model, external)?;
    let files = manifest.original_files();
    for gap in &mut gaps {
        if let Some(file) = files.get(gap.file.0 as usize) {
            gap.location.clone_from(&file.path);
        }
    }
    Ok(gaps)
}

fn is_zero(input: &Input, span: Span) -> Result<bool> {
    let mut piece = vec![0; span.len.min(PIECE) as usize];
    for at in (span.start..span.end()).step_by(PIECE as usize) {
        let piece = &mut piece[..(span.end() - at).min(PIECE) as usize];
        input.read_exact_at(piece, at)?;
        if piece.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}
