//! Missing plugins; the command's `tests/command/keys.rs` has a real one.

use super::*;

#[test]
fn plugins_that_are_not_installed_are_named() {
    let hrp = |text| bech32::Hrp::parse(text).unwrap();
    let recipient = bech32::encode::<bech32::Bech32>(hrp("age1nosuch"), &[1; 8]).unwrap();
    let fault = Recipients::parse(&[&recipient]).unwrap_err();
    assert!(
        matches!(&fault, Error::PluginMissing(program) if program == "age-plugin-nosuch"),
        "{fault}"
    );
    let identity = bech32::encode_upper::<bech32::Bech32>(hrp("AGE-PLUGIN-NOSUCH-"), &[1; 8]);
    let fault = Identities::read(identity.unwrap().as_bytes(), "key").unwrap_err();
    assert!(matches!(fault, Error::PluginMissing { .. }), "{fault}");
}
