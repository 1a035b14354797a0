//! Formats tables as text.

use std::fmt::Write as _;

/// Appends a table. The first `left_columns` columns are aligned to the left, the others to the right.
pub(super) fn table(out: &mut String, left_columns: usize, titles: &[&str], rows: Vec<Vec<String>>) {
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count());
        cells.chain([titles[column].len()]).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..titles.len()).map(width).collect();
    let titles = titles.iter().map(|title| (*title).to_owned()).collect();
    for row in [vec![titles], rows].concat() {
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            let width = widths[column];
            let gap = if column == 0 { "" } else { "  " };
            let written = if column < left_columns {
                write!(line, "{gap}{cell:<width$}")
            } else {
                write!(line, "{gap}{cell:>width$}")
            };
            written.ok(); // writing to a String cannot fail
        }
        writeln!(out, "{}", line.trim_end()).ok(); // as above
    }
}
