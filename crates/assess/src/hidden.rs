//! Which elements of weight tensors are hidden from an attacker, and where they lie.

use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use onnxseal_engine::Files;
use onnxseal_onnx::Model;
use onnxseal_onnx::model::{Payload, Tensor};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_plan::rules::qualified;
use onnxseal_plan::{
    Consumer, Plan, Policy, Preset, Role, TensorPlan, Wanted, classify, energy, normalise, role,
};

use crate::assessment::{OperatorRow, STRIP_BINS, TensorRow};
use crate::error::Result;
use crate::subject::Subject;
use crate::weights::byte_range;

/// The parts of a model that an attacker does not see.
#[derive(Clone, Debug)]
pub struct Hidden {
    /// Every weight tensor that can be encrypted, in file order, even if it is in clear.
    pub tensors: Vec<HiddenTensor>,
    /// Bytes of all weights, including those that cannot be encrypted.
    pub(crate) weight_bytes: u64,
}

/// One weight tensor, with its encrypted elements.
#[derive(Clone, Debug)]
pub struct HiddenTensor {
    pub(crate) name: String,
    /// Its protobuf path.
    pub path: String,
    pub(crate) op_type: String,
    pub(crate) role: Role,
    pub(crate) data_type: DataType,
    pub(crate) dims: Vec<u64>,
    pub(crate) n_elements: usize,
    /// The encrypted elements, as ascending ranges with gaps between them.
    pub(crate) ranges: Vec<Range<usize>>,
    /// The node that owns it, as an index into the model's list.
    pub(crate) node: Option<usize>,
    pub(crate) node_name: String,
    /// The file: 0 is the model file, `i + 1` external file `i`.
    pub(crate) file: usize,
    /// Offset of the first element in bytes.
    pub(crate) start: usize,
    pub(crate) element_bits: u32,
    /// Bytes from the start of one element to the start of the next, if there are gaps between
    /// them.
    pub(crate) stride: Option<usize>,
}

impl Hidden {
    /// Finds the elements of a model that `policy` encrypts, for whatever tier.
    pub fn of_policy(subject: &Subject, policy: &Policy) -> Result<Hidden> {
        let model = subject.located()?;
        let score = |wanted: &[Wanted]| {
            let energies = |wanted| energies(subject.files(), &model, wanted);
            Ok::<_, onnxseal_plan::Error>(wanted.iter().map(energies).collect())
        };
        let plan = onnxseal_plan::plan(&model, policy, score)?;
        Ok(Hidden::of(&model, &plan, 0, |_, tensor| {
            tensor.tier_elements()
        }))
    }

    /// Finds the elements of a protected model that are encrypted for tiers above `tier`, which the
    /// key of that tier does not open; tier 0 stands for no key. Finds none in a model that is not
    /// protected.
    pub(crate) fn of_protected_above(subject: &Subject, tier: u8) -> Result<Hidden> {
        let model = subject.located()?;
        // This plan supplies the operators, and the weights in clear.
        let uniform =
            |wanted: &[Wanted]| Ok::<_, onnxseal_plan::Error>(onnxseal_plan::uniform(wanted));
        let plan = onnxseal_plan::plan(&model, &Policy::preset(Preset::Full), uniform)?;
        let elements = |path: &str| subject.protected.as_ref()?.elements.get(path);
        Ok(Hidden::of(&model, &plan, tier, |tensor, _| {
            elements(&tensor.path).cloned().unwrap_or_default()
        }))
    }

    /// Finds the weight tensors of a plan. Of each, `elements` gives ranges with their tiers, of
    /// which those above `tier` are hidden.
    fn of(
        model: &Model<'_>,
        plan: &Plan,
        tier: u8,
        elements: impl Fn(&Tensor<'_>, &TensorPlan) -> Vec<Tiered>,
    ) -> Hidden {
        let classified = classify(model);
        let hidden = |planned: &TensorPlan| {
            let index = planned.tensor.index();
            let tensor = model.tensors.get(index)?;
            let node = plan.operators.get(planned.operator)?.node;
            let mut consumers = classified.get(index)?.consumers.iter();
            let owner = consumers.find(|of| Some(of.node) == node);
            let mut hidden = HiddenTensor::new(model, tensor, owner)?;
            let elements = elements(tensor, planned);
            hidden.ranges = above(tier, &elements, hidden.n_elements as u64);
            Some(hidden)
        };
        Hidden {
            tensors: plan.tensors.iter().filter_map(hidden).collect(),
            weight_bytes: plan.total_bytes(),
        }
    }

    /// Returns whether all that `other` hides is hidden here, whole.
    pub(crate) fn covers(&self, other: &Hidden) -> bool {
        let whole = self.tensors.iter().filter(|tensor| tensor.is_whole());
        let whole: HashSet<&str> = whole.map(|tensor| tensor.path.as_str()).collect();
        let paths = other.tensors.iter().map(|tensor| tensor.path.as_str());
        paths.into_iter().all(|path| whole.contains(path))
    }

    pub(crate) fn encrypted_bytes(&self) -> u64 {
        self.tensors.iter().map(HiddenTensor::encrypted_bytes).sum()
    }

    /// Makes the rows of the operators: how much of each is encrypted, and where.
    pub(crate) fn rows(&self) -> Vec<OperatorRow> {
        // In file order, and then what no node reads.
        let mut operators: BTreeMap<(bool, Option<usize>), Vec<&HiddenTensor>> = BTreeMap::new();
        for tensor in &self.tensors {
            let place = (tensor.node.is_none(), tensor.node);
            operators.entry(place).or_default().push(tensor);
        }
        let tensor_row = |tensor: &HiddenTensor| TensorRow {
            name: tensor.name.clone(),
            path: tensor.path.clone(),
            data_type: tensor.data_type.as_str_name().to_owned(),
            dims: tensor.dims.clone(),
            bytes: tensor.bytes(),
            encrypted_bytes: tensor.encrypted_bytes(),
        };
        let row = |tensors: Vec<&HiddenTensor>| {
            let bytes: u64 = tensors.iter().map(|tensor| tensor.bytes()).sum();
            let encrypted_bytes: u64 = tensors.iter().map(|tensor| tensor.encrypted_bytes()).sum();
            OperatorRow {
                op_type: tensors[0].op_type.clone(),
                node: tensors[0].node_name.clone(),
                bytes,
                encrypted_bytes,
                share: encrypted_bytes as f64 / bytes.max(1) as f64,
                strip: strip(&tensors, bytes),
                tensors: tensors.into_iter().map(tensor_row).collect(),
            }
        };
        operators.into_values().map(row).collect()
    }
}

/// Computes the energies of a tensor's subsequences.
fn energies(files: &Files, model: &Model<'_>, wanted: &Wanted) -> Vec<f64> {
    let tensor = model.tensors.get(wanted.tensor.index());
    let elements = tensor.and_then(|tensor| {
        let bytes = HiddenTensor::new(model, tensor, None)?.gather(files);
        Some(energy(&bytes, tensor.data_type, wanted.unit_elements))
    });
    let mut energies = elements.unwrap_or_default();
    energies.resize(wanted.n as usize, 0.0);
    normalise(&mut energies);
    energies
}

impl HiddenTensor {
    /// Makes a wholly visible tensor that `owner` uses. Returns `None` if its elements have no
    /// fixed place.
    pub(crate) fn new(
        model: &Model<'_>,
        tensor: &Tensor<'_>,
        owner: Option<&Consumer<'_>>,
    ) -> Option<HiddenTensor> {
        let (file, start, element_bits, stride) = match tensor.payload {
            Payload::Dense {
                file,
                span,
                element_bits,
                ..
            } => (file.0, span.start, element_bits, None),
            Payload::Strided {
                start,
                stride,
                element_bits,
                ..
            } => (0, start, element_bits, Some(stride as usize)),
            Payload::Empty | Payload::Unpatchable(_) => return None,
        };
        let owner = owner.and_then(|of| Some((of, model.nodes.get(of.node.index())?)));
        let op_type = owner.map(|(_, node)| qualified(node.domain, node.op_type));
        Some(HiddenTensor {
            name: tensor.name.to_owned(),
            path: tensor.path.clone(),
            op_type: op_type.unwrap_or_default().into_owned(),
            role: owner.map_or(Role::Weight, |(of, node)| role(node, of.slot, &tensor.dims)),
            data_type: tensor.data_type,
            dims: tensor.dims.clone(),
            n_elements: usize::try_from(tensor.n_elements).ok()?,
            ranges: Vec::new(),
            node: owner.map(|(of, _)| of.node.index()),
            node_name: owner.map_or("", |(_, node)| node.name).to_owned(),
            file: file as usize,
            start: usize::try_from(start).ok()?,
            element_bits,
            stride,
        })
    }

    pub(crate) fn whole(self) -> HiddenTensor {
        HiddenTensor {
            ranges: std::iter::once(0..self.n_elements).collect(),
            ..self
        }
    }

    /// Returns the bytes of its elements.
    pub fn bytes(&self) -> u64 {
        byte_range(&(0..self.n_elements), self.element_bits).len() as u64
    }

    pub(crate) fn encrypted_bytes(&self) -> u64 {
        let bytes = |range| byte_range(range, self.element_bits).len() as u64;
        self.ranges.iter().map(bytes).sum()
    }

    pub(crate) fn n_hidden(&self) -> usize {
        self.ranges.iter().map(Range::len).sum()
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.n_hidden() == self.n_elements
    }

    /// Returns, for each element, whether it is encrypted.
    pub(crate) fn mask(&self) -> Vec<bool> {
        let mut mask = vec![false; self.n_elements];
        for range in &self.ranges {
            mask.get_mut(range.clone()).unwrap_or_default().fill(true);
        }
        mask
    }

    /// Gathers its elements into contiguous bytes.
    pub(crate) fn gather(&self, files: &Files) -> Vec<u8> {
        let file = files.bytes(self.file);
        let pieces = self.pieces(&(0..self.n_elements)).into_iter();
        let pieces = pieces.filter_map(|(at, bytes)| file.get(at..at + bytes.len()));
        pieces.collect::<Vec<_>>().concat()
    }

    /// Writes its encrypted elements to their places in `files`. `elements` has all elements,
    /// contiguous.
    pub(crate) fn scatter(&self, elements: &[u8], files: &mut Files) {
        let file = match self.file.checked_sub(1) {
            None => Some(&mut files.model),
            Some(index) => files.external.get_mut(index).map(|(_, bytes)| bytes),
        };
        let Some(file) = file.map(Arc::make_mut) else {
            return;
        };
        for (at, bytes) in self.ranges.iter().flat_map(|range| self.pieces(range)) {
            let to = file.get_mut(at..at + bytes.len());
            if let (Some(to), Some(from)) = (to, elements.get(bytes)) {
                to.copy_from_slice(from);
            }
        }
    }

    /// Returns the contiguous pieces of the elements in `range`: the place of each in the file, and
    /// its bytes among those of all elements.
    fn pieces(&self, range: &Range<usize>) -> Vec<(usize, Range<usize>)> {
        let bytes = |range| byte_range(&range, self.element_bits);
        let Some(stride) = self.stride else {
            let bytes = bytes(range.clone());
            return vec![(self.start + bytes.start, bytes)];
        };
        let piece = |i| (self.start + i * stride, bytes(i..i + 1));
        range.clone().map(piece).collect()
    }
}

/// A range `(first, end)` of elements, and its tier.
type Tiered = ((u64, u64), u8);

/// Returns the ranges of `elements` with tiers above `tier`, of a tensor of `n`, and joins those
/// that touch.
fn above(tier: u8, elements: &[Tiered], n: u64) -> Vec<Range<usize>> {
    let mut found: Vec<Range<usize>> = Vec::new();
    for ((first, end), _) in elements.iter().filter(|(_, of)| *of > tier) {
        let (first, end) = ((*first).min(n) as usize, (*end).min(n) as usize);
        match found.last_mut() {
            Some(last) if last.end == first => last.end = end,
            _ if first < end => found.push(first..end),
            _ => {}
        }
    }
    found
}

/// Computes the encrypted share of each of [`STRIP_BINS`] equal parts of the tensors' bytes.
fn strip(tensors: &[&HiddenTensor], bytes: u64) -> Vec<f32> {
    let mut strip = vec![0.0_f64; STRIP_BINS];
    let per_bin = bytes.max(1) as f64 / STRIP_BINS as f64;
    let mut before = 0.0;
    for tensor in tensors {
        for range in &tensor.ranges {
            let range = byte_range(range, tensor.element_bits);
            let (start, end) = (before + range.start as f64, before + range.end as f64);
            for (i, bin) in strip.iter_mut().enumerate() {
                let (low, high) = (i as f64 * per_bin, (i + 1) as f64 * per_bin);
                *bin += (end.min(high) - start.max(low)).max(0.0);
            }
        }
        before += tensor.bytes() as f64;
    }
    let share = |bytes: f64| (bytes / per_bin).min(1.0) as f32;
    strip.into_iter().map(share).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::single_range_in_vec_init)]
    use super::*;

    fn tensor(n_elements: usize, ranges: &[Range<usize>]) -> HiddenTensor {
        HiddenTensor {
            name: "w".into(),
            path: "graph.initializer[0]".into(),
            op_type: "MatMul".into(),
            role: Role::Weight,
            data_type: DataType::Float,
            dims: vec![n_elements as u64],
            n_elements,
            ranges: ranges.to_vec(),
            node: None,
            node_name: String::new(),
            file: 0,
            start: 2,
            element_bits: 32,
            stride: None,
        }
    }

    #[test]
    fn a_tier_lacks_what_is_of_higher_ones() {
        let elements = [((10, 20), 2), ((20, 30), 1), ((40, 50), 1), ((50, 70), 3)];
        let above = |tier| above(tier, &elements, 60);
        assert_eq!(above(0), [10..30, 40..60]);
        assert_eq!(above(1), [10..20, 50..60]);
        assert_eq!(above(2), [50..60]);
        assert!(above(3).is_empty());
        let without = super::above(1, &[((0, 20), 1)], 60);
        assert!(without.is_empty());
    }

    #[test]
    fn strips_say_where() {
        let (a, b) = (tensor(64, &[0..32]), tensor(64, &[60..64]));
        let strip = strip(&[&a, &b], 512);
        assert_eq!(strip.len(), STRIP_BINS);
        assert_eq!(strip[..16], [1.0; 16]);
        assert_eq!(strip[16..62], [0.0; 46]);
        assert_eq!(strip[62..], [1.0; 2]);
    }

    #[test]
    fn elements_are_gathered_and_put_back() {
        let mut model = vec![9; 2];
        model.extend((0..16_u8).collect::<Vec<_>>());
        let files = Files::new(&model, Vec::new());
        let dense = tensor(4, &[1..2, 3..4]);
        assert_eq!(dense.gather(&files), Vec::from_iter(0..16_u8));
        let mut changed = files.clone();
        dense.scatter(&[0xFF; 16], &mut changed);
        assert_eq!(changed.model[2..10], [0, 1, 2, 3, 255, 255, 255, 255]);
        assert_eq!(changed.model[14..], [255; 4]);
        assert_eq!(*files.model, *model);
        let strided = HiddenTensor {
            stride: Some(5),
            n_elements: 3,
            ranges: vec![1..2],
            ..dense
        };
        let want = [0, 1, 2, 3, 5, 6, 7, 8, 10, 11, 12, 13];
        assert_eq!(strided.gather(&files), want);
        let mut changed = files;
        strided.scatter(&[0xFF; 12], &mut changed);
        assert_eq!(changed.model[6..12], [4, 255, 255, 255, 255, 9]);
    }
}
