//! Tables of the model's maps and lists.

use super::format::Unit;
use super::panel::{Column, value};
use super::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::BTreeMap;

/// Rows of a table.
const ROWS: usize = 25;
/// Columns of a matrix.
const COLUMNS: usize = 14;

/// A table of a map, the largest first, or of a list from young to old (no key).
pub(crate) struct Table {
    pub(crate) of: &'static str,
    /// What the names are.
    pub(crate) key: &'static str,
    /// What the names in the members are, where those are maps again.
    pub(crate) inner: &'static str,
    pub(crate) columns: &'static [Column],
    pub(crate) summary: &'static str,
    pub(crate) is_open: bool,
    /// Sorted by this pointer; else by the first column.
    pub(crate) by: &'static str,
    /// Only what is above 0 there.
    pub(crate) is_positive: bool,
    pub(crate) rows: usize,
    /// Of those with the same name only one is open.
    pub(crate) group: Option<&'static str>,
}

/// What most tables are.
pub(crate) const TABLE: Table = Table {
    of: "",
    key: "",
    inner: "",
    columns: &[],
    summary: "",
    is_open: false,
    by: "",
    is_positive: false,
    rows: ROWS,
    group: None,
};

/// A table of a map whose members have maps under `under`: their keys are columns.
pub(crate) struct Matrix {
    pub(crate) of: &'static str,
    pub(crate) key: &'static str,
    /// Columns before the others.
    pub(crate) columns: &'static [Column],
    pub(crate) under: &'static str,
    pub(crate) unit: Unit,
    /// Those first; the others follow by name.
    pub(crate) first: &'static [&'static str],
    pub(crate) summary: &'static str,
    pub(crate) is_open: bool,
}

/// A row: its names, and where it stands.
struct Row {
    names: Vec<String>,
    pointer: String,
}

fn members<'a>(view: &'a View, of: &str) -> impl Iterator<Item = (&'a String, String)> {
    let members = view.at(of).and_then(Value::as_object).into_iter().flatten();
    members.map(move |(name, _)| (name, format!("{of}/{}", escape(name))))
}

impl Table {
    fn all_rows(&self, view: &View) -> Vec<Row> {
        if let Some(Value::Array(items)) = view.at(self.of) {
            let row = |index| Row { names: Vec::new(), pointer: format!("{}/{index}", self.of) };
            return (0..items.len()).rev().map(row).collect();
        }
        let outer = members(view, self.of).flat_map(|(name, pointer)| {
            if self.inner.is_empty() {
                return vec![Row { names: vec![name.clone()], pointer }];
            }
            let inner = members(view, &pointer);
            inner.map(|(inner, pointer)| Row { names: vec![name.clone(), inner.clone()], pointer }).collect()
        });
        let mut rows: Vec<Row> = outer.collect();
        let is_sorted = self.columns.first().is_some_and(|(.., unit)| unit.is_number());
        let by = match self.by {
            "" => self.columns.first().map_or("", |column| column.1),
            by => by,
        };
        let number = |row: &Row| view.number(&format!("{}{by}", row.pointer));
        if self.is_positive {
            rows.retain(|row| number(row) > 0.0);
        }
        if is_sorted || !self.by.is_empty() {
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
        rows.truncate(self.rows);
        let by = format!("By {}", self.key.to_lowercase());
        let summary = match self.summary {
            "" if self.key.is_empty() => "The latest",
            "" => &by,
            summary => summary,
        };
        let keys = [self.key, self.inner];
        html! {
            details id={ (id) "-table" } open[self.is_open] name=[self.group] {
                summary { (summary) }
                div.scroll { table {
                    thead { tr {
                        @for key in keys.iter().filter(|key| !key.is_empty()) { th scope="col" { (key) } }
                        @for (label, _, unit) in self.columns {
                            th.number[unit.is_number()] scope="col" { (label) }
                        }
                    } }
                    tbody { @for row in &rows { tr {
                        @for name in &row.names { th scope="row" { (shown(view, name)) } }
                        @for (_, column, unit) in self.columns {
                            td.number[unit.is_number()] { (value(view, &format!("{}{column}", row.pointer), *unit)) }
                        }
                    } } }
                } }
                @if total > self.rows { p.note { "The first " (self.rows) " of " (total) "." } }
            }
        }
    }
}

/// A name as it is shown: the platform's drain says that it is.
fn shown(view: &View, name: &str) -> String {
    let is_platform = view.at("/platform").and_then(Value::as_str) == Some(name);
    match name {
        "" => crate::filter::NONE.to_owned(),
        name if is_platform => format!("{name} (platform)"),
        name => name.to_owned(),
    }
}

impl Matrix {
    pub(super) fn render(&self, view: &View, id: &str) -> Markup {
        let rows: Vec<_> = members(view, self.of).collect();
        let mut totals = BTreeMap::<&str, f64>::new();
        for (_, pointer) in &rows {
            let cells = view.at(&format!("{pointer}{}", self.under)).and_then(Value::as_object);
            for (key, cell) in cells.into_iter().flatten() {
                *totals.entry(key).or_default() += cell.as_f64().unwrap_or_default();
            }
        }
        if rows.is_empty() || totals.is_empty() {
            return html! {};
        }
        let mut keys: Vec<&str> = totals.into_keys().collect();
        let rank = |key: &str| self.first.iter().position(|first| *first == key).unwrap_or(self.first.len());
        keys.sort_by_key(|key| rank(key));
        let total = rows.len();
        html! {
            details id={ (id) "-table" } open[self.is_open] {
                summary { (self.summary) }
                div.scroll { table {
                    thead { tr {
                        th scope="col" { (self.key) }
                        @for (label, _, unit) in self.columns {
                            th.number[unit.is_number()] scope="col" { (label) }
                        }
                        @for key in keys.iter().take(COLUMNS) {
                            th.number[self.unit.is_number()] scope="col" { (key) }
                        }
                    } }
                    tbody { @for (name, pointer) in rows.iter().take(ROWS) { tr {
                        th scope="row" { (shown(view, name)) }
                        @for (_, column, unit) in self.columns {
                            td.number[unit.is_number()] { (value(view, &format!("{pointer}{column}"), *unit)) }
                        }
                        @for key in keys.iter().take(COLUMNS) {
                            td.number[self.unit.is_number()] {
                                (value(view, &format!("{pointer}{}/{}", self.under, escape(key)), self.unit))
                            }
                        }
                    } } }
                } }
                @if total > ROWS { p.note { "The first " (ROWS) " of " (total) "." } }
            }
        }
    }
}
