//! Tables of customers, for each of whom a licence is made.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use onnxseal_core::{Error, Recipients, Terms, is_deceptive};

use crate::exit::usage;
use crate::io;
use crate::prompt::Terminal;

/// The longest table, in bytes.
const MAX_TABLE_BYTES: usize = 8 << 20;

const CUSTOMER: &str = "customer";
const RECIPIENT: &str = "recipient";
const TIER: &str = "tier";

/// A row of a table: a licence to make.
#[derive(Debug)]
pub struct Row {
    pub customer: String,
    recipient: String,
    pub terms: Terms,
}

impl Row {
    /// Reads who opens models with the licence.
    pub fn recipients(&self) -> Result<Recipients> {
        let recipients = Recipients::parse(&[&self.recipient]).map_err(Error::Key)?;
        Ok(recipients.with_prompt(Arc::new(Terminal)))
    }
}

/// Reads a table with a header. A cell replaces the value of `defaults`.
pub fn read(path: &Path, defaults: &Terms) -> Result<Vec<Row>> {
    let text = io::read_text(path, "--table", MAX_TABLE_BYTES)?;
    rows(text.trim_start_matches('\u{feff}'), defaults)
        .with_context(|| format!("in {}", path.display()))
}

fn rows(text: &str, defaults: &Terms) -> Result<Vec<Row>> {
    let mut table = csv::ReaderBuilder::new();
    let mut table = table.trim(csv::Trim::All).from_reader(text.as_bytes());
    let malformed = |error: csv::Error| usage(error.to_string());
    let columns = table.headers().map_err(malformed)?.clone();
    let mut seen = HashSet::new();
    for column in &columns {
        if column.is_empty() || !seen.insert(column) {
            return Err(usage(format!("column {column:?} has no name of its own")));
        }
        let known = [CUSTOMER, RECIPIENT, TIER].into_iter();
        if let Some(known) = { known }.find(|known| *known != column && is_alike(known, column)) {
            return Err(usage(format!("column {column:?} is called {known}")));
        }
    }
    if let Some(missing) = [CUSTOMER, RECIPIENT]
        .iter()
        .find(|name| !seen.contains(*name))
    {
        return Err(usage(format!("there is no column {missing}")));
    }
    let (mut rows, mut customers) = (Vec::new(), HashSet::new());
    for record in table.records() {
        let record = record.map_err(malformed)?;
        let line = record.position().map_or(0, csv::Position::line);
        let cells = columns
            .iter()
            .zip(&record)
            .filter(|(_, cell)| !cell.is_empty());
        let mut terms = defaults.clone();
        let (mut customer, mut recipient) = (String::new(), String::new());
        for (column, cell) in cells {
            match column {
                RECIPIENT => cell.clone_into(&mut recipient),
                TIER => terms.tier = Some(cell.to_owned()),
                _ => {
                    if column == CUSTOMER {
                        cell.clone_into(&mut customer);
                    }
                    terms.claims.insert(column.to_owned(), cell.to_owned());
                }
            }
        }
        if seen.contains(TIER) && terms.tier.is_none() {
            return Err(usage(format!(
                "line {line}: there is no tier, and no --tier"
            )));
        }
        let is_plain = |c: char| !is_deceptive(c) && !"/\\:*?\"<>|".contains(c);
        if customer.is_empty() || !customer.chars().all(is_plain) || customer.starts_with('.') {
            return Err(usage(format!(
                "line {line}: customer {customer:?} cannot name a file"
            )));
        }
        // Some systems take both for one file.
        if !customers.insert(customer.to_lowercase()) {
            return Err(usage(format!(
                "line {line}: customer {customer:?} is there twice"
            )));
        }
        rows.push(Row {
            customer,
            recipient,
            terms,
        });
    }
    match rows.len() {
        0 => Err(usage("there is no row")),
        _ => Ok(rows),
    }
}

/// Returns whether a column's name is another but for case, spaces and punctuation, or its plural.
fn is_alike(known: &str, column: &str) -> bool {
    let letters = column.chars().filter(|c| c.is_alphanumeric());
    let letters: String = letters.flat_map(char::to_lowercase).collect();
    letters.trim_end_matches('s') == known
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn cells_come_before_defaults() {
        let defaults = Terms {
            tier: Some("lite".into()),
            claims: [("not-after", "2027-01-01"), ("contact", "x@y")]
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .into(),
        };
        let text = "customer, recipient,tier,not-after\nacme,\"age1a\",pro,\r\nbolt,ssh-ed25519 AAA b,,2028-01-01\n";
        let [acme, bolt] = &rows(text, &defaults).unwrap()[..] else {
            unreachable!("two rows");
        };
        assert_eq!(
            (&*acme.recipient, acme.terms.tier.as_deref()),
            ("age1a", Some("pro"))
        );
        assert_eq!(acme.terms.claims["not-after"], "2027-01-01");
        assert_eq!(
            (&*bolt.customer, bolt.terms.tier.as_deref()),
            ("bolt", Some("lite"))
        );
        assert_eq!(bolt.recipient, "ssh-ed25519 AAA b");
        assert_eq!(bolt.terms.claims["not-after"], "2028-01-01");
        assert_eq!(bolt.terms.claims["contact"], "x@y");
        assert_eq!(bolt.terms.claims["customer"], "bolt");
    }

    #[test]
    fn tables_that_are_refused() {
        for text in [
            "",
            "customer,recipient\n",
            "customer\nacme\n",
            "customer,recipient,customer\na,b,c\n",
            "customer,recipient,\na,b,c\n",
            "customer,recipient\na,b,c\n",
            "customer,recipient\n,b\n",
            "customer,recipient\n../a,b\n",
            "customer,recipient\n.a,b\n",
            "customer,recipient\na,b\nA,b\n",
            "customer,recipient,Tier\na,b,c\n",
            "customer,recipients\na,b\n",
            "customer,recipient,tier\na,b,\n",
            "customer,recipient\na\u{202e},b\n",
        ] {
            assert!(rows(text, &Terms::default()).is_err(), "{text:?}");
        }
    }
}
