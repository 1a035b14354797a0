//! Charts as inline SVG. Their colours are placeholders, which page.css maps to those of the theme.

use super::format::{Unit, duration, time_of_day};
use super::series::{Line, Plot};
use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// In units of the SVG, which is scaled to the width of its panel: about 360 px on a phone.
const SIZE: (u32, u32) = (360, 150);
/// The backend divides the font size by 1.24.
const FONT_SIZE: u32 = 16;
const LABEL: RGBColor = RGBColor(0, 0, 16);
const GRID: RGBColor = RGBColor(0, 0, 17);
const LIMIT: RGBColor = RGBColor(0, 0, 18);

/// The colour of line `index`; page.css counts from 1.
fn colour(index: usize) -> RGBColor {
    RGBColor(0, 0, (index % 6 + 1) as u8)
}

/// A line chart with its legend.
pub(crate) fn lines(plot: &Plot) -> Markup {
    let labels: Vec<_> = plot.lines.iter().map(|line| line.label.as_str()).collect();
    let rate = if plot.unit == Unit::Rate { "per minute; " } else { "" };
    html! {
        figure {
            div role="img" aria-label={ "Over time: " (labels.join(", ")) } {
                // Safe: the SVG contains only formatted numbers and times, no text from a frame.
                (PreEscaped(draw_lines(plot).unwrap_or_default()))
            }
            figcaption {
                @if plot.has_legend {
                    @for (index, label) in labels.iter().enumerate() {
                        span.{ "key k" (index % 6 + 1) } { (label) }
                    }
                }
                @if let Some(limit) = plot.limit { span.key.limit { "limit " (plot.unit.number(limit)) } }
                @if !plot.note.is_empty() { span { (plot.note) } }
                span.interval { (rate) "a point is " (duration(plot.width)) }
            }
        }
    }
}

type DrawError = Box<dyn std::error::Error>;

fn draw_lines(plot: &Plot) -> Result<String, DrawError> {
    let Plot { lines, unit, limit, .. } = plot;
    let points = || lines.iter().flat_map(|line| &line.points);
    let first = points().map(|point| point.time).min().unwrap_or_default();
    let last = points().map(|point| point.time).max().unwrap_or_default();
    let top = points().filter_map(|point| point.value).chain(*limit).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.1 } else { 1.0 };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let label = ("sans-serif", FONT_SIZE).into_font().color(&LABEL);
        let mut chart = ChartBuilder::on(&root)
            .margin(4)
            .margin_right(8)
            .x_label_area_size(24)
            .y_label_area_size(50)
            .build_cartesian_2d(first as f64..last.max(first + 1) as f64, 0.0..top)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(4)
            .axis_style(TRANSPARENT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .y_label_formatter(&|value| unit.axis(*value))
            .label_style(label.clone())
            .draw()?;
        // Labels at both ends and in the middle: the library's round numbers may be missing or badly placed.
        let last = last.max(first + 1);
        let middle = (last >= first + 4).then_some((first.midpoint(last), HPos::Center));
        for (time, place) in [(first, HPos::Left), (last, HPos::Right)].into_iter().chain(middle) {
            let at = chart.backend_coord(&(time as f64, 0.0));
            root.draw_text(&time_of_day(time), &label.pos(Pos::new(place, VPos::Top)), (at.0, at.1 + 8))?;
        }
        // In reverse order, so that the first line is on top.
        for (index, line) in lines.iter().enumerate().rev() {
            for points in runs(line) {
                if lines.len() == 1 {
                    let area = AreaSeries::new(points.iter().copied(), 0.0, colour(index).mix(0.12));
                    chart.draw_series(area)?;
                }
                if let [only] = points[..] {
                    chart.draw_series([Circle::new(only, 3, colour(index).filled())])?;
                }
                chart.draw_series(LineSeries::new(points, colour(index).stroke_width(2)))?;
            }
        }
        if let Some(limit) = *limit {
            let ends = [(first as f64, limit), (last as f64, limit)];
            chart.draw_series(LineSeries::new(ends, LIMIT.stroke_width(1)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// Splits a line at its gaps.
fn runs(line: &Line) -> impl Iterator<Item = Vec<(f64, f64)>> {
    let runs = line.points.split(|point| point.value.is_none()).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().map(|point| (point.time as f64, point.value.unwrap_or_default())).collect())
}

/// A histogram. `steps` are upper bounds and counts in ascending order; `marks` are labels and bounds, each drawn as a
/// line behind its step.
pub(crate) fn histogram(steps: &[(f64, f64)], unit: Unit, marks: &[(&str, f64)]) -> Markup {
    html! {
        figure {
            div role="img" aria-label="Histogram" { (PreEscaped(draw_histogram(steps, unit, marks).unwrap_or_default())) }
            @if !marks.is_empty() {
                figcaption { @for (label, at) in marks { span.key.limit { (label) " " (unit.bound(*at)) } } }
            }
        }
    }
}

fn draw_histogram(steps: &[(f64, f64)], unit: Unit, marks: &[(&str, f64)]) -> Result<String, DrawError> {
    let top = steps.iter().map(|step| step.1).fold(1.0, f64::max) * 1.1;
    // Room for at least ten steps, so that a single bar does not fill the chart.
    let count = steps.len().max(10) as f64;
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(4)
            .x_label_area_size(24)
            .y_label_area_size(50)
            .build_cartesian_2d(-0.6..count - 0.4, 0.0..top)?;
        let label = ("sans-serif", FONT_SIZE).into_font().color(&LABEL);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(4)
            .axis_style(TRANSPARENT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .y_label_formatter(&|value| Unit::Count.axis(*value))
            .label_style(label.clone())
            .draw()?;
        let bar = |(at, (_, count)): (usize, &(f64, f64))| {
            Rectangle::new([(at as f64 - 0.38, 0.0), (at as f64 + 0.38, *count)], colour(0).filled())
        };
        chart.draw_series(steps.iter().enumerate().map(bar))?;
        let places = marks.iter().filter_map(|mark| {
            let step = steps.iter().position(|step| step.0 >= mark.1)?;
            Some(step as f64 + if steps[step].0 > mark.1 { -0.5 } else { 0.5 })
        });
        chart
            .draw_series(places.map(|at| PathElement::new([(at, 0.0), (at, top)], LIMIT.stroke_width(1))))?;
        let every = if unit == Unit::Bytes || steps.len() > 10 { 2 } else { 1 };
        let label = label.pos(Pos::new(HPos::Center, VPos::Top));
        for (at, (bound, _)) in steps.iter().enumerate().step_by(every) {
            let place = chart.backend_coord(&(at as f64, 0.0));
            root.draw_text(&unit.bound(*bound), &label, (place.0, place.1 + 8))?;
        }
        root.present()?;
    }
    Ok(svg)
}
