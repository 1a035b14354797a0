//! Charts as inline SVG. The colours are names: page.css gives each its colour for light and dark.

use super::format::{Unit, clock};
use maud::{Markup, PreEscaped, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// In units of the SVG; it is scaled to the width of its panel.
const SIZE: (u32, u32) = (440, 170);
const LABEL: RGBColor = RGBColor(0, 0, 16);
const GRID: RGBColor = RGBColor(0, 0, 17);
const LIMIT: RGBColor = RGBColor(0, 0, 18);

/// A line of a chart: seconds since the Unix epoch, and values; `None` is a gap.
pub(crate) struct Line {
    pub(crate) label: String,
    pub(crate) points: Vec<(u64, Option<f64>)>,
}

/// Colour `index`, counted from 1 in the style sheet.
fn colour(index: usize) -> RGBColor {
    RGBColor(0, 0, (index % 6 + 1) as u8)
}

/// A line chart with its legend.
pub(crate) fn lines(lines: &[Line], unit: Unit, limit: Option<f64>, has_legend: bool) -> Markup {
    let labels: Vec<_> = lines.iter().map(|line| line.label.as_str()).collect();
    html! {
        figure {
            div role="img" aria-label={ "Over time: " (labels.join(", ")) } {
                // Only numbers and times of ours are in it, no text from a line.
                (PreEscaped(draw_lines(lines, unit, limit).unwrap_or_default()))
            }
            @if has_legend {
                figcaption {
                    @for (index, label) in labels.iter().enumerate() {
                        span.{ "key k" (index % 6 + 1) } { (label) }
                    }
                    @if let Some(limit) = limit { span.key.limit { "limit " (unit.number(limit)) } }
                }
            }
        }
    }
}

type Failed = Box<dyn std::error::Error>;

fn draw_lines(lines: &[Line], unit: Unit, limit: Option<f64>) -> Result<String, Failed> {
    let times = || lines.iter().flat_map(|line| line.points.iter().map(|point| point.0));
    let (first, last) = (times().min().unwrap_or_default(), times().max().unwrap_or_default());
    let values = lines.iter().flat_map(|line| line.points.iter().filter_map(|point| point.1));
    let top = values.chain(limit).fold(0.0, f64::max);
    let top = if top > 0.0 { top * 1.1 } else { 1.0 };
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .margin_right(34)
            .x_label_area_size(24)
            .y_label_area_size(50)
            .build_cartesian_2d(first as f64..last.max(first + 1) as f64, 0.0..top)?;
        let label = ("sans-serif", 15).into_font().color(&LABEL);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .x_labels(if last < first + 4 { 2 } else { 5 })
            .y_labels(4)
            .axis_style(TRANSPARENT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .x_label_formatter(&|second| clock(*second as u64))
            .y_label_formatter(&|value| unit.axis(*value))
            .label_style(label)
            .draw()?;
        for (index, line) in lines.iter().enumerate() {
            for run in line.points.split(|point| point.1.is_none()).filter(|run| !run.is_empty()) {
                let points: Vec<_> =
                    run.iter().map(|(time, value)| (*time as f64, value.unwrap_or(0.0))).collect();
                if lines.len() == 1 {
                    chart.draw_series(AreaSeries::new(
                        points.iter().copied(),
                        0.0,
                        colour(index).mix(0.12),
                    ))?;
                }
                if let [only] = points[..] {
                    chart.draw_series([Circle::new(only, 3, colour(index).filled())])?;
                }
                chart.draw_series(LineSeries::new(points, colour(index).stroke_width(2)))?;
            }
        }
        if let Some(limit) = limit {
            let ends = [(first as f64, limit), (last.max(first + 1) as f64, limit)];
            chart.draw_series(LineSeries::new(ends, LIMIT.stroke_width(1)))?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// A histogram: upper bounds and counts, from low to high; `marks` are bounds to point out.
pub(crate) fn steps(steps: &[(f64, f64)], unit: Unit, marks: &[(&str, f64)]) -> Markup {
    html! {
        figure {
            div role="img" aria-label="Histogram" { (PreEscaped(draw_steps(steps, unit, marks).unwrap_or_default())) }
            @if !marks.is_empty() {
                figcaption { @for (label, at) in marks { span.key.limit { (label) " " (unit.binary(*at)) } } }
            }
        }
    }
}

fn draw_steps(steps: &[(f64, f64)], unit: Unit, marks: &[(&str, f64)]) -> Result<String, Failed> {
    let top = steps.iter().map(|step| step.1).fold(1.0, f64::max) * 1.1;
    let low = steps.first().map_or(0.0, |step| step.0.log2());
    // As wide as ten steps at least: a single bar is a bar, not a wall.
    let high = steps.last().map_or(0.0, |step| step.0.log2()).max(low + 9.0);
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&root)
            .margin(6)
            .x_label_area_size(24)
            .y_label_area_size(50)
            .build_cartesian_2d(low - 0.6..high + 0.6, 0.0..top)?;
        let label = ("sans-serif", 15).into_font().color(&LABEL);
        chart
            .configure_mesh()
            .disable_x_mesh()
            .disable_x_axis()
            .y_labels(4)
            .axis_style(TRANSPARENT)
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .y_label_formatter(&|value| unit_count(*value))
            .label_style(label.clone())
            .draw()?;
        let bar = |(bound, count): &(f64, f64)| {
            let at = bound.log2();
            Rectangle::new([(at - 0.38, 0.0), (at + 0.38, *count)], colour(0).filled())
        };
        chart.draw_series(steps.iter().map(bar))?;
        let inside = marks.iter().map(|mark| mark.1.log2()).filter(|at| *at < high + 0.6);
        chart
            .draw_series(inside.map(|at| PathElement::new([(at, 0.0), (at, top)], LIMIT.stroke_width(1))))?;
        let every = if high > 9.0 || unit == Unit::Bytes { 2 } else { 1 };
        let label = label.pos(Pos::new(HPos::Center, VPos::Top));
        for power in (low as i32..=high as i32).step_by(every) {
            let at = chart.backend_coord(&(f64::from(power), 0.0));
            root.draw_text(&unit.binary(2f64.powi(power)), &label, (at.0, at.1 + 8))?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn unit_count(value: f64) -> String {
    Unit::Count.axis(value)
}
