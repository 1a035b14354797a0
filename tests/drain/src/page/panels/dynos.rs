//! Panels of the tab "Dynos": launches, exits, scaling.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{Panel, Part, field};
use crate::page::table::Table;

const STATES: &str = "Appears with the first state line, such as “State changed from starting to up”. The \
                      platform's drain sends them, and tailrace itself where TAILRACE_LIFECYCLE is on (the default \
                      where no platform sends them: Fir, a local machine).";

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "current",
        title: "Dynos",
        data: &["/model/samples/by_source"],
        empty_text: "Appears with the first sample line: tailrace sends two to four for each dyno about every 20 s.",
        note: "Counted by source=, with a sample within the last minute. Sumo Logic's app counts dyno=, \
               which is another name for the same dyno in samples and in the router's lines.",
        parts: &[
            Part::Tiles(&[
                field("Current dynos", "/current_dynos", Count),
                field("Sample lines", "/model/samples/lines", Count),
            ]),
            Part::Series { pointer: "/model/samples/over_time", unit: Count, lines: &[("", "")] },
            Part::Table(Table {
                pointer: "/model/samples/by_source",
                key_label: "Source",
                columns: &[field("Samples", "/samples", Count), field("Instance", "/dyno", Text)],
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "launches",
        title: "Launches and exits",
        data: &["/model/dynos/by_dyno"],
        empty_text: STATES,
        parts: &[
            Part::Tiles(&[
                field("Up", "/model/dynos/all/up", Count),
                field("Completed", "/model/dynos/all/completed", Count),
                field("Crashed", "/model/dynos/all/crashed", Count),
                field("Stopped", "/model/dynos/all/stopped", Count),
                field("Restarts", "/model/dynos/all/restarts", Count),
            ]),
            Part::Series {
                pointer: "/model/dynos/over_time",
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
        ..Panel::DEFAULT
    },
    Panel {
        id: "exits",
        title: "Exit codes",
        data: &["/model/dynos/exits"],
        empty_text: "Appears with the first “Process exited with status …”.",
        note: "143 is a clean exit after SIGTERM, 137 an exit by SIGKILL.",
        parts: &[Part::Table(Table {
            pointer: "/model/dynos/exits",
            key_label: "Status",
            columns: &[field("Exits", "", Count)],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "states",
        title: "State of each dyno",
        is_wide: true,
        data: &["/model/dynos/by_dyno"],
        empty_text: STATES,
        parts: &[Part::Table(Table {
            pointer: "/model/dynos/by_dyno",
            key_label: "Dyno",
            columns: &[
                field("State", "/state", Text),
                field("Since", "/since", Time),
                field("Up", "/launches/up", Count),
                field("Completed", "/launches/completed", Count),
                field("Crashed", "/launches/crashed", Count),
                field("Stopped", "/launches/stopped", Count),
                field("Restarts", "/launches/restarts", Count),
                field("Exit", "/exit", Text),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "scaling",
        title: "Scaling",
        data: &["/model/dynos/scaling/count"],
        empty_text: "Appears with the first “Scaled to …” of app[api].",
        parts: &[
            Part::Tiles(&[field("Operations", "/model/dynos/scaling/count", Count)]),
            Part::Keys { pointer: "/model/dynos/scaling/over_time", inside: "", unit: Count },
            Part::Table(Table {
                pointer: "/model/dynos/scaling/by_user",
                key_label: "User",
                columns: &[field("Operations", "/count", Count), field("Last", "/last", Text)],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
];
