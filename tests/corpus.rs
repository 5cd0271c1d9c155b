//! The corpora of the fuzz targets, once each: what fuzzing found stays fixed. Then for some seconds inputs that
//! are made of them, which is fuzzing with any Rust:
//!
//!     ONNXSEAL_FUZZ_SECONDS=60 ONNXSEAL_FUZZ_SEED=7 cargo test --release --test corpus changed -- --nocapture
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "lab/fuzz.rs"]
mod fuzz;
#[path = "lab/mutate.rs"]
mod mutate;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};
use std::{env, fs, process, thread};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use onnxseal_core::{
    AllowedSigners, Policy, ProtectOptions, Recipients, SigningKey, Silent, generate_identity,
    protect,
};
use onnxseal_inputs::InputKey;
use onnxseal_inputs::rewrite::{Source, rewrite};
use onnxseal_labels::head::Head;
use onnxseal_labels::traces::Trace;
use onnxseal_labels::{Authority, Table, UserKey, protect as encrypt_labels};
use onnxseal_onnx::proto::tensor_proto::DataType;
use onnxseal_onnx::tail;
use onnxseal_testkit::build::{self, GraphBuilder, external, node, weights};
use onnxseal_testkit::{Sample, corrupt, samples, wire};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// All files below `folder`, sorted.
fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(files(&path)),
            false => found.push(path),
        }
    }
    found.sort();
    found
}

/// Runs a target on `bytes`; where it panics, the name of the input is printed.
fn replay(name: &str, target: fuzz::Target, path: &Path) {
    eprintln!("{name}: {}", path.display());
    target(&fs::read(path).unwrap());
}

#[test]
fn every_corpus_replays() {
    for (name, target) in fuzz::TARGETS {
        let corpus = files(&root().join("fuzz/corpus").join(name));
        assert!(corpus.len() >= 5, "the corpus of {name}");
        for path in corpus {
            replay(name, target, &path);
        }
    }
}

#[test]
fn the_fixtures_replay() {
    for path in files(&root().join("fixtures/sealed")) {
        for (name, target) in fuzz::TARGETS {
            if matches!(name, "wire_locate" | "open") {
                replay(name, target, &path);
            }
        }
    }
}

/// No input takes this long, not on a machine that has much else to do either.
const HANGS: Duration = Duration::from_secs(60);

/// What is made of the corpora in `ONNXSEAL_FUZZ_SECONDS` a target. Which inputs these are,
/// `ONNXSEAL_FUZZ_SEED` says; how many, the machine.
#[test]
fn changed_corpora_replay() {
    let seconds = Duration::from_secs(number_of("ONNXSEAL_FUZZ_SECONDS", 5));
    let seed = number_of("ONNXSEAL_FUZZ_SEED", 1);
    let targets = Mutex::new(fuzz::TARGETS.iter());
    let faults = Mutex::new(Vec::new());
    thread::scope(|scope| {
        let work = || {
            while let Some((name, target)) = { targets.lock().unwrap().next() } {
                let fault = fuzz_for(seconds, name, *target, seed);
                faults.lock().unwrap().extend(fault);
            }
        };
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    let faults = faults.into_inner().unwrap();
    assert!(peak_bytes().is_none_or(|bytes| bytes < 1 << 30));
    assert!(faults.is_empty(), "seed {seed}: {}", faults.join("; "));
}

/// Runs `target` on inputs made of its corpus. Where it panics, says on which.
fn fuzz_for(seconds: Duration, name: &str, target: fuzz::Target, seed: u64) -> Option<String> {
    let paths = files(&root().join("fuzz/corpus").join(name));
    let corpus: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    let input = |number| mutate::mutated(&corpus, &mut mutate::Random::new(seed, number));
    let save = |number| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{seed}-{number}"));
        fs::write(&path, input(number)).unwrap();
        path.display().to_string()
    };
    // The number of the input that the target is at, and since when.
    let at = Mutex::new(Some((0, Instant::now())));
    let run = || {
        let start = Instant::now();
        for number in 0.. {
            if start.elapsed() >= seconds {
                eprintln!("{name}: {number} inputs, seed {seed}");
                break;
            }
            *at.lock().unwrap() = Some((number, Instant::now()));
            let input = input(number);
            if catch_unwind(AssertUnwindSafe(|| target(&input))).is_err() {
                return Some(format!("{name} panics on {}", save(number)));
            }
        }
        None
    };
    thread::scope(|scope| {
        let running = scope.spawn(|| {
            let fault = run();
            *at.lock().unwrap() = None;
            fault
        });
        while let Some((number, since)) = { *at.lock().unwrap() } {
            if since.elapsed() > HANGS {
                eprintln!("{name} hangs on {}", save(number));
                process::exit(1);
            }
            thread::sleep(Duration::from_millis(100));
        }
        running.join().unwrap()
    })
}

/// The most memory that this process has had, where the system tells.
fn peak_bytes() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let peak = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = peak.trim().strip_suffix(" kB")?.parse().ok()?;
    Some(kib << 10)
}

/// The number that a variable of the environment has, or `otherwise` where it is not set.
fn number_of(variable: &str, otherwise: u64) -> u64 {
    match env::var(variable) {
        Ok(text) => text.parse().unwrap(),
        Err(_) => otherwise,
    }
}

/// The targets look at what they are meant to look at, and not past it.
#[test]
fn the_corpora_reach_what_they_are_for() {
    let corpus = |name: &str| {
        let paths = files(&root().join("fuzz/corpus").join(name));
        paths.into_iter().map(|path| fs::read(path).unwrap())
    };
    let located = |bytes: &Vec<u8>| onnxseal_onnx::locate(bytes, &Default::default()).is_ok();
    assert!(corpus("wire_locate").any(|bytes| located(&bytes)));
    assert!(corpus("wire_locate").any(|bytes| !located(&bytes)));
    let parsed = |bytes: &Vec<u8>| onnxseal_core::Manifest::parse(bytes).is_ok();
    assert!(corpus("manifest").any(|bytes| parsed(&bytes)));
    assert!(corpus("manifest").any(|bytes| !parsed(&bytes)));
    let split = |bytes: &Vec<u8>| tail::split(bytes).is_ok_and(|tail| tail.is_some());
    assert!(corpus("open").any(|bytes| split(&bytes)));
    assert!(corpus("round_trip").any(|bytes| located(&bytes)));
    let read = |bytes: &Vec<u8>| Policy::parse(&String::from_utf8_lossy(bytes)).is_ok();
    assert!(corpus("policy").filter(read).count() >= 3);
    assert!(corpus("policy").any(|bytes| !read(&bytes)));
    for message in ["onnxseal/v1/signature\nof a test\n", fuzz::model_message()] {
        let accepted = |bytes: Vec<u8>| {
            let (allowed, armored) = bytes.split_at(bytes.iter().position(|byte| *byte == 0)?);
            let allowed = AllowedSigners::read(allowed, "seed").ok()?;
            let armored = std::str::from_utf8(&armored[1..]).ok()?;
            allowed.verify(None, message.as_bytes(), armored).ok()
        };
        assert!(corpus("signatures").any(|bytes| accepted(bytes).is_some()));
        assert!(corpus("signatures").any(|bytes| accepted(bytes).is_none()));
    }
    assert!(corpus("rewrite").any(|bytes| located(&bytes[1..].to_vec())));
    let read = |bytes: &Vec<u8>| InputKey::from_bytes(bytes, None).is_ok();
    assert!(corpus("input_key").filter(read).count() >= 6);
    assert_eq!(
        corpus("input_rewrite")
            .filter(|bytes| is_rewritten(bytes))
            .count(),
        6
    );
    let read = |bytes: &Vec<u8>| UserKey::from_bytes(bytes, None).is_ok();
    assert_eq!(corpus("label_key").filter(read).count(), 4);
    let read = |bytes: &Vec<u8>| Table::parse(&STANDARD.encode(bytes)).is_ok();
    assert_eq!(corpus("label_table").filter(read).count(), 10);
    assert_eq!(corpus("label_rewrite").filter(has_head).count(), 5);
}

/// Whether a seed of `label_rewrite` is a classifier whose labels can be encrypted; its external data is ones.
fn has_head(bytes: &Vec<u8>) -> bool {
    let model = onnxseal_onnx::locate(bytes, &Default::default()).unwrap();
    let source = Source {
        bytes,
        model: &model,
        external: &|_, span| Ok(vec![1; span.len as usize]),
    };
    Head::find(&source, None).is_ok()
}

/// Whether a seed of `input_rewrite` is a model that its key rewrites; its external data is zeros.
fn is_rewritten(bytes: &[u8]) -> bool {
    let (choice, bytes) = bytes.split_first().unwrap();
    let model = onnxseal_onnx::locate(bytes, &Default::default()).unwrap();
    let source = Source {
        bytes,
        model: &model,
        external: &|_, span| Ok(vec![0; span.len as usize]),
    };
    rewrite(&source, &fuzz::rewriting_key(*choice, "07"), None).is_ok()
}

/// Writes the seeds anew: `cargo test --release --test corpus -- --ignored write_seeds`.
#[test]
#[ignore = "writes into fuzz/corpus"]
fn write_seeds() {
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let folder = root().join("fuzz/corpus").join(target);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join(name), bytes).unwrap();
    };
    for sample in samples::all() {
        write("wire_locate", sample.name, &sample.model);
        write("round_trip", sample.name, &sample.model);
        write(
            "rewrite",
            sample.name,
            &[&[0x05], &sample.model[..]].concat(),
        );
    }
    for (name, model) in [
        ("external_twice", external_twice()),
        ("shared_bytes", shared_bytes()),
        ("half_bytes", half_bytes()),
    ] {
        write("round_trip", name, &model);
        write("wire_locate", name, &model);
        write("rewrite", name, &[&[0], &model[..]].concat());
    }
    for (name, model) in hostile() {
        write("wire_locate", name, &model);
    }
    for name in [
        "tiny_int4.onnx",
        "nothing_encrypted.onnx",
        "tiny_runnable.onnx",
    ] {
        let artifact = fs::read(root().join("fixtures/sealed/valid").join(name)).unwrap();
        write("open", name, &artifact);
    }
    for name in [
        "date_escaped",
        "date_from_and_until",
        "highest_of_two_tiers",
        "signed",
        "of_other_models",
    ] {
        let path = root().join(format!("fixtures/sealed/licences/valid/{name}.licence"));
        write("licence", name, &fs::read(path).unwrap());
    }
    for name in [
        "mac_before_tags",
        "key_empty",
        "graph_changed",
        "targets_number_not_minimal",
        "targets_base64_without_padding",
    ] {
        let path = root().join(format!("fixtures/sealed/invalid/{name}.onnx"));
        write("open", name, &fs::read(path).unwrap());
    }
    for name in [
        "valid/bytes",
        "valid/mask",
        "valid/shuffle",
        "invalid/macs_swapped",
        "invalid/keys_out_of_order",
        "invalid/elements_swapped",
    ] {
        let path = root().join(format!("fixtures/sealed/tiers/{name}.onnx"));
        let artifact = fs::read(path).unwrap();
        let (kind, name) = name.split_once('/').unwrap();
        let name = format!("tiers_{name}");
        write("open", &name, &artifact);
        if kind == "valid" {
            let tail = tail::split(&artifact).unwrap().unwrap();
            let manifest = tail.value(tail::MANIFEST).unwrap().as_bytes();
            let head = &artifact[..tail.start as usize];
            write("manifest", &name, manifest);
            write("forged", &name, &[manifest, &[0], head].concat());
        }
    }
    let external = Sample {
        name: "external_twice",
        model: external_twice(),
        files: vec![("w.bin", vec![3; 4096])],
    };
    let some = ["gemm", "unpacked_float_data", "matmul_nbits", "if_branches"];
    let chosen = samples::all()
        .into_iter()
        .filter(|sample| some.contains(&sample.name));
    for sample in chosen.chain([external]) {
        let manifest = manifest_of(&sample);
        write("manifest", sample.name, &manifest);
        let forged = [&manifest[..], &[0], &sample.model].concat();
        write("forged", sample.name, &forged);
    }
    // Seven bytes of text in place of five, and back.
    let renamed = br#"{"format":1,"suite":"AES-256-GCM/HKDF-SHA256","chunk":65536,"lock":true,"tiers":[],"files":[{"path":"","bytes":100},{"path":"w.bin","bytes":4096}],"claims":{},"tensors":[],"original":{"bytes":102,"paths":["a/w.data"],"texts":["YWJjZGVmZw=="],"edits":[7,5,0]}}"#;
    write("manifest", "renamed", renamed);
    let forged = [&renamed[..], &[0], &external_twice()].concat();
    write("forged", "renamed", &forged);
    let external = br#"{"format":1,"suite":"AES-256-GCM/HKDF-SHA256","chunk":65536,"lock":true,"tiers":[],"files":[{"path":"","bytes":100},{"path":"w.bin","bytes":4096}],"claims":{},"tensors":[{"name":"v","at":"graph.initializer[0]","data_type":"FLOAT","dims":[16,16],"operators":[{"op_type":"MatMul","node":""}],"file":1,"offset":0,"unit":1,"targets":["AAGAAQI="]}]}"#;
    write("manifest", "external", external);
    let forged = [&external[..], &[0], &external_twice()].concat();
    write("forged", "external", &forged);
    let claims = br#"{"format":1,"suite":"AES-256-GCM/HKDF-SHA256","chunk":65536,"lock":false,"tiers":[],"files":[{"path":"","bytes":1}],"claims":{"a":"b"},"tensors":[]}"#;
    write("manifest", "no_tensors", claims);
    let forged = [&claims[..], &[0], &samples::gemm()].concat();
    write("forged", "no_tensors", &forged);
    for (name, text) in POLICIES {
        write("policy", name, text.as_bytes());
    }
    write("manifest", "duplicate", br#"{"format":1,"format":1}"#);
    write("manifest", "deep", "[".repeat(200).as_bytes());
    for (name, seed) in signed() {
        write("signatures", &name, seed.as_bytes());
    }
    for name in [
        "colour_float32_nchw_4_shf_np",
        "colour_float32_nhwc_4_shf",
        "grey_float16_nchw_symmetric_4_np",
        "trained_ffx",
    ] {
        let path = root().join(format!("fixtures/inputs/keys/{name}.txt"));
        write("input_key", name, &fs::read(path).unwrap());
    }
    let text = fuzz::rewriting_key(3, "07").to_text();
    write("input_key", "orthogonal", text.as_bytes());
    let statistics = "order = \"bgr\"\nmean = [0.5, 0.4, 0.3]\nstd = [0.2]\nseed";
    let normalised = text
        .replace("order = \"rgb\"\n", "")
        .replace("seed", statistics);
    write("input_key", "normalised", normalised.as_bytes());
    // age draws a key anew each time.
    let encrypted = fuzz::rewriting_key(2, "07").to_encrypted_text(&fuzz::recipients());
    write("input_key", "encrypted", encrypted.unwrap().as_bytes());
    // The first byte chooses the key: the model's channels, layout and range.
    for (name, choice) in [
        ("convmixer", 0),
        ("channels_last", 0x10),
        ("focus_padded", 0x21 | 4),
        ("patchify", 0),
        ("vit", 10),
    ] {
        let model = fs::read(root().join(format!("fixtures/inputs/{name}.onnx"))).unwrap();
        write("input_rewrite", name, &[&[choice], &model[..]].concat());
    }
    let patches = [&[0x03], &patches()[..]].concat();
    write("input_rewrite", "patches_external", &patches);
    write_seeds_of_labels(write);
}

/// Seeds of `label_key`, `label_table` and `label_rewrite`.
fn write_seeds_of_labels(write: impl Fn(&str, &str, &[u8])) {
    let folder = root().join("fixtures/labels");
    for name in ["acme.key", "mueller.key", "gone.key", "authority.json"] {
        write("label_key", name, &fs::read(folder.join(name)).unwrap());
    }
    let mut authority = Authority::generate(2, Some(&fuzz::recipients())).unwrap();
    authority.add_user("b").unwrap();
    let key = authority.user_key("b").unwrap();
    write("label_key", "three_secrets", key.to_text().as_bytes());
    // age draws a key anew each time.
    let encrypted = key.to_encrypted_text(&fuzz::recipients()).unwrap();
    write("label_key", "encrypted", encrypted.as_bytes());
    let file = authority.to_file().unwrap();
    write("label_key", "encrypted_authority", file.as_bytes());
    let trace = Trace {
        candidate: 0,
        weights: vec![0.5; 4],
        bias: 0.25,
    };
    for (name, bytes) in classifiers() {
        write("label_rewrite", name, &bytes);
        let model = onnxseal_onnx::locate(&bytes, &Default::default()).unwrap();
        let source = Source {
            bytes: &bytes,
            model: &model,
            external: &|_, span| Ok(build::le_bytes(&build::floats(span.len as usize / 4, 3))),
        };
        let head = Head::find(&source, None).unwrap();
        for (more, authority) in [("", &fixed_authority()), ("_of_two", &authority)] {
            let traces = vec![trace.clone(); 2 * more.len() / 7];
            let plan = encrypt_labels(&head, authority, 2, &traces).unwrap();
            let table = STANDARD.decode(plan.table.to_text()).unwrap();
            write("label_table", &format!("{name}{more}"), &table);
        }
    }
}

fn fixed_authority() -> Authority {
    let text = fs::read_to_string(root().join("fixtures/labels/authority.json"));
    Authority::from_text(&text.unwrap()).unwrap()
}

/// Small classifiers of 4 features and 3 classes.
fn classifiers() -> Vec<(&'static str, Vec<u8>)> {
    let start = || GraphBuilder::new("g").input("x", &[-1, 4]);
    let bias = || weights("b", &[3], 2);
    let gemm = start()
        .initializer(weights("w", &[4, 3], 1))
        .initializer(bias())
        .node(node("Gemm", &["x", "w", "b"], &["z"]));
    let mat_mul = start()
        .initializer(external("w", &[4, 3], "w.bin", Some(16), Some(48)))
        .initializer(bias())
        .node(node("MatMul", &["x", "w"], &["m"]))
        .node(node("Add", &["m", "b"], &["z"]));
    let conv = GraphBuilder::new("g")
        .input("x", &[1, 4, 2, 2])
        .initializer(weights("w", &[3, 4, 1, 1], 1))
        .initializer(bias())
        .node(node("Conv", &["x", "w", "b"], &["c"]))
        .node(node("GlobalAveragePool", &["c"], &["z"]));
    let softmax = |graph: GraphBuilder| graph.node(node("Softmax", &["z"], &["p"]));
    vec![
        ("gemm", gemm.output("z", &[-1, 3]).encode()),
        (
            "mat_mul_external",
            softmax(mat_mul).output("p", &[-1, 3]).encode(),
        ),
        ("conv", softmax(conv).output("p", &[1, 3, 1, 1]).encode()),
        (
            "arg_max",
            softmax(start().initializer(weights("w", &[4, 3], 1)).node(node(
                "Gemm",
                &["x", "w"],
                &["z"],
            )))
            .node(node("ArgMax", &["z"], &["i"]))
            .output("p", &[-1, 3])
            .output("i", &[1, 3])
            .encode(),
        ),
        (
            "identity",
            start()
                .initializer(weights("v", &[4, 3], 1))
                .node(node("Identity", &["v"], &["w"]))
                .node(node("MatMul", &["x", "w"], &["z"]))
                .output("z", &[-1, 3])
                .encode(),
        ),
    ]
}

/// A convolution of patches, with its weights in another file.
fn patches() -> Vec<u8> {
    GraphBuilder::new("patches")
        .input("x", &[1, 3, 8, 8])
        .output("y", &[1, 2, 2, 2])
        .initializer(external("w", &[2, 3, 4, 4], "w.bin", None, Some(384)))
        .node(build::node_with(
            "Conv",
            &["x", "w"],
            &["y"],
            vec![build::ints_attribute("strides", &[4, 4])],
        ))
        .encode()
}

/// Allowed signers, a NUL and a signature: those of the test vectors, one of the model with a signature,
/// and some that are refused.
fn signed() -> Vec<(String, String)> {
    let vectors = fs::read(root().join("fixtures/vectors/sshsig.json")).unwrap();
    let vectors: serde_json::Value = serde_json::from_slice(&vectors).unwrap();
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    let mut seeds = Vec::new();
    for case in vectors["cases"].as_array().unwrap() {
        let (public, armored) = (text(&case["public"]), text(&case["armored"]));
        let allowed = format!("alice@example.com namespaces=\"onnxseal,x\" {public}\n");
        let name = text(&case["name"]).replace(", ", "_");
        seeds.push((name, format!("{allowed}\0{armored}")));
    }
    let first = &vectors["cases"][0];
    let (public, private) = (text(&first["public"]), text(&first["private"]));
    let key = SigningKey::read(private.as_bytes(), "key", || unreachable!()).unwrap();
    let signature = key.sign(fuzz::model_message().as_bytes()).unwrap();
    let dates = "valid-after=\"20200101Z\",valid-before=\"29991231235959Z\"";
    for (name, allowed) in [
        (
            "model",
            format!("# all\n*@example.com,!bob@* {dates} {public} comment\n"),
        ),
        (
            "model_expired",
            format!("* valid-before=\"20200101\" {public}\n"),
        ),
        (
            "model_authority",
            format!("\"a b\" cert-authority {public}\n"),
        ),
        ("model_line", format!("a {public}\nb namespaces={public}\n")),
    ] {
        seeds.push((name.to_owned(), format!("{allowed}\0{signature}")));
    }
    seeds
}

/// Policies that are read, and some that are not.
const POLICIES: [(&str, &str); 9] = [
    (
        "tiers",
        "preset = \"full\"\nunit = 64\n[[tier]]\nname = \"a\"\nshare = 0.5\n[[tier]]\nname = \"b\"\n\
         [mode]\ndefault = \"shuffle\"\nGemm = \"mask\"\n",
    ),
    (
        "odd_tiers",
        "[[tier]]\nname = \"any\"\nshare = 1e-9\n[[tier]]\nname = \"b\"\nshare = 1.0\n",
    ),
    ("empty", ""),
    (
        "whole",
        "preset = \"strong\"\nunit = 128\nbudget = 0.25\nlock = false\nallow_clear = [\"*.ep\"]\n\
         [default]\ncoefficient = 0.2\n[op.Gemm]\ncoefficient = 1\n\
         [op.\"com.microsoft.MatMulNBits\"]\ncoefficient = 0.3\n\
         [[override]]\nnode = \"/head/*\"\ncoefficient = 1.0\n\
         [[override]]\ninitializer = \"[wb]{_q,}\"\ncoefficient = 0.0\n\
         [require]\nsettings = \"error\"\nunknown_op = \"error\"\nmin_share = 0.1\nunmatched = \"report\"\n",
    ),
    (
        "everything_by_name",
        "strategy = \"spread\"\n[[override]]\ninitializer = \"*\"\ncoefficient = 1e-9\n",
    ),
    ("odd_operator", "[op.Cnov]\ncoefficient = 0.5\n"),
    (
        "odd_pattern",
        "[[override]]\nnode = \"{{{{[\"\ncoefficient = 1\n",
    ),
    ("no_share", "[default]\ncoefficient = nan\n"),
    ("cut", "[[override]]\nnode = \"a"),
];

/// The manifest that protecting `sample` gives.
fn manifest_of(sample: &Sample) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = sample.write(dir.path()).unwrap();
    let recipients = Recipients::parse(&[generate_identity().recipient()]).unwrap();
    // Of `external_twice`, the file has bytes that belong to no tensor.
    let policy =
        "preset = \"strong\"\nallow_clear = [\"w.bin\"]\n[require]\nunmatched = \"report\"";
    let mut options = ProtectOptions::new(Policy::parse(policy).unwrap());
    options.chunk_bytes = 1 << 16;
    let sealed = dir.path().join("sealed/model.onnx");
    protect(&path, &sealed, &recipients, &options, &Silent).unwrap();
    let sealed = fs::read(sealed).unwrap();
    let tail = tail::split(&sealed).unwrap().unwrap();
    tail.value(tail::MANIFEST).unwrap().into()
}

/// Two tensors in the file that stands beside every model of the targets.
fn external_twice() -> Vec<u8> {
    GraphBuilder::new("external_twice")
        .input("x", &[1, 16])
        .output("y", &[1, 16])
        .initializer(external("v", &[16, 16], "w.bin", None, Some(1024)))
        .initializer(external("w", &[16, 16], "./w.bin", Some(2048), None))
        .node(node("MatMul", &["x", "v"], &["h"]))
        .node(node("MatMul", &["h", "w"], &["y"]))
        .encode()
}

/// Two tensors that overlap in their file.
fn shared_bytes() -> Vec<u8> {
    GraphBuilder::new("shared_bytes")
        .input("x", &[1, 16])
        .output("y", &[1, 16])
        .initializer(external("v", &[16, 16], "w.bin", Some(0), Some(1024)))
        .initializer(external("w", &[16, 16], "w.bin", Some(512), Some(1024)))
        .node(node("MatMul", &["x", "v"], &["h"]))
        .node(node("MatMul", &["h", "w"], &["y"]))
        .encode()
}

/// Elements of four bits, an odd number of them.
fn half_bytes() -> Vec<u8> {
    GraphBuilder::new("half_bytes")
        .input("x", &[1, 3])
        .output("y", &[1, 5])
        .initializer(build::raw_tensor(
            "w_q",
            DataType::Int4,
            &[3, 5],
            vec![0x35; 8],
        ))
        .initializer(weights("scale", &[], 1))
        .node(node("DequantizeLinear", &["w_q", "scale"], &["w"]))
        .node(node("MatMul", &["x", "w"], &["y"]))
        .encode()
}

fn hostile() -> Vec<(&'static str, Vec<u8>)> {
    let gemm = samples::gemm();
    let huge = wire::model_of_tensors(&[[
        wire::varint_field(1, 1 << 40),
        wire::varint_field(1, 1 << 40),
        wire::varint_field(2, 1),
        wire::field(9, &[0; 8]),
    ]
    .concat()]);
    vec![
        ("empty", Vec::new()),
        ("cut", corrupt::truncated(&gemm, gemm.len() / 2)),
        ("second_graph", corrupt::field_duplicated(&gemm, 7)),
        ("nested", wire::nested_graphs(40)),
        ("huge_dims", huge),
        (
            "length_lies",
            [&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &gemm].concat(),
        ),
    ]
}
