//! The rules of `docs/FORMAT.md` for manifests.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::edit::{Edits, Texts};
use onnxseal_onnx::model::Span;
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::{element_bits, excerpt, external};

use super::targets::Form;
use super::{
    Draft, FORMAT, FORMAT_COMPACT, FORMAT_RENAMED, FORMAT_TIERS, File, Mode, Original,
    OriginalDraft, SUITE, Tensor, unknown_format,
};
use crate::format::tiers::is_tier_name;

/// The largest integer that every JSON reader keeps exactly.
const MAX_INTEGER: u64 = (1 << 53) - 1;

/// The most files that a model may have.
const MAX_FILES: usize = 1 << 16;

/// The most bytes that the path of an external data file may have.
const MAX_PATH_BYTES: usize = 1 << 12;

/// The most texts that edits may insert.
pub(super) const MAX_TEXTS: usize = 1 << 18;

/// The most bytes that one of them may have.
const MAX_TEXT_BYTES: usize = 1 << 13;

/// The most bytes by which the original's model file may be longer.
const MAX_GROWTH: u64 = 1 << 26;

/// The most separate runs of target bytes that a model may have. As spans they take 256 MiB.
const MAX_SPANS: u64 = 1 << 24;

/// The most tiers that a model may have.
const MAX_TIERS: usize = 16;

impl Draft {
    /// Checks all rules but those for `original`. The error says which rule is broken.
    pub(super) fn check(&self) -> Result<(), String> {
        match (self.format, &self.original) {
            (FORMAT, None) | (FORMAT_RENAMED, Some(_)) | (FORMAT_COMPACT | FORMAT_TIERS, _) => {}
            (FORMAT | FORMAT_RENAMED, _) => {
                return Err(format!(
                    "format version {} and a member original do not go together: it is for version {FORMAT_RENAMED} and later",
                    self.format
                ));
            }
            (format, _) => return Err(unknown_format(format)),
        }
        let form = match self.format {
            FORMAT_COMPACT | FORMAT_TIERS => Form::Compact,
            _ => Form::Numbers,
        };
        if let Some(tensor) = self
            .tensors
            .iter()
            .find(|tensor| tensor.targets.form() != form)
        {
            return Err(format!(
                "tensor {:?}: format version {} has targets of the other form",
                excerpt(&tensor.name),
                self.format
            ));
        }
        if self.suite != SUITE {
            return Err(format!(
                "suite {:?} (this program reads {SUITE})",
                excerpt(&self.suite)
            ));
        }
        if !self.chunk.is_power_of_two() || !(1 << 16..=1 << 24).contains(&self.chunk) {
            return Err(format!("chunk size {}", self.chunk));
        }
        self.check_tiers()?;
        self.check_files()?;
        // Before the tensors: their rules multiply and add these integers.
        self.check_integers()?;
        self.check_order()?;
        let mut n_spans = 0u64;
        for tensor in &self.tensors {
            tensor
                .check(self)
                .map_err(|why| format!("tensor {:?}: {why}", excerpt(&tensor.name)))?;
            // A run of targets is cut where its tier changes.
            n_spans = n_spans.saturating_add(tensor.n_spans());
            n_spans = n_spans.saturating_add(tensor.tier.numbers().len() as u64 / 2);
        }
        if n_spans > MAX_SPANS {
            return Err(format!(
                "{n_spans} separate runs of target bytes (limit {MAX_SPANS})"
            ));
        }
        match self.tiers {
            1 => Ok(()),
            _ => self.check_disjoint(),
        }
    }

    /// Checks the number of tiers and their names.
    fn check_tiers(&self) -> Result<(), String> {
        let names = match (self.format, &self.tier_names) {
            (FORMAT_TIERS, Some(names)) => names,
            (FORMAT_TIERS, None) => return Err("tier_names are missing".into()),
            (_, Some(_)) => {
                return Err(format!(
                    "format version {} has no tier_names: they are for version {FORMAT_TIERS}",
                    self.format
                ));
            }
            (_, None) if self.tiers == 1 => return Ok(()),
            (_, None) => {
                return Err(format!(
                    "{} tiers in format version {}",
                    self.tiers, self.format
                ));
            }
        };
        if !(2..=MAX_TIERS).contains(&names.len()) || names.len() != usize::from(self.tiers) {
            return Err(format!(
                "{} names for {} tiers, of which there are 2 to {MAX_TIERS}",
                names.len(),
                self.tiers
            ));
        }
        let mut seen = HashSet::new();
        let mut names = names.iter();
        match names.find(|name| !is_tier_name(name) || !seen.insert(*name)) {
            Some(name) => Err(format!("tier name {:?}", excerpt(name))),
            None => Ok(()),
        }
    }

    /// Checks that no byte is a target byte of two tensors.
    fn check_disjoint(&self) -> Result<(), String> {
        let mut spans = Vec::new();
        let mut all = Vec::new();
        for tensor in &self.tensors {
            tensor.spans(&mut spans);
            all.extend(spans.drain(..).map(|span| (tensor.file, span)));
        }
        // Spans of one tensor are sorted, and most tensors do not interleave.
        if !all.is_sorted() {
            all.sort_unstable();
        }
        let overlap = |pair: &[(u32, Span)]| match pair {
            [(file, span), (next_file, next)] => file == next_file && next.start < span.end(),
            _ => false,
        };
        match all.windows(2).find(|pair| overlap(pair)) {
            Some(&[_, (file, shared)]) => Err(self.shared(file, shared)),
            _ => Ok(()),
        }
    }

    /// Says which tensors share target bytes at `at` of `file`.
    fn shared(&self, file: u32, at: Span) -> String {
        let mut spans = Vec::new();
        let of_both = self.tensors.iter().filter(|tensor| {
            spans.clear();
            tensor.spans(&mut spans);
            let holds = |span: &Span| span.start <= at.start && at.start < span.end();
            tensor.file == file && spans.iter().any(holds)
        });
        let names = of_both.map(|tensor| format!("{:?}", excerpt(&tensor.name)));
        let names: Vec<String> = names.take(2).collect();
        format!(
            "tensors {} share encrypted bytes, which a model with tiers cannot",
            names.join(" and ")
        )
    }

    fn check_files(&self) -> Result<(), String> {
        if self.files.len() > MAX_FILES {
            return Err(format!("{} files (limit {MAX_FILES})", self.files.len()));
        }
        if self
            .files
            .first()
            .is_none_or(|model| !model.path.is_empty())
        {
            return Err("the first file is not the model file".into());
        }
        check_paths(self.files.iter().skip(1).map(|file| &file.path))
    }

    /// Checks the edits that restore the original.
    pub(super) fn check_original(&self, draft: &OriginalDraft) -> Result<Original, String> {
        let model_bytes = self.files.first().map_or(0, |model| model.bytes);
        if draft.paths.len() + 1 != self.files.len() {
            let (n, files) = (draft.paths.len(), self.files.len());
            return Err(format!("{n} original paths for {files} files"));
        }
        check_paths(draft.paths.iter())?;
        let mut texts = Texts::default();
        for text in &draft.texts {
            let bytes = (STANDARD.decode(text)).map_err(|error| format!("texts: {error}"))?;
            if bytes.len() > MAX_TEXT_BYTES || !texts.push(&bytes) {
                return Err(format!("a text of more than {MAX_TEXT_BYTES} bytes"));
            }
        }
        let edits = Edits::new(draft.edits.clone(), texts, model_bytes)?;
        // Lengths first: a restored model shall not take memory out of proportion.
        if edits.len_after(model_bytes) != Some(draft.bytes)
            || draft.bytes > model_bytes.saturating_add(MAX_GROWTH)
        {
            return Err(format!("edits do not make {} bytes", draft.bytes));
        }
        // Edits and tensors are both sorted: one walk over both finds every overlap.
        let mut tensors = self
            .tensors
            .iter()
            .filter(|tensor| tensor.file == 0)
            .peekable();
        let mut end = 0;
        for (taken, _) in edits.iter() {
            while let Some(tensor) = tensors.next_if(|tensor| tensor.offset < taken.end()) {
                let width = tensor.width().unwrap_or(u64::MAX);
                end = end.max(tensor.offset.saturating_add(width));
            }
            if end > taken.start {
                return Err("an edit changes the elements of a tensor".into());
            }
        }
        Ok(Original {
            bytes: draft.bytes,
            paths: draft.paths.clone(),
            edits,
        })
    }

    fn check_integers(&self) -> Result<(), String> {
        let sum = |sum: u64, file: &File| sum.saturating_add(file.bytes);
        let of_original = self.original.as_ref().map_or(0, |original| original.bytes);
        let total = self.files.iter().fold(of_original, sum);
        let of_tensor = |t: &Tensor| {
            let numbers = t
                .dims
                .iter()
                .chain(&*t.targets)
                .chain(t.tier.numbers())
                .chain([&t.offset, &t.unit, &t.n]);
            numbers.copied().max().unwrap_or(0)
        };
        let largest = self
            .tensors
            .iter()
            .map(of_tensor)
            .max()
            .unwrap_or(0)
            .max(total);
        match largest > MAX_INTEGER {
            true => Err(format!("integer {largest} is over 2^53 - 1")),
            false => Ok(()),
        }
    }

    fn check_order(&self) -> Result<(), String> {
        let place = |tensor: &Tensor| (tensor.file, tensor.offset);
        for pair in self.tensors.windows(2) {
            if let [before, after] = pair
                && place(before) > place(after)
            {
                return Err(format!(
                    "tensor {:?} stands after {:?}, before which it lies",
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

/// Checks paths of external data files.
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
    /// Bytes from the start of the first element to the end of the last.
    fn width(&self) -> Option<u64> {
        let (elements, bits) = (self.elements()?, u64::from(self.element_bits));
        match self.stride {
            None => elements.checked_mul(bits).map(|bits| bits.div_ceil(8)),
            Some(stride) => (elements.saturating_sub(1))
                .checked_mul(u64::from(stride))
                .and_then(|start| start.checked_add(bits / 8)),
        }
    }

    fn check(&self, manifest: &Draft) -> Result<(), String> {
        let elements = self
            .elements()
            .filter(|&n| n <= MAX_INTEGER)
            .ok_or("dims overflow")?;
        let width = DataType::from_str_name(&self.data_type).and_then(element_bits);
        if width != Some(self.element_bits) {
            return Err(format!(
                "element_bits {} of data_type {:?}",
                self.element_bits,
                excerpt(&self.data_type)
            ));
        }
        let bits = u64::from(self.element_bits);
        // A unit is whole bytes, so that no byte has bits of two subsequences.
        let units = self
            .unit
            .checked_mul(bits)
            .filter(|&unit| unit > 0 && unit % 8 == 0);
        if units.is_none() || self.n != elements.div_ceil(self.unit.max(1)) {
            return Err(format!(
                "unit {} and n {} do not fit {elements} elements",
                self.unit, self.n
            ));
        }
        if let Some(stride) = self.stride
            && (self.element_bits < 8 || stride <= self.element_bits / 8)
        {
            return Err(format!("stride {stride} is not more than an element"));
        }
        self.check_targets()?;
        self.check_tiers(manifest.tiers)?;
        let file = manifest
            .files
            .get(self.file as usize)
            .ok_or_else(|| format!("file {} of {}", self.file, manifest.files.len()))?;
        let end = self
            .width()
            .and_then(|width| self.offset.checked_add(width));
        if end.is_none_or(|end| end > file.bytes) {
            return Err(format!(
                "elements reach past the {} bytes of their file",
                file.bytes
            ));
        }
        Ok(())
    }

    /// Checks what only models with tiers have.
    fn check_tiers(&self, tiers: u8) -> Result<(), String> {
        if tiers == 1 {
            return match self.tier.is_empty() && self.mode == Mode::Bytes && self.fill.is_zero() {
                true => Ok(()),
                false => Err("a tier, mode or fill of a model with tiers".into()),
            };
        }
        self.tier.check(self.n_targets(), tiers)?;
        let is_float = matches!(
            &*self.data_type,
            "FLOAT" | "FLOAT16" | "BFLOAT16" | "DOUBLE"
        );
        if self.mode == Mode::Mask && !is_float {
            return Err(format!("mode mask of {:?}", excerpt(&self.data_type)));
        }
        let width = match self.element_bits {
            bits @ (2 | 4 | 8..) => (bits / 8).max(1) as usize,
            _ => 0,
        };
        match self.fill.is_zero() || self.fill.bytes().len() == width {
            true => Ok(()),
            false => Err(format!("fill of {} bytes", self.fill.bytes().len())),
        }
    }

    fn check_targets(&self) -> Result<(), String> {
        if self.targets.is_empty() || !self.targets.len().is_multiple_of(2) {
            return Err("targets are not runs of skip and take".into());
        }
        let mut end = 0u64;
        for (i, run) in self.targets.chunks_exact(2).enumerate() {
            if (run[0] == 0 && i > 0) || run[1] == 0 {
                return Err("targets have an empty run".into());
            }
            end = run
                .iter()
                .try_fold(end, |end, &n| end.checked_add(n))
                .ok_or("targets overflow")?;
        }
        match end > self.n {
            true => Err(format!("targets reach subsequence {end} of {}", self.n)),
            false => Ok(()),
        }
    }
}
