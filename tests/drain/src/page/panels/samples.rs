//! Memory and load, from the sample lines.

use crate::page::format::Unit::{Count, Megabytes, Percent, Plain};
use crate::page::panel::{Panel, Part};

const SOURCES: &str = "/model/samples/by_source";
const EMPTY: &str = "Appears with the first sample line of a dyno: tailrace sends one about every 20 s.";

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "memory",
        title: "Memory against the quota",
        is_wide: false,
        when: SOURCES,
        empty: EMPTY,
        note: "Total is resident memory, cache and swap. Above the quota the platform says R14, far above it R15.",
        parts: &[
            Part::Members {
                of: SOURCES,
                series: "/metrics/memory_total/over_time",
                unit: Megabytes,
                limit: Some("/metrics/memory_quota/now"),
            },
            Part::Table {
                of: SOURCES,
                key: "Dyno",
                columns: &[
                    ("Of quota", "/quota_percent", Percent),
                    ("Total", "/metrics/memory_total/now", Megabytes),
                    ("Max", "/metrics/memory_total/max", Megabytes),
                    ("Swap", "/metrics/memory_swap/now", Megabytes),
                    ("Quota", "/metrics/memory_quota/now", Megabytes),
                ],
                open: true,
            },
        ],
    },
    Panel {
        id: "load",
        title: "Load",
        is_wide: false,
        when: SOURCES,
        empty: EMPTY,
        note: "Runnable tasks, averaged over one, five and fifteen minutes.",
        parts: &[
            Part::Members { of: SOURCES, series: "/metrics/load_avg_1m/over_time", unit: Plain, limit: None },
            Part::Table {
                of: SOURCES,
                key: "Dyno",
                columns: &[
                    ("1 min", "/metrics/load_avg_1m/now", Plain),
                    ("Max", "/metrics/load_avg_1m/max", Plain),
                    ("5 min", "/metrics/load_avg_5m/now", Plain),
                    ("15 min", "/metrics/load_avg_15m/now", Plain),
                ],
                open: true,
            },
        ],
    },
    Panel {
        id: "rss",
        title: "Resident memory",
        is_wide: false,
        when: SOURCES,
        empty: EMPTY,
        note: "",
        parts: &[
            Part::Members {
                of: SOURCES,
                series: "/metrics/memory_rss/over_time",
                unit: Megabytes,
                limit: None,
            },
            Part::Table {
                of: SOURCES,
                key: "Dyno",
                columns: &[
                    ("Now", "/metrics/memory_rss/now", Megabytes),
                    ("Max", "/metrics/memory_rss/max", Megabytes),
                    ("Cache", "/metrics/memory_cache/now", Megabytes),
                ],
                open: true,
            },
        ],
    },
    Panel {
        id: "paging",
        title: "Pages in and out",
        is_wide: false,
        when: SOURCES,
        empty: EMPTY,
        note: "As the sample line says them: totals since the dyno's start.",
        parts: &[
            Part::Members {
                of: SOURCES,
                series: "/metrics/memory_pgpgin/over_time",
                unit: Count,
                limit: None,
            },
            Part::Table {
                of: SOURCES,
                key: "Dyno",
                columns: &[
                    ("In", "/metrics/memory_pgpgin/now", Count),
                    ("Out", "/metrics/memory_pgpgout/now", Count),
                ],
                open: true,
            },
        ],
    },
    Panel {
        id: "more",
        title: "What tailrace measures beyond the platform",
        is_wide: false,
        when: "/model/samples/more",
        empty: "Appears when a dyno runs with TAILRACE_SAMPLE_MORE=on: processes, threads, files, traffic.",
        note: "",
        parts: &[
            Part::Members { of: SOURCES, series: "/metrics/cpu/over_time", unit: Percent, limit: None },
            Part::Table {
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
                open: true,
            },
        ],
    },
];
