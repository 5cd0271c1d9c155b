//! Leaks whose weights were changed, and who is accused.

use crate::attacks::*;
use crate::*;

/// A score that no innocent has.
const CLEAR: f64 = 10.0;

#[test]
fn an_untouched_copy_names_its_customer_alone() {
    let model = network();
    let traced = traced(&model, &marked(&model, "a"), &["a", "b"]);
    let accused: Vec<&str> = traced.accused().map(|of| &*of.customer).collect();
    assert_eq!(accused, ["a"]);
    assert!(traced.suspects[0].z > 400.0, "{}", traced.suspects[0].z);
    assert_eq!(traced.elements_found, traced.elements);
    assert!(traced.found.iter().all(|found| found.how == "as it was"));
}

#[test]
fn the_original_and_another_model_accuse_nobody() {
    let model = network();
    assert_eq!(traced(&model, &model, &["a"]).accused().count(), 0);
    let other = changed(&model, |_, _, values| *values = normal(values.len(), 9));
    let traced = traced(&model, &other, &["a"]);
    assert_eq!(traced.accused().count(), 0);
    assert!(traced.suspects[0].z < 5.0);
}

#[test]
fn changes_of_all_weights_leave_the_mark() {
    let model = network();
    let copy = marked(&model, "a");
    type Attack = fn(&mut Vec<f32>, usize);
    let attacks: [(&str, f64, Attack); 13] = [
        ("noise", 15.0, |v, _| noise(v, 0.1)),
        ("8 bits", 80.0, |v, _| {
            let n = v.len();
            round(v, 127.0, n);
        }),
        ("4 bits", 8.0, |v, rows| {
            let columns = v.len() / rows;
            round(v, 7.0, columns);
        }),
        ("half pruned", 300.0, |v, _| prune(v, 0.5)),
        ("pruned and rounded", 60.0, |v, _| {
            prune(v, 0.5);
            let n = v.len();
            round(v, 127.0, n);
        }),
        ("half the rank", 200.0, |v, rows| low_rank(v, rows, 0.5)),
        ("rows", 300.0, scatter_rows),
        ("columns", 300.0, scatter_columns),
        ("rows and columns", 300.0, |v, rows| {
            scatter_rows(v, rows);
            scatter_columns(v, rows);
        }),
        ("transposed", 400.0, transpose),
        ("transposed, rows", 300.0, |v, rows| {
            scatter_rows(v, rows);
            transpose(v, rows);
        }),
        ("negated rows", 300.0, |v, rows| {
            let columns = v.len() / rows;
            v.chunks_mut(2 * columns)
                .for_each(|pair| pair[..columns].iter_mut().for_each(|v| *v *= -1.5));
        }),
        ("merged", 15.0, |v, _| {
            let other = normal(v.len(), 77);
            v.iter_mut()
                .zip(other)
                .for_each(|(v, o)| *v = 0.8 * *v + 0.05 * o);
        }),
    ];
    for (what, wanted, attack) in attacks {
        let leak = changed(&copy, |_, dims, values| attack(values, dims[0]));
        let z = least(&model, &leak, &["a"]);
        eprintln!("{what}: {z:.1}");
        assert!(z > wanted, "{what}: {z}");
    }
}

#[test]
fn rotated_heads_are_turned_back() {
    let model = network();
    let copy = marked(&model, "a");
    for (head, wanted) in [(32, 250.0), (64, 250.0), (384, 150.0)] {
        let leak = changed(&copy, |name, dims, values| {
            if name == "m2" {
                rotate(values, dims[0], head);
            }
        });
        let traced = traced(&model, &leak, &["a"]);
        let found = traced
            .found
            .iter()
            .find(|found| found.tensor == "m2")
            .unwrap();
        assert_eq!(found.how, "rotated", "{head}");
        eprintln!("{head}: {}", found.expected_z);
        assert!(found.expected_z > wanted, "{head}: {}", found.expected_z);
        assert!(
            traced.suspects[0].z > 400.0,
            "{head}: {}",
            traced.suspects[0].z
        );
    }
}

#[test]
fn all_colluders_are_named() {
    let model = network();
    let names: Vec<String> = (0..10).map(|i| format!("colluder {i}")).collect();
    let names: Vec<&str> = names.iter().map(|name| &**name).collect();
    let copies: Vec<Vec<u8>> = names.iter().map(|name| marked(&model, name)).collect();
    for by in ["mean", "median", "mid-range", "chance"] {
        let mut of_copies: Vec<Vec<Vec<f32>>> = Vec::new();
        for copy in &copies {
            let mut tensors = Vec::new();
            changed(copy, |_, _, values| tensors.push(values.clone()));
            tensors.reverse();
            of_copies.push(tensors);
        }
        let leak = changed(&copies[0], |_, _, values| {
            let all = of_copies.iter_mut().map(|tensors| tensors.pop().unwrap());
            *values = collude(&all.collect::<Vec<_>>(), by);
        });
        let z = least(&model, &leak, &names);
        assert!(z > CLEAR, "{by}: {z}");
    }
}

#[test]
fn numbers_that_are_none_do_no_harm() {
    let model = network();
    let copy = marked(&model, "a");
    let leak = changed(&copy, |_, _, values| {
        for (value, odd) in values
            .iter_mut()
            .step_by(7)
            .zip([f32::NAN, f32::INFINITY, f32::MAX, 0.0].iter().cycle())
        {
            *value = *odd;
        }
    });
    assert!(least(&model, &leak, &["a"]) > 300.0);
    for odd in [
        f32::NAN,
        f32::INFINITY,
        f32::MAX,
        f32::MIN_POSITIVE,
        0.0,
        1.0,
    ] {
        let leak = changed(&copy, |_, _, values| values.fill(odd));
        assert_eq!(traced(&model, &leak, &["a"]).accused().count(), 0, "{odd}");
    }
}

#[test]
fn customers_are_listed_once() {
    let model = network();
    for (customers, says) in [
        (&["a", "b", "a"][..], "twice"),
        (&[][..], "no customers"),
        (&[" a"][..], "name"),
    ] {
        let customers: Vec<String> = customers.iter().map(|name| (*name).to_owned()).collect();
        let found = trace(
            &open(&model),
            &open(&model),
            &secret(1),
            &customers,
            &Silent,
        );
        let error = found.unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
