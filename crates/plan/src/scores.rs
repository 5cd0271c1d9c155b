//! Scores say how much each part of a tensor matters. Energy is the score that needs no data.

use onnxseal_onnx::element_bits;
use onnxseal_onnx::model::TensorId;
use onnxseal_onnx::proto::tensor_proto::DataType;

/// Scores of every subsequence of some tensors: its contribution, 0 or more. Only their order and
/// their proportions count.
pub type Scores = Vec<Vec<f64>>;

/// A tensor of which a part is chosen by score.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub tensor: TensorId,
    /// Elements in a subsequence; the last may be shorter.
    pub unit_elements: u64,
    /// Number of subsequences, which is the number of scores.
    pub n: u64,
}

/// Gives all subsequences equal scores, for a plan that cannot measure them.
///
/// Such a plan has the volumes, units and whole tensors of any other plan, but chooses other
/// subsequences.
pub fn uniform(wanted: &[Wanted]) -> Scores {
    let ones = wanted.iter().map(|tensor| vec![1.0; tensor.n as usize]);
    ones.collect()
}

/// Computes the sum of the squares of the elements of each subsequence.
///
/// `bytes` are the elements as ONNX stores them, from the start of a subsequence. Element `i` of a
/// subsequence adds to partial sum `i mod 4` in f64; the sum is `(s0 + s1) + (s2 + s3)` on every
/// machine. Elements of less than a byte are added byte by byte. Unsigned integers count from the
/// middle of their range, where quantised models have their zero. In types whose elements cannot be
/// told apart by bytes, every byte counts equally.
pub fn energy(bytes: &[u8], data_type: DataType, unit_elements: u64) -> Vec<f64> {
    let bits = u64::from(element_bits(data_type).unwrap_or(8));
    let unit_bytes = (unit_elements * bits).div_ceil(8).max(1) as usize;
    match data_type {
        DataType::Float => sums(bytes, unit_bytes, f32::from_le_bytes, |x| square(x.into())),
        DataType::Double => sums(bytes, unit_bytes, f64::from_le_bytes, square),
        DataType::Bfloat16 => sums(bytes, unit_bytes, u16::from_le_bytes, bfloat16),
        DataType::Float16 => sums(bytes, unit_bytes, u16::from_le_bytes, float16),
        DataType::Int16 => sums(bytes, unit_bytes, i16::from_le_bytes, |x| square(x.into())),
        DataType::Int32 => sums(bytes, unit_bytes, i32::from_le_bytes, |x| square(x.into())),
        DataType::Uint16 => {
            let of = |x: u16| square(f64::from(x) - 32768.0);
            sums(bytes, unit_bytes, u16::from_le_bytes, of)
        }
        narrow => {
            let squares: [f64; 256] = std::array::from_fn(|byte| of_byte(byte as u8, narrow));
            let of = |byte| squares[usize::from(byte)];
            sums(bytes, unit_bytes, |[byte]: [u8; 1]| byte, of)
        }
    }
}

/// Adds the squares of the elements of each `unit_bytes`.
fn sums<T, const N: usize>(
    bytes: &[u8],
    unit_bytes: usize,
    read: impl Fn([u8; N]) -> T,
    square: impl Fn(T) -> f64,
) -> Vec<f64> {
    let units = bytes.chunks(unit_bytes);
    units.map(|unit| sum(unit, &read, &square)).collect()
}

/// Divides energies by the tensor's total, which becomes 1, so that tensors compare.
///
/// A tensor of zeros, or with elements that are not numbers, gets equal energy everywhere.
pub fn normalise(energies: &mut [f64]) {
    let total: f64 = energies.iter().sum();
    let even = 1.0 / energies.len().max(1) as f64;
    for energy in energies {
        *energy = if total.is_finite() && total > 0.0 {
            *energy / total
        } else {
            even
        };
    }
}

/// Adds the squares of little-endian elements of `N` bytes.
fn sum<T, const N: usize>(
    bytes: &[u8],
    read: impl Fn([u8; N]) -> T,
    square: impl Fn(T) -> f64,
) -> f64 {
    // Four sums run in parallel, where additions to one sum would wait for each other.
    let mut sums = [0.0; 4];
    let (elements, _) = bytes.as_chunks::<N>();
    let (fours, rest) = elements.as_chunks::<4>();
    for four in fours {
        for (sum, &element) in sums.iter_mut().zip(four) {
            *sum += square(read(element));
        }
    }
    for (sum, &element) in sums.iter_mut().zip(rest) {
        *sum += square(read(element));
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

fn square(x: f64) -> f64 {
    x * x
}

fn bfloat16(bits: u16) -> f64 {
    square(f32::from_bits(u32::from(bits) << 16).into())
}

/// The exponent's bias differs from that of f32 by 112, for subnormal numbers too. Infinity becomes
/// 65536, an arbitrary value, since trained weights are finite.
fn float16(bits: u16) -> f64 {
    let scaled = f32::from_bits(u32::from(bits & 0x7FFF) << 13);
    square((scaled * f32::from_bits((112 + 127) << 23)).into())
}

/// Returns the sum of the squares of the elements in a byte.
fn of_byte(byte: u8, data_type: DataType) -> f64 {
    let packed = |width: u32, of: &dyn Fn(u8) -> f64| {
        let mask = (1 << width) - 1;
        let parts = (0..8 / width).map(|i| (byte >> (i * width)) & mask);
        parts.map(|part| square(of(part))).sum::<f64>()
    };
    // Two's complement of `width` bits.
    let signed = |width: u32| move |part: u8| f64::from((part << (8 - width)) as i8 >> (8 - width));
    match data_type {
        DataType::Int8 => square(f64::from(byte as i8)),
        DataType::Uint8 => square(f64::from(byte) - 128.0),
        DataType::Int4 => packed(4, &signed(4)),
        DataType::Uint4 => packed(4, &|part| f64::from(part) - 8.0),
        DataType::Int2 => packed(2, &signed(2)),
        DataType::Uint2 => packed(2, &|part| f64::from(part) - 2.0),
        DataType::Float4e2m1 => packed(4, &|part| small_float(part & 7, 1, 1)),
        DataType::Float8e4m3fn => square(small_float(byte & 0x7F, 3, 7)),
        DataType::Float8e4m3fnuz => square(small_float(byte & 0x7F, 3, 8)),
        DataType::Float8e5m2 => square(small_float(byte & 0x7F, 2, 15)),
        DataType::Float8e5m2fnuz => square(small_float(byte & 0x7F, 2, 16)),
        _ => 1.0,
    }
}

/// Returns the value of a positive float with `mantissa` bits of mantissa and exponent bias `bias`.
/// Codes for infinities and NaN count as the next larger numbers would.
fn small_float(code: u8, mantissa: i32, bias: i32) -> f64 {
    let (exponent, fraction) = (i32::from(code >> mantissa), code & ((1 << mantissa) - 1));
    let fraction = f64::from(fraction) / 2f64.powi(mantissa);
    match exponent {
        0 => fraction * 2f64.powi(1 - bias),
        _ => (1.0 + fraction) * 2f64.powi(exponent - bias),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<const N: usize>(elements: &[[u8; N]], data_type: DataType) -> Vec<f64> {
        energy(elements.as_flattened(), data_type, elements.len() as u64)
    }

    #[test]
    fn squares_of_every_type() {
        // 1.5, -2, 0.25: 2.25 + 4 + 0.0625
        let expected = [6.3125];
        let floats = [1.5f32, -2.0, 0.25];
        assert_eq!(of(&floats.map(f32::to_le_bytes), DataType::Float), expected);
        let doubles = [1.5f64, -2.0, 0.25].map(f64::to_le_bytes);
        assert_eq!(of(&doubles, DataType::Double), expected);
        let halves = [0x3E00u16, 0xC000, 0x3400].map(u16::to_le_bytes);
        assert_eq!(of(&halves, DataType::Float16), expected);
        let brain = [0x3FC0u16, 0xC000, 0x3E80].map(u16::to_le_bytes);
        assert_eq!(of(&brain, DataType::Bfloat16), expected);
        // The smallest subnormal half is 2^-24.
        assert_eq!(of(&[[1, 0]], DataType::Float16), [2f64.powi(-48)]);
        assert_eq!(of(&[[0xFE], [3]], DataType::Int8), [13.0]);
        assert_eq!(of(&[[126], [131]], DataType::Uint8), [13.0]);
        // Low nibble 3, high nibble -2.
        assert_eq!(energy(&[0xE3], DataType::Int4, 2), [13.0]);
        assert_eq!(energy(&[0x6B], DataType::Uint4, 2), [13.0]);
        // 2-bit values 1, -1, -2, 0.
        assert_eq!(energy(&[0b00_10_11_01], DataType::Int2, 4), [6.0]);
        // 1.5 is 0_0111_100 with a bias of 7, 0_01111_10 with 15; 0_01_1 as a FLOAT4E2M1.
        assert_eq!(of(&[[0x3C]], DataType::Float8e4m3fn), [2.25]);
        assert_eq!(of(&[[0x3E]], DataType::Float8e5m2), [2.25]);
        assert_eq!(energy(&[0x03], DataType::Float4e2m1, 2), [2.25]);
    }

    #[test]
    fn units_are_summed_apart_and_in_four_sums() {
        let values: Vec<f32> = (1..=11u8).map(f32::from).collect();
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        // 1..=9 and 10, 11.
        assert_eq!(energy(&bytes, DataType::Float, 9), [285.0, 221.0]);
        // One sum would lose the small elements: 2^54 + 1 + 1 ...
        let one = 1.0;
        let large = [2f32.powi(27), one, one, one, 0.0, one, one, one].map(f32::to_le_bytes);
        assert_eq!(of(&large, DataType::Float), [2f64.powi(54) + 4.0]);
    }

    #[test]
    fn shares_add_up_to_one_and_nothing_is_not_a_number() {
        let mut shares = [1.0, 3.0];
        normalise(&mut shares);
        assert_eq!(shares, [0.25, 0.75]);
        for mut odd in [[0.0, 0.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
            normalise(&mut odd);
            assert_eq!(odd, [0.5, 0.5]);
        }
    }
}
