//! Dates: from when and until when a model or a licence opens. `docs/FORMAT.md` has their grammar.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::civil::Date;

#[cfg(feature = "protect")]
use onnxseal_store::holds_secret;

#[cfg(feature = "protect")]
use crate::error::{Error, Result};

/// The claim that says from when a model or a licence opens.
pub(crate) const NOT_BEFORE: &str = "not-before";

/// The claim that says until when.
pub(crate) const NOT_AFTER: &str = "not-after";

/// A moment: seconds since 1970.
pub(crate) type Moment = i64;

/// Returns the present time of this machine's clock.
pub(crate) fn now() -> Moment {
    match SystemTime::now().duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => since.as_secs() as Moment,
        Err(before) => -(before.duration().as_secs_f64().ceil() as Moment),
    }
}

/// Returns the second of a moment, for a message.
pub(crate) fn stamp(at: Moment) -> String {
    Timestamp::from_second(at).map_or("another time".into(), |at| at.to_string())
}

/// Returns the moments of a date: `2027-01-01`, a day of UTC, or `2027-01-01T12:00:00Z`, also with an
/// offset such as `+02:00`.
pub(crate) fn moments(text: &str) -> Option<Range<Moment>> {
    let (day, time) = text.split_at_checked(10)?;
    let day = fields(day, b"dddd-dd-dd")?;
    let [_, month, day_of_month] = [day[0], day[1], day[2]].map(|n| i8::try_from(n).unwrap_or(0));
    let date = Date::new(i16::try_from(day[0]).ok()?, month, day_of_month).ok()?;
    // jiff has a year 0.
    let date = Some(date).filter(|date| date.year() > 0)?;
    let start = date.duration_since(Date::constant(1970, 1, 1)).as_secs();
    if time.is_empty() {
        return Some(start..start + 24 * 60 * 60);
    }
    let (clock, offset) = time.split_at_checked(9)?;
    let clock = seconds(&fields(clock, b"Tdd:dd:dd")?)?;
    let offset = match offset.split_at_checked(1)? {
        ("Z", "") => 0,
        ("+", ahead) => seconds(&fields(ahead, b"dd:dd")?)?,
        ("-", behind) => -seconds(&fields(behind, b"dd:dd")?)?,
        _ => return None,
    };
    let at = start + clock - offset;
    Some(at..at + 1)
}

/// Reads the numbers of a text of this form, in which `d` is a digit.
fn fields(text: &str, form: &[u8]) -> Option<Vec<u16>> {
    let fits = |(byte, wanted): (u8, &u8)| match wanted {
        b'd' => byte.is_ascii_digit(),
        wanted => byte == *wanted,
    };
    let is_of_form = text.len() == form.len() && text.bytes().zip(form).all(fits);
    let numbers = text.split(|c: char| !c.is_ascii_digit());
    let numbers = numbers.filter_map(|digits| digits.parse().ok());
    is_of_form.then(|| numbers.collect())
}

/// Returns the seconds of hours, minutes and seconds.
fn seconds(clock: &[u16]) -> Option<i64> {
    let most = [23, 59, 59];
    let is_legal = clock.iter().zip(most).all(|(n, most)| *n <= most);
    let units = clock.iter().zip([3600, 60, 1]);
    is_legal.then(|| units.map(|(n, unit)| i64::from(*n) * unit).sum())
}

/// Returns the claim that keeps a model or a licence with these claims from opening at `at`, and its
/// date. Other values have no effect.
pub(crate) fn out_of_force(
    claims: &BTreeMap<String, String>,
    at: Moment,
) -> Option<(&'static str, &str)> {
    [NOT_BEFORE, NOT_AFTER].into_iter().find_map(|key| {
        let value = claims.get(key)?;
        let moments = moments(value)?;
        let keeps = match key {
            NOT_BEFORE => at < moments.start,
            _ => at >= moments.end,
        };
        keeps.then_some((key, value.as_str()))
    })
}

/// Fails if `new` statements, which become part of `all`, hold a secret key or a date that no reader
/// keeps: a value of another form, a name that only looks like that of a date, an end before the
/// beginning.
#[cfg(feature = "protect")]
pub(crate) fn check_new(
    new: &BTreeMap<String, String>,
    all: &BTreeMap<String, String>,
) -> Result<()> {
    let fault = |fault: String| Err(Error::Usage(fault));
    let letters = |text: &str| -> String {
        let letters = text.chars().filter(|c| c.is_alphanumeric());
        letters.flat_map(char::to_lowercase).collect()
    };
    for (key, value) in new {
        if holds_secret(key) || holds_secret(value) {
            return fault("a statement holds a secret key, and anyone can read statements".into());
        }
        let name = letters(key);
        match [NOT_BEFORE, NOT_AFTER]
            .into_iter()
            .find(|known| letters(known) == name)
        {
            Some(known) if known != key => {
                return fault(format!(
                    "no reader keeps a date named {key:?}: name it {known}"
                ));
            }
            Some(_) if moments(value).is_none() => {
                return fault(format!(
                    "{key} is {value:?}, which is no date: write 2027-01-31, to its end in UTC, or 2027-01-31T12:00:00Z"
                ));
            }
            _ => {}
        }
    }
    let of = |key: &str| all.get(key).and_then(|value| moments(value));
    match (of(NOT_BEFORE), of(NOT_AFTER)) {
        (Some(first), Some(last)) if first.start >= last.end => fault(format!(
            "{NOT_AFTER} lies before {NOT_BEFORE}: nothing would ever open"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn claims<const N: usize>(all: [(&str, &str); N]) -> BTreeMap<String, String> {
        all.map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn a_date_is_a_day_and_a_time_a_moment() {
        for day in ["2027-01-01", "9999-12-31", "0001-01-01", "1960-02-29"] {
            let day = moments(day).unwrap();
            assert_eq!(day.end - day.start, 86_400);
        }
        assert_eq!(moments("1970-01-01").unwrap().start, 0);
        assert_eq!(moments("2000-03-01").unwrap().start, 951_868_800);
        for same in [
            "2026-06-01T10:00:00Z",
            "2026-06-01T12:00:00+02:00",
            "2026-06-01T04:30:00-05:30",
            "2026-06-01T10:00:00-00:00",
            "2026-05-31T23:59:00-10:01",
        ] {
            let at = moments(same).unwrap();
            assert_eq!(at, moments("2026-06-01T10:00:00Z").unwrap(), "{same}");
            assert_eq!(at.end - at.start, 1);
        }
    }

    #[test]
    fn what_is_no_date() {
        for none in [
            "",
            "never",
            "2027",
            "2027-1-1",
            "20270101",
            "2027-13-01",
            "2027-00-01",
            "2027-02-29",
            "2027-02-00",
            "0000-01-01",
            "+2027-01-01",
            "2027-W01-1",
            " 2027-01-01",
            "2027-01-01 ",
            "2027-01-01x",
            "2027-01-01T",
            "2027-01-01Z",
            "2027-01-01T00:00:00",
            "2027-01-01T00:00Z",
            "2027-01-01t00:00:00Z",
            "2027-01-01T00:00:00z",
            "2027-01-01 00:00:00Z",
            "2027-01-01T24:00:00Z",
            "2027-01-01T23:60:00Z",
            "2027-01-01T23:59:60Z",
            "2027-01-01T00:00:00.5Z",
            "2027-01-01T00:00:00+2:00",
            "2027-01-01T00:00:00+24:00",
            "2027-01-01T00:00:00+02",
            "2027-01-01T00:00:00+0200",
            "2027-01-01T00:00:00Z[UTC]",
            "2027-01-01T00:00:00\u{2212}02:00",
            "\u{ff12}027-01-01",
            "2027\u{2010}01\u{2010}01",
        ] {
            assert_eq!(moments(none), None, "{none}");
        }
    }

    #[test]
    fn a_date_holds_to_its_end_and_a_time_to_the_moment() {
        let made = claims([
            ("customer", "acme"),
            ("not-before", "2026-06-01T12:00:00+02:00"),
            ("not-after", "2027-01-01"),
        ]);
        let second = |text: &str| moments(text).unwrap().start;
        for (at, keeps) in [
            (second("2026-06-01T10:00:00Z") - 1, Some("not-before")),
            (second("2026-06-01T10:00:00Z"), None),
            (second("2027-01-02") - 1, None),
            (second("2027-01-02"), Some("not-after")),
        ] {
            assert_eq!(out_of_force(&made, at).map(|(key, _)| key), keeps, "{at}");
        }
        assert_eq!(out_of_force(&claims([("not-after", "soon")]), now()), None);
    }

    #[test]
    fn dates_that_no_reader_keeps_are_refused() {
        let refused = |all: BTreeMap<String, String>| check_new(&all, &all).is_err();
        for (key, value) in [
            ("not-after", "soon"),
            ("not-before", "2027-02-30"),
            ("not_after", "2027-01-01"),
            ("Not-After", "2027-01-01"),
            ("notAfter", "2027-01-01"),
            ("NOT BEFORE", "2027-01-01"),
            ("not\u{a0}after", "2027-01-01"),
            ("not.after", "2027-01-01"),
            (
                "key",
                "AGE-SECRET-KEY-1QQPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQYQSZQGPQSP7NZ4",
            ),
        ] {
            assert!(refused(claims([(key, value)])), "{key}");
        }
        let days = |first, last| claims([("not-before", first), ("not-after", last)]);
        assert!(refused(days("2027-01-02", "2027-01-01")));
        assert!(!refused(days("2027-01-01", "2027-01-01")));
        assert!(!refused(claims([("expires", "soon"), ("after", "")])));
    }
}
