//! Tables of a report, cut to the terminal's width and to a readable length.

use std::io::{self, Write};

use crate::cli::View;
use crate::text::{bytes, one_line};

/// The most rows of a table, unless the user asks for all.
pub const SHOWN_ROWS: usize = 40;

#[derive(Clone, Copy)]
pub struct Frame {
    /// Columns of the terminal; `None` without a terminal, which shortens only names that fill a
    /// line by themselves.
    width: Option<usize>,
    /// Whether every row is shown, and without a terminal every name whole.
    all: bool,
}

impl Frame {
    pub fn of(view: &View) -> Frame {
        Frame {
            all: view.all,
            ..Frame::of_terminal()
        }
    }

    /// Shows every row, as wide as the terminal.
    pub fn of_terminal() -> Frame {
        let terminal = console::Term::stdout();
        let size = terminal.size_checked().filter(|_| terminal.is_term());
        let width = size.map(|(_, columns)| usize::from(columns));
        Frame {
            // Terminals without a size report 0.
            width: width.filter(|&width| width > 0),
            all: true,
        }
    }

    /// Returns whether to leave out less important columns.
    pub fn is_narrow(self) -> bool {
        self.width.is_some_and(|width| width < 120)
    }
}

/// The largest of many rows, in their original order, and a summary of the others.
pub struct Largest<'r, R> {
    pub shown: Vec<&'r R>,
    n_others: usize,
    other_bytes: u64,
}

impl<'r, R> Largest<'r, R> {
    pub fn of(rows: &'r [R], bytes: impl Fn(&R) -> u64, frame: Frame) -> Largest<'r, R> {
        let mut indices: Vec<usize> = (0..rows.len()).collect();
        let most = if frame.all { usize::MAX } else { SHOWN_ROWS };
        indices.sort_by_key(|&index| std::cmp::Reverse(bytes(&rows[index])));
        let others = indices.split_off(most.min(rows.len()));
        indices.sort_unstable();
        Largest {
            shown: indices.into_iter().map(|index| &rows[index]).collect(),
            n_others: others.len(),
            other_bytes: others.iter().fold(0, |sum: u64, &index| {
                sum.saturating_add(bytes(&rows[index]))
            }),
        }
    }

    pub fn print_rest(&self, out: &mut impl Write) -> io::Result<()> {
        match self.n_others {
            0 => Ok(()),
            n => writeln!(
                out,
                "... and {n} smaller, {} together: --all shows them",
                bytes(self.other_bytes)
            ),
        }
    }
}

/// Aligned columns. A heading tells whether its column has numbers, which are aligned right.
pub struct Table<const N: usize> {
    pub head: [&'static str; N],
    rows: Vec<[String; N]>,
}

pub const RIGHT: [&str; 10] = [
    "tensors",
    "operators",
    "weights",
    "bytes",
    "encrypted",
    "share",
    "n",
    "k",
    "z",
    "probability",
];

/// The headings of columns to shorten if a table is too wide: first those of one line, then the
/// next.
pub const SHORTENED: [&[&str]; 2] = [
    &["node", "tensor", "left in clear", "candidate"],
    &["op_type", "positions", "why"],
];

/// The most display columns of a name where no terminal sets a width.
const MAX_NAME_WIDTH: usize = 100;

/// The least width of a shortened column, in display columns.
pub const MIN_WIDTH: usize = 12;

/// The heading of a hidden column.
pub const HIDDEN: &str = "";

impl<const N: usize> Table<N> {
    pub fn new(head: [&'static str; N]) -> Table<N> {
        Table {
            head,
            rows: Vec::new(),
        }
    }

    pub fn row(&mut self, row: [String; N]) {
        self.rows.push(row.map(|cell| one_line(&cell)));
    }

    pub fn print(&self, out: &mut impl Write, frame: Frame) -> io::Result<()> {
        let widths = self.widths(frame);
        let mut line = |cells: [&str; N]| {
            let mut text = String::new();
            for ((cell, head), width) in cells.iter().zip(self.head).zip(widths) {
                if head == HIDDEN {
                    continue;
                }
                let cell = shorten(cell, width);
                let padding = " ".repeat(width.saturating_sub(console::measure_text_width(&cell)));
                if RIGHT.contains(&head) {
                    text.push_str(&format!("{padding}{cell}  "))
                } else {
                    text.push_str(&format!("{cell}{padding}  "))
                }
            }
            writeln!(out, "{}", text.trim_end())
        };
        line(self.head)?;
        self.rows
            .iter()
            .try_for_each(|row| line(row.each_ref().map(String::as_str)))
    }

    /// Returns the width of each column, which is that of its widest cell if the frame has room.
    pub fn widths(&self, frame: Frame) -> [usize; N] {
        let mut widths: [usize; N] = std::array::from_fn(|column| {
            let cells = self.rows.iter().map(|row| row[column].as_str());
            let widths = cells
                .chain([self.head[column]])
                .map(console::measure_text_width);
            match self.head[column] {
                HIDDEN => 0,
                _ => widths.max().unwrap_or(0),
            }
        });
        let Some(room) = frame.width else {
            let is_name = |column: &usize| SHORTENED[0].contains(&self.head[*column]);
            for column in (0..N).filter(is_name).filter(|_| !frame.all) {
                widths[column] = widths[column].min(MAX_NAME_WIDTH);
            }
            return widths;
        };
        let shown = self.head.iter().filter(|head| **head != HIDDEN).count();
        let room = room.saturating_sub(2 * shown.saturating_sub(1));
        for group in SHORTENED {
            // Column by column, so that all of a group shrink alike.
            while widths.iter().sum::<usize>() > room {
                let columns = (0..N).filter(|&column| group.contains(&self.head[column]));
                let is_wide =
                    |&column: &usize| widths[column] > MIN_WIDTH.max(self.head[column].len());
                let widest = columns.filter(is_wide).max_by_key(|&column| widths[column]);
                let Some(widest) = widest else { break };
                widths[widest] -= 1;
            }
        }
        widths
    }
}

/// Cuts the middle out of `text` if it is wider than `width`.
pub fn shorten(text: &str, width: usize) -> String {
    if console::measure_text_width(text) <= width {
        return text.to_owned();
    }
    let take = |chars: &mut dyn Iterator<Item = char>, width: usize| {
        let mut taken = String::new();
        let mut used = 0;
        for c in chars {
            used += console::measure_text_width(c.encode_utf8(&mut [0; 4]));
            if used > width {
                break;
            }
            taken.push(c);
        }
        taken
    };
    let room = width.saturating_sub(1);
    let end = take(&mut text.chars().rev(), room / 2);
    let start = take(&mut text.chars(), room - room / 2);
    format!("{start}\u{2026}{}", end.chars().rev().collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_of_names_is_left_out() {
        assert_eq!(shorten("encoder.weight", 14), "encoder.weight");
        assert_eq!(shorten("encoder.weight", 13), "encode\u{2026}weight");
        assert_eq!(shorten("重み.重み", 6), "重\u{2026}み");
        assert_eq!(shorten("abc", 1), "\u{2026}");
        assert_eq!(shorten("abc", 0), "\u{2026}");
    }

    fn lines(table: &Table<4>, width: Option<usize>) -> Vec<String> {
        let mut out = Vec::new();
        let frame = Frame { width, all: false };
        assert!(table.print(&mut out, frame).is_ok());
        let text = String::from_utf8_lossy(&out).into_owned();
        text.lines().map(str::to_owned).collect()
    }

    #[test]
    fn tables_fit_the_terminal_and_nothing_else() {
        let mut table = Table::new(["op_type", "node", "tensor", "bytes"]);
        let long = |text: &str| text.repeat(40);
        table.row(["Conv".into(), long("ab"), long("重"), "1".into()]);
        table.row(["Conv".into(), "node".into(), "w".into(), "1234".into()]);
        for width in [50, 80, 120] {
            let lines = lines(&table, Some(width));
            let widest = lines
                .iter()
                .map(|line| console::measure_text_width(line))
                .max();
            assert!(
                widest <= Some(width) && widest >= Some(width - 4),
                "{lines:#?}"
            );
            assert!(lines[1].contains('\u{2026}') && !lines[2].contains('\u{2026}'));
        }
        assert!(lines(&table, None)[1].contains(&long("ab")));
        // Names that fill lines by themselves are cut without a terminal too.
        table.row(["Conv".into(), "n".repeat(250), "w".into(), "1".into()]);
        let piped = lines(&table, None);
        assert!(piped[3].contains("nnn\u{2026}nnn") && piped[3].len() < 300);
        assert!(piped[1].contains(&long("ab")));
        let mut whole = Vec::new();
        let (width, all) = (None, true);
        assert!(table.print(&mut whole, Frame { width, all }).is_ok());
        assert!(String::from_utf8_lossy(&whole).contains(&"n".repeat(250)));
    }

    #[test]
    fn long_tables_show_the_largest_rows_in_order() {
        let rows: Vec<u64> = (0..100).collect();
        let some = Largest::of(
            &rows,
            |row| *row,
            Frame {
                width: None,
                all: false,
            },
        );
        assert!(some.shown.iter().map(|row| **row).eq(60..100));
        assert_eq!((some.n_others, some.other_bytes), (60, 59 * 60 / 2));
        let all = Largest::of(
            &rows,
            |row| *row,
            Frame {
                width: None,
                all: true,
            },
        );
        assert!(all.shown.iter().map(|row| **row).eq(0..100) && all.n_others == 0);
    }
}
