//! Kinds of files that are not models.

/// A kind of file that is easily mistaken for an ONNX model.
#[derive(Debug)]
pub struct Foreign {
    /// With its article.
    pub what: &'static str,
    pub advice: Option<&'static str>,
    is: fn(&[u8]) -> bool,
}

impl Foreign {
    /// Returns whether such a file stands for another one that was not fetched.
    pub fn is_pointer(&self) -> bool {
        self.advice == Some(FETCH)
    }
}

impl PartialEq for Foreign {
    fn eq(&self, other: &Foreign) -> bool {
        self.what == other.what
    }
}

impl Eq for Foreign {}

/// The bytes of a file to examine.
pub(crate) const HEAD_BYTES: usize = 1024;

const FETCH: &str = "fetch the file it stands for with `git lfs pull`";
const DOWNLOAD: &str = "it was probably downloaded from a page that answers with text: use the link of the file itself";
const FROM_TORCH: &str = "export it with torch.onnx.export";
const FROM_TENSORFLOW: &str = "convert it with tf2onnx";
const UNPACK: &str = "unpack it first";

/// The kinds; the rules of later ones would match files of earlier ones too.
const KINDS: [Foreign; 21] = [
    row("a Git LFS pointer", Some(FETCH), |head| {
        head.starts_with(b"version https://git-lfs.github.com/spec/")
    }),
    row("a web page (HTML)", Some(DOWNLOAD), |head| {
        let start = head.trim_ascii_start().to_ascii_lowercase();
        start.starts_with(b"<!doctype html") || start.starts_with(b"<html")
    }),
    row("a PyTorch file (.pt, .pth)", Some(FROM_TORCH), |head| {
        head.starts_with(b"PK\x03\x04") && has(head, b"/data.pkl")
    }),
    row(
        "a Python pickle, as older PyTorch files are",
        Some(FROM_TORCH),
        |head| matches!(head, [0x80, 2..=5, ..]),
    ),
    row("a zip archive", Some(UNPACK), |head| {
        head.starts_with(b"PK\x03\x04")
    }),
    row("a gzip archive", Some(UNPACK), |head| {
        head.starts_with(&[0x1f, 0x8b])
    }),
    row("a Zstandard archive", Some(UNPACK), |head| {
        head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd])
    }),
    row("a tar archive", Some(UNPACK), |head| {
        head.get(257..262) == Some(b"ustar")
    }),
    row(
        "a TensorFlow Lite model (.tflite)",
        Some(FROM_TENSORFLOW),
        |head| head.get(4..8) == Some(b"TFL3"),
    ),
    row(
        "a TensorFlow SavedModel",
        Some(FROM_TENSORFLOW),
        is_saved_model,
    ),
    row("a TensorFlow graph", Some(FROM_TENSORFLOW), |head| {
        head.first() == Some(&0x0a)
            && (has(head, b"\x12\x0bPlaceholder") || has(head, b"\x12\x05Const"))
    }),
    row(
        "a model in ONNX Runtime's own format (.ort)",
        Some("protect the ONNX model it was made from"),
        |head| is_flat(head, b"ORTM"),
    ),
    row(
        "an adapter (LoRA, .onnx_adapter)",
        Some("merge it into its model and protect that"),
        |head| is_flat(head, b"TORT"),
    ),
    row("a GGUF file", None, |head| head.starts_with(b"GGUF")),
    row(
        "a file of safetensors",
        Some("it holds weights alone: export the model to ONNX"),
        |head| {
            let len = head.first_chunk().map(|len| u64::from_le_bytes(*len));
            len.is_some_and(|len| (2..=100_000_000).contains(&len)) && head.get(8) == Some(&b'{')
        },
    ),
    row(
        "an HDF5 file, as older Keras models are",
        Some(FROM_TENSORFLOW),
        |head| head.starts_with(b"\x89HDF\r\n\x1a\n"),
    ),
    row("a NumPy array (.npy)", None, |head| {
        head.starts_with(b"\x93NUMPY")
    }),
    row("an encrypted age file", Some("decrypt it first"), |head| {
        head.starts_with(b"age-encryption.org/")
            || head.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----")
    }),
    row("JSON text", Some(DOWNLOAD), |head| {
        matches!(head.trim_ascii_start(), [b'{' | b'[', ..]) && is_text(head)
    }),
    row("plain text", None, is_text),
    row(
        "nothing but zeros",
        Some("it was probably not written to its end: get it anew"),
        |head| head.len() >= 16 && head.iter().all(|byte| *byte == 0),
    ),
];

/// Names the kind of a file that is not a model, or returns `None` if the kind is unknown.
///
/// Examines the first bytes. Use it for messages about files that were refused already.
pub fn foreign(bytes: &[u8]) -> Option<&'static Foreign> {
    static ROWS: [Foreign; KINDS.len()] = KINDS;
    let head = bytes.get(..HEAD_BYTES).unwrap_or(bytes);
    ROWS.iter().find(|row| (row.is)(head))
}

/// Names the kind of a file in one of ONNX Runtime's own formats, or returns `None`: `.ort`, or an
/// adapter (LoRA). Searches find them, and nothing can protect them.
pub fn unprotectable(bytes: &[u8]) -> Option<&'static Foreign> {
    let is_own = is_flat(bytes, b"ORTM") || is_flat(bytes, b"TORT");
    is_own.then(|| foreign(bytes)).flatten()
}

/// Returns whether it is a flat buffer with this identifier, which follows the offset of the root
/// table. That offset is less than 64 KiB. In the protobuf format, the zeros would be part of a
/// name's length.
fn is_flat(head: &[u8], identifier: &[u8]) -> bool {
    matches!(head, [_, _, 0, 0, rest @ ..] if rest.starts_with(identifier))
}

const fn row(what: &'static str, advice: Option<&'static str>, is: fn(&[u8]) -> bool) -> Foreign {
    Foreign { what, advice, is }
}

fn has(head: &[u8], part: &[u8]) -> bool {
    head.windows(part.len()).any(|window| window == part)
}

/// Recognises `saved_model_schema_version` 1, and a graph that does not begin like the producer's
/// name that ONNX has there.
fn is_saved_model(head: &[u8]) -> bool {
    let Some(rest) = head.strip_prefix(&[0x08, 0x01, 0x12]) else {
        return false;
    };
    let n_more = rest.iter().take_while(|byte| **byte & 0x80 != 0).count();
    n_more < 10 && rest.get(n_more + 1) == Some(&0x0a)
}

/// Returns whether it is UTF-8 text without control characters, apart from a truncated last
/// character.
fn is_text(head: &[u8]) -> bool {
    let whole = match str::from_utf8(head) {
        Ok(text) => text,
        Err(error) if error.error_len().is_none() => {
            str::from_utf8(head.get(..error.valid_up_to()).unwrap_or_default()).unwrap_or_default()
        }
        Err(_) => return false,
    };
    let of_text = |c: char| !c.is_control() || matches!(c, '\n' | '\r' | '\t' | '\u{c}');
    !whole.is_empty() && whole.chars().all(of_text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_are_no_models_say_what_they_are() {
        let tar = [&[b'm'; 257][..], b"ustar\0"].concat();
        let safetensors = [&9u64.to_le_bytes()[..], b"{\"a\":{}} "].concat();
        for (head, what) in [
            (
                &b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"[..],
                "a Git LFS pointer",
            ),
            (b"\n <!DOCTYPE html>\n<html>", "a web page (HTML)"),
            (
                b"PK\x03\x04\x00\x00archive/data.pkl",
                "a PyTorch file (.pt, .pth)",
            ),
            (
                b"\x80\x02\x8a\nl",
                "a Python pickle, as older PyTorch files are",
            ),
            (b"PK\x03\x04\x00\x00model.onnx", "a zip archive"),
            (b"\x1f\x8b\x08", "a gzip archive"),
            (b"\x28\xb5\x2f\xfd\x00", "a Zstandard archive"),
            (&tar, "a tar archive"),
            (b"\x1c\0\0\0TFL3", "a TensorFlow Lite model (.tflite)"),
            (b"\x08\x01\x12\xa0\x03\x0a\x02", "a TensorFlow SavedModel"),
            (
                b"\x0a\x20\x0a\x01x\x12\x0bPlaceholder",
                "a TensorFlow graph",
            ),
            (
                b"\x38\0\0\0ORTM",
                "a model in ONNX Runtime's own format (.ort)",
            ),
            (b"\x0c\0\0\0TORT", "an adapter (LoRA, .onnx_adapter)"),
            (b"GGUF\x03\0\0\0", "a GGUF file"),
            (&safetensors, "a file of safetensors"),
            (
                b"\x89HDF\r\n\x1a\n\0",
                "an HDF5 file, as older Keras models are",
            ),
            (b"\x93NUMPY\x01\0", "a NumPy array (.npy)"),
            (b"age-encryption.org/v1\n-> X25519", "an encrypted age file"),
            (b" {\"error\": \"not found\"}", "JSON text"),
            ("Gewichte \u{fc}ber alles\n".as_bytes(), "plain text"),
            (&[0; 16], "nothing but zeros"),
        ] {
            assert_eq!(foreign(head).map(|found| found.what), Some(what));
        }
        // The end of the head cuts a character.
        let long = "ü".repeat(600);
        assert_eq!(foreign(&long.as_bytes()[1..]), None);
        assert!(foreign(format!("x{long}").as_bytes()).is_some());
    }

    #[test]
    fn models_are_none_of_them() {
        for sample in onnxseal_testkit::samples::all() {
            assert_eq!(foreign(&sample.model), None, "{}", sample.name);
        }
        // The oldest kind of model, by a producer with a name.
        assert_eq!(foreign(b"\x08\x01\x12\x04test"), None);
        assert_eq!(foreign(b""), None);
    }
}
