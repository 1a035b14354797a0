//! Launches, ends and changes.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{Panel, Part};

const STATES: &str = "Appears with the first state line of the platform, such as “State changed from starting to \
                      up”. Only a drain of the platform sends them.";

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "current",
        title: "Dynos",
        is_wide: false,
        when: "/model/samples/by_source",
        empty: "Appears with the first sample line: tailrace sends two to four for each dyno about every 20 s.",
        note: "Counted by source=, of which a sample came within the minute before the last one.",
        parts: &[
            Part::Tiles(&[
                ("Current dynos", "/model/samples/current", Count),
                ("Sample lines", "/model/samples/lines", Count),
            ]),
            Part::Table {
                of: "/model/samples/by_source",
                key: "Source",
                columns: &[("Samples", "/samples", Count), ("Instance", "/dyno", Text)],
                open: true,
            },
        ],
    },
    Panel {
        id: "launches",
        title: "Launches and ends",
        is_wide: false,
        when: "/model/dynos/by_dyno",
        empty: STATES,
        note: "",
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
                ],
            },
        ],
    },
    Panel {
        id: "exits",
        title: "Exit codes",
        is_wide: false,
        when: "/model/dynos/exits",
        empty: "Appears with the first “Process exited with status …” of the platform.",
        note: "143 is a clean end by SIGTERM, 137 a kill.",
        parts: &[Part::Table {
            of: "/model/dynos/exits",
            key: "Status",
            columns: &[("Exits", "", Count)],
            open: true,
        }],
    },
    Panel {
        id: "states",
        title: "State of each dyno",
        is_wide: true,
        when: "/model/dynos/by_dyno",
        empty: STATES,
        note: "",
        parts: &[Part::Table {
            of: "/model/dynos/by_dyno",
            key: "Dyno",
            columns: &[
                ("State", "/state", Text),
                ("Since", "/since", Time),
                ("Up", "/launches/up", Count),
                ("Crashed", "/launches/crashed", Count),
                ("Restarts", "/launches/restarts", Count),
                ("Exit", "/exit", Text),
            ],
            open: true,
        }],
    },
    Panel {
        id: "changes",
        title: "Deploys, releases, scaling",
        is_wide: true,
        when: "/model/dynos/events",
        empty: "Appears with the first deploy, release or change of scale (app[api]).",
        note: "",
        parts: &[
            Part::Table {
                of: "/model/dynos/events",
                key: "",
                columns: &[("Time", "/time", Time), ("What", "/text", Text), ("User", "/user", Text)],
                open: true,
            },
            Part::Table {
                of: "/model/dynos/by_user",
                key: "User",
                columns: &[("Changes", "", Count)],
                open: false,
            },
        ],
    },
];
