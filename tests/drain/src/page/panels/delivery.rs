//! Delivery health: what no hosted receiver shows.

use crate::measure::EXACTNESS;
use crate::page::format::Unit::{Bytes, Count, Ms, Percent, Plain, Rate, Text, Time};
use crate::page::panel::{Column, PANEL, Panel, Part, value};
use crate::page::table::{Matrix, TABLE, Table};
use crate::page::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;

const FIRST: &str = "Appears with the first request that reaches the drain.";
const FRAMES: &[&str] = &["/came"];
const REQUESTS: &[&str] = &["/report/requests"];

const RETRIED: &[Column] = &[
    ("Frame id", "/id", Text),
    ("Attempts", "/attempts", Count),
    ("Met", "/codes", Text),
    ("Waited last", "/waited_ms", Ms),
    ("Took", "/took_ms", Ms),
];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lag",
        title: "Lag",
        when: FRAMES,
        empty: FIRST,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                ("p50", "/report/lag_ms/p50", Ms),
                ("p95", "/report/lag_ms/p95", Ms),
                ("p99", "/report/lag_ms/p99", Ms),
                ("Max", "/report/lag_ms/max", Ms),
                ("Out of order", "/report/out_of_order", Count),
                ("Skewed", "/report/skewed", Count),
            ]),
            Part::Warning(
                "/report/ahead_ms",
                Ms,
                "is how far the time of a frame was ahead of this clock, at most. Skewed frames count as no lag.",
            ),
            Part::Series {
                of: "/model/delivery/lag",
                unit: Ms,
                lines: &[("p50", "/p50"), ("p95", "/p95"), ("max", "/max")],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "answers",
        title: "Answers",
        when: REQUESTS,
        empty: FIRST,
        note: "tailrace's requests; the platform's stand below, side by side. Recorded: once for each frame id. \
               Closed: the connection ended without an answer.",
        is_of_requests: true,
        parts: &[
            Part::Tiles(&[
                ("Requests", "/report/requests", Count),
                ("Recorded", "/report/accepted", Count),
                ("Closed", "/model/requests/closed", Count),
                ("Took p50", "/model/requests/duration/p50", Ms),
                ("p95", "/model/requests/duration/p95", Ms),
            ]),
            Part::Keys { of: "/model/requests/answers", under: "/by_status", unit: Rate },
            Part::Table(Table {
                of: "/report/by_status",
                key: "Status",
                columns: &[("Answers", "", Count)],
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "losses",
        title: "Losses",
        when: FRAMES,
        empty: FIRST,
        note: "Missing: gaps in messages that are numbers, or have one behind “seq=”. Announced: what loss notices \
               (L10) of tailrace say. Healthy: both are the same.",
        parts: &[
            Part::Tiles(&[
                ("Announced", "/report/losses/lines", Count),
                ("Notices", "/report/losses/notices", Count),
                ("Numbered", "/numbered/lines", Count),
                ("Missing", "/numbered/missing", Count),
            ]),
            Part::Warning(
                "/report/unfollowed",
                Count,
                "frames came from more dynos than are told apart (500): they count under (other), and nobody looked \
                 at their order or numbers.",
            ),
            Part::Table(Table {
                of: "/report/sequence",
                key: "Dyno",
                columns: &[
                    ("Came", "/count", Count),
                    ("Missing", "/missing", Count),
                    ("Repeated", "/backward", Count),
                    ("Last", "/last", Count),
                ],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "retries",
        title: "Retries and duplicates",
        when: REQUESTS,
        empty: FIRST,
        note: "By Logplex-Frame-Id. What met a 408 or a close may be stored twice by a receiver that does not look \
               at it. Waits: from the end of a request to the next with the same id, the sender's back-off.",
        is_of_requests: true,
        parts: &[
            Part::Tiles(&[
                ("Sent again", "/model/requests/retries/requests", Count),
                ("Recovered", "/model/requests/retries/recovered", Count),
                ("Open", "/model/requests/retries/open", Count),
                ("Duplicates", "/report/duplicates", Count),
                ("Changed bodies", "/report/changed_bodies", Count),
                ("Maybe twice", "/model/requests/retries/maybe_twice", Count),
                ("Waits p50", "/model/requests/retries/waits/p50", Ms),
                ("Max", "/model/requests/retries/waits/max", Ms),
            ]),
            Part::Table(Table {
                of: "/model/requests/retries/by_attempts",
                key: "Attempts",
                columns: &[("Ids", "", Count)],
                ..TABLE
            }),
            Part::Table(Table {
                of: "/model/requests/retries/waiting",
                summary: "Without success so far, the oldest first",
                columns: RETRIED,
                is_open: true,
                ..TABLE
            }),
            Part::Table(Table {
                of: "/model/requests/retries/recent",
                summary: "The latest that recovered",
                columns: RETRIED,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "repeats",
        title: "Lines that came twice",
        when: FRAMES,
        empty: FIRST,
        note: "The same frame, time and all, by another request and the same drain: among the last 250,000, and \
               within 10 minutes. Looked for while somebody looks.",
        is_of_requests: true,
        parts: &[
            Part::Tiles(&[
                ("Frames", "/model/delivery/repeated", Count),
                ("Looked at", "/model/delivery/repeated_of", Count),
            ]),
            Part::Warning("/model/delivery/repeated_last", Text, "was the last."),
        ],
        ..PANEL
    },
    Panel {
        id: "batches",
        title: "Bodies",
        when: REQUESTS,
        empty: FIRST,
        is_of_requests: true,
        parts: &[
            Part::Tiles(&[
                ("Bytes", "/report/bytes", Bytes),
                ("On the wire", "/report/wire_bytes", Bytes),
                ("Wire of bytes", "/wire_percent", Percent),
                ("With gzip", "/report/gzip_requests", Count),
            ]),
            Part::Series {
                of: "/model/requests/answers",
                unit: Bytes,
                lines: &[("bytes", "/bytes"), ("on the wire", "/wire_bytes")],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "frames-per-request",
        title: "Frames per request",
        when: &["/model/requests/batches"],
        empty: FIRST,
        is_of_requests: true,
        parts: &[Part::Steps { of: "/model/requests/batches", unit: Count, marks: &[] }],
        ..PANEL
    },
    Panel {
        id: "sizes",
        title: "Frame sizes",
        when: &["/model/delivery/frame_sizes", "/model/requests/too_long"],
        empty: FIRST,
        note: "By LEN. Logplex cuts messages at 10,000 bytes; heroku/x and Alloy refuse frames over 10,240.",
        parts: &[
            Part::Tiles(&[
                ("Longest", "/model/delivery/longest", Bytes),
                ("FrameBytes at 10,000", "/model/delivery/cut", Count),
                ("Over 10,240", "/model/requests/too_long", Count),
            ]),
            Part::Steps {
                of: "/model/delivery/frame_sizes",
                unit: Bytes,
                marks: &[("Logplex cuts at", 10_000.0), ("limit", 10_240.0)],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "tokens",
        title: "Drains side by side",
        is_wide: true,
        when: &["/model/delivery/tokens"],
        empty: FIRST,
        note: "One row for each Logplex-Drain-Token: the platform's drain and tailrace, when both send here.",
        parts: &[Part::Table(Table {
            of: "/model/delivery/tokens",
            key: "Token",
            columns: &[
                ("Requests", "/requests", Count),
                ("Taken", "/taken", Count),
                ("Refused", "/refused", Count),
                ("Closed", "/closed", Count),
                ("Frames", "/frames", Count),
                ("Lines", "/lines", Count),
                ("Lag p50", "/lag/p50", Ms),
                ("p95", "/lag/p95", Ms),
                ("Max", "/lag/max", Ms),
                ("Skewed", "/skewed", Count),
                ("FrameBytes", "/cut", Count),
                ("Twice", "/repeated", Count),
                ("L10", "/notices", Count),
                ("Lost", "/lost", Count),
            ],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "lag-by-dyno",
        title: "Lag by dyno",
        is_wide: true,
        when: FRAMES,
        empty: FIRST,
        parts: &[Part::Table(Table {
            of: "/report/streams",
            key: "Drain",
            inner: "Dyno",
            columns: &[
                ("Lag p95", "/lag_ms/p95", Ms),
                ("p50", "/lag_ms/p50", Ms),
                ("p99", "/lag_ms/p99", Ms),
                ("Max", "/lag_ms/max", Ms),
                ("Lines", "/lines", Count),
                ("Other frames", "/own_frames", Count),
                ("Skewed", "/skewed", Count),
                ("Out of order", "/out_of_order", Count),
            ],
            summary: "By drain and dyno, the latest first",
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "connections",
        title: "Connections",
        is_wide: true,
        when: &["/model/requests/connections"],
        empty: FIRST,
        note: "Idle closes: by the sender, while nothing was under way. Shows itself by: never the secret, only where \
               it stands.",
        is_of_requests: true,
        parts: &[Part::Table(Table {
            of: "/model/requests/connections",
            key: "Drain",
            columns: &[
                ("Made", "/opened", Count),
                ("Open", "/open", Count),
                ("Requests", "/requests", Count),
                ("Reused", "/reused", Count),
                ("Each", "/per_connection", Plain),
                ("Idle closes", "/idle_closes", Count),
                ("After p50", "/idle/p50", Ms),
                ("By fault", "/idle_faults", Count),
                ("TLS", "/tls", Text),
                ("ALPN", "/alpn", Text),
                ("Shows itself by", "/auth", Text),
                ("Failed", "/failed", Count),
                ("Why, last", "/failed_last", Text),
            ],
            is_open: true,
            ..TABLE
        })],
    },
    Panel {
        id: "agents",
        title: "What the agents say",
        is_wide: true,
        when: &["/model/delivery/agents"],
        empty: "Appears with the first line of tailrace itself: at=start when a dyno starts, at=stop when it ends, \
                at=heartbeat in between where TAILRACE_HEARTBEAT is set.",
        note: "The last value of each key: held is the queue in lines, oldest how long its first one has waited.",
        parts: &[
            Part::Matrix(Matrix {
                of: "/model/delivery/agents",
                key: "Dyno",
                columns: &[("Starts", "/starts", Count), ("Stops", "/stops", Count), ("Said", "/time", Time)],
                under: "/pairs",
                unit: Text,
                first: &[
                    "held",
                    "oldest",
                    "spool",
                    "backoff",
                    "next",
                    "retries",
                    "captured",
                    "delivered",
                    "dropped",
                    "rejected",
                    "memory",
                    "cpu",
                ],
                summary: "By dyno",
                is_open: true,
            }),
            Part::Table(Table {
                of: "/model/delivery/agents",
                key: "Dyno",
                columns: &[("Last line", "/last", Text)],
                summary: "Last lines",
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "conformance",
        title: "Form of the frames",
        is_wide: true,
        when: REQUESTS,
        empty: FIRST,
        note: "Every rule of Logplex's form: how often tailrace broke it, and the last example.",
        is_of_requests: true,
        parts: &[Part::Table(Table {
            of: "/model/requests/conformance",
            key: "Rule",
            columns: &[("Broken", "/broken", Count), ("Last example", "/last", Text)],
            is_open: true,
            ..TABLE
        })],
    },
    Panel {
        id: "receivers",
        title: "What receivers would say",
        is_wide: true,
        when: REQUESTS,
        empty: FIRST,
        is_of_requests: true,
        parts: &[Part::Table(Table {
            of: "/report/conformance",
            key: "Receiver",
            columns: &[("Refused", "/errors", Count), ("Last reason", "/last", Text)],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
];

/// The published parsers, those first that missed a line.
pub(super) fn parity(view: &View) -> Markup {
    const OF: &str = "/model/parity/parsers";
    let at = |name: &str, field: &str| format!("{OF}/{}/{field}", escape(name));
    let missed = |name: &String| view.number(&at(name, "missed"));
    let mut names: Vec<_> =
        view.at(OF).and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name).collect();
    names.sort_by(|a, b| missed(b).total_cmp(&missed(a)));
    let text = |name: &str, field: &str| {
        view.at(&at(name, field)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    html! {
        section.panel.wide id="parity" aria-labelledby="parity-title" {
            h2 id="parity-title" { "Published parsers" }
            p.note {
                "Each expression that Sumo Logic's app (R, A) and others (P, Vector) publish, against the lines that it "
                "is made for, of both drains. " (value(view, "/model/parity/looked_at", Count)) " lines were looked at: "
                "of each kind, 20 in a second; " (value(view, "/model/parity/skipped", Count)) " were not. A line is "
                "missed, too, when it matches and something else is taken from it than is there."
            }
            div.scroll { table {
                thead { tr {
                    th scope="col" { "Parser" } th.number scope="col" { "Matched" } th.number scope="col" { "Missed" }
                    th scope="col" { "Expression, and the last line that it missed" }
                } }
                tbody { @for name in names { tr.bad[missed(name) > 0.0] {
                    th scope="row" { (name) }
                    td.number { (value(view, &at(name, "matched"), Count)) }
                    td.number { (value(view, &at(name, "missed"), Count)) }
                    td.code {
                        (text(name, "expression"))
                        @let example = text(name, "example");
                        @if !example.is_empty() { br; b { (example) } }
                    }
                } } }
            } }
        }
    }
}
