//! The changes to a model's files.

use onnxseal_onnx::edit::{Change, set_elements, with_lengths};
use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::{FileId, Payload, Span, Tensor, TensorId};
use onnxseal_store::Error as StoreError;

use crate::elements::{Elements, width};
use crate::error::Result;
use crate::graph::{Graph, slice};
use crate::refusal::Refusal;

/// A range of a file, and its replacement, of equal length except in the model file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    pub file: FileId,
    pub taken: Span,
    pub text: Vec<u8>,
}

/// The changes to a model's files.
#[derive(Debug, Default)]
pub struct Changes {
    /// Replacements of equal length.
    ranges: Vec<Edit>,
    /// Changes of the model file that change its length.
    pub inserts: Vec<Change<'static>>,
    /// Names of the changed tensors.
    pub tensors: Vec<String>,
}

impl Changes {
    /// Replaces the elements of a tensor, unless another tensor shares some of its bytes.
    pub fn replace(&mut self, graph: &Graph<'_>, id: TensorId, elements: Elements) -> Result<()> {
        let tensor = graph.tensor(id)?;
        check_alone(graph, id, tensor)?;
        self.tensors.push(tensor.name.to_owned());
        match &tensor.payload {
            Payload::Empty => {}
            Payload::Dense { file, span, .. } => self.ranges.push(Edit {
                file: *file,
                taken: *span,
                text: elements.into_raw(),
            }),
            Payload::Strided { start, stride, .. } => {
                let width = width(elements.data_type()).unwrap_or(1);
                let gaps = tensor.n_elements.saturating_sub(1);
                let len = gaps.saturating_mul(u64::from(*stride));
                let len = len.saturating_add(width as u64);
                let taken = Span { start: *start, len };
                let mut text = slice(graph.source.bytes, taken)
                    .unwrap_or_default()
                    .to_vec();
                let places = text.chunks_mut((*stride).max(1) as usize);
                for (place, element) in places.zip(elements.raw().chunks_exact(width)) {
                    if let Some(place) = place.get_mut(..width) {
                        place.copy_from_slice(element);
                    }
                }
                let file = FileId::MODEL;
                self.ranges.push(Edit { file, taken, text });
            }
            Payload::Unpatchable(_) => {
                let set = set_elements(graph.source.bytes, tensor, elements.raw())?;
                self.inserts.extend(set.into_iter().map(Change::into_owned));
            }
        }
        Ok(())
    }

    /// Zeroes the elements of an unused tensor in external data, unless another tensor shares some
    /// of its bytes. Elements in the model file go with the tensor.
    pub fn blank(&mut self, graph: &Graph<'_>, id: TensorId) -> Result<()> {
        let tensor = graph.tensor(id)?;
        if let Payload::Dense { file, span, .. } = &tensor.payload
            && *file != FileId::MODEL
        {
            check_alone(graph, id, tensor)?;
            self.ranges.push(Edit {
                file: *file,
                taken: *span,
                text: vec![0; usize::try_from(span.len).unwrap_or(0)],
            });
        }
        Ok(())
    }

    /// Returns all edits, by file and in ascending order.
    pub fn edits(self, graph: &Graph<'_>) -> Result<Vec<Edit>> {
        let mut edits = self.ranges;
        let inserts = with_lengths(graph.source.bytes, self.inserts)?;
        edits.extend(inserts.into_iter().map(|(taken, text)| Edit {
            file: FileId::MODEL,
            taken,
            text: text.into_owned(),
        }));
        // A stable sort keeps the order of edits at one place.
        edits.sort_by_key(|edit| (edit.file, edit.taken.start));
        let overlap = edits.windows(2).any(|pair| match pair {
            [a, b] => a.file == b.file && a.taken.end() > b.taken.start,
            _ => false,
        });
        if overlap {
            Err(Refusal::new("two nodes would change the same weights").into())
        } else {
            Ok(edits)
        }
    }
}

/// Copies one file's `bytes` with its edits, which must be in ascending order.
pub fn apply<'e>(bytes: &[u8], edits: impl IntoIterator<Item = &'e Edit>) -> Result<Vec<u8>> {
    let mut out = Vec::with_capacity(bytes.len());
    let mut end = 0;
    let beyond = || StoreError::Internal("edits beyond their file");
    for edit in edits {
        let kept = bytes.get(end..edit.taken.start as usize);
        out.extend_from_slice(kept.ok_or_else(beyond)?);
        out.extend_from_slice(&edit.text);
        end = edit.taken.end() as usize;
    }
    out.extend_from_slice(bytes.get(end..).ok_or_else(beyond)?);
    Ok(out)
}

/// Fails if another tensor shares some of the bytes.
fn check_alone(graph: &Graph<'_>, id: TensorId, tensor: &Tensor<'_>) -> Result<()> {
    let Payload::Dense { file, span, .. } = tensor.payload else {
        return Ok(());
    };
    for (other_id, other) in graph.model().tensors_with_ids() {
        if let Payload::Dense {
            file: in_file,
            span: at,
            ..
        } = other.payload
            && (other_id != id && in_file == file)
            && (at.start < span.end() && span.start < at.end())
        {
            let (name, other) = (excerpt(tensor.name), excerpt(other.name));
            let reason = format!("tensor {name:?} shares bytes of its file with tensor {other:?}");
            return Err(Refusal::new(reason)
                .advise("save the model again so that each weight has bytes of its own")
                .into());
        }
    }
    Ok(())
}
