//! The table: each figure with its budget.

use std::fmt::Write as _;

use crate::Result;
use crate::results::Results;

const OPEN: &str = "<!-- bench -->";
const CLOSE: &str = "<!-- /bench -->";

/// How a figure is printed.
#[derive(Clone, Copy)]
enum Unit {
    Seconds,
    PerSecond,
    Bytes,
    MiB,
    Percent,
    Millis,
    Micros,
    Count,
}

impl Unit {
    fn format(self, value: f64) -> String {
        match self {
            Self::Seconds => format!("{value:.3} s"),
            Self::PerSecond => format!("{:.2} M/s", value / 1e6),
            Self::Bytes => format!("{value:.1} B"),
            Self::MiB => format!("{:.2} MiB", value / 1_048_576.0),
            Self::Percent => format!("{:.2} %", value * 100.0),
            Self::Millis => format!("{value:.1} ms"),
            Self::Micros => format!("{value:.1} µs"),
            Self::Count => format!("{value:.1}"),
        }
    }
}

/// The limit of a figure.
#[derive(Clone, Copy)]
enum Budget {
    None,
    /// At most.
    Most(f64),
    /// At least.
    Least(f64),
    /// At most this multiple of the base.
    Times(f64),
    /// At most this much more than the base.
    More(f64),
}

struct Row {
    what: &'static str,
    key: &'static str,
    unit: Unit,
    /// The key of the figure with which it is compared.
    base: Option<&'static str>,
    budget: Budget,
}

const fn row(what: &'static str, key: &'static str, unit: Unit) -> Row {
    Row { what, key, unit, base: None, budget: Budget::None }
}

impl Row {
    const fn of(mut self, base: &'static str) -> Self {
        self.base = Some(base);
        self
    }

    const fn within(mut self, budget: Budget) -> Self {
        self.budget = budget;
        self
    }
}

const MIB: f64 = 1_048_576.0;

const ROWS: &[Row] = &[
    row("CPU per million lines: bare loop", "bare.cpu", Unit::Seconds),
    row("– `tee`", "tee.cpu", Unit::Seconds).of("bare.cpu"),
    row("– `ship`", "ship.cpu", Unit::Seconds).of("bare.cpu").within(Budget::Times(1.4)),
    row("– `run`, stdout to `/dev/null`", "run.cpu", Unit::Seconds).of("bare.cpu").within(Budget::Times(2.0)),
    row("– – its supervisor", "run.supervisor", Unit::Seconds).of("bare.cpu"),
    row("– – its shipper", "run.shipper", Unit::Seconds).of("bare.cpu"),
    row("– `run`, stdout to a pipe", "run.pipe.cpu", Unit::Seconds).of("bare.cpu").within(Budget::Times(2.3)),
    row("– – its supervisor", "run.pipe.supervisor", Unit::Seconds).of("bare.cpu"),
    row("– – its shipper", "run.pipe.shipper", Unit::Seconds).of("bare.cpu"),
    row("CPU per million lines: bare loop, gzip level 6", "bare.gzip.cpu", Unit::Seconds),
    row("– `ship`, gzip", "ship.gzip.cpu", Unit::Seconds).of("bare.gzip.cpu").within(Budget::Times(0.45)),
    row("– `run`, gzip", "run.gzip.cpu", Unit::Seconds).of("bare.gzip.cpu").within(Budget::Times(0.55)),
    row("Bytes sent per line: bare loop, gzip level 6", "bare.gzip.wire", Unit::Bytes),
    row("– `ship`, gzip", "ship.gzip.wire", Unit::Bytes).of("bare.gzip.wire").within(Budget::Times(1.35)),
    row("Lines per second: bare loop", "bare.rate", Unit::PerSecond),
    row("– `tee`", "tee.rate", Unit::PerSecond).of("bare.rate"),
    row("– `ship`", "ship.rate", Unit::PerSecond).of("bare.rate").within(Budget::Least(1.2e6)),
    row("– `run`, stdout to `/dev/null`", "run.rate", Unit::PerSecond).of("bare.rate"),
    row("– `run`, stdout to a pipe", "run.pipe.rate", Unit::PerSecond).of("bare.rate"),
    row("– `ship`, gzip", "ship.gzip.rate", Unit::PerSecond).of("bare.gzip.rate"),
    row("`run` at 1,000 lines/s: CPU of a core", "paced.1000.cpu", Unit::Percent).within(Budget::Most(0.005)),
    row("– – its supervisor", "paced.1000.supervisor", Unit::Percent),
    row("– – its shipper", "paced.1000.shipper", Unit::Percent),
    row("– write to drain, p50", "paced.1000.p50", Unit::Millis).within(Budget::Most(150.0)),
    row("– write to drain, p99", "paced.1000.p99", Unit::Millis).within(Budget::Most(300.0)),
    row("`run` at 10,000 lines/s: CPU of a core", "paced.10000.cpu", Unit::Percent)
        .within(Budget::Most(0.016)),
    row("– – its supervisor", "paced.10000.supervisor", Unit::Percent),
    row("– – its shipper", "paced.10000.shipper", Unit::Percent),
    row("– write to drain, p50", "paced.10000.p50", Unit::Millis).within(Budget::Most(150.0)),
    row("– write to drain, p99", "paced.10000.p99", Unit::Millis).within(Budget::Most(300.0)),
    row("`run` at 100,000 lines/s: CPU per million lines", "paced.100000.million", Unit::Seconds)
        .of("bare.cpu")
        .within(Budget::Times(1.8)),
    row("– write to drain, p99", "paced.100000.p99", Unit::Millis).within(Budget::Most(300.0)),
    row("– page cache of the spool", "paced.100000.cache", Unit::MiB).within(Budget::Most(8.0 * MIB)),
    row(
        "`run` at 1,000 lines/s, to stdout and stderr in turn: CPU of a core",
        "streams.1000.cpu",
        Unit::Percent,
    ),
    row("– lines of the two out of order at the drain, p99", "streams.1000.p99", Unit::Millis)
        .within(Budget::Most(5.0)),
    row("– – at most", "streams.1000.max", Unit::Millis),
    row("Memory (PSS of both): idle", "idle.pss", Unit::MiB).within(Budget::Most(4.0 * MIB)),
    row("– peak at 10,000 lines/s", "paced.10000.peak", Unit::MiB).within(Budget::Most(8.0 * MIB)),
    row("– peak at full speed, `run`", "run.peak", Unit::MiB).within(Budget::Most(16.0 * MIB)),
    row("– peak at full speed, `run`, gzip", "run.gzip.peak", Unit::MiB).within(Budget::Most(16.0 * MIB)),
    row("– peak at full speed, `ship`", "ship.peak", Unit::MiB).within(Budget::Most(16.0 * MIB)),
    row("– peak in an outage at full speed, spool full", "outage.peak", Unit::MiB)
        .within(Budget::Most(16.0 * MIB)),
    row("Page cache of the spool: full speed", "run.cache", Unit::MiB).within(Budget::Most(8.0 * MIB)),
    row("– in that outage", "outage.cache", Unit::MiB).within(Budget::Most(8.0 * MIB)),
    row("Threads of both: full speed", "run.threads", Unit::Count).within(Budget::Most(10.0)),
    row("Wake-ups per second of both: idle", "idle.wakeups", Unit::Count).within(Budget::Most(2.0)),
    row("A runtime sample, 50 processes: CPU", "sample.cpu", Unit::Millis).within(Budget::Most(1.0)),
    row("– with the third line", "sample.more.cpu", Unit::Millis),
    row(
        "– a read of one process's memory share, of each once per minute at most",
        "sample.share.cpu",
        Unit::Millis,
    ),
    row("– – of 100 MiB: the read alone", "sample.large.cpu", Unit::Millis),
    row("Start of the app, without a wrapper", "start.plain", Unit::Millis),
    row("– under `tini`", "start.tini", Unit::Millis).of("start.plain"),
    row("– under `run`", "start.run", Unit::Millis).of("start.plain").within(Budget::More(5.0)),
    row("From the exit of the app to that of `run`, healthy drain: p50", "end.p50", Unit::Millis),
    row("– p99", "end.p99", Unit::Millis).within(Budget::Most(1000.0)),
    row("The app's write, p50: into a bare pipe", "write.pipe.p50", Unit::Micros),
    row("– under `run`", "write.run.p50", Unit::Micros).of("write.pipe.p50"),
    row("– – shipper stopped, compared with that", "write.stopped.p50", Unit::Micros).of("write.run.p50"),
    row("– – shipper killed twice per second, compared with that", "write.killed.p50", Unit::Micros)
        .of("write.run.p50"),
    row("The app's write, p99: into a bare pipe", "write.pipe.p99", Unit::Micros),
    row("– under `run`", "write.run.p99", Unit::Micros).of("write.pipe.p99"),
    row("– – shipper stopped, compared with that", "write.stopped.p99", Unit::Micros)
        .of("write.run.p99")
        .within(Budget::More(10.0)),
    row("– – shipper killed twice per second, compared with that", "write.killed.p99", Unit::Micros)
        .of("write.run.p99")
        .within(Budget::More(10.0)),
    row("The app's write, p99.9: into a bare pipe", "write.pipe.p999", Unit::Micros),
    row("– under `run`", "write.run.p999", Unit::Micros).of("write.pipe.p999"),
    row("– – shipper stopped, compared with that", "write.stopped.p999", Unit::Micros).of("write.run.p999"),
    row("– – shipper killed twice per second, compared with that", "write.killed.p999", Unit::Micros)
        .of("write.run.p999"),
    row("A burst of 290 KB, p50: into a bare pipe", "burst.pipe.p50", Unit::Micros),
    row("– under `run`", "burst.run.p50", Unit::Micros).of("burst.pipe.p50").within(Budget::Times(1.05)),
    row("Binary", "binary", Unit::MiB).within(Budget::Most(3.5 * MIB)),
];

/// The table in Markdown.
pub(crate) fn markdown(results: &Results) -> String {
    let mut out =
        String::from("| what | median | min – max | against | budget | |\n|---|--:|--:|--:|--:|---|\n");
    for row in ROWS {
        line(&mut out, row, results).expect("writing to a String cannot fail");
    }
    let missing = results.missing();
    writeln!(out, "| Lines lost, all runs | {missing} | | | 0 | {} |", verdict(missing == 0))
        .expect("writing to a String cannot fail");
    out
}

fn line(out: &mut String, row: &Row, results: &Results) -> std::fmt::Result {
    let Some(median) = results.median(row.key) else {
        return writeln!(out, "| {} | – | | | {} | |", row.what, budget(row));
    };
    let runs = results.runs(row.key);
    let (least, most) =
        runs.iter().fold((f64::MAX, f64::MIN), |(least, most), run| (least.min(*run), most.max(*run)));
    let spread = match runs.len() {
        0 | 1 => String::new(),
        _ => format!("{} – {}", row.unit.format(least), row.unit.format(most)),
    };
    let more = matches!(row.budget, Budget::More(_));
    let paired = row.base.and_then(|base| {
        results.paired(row.key, base, |value, base| if more { value - base } else { value / base })
    });
    let against = match paired {
        Some(value) if more => format!("{}{}", if value < 0.0 { "" } else { "+" }, row.unit.format(value)),
        Some(value) => format!("× {value:.2}"),
        None => String::new(),
    };
    let ok = match row.budget {
        Budget::None => None,
        Budget::Most(most) => Some(median <= most),
        Budget::Least(least) => Some(median >= least),
        Budget::Times(most) | Budget::More(most) => paired.map(|value| value <= most),
    };
    let ok = ok.map_or("", verdict);
    writeln!(
        out,
        "| {} | {} | {spread} | {against} | {} | {ok} |",
        row.what,
        row.unit.format(median),
        budget(row)
    )
}

fn budget(row: &Row) -> String {
    match row.budget {
        Budget::None => String::new(),
        Budget::Most(most) => format!("≤ {}", row.unit.format(most)),
        Budget::Least(least) => format!("≥ {}", row.unit.format(least)),
        Budget::Times(most) => format!("≤ × {most}"),
        Budget::More(most) => format!("≤ +{}", row.unit.format(most)),
    }
}

fn verdict(ok: bool) -> &'static str {
    if ok { "yes" } else { "**no**" }
}

/// Replaces the text between the markers of `readme` with `table`.
pub(crate) fn replace(readme: &str, table: &str) -> Result<String> {
    let missing = || format!("README.md has no {OPEN} … {CLOSE}");
    let (before, rest) = readme.split_once(OPEN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(CLOSE).ok_or_else(missing)?;
    Ok(format!("{before}{OPEN}\n{table}{CLOSE}{after}"))
}
