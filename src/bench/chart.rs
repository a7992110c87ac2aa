//! Draws the curves of reports as one SVG, without fonts, colours or sizes of the machine it is drawn on.

use std::ops::Range;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint, KeyPointWeight};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

use super::report::{Axis, Panel};

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;

/// One panel, in pixels.
const WIDTH: u32 = 640;
const HEIGHT: u32 = 360;
/// Panels side by side, where there are several.
const COLUMNS: usize = 2;
/// Told apart by people who see few colours, too (Okabe and Ito, 2008).
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(230, 159, 0),
    RGBColor(60, 60, 60),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
const FAINT: RGBColor = RGBColor(242, 242, 242);

/// An axis with these marks on it.
struct Ticked {
    range: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Ticked {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        self.range.map(value, limit)
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Lines without a number would say nothing.
        if matches!(hint.weight(), KeyPointWeight::Any) { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> Range<f64> {
        self.range.range()
    }
}

/// Draws the panels and answers the SVG.
pub fn draw(panels: &[&Panel]) -> anyhow::Result<String> {
    let columns = panels.len().clamp(1, COLUMNS);
    let rows = panels.len().div_ceil(columns).max(1);
    let mut svg = String::new();
    let root =
        SVGBackend::with_string(&mut svg, (WIDTH * columns as u32, HEIGHT * rows as u32)).into_drawing_area();
    root.fill(&WHITE)?;
    for (panel, area) in panels.iter().zip(root.split_evenly((rows, columns))) {
        draw_panel(panel, &area)?;
    }
    root.present()?;
    drop(root);
    Ok(svg)
}

fn draw_panel(panel: &Panel, area: &Area<'_>) -> anyhow::Result<()> {
    let font = |size: u32| ("sans-serif", size).into_font().color(&INK);
    let points = || panel.lines.iter().flat_map(|line| &line.points);
    let right = points().map(|(x, _)| *x).fold(0.0, f64::max).max(1e-3);
    // Room above the curves for their names.
    let room = 1.15 + 0.06 * panel.lines.len() as f64;
    let top = points().map(|(_, y)| *y).fold(0.0, f64::max).max(1e-3) * room;
    let (ticks, label, x_name): (_, fn(f64) -> String, _) = match panel.x {
        Axis::Seconds => (ticks(right), short, "seconds"),
        Axis::Percentile => (nines(right), percentile, "part of them that took at most so long"),
    };
    let mut chart = ChartBuilder::on(area)
        .caption(&panel.title, font(16))
        .margin(12)
        .margin_right(24)
        .x_label_area_size(42)
        .y_label_area_size(68)
        .build_cartesian_2d(Ticked { range: (0.0..right).into(), ticks }, 0.0..top)?;
    chart
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(FAINT)
        .max_light_lines(2)
        .axis_style(INK)
        .label_style(font(12))
        .axis_desc_style(font(13))
        .x_labels(12)
        .y_labels(6)
        .x_desc(x_name)
        .y_desc(&panel.y)
        .x_label_formatter(&|x| label(*x))
        .y_label_formatter(&|y| quantity(*y))
        .draw()?;
    for (n, line) in panel.lines.iter().enumerate() {
        let colour = COLOURS[n % COLOURS.len()];
        chart
            .draw_series(LineSeries::new(line.points.iter().copied(), colour.stroke_width(2)))?
            .label(&line.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(3)));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperRight)
        .background_style(WHITE.mix(0.85))
        .border_style(GRID)
        .label_font(font(12))
        .draw()?;
    Ok(())
}

/// Round numbers up to the last one, five to eleven of them.
fn ticks(last: f64) -> Vec<f64> {
    let tenth = 10_f64.powf((last / 5.0).log10().floor());
    let step =
        [5.0, 2.0, 1.0].map(|n| n * tenth).into_iter().find(|step| last / step >= 5.0).unwrap_or(tenth);
    (0..=(last / step) as u32).map(|n| f64::from(n) * step).collect()
}

/// The percentiles that people ask for, as places on their axis.
fn nines(last: f64) -> Vec<f64> {
    let parts = [0.0, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999];
    parts.iter().map(|part| -(1.0_f64 - part).log10()).filter(|place| *place <= last).collect()
}

/// 250, 40k, 1.5M.
fn quantity(value: f64) -> String {
    match value {
        v if v >= 1e6 => format!("{}M", short(v / 1e6)),
        v if v >= 1e4 => format!("{}k", short(v / 1e3)),
        v => short(v),
    }
}

/// At most two places, none of them an idle zero.
fn short(value: f64) -> String {
    let text = format!("{value:.2}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// What a place on the axis of percentiles stands for: 0%, 90%, 99%, 99.9%.
fn percentile(x: f64) -> String {
    let text = format!("{:.3}", 100.0 - 10_f64.powf(2.0 - x));
    format!("{}%", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::Line;

    fn panel(x: Axis) -> Panel {
        let line = |name: &str, points| Line { name: name.to_owned(), points };
        let lines = vec![line("worker", vec![(0.0, 1.0), (2.0, 30_000.0)]), line("bare <SQL>", vec![])];
        Panel { title: "drain".to_owned(), x, y: "jobs/s".to_owned(), lines }
    }

    #[test]
    fn a_drawing_has_the_titles_names_and_units_of_all_its_panels() {
        let svg = draw(&[&panel(Axis::Seconds), &panel(Axis::Percentile), &panel(Axis::Seconds)])
            .expect("a drawing");
        for words in
            ["<svg width=\"1280\" height=\"720\"", "jobs/s", "seconds", "90%", "30k", "bare &lt;SQL&gt;"]
        {
            assert!(svg.contains(words), "{words} in {svg}");
        }
        assert_eq!(svg.matches("drain").count(), 3);
        assert!(svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn nothing_to_draw_is_a_drawing_all_the_same() {
        assert!(draw(&[]).expect("a drawing").contains("<svg"));
    }

    #[test]
    fn labels_are_short() {
        assert_eq!([quantity(250.0), quantity(40_000.0), quantity(1.5e6)], ["250", "40k", "1.5M"]);
        assert_eq!(ticks(3.3), [0.0, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0]);
        assert_eq!(ticks(900.0), [0.0, 100.0, 200.0, 300.0, 400.0, 500.0, 600.0, 700.0, 800.0, 900.0]);
        assert_eq!([percentile(0.0), percentile(1.0), percentile(3.0)], ["0%", "90%", "99.9%"]);
    }
}
