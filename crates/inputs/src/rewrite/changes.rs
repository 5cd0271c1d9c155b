//! What of a model's files changes.

use onnxseal_onnx::edit::{Change, set_elements};
use onnxseal_onnx::model::{FileId, Payload, Span, Tensor, TensorId};

use crate::error::Result;
use crate::refusal::Refusal;
use crate::rewrite::elements::{Elements, width};
use crate::rewrite::graph::{Graph, slice};

/// What of a model's files changes.
#[derive(Default)]
pub(super) struct Changes {
    /// Ranges, and as many bytes in their place.
    pub(super) ranges: Vec<(FileId, Span, Vec<u8>)>,
    /// What changes the model file's length.
    pub(super) inserts: Vec<Change>,
    /// Names of the tensors.
    pub(super) tensors: Vec<String>,
}

/// Notes that the elements of a tensor change.
pub(super) fn replace(
    graph: &Graph<'_>,
    id: TensorId,
    elements: Elements,
    changes: &mut Changes,
) -> Result<()> {
    let tensor = graph.tensor(id)?;
    check_alone(graph, id, tensor)?;
    changes.tensors.push(tensor.name.to_owned());
    match &tensor.payload {
        Payload::Empty => {}
        Payload::Dense { file, span, .. } => {
            changes.ranges.push((*file, *span, elements.into_raw()))
        }
        Payload::Strided { start, stride, .. } => {
            let width = width(elements.data_type()).unwrap_or(1);
            let n = tensor.n_elements.saturating_sub(1);
            let len = n
                .saturating_mul(u64::from(*stride))
                .saturating_add(width as u64);
            let span = Span { start: *start, len };
            let mut text = slice(graph.source.bytes, span).unwrap_or_default().to_vec();
            let places = text.chunks_mut((*stride).max(1) as usize);
            for (place, element) in places.zip(elements.raw().chunks_exact(width)) {
                if let Some(place) = place.get_mut(..width) {
                    place.copy_from_slice(element);
                }
            }
            changes.ranges.push((FileId::MODEL, span, text));
        }
        Payload::Unpatchable(_) => {
            let set = set_elements(graph.source.bytes, tensor, elements.raw())?;
            changes.inserts.extend(set);
        }
    }
    Ok(())
}

/// Fails where another tensor has some of the bytes too.
fn check_alone(graph: &Graph<'_>, id: TensorId, tensor: &Tensor<'_>) -> Result<()> {
    let Payload::Dense { file, span, .. } = tensor.payload else {
        return Ok(());
    };
    for (other_id, other) in graph.model().tensors_with_ids() {
        if let Payload::Dense {
            file: other_file,
            span: other_span,
            ..
        } = other.payload
            && other_id != id
            && other_file == file
            && other_span.start < span.end()
            && span.start < other_span.end()
        {
            let (name, other) = (
                onnxseal_onnx::excerpt(tensor.name),
                onnxseal_onnx::excerpt(other.name),
            );
            let reason = format!("tensor {name:?} shares bytes of its file with tensor {other:?}");
            return Err(Refusal::new(reason)
                .advise("save the model again so that each weight has bytes of its own")
                .into());
        }
    }
    Ok(())
}
