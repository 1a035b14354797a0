//! Memory and load, from the sample lines.

use crate::page::format::Unit::{Count, Megabytes, Percent, Plain};
use crate::page::panel::{PANEL, Panel, Part};
use crate::page::table::{TABLE, Table};

const SOURCES: &str = "/model/samples/by_source";
const EMPTY: &str = "Appears with the first sample line of a dyno: tailrace sends one about every 20 s.";

/// The panel of a metric.
macro_rules! metric {
    ($id:literal, $title:literal, $at:literal, $unit:expr, $limit:expr, $note:expr) => {
        Panel {
            id: $id,
            title: $title,
            when: &[SOURCES],
            empty: EMPTY,
            note: $note,
            parts: &[
                Part::Members {
                    of: SOURCES,
                    series: concat!($at, "/over_time"),
                    by: concat!($at, "/average"),
                    unit: $unit,
                    limit: $limit,
                },
                Part::Table(Table {
                    of: SOURCES,
                    key: "Dyno",
                    columns: &[
                        ("Now", concat!($at, "/now"), $unit),
                        ("Average", concat!($at, "/average"), $unit),
                        ("Max", concat!($at, "/max"), $unit),
                    ],
                    by: concat!($at, "/average"),
                    is_open: true,
                    ..TABLE
                }),
            ],
            ..PANEL
        }
    };
}

pub(super) const PANELS: &[Panel] = &[
    metric!(
        "quota",
        "Memory of the quota",
        "/quota_percent",
        Percent,
        Some(100.0),
        "Total memory: resident, cache and swap. Above 100 % the platform says R14, far above it R15."
    ),
    metric!("total", "Memory, total", "/metrics/memory_total", Megabytes, None, ""),
    metric!("rss", "Resident memory", "/metrics/memory_rss", Megabytes, None, ""),
    metric!("cache", "Cache", "/metrics/memory_cache", Megabytes, None, ""),
    metric!("swap", "Swap", "/metrics/memory_swap", Megabytes, None, ""),
    metric!("memory-quota", "Quota", "/metrics/memory_quota", Megabytes, None, ""),
    metric!(
        "load-1",
        "Load, 1 minute",
        "/metrics/load_avg_1m",
        Plain,
        None,
        "Runnable tasks. Sumo Logic's app shows the same times 100 as percent."
    ),
    metric!("load-5", "Load, 5 minutes", "/metrics/load_avg_5m", Plain, None, ""),
    metric!("load-15", "Load, 15 minutes", "/metrics/load_avg_15m", Plain, None, ""),
    metric!(
        "pgpgin",
        "Pages in",
        "/metrics/memory_pgpgin",
        Count,
        None,
        "As the sample line says them: totals since the dyno's start."
    ),
    metric!("pgpgout", "Pages out", "/metrics/memory_pgpgout", Count, None, ""),
    Panel {
        id: "more",
        title: "What tailrace measures beyond the platform",
        when: &["/model/samples/more"],
        empty: "Appears when a dyno runs with TAILRACE_SAMPLE_MORE=on: processes, threads, files, traffic.",
        parts: &[
            Part::Members {
                of: SOURCES,
                series: "/metrics/cpu/over_time",
                by: "/metrics/cpu/average",
                unit: Percent,
                limit: None,
            },
            Part::Table(Table {
                of: SOURCES,
                key: "Dyno",
                columns: &[
                    ("CPU", "/metrics/cpu/now", Percent),
                    ("Processes", "/metrics/processes/now", Count),
                    ("Threads", "/metrics/threads/now", Count),
                    ("Open files", "/metrics/open_files/now", Count),
                    ("Received", "/metrics/received/now", Count),
                    ("Sent", "/metrics/sent/now", Count),
                ],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
];
