//! A panel is declared, not programmed: which values of `/model.json` it shows, and how.
//!
//! Each value carries its JSON pointer as `data-model`, so that a reader (and a test) finds where it is from.

use super::chart;
use super::format::Unit;
use super::series::{self, Line};
use super::table::{Matrix, Table};
use super::view::View;
use maud::{Markup, html};
use serde_json::Value;

/// A panel.
pub(crate) struct Panel {
    pub(crate) id: &'static str,
    pub(crate) title: &'static str,
    /// Whether it takes the whole width.
    pub(crate) is_wide: bool,
    /// It is empty while all of these are 0, or not there, or have no members.
    pub(crate) when: &'static [&'static str],
    /// What will appear, and when.
    pub(crate) empty: &'static str,
    pub(crate) note: &'static str,
    /// It tells of requests, which have no app and no dyno.
    pub(crate) is_of_requests: bool,
    pub(crate) parts: &'static [Part],
}

/// What most panels are.
pub(crate) const PANEL: Panel = Panel {
    id: "",
    title: "",
    is_wide: false,
    when: &[],
    empty: "",
    note: "",
    is_of_requests: false,
    parts: &[],
};

/// What a panel is made of. What has nothing to show is left out.
pub(crate) enum Part {
    /// Numbers side by side: label, pointer, unit.
    Tiles(&'static [(&'static str, &'static str, Unit)]),
    /// A chart of a series over time: label, pointer inside a bucket.
    Series { of: &'static str, unit: Unit, lines: &'static [(&'static str, &'static str)] },
    /// A chart of a series whose buckets are maps: the largest names.
    Keys { of: &'static str, under: &'static str, unit: Unit },
    /// A chart with a line for each member of a map that is among the highest at `by`.
    Members { of: &'static str, series: &'static str, by: &'static str, unit: Unit, limit: Option<f64> },
    /// A histogram.
    Steps { of: &'static str, unit: Unit, marks: &'static [(&'static str, f64)] },
    /// A table of a map or a list.
    Table(Table),
    /// A table whose columns are names, too.
    Matrix(Matrix),
    /// A number that is 0 when all is well, and what it means; else nothing.
    Warning(&'static str, Unit, &'static str),
}

/// A column: label, pointer inside the row, unit.
pub(crate) type Column = (&'static str, &'static str, Unit);

impl Panel {
    /// As HTML.
    pub(crate) fn render(&self, view: &View) -> Markup {
        let is_there = self.when.iter().any(|pointer| view.has(pointer));
        html! {
            section.panel.wide[self.is_wide] id=(self.id) aria-labelledby={ (self.id) "-title" } {
                h2 id={ (self.id) "-title" } { (self.title) }
                @if self.is_of_requests && view.at("/filter").is_some() {
                    p.note.whole { "Not filtered: requests have no app and no dyno." }
                }
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
                let lines = lines
                    .iter()
                    .map(|(label, inside)| {
                        Line::read(view, label, (*of).to_owned(), (*inside).to_owned(), *unit)
                    })
                    .collect();
                series::plot(view, id, lines, *unit, None)
            }
            Self::Keys { of, under, unit } => {
                series::plot_with(view, id, series::by_name(view, of, under, *unit), *unit, None)
            }
            Self::Members { of, series, by, unit, limit } => {
                let lines = series::by_member(view, of, series, by, *unit);
                series::plot_with(view, id, lines, *unit, *limit)
            }
            Self::Steps { of, unit, marks } => steps(view, id, of, *unit, marks),
            Self::Table(table) => table.render(view, id),
            Self::Matrix(matrix) => matrix.render(view, id),
            Self::Warning(pointer, unit, words) => html! {
                @if view.has(pointer) { p.note.warning { b { (value(view, pointer, *unit)) } " " (words) } }
            },
        }
    }
}

fn steps(view: &View, id: &str, of: &str, unit: Unit, marks: &[(&str, f64)]) -> Markup {
    let steps = view.at(of).and_then(Value::as_array).into_iter().flatten();
    let steps: Vec<(f64, f64)> =
        steps.filter_map(|step| Some((step["up_to"].as_f64()?, step["count"].as_f64()?))).collect();
    if steps.is_empty() {
        return html! {};
    }
    let id = format!("{id}-values");
    html! {
        (chart::steps(&steps, unit, marks))
        details id=(id) {
            summary { "Values" }
            @if view.is_unfolded(&id) {
                div.scroll { table {
                    thead { tr { th scope="col" { "Up to" } th.number scope="col" { "Count" } } }
                    tbody { @for (index, (bound, _)) in steps.iter().enumerate() { tr {
                        th scope="row" { (unit.bound(*bound)) }
                        td.number { (value(view, &format!("{of}/{index}/count"), Unit::Count)) }
                    } } }
                } }
            }
        }
    }
}

/// A value, with its pointer.
pub(super) fn value(view: &View, pointer: &str, unit: Unit) -> Markup {
    html! { span data-model=(pointer) data-unit=(format!("{unit:?}")) { (unit.show(view.at(pointer))) } }
}

/// A value that is shown as a multiple of what stands in the model: a rate.
pub(super) fn value_times(view: &View, pointer: &str, unit: Unit, scale: f64) -> Markup {
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
