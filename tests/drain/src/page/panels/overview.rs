//! Requests, as the router tells of them.

use crate::page::format::Unit::{Bytes, Count, Ms};
use crate::page::panel::{Column, Panel, Part};

const ROUTER: &str = "Appears with the first line of the platform's router (heroku[router]). Only a drain of the \
                      platform sends them; tailrace does not see requests.";

const REQUESTS: &[Column] = &[
    ("Requests", "/requests", Count),
    ("Failed", "/failed", Count),
    ("Service p50", "/service/p50", Ms),
    ("p95", "/service/p95", Ms),
    ("Max", "/service/max", Ms),
    ("Connect p95", "/connect/p95", Ms),
    ("Bytes", "/bytes", Bytes),
];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lines",
        title: "Lines",
        is_wide: false,
        when: "/report/frames",
        empty: "Appears with the first request that reaches the drain.",
        note: "Lines of the app, without repetitions; frames are those of the agent and the platform, too.",
        parts: &[
            Part::Tiles(&[
                ("Lines", "/report/lines", Count),
                ("Frames", "/report/frames", Count),
                ("Lag p50", "/report/lag_ms/p50", Ms),
                ("Lag p95", "/report/lag_ms/p95", Ms),
                ("Announced lost", "/report/losses/lines", Count),
            ]),
            Part::Series { of: "/model/frames", unit: Count, lines: &[("frames", "")] },
            Part::Table { of: "/model/procs", key: "Dyno", columns: &[("Frames", "", Count)], open: false },
            Part::Table { of: "/model/apps", key: "Source", columns: &[("Frames", "", Count)], open: false },
        ],
    },
    Panel {
        id: "requests",
        title: "Requests",
        is_wide: false,
        when: "/model/overview/all/requests",
        empty: ROUTER,
        note: "Failed: a status of 400 or more. Sumo Logic's app counts everything that is not 200.",
        parts: &[
            Part::Tiles(&[
                ("Requests", "/model/overview/all/requests", Count),
                ("Different ids", "/model/overview/distinct", Count),
                ("Failed", "/model/overview/all/failed", Count),
                ("Not 200", "/model/overview/not_200", Count),
                ("Bytes", "/model/overview/all/bytes", Bytes),
            ]),
            Part::Series {
                of: "/model/overview/over_time",
                unit: Count,
                lines: &[("requests", "/requests"), ("failed", "/failed")],
            },
            Part::Table {
                of: "/model/overview/by_status",
                key: "Status",
                columns: &[("Requests", "", Count)],
                open: false,
            },
        ],
    },
    Panel {
        id: "service",
        title: "Service and connect time",
        is_wide: false,
        when: "/model/overview/all/service/count",
        empty: ROUTER,
        note: "Percentiles are exact below 32 ms and at most 1/16 low above.",
        parts: &[
            Part::Tiles(&[
                ("Service p50", "/model/overview/all/service/p50", Ms),
                ("p95", "/model/overview/all/service/p95", Ms),
                ("Max", "/model/overview/all/service/max", Ms),
                ("Connect p50", "/model/overview/all/connect/p50", Ms),
                ("p95", "/model/overview/all/connect/p95", Ms),
                ("Max", "/model/overview/all/connect/max", Ms),
            ]),
            Part::Series {
                of: "/model/overview/over_time",
                unit: Ms,
                lines: &[("service p50", "/service/p50"), ("service p95", "/service/p95")],
            },
            Part::Table { of: "/model/overview/by_method", key: "Method", columns: REQUESTS, open: false },
        ],
    },
    Panel {
        id: "paths",
        title: "Paths",
        is_wide: true,
        when: "/model/overview/by_path",
        empty: ROUTER,
        note: "Without the query.",
        parts: &[Part::Table { of: "/model/overview/by_path", key: "Path", columns: REQUESTS, open: true }],
    },
    Panel {
        id: "routed",
        title: "Requests by dyno",
        is_wide: true,
        when: "/model/overview/by_dyno",
        empty: ROUTER,
        note: "",
        parts: &[
            Part::Table { of: "/model/overview/by_dyno", key: "Dyno", columns: REQUESTS, open: true },
            Part::Table {
                of: "/model/overview/by_client",
                key: "Client address",
                columns: &[("Requests", "", Count)],
                open: false,
            },
        ],
    },
];
