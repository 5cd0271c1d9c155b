//! The digits of `fixtures/models`, attacked for real. Without ONNX Runtime's library these tests
//! say so and pass.
#![allow(clippy::unwrap_used, clippy::panic, missing_docs)]

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use onnxseal_assess::assessment::{
    Attack, AttackRow, Doubt, Fill, FloorKind, MetricKind, PublicBase, STRIP_BINS, Verdict,
};
use onnxseal_assess::report::summary::Summary;
use onnxseal_assess::{
    Assessment, Error, Method, NamedPolicy, Options, Progress, PublicModel, Ranking, Silent,
    Subject, assess, rank,
};
use onnxseal_core::{Identities, Preset, ProtectOptions, Recipients, generate_identity, protect};
use onnxseal_data::{Array, DataOptions, DataSet, Values};
use onnxseal_engine::{Engine, Error as RunError, Files};
use onnxseal_plan::Policy;

/// Whether ONNX Runtime is there.
fn is_there() -> bool {
    match Engine::load() {
        Ok(_) => true,
        Err(error @ RunError::NoLibrary { .. }) => {
            eprintln!("skipped: {error}");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/models")
}

fn model(name: &str) -> Subject {
    Subject::plain(models().join(name)).unwrap()
}

/// The test images as a model takes them.
fn digits(kind: &str) -> DataSet {
    let mut data = DataSet::load(
        &models().join("digits_test.csv"),
        None,
        &DataOptions::default(),
    )
    .unwrap();
    let array = &mut data.arrays[0];
    let pixels: Vec<f64> = (0..array.values.len())
        .map(|i| array.values.at(i))
        .collect();
    let scaled = Values::F32(pixels.iter().map(|pixel| (pixel / 16.0) as f32).collect());
    (array.dims, array.values) = match kind {
        "tokens" => {
            let token = |(i, pixel): (usize, &f64)| *pixel as i64 + 17 * (i as i64 % 64);
            (
                vec![64],
                Values::I64(pixels.iter().enumerate().map(token).collect()),
            )
        }
        "rows" => (vec![8, 8], scaled),
        _ => (vec![1, 8, 8], scaled),
    };
    data
}

fn only(preset: Preset) -> Options<'static> {
    let mut options = Options::default();
    options.candidates = vec![preset.into()];
    options
}

/// The convolutional net, on all its test images.
fn assess_cnn(options: &Options<'_>) -> Assessment {
    let (subject, data) = (model("digits_cnn.onnx"), digits("nchw"));
    assess(&subject, Some(&data), options, &Silent).unwrap()
}

fn row(assessment: &Assessment, wanted: Fill) -> &AttackRow {
    let is_it = |row: &&AttackRow| matches!(row.attack, Attack::Fill { fill, reestimated: false } if fill == wanted);
    assessment.candidates[0].attacks.iter().find(is_it).unwrap()
}

/// A policy that these tests rely on to stay what it is: 15 % of everything, evenly.
fn some() -> NamedPolicy {
    let policy = Policy::parse("strategy = \"spread\"\n[default]\ncoefficient = 0.15").unwrap();
    NamedPolicy {
        name: "some".into(),
        policy,
    }
}

#[test]
fn an_lstm_of_which_some_is_encrypted_is_repaired_by_zeros() {
    if !is_there() {
        return;
    }
    let mut options = only(Preset::Full);
    options.candidates.insert(0, some());
    let data = digits("rows");
    let assessment = assess(&model("digits_lstm.onnx"), Some(&data), &options, &Silent).unwrap();
    assert_eq!(assessment.metric.kind, MetricKind::Accuracy);
    assert_eq!(assessment.original.value, 0.98);
    let zero = row(&assessment, Fill::Zero).measure.as_ref().unwrap();
    // NumPy says the same: see `fixtures/README.md` for the model.
    assert!(zero.value > 0.4, "{zero:?}");
    assert_eq!(zero.n_samples, 200);
    let some = &assessment.candidates[0];
    assert_eq!(some.verdict, Verdict::Leaks);
    assert!((some.share - 0.15).abs() < 0.05, "{}", some.share);
    let probe = some.probe(100, false).unwrap().measure.as_ref().unwrap();
    assert_eq!(probe.n_samples, 100);
    assert!(assessment.data.dropped_sizes.contains(&1000));
    let full = &assessment.candidates[1];
    assert!(
        full.share > 0.99
            && full
                .best_fill_attack()
                .unwrap()
                .measure
                .as_ref()
                .unwrap()
                .value
                < 0.35
    );
    for operator in &some.operators {
        assert_eq!(operator.strip.len(), STRIP_BINS);
        let share: f32 = operator.strip.iter().sum::<f32>() / STRIP_BINS as f32;
        assert!((f64::from(share) - operator.share).abs() < 1e-3);
    }
    let json = serde_json::to_value(&assessment).unwrap();
    assert_eq!(json["candidates"][0]["verdict"]["verdict"], "leaks");
}

#[test]
fn the_same_seed_gives_the_same_figures() {
    if !is_there() {
        return;
    }
    let values = || {
        let assessment = assess(
            &model("digits_cnn.onnx"),
            Some(&digits("nchw")),
            &only(Preset::Balanced),
            &Silent,
        )
        .unwrap();
        let value = |row: &AttackRow| row.measure.as_ref().map(|measure| measure.value);
        assessment.candidates[0]
            .attacks
            .iter()
            .map(value)
            .collect::<Vec<_>>()
    };
    assert_eq!(values(), values());
}

#[test]
fn a_protected_model_is_assessed_as_it_is() {
    if !is_there() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let sealed = dir.path().join("sealed.onnx");
    let identity = generate_identity();
    let recipients = Recipients::parse(&[identity.recipient()]).unwrap();
    let policy = Policy::preset(Preset::Balanced);
    let original = models().join("digits_cnn_dynamo.onnx");
    protect(
        &original,
        &sealed,
        &recipients,
        &ProtectOptions::new(policy),
        &onnxseal_core::Silent,
    )
    .unwrap();
    let identities = Identities::from(identity);
    let protected = Subject::protected(&sealed, &identities).unwrap();
    let options = Options::default();
    let of_protected = assess(&protected, Some(&digits("nchw")), &options, &Silent).unwrap();
    let plain = model("digits_cnn_dynamo.onnx");
    let of_plain = assess(
        &plain,
        Some(&digits("nchw")),
        &only(Preset::Balanced),
        &Silent,
    )
    .unwrap();
    assert_eq!(of_protected.candidates[0].name, "as protected");
    let (a, b) = (&of_protected.candidates[0], &of_plain.candidates[0]);
    assert_eq!(a.encrypted_bytes, b.encrypted_bytes);
    for (a, b) in a.attacks.iter().zip(&b.attacks) {
        assert_eq!(a.name, b.name);
        assert_eq!(
            a.measure.as_ref().map(|m| m.value),
            b.measure.as_ref().map(|m| m.value),
            "{}",
            a.name
        );
    }
    assert!(matches!(Subject::plain(&*sealed), Err(Error::Usage(_))));
}

fn value(row: Option<&AttackRow>) -> f64 {
    row.unwrap().measure.as_ref().unwrap().value
}

fn floor(assessment: &Assessment, kind: FloorKind) -> f64 {
    let mut floors = assessment.floors.iter();
    floors
        .find(|floor| floor.kind == kind)
        .unwrap()
        .measure
        .value
}

#[test]
fn with_the_model_itself_as_public_base_everything_comes_back() {
    if !is_there() {
        return;
    }
    // The second is the first in FLOAT16.
    for (name, least) in [("digits_cnn.onnx", 0.985), ("digits_cnn_fp16.onnx", 0.97)] {
        let base = model("digits_cnn.onnx");
        let mut options = only(Preset::Balanced);
        options.base = PublicModel::Known(&base);
        let assessment = assess(&model(name), Some(&digits("nchw")), &options, &Silent).unwrap();
        let found = row(&assessment, Fill::PublicBase);
        assert!(
            value(Some(found)) >= least,
            "{name}: {}",
            value(Some(found))
        );
        // Whoever has the base has as much without the file.
        let no_gap = Verdict::CannotTell(Doubt::NoGap);
        assert_eq!(
            (found.floor_kind, found.verdict),
            (FloorKind::Base, no_gap),
            "{name}"
        );
        assert_eq!(assessment.candidates[0].verdict, no_gap, "{name}");
        assert!(
            matches!(
                assessment.public_base,
                PublicBase::Tried {
                    n_matched: 8,
                    n_tensors: 8,
                    ..
                }
            ),
            "{:?}",
            assessment.public_base
        );
    }
}

#[test]
fn a_public_base_has_the_weights_of_the_model() {
    if !is_there() {
        return;
    }
    let base = model("digits_mlp_int4.onnx");
    let mut options = only(Preset::Balanced);
    options.base = PublicModel::Known(&base);
    let refused = assess(
        &model("digits_cnn.onnx"),
        Some(&digits("nchw")),
        &options,
        &Silent,
    );
    assert!(
        matches!(&refused, Err(Error::Usage(text)) if text.contains("not a public base")),
        "{refused:?}"
    );
}

/// The samples of `fixtures/public`, and a model of them.
fn public(name: &str) -> (Subject, DataSet) {
    let folder = models().join("../public");
    let mut options = DataOptions::default();
    options.scale = Some(255.0);
    let data = DataSet::load(&folder.join("samples.npz"), None, &options).unwrap();
    (Subject::plain(folder.join(name)).unwrap(), data)
}

#[test]
fn whoever_has_the_public_base_gets_much_of_what_partial_presets_hide() {
    if !is_there() {
        return;
    }
    let (victim, data) = public("victim.onnx");
    let (base, _) = public("base.onnx");
    let mut options = Options::default();
    options.attacker_samples = vec![100];
    options.base = PublicModel::Known(&base);
    let found = assess(&victim, Some(&data), &options, &Silent).unwrap();
    let black_box = floor(&found, FloorKind::BaseProbe);
    let got: Vec<f64> = found
        .candidates
        .iter()
        .map(|row| value(row.probe(100, true)))
        .collect();
    let names: Vec<&str> = found
        .candidates
        .iter()
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(names, ["balanced", "strong", "full"]);
    // Over half of the way from what the base gives to the original.
    assert!(
        got[0] > (black_box + found.original.value) / 2.0,
        "{got:?} over {black_box}"
    );
    assert!(
        got[0] > got[1] && got[1] > black_box + 0.05,
        "{got:?} over {black_box}"
    );
    assert_eq!(got[2], black_box);
    let verdicts: Vec<Verdict> = found.candidates.iter().map(|row| row.verdict).collect();
    assert_eq!(verdicts[..2], [Verdict::Leaks; 2]);
    let if_no_public_base = false;
    assert_eq!(verdicts[2], Verdict::Holds { if_no_public_base });
    let row = found.candidates[0].worst_attack().unwrap();
    assert_eq!(
        (row.attack.has_base(), row.floor_kind),
        (true, FloorKind::BaseProbe)
    );

    // What the base gives by itself: the base is all that is attacked here.
    options.candidates = vec![Preset::Balanced.into()];
    let of_base = assess(&base, Some(&data), &options, &Silent).unwrap();
    assert_eq!(floor(&of_base, FloorKind::BaseProbe), black_box);
    assert_eq!(value(of_base.candidates[0].probe(100, true)), black_box);
    let no_gap = Verdict::CannotTell(Doubt::NoGap);
    assert_eq!(of_base.candidates[0].verdict, no_gap);
    let mut notes = of_base.notes.iter();
    assert!(notes.any(|note| note.contains("the same weights as the model")));
    assert_eq!(
        floor(&of_base, FloorKind::RawProbe),
        floor(&found, FloorKind::RawProbe)
    );
}

#[test]
fn what_leaves_weights_in_clear_holds_only_if_a_public_base_was_thought_of() {
    if !is_there() {
        return;
    }
    let mut options = only(Preset::Balanced);
    options.attacker_samples = vec![20];
    options.candidates.push(Preset::Full.into());
    // A probe on the inputs, or on random weights, is far from what this net gets.
    let assess_embedding = |options: &Options<'_>| {
        let (subject, data) = (model("digits_embedding.onnx"), digits("tokens"));
        assess(&subject, Some(&data), options, &Silent).unwrap()
    };
    let untried = assess_embedding(&options);
    assert_eq!(untried.public_base, PublicBase::NotTried);
    let no_base = Verdict::CannotTell(Doubt::NoBase);
    assert_eq!(untried.candidates[0].verdict, no_base);
    assert_eq!(
        untried.candidates[0].worst_attack().unwrap().verdict.word(),
        "holds"
    );
    let failing: Vec<&str> = untried
        .failures(false)
        .map(|row| row.name.as_str())
        .collect();
    assert_eq!(failing, ["balanced"]);
    let summary = Summary::of(&untried);
    assert!(
        summary.before[0].starts_with("Nobody tried a public base."),
        "{summary}"
    );
    assert!(
        summary
            .to_string()
            .contains("balanced: cannot tell: no public base was tried: nothing broke it, and "),
        "{summary}"
    );
    let json = serde_json::to_value(&untried).unwrap();
    let verdict = serde_json::json!({"verdict": "cannot_tell", "reason": "no_base"});
    assert_eq!(json["candidates"][0]["verdict"], verdict);
    assert_eq!(json["public_base"]["kind"], "not_tried");

    options.base = PublicModel::None;
    let trained_from_nothing = assess_embedding(&options);
    let json = serde_json::to_value(&trained_from_nothing).unwrap();
    let verdict = serde_json::json!({"verdict": "holds", "if_no_public_base": true});
    assert_eq!(json["candidates"][0]["verdict"], verdict);
    let text = Summary::of(&trained_from_nothing).to_string();
    assert!(
        text.contains("balanced holds, if no public ancestor exists: ")
            && !text.contains("Nobody tried"),
        "{text}"
    );
    // Random inputs show little, whatever is said of a base.
    let random = assess(&model("digits_cnn.onnx"), None, &options, &Silent).unwrap();
    let verdict = Verdict::CannotTell(Doubt::RandomInputs);
    assert_eq!(random.candidates[0].verdict, verdict);
}

#[test]
fn without_labels_or_data_agreement_is_measured() {
    if !is_there() {
        return;
    }
    let mut data = digits("nchw");
    data.labels = None;
    let subject = model("digits_cnn.onnx");
    let assessment = assess(&subject, Some(&data), &only(Preset::Balanced), &Silent).unwrap();
    assert_eq!(
        (assessment.metric.kind, assessment.original.value),
        (MetricKind::Agreement, 1.0)
    );
    assert!(assessment.candidates[0].probe(100, false).is_some());
    let assessment = assess(&subject, None, &only(Preset::Balanced), &Silent).unwrap();
    assert!(assessment.data.is_random && assessment.candidates[0].probe(100, false).is_none());
    assert!(assessment.notes[0].contains("random"));
}

#[test]
fn a_caller_may_measure_otherwise() {
    if !is_there() {
        return;
    }
    let mean = |answers: &onnxseal_assess::Answers<'_>| {
        answers
            .outputs
            .values
            .iter()
            .map(|v| f64::from(*v))
            .sum::<f64>()
    };
    let mut options = only(Preset::Balanced);
    options.metric = Some(&mean);
    let assessment = assess_cnn(&options);
    assert_eq!(assessment.metric.kind, MetricKind::Custom);
    assert!(assessment.original.interval.is_none());
}

#[test]
fn data_that_do_not_fit_are_told() {
    if !is_there() {
        return;
    }
    let subject = model("digits_cnn.onnx");
    let run = |data: DataSet| {
        assess(&subject, Some(&data), &only(Preset::Balanced), &Silent).unwrap_err()
    };
    let set = |dims: &[usize], n: usize, labels: Option<Vec<i64>>| {
        let values = Values::F32(vec![0.0; n * dims.iter().product::<usize>()]);
        let array = Array {
            name: Some("input".into()),
            dims: dims.to_vec(),
            values,
            layout: None,
        };
        DataSet::new("made up".into(), vec![array], labels).unwrap()
    };
    let error = run(set(&[63], 4, None));
    assert!(
        matches!(&error, Error::Engine(RunError::Fit { input, .. }) if input == "input"),
        "{error}"
    );
    assert!(
        error.to_string().contains("[?, 1, 8, 8]") && error.to_string().contains("[63]"),
        "{error}"
    );
    let error = run(set(&[64], 3, Some(vec![0, 1, 10])));
    assert!(matches!(
        error,
        Error::Label {
            row: 2,
            label: 10,
            n_classes: 10
        }
    ));
    let mut other = set(&[64], 3, None);
    other.arrays[0].name = Some("pixels".into());
    for n in 1..=2 {
        let error = run(other.clone());
        assert!(
            matches!(&error, Error::Engine(RunError::MissingInput { input, .. }) if input == "input"),
            "{n}: {error}"
        );
        other.arrays.push(Array {
            name: Some("more".into()),
            ..other.arrays[0].clone()
        });
    }
}

/// Nothing is said to hold on data with which it could not have failed.
#[test]
fn of_data_that_show_nothing_it_cannot_tell() {
    if !is_there() {
        return;
    }
    let clear = "[default]\ncoefficient = 0";
    let clear = NamedPolicy {
        name: "clear".into(),
        policy: Policy::parse(clear).unwrap(),
    };
    let judge = |data: &DataSet, options: &mut Options<'_>| {
        options.candidates = vec![Preset::Full.into(), clear.clone()];
        options.base = PublicModel::None;
        let found = assess(&model("digits_lstm.onnx"), Some(data), options, &Silent).unwrap();
        // What encrypts nothing leaks, whatever the data.
        assert_eq!(found.candidates[1].verdict, Verdict::Leaks);
        let reason = found.reason(&found.candidates[1]);
        assert_eq!(reason, "clear leaks: nothing is encrypted");
        assert!(found.failures(false).any(|row| row.name == "clear"));
        found.candidates[0].verdict
    };
    let data = digits("rows");
    let changed = |change: &dyn Fn(&mut Vec<f32>)| {
        let mut data = data.clone();
        if let Values::F32(pixels) = &mut data.arrays[0].values {
            change(pixels);
        }
        data
    };
    let mut shuffled = data.clone();
    shuffled.labels.as_mut().unwrap().rotate_left(77);
    let constant = changed(&|pixels| pixels.fill(0.5));
    let mut unlabelled = constant.clone();
    unlabelled.labels = None;
    let unscaled = changed(&|pixels| pixels.iter_mut().for_each(|pixel| *pixel *= 16.0));
    let nan = changed(&|pixels| pixels[5000] = f32::NAN);
    let all_nan = changed(&|pixels| pixels.fill(f32::NAN));
    let twenty = || {
        let mut options = Options::default();
        options.attacker_samples = vec![20];
        options
    };
    let holds = Verdict::Holds {
        if_no_public_base: true,
    };
    assert_eq!(judge(&data, &mut twenty()), holds, "the data as they are");
    for (what, data, doubt) in [
        ("shuffled labels", &shuffled, Doubt::NoGap),
        ("constant inputs", &constant, Doubt::NoGap),
        ("constant inputs without labels", &unlabelled, Doubt::NoGap),
        ("pixels as they are stored", &unscaled, Doubt::Unscaled),
        ("a NaN", &nan, Doubt::NanInputs),
        ("only NaN", &all_nan, Doubt::NanInputs),
    ] {
        let verdict = judge(data, &mut twenty());
        assert_eq!(verdict, Verdict::CannotTell(doubt), "{what}");
    }
    // With 100 labels, attackers need no model; with fewer than classes, nobody tries a probe.
    let verdict = judge(&data, &mut Options::default());
    assert_eq!(verdict, Verdict::CannotTell(Doubt::NoGap));
    let mut options = Options::default();
    options.attacker_samples = vec![9];
    let verdict = judge(&data, &mut options);
    assert_eq!(verdict, Verdict::CannotTell(Doubt::NoProbe));
    let mut options = twenty();
    // Of stored pixels nothing is left of what this net can do, also where the caller means them.
    options.is_scaled = true;
    let verdict = judge(&unscaled, &mut options);
    assert_eq!(verdict, Verdict::CannotTell(Doubt::NoGap));
}

#[test]
fn it_ends_when_the_caller_wants_no_more() {
    if !is_there() {
        return;
    }
    struct Stop(std::sync::atomic::AtomicUsize);
    impl Progress for Stop {
        fn is_cancelled(&self) -> bool {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) >= 5
        }
    }
    let stop = Stop(0.into());
    let stopped = assess(
        &model("digits_cnn.onnx"),
        Some(&digits("nchw")),
        &only(Preset::Balanced),
        &stop,
    );
    assert!(matches!(stopped, Err(Error::Cancelled)));
}

#[test]
fn an_operator_that_onnx_runtime_does_not_have_is_named() {
    if !is_there() {
        return;
    }
    use onnxseal_testkit::build::{GraphBuilder, node, weights};
    let model = GraphBuilder::new("g")
        .input("x", &[1, 16])
        .output("y", &[1, 16])
        .initializer(weights("w", &[16, 16], 1))
        .node(node("MatMul", &["x", "w"], &["h"]))
        .node(node("Mystery", &["h"], &["y"]))
        .encode();
    let subject = Subject::from_files(
        "made up".into(),
        Files {
            model: model.into(),
            external: Vec::new(),
        },
    )
    .unwrap();
    let error = assess(&subject, None, &only(Preset::Balanced), &Silent).unwrap_err();
    assert!(
        matches!(&error, Error::Engine(RunError::Run { operator: Some(name), .. }) if name.contains("Mystery")),
        "{error}"
    );
}

/// Every unit of every weight tensor has a score.
fn is_complete(ranking: &Ranking, subject: &Subject) -> bool {
    let hidden =
        onnxseal_assess::Hidden::of_policy(subject, &Policy::preset(Preset::Full)).unwrap();
    hidden.tensors.iter().all(|tensor| {
        let scores = ranking.tensor(&tensor.path).unwrap_or_default();
        scores.len() as u64 == tensor.bytes().div_ceil(ranking.unit_bytes())
            && scores.iter().all(|score| *score >= 0.0)
    })
}

/// Wants no more after some steps.
struct After {
    n_steps: usize,
    begun: AtomicUsize,
    said: Mutex<Option<String>>,
}

impl After {
    fn steps(n_steps: usize) -> After {
        After {
            n_steps,
            begun: AtomicUsize::new(0),
            said: Mutex::new(None),
        }
    }
}

impl Progress for After {
    fn step(&self, _: &str) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn cut_short(&self, n_done: usize, n_wanted: usize, what: &str) {
        *self.said.lock().unwrap() = Some(format!("{n_done} of {n_wanted} {what}"));
    }

    fn is_cancelled(&self) -> bool {
        self.begun.load(Ordering::Relaxed) > self.n_steps
    }
}

#[test]
fn a_ranking_that_is_cut_short_has_what_there_is() {
    if !is_there() {
        return;
    }
    let (subject, data) = (model("digits_cnn.onnx"), digits("nchw"));
    let options = Options::default();
    let ranked = |method, progress: &dyn Progress| {
        rank(&subject, method, 256, Some(&data), &options, progress)
    };
    let whole = ranked(Method::Activation, &Silent).unwrap();
    assert!(!whole.is_partial());
    // Each step is a run of 32 samples.
    let stop = After::steps(2);
    let part = ranked(Method::Activation, &stop).unwrap();
    assert!(part.is_partial() && is_complete(&part, &subject));
    let said = stop.said.into_inner().unwrap();
    assert_eq!(said.as_deref(), Some("64 of 200 samples"));
    // A rough measurement of the same: not the same numbers, and not others altogether.
    let path = "graph.initializer[0]";
    let (whole, part) = (whole.tensor(path).unwrap(), part.tensor(path).unwrap());
    assert_ne!(whole, part);
    for (whole, part) in whole.iter().zip(part) {
        assert!((whole - part).abs() < 0.5 * whole, "{whole} {part}");
    }
    let stopped = ranked(Method::Activation, &After::steps(0));
    assert!(matches!(stopped, Err(Error::Cancelled)));

    let masks = Method::Probabilistic {
        share: 0.3,
        n_masks: 64,
    };
    let before = After::steps(usize::MAX);
    ranked(masks, &before).unwrap();
    // All of the first half, which tells groups of units apart, and too little of the second.
    let stop = After::steps(before.begun.into_inner() - 30);
    let part = ranked(masks, &stop).unwrap();
    assert!(part.is_partial() && is_complete(&part, &subject));
    let said = stop.said.into_inner().unwrap();
    assert_eq!(said.as_deref(), Some("32 of 64 masks"));
}

#[test]
fn weights_are_ranked() {
    if !is_there() {
        return;
    }
    let data = digits("rows");
    for name in [
        "digits_lstm.onnx",
        "digits_gru.onnx",
        "digits_mlp_int4.onnx",
    ] {
        let subject = model(name);
        let (method, options) = (Method::Activation, Options::default());
        let scores = rank(&subject, method, 64, Some(&data), &options, &Silent).unwrap();
        assert!(is_complete(&scores, &subject), "{name}");
    }
    let subject = model("digits_cnn.onnx");
    let data = digits("nchw");
    let hidden =
        onnxseal_assess::Hidden::of_policy(&subject, &Policy::preset(Preset::Full)).unwrap();
    let has_any = |ranking: &Ranking| {
        let mut scores = hidden
            .tensors
            .iter()
            .flat_map(|t| ranking.tensor(&t.path))
            .flatten();
        scores.any(|score| *score > 0.0)
    };
    let activation = rank(
        &subject,
        Method::Activation,
        64,
        Some(&data),
        &Options::default(),
        &Silent,
    )
    .unwrap();
    assert!(is_complete(&activation, &subject) && has_any(&activation));
    let method = Method::Probabilistic {
        share: 0.1,
        n_masks: 64,
    };
    let probabilistic = rank(
        &subject,
        method,
        64,
        Some(&data),
        &Options::default(),
        &Silent,
    )
    .unwrap();
    assert!(is_complete(&probabilistic, &subject));
    assert!(has_any(&probabilistic));
    assert!(matches!(
        rank(
            &subject,
            Method::Activation,
            65,
            None,
            &Options::default(),
            &Silent
        ),
        Err(Error::Core(onnxseal_core::Error::Policy(_)))
    ));
}
