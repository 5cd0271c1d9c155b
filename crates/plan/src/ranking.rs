//! Rankings: files with the measured scores of a model's weights.

use std::collections::BTreeMap;
use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use onnxseal_onnx::excerpt;
use onnxseal_onnx::model::Model;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::error::Error;
use crate::scores::{Scores, Wanted};
use crate::subsequence::UNIT_BYTES;

/// The version of ranking files.
const VERSION: u32 = 1;

/// The most bytes that a ranking file may have.
pub const MAX_RANKING_BYTES: usize = 1 << 30;

/// Scores for the subsequences of one model's tensors, from a file that `onnxseal rank` wrote.
///
/// The file is JSON, see `docs/JSON.md`. It names the model by a digest of its tensors' places,
/// types and shapes, so the ranking fits every model of the same architecture and export.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    version: u32,
    method: String,
    #[serde(rename = "unit")]
    unit_bytes: u64,
    shapes: String,
    #[serde(
        rename = "partial",
        default,
        skip_serializing_if = "std::ops::Not::not"
    )]
    is_partial: bool,
    #[serde(deserialize_with = "read_scores", serialize_with = "write_scores")]
    tensors: BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct TensorScores {
    at: String,
    /// Base64 of little-endian FLOATs, one for each subsequence.
    scores: String,
}

impl Ranking {
    /// Makes an empty ranking of `model`, in subsequences of `unit_bytes`, by `method`.
    pub fn new(model: &Model<'_>, method: &str, unit_bytes: u64) -> Result<Ranking, Error> {
        let ranking = Ranking {
            version: VERSION,
            method: method.to_owned(),
            unit_bytes,
            shapes: shapes(model),
            is_partial: false,
            tensors: BTreeMap::new(),
        };
        ranking.check_unit()
    }

    /// Large models have units beyond what a policy may ask for.
    fn check_unit(self) -> Result<Ranking, Error> {
        let unit = self.unit_bytes;
        if unit >= *UNIT_BYTES.start() && unit.is_power_of_two() {
            return Ok(self);
        }
        let what = format!("unit {unit}: expected a power of two from 64 on");
        Err(Error::Ranking(what))
    }

    /// Sets the scores of the tensor at a protobuf path, one of 0 or more for each subsequence.
    pub fn insert(&mut self, at: String, scores: Vec<f32>) {
        self.tensors.insert(at, scores);
    }

    /// Marks the measurement as cut short: some tensors may lack scores, others may have rough
    /// ones.
    pub fn set_partial(&mut self) {
        self.is_partial = true;
    }

    /// Reads a ranking file.
    pub fn parse(json: &[u8]) -> Result<Ranking, Error> {
        if json.len() > MAX_RANKING_BYTES {
            let what = format!("it has more than {MAX_RANKING_BYTES} bytes");
            return Err(Error::Ranking(what));
        }
        let ranking: Ranking =
            serde_json::from_slice(json).map_err(|error| Error::Ranking(error.to_string()))?;
        match ranking.version {
            VERSION => ranking.check_unit(),
            other => Err(Error::Ranking(format!(
                "version {other} (this program reads {VERSION})"
            ))),
        }
    }

    /// Encodes the ranking file.
    pub fn to_json(&self) -> Vec<u8> {
        // Strings and numbers always encode.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Bytes of a subsequence.
    pub fn unit_bytes(&self) -> u64 {
        self.unit_bytes
    }

    /// Returns the method of measurement: `activation` or `probabilistic`.
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Returns the scores of the tensor at a protobuf path, one for each subsequence.
    pub fn tensor(&self, at: &str) -> Option<&[f32]> {
        self.tensors.get(at).map(Vec::as_slice)
    }

    /// Returns whether the measurement was cut short: some tensors may lack scores, others may have
    /// rough ones.
    pub fn is_partial(&self) -> bool {
        self.is_partial
    }

    /// Fails if the ranking is of another model.
    pub(crate) fn check(&self, model: &Model<'_>) -> Result<(), Error> {
        match self.shapes == shapes(model) {
            true => Ok(()),
            false => Err(Error::RankingOfAnother),
        }
    }

    /// Returns the scores of the tensors `wanted` of `model`, which was [checked](Ranking::check). A
    /// tensor without scores comes last.
    pub(crate) fn scores(&self, model: &Model<'_>, wanted: &[Wanted]) -> Result<Scores, Error> {
        let scores = wanted.iter().map(|wanted| {
            let tensor = model.tensors.get(wanted.tensor.index());
            match tensor.and_then(|tensor| self.tensor(&tensor.path)) {
                None => Ok(vec![0.0; wanted.n as usize]),
                Some(scores) if scores.len() as u64 == wanted.n => {
                    Ok(scores.iter().copied().map(f64::from).collect())
                }
                Some(_) => Err(Error::RankingOfAnother),
            }
        });
        scores.collect()
    }
}

fn read_scores<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<String, Vec<f32>>, D::Error> {
    let tensors = Vec::<TensorScores>::deserialize(deserializer)?.into_iter();
    let read = tensors.map(|TensorScores { at, scores }| {
        let bytes = STANDARD.decode(scores).unwrap_or_default();
        let (scores, rest) = bytes.as_chunks();
        let scores: Vec<f32> = scores.iter().copied().map(f32::from_le_bytes).collect();
        let is_score = |score: &f32| score.is_finite() && *score >= 0.0;
        if rest.is_empty() && !scores.is_empty() && scores.iter().all(is_score) {
            return Ok((at, scores));
        }
        let at = excerpt(&at);
        Err(D::Error::custom(format!(
            "the scores of {at:?} are not numbers of at least 0"
        )))
    });
    read.collect()
}

fn write_scores<S: Serializer>(
    tensors: &BTreeMap<String, Vec<f32>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(tensors.iter().map(|(at, scores)| {
        let bytes = scores.iter().flat_map(|score| score.to_le_bytes());
        TensorScores {
            at: at.clone(),
            scores: STANDARD.encode(bytes.collect::<Vec<u8>>()),
        }
    }))
}

/// Returns the SHA-256 of the places, types and shapes of all tensors, in hexadecimal digits.
fn shapes(model: &Model<'_>) -> String {
    let mut hash = Sha256::new();
    for tensor in &model.tensors {
        let mut line = format!("{}\t{}", tensor.path, tensor.data_type.as_str_name());
        for dim in &tensor.dims {
            let _ = write!(line, "\t{dim}");
        }
        line.push('\n');
        hash.update(line);
    }
    let mut text = String::with_capacity(64);
    for byte in hash.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::panic)]

    use onnxseal_onnx::{Limits, locate};
    use onnxseal_testkit::build::{GraphBuilder, node, weights};

    use super::*;
    use crate::{Policy, Preset, plan};

    fn model(n: i64) -> Vec<u8> {
        GraphBuilder::new("g")
            .initializer(weights("w", &[n, 64], 0))
            .node(node("Conv", &["x", "w"], &["y"]))
            .encode()
    }

    #[test]
    fn a_ranking_chooses_and_is_of_one_architecture() {
        let bytes = model(256);
        let located = locate(&bytes, &Limits::default()).unwrap();
        let mut ranking = Ranking::new(&located, "activation", 512).unwrap();
        // 65536 bytes in units of 512: the last ones first.
        let scores = (0..128u8).map(f32::from).collect();
        ranking.insert("graph.initializer[0]".into(), scores);
        let read = Ranking::parse(&ranking.to_json()).unwrap();
        assert_eq!(read, ranking);
        let mut policy = Policy::parse("[op.Conv]\ncoefficient = 0.25").unwrap();
        policy.set_ranking(read.clone());
        let plan = plan(&located, &policy, |_| Err(Error::Scores)).unwrap();
        let [run] = plan.tensors[0].targets[..] else {
            panic!("{plan:?}")
        };
        assert_eq!((run.skip, run.take), (96, 32));
        // Tensors without scores come last.
        let empty = Ranking::new(&located, "activation", 512).unwrap();
        let wanted = Wanted {
            tensor: plan.tensors[0].tensor,
            unit_elements: 128,
            n: 128,
        };
        assert_eq!(empty.scores(&located, &[wanted]).unwrap(), [[0.0; 128]]);
        let other = model(255);
        let other = locate(&other, &Limits::default()).unwrap();
        // Even if everything is taken, so that no scores are needed.
        let mut full = Policy::preset(Preset::Full);
        full.set_ranking(ranking);
        let refused = crate::plan(&other, &full, |_| Err(Error::Scores));
        assert!(matches!(refused, Err(Error::RankingOfAnother)));
    }

    #[test]
    fn in_a_partial_ranking_what_has_no_scores_comes_last() {
        let bytes = GraphBuilder::new("g")
            .initializer(weights("left_out", &[64, 64], 0))
            .initializer(weights("scored", &[64, 64], 1))
            .node(node("Conv", &["x", "left_out"], &["h"]))
            .node(node("Conv", &["h", "scored"], &["y"]))
            .encode();
        let located = locate(&bytes, &Limits::default()).unwrap();
        let mut ranking = Ranking::new(&located, "activation", 256).unwrap();
        // Two tensors of 16384 bytes, each 64 units.
        ranking.insert("graph.initializer[1]".into(), vec![0.1; 64]);
        ranking.set_partial();
        let read = Ranking::parse(&ranking.to_json()).unwrap();
        assert!(read.is_partial());
        let encrypted = |coefficient: &str| {
            let policy = format!("[op.Conv]\ncoefficient = {coefficient}");
            let mut policy = Policy::parse(&policy).unwrap();
            policy.set_ranking(read.clone());
            let plan = plan(&located, &policy, |_| Err(Error::Scores)).unwrap();
            let bytes = plan.tensors.iter().map(|tensor| tensor.encrypted_bytes);
            bytes.collect::<Vec<u64>>()
        };
        assert_eq!(encrypted("0.25"), [0, 8192]);
        assert_eq!(encrypted("0.5"), [0, 16384]);
        // The rest of the budget goes to the first of the others.
        assert_eq!(encrypted("0.75"), [8192, 16384]);
    }

    #[test]
    fn what_is_no_ranking_is_refused() {
        let bytes = model(64);
        let located = locate(&bytes, &Limits::default()).unwrap();
        let mut ranking = Ranking::new(&located, "activation", 512).unwrap();
        ranking.insert("w".into(), vec![1.0, 2.0]);
        let text = String::from_utf8(ranking.to_json()).unwrap();
        let scores = STANDARD.encode([1.0f32, 2.0].map(f32::to_le_bytes).as_flattened());
        for (from, to) in [
            ("\"version\":1", "\"version\":2"),
            ("\"unit\":512", "\"unit\":500"),
            ("\"unit\":512", "\"unit\":512,\"more\":1"),
            (&scores, "AAAA"),
            (&scores, ""),
            (&scores, "!"),
            (&scores, "AADAfw=="),
            (&scores, "AACAvw=="),
        ] {
            let changed = text.replacen(from, to, 1);
            assert_ne!(changed, text);
            assert!(Ranking::parse(changed.as_bytes()).is_err(), "{to}");
        }
        assert!(Ranking::new(&located, "energy", 32).is_err());
    }
}
