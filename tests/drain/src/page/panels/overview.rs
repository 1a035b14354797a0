//! Panels of the tab "Overview": requests from the router's lines, error rates, load and memory.

use crate::measure::EXACTNESS;
use crate::page::format::Unit::{Bytes, Count, Megabytes, Ms, Percent, Plain, Rate};
use crate::page::panel::{Field, Panel, Part, field};
use crate::page::table::{Matrix, Table};

const ROUTER: &str = "Appears with the first line of the platform's router (heroku[router]). Only a drain of the \
                      platform sends them; tailrace does not see requests.";
const SAMPLES: &str = "Appears with the first sample line of a dyno: tailrace sends one about every 20 s.";
const HAS_REQUESTS: &[&str] = &["/model/overview/all/requests"];

const REQUESTS: &[Field] = &[
    field("Requests", "/requests", Count),
    field("Failed", "/failed", Count),
    field("Not 200", "/not_200", Count),
    field("Service avg", "/service/mean", Ms),
    field("p50", "/service/p50", Ms),
    field("p95", "/service/p95", Ms),
    field("Max", "/service/max", Ms),
    field("Connect avg", "/connect/mean", Ms),
    field("p95", "/connect/p95", Ms),
    field("Bytes avg", "/size/mean", Bytes),
    field("All", "/bytes", Bytes),
];

const FAILED: &[Field] = &[
    field("Not 200", "/not_200", Count),
    field("400 or more", "/failed", Count),
    field("Requests", "/requests", Count),
];

const SLOW: &[Field] = &[
    field("Connect avg", "/connect/mean", Ms),
    field("Service avg", "/service/mean", Ms),
    field("Requests", "/requests", Count),
];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lines",
        title: "Lines",
        data: &["/came"],
        empty_text: "Appears with the first request that reaches the drain.",
        note: "Lines of the app: delivered by tailrace, without duplicates. Frames: all that were received, by any \
               drain, including those of the agent and the platform.",
        parts: &[
            Part::Tiles(&[
                field("Lines of the app", "/report/lines", Count),
                field("Frames", "/came", Count),
                field("Lag p50", "/report/lag_ms/p50", Ms),
                field("Lag p95", "/report/lag_ms/p95", Ms),
                field("Announced lost", "/report/losses/lines", Count),
            ]),
            Part::Keys { pointer: "/model/frames", inside: "", unit: Rate },
            Part::Table(Table {
                pointer: "/report/streams",
                key_label: "Drain",
                inner_key_label: "Dyno",
                columns: &[field("Lines", "/lines", Count), field("Other frames", "/own_frames", Count)],
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "requests",
        title: "Requests",
        data: HAS_REQUESTS,
        empty_text: ROUTER,
        note: "Failed: a status of 400 or more. Sumo Logic's app counts everything that is not 200.",
        parts: &[
            Part::Tiles(&[
                field("Requests", "/model/overview/all/requests", Count),
                field("Different ids", "/model/overview/distinct", Count),
                field("Failed", "/model/overview/all/failed", Count),
                field("Not 200", "/model/overview/all/not_200", Count),
            ]),
            Part::Series {
                pointer: "/model/overview/over_time",
                unit: Rate,
                lines: &[("requests", "/requests"), ("failed", "/failed")],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "service",
        title: "Service time",
        data: &["/model/overview/all/service/count"],
        empty_text: ROUTER,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                field("Average", "/model/overview/all/service/mean", Ms),
                field("p50", "/model/overview/all/service/p50", Ms),
                field("p95", "/model/overview/all/service/p95", Ms),
                field("p99", "/model/overview/all/service/p99", Ms),
                field("Max", "/model/overview/all/service/max", Ms),
            ]),
            Part::Series {
                pointer: "/model/overview/over_time",
                unit: Ms,
                lines: &[
                    ("avg", "/service/mean"),
                    ("p50", "/service/p50"),
                    ("p95", "/service/p95"),
                    ("max", "/service/max"),
                ],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "connect",
        title: "Connect time",
        data: &["/model/overview/all/connect/count"],
        empty_text: ROUTER,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                field("Average", "/model/overview/all/connect/mean", Ms),
                field("p50", "/model/overview/all/connect/p50", Ms),
                field("p95", "/model/overview/all/connect/p95", Ms),
                field("p99", "/model/overview/all/connect/p99", Ms),
                field("Max", "/model/overview/all/connect/max", Ms),
            ]),
            Part::Series {
                pointer: "/model/overview/over_time",
                unit: Ms,
                lines: &[
                    ("avg", "/connect/mean"),
                    ("p50", "/connect/p50"),
                    ("p95", "/connect/p95"),
                    ("max", "/connect/max"),
                ],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "failed",
        title: "Failed requests",
        data: HAS_REQUESTS,
        empty_text: ROUTER,
        note: "The first 10 paths.",
        parts: &[
            Part::Tiles(&[
                field("Not 200", "/model/overview/all/not_200", Count),
                field("400 or more", "/model/overview/all/failed", Count),
            ]),
            Part::Table(Table {
                pointer: "/model/overview/by_path",
                key_label: "Path",
                columns: FAILED,
                summary: "By path",
                only_positive: true,
                max_rows: 10,
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "slowest",
        title: "Slowest paths",
        data: HAS_REQUESTS,
        empty_text: ROUTER,
        note: "The first 10. Sumo Logic's app sorts by the average of connect; most users expect \
               the average of service.",
        parts: &[
            Part::Table(Table {
                pointer: "/model/overview/by_path",
                key_label: "Path",
                columns: SLOW,
                summary: "By connect, as Sumo Logic does",
                sort_by: "/connect/mean",
                max_rows: 10,
                is_open: true,
                group: Some("slowest"),
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/overview/by_path",
                key_label: "Path",
                columns: SLOW,
                summary: "By service",
                sort_by: "/service/mean",
                max_rows: 10,
                group: Some("slowest"),
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "status",
        title: "Status codes",
        data: &["/model/overview/by_status"],
        empty_text: ROUTER,
        parts: &[
            Part::Keys { pointer: "/model/overview/status_over_time", inside: "", unit: Rate },
            Part::Table(Table {
                pointer: "/model/overview/by_status",
                key_label: "Status",
                columns: &[field("Requests", "", Count)],
                ..Table::DEFAULT
            }),
            Part::Matrix(Matrix {
                pointer: "/model/overview/by_dyno",
                key_label: "Dyno",
                columns: &[field("Requests", "/requests", Count)],
                cells: "/by_status",
                unit: Count,
                first_columns: &[],
                summary: "By dyno",
                is_open: true,
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "size",
        title: "Size of responses",
        data: &["/model/overview/all/size/count"],
        empty_text: ROUTER,
        parts: &[
            Part::Tiles(&[
                field("Average", "/model/overview/all/size/mean", Bytes),
                field("All", "/model/overview/all/bytes", Bytes),
            ]),
            Part::Series { pointer: "/model/overview/over_time", unit: Bytes, lines: &[("", "/bytes")] },
            Part::Table(Table {
                pointer: "/model/overview/by_dyno",
                key_label: "Dyno",
                columns: &[field("All", "/bytes", Bytes), field("Average", "/size/mean", Bytes)],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "rates",
        title: "Error rate",
        data: &["/model/lines/all/all"],
        empty_text: "Appears with the first line.",
        note: "Lines with the word “error”, in any case, or with a code that is logged without it, as a share of \
               all lines. A line that both drains deliver counts once.",
        parts: &[
            Part::Tiles(&[
                field("Overall", "/model/lines/all/percent", Percent),
                field("App", "/model/lines/by_app/app/percent", Percent),
                field("Heroku", "/model/lines/by_app/heroku/percent", Percent),
            ]),
            Part::Table(Table {
                pointer: "/model/lines/by_app",
                key_label: "Source",
                columns: RATES,
                sort_by: "/part",
                is_open: true,
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/lines/by_component",
                key_label: "Component",
                columns: RATES,
                sort_by: "/part",
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "load-and-memory",
        title: "Load and memory",
        data: &["/model/samples/by_source"],
        empty_text: SAMPLES,
        parts: &[Part::Table(Table {
            pointer: "/model/samples/by_source",
            key_label: "Dyno",
            columns: &[
                field("Load 15 min", "/metrics/load_avg_15m/now", Plain),
                field("Average", "/metrics/load_avg_15m/average", Plain),
                field("Memory", "/metrics/memory_total/now", Megabytes),
                field("Average", "/metrics/memory_total/average", Megabytes),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "paths",
        title: "Paths",
        is_wide: true,
        data: &["/model/overview/by_path"],
        empty_text: ROUTER,
        note: "Without the query.",
        parts: &[
            Part::Table(Table {
                pointer: "/model/overview/by_path",
                key_label: "Path",
                columns: REQUESTS,
                is_open: true,
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/overview/by_method",
                key_label: "Method",
                columns: REQUESTS,
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/overview/by_dyno",
                key_label: "Dyno",
                columns: REQUESTS,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
];

const RATES: &[Field] =
    &[field("Errors", "/part", Count), field("Lines", "/all", Count), field("Rate", "/percent", Percent)];
