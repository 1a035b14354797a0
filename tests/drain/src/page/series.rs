//! Series of the model as lines of a chart, each point with its place in the JSON.

use super::chart;
use super::format::{Unit, clock};
use super::panel::value_times;
use super::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Lines of a chart: more cannot be told apart.
pub(crate) const LINES: usize = 6;

/// A point of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Point {
    /// In s since the Unix epoch.
    pub(crate) time: u64,
    /// As it is drawn; `None` is a gap.
    pub(crate) value: Option<f64>,
    /// Its bucket.
    index: usize,
}

/// A line of a chart.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) label: String,
    /// The series, and where the value stands in each of its buckets.
    of: String,
    inside: String,
    /// What its values are multiplied with to be drawn.
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
    /// What else is to be known.
    pub(crate) more: String,
    /// Seconds of a point.
    pub(crate) width: u64,
}

impl Line {
    /// Reads the series at `of`.
    pub(crate) fn read(view: &View, label: &str, of: String, inside: String, unit: Unit) -> Self {
        let series = view.at(&of);
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
        // Of a bucket that is still being filled the rate is not known.
        let now = view.number("/now") as u64;
        if unit == Unit::Rate && points.len() > 1 {
            points.pop_if(|last| last.time + width > now);
        }
        Self { label: label.to_owned(), of, inside, scale, points }
    }

    /// Without its gaps: what is measured now and then has none.
    pub(crate) fn joined(mut self) -> Self {
        self.points.retain(|point| point.value.is_some());
        self
    }

    /// Where the value of a point stands.
    fn pointer(&self, point: Point) -> String {
        format!("{}/buckets/{}{}", self.of, point.index, self.inside)
    }
}

/// A line for each of the largest names in the buckets of a series.
pub(crate) fn by_name(view: &View, of: &str, under: &str, unit: Unit) -> (Vec<Line>, String) {
    let mut totals = BTreeMap::<&str, f64>::new();
    let buckets = view.at(&format!("{of}/buckets")).and_then(Value::as_array).into_iter().flatten();
    for bucket in buckets {
        for (key, count) in bucket.pointer(under).and_then(Value::as_object).into_iter().flatten() {
            *totals.entry(key).or_default() += count.as_f64().unwrap_or_default();
        }
    }
    let mut keys: Vec<_> = totals.into_iter().collect();
    keys.sort_by(|a, b| b.1.total_cmp(&a.1));
    let more = more(keys.len(), "largest");
    let lines = keys
        .into_iter()
        .take(LINES)
        .map(|(key, _)| Line::read(view, key, of.to_owned(), format!("{under}/{}", escape(key)), unit));
    (lines.collect(), more)
}

/// A line for each of the members of a map with the highest value at `by`.
pub(crate) fn by_member(view: &View, of: &str, series: &str, by: &str, unit: Unit) -> (Vec<Line>, String) {
    let members = view.at(of).and_then(Value::as_object).into_iter().flatten();
    let mut members: Vec<_> =
        members.filter_map(|(name, member)| Some((name, member.pointer(by)?.as_f64()?))).collect();
    members.sort_by(|a, b| b.1.total_cmp(&a.1));
    let more = more(members.len(), "highest on average");
    let lines = members.into_iter().take(LINES).map(|(name, _)| {
        // Each dyno measures itself now and then: the time between two samples is no gap.
        Line::read(view, name, format!("{of}/{}{series}", escape(name)), "/mean".to_owned(), unit).joined()
    });
    (lines.collect(), more)
}

fn more(count: usize, which: &str) -> String {
    if count > LINES { format!("the {LINES} {which} of {count}") } else { String::new() }
}

/// A chart, its legend, and its values as a table. Nothing without a point.
pub(crate) fn plot(view: &View, id: &str, lines: Vec<Line>, unit: Unit, limit: Option<f64>) -> Markup {
    plot_with(view, id, (lines, String::new()), unit, limit)
}

/// The same, with something to add to the legend.
pub(crate) fn plot_with(
    view: &View,
    id: &str,
    (lines, more): (Vec<Line>, String),
    unit: Unit,
    limit: Option<f64>,
) -> Markup {
    if lines.iter().all(|line| line.points.is_empty()) {
        return html! {};
    }
    let width = lines.iter().map(|line| view.number(&format!("{}/width", line.of)) as u64).max();
    let has_legend = lines.len() > 1 || !lines[0].label.is_empty();
    let plot = Plot { lines, unit, limit, has_legend, more, width: width.unwrap_or(1).max(1) };
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
                        th scope="row" { (clock(*time)) }
                        @for line in &plot.lines { td.number {
                            @match line.points.iter().find(|point| point.time == *time) {
                                Some(point) => (value_times(view, &line.pointer(*point), plot.unit, line.scale)),
                                None => "–",
                            }
                        } }
                    } } }
                } }
            }
        }
    }
}
