//! Requests, as the router tells of them, and the state of everything at a glance.

use crate::measure::EXACTNESS;
use crate::page::format::Unit::{Bytes, Count, Megabytes, Ms, Percent, Plain, Rate};
use crate::page::panel::{Column, PANEL, Panel, Part};
use crate::page::table::{Matrix, TABLE, Table};

const ROUTER: &str = "Appears with the first line of the platform's router (heroku[router]). Only a drain of the \
                      platform sends them; tailrace does not see requests.";
const SAMPLES: &str = "Appears with the first sample line of a dyno: tailrace sends one about every 20 s.";
const REQUESTED: &[&str] = &["/model/overview/all/requests"];

const REQUESTS: &[Column] = &[
    ("Requests", "/requests", Count),
    ("Failed", "/failed", Count),
    ("Not 200", "/not_200", Count),
    ("Service avg", "/service/mean", Ms),
    ("p50", "/service/p50", Ms),
    ("p95", "/service/p95", Ms),
    ("Max", "/service/max", Ms),
    ("Connect avg", "/connect/mean", Ms),
    ("p95", "/connect/p95", Ms),
    ("Bytes avg", "/size/mean", Bytes),
    ("All", "/bytes", Bytes),
];

const FAILED: &[Column] =
    &[("Not 200", "/not_200", Count), ("400 or more", "/failed", Count), ("Requests", "/requests", Count)];

const SLOW: &[Column] = &[
    ("Connect avg", "/connect/mean", Ms),
    ("Service avg", "/service/mean", Ms),
    ("Requests", "/requests", Count),
];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lines",
        title: "Lines",
        when: &["/came"],
        empty: "Appears with the first request that reaches the drain.",
        note: "Lines of the app are those that tailrace brought, without repetitions; frames are all that came, by \
               whatever drain, those of the agent and the platform too.",
        parts: &[
            Part::Tiles(&[
                ("Lines of the app", "/report/lines", Count),
                ("Frames", "/came", Count),
                ("Lag p50", "/report/lag_ms/p50", Ms),
                ("Lag p95", "/report/lag_ms/p95", Ms),
                ("Announced lost", "/report/losses/lines", Count),
            ]),
            Part::Keys { of: "/model/frames", under: "", unit: Rate },
            Part::Table(Table {
                of: "/report/streams",
                key: "Drain",
                inner: "Dyno",
                columns: &[("Lines", "/lines", Count), ("Other frames", "/own_frames", Count)],
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "requests",
        title: "Requests",
        when: REQUESTED,
        empty: ROUTER,
        note: "Failed: a status of 400 or more. Sumo Logic's app counts everything that is not 200.",
        parts: &[
            Part::Tiles(&[
                ("Requests", "/model/overview/all/requests", Count),
                ("Different ids", "/model/overview/distinct", Count),
                ("Failed", "/model/overview/all/failed", Count),
                ("Not 200", "/model/overview/all/not_200", Count),
            ]),
            Part::Series {
                of: "/model/overview/over_time",
                unit: Rate,
                lines: &[("requests", "/requests"), ("failed", "/failed")],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "service",
        title: "Service time",
        when: &["/model/overview/all/service/count"],
        empty: ROUTER,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                ("Average", "/model/overview/all/service/mean", Ms),
                ("p50", "/model/overview/all/service/p50", Ms),
                ("p95", "/model/overview/all/service/p95", Ms),
                ("p99", "/model/overview/all/service/p99", Ms),
                ("Max", "/model/overview/all/service/max", Ms),
            ]),
            Part::Series {
                of: "/model/overview/over_time",
                unit: Ms,
                lines: &[
                    ("avg", "/service/mean"),
                    ("p50", "/service/p50"),
                    ("p95", "/service/p95"),
                    ("max", "/service/max"),
                ],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "connect",
        title: "Connect time",
        when: &["/model/overview/all/connect/count"],
        empty: ROUTER,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                ("Average", "/model/overview/all/connect/mean", Ms),
                ("p50", "/model/overview/all/connect/p50", Ms),
                ("p95", "/model/overview/all/connect/p95", Ms),
                ("p99", "/model/overview/all/connect/p99", Ms),
                ("Max", "/model/overview/all/connect/max", Ms),
            ]),
            Part::Series {
                of: "/model/overview/over_time",
                unit: Ms,
                lines: &[
                    ("avg", "/connect/mean"),
                    ("p50", "/connect/p50"),
                    ("p95", "/connect/p95"),
                    ("max", "/connect/max"),
                ],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "failed",
        title: "Failed requests",
        when: REQUESTED,
        empty: ROUTER,
        note: "The first 10 paths.",
        parts: &[
            Part::Tiles(&[
                ("Not 200", "/model/overview/all/not_200", Count),
                ("400 or more", "/model/overview/all/failed", Count),
            ]),
            Part::Table(Table {
                of: "/model/overview/by_path",
                key: "Path",
                columns: FAILED,
                summary: "By path",
                is_positive: true,
                rows: 10,
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "slowest",
        title: "Slowest paths",
        when: REQUESTED,
        empty: ROUTER,
        note: "The first 10. Sumo Logic's app goes by the average of connect; most look for the other.",
        parts: &[
            Part::Table(Table {
                of: "/model/overview/by_path",
                key: "Path",
                columns: SLOW,
                summary: "By connect, as Sumo Logic does",
                by: "/connect/mean",
                rows: 10,
                is_open: true,
                group: Some("slowest"),
                ..TABLE
            }),
            Part::Table(Table {
                of: "/model/overview/by_path",
                key: "Path",
                columns: SLOW,
                summary: "By service",
                by: "/service/mean",
                rows: 10,
                group: Some("slowest"),
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "status",
        title: "Status codes",
        when: &["/model/overview/by_status"],
        empty: ROUTER,
        parts: &[
            Part::Keys { of: "/model/overview/status_over_time", under: "", unit: Rate },
            Part::Table(Table {
                of: "/model/overview/by_status",
                key: "Status",
                columns: &[("Requests", "", Count)],
                ..TABLE
            }),
            Part::Matrix(Matrix {
                of: "/model/overview/by_dyno",
                key: "Dyno",
                columns: &[("Requests", "/requests", Count)],
                under: "/by_status",
                unit: Count,
                first: &[],
                summary: "By dyno",
                is_open: true,
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "size",
        title: "Size of the answers",
        when: &["/model/overview/all/size/count"],
        empty: ROUTER,
        parts: &[
            Part::Tiles(&[
                ("Average", "/model/overview/all/size/mean", Bytes),
                ("All", "/model/overview/all/bytes", Bytes),
            ]),
            Part::Series { of: "/model/overview/over_time", unit: Bytes, lines: &[("", "/bytes")] },
            Part::Table(Table {
                of: "/model/overview/by_dyno",
                key: "Dyno",
                columns: &[("All", "/bytes", Bytes), ("Average", "/size/mean", Bytes)],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "rates",
        title: "Error rate",
        when: &["/model/lines/all/all"],
        empty: "Appears with the first line.",
        note: "Lines with the word “error”, in any case, or with a code that is logged without it, of all lines. A \
               line that both drains bring counts once.",
        parts: &[
            Part::Tiles(&[
                ("Overall", "/model/lines/all/percent", Percent),
                ("App", "/model/lines/by_app/app/percent", Percent),
                ("Heroku", "/model/lines/by_app/heroku/percent", Percent),
            ]),
            Part::Table(Table {
                of: "/model/lines/by_app",
                key: "Source",
                columns: RATES,
                by: "/part",
                is_open: true,
                ..TABLE
            }),
            Part::Table(Table {
                of: "/model/lines/by_component",
                key: "Component",
                columns: RATES,
                by: "/part",
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "load-and-memory",
        title: "Load and memory",
        when: &["/model/samples/by_source"],
        empty: SAMPLES,
        parts: &[Part::Table(Table {
            of: "/model/samples/by_source",
            key: "Dyno",
            columns: &[
                ("Load 15 min", "/metrics/load_avg_15m/now", Plain),
                ("Average", "/metrics/load_avg_15m/average", Plain),
                ("Memory", "/metrics/memory_total/now", Megabytes),
                ("Average", "/metrics/memory_total/average", Megabytes),
            ],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "paths",
        title: "Paths",
        is_wide: true,
        when: &["/model/overview/by_path"],
        empty: ROUTER,
        note: "Without the query.",
        parts: &[
            Part::Table(Table {
                of: "/model/overview/by_path",
                key: "Path",
                columns: REQUESTS,
                is_open: true,
                ..TABLE
            }),
            Part::Table(Table { of: "/model/overview/by_method", key: "Method", columns: REQUESTS, ..TABLE }),
            Part::Table(Table { of: "/model/overview/by_dyno", key: "Dyno", columns: REQUESTS, ..TABLE }),
        ],
        ..PANEL
    },
];

const RATES: &[Column] =
    &[("Errors", "/part", Count), ("Lines", "/all", Count), ("Rate", "/percent", Percent)];
