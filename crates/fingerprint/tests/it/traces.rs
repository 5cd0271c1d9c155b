//! Leaks that were changed, and who is accused.

use crate::*;

#[test]
fn an_untouched_copy_names_its_customer_alone() {
    let model = network();
    let traced = traced(&model, &marked(&model, "a"), &["a", "b"]);
    let accused: Vec<&str> = traced.accused().map(|of| &*of.customer).collect();
    assert_eq!(accused, ["a"]);
    assert!(traced.suspects[0].z > 400.0, "{}", traced.suspects[0].z);
    assert_eq!(traced.elements_found, traced.elements);
}

#[test]
fn the_original_accuses_nobody() {
    let model = network();
    assert_eq!(traced(&model, &model, &["a"]).accused().count(), 0);
}
