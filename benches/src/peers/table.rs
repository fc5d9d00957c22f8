//! The results: a table in Markdown for people, JSON for programs.

use std::fmt::Write as _;

use serde::Serialize;

use crate::row::{Bar, Better, Row, Sample};

/// All samples of one row and one peer, in the order of the rounds.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) row: &'static Row,
    pub(crate) peer: &'static str,
    pub(crate) samples: Vec<Sample>,
}

/// What is said of a series.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    row: &'static str,
    unit: &'static str,
    peer: &'static str,
    median: f64,
    min: f64,
    max: f64,
    /// The value as a multiple of the kernel's.
    of_kernel: Option<f64>,
    /// The value as a multiple of the relay's.
    of_relay: Option<f64>,
    /// What processor seconds are counted for.
    cost_unit: Option<&'static str>,
    /// Median of everybody's.
    cost_machine: Option<f64>,
    /// Median of the switch's.
    cost_switch: Option<f64>,
    /// Bars of the design and whether they are met.
    bars: Vec<(String, bool)>,
    samples: Vec<f64>,
}

/// The middle one, or the mean of the middle two.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let upper = *values.get(values.len() / 2)?;
    let lower = values[(values.len() - 1) / 2];
    Some(f64::midpoint(lower, upper))
}

fn of_values(series: &Series) -> impl Iterator<Item = f64> {
    series.samples.iter().map(|sample| sample.value)
}

/// The lines of all series that have samples.
pub(crate) fn lines(all: &[Series]) -> Vec<Line> {
    let reference = |row: &Row, peer: &str| {
        let found = all
            .iter()
            .find(|series| series.row.name == row.name && series.peer == peer);
        found.and_then(|series| median(of_values(series)))
    };
    let line = |series: &Series| {
        let middle = median(of_values(series))?;
        let of = |peer: &str| reference(series.row, peer).map(|base| middle / base);
        let costs = || series.samples.iter().filter_map(|sample| sample.cost);
        let bars = if series.peer == "heddle" {
            series.row.bars
        } else {
            &[]
        };
        Some(Line {
            row: series.row.name,
            unit: series.row.unit,
            peer: series.peer,
            median: middle,
            min: of_values(series).fold(f64::INFINITY, f64::min),
            max: of_values(series).fold(f64::NEG_INFINITY, f64::max),
            of_kernel: of("kernel"),
            of_relay: of("relay"),
            cost_unit: series.row.cost,
            cost_machine: median(costs().map(|(machine, _)| machine)),
            cost_switch: median(costs().filter_map(|(_, switch)| switch)),
            bars: bars
                .iter()
                .filter_map(|bar| judge(series.row.better, middle, *bar, of))
                .collect(),
            samples: of_values(series).collect(),
        })
    };
    all.iter().filter_map(line).collect()
}

/// A bar in words, and whether it is met; `None` if the peer it refers to was not measured.
fn judge(
    better: Better,
    value: f64,
    bar: Bar,
    of: impl Fn(&str) -> Option<f64>,
) -> Option<(String, bool)> {
    let (sign, is_met): (_, fn(f64, f64) -> bool) = match better {
        Better::Higher => ("≥", |value, bar| value >= bar),
        Better::Lower => ("≤", |value, bar| value <= bar),
    };
    Some(match bar {
        Bar::Of(peer, factor) => (
            format!("{sign} {factor} × {peer}"),
            is_met(of(peer)?, factor),
        ),
        Bar::Value(bar) => (format!("{sign} {bar}"), is_met(value, bar)),
    })
}

/// The lines as a table.
pub(crate) fn markdown(lines: &[Line], what: impl Fn(&str) -> &'static str) -> String {
    let mut text = String::from(
        "| work | peer | median | min .. max | × kernel | × relay | CPU s: all | the switch | bars |\n\
         |---|---|---:|---:|---:|---:|---:|---:|---|\n",
    );
    let mut before = "";
    for line in lines {
        let title = if line.row == before {
            String::new()
        } else {
            format!("{} (`{}`)", what(line.row), line.row)
        };
        before = line.row;
        let ratio = |of: Option<f64>| of.map_or_else(String::new, |of| format!("{of:.2}"));
        let cost = |cost: Option<f64>| match (cost, line.cost_unit) {
            (Some(cost), Some(unit)) => format!("{cost:.2}/{unit}"),
            _ => String::new(),
        };
        let bars: Vec<String> = line
            .bars
            .iter()
            .map(|(bar, met)| format!("{bar}: {}", if *met { "met" } else { "MISSED" }))
            .collect();
        let _ = writeln!(
            text,
            "| {title} | {} | {} {} | {} .. {} | {} | {} | {} | {} | {} |",
            line.peer,
            digits(line.median),
            line.unit,
            digits(line.min),
            digits(line.max),
            ratio(line.of_kernel),
            ratio(line.of_relay),
            cost(line.cost_machine),
            cost(line.cost_switch),
            bars.join(", "),
        );
    }
    text
}

/// Three digits or so.
fn digits(value: f64) -> String {
    match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::ROWS;

    fn series(row: &'static Row, peer: &'static str, values: &[f64]) -> Series {
        let samples = values.iter().map(|&value| Sample {
            value,
            cost: Some((value, None)),
        });
        Series {
            row,
            peer,
            samples: samples.collect(),
        }
    }

    fn row(name: &str) -> &'static Row {
        ROWS.iter().find(|row| row.name == name).unwrap()
    }

    #[test]
    fn ratios_are_of_medians_and_bars_are_judged_by_them() {
        let stream = row("stream4");
        let all = [
            series(stream, "kernel", &[20.0, 10.0, 90.0]),
            series(stream, "relay", &[10.0, 20.0]),
            series(stream, "heddle", &[18.0, 0.0, 19.0]),
            series(stream, "vde", &[]),
        ];
        let lines = lines(&all);
        assert_eq!(lines.len(), 3, "a peer without samples has no line");
        let heddle = &lines[2];
        assert_eq!((heddle.median, heddle.min, heddle.max), (18.0, 0.0, 19.0));
        assert_eq!((heddle.of_kernel, heddle.of_relay), (Some(0.9), Some(1.2)));
        assert!(heddle.bars.iter().all(|(_, met)| *met), "{:?}", heddle.bars);
        assert_eq!(lines[1].bars, []);
    }

    #[test]
    fn where_less_is_better_more_misses_the_bar() {
        let trip = row("trip");
        for (value, met) in [(11.0, true), (12.0, false)] {
            let all = [
                series(trip, "relay", &[10.0]),
                series(trip, "heddle", &[value]),
            ];
            assert_eq!(lines(&all)[1].bars, [("≤ 1.1 × relay".to_owned(), met)]);
        }
    }

    #[test]
    fn every_line_of_the_table_has_the_same_columns() {
        let all = [
            series(row("stream6"), "heddle", &[123.4]),
            series(row("memory"), "heddle", &[1.234]),
        ];
        let text = markdown(&lines(&all), |_| "work");
        let columns: Vec<usize> = text.lines().map(|line| line.matches('|').count()).collect();
        assert_eq!(columns, [10; 4], "{text}");
    }
}
