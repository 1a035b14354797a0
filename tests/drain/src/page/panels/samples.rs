//! Panels of the tab "Memory and CPU", from sample lines.

use crate::page::format::Unit::{Count, Megabytes, Percent, Plain};
use crate::page::panel::{Panel, Part, field};
use crate::page::table::Table;

const SOURCES: &str = "/model/samples/by_source";
const EMPTY: &str = "Appears with the first sample line of a dyno: tailrace sends one about every 20 s.";

/// The panel of one metric.
macro_rules! metric {
    ($id:literal, $title:literal, $at:literal, $unit:expr, $limit:expr, $note:expr) => {
        Panel {
            id: $id,
            title: $title,
            data: &[SOURCES],
            empty_text: EMPTY,
            note: $note,
            parts: &[
                Part::Members {
                    pointer: SOURCES,
                    series: concat!($at, "/over_time"),
                    rank_by: concat!($at, "/average"),
                    unit: $unit,
                    limit: $limit,
                },
                Part::Table(Table {
                    pointer: SOURCES,
                    key_label: "Dyno",
                    columns: &[
                        field("Now", concat!($at, "/now"), $unit),
                        field("Average", concat!($at, "/average"), $unit),
                        field("Max", concat!($at, "/max"), $unit),
                    ],
                    sort_by: concat!($at, "/average"),
                    is_open: true,
                    ..Table::DEFAULT
                }),
            ],
            ..Panel::DEFAULT
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
        "Total memory: resident, cache and swap. Above 100 % the platform reports R14, far above it R15."
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
        "As in the sample line: totals since the start of the dyno."
    ),
    metric!("pgpgout", "Pages out", "/metrics/memory_pgpgout", Count, None, ""),
    Panel {
        id: "more",
        title: "What tailrace measures beyond the platform",
        data: &["/model/samples/more"],
        empty_text: "Appears when a dyno runs with TAILRACE_SAMPLE_MORE=on: processes, threads, files, traffic.",
        parts: &[
            Part::Members {
                pointer: SOURCES,
                series: "/metrics/cpu/over_time",
                rank_by: "/metrics/cpu/average",
                unit: Percent,
                limit: None,
            },
            Part::Table(Table {
                pointer: SOURCES,
                key_label: "Dyno",
                columns: &[
                    field("CPU", "/metrics/cpu/now", Percent),
                    field("Processes", "/metrics/processes/now", Count),
                    field("Threads", "/metrics/threads/now", Count),
                    field("Open files", "/metrics/open_files/now", Count),
                    field("Received", "/metrics/received/now", Count),
                    field("Sent", "/metrics/sent/now", Count),
                ],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
];
