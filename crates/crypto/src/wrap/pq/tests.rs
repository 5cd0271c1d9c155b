#![allow(clippy::unwrap_used, clippy::panic)]

use age::Identity as _;
use hpke::rand_core::{self, CryptoRng, RngCore};
use sha2::{Digest as _, Sha256};

use super::*;
use crate::tests::vectors::hex;

/// The vectors of draft-connolly-cfrg-xwing-kem-06: secret key, randomness, shared secret, and the
/// SHA-256 of public key and ciphertext.
const X_WING: [[&str; 5]; 3] = [
    [
        "7f9c2ba4e88f827d616045507605853ed73b8093f6efbc88eb1a6eacfa66ef26",
        "3cb1eea988004b93103cfb0aeefd2a686e01fa4a58e8a3639ca8a1e3f9ae57e235b8cc873c23dc62b8d260169afa2f75ab916a58d974918835d25e6a435085b2",
        "d2df0522128f09dd8e2c92b1e905c793d8f57a54c3da25861f10bf4ca613e384",
        "2e816deebcd76c5c80d0cd2d174478871658e8e2ff42bc9d4a6e486372e856bb",
        "17cd532d657e44c897ca6583e548a5424fc70bf54f99515a4d2bcf99e3469f33",
    ],
    [
        "badfd6dfaac359a5efbb7bcc4b59d538df9a04302e10c8bc1cbf1a0b3a5120ea",
        "17cda7cfad765f5623474d368ccca8af0007cd9f5e4c849f167a580b14aabdefaee7eef47cb0fca9767be1fda69419dfb927e9df07348b196691abaeb580b32d",
        "f2e86241c64d60f6649fbc6c5b7d17180b780a3f34355e64a85749949c45f150",
        "c42ba5f8430d7d2c83739338203819f090e8303ce9c8b02107c272bfa5376916",
        "1661ea86d608a1924ba30840cb0a65f13ae051e3aec9cf0f064efc0bc92f2154",
    ],
    [
        "ef58538b8d23f87732ea63b02b4fa0f4873360e2841928cd60dd4cee8cc0d4c9",
        "22a96188d032675c8ac850933c7aff1533b94c834adbb69c6115bad4692d8619f90b0cdf8a7b9c264029ac185b70b83f2801f2f4b3f70c593ea3aeeb613a7f1b",
        "953f7f4e8c5b5049bdc771d1dffada0dd961477d1a2ae0988baa7ea6898d893f",
        "6b080d6b84f095342092fa7a22423e58bd681397ad0ef00eac92bd254db4fa95",
        "d3ca5578500344b5896cffc4fd740c9311946b82951df155e6fd86a7966b43c6",
    ],
];

/// Not random: the bytes of a vector.
struct Given(Vec<u8>);

impl RngCore for Given {
    fn next_u32(&mut self) -> u32 {
        rand_core::impls::next_u32_via_fill(self)
    }

    fn next_u64(&mut self) -> u64 {
        rand_core::impls::next_u64_via_fill(self)
    }

    fn fill_bytes(&mut self, to: &mut [u8]) {
        let rest = self.0.split_off(to.len());
        to.copy_from_slice(&std::mem::replace(&mut self.0, rest));
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), rand_core::Error> {
        self.fill_bytes(to);
        Ok(())
    }
}

impl CryptoRng for Given {}

#[test]
fn x_wing_is_that_of_the_draft() {
    for vector in X_WING {
        let [secret, random, shared, public_hash, encapped_hash] =
            vector.map(|digits| hex(&digits.into()));
        let secret = PrivateKey::from_bytes(&secret).unwrap();
        let public = XWing::sk_to_pk(&secret);
        assert_eq!(Sha256::digest(public.to_bytes())[..], public_hash);
        let (sent, encapped) = XWing::encap(&public, None, &mut Given(random)).unwrap();
        assert_eq!(sent.0[..], shared);
        assert_eq!(Sha256::digest(encapped.to_bytes())[..], encapped_hash);
        let received = XWing::decap(&secret, None, &encapped).unwrap();
        assert_eq!(received.0[..], shared);
    }
}

/// A point of order 8.
const LOW_ORDER: [u8; 32] = [
    0x5f, 0x9c, 0x95, 0xbc, 0xa3, 0x50, 0x8c, 0x24, 0xb1, 0xd0, 0xb1, 0x55, 0x9c, 0x83, 0xef, 0x5b,
    0x04, 0x44, 0x5c, 0xc4, 0x58, 0x1c, 0x8e, 0x86, 0xd8, 0x22, 0x4e, 0xdd, 0xd0, 0x9f, 0x11, 0xd7,
];

#[test]
fn keys_that_cannot_be_used_are_refused() {
    let key = Identity::generate().unwrap();
    let public = key.to_public().0.to_bytes();
    let parsed = |bytes: &[u8]| bech32_encode(RECIPIENT, bytes).parse::<Recipient>();
    assert_eq!(
        parsed(&public).unwrap().to_string(),
        key.to_public().to_string()
    );
    let mut point = public;
    point[1184..].copy_from_slice(&LOW_ORDER);
    // The first coefficient is 4095, which is more than ML-KEM's 3328.
    let mut coefficient = public;
    coefficient[..2].copy_from_slice(&[0xff, 0xff]);
    for bytes in [
        &point[..],
        &coefficient,
        &public[1..],
        &[&public[..], &[0]].concat(),
    ] {
        assert!(parsed(bytes).is_err());
    }
    assert!(
        bech32_encode(IDENTITY, &[1; 31])
            .parse::<Identity>()
            .is_err()
    );
    assert!(
        bech32_encode(IDENTITY, &[1; 33])
            .parse::<Identity>()
            .is_err()
    );
}

#[test]
fn stanzas_are_refused_or_for_another() {
    let key = Identity::generate().unwrap();
    let file_key = FileKey::new(Box::new([7; 16]));
    let wrapped = || {
        let (mut stanzas, labels) =
            age::Recipient::wrap_file_key(&key.to_public(), &file_key).unwrap();
        assert_eq!(labels, HashSet::from(["postquantum".to_owned()]));
        stanzas.pop().unwrap()
    };
    let opened = key.unwrap_stanza(&wrapped()).unwrap().unwrap();
    assert_eq!(opened.expose_secret(), file_key.expose_secret());

    let is_for_another = |change: &dyn Fn(&mut Stanza)| {
        let mut stanza = wrapped();
        change(&mut stanza);
        match key.unwrap_stanza(&stanza) {
            None => true,
            Some(Err(DecryptError::InvalidHeader)) => false,
            _ => panic!("it opened"),
        }
    };
    let change_bytes = |stanza: &mut Stanza, change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = BASE64_STANDARD_NO_PAD.decode(&stanza.args[0]).unwrap();
        change(&mut bytes);
        stanza.args[0] = BASE64_STANDARD_NO_PAD.encode(bytes);
    };
    for at in [0, 1087, 1088, 1119] {
        assert!(is_for_another(&|stanza| change_bytes(stanza, &|bytes| {
            bytes[at] ^= 1
        })));
    }
    assert!(is_for_another(&|stanza| stanza.body[0] ^= 1));
    assert!(is_for_another(
        &|stanza| stanza.tag = "MLKEM768X25519".to_owned()
    ));
    let malformed: [&dyn Fn(&mut Stanza); 9] = [
        &|stanza| change_bytes(stanza, &|bytes| bytes[1088..].copy_from_slice(&LOW_ORDER)),
        &|stanza| change_bytes(stanza, &|bytes| bytes.truncate(1119)),
        &|stanza| change_bytes(stanza, &|bytes| bytes.push(0)),
        &|stanza| change_bytes(stanza, &Vec::clear),
        &|stanza| stanza.args[0].push('='),
        &|stanza| stanza.args.push("x".to_owned()),
        &|stanza| stanza.args.clear(),
        &|stanza| stanza.body.push(0),
        &|stanza| stanza.body.truncate(31),
    ];
    for (index, change) in malformed.iter().enumerate() {
        assert!(!is_for_another(change), "{index}");
    }
}
