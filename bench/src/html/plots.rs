//! The plots, as SVG text. Sizes are in pixels of a page 1000 wide; the page scales them.

use plotters::coord::Shift;
use plotters::coord::combinators::{LogCoord, WithKeyPoints};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

const WIDE: (u32, u32) = (960, 360);
const HALF: (u32, u32) = (470, 220);
/// Percentiles beyond are not shown: 99.9999 %.
const BEYOND_MAX: f64 = 1e6;
/// A range with only powers of ten for marks.
const MANY_DECADES: f64 = 2_000.0;
/// What is shorter than this quantile is drawn at the lower edge.
const SHORTEST_QUANTILE: f64 = 0.1;
const INK: RGBColor = RGBColor(92, 104, 120);
const GRID: RGBColor = RGBColor(227, 231, 236);
const FONT: &str = "system-ui, sans-serif";

/// A logarithmic axis with marks of our choice.
type Times = WithKeyPoints<LogCoord<f64>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
/// Why a plot could not be drawn; into a string it always can.
type Drawn = Result<(), DrawingAreaErrorKind<std::io::Error>>;

/// One colour's points, for each run.
pub(crate) struct Line {
    pub(crate) colour: (u8, u8, u8),
    pub(crate) runs: Vec<Vec<(f64, f64)>>,
}

impl Line {
    /// Whether there is anything but zeroes.
    pub(crate) fn is_seen(&self) -> bool {
        self.values().any(|value| value > 0.0)
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.runs.iter().flatten().map(|(_, value)| *value)
    }

    fn colour(&self) -> RGBColor {
        let (red, green, blue) = self.colour;
        RGBColor(red, green, blue)
    }
}

/// Microseconds over percentiles: both axes are logarithmic, the lower one in what is beyond.
pub(crate) fn percentile_plot(lines: &[Line]) -> String {
    svg(WIDE, |area| draw_percentiles(area, lines))
}

/// Values over seconds, from zero up; times on a logarithmic axis.
pub(crate) fn timeline_plot(lines: &[&Line], unit: &str) -> String {
    svg(HALF, |area| draw_timeline(area, lines, unit))
}

/// Microseconds over messages per second.
pub(crate) fn rate_plot(lines: &[&Line]) -> String {
    svg(WIDE, |area| {
        let rate = |rate: &f64| format!("{}/s", short(*rate));
        draw_over(area, lines, &rate, times_range(lines), &|value| time(*value))
    })
}

fn svg(size: (u32, u32), draw: impl FnOnce(&Area<'_>) -> Drawn) -> String {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, size).into_drawing_area();
        draw(&area).expect("drawing into a string cannot fail");
        area.present().expect("a string has no end");
    }
    text
}

fn draw_percentiles(area: &Area<'_>, lines: &[Line]) -> Drawn {
    let times = || lines.iter().flat_map(Line::values).filter(|value| *value > 0.0);
    // The very shortest would only press the rest together.
    let points = || lines.iter().flat_map(|line| line.runs.iter().flatten());
    let shown = points().filter(|(quantile, _)| *quantile >= SHORTEST_QUANTILE);
    let low = shown.map(|point| point.1).fold(f64::MAX, f64::min).clamp(0.1, 1e9) * 0.8;
    let high = times().fold(low * 2.0, f64::max) * 1.2;
    let beyond = |quantile: f64| (1.0 / (1.0 - quantile)).min(BEYOND_MAX);
    let reached = points().filter(|(quantile, _)| *quantile < 1.0).map(|point| beyond(point.0));
    let end = reached.fold(100.0, f64::max) * 1.2;
    let mut chart = ChartBuilder::on(area)
        .margin(8)
        .margin_right(28)
        .x_label_area_size(28)
        .y_label_area_size(64)
        .build_cartesian_2d(
            (1.0..end).log_scale().with_key_points(percentile_marks(end)),
            (low..high).log_scale().with_key_points(marks(low, high)),
        )?;
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(6)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style((FONT, 12).into_font().color(&INK))
        .x_label_formatter(&|beyond| percentile(*beyond))
        .y_label_formatter(&|value| time(*value))
        .draw()?;
    for line in lines {
        for run in &line.runs {
            // The last point, the maximum, has nothing beyond it: it is drawn where the axis ends.
            let points = run.iter().map(|(quantile, value)| {
                let beyond = if *quantile < 1.0 { beyond(*quantile) } else { end };
                (beyond, value.max(low))
            });
            chart.draw_series(LineSeries::new(points, line.colour().stroke_width(2)))?;
        }
    }
    Ok(())
}

fn draw_timeline(area: &Area<'_>, lines: &[&Line], unit: &str) -> Drawn {
    let seconds = |at: &f64| format!("{} s", short(*at));
    if unit == "µs" {
        return draw_over(area, lines, &seconds, times_range(lines), &|value| time(*value));
    }
    let high = lines.iter().flat_map(|line| line.values()).fold(0.0, f64::max);
    let label = |value: &f64| match unit {
        "" => format!("{value:.2}"),
        unit => format!("{} {unit}", short(*value)),
    };
    draw_over(area, lines, &seconds, 0.0..(high * 1.12).max(1e-6), &label)
}

/// A logarithmic axis for all times of `lines`.
fn times_range(lines: &[&Line]) -> Times {
    let values = || lines.iter().flat_map(|line| line.values());
    let low = values().filter(|value| *value > 0.0).fold(f64::MAX, f64::min).clamp(0.1, 1e9);
    let (low, high) = (low * 0.7, values().fold(low, f64::max) * 1.5);
    (low..high).log_scale().with_key_points(marks(low, high))
}

fn draw_over<Y>(
    area: &Area<'_>,
    lines: &[&Line],
    label_below: &dyn Fn(&f64) -> String,
    range: Y,
    label: &dyn Fn(&f64) -> String,
) -> Drawn
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let points = || lines.iter().flat_map(|line| line.runs.iter().flatten());
    let (first, last) =
        points().fold((f64::MAX, 0.0f64), |(first, last), at| (first.min(at.0), last.max(at.0)));
    // Points are in the middle of their intervals.
    let end = last + first.min(last);
    let mut chart = ChartBuilder::on(area)
        .margin(6)
        .margin_right(14)
        .x_label_area_size(24)
        .y_label_area_size(62)
        .build_cartesian_2d(0.0..end.max(1e-3), range)?;
    chart
        .configure_mesh()
        .x_labels(8)
        .y_labels(5)
        .max_light_lines(0)
        .bold_line_style(GRID)
        .axis_style(GRID)
        .label_style((FONT, 11).into_font().color(&INK))
        .x_label_formatter(label_below)
        .y_label_formatter(label)
        .draw()?;
    for line in lines {
        let colour = line.colour();
        for run in &line.runs {
            chart.draw_series(LineSeries::new(run.iter().copied(), colour.stroke_width(2)))?;
            let dots = run.iter().map(|point| Circle::new(*point, 2, colour.filled()));
            chart.draw_series(dots)?;
        }
    }
    Ok(())
}

/// Marks of a logarithmic axis: powers of ten with their double and fivefold, or without where
/// that is too many.
fn marks(low: f64, high: f64) -> Vec<f64> {
    let steps: &[f64] = if high / low > MANY_DECADES { &[1.0] } else { &[1.0, 2.0, 5.0] };
    let all = (-1..=10).flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
    all.filter(|mark| (low..=high).contains(mark)).collect()
}

/// The median, and every nine.
fn percentile_marks(end: f64) -> Vec<f64> {
    let nines = (1..=6).map(|nines| 10f64.powi(nines));
    [1.0, 2.0].into_iter().chain(nines).filter(|mark| *mark <= end).collect()
}

/// `1/(1-p)` as a percentile: 1 is 0 %, 10 is 90 %, 1000 is 99.9 %.
fn percentile(beyond: f64) -> String {
    let nines = beyond.log10().round();
    let exact = 100.0 * (1.0 - 1.0 / beyond);
    match nines {
        0.0..=2.0 => format!("{exact:.0}%"),
        3.0 => format!("{exact:.1}%"),
        4.0 => format!("{exact:.2}%"),
        5.0 => format!("{exact:.3}%"),
        _ => format!("{exact:.4}%"),
    }
}

/// Microseconds in the unit that makes them short.
fn time(us: f64) -> String {
    match us {
        0.0 => "0".to_owned(),
        us if us < 1e3 => format!("{} µs", short(us)),
        us if us < 1e6 => format!("{} ms", short(us / 1e3)),
        us => format!("{} s", short(us / 1e6)),
    }
}

/// `1.5k`, `20M`: no more digits than a mark on an axis needs.
fn short(value: f64) -> String {
    let (value, letter) = match value {
        value if value >= 1e6 => (value / 1e6, "M"),
        value if value >= 1e3 => (value / 1e3, "k"),
        value => (value, ""),
    };
    let text = format!("{value:.2}");
    format!("{}{letter}", text.trim_end_matches('0').trim_end_matches('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_on_axes_are_short_and_right() {
        assert_eq!([1.0, 10.0, 1e3, 1e5].map(percentile), ["0%", "90%", "99.9%", "99.999%"]);
        assert_eq!([0.0, 7.5, 1500.0, 2e6].map(time), ["0", "7.5 µs", "1.5 ms", "2 s"]);
        assert_eq!([0.0, 100.0, 20_000.0, 1.25e6].map(short), ["0", "100", "20k", "1.25M"]);
        assert_eq!(percentile(2.0), "50%");
        assert_eq!(
            marks(70.0, 600.0).iter().map(|mark| short(*mark)).collect::<Vec<_>>(),
            ["100", "200", "500"]
        );
        assert_eq!(marks(0.9, 1e5).len(), 6);
        assert_eq!(percentile_marks(120.0), [1.0, 2.0, 10.0, 100.0]);
    }

    #[test]
    fn plots_are_svg_even_of_nothing() {
        let empty = Line { colour: (0, 0, 0), runs: vec![Vec::new()] };
        let line = Line { colour: (1, 2, 3), runs: vec![vec![(0.5, 100.0), (1.0, 300.0)]] };
        assert!(!empty.is_seen() && line.is_seen());
        for plot in [percentile_plot(&[]), percentile_plot(&[line]), timeline_plot(&[&empty], "/s")]
        {
            assert!(plot.starts_with("<svg") && plot.trim_end().ends_with("</svg>"), "{plot}");
        }
    }
}
