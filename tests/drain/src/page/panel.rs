//! A panel is declared, not programmed: which values of `/model.json` it shows, and how.
//!
//! Each value carries its JSON pointer as `data-model`, so that a reader (and a test) finds where it is from.

use super::chart::{self, Line};
use super::format::{Unit, clock};
use super::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Rows of a table.
const ROWS: usize = 25;
/// Lines of a chart.
const LINES: usize = 6;

/// A panel.
pub(crate) struct Panel {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Whether it takes the whole width.
    pub(crate) is_wide: bool,
    /// It is empty while this is 0, or not there, or has no members.
    pub(crate) when: &'static str,
    /// What will appear, and when.
    pub(crate) empty: &'static str,
    pub(crate) note: &'static str,
    pub(crate) parts: &'static [Part],
}

/// What a panel is made of.
pub(crate) enum Part {
    /// Numbers side by side: label, pointer, unit.
    Tiles(&'static [(&'static str, &'static str, Unit)]),
    /// A chart of a series over time.
    Series { of: &'static str, unit: Unit, lines: &'static [(&'static str, &'static str)] },
    /// A chart of a series whose buckets are maps: the largest names.
    Keys { of: &'static str, under: &'static str, unit: Unit },
    /// A chart with a line for each member of a map, and a limit.
    Members { of: &'static str, series: &'static str, unit: Unit, limit: Option<&'static str> },
    /// A histogram of powers of two.
    Steps { of: &'static str, unit: Unit, marks: &'static [(&'static str, f64)] },
    /// A table of a map, sorted by its first column, or of a list from young to old (no key).
    Table { of: &'static str, key: &'static str, columns: &'static [Column], open: bool },
}

/// A column: label, pointer inside the row, unit.
pub(crate) type Column = (&'static str, &'static str, Unit);

impl Panel {
    /// As HTML.
    pub(crate) fn render(&self, view: &View) -> Markup {
        let is_there = view.at(self.when).is_some_and(|value| match value {
            Value::Number(number) => number.as_f64() != Some(0.0),
            Value::Array(items) => !items.is_empty(),
            Value::Object(members) => !members.is_empty(),
            _ => true,
        });
        html! {
            section.panel.wide[self.is_wide] id=(self.id) aria-labelledby={ (self.id) "-title" } {
                h2 id={ (self.id) "-title" } { (self.title) }
                @if is_there {
                    @for (index, part) in self.parts.iter().enumerate() {
                        (part.render(view, &format!("{}-{index}", self.id)))
                    }
                    @if !self.note.is_empty() { p.note { (self.note) } }
                } @else {
                    p.empty { (self.empty) }
                }
            }
        }
    }
}

impl Part {
    fn render(&self, view: &View, id: &str) -> Markup {
        match self {
            Self::Tiles(tiles) => html! {
                dl.tiles {
                    @for (label, pointer, unit) in *tiles {
                        div { dt { (label) } dd { (value(view, pointer, *unit)) } }
                    }
                }
            },
            Self::Series { of, unit, lines } => {
                let drawn: Vec<_> = lines
                    .iter()
                    .map(|(label, pointer)| Line {
                        label: (*label).to_owned(),
                        points: points(view.at(of), pointer),
                    })
                    .collect();
                charted(id, &drawn, *unit, None, drawn.len() > 1)
            }
            Self::Keys { of, under, unit } => charted(id, &keys(view, of, under), *unit, None, true),
            Self::Members { of, series, unit, limit } => {
                let members = || view.at(of).and_then(Value::as_object).into_iter().flatten();
                let lines = members().take(LINES).map(|(label, member)| {
                    // Each dyno measures itself now and then: the time between two samples is no gap.
                    let mut points = points(member.pointer(series), "");
                    points.retain(|point| point.1.is_some());
                    Line { label: label.clone(), points }
                });
                let limit = limit.and_then(|pointer| {
                    members().filter_map(|(_, member)| member.pointer(pointer)?.as_f64()).reduce(f64::min)
                });
                charted(id, &lines.collect::<Vec<_>>(), *unit, limit, true)
            }
            Self::Steps { of, unit, marks } => {
                let mut steps: Vec<(f64, f64)> = view
                    .at(of)
                    .and_then(Value::as_object)
                    .into_iter()
                    .flatten()
                    .filter_map(|(bound, count)| Some((bound.parse().ok()?, count.as_f64()?)))
                    .collect();
                steps.sort_by(|a, b| a.0.total_cmp(&b.0));
                html! {
                    (chart::steps(&steps, *unit, marks))
                    details id={ (id) "-values" } {
                        summary { "Values" }
                        div.scroll { table {
                            thead { tr { th { "Up to" } th.number { "Count" } } }
                            tbody { @for (bound, count) in &steps {
                                tr { th scope="row" { (unit.binary(*bound)) } td.number { (Unit::Count.number(*count)) } }
                            } }
                        } }
                    }
                }
            }
            Self::Table { of, key, columns, open } => html! {
                details id={ (id) "-table" } open[*open] {
                    summary { @if key.is_empty() { "The latest" } @else { "By " (key.to_lowercase()) } }
                    (table(view, of, key, columns))
                }
            },
        }
    }
}

/// A value, with its pointer.
pub(super) fn value(view: &View, pointer: &str, unit: Unit) -> Markup {
    html! { span data-model=(pointer) data-unit=(format!("{unit:?}")) { (unit.show(view.at(pointer))) } }
}

pub(super) fn table(view: &View, of: &str, key: &str, columns: &[Column]) -> Markup {
    let mut rows: Vec<(String, String)> = match view.at(of) {
        Some(Value::Object(map)) => {
            map.keys().map(|name| (name.clone(), format!("{of}/{}", escape(name)))).collect()
        }
        Some(Value::Array(items)) => {
            (0..items.len()).rev().map(|index| (String::new(), format!("{of}/{index}"))).collect()
        }
        _ => Vec::new(),
    };
    let total = rows.len();
    if let Some((_, first, _)) = columns.first().filter(|(.., unit)| !key.is_empty() && unit.is_number()) {
        let number = |row: &(String, String)| view.number(&format!("{}{first}", row.1));
        rows.sort_by(|a, b| number(b).total_cmp(&number(a)));
    }
    rows.truncate(ROWS);
    html! {
        div.scroll { table {
            thead { tr {
                @if !key.is_empty() { th scope="col" { (key) } }
                @for (label, _, unit) in columns { th.number[unit.is_number()] scope="col" { (label) } }
            } }
            tbody { @for (name, pointer) in &rows { tr {
                @if !key.is_empty() { th scope="row" { (name) } }
                @for (_, column, unit) in columns {
                    td.number[unit.is_number()] { (value(view, &format!("{pointer}{column}"), *unit)) }
                }
            } } }
        } }
        @if total > ROWS { p.note { "The first " (ROWS) " of " (total) "." } }
    }
}

/// The points of a series in JSON; `{sum, count}` is shown as its mean, percentiles of nothing are a gap.
fn points(series: Option<&Value>, pointer: &str) -> Vec<(u64, Option<f64>)> {
    let number = |pointer: &str| series.and_then(|series| series.pointer(pointer)?.as_u64());
    let (Some(start), Some(width)) = (number("/start"), number("/width")) else { return Vec::new() };
    let buckets = series.and_then(|series| series.pointer("/buckets")?.as_array()).into_iter().flatten();
    let group = pointer.rsplit_once('/').map_or("", |(group, _)| group);
    let is_gap =
        |bucket: &Value| bucket.pointer(group).is_some_and(|of| of["p50"].is_number() && of["count"] == 0);
    let values = buckets.map(|bucket| match bucket.pointer(pointer) {
        _ if is_gap(bucket) => None,
        Some(Value::Object(mean)) => {
            let part = |name| mean.get(name).and_then(Value::as_f64);
            part("sum").zip(part("count")).filter(|(_, count)| *count > 0.0).map(|(sum, count)| sum / count)
        }
        Some(value) => value.as_f64(),
        None => Some(0.0),
    });
    values.enumerate().map(|(index, value)| (start + index as u64 * width, value)).collect()
}

fn keys(view: &View, of: &str, under: &str) -> Vec<Line> {
    let mut totals = BTreeMap::<&str, f64>::new();
    let buckets = view.at(&format!("{of}/buckets")).and_then(Value::as_array).into_iter().flatten();
    for bucket in buckets {
        for (key, count) in bucket.pointer(under).and_then(Value::as_object).into_iter().flatten() {
            *totals.entry(key).or_default() += count.as_f64().unwrap_or_default();
        }
    }
    let mut keys: Vec<_> = totals.into_iter().collect();
    keys.sort_by(|a, b| b.1.total_cmp(&a.1));
    let lines = keys.into_iter().take(LINES).map(|(key, _)| Line {
        label: key.to_owned(),
        points: points(view.at(of), &format!("{under}/{}", escape(key))),
    });
    lines.collect()
}

/// A chart, its legend, and its values as a table.
fn charted(id: &str, lines: &[Line], unit: Unit, limit: Option<f64>, has_legend: bool) -> Markup {
    let times: BTreeSet<u64> =
        lines.iter().flat_map(|line| line.points.iter().map(|point| point.0)).collect();
    html! {
        (chart::lines(lines, unit, limit, has_legend))
        details id={ (id) "-values" } {
            summary { "Values" }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "UTC" }
                    @for line in lines { th.number scope="col" { (line.label) } }
                } }
                tbody { @for time in times.iter().rev() { tr {
                    th scope="row" { (clock(*time)) }
                    @for line in lines {
                        @let value = line.points.iter().find(|point| point.0 == *time).and_then(|point| point.1);
                        td.number { (value.map_or_else(|| "–".to_owned(), |value| unit.number(value))) }
                    }
                } } }
            } }
        }
    }
}
