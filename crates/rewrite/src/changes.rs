//! The changes to a model's files.

use onnxseal_onnx::edit::{Change, set_elements, with_lengths};
use onnxseal_onnx::model::{FileId, Payload, Span, Tensor, TensorId};
use onnxseal_store::Error as StoreError;

use crate::elements::{Elements, width};
use crate::error::Result;
use crate::graph::{Graph, slice};
use crate::refusal::Refusal;

/// A range of a file, and its replacement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The file.
    pub file: FileId,
    /// The range.
    pub taken: Span,
    /// The replacement, of equal length except in the model file.
    pub text: Vec<u8>,
}

/// The changes to a model's files.
#[derive(Debug, Default)]
pub struct Changes {
    /// Ranges, and their replacements of equal length.
    pub ranges: Vec<(FileId, Span, Vec<u8>)>,
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
            Payload::Dense { file, span, .. } => {
                self.ranges.push((*file, *span, elements.into_raw()))
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
                self.ranges.push((FileId::MODEL, span, text));
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
            let zeros = vec![0; usize::try_from(span.len).unwrap_or(0)];
            self.ranges.push((*file, *span, zeros));
        }
        Ok(())
    }

    /// Returns all edits, by file and in ascending order.
    pub fn edits(self, graph: &Graph<'_>) -> Result<Vec<Edit>> {
        let mut edits: Vec<Edit> = self
            .ranges
            .into_iter()
            .map(|(file, taken, text)| Edit { file, taken, text })
            .collect();
        if !self.inserts.is_empty() {
            let file = FileId::MODEL;
            let inserts = with_lengths(graph.source.bytes, self.inserts)?;
            edits.extend(inserts.into_iter().map(|(taken, text)| Edit {
                file,
                taken,
                text: text.into_owned(),
            }));
        }
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
        out.extend_from_slice(
            bytes
                .get(end..edit.taken.start as usize)
                .ok_or_else(beyond)?,
        );
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
