//! Time series of the model as lines of a chart. Each point knows its JSON pointer.

use super::chart;
use super::format::{Unit, time_of_day};
use super::panel::scaled_value;
use super::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Maximum number of lines in a chart, one for each colour.
pub(crate) const MAX_LINES: usize = 6;

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// In s since the Unix epoch.
    pub(crate) time: u64,
    /// The scaled value; `None` is a gap.
    pub(crate) value: Option<f64>,
    /// Index of its bucket.
    index: usize,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    /// Pointer to the series.
    series: String,
    /// Pointer inside a bucket.
    inside: String,
    /// Factor from the values of the model to those of the points.
    scale: f64,
    pub(crate) points: Vec<Point>,
}

/// A chart.
#[derive(Clone, Debug)]
pub(crate) struct Plot {
    pub(crate) lines: Vec<Line>,
    pub(crate) unit: Unit,
    pub(crate) limit: Option<f64>,
    pub(crate) has_legend: bool,
    /// Text after the legend.
    pub(crate) note: String,
    /// Width of a bucket in s.
    pub(crate) width: u64,
}

/// Lines for a chart.
#[derive(Clone, Debug)]
pub(crate) struct ChartLines {
    pub(crate) lines: Vec<Line>,
    /// How they were selected; empty if they are all.
    pub(crate) note: String,
}

impl Line {
    /// Reads the series at `pointer`.
    pub(crate) fn read(view: &View, label: &str, pointer: String, inside: String, unit: Unit) -> Self {
        let series = view.at(&pointer);
        let number = |name| series.and_then(|series| series.get(name)?.as_u64()).unwrap_or_default();
        let (start, width) = (number("start"), number("width").max(1));
        let scale = if unit == Unit::Rate { 60.0 / width as f64 } else { 1.0 };
        let buckets = series.and_then(|series| series.get("buckets")?.as_array());
        let points = buckets.into_iter().flatten().enumerate().map(|(index, bucket)| {
            let value = match bucket.pointer(&inside) {
                Some(Value::Null) => None,
                Some(value) => value.as_f64(),
                None => Some(0.0),
            };
            Point { time: start + index as u64 * width, value: value.map(|value| value * scale), index }
        });
        let mut points: Vec<_> = points.collect();
        // The rate of the current bucket is not known before its end.
        let now = view.number("/now") as u64;
        if unit == Unit::Rate && points.len() > 1 {
            points.pop_if(|last| last.time + width > now);
        }
        Self { label: label.to_owned(), series: pointer, inside, scale, points }
    }

    /// Removes the gaps, for values that are sampled less often than the buckets.
    pub(crate) fn without_gaps(mut self) -> Self {
        self.points.retain(|point| point.value.is_some());
        self
    }

    /// The JSON pointer of a point.
    fn pointer(&self, point: Point) -> String {
        format!("{}/buckets/{}{}", self.series, point.index, self.inside)
    }
}

/// A line for each of the keys with the largest totals; `inside` points to the map in a bucket.
pub(crate) fn largest_keys(view: &View, pointer: &str, inside: &str, unit: Unit) -> ChartLines {
    let mut totals = BTreeMap::<&str, f64>::new();
    let buckets = view.at(&format!("{pointer}/buckets")).and_then(Value::as_array).into_iter().flatten();
    for bucket in buckets {
        for (key, count) in bucket.pointer(inside).and_then(Value::as_object).into_iter().flatten() {
            *totals.entry(key).or_default() += count.as_f64().unwrap_or_default();
        }
    }
    let mut keys: Vec<_> = totals.into_iter().collect();
    keys.sort_by(|a, b| b.1.total_cmp(&a.1));
    let note = selection_note(keys.len(), "largest");
    let lines = keys
        .into_iter()
        .take(MAX_LINES)
        .map(|(key, _)| Line::read(view, key, pointer.to_owned(), format!("{inside}/{}", escape(key)), unit));
    ChartLines { lines: lines.collect(), note }
}

/// A line for each of the members of a map with the largest values at `rank_by`.
pub(crate) fn largest_members(
    view: &View,
    pointer: &str,
    series: &str,
    rank_by: &str,
    unit: Unit,
) -> ChartLines {
    let members = view.at(pointer).and_then(Value::as_object).into_iter().flatten();
    let mut members: Vec<_> =
        members.filter_map(|(name, member)| Some((name, member.pointer(rank_by)?.as_f64()?))).collect();
    members.sort_by(|a, b| b.1.total_cmp(&a.1));
    let note = selection_note(members.len(), "highest on average");
    let lines = members.into_iter().take(MAX_LINES).map(|(name, _)| {
        // Samples are less frequent than buckets: an empty bucket between two samples is no gap.
        Line::read(view, name, format!("{pointer}/{}{series}", escape(name)), "/mean".to_owned(), unit)
            .without_gaps()
    });
    ChartLines { lines: lines.collect(), note }
}

fn selection_note(count: usize, which: &str) -> String {
    if count > MAX_LINES { format!("the {MAX_LINES} {which} of {count}") } else { String::new() }
}

/// A chart, its legend, and its values as a table; empty if there are no points.
pub(crate) fn plot(view: &View, id: &str, chart_lines: ChartLines, unit: Unit, limit: Option<f64>) -> Markup {
    let ChartLines { lines, note } = chart_lines;
    if lines.iter().all(|line| line.points.is_empty()) {
        return html! {};
    }
    let width = lines.iter().map(|line| view.number(&format!("{}/width", line.series)) as u64).max();
    let has_legend = lines.len() > 1 || !lines[0].label.is_empty();
    let plot = Plot { lines, unit, limit, has_legend, note, width: width.unwrap_or(1).max(1) };
    html! {
        (chart::lines(&plot))
        (values(view, &format!("{id}-values"), &plot))
    }
}

fn values(view: &View, id: &str, plot: &Plot) -> Markup {
    let times: BTreeSet<u64> =
        plot.lines.iter().flat_map(|line| line.points.iter().map(|point| point.time)).collect();
    html! {
        details id=(id) {
            summary { "Values" }
            @if view.is_unfolded(id) {
                div.scroll { table {
                    thead { tr {
                        th scope="col" { "UTC" }
                        @for line in &plot.lines { th.number scope="col" { (line.label) } }
                    } }
                    tbody { @for time in times.iter().rev() { tr {
                        th scope="row" { (time_of_day(*time)) }
                        @for line in &plot.lines { td.number {
                            @match line.points.iter().find(|point| point.time == *time) {
                                Some(point) => (scaled_value(view, &line.pointer(*point), plot.unit, line.scale)),
                                None => "–",
                            }
                        } }
                    } } }
                } }
            }
        }
    }
}
