//! Launches, ends, and scaling.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{PANEL, Panel, Part};
use crate::page::table::{TABLE, Table};

const STATES: &str = "Appears with the first state line, such as “State changed from starting to up”. The \
                      platform's drain brings them, and tailrace itself where TAILRACE_LIFECYCLE is on (it is \
                      where no platform tells: Fir, a desk).";

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "current",
        title: "Dynos",
        when: &["/model/samples/by_source"],
        empty: "Appears with the first sample line: tailrace sends two to four for each dyno about every 20 s.",
        note: "Counted by source=, of which a sample came within the last minute. Sumo Logic's app counts dyno=, \
               which is another name for the same dyno in samples and in the router's lines.",
        parts: &[
            Part::Tiles(&[
                ("Current dynos", "/current_dynos", Count),
                ("Sample lines", "/model/samples/lines", Count),
            ]),
            Part::Series { of: "/model/samples/over_time", unit: Count, lines: &[("", "")] },
            Part::Table(Table {
                of: "/model/samples/by_source",
                key: "Source",
                columns: &[("Samples", "/samples", Count), ("Instance", "/dyno", Text)],
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "launches",
        title: "Launches and ends",
        when: &["/model/dynos/by_dyno"],
        empty: STATES,
        parts: &[
            Part::Tiles(&[
                ("Up", "/model/dynos/all/up", Count),
                ("Completed", "/model/dynos/all/completed", Count),
                ("Crashed", "/model/dynos/all/crashed", Count),
                ("Stopped", "/model/dynos/all/stopped", Count),
                ("Restarts", "/model/dynos/all/restarts", Count),
            ]),
            Part::Series {
                of: "/model/dynos/over_time",
                unit: Count,
                lines: &[
                    ("up", "/up"),
                    ("crashed", "/crashed"),
                    ("stopped", "/stopped"),
                    ("restarts", "/restarts"),
                    ("completed", "/completed"),
                ],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "exits",
        title: "Exit codes",
        when: &["/model/dynos/exits"],
        empty: "Appears with the first “Process exited with status …”.",
        note: "143 is a clean end by SIGTERM, 137 a kill.",
        parts: &[Part::Table(Table {
            of: "/model/dynos/exits",
            key: "Status",
            columns: &[("Exits", "", Count)],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "states",
        title: "State of each dyno",
        is_wide: true,
        when: &["/model/dynos/by_dyno"],
        empty: STATES,
        parts: &[Part::Table(Table {
            of: "/model/dynos/by_dyno",
            key: "Dyno",
            columns: &[
                ("State", "/state", Text),
                ("Since", "/since", Time),
                ("Up", "/launches/up", Count),
                ("Completed", "/launches/completed", Count),
                ("Crashed", "/launches/crashed", Count),
                ("Stopped", "/launches/stopped", Count),
                ("Restarts", "/launches/restarts", Count),
                ("Exit", "/exit", Text),
            ],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "scaling",
        title: "Scaling",
        when: &["/model/dynos/scaling/count"],
        empty: "Appears with the first “Scaled to …” of app[api].",
        parts: &[
            Part::Tiles(&[("Operations", "/model/dynos/scaling/count", Count)]),
            Part::Keys { of: "/model/dynos/scaling/over_time", under: "", unit: Count },
            Part::Table(Table {
                of: "/model/dynos/scaling/by_user",
                key: "User",
                columns: &[("Operations", "/count", Count), ("The last", "/last", Text)],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
];
