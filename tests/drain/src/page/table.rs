//! Tables of maps and lists of the model.

use super::format::Unit;
use super::panel::{Field, value};
use super::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// Maximum number of rows of a table.
const MAX_ROWS: usize = 25;
/// Maximum number of key columns of a matrix.
const MAX_COLUMNS: usize = 14;

/// A table of a map, sorted in descending order, or of a list, the newest item first (no key column).
pub(crate) struct Table {
    pub(crate) pointer: &'static str,
    /// Heading of the column of keys.
    pub(crate) key_label: &'static str,
    /// For a map of maps: heading of the column of inner keys.
    pub(crate) inner_key_label: &'static str,
    pub(crate) columns: &'static [Field],
    pub(crate) summary: &'static str,
    pub(crate) is_open: bool,
    /// Pointer inside a row to sort by; if empty, the first column if that is a number.
    pub(crate) sort_by: &'static str,
    /// Omits rows whose sort value is not above 0.
    pub(crate) only_positive: bool,
    pub(crate) max_rows: usize,
    /// Of the tables with the same group only one is open (`<details name>`).
    pub(crate) group: Option<&'static str>,
}

/// A table of a map whose members hold maps at `cells`: the keys of those are columns.
pub(crate) struct Matrix {
    pub(crate) pointer: &'static str,
    pub(crate) key_label: &'static str,
    /// Columns before those of the keys.
    pub(crate) columns: &'static [Field],
    /// Pointer inside a member to the map of cells.
    pub(crate) cells: &'static str,
    pub(crate) unit: Unit,
    /// Keys that come first; the others follow by name.
    pub(crate) first_columns: &'static [&'static str],
    pub(crate) summary: &'static str,
    pub(crate) is_open: bool,
}

/// A row: its keys, and its pointer.
struct Row {
    keys: Vec<String>,
    pointer: String,
}

/// The members of a map: name and pointer.
fn members<'a>(view: &'a View, pointer: &str) -> impl Iterator<Item = (&'a String, String)> {
    let members = view.at(pointer).and_then(Value::as_object).into_iter().flatten();
    members.map(move |(name, _)| (name, format!("{pointer}/{}", escape(name))))
}

impl Table {
    pub(crate) const DEFAULT: Self = Self {
        pointer: "",
        key_label: "",
        inner_key_label: "",
        columns: &[],
        summary: "",
        is_open: false,
        sort_by: "",
        only_positive: false,
        max_rows: MAX_ROWS,
        group: None,
    };

    /// All rows, sorted.
    fn all_rows(&self, view: &View) -> Vec<Row> {
        if let Some(Value::Array(items)) = view.at(self.pointer) {
            let row = |index| Row { keys: Vec::new(), pointer: format!("{}/{index}", self.pointer) };
            return (0..items.len()).rev().map(row).collect();
        }
        let outer = members(view, self.pointer).flat_map(|(name, pointer)| {
            if self.inner_key_label.is_empty() {
                return vec![Row { keys: vec![name.clone()], pointer }];
            }
            let inner = members(view, &pointer);
            inner.map(|(inner, pointer)| Row { keys: vec![name.clone(), inner.clone()], pointer }).collect()
        });
        let mut rows: Vec<Row> = outer.collect();
        let is_sorted = self.columns.first().is_some_and(|column| column.unit.is_number());
        let sort_by = match self.sort_by {
            "" => self.columns.first().map_or("", |column| column.pointer),
            sort_by => sort_by,
        };
        let number = |row: &Row| view.number(&format!("{}{sort_by}", row.pointer));
        if self.only_positive {
            rows.retain(|row| number(row) > 0.0);
        }
        if is_sorted || !self.sort_by.is_empty() {
            rows.sort_by(|a, b| number(b).total_cmp(&number(a)));
        }
        rows
    }

    pub(super) fn render(&self, view: &View, id: &str) -> Markup {
        let mut rows = self.all_rows(view);
        let total = rows.len();
        if total == 0 {
            return html! {};
        }
        rows.truncate(self.max_rows);
        let default = format!("By {}", self.key_label.to_lowercase());
        let summary = match self.summary {
            "" if self.key_label.is_empty() => "The latest",
            "" => &default,
            summary => summary,
        };
        let key_labels = [self.key_label, self.inner_key_label];
        html! {
            details id={ (id) "-table" } open[self.is_open] name=[self.group] {
                summary { (summary) }
                div.scroll { table {
                    thead { tr {
                        @for label in key_labels.iter().filter(|label| !label.is_empty()) { th scope="col" { (label) } }
                        @for Field { label, unit, .. } in self.columns {
                            th.number[unit.is_number()] scope="col" { (label) }
                        }
                    } }
                    tbody { @for row in &rows { tr {
                        @for key in &row.keys { th scope="row" { (key_text(view, key)) } }
                        @for Field { pointer: column, unit, .. } in self.columns {
                            td.number[unit.is_number()] { (value(view, &format!("{}{column}", row.pointer), *unit)) }
                        }
                    } } }
                } }
                @if total > self.max_rows { p.note { "The first " (self.max_rows) " of " (total) "." } }
            }
        }
    }
}

/// The text of a key. The platform's drain is marked as such.
fn key_text(view: &View, name: &str) -> String {
    let is_platform = view.at("/platform").and_then(Value::as_str) == Some(name);
    match name {
        "" => crate::filter::NO_TOKEN.to_owned(),
        name if is_platform => format!("{name} (platform)"),
        name => name.to_owned(),
    }
}

impl Matrix {
    pub(super) fn render(&self, view: &View, id: &str) -> Markup {
        let rows: Vec<_> = members(view, self.pointer).collect();
        let mut totals = BTreeMap::<&str, f64>::new();
        for (_, pointer) in &rows {
            let cells = view.at(&format!("{pointer}{}", self.cells)).and_then(Value::as_object);
            for (key, cell) in cells.into_iter().flatten() {
                *totals.entry(key).or_default() += cell.as_f64().unwrap_or_default();
            }
        }
        if rows.is_empty() || totals.is_empty() {
            return html! {};
        }
        let mut keys: Vec<&str> = totals.into_keys().collect();
        let rank = |key: &str| {
            self.first_columns.iter().position(|first| *first == key).unwrap_or(self.first_columns.len())
        };
        keys.sort_by_key(|key| rank(key));
        let total = rows.len();
        html! {
            details id={ (id) "-table" } open[self.is_open] {
                summary { (self.summary) }
                div.scroll { table {
                    thead { tr {
                        th scope="col" { (self.key_label) }
                        @for Field { label, unit, .. } in self.columns {
                            th.number[unit.is_number()] scope="col" { (label) }
                        }
                        @for key in keys.iter().take(MAX_COLUMNS) {
                            th.number[self.unit.is_number()] scope="col" { (key) }
                        }
                    } }
                    tbody { @for (name, pointer) in rows.iter().take(MAX_ROWS) { tr {
                        th scope="row" { (key_text(view, name)) }
                        @for Field { pointer: column, unit, .. } in self.columns {
                            td.number[unit.is_number()] { (value(view, &format!("{pointer}{column}"), *unit)) }
                        }
                        @for key in keys.iter().take(MAX_COLUMNS) {
                            td.number[self.unit.is_number()] {
                                (value(view, &format!("{pointer}{}/{}", self.cells, escape(key)), self.unit))
                            }
                        }
                    } } }
                } }
                @if total > MAX_ROWS { p.note { "The first " (MAX_ROWS) " of " (total) "." } }
            }
        }
    }
}
