#![allow(clippy::unwrap_used)]

use roxmltree::{Document, Node, ParsingOptions};

use super::html;
use super::page::MOST_STRIPS;
use super::summary::Summary;
use crate::assessment::*;

const NASTY: &str = "<script>alert('x')</script> & \"q\"\u{1b}[0m\u{202e}\u{0}";

fn measure(value: f64) -> Measure {
    Measure {
        value,
        interval: Some(Interval {
            low: value - 0.03,
            high: value + 0.03,
        }),
        n_samples: 900,
        n_nan: 2,
        agreement: Some(0.75),
        top5: Some(0.99),
        relative_error: None,
    }
}

fn attack(name: &str, attack: Attack, value: Option<f64>, verdict: Verdict) -> AttackRow {
    AttackRow {
        attack,
        name: name.to_owned(),
        layer: Some(format!("layer of {NASTY}")),
        measure: value.map(measure),
        seeds: vec![0.1, 0.2],
        floor: 0.16,
        floor_kind: FloorKind::Constant,
        verdict,
        note: Some("a note".to_owned()),
    }
}

fn operator(i: usize) -> OperatorRow {
    OperatorRow {
        op_type: "Conv".to_owned(),
        node: format!("{NASTY} {i}"),
        bytes: 1000 * i as u64,
        encrypted_bytes: 500 * i as u64,
        share: 0.5,
        strip: (0..STRIP_BINS).map(|bin| bin as f32 / 63.0).collect(),
        tensors: Vec::new(),
    }
}

fn candidate(name: &str, verdict: Verdict, n_operators: usize) -> Candidate {
    let (fill, reestimated) = (Fill::Zero, false);
    let zero = Attack::Fill { fill, reestimated };
    let probe = Attack::Probe {
        n_labels: 100,
        fill,
        reestimated,
        head: Head::Ridge,
    };
    let needed_samples = Some(1234);
    let too_few = Verdict::CannotTell(Doubt::TooFewSamples { needed_samples });
    Candidate {
        tier: None,
        name: name.to_owned(),
        weight_bytes: 100_000,
        encrypted_bytes: 50_000,
        share: 0.5,
        attacks: vec![
            attack("as it is", Attack::AsItIs, Some(0.1), Verdict::holds()),
            attack("zero fill", zero, Some(0.71), verdict),
            attack("probe with 100 labels", probe, Some(0.2), too_few),
            attack("public base", zero, None, Verdict::holds()),
        ],
        verdict,
        worst: Some(1),
        best_fill: Some(1),
        operators: (1..=n_operators).map(operator).collect(),
        notes: vec![format!("a candidate's note {NASTY}")],
    }
}

fn assessment() -> Assessment {
    Assessment {
        model: NASTY.to_owned(),
        model_bytes: 123_456,
        engine: EngineRow {
            version: "1.32.0".to_owned(),
            library: "/secret/place".to_owned(),
            n_threads: 2,
        },
        data: DataRow {
            source: format!("data {NASTY}"),
            n_samples: 1000,
            n_attacker: 100,
            n_evaluation: 900,
            is_labelled: true,
            is_random: false,
            n_classes: Some(10),
            dropped_sizes: Vec::new(),
        },
        seed: 4711,
        metric: MetricRow {
            kind: MetricKind::Accuracy,
            name: "accuracy".to_owned(),
            unit: String::new(),
            is_rate: true,
        },
        margin: 0.05,
        public_base: PublicBase::NotTried,
        original: measure(0.985),
        floors: vec![Floor {
            kind: FloorKind::RawProbe,
            n_labels: Some(100),
            measure: measure(0.16),
        }],
        candidates: vec![
            candidate("some", Verdict::Leaks, 3),
            candidate(
                "balanced",
                Verdict::CannotTell(Doubt::NoBase),
                MOST_STRIPS + 5,
            ),
            candidate(
                NASTY,
                Verdict::Holds {
                    if_no_public_base: true,
                },
                0,
            ),
        ],
        notes: vec!["Fine-tuning was not tried.".to_owned()],
        seconds: 12.5,
    }
}

/// Parses markup as XML, checks that it has no scripts, unique ids and finite numbers, and returns
/// its text.
fn text_of(markup: &str) -> String {
    let options = ParsingOptions {
        allow_dtd: true,
        ..Default::default()
    };
    let document = Document::parse_with_options(markup, options).unwrap();
    let mut ids = std::collections::HashSet::new();
    for element in document.descendants().filter(Node::is_element) {
        assert_ne!(element.tag_name().name(), "script");
        let is_new = element.attribute("id").is_none_or(|id| ids.insert(id));
        assert!(is_new, "an id is there twice: {element:?}");
        let style = element.attribute("style").unwrap_or_default();
        for place in style
            .split([':', ';'])
            .filter_map(|it| it.strip_suffix('%'))
        {
            let place: f64 = place.parse().unwrap();
            assert!((0.0..=100.1).contains(&place), "{element:?}");
        }
    }
    let texts = document.descendants().filter(Node::is_text);
    let texts: Vec<&str> = texts.filter_map(|node| node.text()).collect();
    texts.join("\n").replace('\u{a0}', " ")
}

#[test]
fn the_page_says_everything() {
    let assessment = assessment();
    let text = text_of(&html(&assessment).unwrap());
    for wanted in [
        "some",
        "balanced",
        "leaks",
        "holds",
        "Nobody tried a public base.",
        "cannot tell: no public base was tried",
        "holds, if no public ancestor exists",
        "71.0 %",
        "agrees with the model: 75.0 %",
        "55.0 points above",
        "4711",
        "1.32.0",
        "too few samples, about 1234 would do",
        "Fine-tuning was not tried.",
        "a candidate's note",
        "5 smaller operators",
        "a probe on the inputs themselves, 100 labels",
        "not tried",
        "No operator owns weights.",
    ] {
        assert!(text.contains(wanted), "{wanted:?} is missing");
    }
    for row in assessment.candidates.iter().flat_map(|row| &row.attacks) {
        assert!(text.matches(&row.name).count() >= 3, "{}", row.name);
    }
}

#[test]
fn a_verdict_says_what_it_rests_on() {
    let mut assessment = assessment();
    let after = |assessment: &Assessment| Summary::of(assessment).after.join("\n");
    let lines = after(&assessment);
    let gets = "zero fill gets 71.0 % (68.0 to 74.0) where the original has 98.5 %, 55.0 points \
                above its floor of 16.0 % (the same answer always)";
    let rests = ", which attackers reach without any weight of the model; the interval may end up to 5.0 points above it, on 900 samples";
    for wanted in [
        format!("some leaks: {gets}\n"),
        "balanced: cannot tell: no public base was tried: nothing broke it, and zero fill got most, 71.0 % (68.0 to 74.0)".to_owned(),
        format!(" holds, if no public ancestor exists: {gets}{rests}\n"),
    ] {
        assert!(lines.contains(&wanted), "{wanted:?} is missing in {lines}");
    }
    for (doubt, said) in [
        (
            Doubt::NoGap,
            "the original is hardly better than a floor: it has 98.5 %, and a probe on the inputs themselves, 100 labels gets 16.0 % \
             without any weight of the model; 10.0 points between them would do: assess with fewer labels",
        ),
        (
            Doubt::TooFewSamples {
                needed_samples: Some(7),
            },
            "too few samples, about 7 would do: zero fill gets 71.0 %",
        ),
        (Doubt::NanInputs, "take these samples out"),
        (Doubt::RandomInputs, "--data"),
        (Doubt::Unscaled, "--scale 1"),
        (Doubt::Unreplaced, "keep weights in tensors"),
        (Doubt::NoProbe, "--attacker-samples"),
        (Doubt::NotMeasured, "with no other weights"),
    ] {
        let mut assessment = assessment.clone();
        assessment.candidates[2].verdict = Verdict::CannotTell(doubt);
        let reason = assessment.reason(&assessment.candidates[2]);
        assert!(
            reason.contains(&format!(": cannot tell: {doubt}")) && reason.contains(said),
            "{reason}"
        );
    }
    assessment.candidates[0].encrypted_bytes = 0;
    assert_eq!(
        assessment.reason(&assessment.candidates[0]),
        "some leaks: nothing is encrypted"
    );
    assessment.candidates[0].encrypted_bytes = 1;
    // Of answers that are compared with the original's there is nothing more to say of it.
    assessment.metric.kind = MetricKind::Agreement;
    assessment.candidates[2].attacks[1].floor_kind = FloorKind::NextTier;
    let lines = after(&assessment);
    assert!(!lines.contains("the original has"), "{lines}");
    assert_eq!(
        lines.matches("attackers reach without").count(),
        0,
        "{lines}"
    );
}

#[test]
fn what_comes_from_files_is_escaped() {
    let page = html(&assessment()).unwrap();
    assert!(!page.contains("<script"));
    let escaped = "&lt;script&gt;alert(&#x27;x&#x27;)&lt;&#x2f;script&gt; &amp; &quot;q&quot;\u{fffd}[0m\u{fffd}\u{fffd}";
    assert!(page.contains(escaped));
    for character in ['\u{1b}', '\u{202e}', '\u{0}'] {
        assert!(!page.contains(character));
    }
    // The report hides the paths of the machine's libraries.
    assert!(!page.contains("/secret/place"));
}

#[test]
fn the_page_fetches_nothing() {
    let page = html(&assessment()).unwrap();
    let mut outside = page.match_indices("http").map(|(at, _)| &page[at..]);
    assert!(outside.all(|it| it.starts_with("http://www.w3.org/") || it.starts_with("http-equiv")));
    for loader in [
        "<link", "<img", "<iframe", "@import", "url(", " src=", " href=",
    ] {
        assert!(!page.contains(loader), "{loader}");
    }
}

#[test]
fn odd_values_are_drawn() {
    let mut assessment = assessment();
    assessment.metric = MetricRow {
        kind: MetricKind::Psnr,
        name: "PSNR".to_owned(),
        unit: "dB".to_owned(),
        is_rate: false,
    };
    assessment.original = measure(f64::INFINITY);
    let rows = &mut assessment.candidates[0].attacks;
    rows[0].measure = Some(measure(f64::NAN));
    rows[1].measure = Some(measure(-12.0));
    rows[2].measure = Some(measure(f64::INFINITY));
    rows[0].floor = f64::NEG_INFINITY;
    rows[1].floor = f64::NAN;
    for candidate in &mut assessment.candidates {
        for row in &mut candidate.operators {
            row.strip = vec![f32::NAN, 2.0, -1.0];
        }
    }
    let text = text_of(&html(&assessment).unwrap());
    for wanted in ["∞", "−∞", "no number", "-12.0 dB"] {
        assert!(text.contains(wanted), "{wanted:?} is missing");
    }
}

#[test]
fn nothing_is_a_page_too() {
    let mut assessment = assessment();
    assessment.candidates.clear();
    assessment.floors.clear();
    assessment.notes.clear();
    assessment.metric.is_rate = false;
    assessment.original.value = 0.0;
    let text = text_of(&html(&assessment).unwrap());
    assert!(text.contains("Nothing was assessed."));
}
