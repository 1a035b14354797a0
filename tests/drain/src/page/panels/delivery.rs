//! Delivery health: what no hosted receiver shows.

use crate::model::parity::expression;
use crate::page::format::Unit::{Bytes, Count, Ms, Text};
use crate::page::panel::{Panel, Part, value};
use crate::page::view::View;
use maud::{Markup, html};
use serde_json::Value;

const FIRST: &str = "Appears with the first request that reaches the drain.";

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lag",
        title: "Lag",
        is_wide: false,
        when: "/report/frames",
        empty: FIRST,
        note: "From a frame's time to its arrival. A time in the future is clock skew and counts as no lag.",
        parts: &[
            Part::Tiles(&[
                ("p50", "/report/lag_ms/p50", Ms),
                ("p95", "/report/lag_ms/p95", Ms),
                ("Max", "/report/lag_ms/max", Ms),
                ("Out of order", "/report/out_of_order", Count),
                ("Skewed", "/model/delivery/skewed", Count),
            ]),
            Part::Series {
                of: "/model/delivery/lag",
                unit: Ms,
                lines: &[("p50", "/p50"), ("p95", "/p95"), ("max", "/max")],
            },
        ],
    },
    Panel {
        id: "answers",
        title: "Answers",
        is_wide: false,
        when: "/report/requests",
        empty: FIRST,
        note: "Closed: the connection ended without an answer.",
        parts: &[
            Part::Tiles(&[
                ("Requests", "/report/requests", Count),
                ("Taken", "/report/accepted", Count),
                ("Closed", "/model/delivery/closed", Count),
                ("Took p95", "/model/delivery/duration/p95", Ms),
            ]),
            Part::Keys { of: "/model/delivery/answers", under: "/by_status", unit: Count },
            Part::Table {
                of: "/report/by_status",
                key: "Status",
                columns: &[("Answers", "", Count)],
                open: false,
            },
        ],
    },
    Panel {
        id: "losses",
        title: "Losses",
        is_wide: false,
        when: "/report/frames",
        empty: FIRST,
        note: "Missing: gaps in messages that are numbers, or have one behind “seq=”. Announced: what loss notices \
               (L10) say. Healthy: both are the same.",
        parts: &[
            Part::Tiles(&[
                ("Announced", "/report/losses/lines", Count),
                ("Notices", "/report/losses/notices", Count),
                ("Numbered", "/numbered/lines", Count),
                ("Missing", "/numbered/missing", Count),
            ]),
            Part::Table {
                of: "/report/sequence",
                key: "Dyno",
                columns: &[
                    ("Came", "/count", Count),
                    ("Missing", "/missing", Count),
                    ("Repeated", "/backward", Count),
                    ("Last", "/last", Count),
                ],
                open: true,
            },
        ],
    },
    Panel {
        id: "retries",
        title: "Retries and duplicates",
        is_wide: false,
        when: "/report/requests",
        empty: FIRST,
        note: "By Logplex-Frame-Id. What met a 408 or a close may be stored twice by a receiver that does not look \
               at it.",
        parts: &[
            Part::Tiles(&[
                ("Sent again", "/model/delivery/retries/requests", Count),
                ("Recovered", "/model/delivery/retries/recovered", Count),
                ("Open", "/model/delivery/retries/open", Count),
                ("Duplicates", "/report/duplicates", Count),
                ("Changed bodies", "/report/changed_bodies", Count),
                ("Maybe twice", "/model/delivery/retries/maybe_twice", Count),
            ]),
            Part::Table {
                of: "/model/delivery/retries/by_attempts",
                key: "Attempts",
                columns: &[("Ids", "", Count)],
                open: false,
            },
            Part::Table {
                of: "/model/delivery/retries/recent",
                key: "",
                columns: &[
                    ("Frame id", "/id", Text),
                    ("Attempts", "/attempts", Count),
                    ("Met", "/codes", Text),
                    ("Took", "/took_ms", Ms),
                ],
                open: false,
            },
        ],
    },
    Panel {
        id: "batches",
        title: "Frames per request",
        is_wide: false,
        when: "/model/delivery/batches",
        empty: FIRST,
        note: "",
        parts: &[
            Part::Tiles(&[
                ("Bytes", "/report/bytes", Bytes),
                ("On the wire", "/report/wire_bytes", Bytes),
                ("With gzip", "/report/gzip_requests", Count),
            ]),
            Part::Steps { of: "/model/delivery/batches", unit: Count, marks: &[] },
        ],
    },
    Panel {
        id: "sizes",
        title: "Frame sizes",
        is_wide: false,
        when: "/model/delivery/frame_sizes",
        empty: FIRST,
        note: "Logplex cuts messages at 10,000 bytes; heroku/x and Alloy refuse frames over 10,240.",
        parts: &[
            Part::Tiles(&[
                ("Longest", "/model/delivery/longest", Bytes),
                ("Too long", "/model/delivery/too_long", Count),
            ]),
            Part::Steps { of: "/model/delivery/frame_sizes", unit: Bytes, marks: &[("limit", 10_240.0)] },
        ],
    },
    Panel {
        id: "tokens",
        title: "Drains side by side",
        is_wide: true,
        when: "/model/delivery/tokens",
        empty: FIRST,
        note: "One row for each Logplex-Drain-Token: the platform's drain and tailrace, when both send here.",
        parts: &[Part::Table {
            of: "/model/delivery/tokens",
            key: "Token",
            columns: &[
                ("Frames", "/frames", Count),
                ("Lag p50", "/lag/p50", Ms),
                ("p95", "/lag/p95", Ms),
                ("Max", "/lag/max", Ms),
                ("Cut", "/cut", Count),
                ("L10", "/notices", Count),
                ("Lost", "/lost", Count),
            ],
            open: true,
        }],
    },
    Panel {
        id: "agents",
        title: "What the agents say",
        is_wide: true,
        when: "/model/delivery/agents",
        empty: "Appears with the first line of tailrace itself: at=start when a dyno starts, at=stop when it ends.",
        note: "",
        parts: &[Part::Table {
            of: "/model/delivery/agents",
            key: "Dyno",
            columns: &[
                ("Starts", "/starts", Count),
                ("Stops", "/stops", Count),
                ("Last line", "/last", Text),
            ],
            open: true,
        }],
    },
    Panel {
        id: "conformance",
        title: "Form of the frames",
        is_wide: true,
        when: "/report/requests",
        empty: FIRST,
        note: "Every rule of Logplex's form: how often it was broken, and the last example.",
        parts: &[Part::Table {
            of: "/model/conformance",
            key: "Rule",
            columns: &[("Broken", "/broken", Count), ("Last example", "/last", Text)],
            open: true,
        }],
    },
    Panel {
        id: "receivers",
        title: "What receivers would say",
        is_wide: true,
        when: "/report/requests",
        empty: FIRST,
        note: "",
        parts: &[Part::Table {
            of: "/report/conformance",
            key: "Receiver",
            columns: &[("Refused", "/errors", Count), ("Last reason", "/last", Text)],
            open: true,
        }],
    },
];

/// The published parsers, those first that missed a line.
pub(super) fn parity(view: &View) -> Markup {
    const OF: &str = "/model/parity/parsers";
    let missed = |name: &String| view.number(&format!("{OF}/{name}/missed"));
    let mut names: Vec<_> =
        view.at(OF).and_then(Value::as_object).into_iter().flatten().map(|(n, _)| n).collect();
    names.sort_by(|a, b| missed(b).total_cmp(&missed(a)));
    html! {
        section.panel.wide id="parity" aria-labelledby="parity-title" {
            h2 id="parity-title" { "Published parsers" }
            p.note {
                "Each regular expression that Sumo Logic's app and others publish, against the lines that it is made "
                "for. " (value(view, "/model/parity/looked_at", Count)) " lines were looked at: of each kind, "
                "20 in a second; " (value(view, "/model/parity/skipped", Count)) " were not."
            }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Parser" } th.number scope="col" { "Matched" } th.number scope="col" { "Missed" }
                    th scope="col" { "Expression, or the last line that it missed" }
                } }
                tbody { @for name in names { tr.bad[missed(name) > 0.0] {
                    th scope="row" { (name) }
                    td.number { (value(view, &format!("{OF}/{name}/matched"), Count)) }
                    td.number { (value(view, &format!("{OF}/{name}/missed"), Count)) }
                    td.code {
                        @match view.at(&format!("{OF}/{name}/example")).and_then(Value::as_str) {
                            Some(example) => (example),
                            None => (expression(name)),
                        }
                    }
                } } }
            } }
        }
    }
}
