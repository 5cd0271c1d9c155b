//! A value between the image and its consumer: the places of its pixels, and the computation on
//! them so far.

use onnxseal_onnx::model::NodeId;

/// The thing that an axis, or a part of one, counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Batch,
    Channel,
    Row,
    Column,
}

/// A part of an axis: `size` indices, each `step` counted things after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Atom {
    pub(super) of: Of,
    pub(super) size: Option<u64>,
    pub(super) step: u64,
}

/// A value of an image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pixel {
    pub(super) row: u64,
    pub(super) column: u64,
    pub(super) channel: u64,
}

/// One axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Axis {
    /// Mixed radix, the outermost part first; empty for an axis of size 1.
    Atoms(Vec<Atom>),
    /// The pixel at each index, relative to the position of the other axes.
    Pixels(Vec<Pixel>),
}

/// A value, `gain x + shift` of each channel of the image x.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Value {
    pub(super) axes: Vec<Axis>,
    /// Row and column of the first pixel.
    pub(super) offset: (u64, u64),
    pub(super) gain: Vec<f64>,
    pub(super) shift: Vec<f64>,
    /// Whether the elements are integers.
    pub(super) is_integer: bool,
    /// The LayerNormalization that has a scale and a bias of each pixel of a patch.
    pub(super) norm: Option<NodeId>,
}

impl Value {
    /// Returns the mean and the deviation by which each channel is normalised.
    pub(super) fn statistics(&self) -> Vec<(f64, f64)> {
        let pairs = self.gain.iter().zip(&self.shift);
        pairs
            .map(|(gain, shift)| (-shift / gain, 1.0 / gain))
            .collect()
    }
}

/// The most pixels of one axis.
const MAX_PIXELS: usize = 1 << 22;
/// The most pixels to list rather than count, since lists are copied from value to value.
pub(super) const MAX_LISTED: usize = 1 << 16;

impl Axis {
    pub(super) fn one(of: Of, size: Option<u64>) -> Axis {
        Axis::Atoms(vec![Atom { of, size, step: 1 }])
    }

    pub(super) fn size(&self) -> Option<u64> {
        match self {
            Axis::Atoms(atoms) => atoms.iter().try_fold(1u64, |n, a| n.checked_mul(a.size?)),
            Axis::Pixels(pixels) => Some(pixels.len() as u64),
        }
    }

    /// Returns whether it counts only images.
    pub(super) fn is_batch(&self) -> bool {
        matches!(self, Axis::Atoms(atoms) if atoms.iter().all(|atom| atom.of == Of::Batch))
    }

    /// Returns whether it is the channels of a pixel, in order.
    pub(super) fn is_channels(&self, n: usize) -> bool {
        let channels = Atom {
            of: Of::Channel,
            size: Some(n as u64),
            step: 1,
        };
        *self == Axis::Atoms(vec![channels]) || (n == 1 && self.size() == Some(1))
    }

    /// Returns the step of an axis of only rows, or only columns.
    pub(super) fn step(&self, of: Of) -> Option<u64> {
        match self {
            Axis::Atoms(atoms) => match atoms[..] {
                [atom] if atom.of == of => Some(atom.step),
                _ => None,
            },
            Axis::Pixels(_) => None,
        }
    }

    /// Returns the pixels of its indices.
    pub(super) fn pixels(&self) -> Option<Vec<Pixel>> {
        let atoms = match self {
            Axis::Pixels(pixels) => return Some(pixels.clone()),
            Axis::Atoms(atoms) => atoms,
        };
        self.size().filter(|&n| n <= MAX_PIXELS as u64)?;
        let mut pixels = vec![Pixel {
            row: 0,
            column: 0,
            channel: 0,
        }];
        for atom in atoms {
            let before = std::mem::take(&mut pixels);
            for pixel in before {
                for i in 0..atom.size? {
                    let mut pixel = pixel;
                    let place = match atom.of {
                        Of::Row => &mut pixel.row,
                        Of::Column => &mut pixel.column,
                        Of::Channel => &mut pixel.channel,
                        Of::Batch => return None,
                    };
                    *place = place.checked_add(i.checked_mul(atom.step)?)?;
                    pixels.push(pixel);
                }
            }
        }
        Some(pixels)
    }
}

/// One entry of a target shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dim {
    Known(u64),
    /// Inferred from the others, or unknown.
    Open,
}

/// Returns the axes after a Reshape, or `None` if it cannot be followed.
pub(super) fn reshape(axes: &[Axis], target: &[Dim]) -> Option<Vec<Axis>> {
    let mut atoms = Vec::new();
    for axis in axes {
        match axis {
            Axis::Atoms(of_axis) => atoms.extend_from_slice(of_axis),
            Axis::Pixels(_) => return None,
        }
    }
    let unknown = atoms.iter().filter(|atom| atom.size.is_none()).count();
    // An unknown number of images comes first, and stays first.
    if unknown > 1 || (unknown == 1 && atoms.first()?.size.is_some()) {
        return None;
    }
    let (first, rest) = target.split_first()?;
    let product = |mut sizes: &mut dyn Iterator<Item = u64>| {
        (&mut sizes).try_fold(1u64, |n, size| n.checked_mul(size))
    };
    let known = product(&mut atoms.iter().filter_map(|atom| atom.size))?;
    let of_rest = product(&mut rest.iter().filter_map(|dim| match dim {
        Dim::Known(n) => Some(*n),
        Dim::Open => None,
    }))?;
    let open_in_rest = rest.iter().filter(|dim| **dim == Dim::Open).count();
    let sizes: Vec<u64> = match (open_in_rest, first) {
        (0, _) => rest.iter().map(|dim| of(*dim, 1)).collect(),
        (1, first) => {
            // The first entry is the batch if that is unknown, and a number otherwise.
            let before = match (unknown, first) {
                (1, _) => 1,
                (_, Dim::Known(n)) => *n,
                (_, Dim::Open) => atoms.first().filter(|a| a.of == Of::Batch)?.size?,
            };
            let open = known.checked_div(of_rest.checked_mul(before)?)?;
            rest.iter().map(|dim| of(*dim, open)).collect()
        }
        _ => return None,
    };
    let mut shaped = Vec::new();
    for size in sizes.into_iter().rev() {
        shaped.push(Axis::Atoms(take(&mut atoms, size)?));
    }
    let first_axis = Axis::Atoms(atoms);
    if let (Dim::Known(n), Some(size)) = (first, first_axis.size())
        && *n != size
    {
        return None;
    }
    shaped.push(first_axis);
    shaped.reverse();
    Some(shaped)
}

fn of(dim: Dim, open: u64) -> u64 {
    match dim {
        Dim::Known(n) => n,
        Dim::Open => open,
    }
}

/// Takes an axis of `size` from the innermost end of `atoms`.
fn take(atoms: &mut Vec<Atom>, size: u64) -> Option<Vec<Atom>> {
    let mut taken = Vec::new();
    let mut left = size;
    while left > 1 {
        let atom = atoms.pop()?;
        let n = atom.size.filter(|n| *n > 0)?;
        if left.is_multiple_of(n) {
            taken.push(atom);
            left /= n;
        } else if n.is_multiple_of(left) {
            taken.push(Atom {
                size: Some(left),
                ..atom
            });
            atoms.push(Atom {
                size: Some(n / left),
                step: atom.step.checked_mul(left)?,
                ..atom
            });
            left = 1;
        } else {
            return None;
        }
    }
    taken.retain(|atom| atom.size != Some(1));
    taken.reverse();
    (left == 1).then_some(taken)
}
