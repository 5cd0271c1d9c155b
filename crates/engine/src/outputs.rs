//! Adds outputs to a model without encoding it again.

/// Returns `model` with the values `names` as further outputs of its graph.
///
/// Protobuf merges a message that occurs twice, so this appends one more `graph` with only outputs,
/// without types, which ONNX Runtime infers:
///
/// ```text
/// ModelProto.graph (7) { GraphProto.output (12) { ValueInfoProto.name (1) } ... }
/// ```
pub(crate) fn with_outputs(model: &[u8], names: &[&str]) -> Vec<u8> {
    let mut graph = Vec::new();
    for name in names {
        let mut value_info = Vec::new();
        put(&mut value_info, 1, name.as_bytes());
        put(&mut graph, 12, &value_info);
    }
    let mut bytes = Vec::with_capacity(model.len() + graph.len() + 11);
    bytes.extend_from_slice(model);
    if !names.is_empty() {
        put(&mut bytes, 7, &graph);
    }
    bytes
}

/// Appends a length-delimited field; its number is at most 15.
fn put(to: &mut Vec<u8>, number: u8, bytes: &[u8]) {
    to.push(number << 3 | 2);
    let mut len = bytes.len();
    while len >= 0x80 {
        to.push((len & 0x7F) as u8 | 0x80);
        len >>= 7;
    }
    to.push(len as u8);
    to.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_graph_with_outputs_is_appended() {
        assert_eq!(with_outputs(&[1], &[]), [1]);
        let got = with_outputs(&[], &["ab", "c"]);
        assert_eq!(
            got,
            [
                0x3A, 11, 0x62, 4, 0x0A, 2, b'a', b'b', 0x62, 3, 0x0A, 1, b'c'
            ]
        );
        let long = "n".repeat(300);
        let got = with_outputs(&[], &[&long]);
        assert_eq!(got[..3], [0x3A, 0xB2, 0x02]);
        assert_eq!(got.len(), 300 + 3 + 3 + 3);
    }
}
