//! The rules of `docs/FORMAT.md` for manifests.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::Edits;
use onnxseal_onnx::{excerpt, external};

use crate::format::manifest::draft::{Draft, File, OriginalDraft, check_version};
use crate::format::manifest::json::MAX_INTEGER;
use crate::format::manifest::tensor::{Mode, Tensor};
use crate::format::tiers::{MAX_TIERS, is_tier_name};

const MAX_FILES: usize = 1 << 16;

const MAX_PATH_BYTES: usize = 1 << 12;

/// The most bytes that an edit may insert.
const MAX_TEXT_BYTES: usize = 1 << 13;

/// The most bytes that the original's model file may have beyond the protected one's.
const MAX_GROWTH: u64 = 1 << 26;

/// The most separate runs of target bytes that a model may have. Their spans take 256 MiB.
const MAX_SPANS: u64 = 1 << 24;

impl Draft {
    /// Checks all rules, and returns the edits that restore the original. The error says which rule
    /// is broken.
    pub(super) fn check(&self) -> Result<Option<Edits>, String> {
        check_version(self.format.into(), &self.suite)?;
        if !self.chunk.is_power_of_two() || !(1 << 16..=1 << 24).contains(&self.chunk) {
            return Err(format!("chunk size {}", self.chunk));
        }
        self.check_tiers()?;
        self.check_files()?;
        // First, because the rules for tensors multiply and add these integers.
        self.check_integers()?;
        self.check_order()?;
        let mut n_spans = 0u64;
        for tensor in &self.tensors {
            let checked = tensor.check(self);
            checked.map_err(|why| format!("tensor {:?}: {why}", excerpt(&tensor.name)))?;
            n_spans = n_spans.saturating_add(tensor.n_spans());
        }
        if n_spans > MAX_SPANS {
            return Err(format!(
                "{n_spans} separate runs of target bytes (limit {MAX_SPANS})"
            ));
        }
        if self.n_tiers() > 1 {
            self.check_disjoint()?;
        }
        let original = self.original.as_ref();
        original
            .map(|original| self.check_original(original))
            .transpose()
    }

    fn check_tiers(&self) -> Result<(), String> {
        if self.tiers.len() == 1 || self.tiers.len() > MAX_TIERS {
            let n = self.tiers.len();
            return Err(format!(
                "{n} names of tiers, expected none or 2 to {MAX_TIERS}"
            ));
        }
        let mut seen = HashSet::new();
        let mut names = self.tiers.iter();
        match names.find(|name| !is_tier_name(name) || !seen.insert(*name)) {
            Some(name) => Err(format!("tier name {:?}", excerpt(name))),
            None => Ok(()),
        }
    }

    fn check_disjoint(&self) -> Result<(), String> {
        let mut all = Vec::new();
        for (index, tensor) in (0u32..).zip(&self.tensors) {
            tensor.spans(|span, _| all.push((tensor.file, span, index)));
        }
        // Spans of one tensor are sorted, and most tensors do not interleave.
        if !all.is_sorted() {
            all.sort_unstable();
        }
        for pair in all.windows(2) {
            if let [(file, span, one), (next_file, next, other)] = pair
                && file == next_file
                && next.start < span.end()
            {
                let pair = [one.min(other), one.max(other)];
                let tensors = pair.map(|index| self.tensors.get(*index as usize));
                let names = tensors.map(|tensor| tensor.map_or("", |tensor| &tensor.name));
                let [one, other] = names.map(excerpt);
                return Err(format!(
                    "tensors {one:?} and {other:?} share encrypted bytes, which a model with tiers cannot have"
                ));
            }
        }
        Ok(())
    }

    fn check_files(&self) -> Result<(), String> {
        if self.files.len() > MAX_FILES {
            return Err(format!("{} files (limit {MAX_FILES})", self.files.len()));
        }
        let model = self.files.first();
        if model.is_none_or(|model| !model.path.is_empty()) {
            return Err("the first file is not the model file".into());
        }
        check_paths(self.files.iter().skip(1).map(|file| &file.path))
    }

    fn check_original(&self, draft: &OriginalDraft) -> Result<Edits, String> {
        let model_bytes = self.files.first().map_or(0, |model| model.bytes);
        if draft.paths.len() + 1 != self.files.len() {
            let (n, files) = (draft.paths.len(), self.files.len());
            return Err(format!("{n} original paths for {files} files"));
        }
        check_paths(draft.paths.iter())?;
        let mut texts = Vec::new();
        for text in &draft.texts {
            let bytes = (STANDARD.decode(text)).map_err(|error| format!("texts: {error}"))?;
            if bytes.len() > MAX_TEXT_BYTES {
                return Err(format!("a text of more than {MAX_TEXT_BYTES} bytes"));
            }
            texts.push(bytes);
        }
        let edits = Edits::new(draft.edits.clone(), texts, model_bytes)?;
        // Lengths first: they limit the memory that a restored model takes.
        if edits.len_after(model_bytes) != Some(draft.bytes)
            || draft.bytes > model_bytes.saturating_add(MAX_GROWTH)
        {
            return Err(format!("edits do not make {} bytes", draft.bytes));
        }
        // Edits and tensors are both sorted: one walk over both finds every overlap.
        let in_model = self.tensors.iter().filter(|tensor| tensor.file == 0);
        let mut tensors = in_model.peekable();
        let mut end = 0;
        for (taken, _) in edits.iter() {
            while let Some(tensor) = tensors.next_if(|tensor| tensor.offset < taken.end()) {
                end = end.max(tensor.extent().end());
            }
            if end > taken.start {
                return Err("an edit changes the elements of a tensor".into());
            }
        }
        Ok(edits)
    }

    fn check_integers(&self) -> Result<(), String> {
        let sum = |sum: u64, file: &File| sum.saturating_add(file.bytes);
        let of_original = self.original.as_ref().map_or(0, |original| original.bytes);
        let total = self.files.iter().fold(of_original, sum);
        let of_tensor = |t: &Tensor| {
            let numbers = t.dims.iter().chain([&t.offset, &t.unit]);
            numbers.copied().max().unwrap_or(0)
        };
        let largest = self.tensors.iter().map(of_tensor).fold(total, u64::max);
        if largest > MAX_INTEGER {
            return Err(format!("integer {largest} is over 2^53 - 1"));
        }
        Ok(())
    }

    fn check_order(&self) -> Result<(), String> {
        let place = |tensor: &Tensor| (tensor.file, tensor.offset);
        for pair in self.tensors.windows(2) {
            if let [before, after] = pair
                && place(before) > place(after)
            {
                return Err(format!(
                    "tensor {:?} is listed after {:?}, but lies before it",
                    excerpt(&after.name),
                    excerpt(&before.name)
                ));
            }
        }
        let mut seen = HashSet::with_capacity(self.tensors.len());
        match self.tensors.iter().find(|tensor| !seen.insert(&tensor.at)) {
            Some(tensor) => Err(format!("tensor {:?} is listed twice", excerpt(&tensor.at))),
            None => Ok(()),
        }
    }
}

fn check_paths<'a>(paths: impl Iterator<Item = &'a String>) -> Result<(), String> {
    let mut seen = HashSet::new();
    for path in paths {
        if path.len() > MAX_PATH_BYTES
            || external::normalise(path).as_deref() != Ok(path)
            || !seen.insert(path)
        {
            return Err(format!("file path {:?}", excerpt(path)));
        }
    }
    Ok(())
}

impl Tensor {
    fn check(&self, manifest: &Draft) -> Result<(), String> {
        if self.elements().is_none_or(|n| n > MAX_INTEGER) {
            return Err("dims overflow".into());
        }
        let bits = self.data_type.bits();
        // A unit is whole bytes, so a byte belongs to one subsequence.
        let unit = self.unit.checked_mul(bits.into());
        if unit.is_none_or(|unit| unit == 0 || unit % 8 > 0) {
            return Err(format!("unit of {} elements is not whole bytes", self.unit));
        }
        if let Some(stride) = self.stride
            && (bits < 8 || stride <= bits / 8)
        {
            return Err(format!("stride {stride} does not exceed an element"));
        }
        self.check_targets(manifest.n_tiers())?;
        let file = manifest
            .files
            .get(self.file as usize)
            .ok_or_else(|| format!("file {} of {}", self.file, manifest.files.len()))?;
        if self.extent().end() > file.bytes {
            return Err(format!(
                "elements reach past the {} bytes of their file",
                file.bytes
            ));
        }
        Ok(())
    }

    /// Checks the targets of each tier, and how those above the first are encrypted.
    fn check_targets(&self, n_tiers: usize) -> Result<(), String> {
        if usize::from(self.targets.n_tiers) != n_tiers {
            let n = self.targets.n_tiers;
            return Err(format!("targets of {n} tiers in a model of {n_tiers}"));
        }
        let end: u64 = self.targets.iter().sum();
        if self.targets.is_empty() || end > self.n() {
            return Err(format!("targets reach subsequence {end} of {}", self.n()));
        }
        if n_tiers == 1 {
            if self.mode != Mode::Bytes || !self.fill.is_empty() {
                return Err("a mode or fill in a model of one edition".into());
            }
            return Ok(());
        }
        if self.mode == Mode::Mask && self.data_type.mask().is_none() {
            return Err(format!("mode mask of {}", self.data_type.name()));
        }
        let width = match self.data_type.bits() {
            bits @ (2 | 4 | 8..) => (bits / 8).max(1) as usize,
            _ => 0,
        };
        if !self.fill.is_empty() && self.fill.len() != width {
            return Err(format!("fill of {} bytes", self.fill.len()));
        }
        Ok(())
    }
}
