//! Panels are declarative: which values of `/model.json` they show, and how.
//!
//! Each value has its JSON pointer (RFC 6901) in the attribute `data-model`, so that tests can compare the two.

use super::chart;
use super::format::Unit;
use super::series::{self, ChartLines, Line};
use super::table::{Matrix, Table};
use super::view::View;
use maud::{Markup, html};
use serde_json::Value;

/// A panel of a tab.
pub(crate) struct Panel {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Takes the full width of the page.
    pub(crate) is_wide: bool,
    /// Pointers to its data. The panel is empty while all of them are 0, absent or without members.
    pub(crate) data: &'static [&'static str],
    /// Shown in an empty panel: what will appear, and when.
    pub(crate) empty_text: &'static str,
    /// Shown below the parts.
    pub(crate) note: &'static str,
    /// Counts requests, which belong to no app or dyno: the filter does not apply.
    pub(crate) is_unfiltered: bool,
    pub(crate) parts: &'static [Part],
}

/// A part of a panel; omitted if it has no values.
pub(crate) enum Part {
    /// Values side by side.
    Tiles(&'static [Field]),
    /// A line chart of one series. `lines`: label, and pointer inside a bucket.
    Series { pointer: &'static str, unit: Unit, lines: &'static [(&'static str, &'static str)] },
    /// A line chart of a series whose buckets hold maps: one line for each of the keys with the largest totals.
    Keys { pointer: &'static str, inside: &'static str, unit: Unit },
    /// A line chart of a map: the series of each of the members with the largest values at `rank_by`.
    Members {
        pointer: &'static str,
        series: &'static str,
        rank_by: &'static str,
        unit: Unit,
        limit: Option<f64>,
    },
    /// A histogram. `marks`: label and upper bound of the steps to highlight.
    Histogram { pointer: &'static str, unit: Unit, marks: &'static [(&'static str, f64)] },
    /// A table of a map or a list.
    Table(Table),
    /// A table whose columns are keys as well.
    Matrix(Matrix),
    /// A value and its explanation, shown only if the value is present and not 0.
    Warning { pointer: &'static str, unit: Unit, text: &'static str },
}

/// A value with its label: a tile, or a column of a table.
pub(crate) struct Field {
    pub(crate) label: &'static str,
    /// For a column: relative to the row.
    pub(crate) pointer: &'static str,
    pub(crate) unit: Unit,
}

/// Shorthand for a [`Field`].
pub(crate) const fn field(label: &'static str, pointer: &'static str, unit: Unit) -> Field {
    Field { label, pointer, unit }
}

impl Panel {
    pub(crate) const DEFAULT: Self = Self {
        id: "",
        title: "",
        is_wide: false,
        data: &[],
        empty_text: "",
        note: "",
        is_unfiltered: false,
        parts: &[],
    };

    /// Renders the panel as HTML.
    pub(crate) fn render(&self, view: &View) -> Markup {
        let has_data = self.data.iter().any(|pointer| view.has(pointer));
        html! {
            section.panel.wide[self.is_wide] id=(self.id) aria-labelledby={ (self.id) "-title" } {
                h2 id={ (self.id) "-title" } { (self.title) }
                @if self.is_unfiltered && view.at("/filter").is_some() {
                    p.note.whole { "Not filtered: requests have no app and no dyno." }
                }
                @if has_data {
                    @for (index, part) in self.parts.iter().enumerate() {
                        (part.render(view, &format!("{}-{index}", self.id)))
                    }
                    @if !self.note.is_empty() { p.note { (self.note) } }
                } @else {
                    p.empty { (self.empty_text) }
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
                    @for Field { label, pointer, unit } in *tiles {
                        div { dt { (label) } dd { (value(view, pointer, *unit)) } }
                    }
                }
            },
            Self::Series { pointer, unit, lines } => {
                let lines = lines
                    .iter()
                    .map(|(label, inside)| {
                        Line::read(view, label, (*pointer).to_owned(), (*inside).to_owned(), *unit)
                    })
                    .collect();
                series::plot(view, id, ChartLines { lines, note: String::new() }, *unit, None)
            }
            Self::Keys { pointer, inside, unit } => {
                series::plot(view, id, series::largest_keys(view, pointer, inside, *unit), *unit, None)
            }
            Self::Members { pointer, series, rank_by, unit, limit } => {
                let lines = series::largest_members(view, pointer, series, rank_by, *unit);
                series::plot(view, id, lines, *unit, *limit)
            }
            Self::Histogram { pointer, unit, marks } => histogram(view, id, pointer, *unit, marks),
            Self::Table(table) => table.render(view, id),
            Self::Matrix(matrix) => matrix.render(view, id),
            Self::Warning { pointer, unit, text } => html! {
                @if view.has(pointer) { p.note.warning { b { (value(view, pointer, *unit)) } " " (text) } }
            },
        }
    }
}

/// A histogram with its values as a table.
fn histogram(view: &View, id: &str, pointer: &str, unit: Unit, marks: &[(&str, f64)]) -> Markup {
    let steps = view.at(pointer).and_then(Value::as_array).into_iter().flatten();
    let steps: Vec<(f64, f64)> =
        steps.filter_map(|step| Some((step["up_to"].as_f64()?, step["count"].as_f64()?))).collect();
    if steps.is_empty() {
        return html! {};
    }
    let id = format!("{id}-values");
    html! {
        (chart::histogram(&steps, unit, marks))
        details id=(id) {
            summary { "Values" }
            @if view.is_unfolded(&id) {
                div.scroll { table {
                    thead { tr { th scope="col" { "Up to" } th.number scope="col" { "Count" } } }
                    tbody { @for (index, (bound, _)) in steps.iter().enumerate() { tr {
                        th scope="row" { (unit.bound(*bound)) }
                        td.number { (value(view, &format!("{pointer}/{index}/count"), Unit::Count)) }
                    } } }
                } }
            }
        }
    }
}

/// A value; its pointer is the attribute `data-model`.
pub(super) fn value(view: &View, pointer: &str, unit: Unit) -> Markup {
    html! { span data-model=(pointer) data-unit=(format!("{unit:?}")) { (unit.show(view.at(pointer))) } }
}

/// A value multiplied by `scale`; 0 where the model has none. For points of a series.
pub(super) fn scaled_value(view: &View, pointer: &str, unit: Unit, scale: f64) -> Markup {
    let number = view.at(pointer).and_then(Value::as_f64);
    let is_gap = view.json.pointer(pointer).is_some_and(Value::is_null);
    html! {
        span data-model=(pointer) data-unit=(format!("{unit:?}")) data-scale=(scale) data-otherwise="0" {
            @match number {
                _ if is_gap => "–",
                number => (unit.number(number.unwrap_or_default() * scale)),
            }
        }
    }
}
