#![allow(clippy::unwrap_used)]

use super::*;

const BEFORE: &[u8] = b"head context ";

fn change(old: &[u8], new: &[u8]) -> Change {
    Change {
        context: 5,
        start: BEFORE.len() as u64,
        old: old.to_vec(),
        new: new.to_vec(),
    }
}

/// Makes a file that ends with `end`, and the journal of a change to it.
fn file(end: &[u8], change: &Change) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap().join("file");
    fs::write(&path, [BEFORE, end].concat()).unwrap();
    fs::write(journal_of(&path), change.encode()).unwrap();
    (dir, path)
}

/// Which end a torn file gets.
type Pick = for<'t> fn(&'t Change, &'t [u8]) -> &'t [u8];
const FOUND: Pick = |_, found| found;
const OLD: Pick = |change, _| &change.old;
const NEW: Pick = |change, _| &change.new;

/// Completes a file that ends with `end`, and returns its new end, or `None` if `judge` was not
/// called.
fn completed(end: &[u8], change: &Change, pick: Pick) -> Option<Vec<u8>> {
    let (_dir, path) = file(end, change);
    assert!(is_interrupted(&path));
    let mut is_asked = false;
    let splice = Splice::open(&path, Flush::Later).unwrap();
    let completed = splice.complete(|torn, before, found| {
        is_asked = true;
        assert_eq!((torn.context, before), (5, &BEFORE[5..]));
        assert_eq!((found, &torn.old), (end, &change.old));
        Result::Ok(pick(torn, found))
    });
    completed.unwrap();
    assert!(!is_interrupted(&path));
    let found = fs::read(&path).unwrap();
    is_asked.then(|| found[BEFORE.len()..].to_vec())
}

#[test]
fn a_torn_end_becomes_what_is_said_of_it() {
    let (old, new) = (&b"old end"[..], &b"the new end"[..]);
    for (old, new) in [(old, new), (new, old)] {
        let change = change(old, new);
        for written in 1..new.len() {
            let rest = old.get(written..).unwrap_or_default();
            let torn = [&new[..written], rest].concat();
            for (pick, expected) in [(FOUND, &torn[..]), (OLD, old), (NEW, new)] {
                assert_eq!(completed(&torn, &change, pick).unwrap(), expected);
            }
        }
        assert_eq!(completed(old, &change, NEW), None, "not begun");
        assert_eq!(completed(new, &change, OLD), None, "done");
        assert_eq!(completed(b"some end", &change, NEW), None);
        assert_eq!(completed(b"", &change, NEW), None);
    }
    // The file grew before its bytes came.
    let grown = change(old, new);
    let found = completed(b"old end\0\0\0\0", &grown, NEW);
    assert_eq!(found.unwrap(), new);
}

#[test]
fn places_outside_of_the_file_are_not_read() {
    for (context, start) in [(0, u64::MAX), (14, 13), (u64::MAX, 0), (0, 1 << 40)] {
        let mut change = change(b"old", b"new");
        (change.context, change.start) = (context, start);
        assert_eq!(completed(b"odd", &change, NEW), None);
    }
}

#[test]
fn a_refusal_leaves_file_and_journal() {
    let change = change(b"old", b"new");
    let (_dir, path) = file(b"nld", &change);
    let splice = Splice::open(&path, Flush::Later).unwrap();
    let refused = splice.complete(|_, _, _| Err(Error::Internal("refused")));
    assert!(matches!(refused, Err(Error::Internal(_))));
    assert!(fs::read(&path).unwrap().ends_with(b"nld") && is_interrupted(&path));
}

#[test]
fn an_end_is_replaced_and_no_journal_stays() {
    let change = change(b"old", b"the new end");
    for flush in [Flush::Later, Flush::ToDisk] {
        let (_dir, path) = file(b"old", &change);
        fs::remove_file(journal_of(&path)).unwrap();
        let splice = Splice::open(&path, flush).unwrap();
        assert_eq!(splice.input().unwrap().len, BEFORE.len() as u64 + 3);
        let busy = Splice::open(&path, flush).map(drop);
        assert!(matches!(busy, Err(Error::Busy { .. })));
        splice.replace(&change).unwrap();
        assert!(fs::read(&path).unwrap().ends_with(b"the new end"));
        assert!(!journal_of(&path).exists());
    }
}

#[test]
fn a_journal_that_was_cut_or_changed_is_none() {
    let journal = change(b"old", b"the new end").encode();
    assert!(Change::parse(&journal).is_some());
    for len in 0..journal.len() {
        assert!(Change::parse(&journal[..len]).is_none());
    }
    for bit in 0..8 * journal.len() {
        let mut changed = journal.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        assert!(Change::parse(&changed).is_none());
    }
}
