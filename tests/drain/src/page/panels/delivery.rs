//! Panels of the tab "Delivery": the health of delivery, which hosted receivers do not show.

use crate::measure::EXACTNESS;
use crate::page::format::Unit::{Bytes, Count, Ms, Percent, Plain, Rate, Text, Time};
use crate::page::panel::{Field, Panel, Part, field, value};
use crate::page::table::{Matrix, Table};
use crate::page::view::{View, escape};
use maud::{Markup, html};
use serde_json::Value;

const FIRST: &str = "Appears with the first request that reaches the drain.";
const FRAMES: &[&str] = &["/came"];
const REQUESTS: &[&str] = &["/report/requests"];

const RETRIED: &[Field] = &[
    field("Frame id", "/id", Text),
    field("Attempts", "/attempts", Count),
    field("Codes", "/codes", Text),
    field("Last wait", "/waited_ms", Ms),
    field("Took", "/took_ms", Ms),
];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "lag",
        title: "Lag",
        data: FRAMES,
        empty_text: FIRST,
        note: EXACTNESS,
        parts: &[
            Part::Tiles(&[
                field("p50", "/report/lag_ms/p50", Ms),
                field("p95", "/report/lag_ms/p95", Ms),
                field("p99", "/report/lag_ms/p99", Ms),
                field("Max", "/report/lag_ms/max", Ms),
                field("Out of order", "/report/out_of_order", Count),
                field("Skewed", "/report/skewed", Count),
            ]),
            Part::Warning {
                pointer: "/report/ahead_ms",
                unit: Ms,
                text: "is the most that a frame's timestamp was ahead of this clock. Skewed frames count as no lag.",
            },
            Part::Series {
                pointer: "/model/delivery/lag",
                unit: Ms,
                lines: &[("p50", "/p50"), ("p95", "/p95"), ("max", "/max")],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "answers",
        title: "Responses",
        data: REQUESTS,
        empty_text: FIRST,
        note: "tailrace's requests; those of the platform are in “Drains side by side”. Recorded: once for each \
               frame id. Closed: the connection ended without a response.",
        is_unfiltered: true,
        parts: &[
            Part::Tiles(&[
                field("Requests", "/report/requests", Count),
                field("Recorded", "/report/accepted", Count),
                field("Closed", "/model/requests/closed", Count),
                field("Took p50", "/model/requests/duration/p50", Ms),
                field("p95", "/model/requests/duration/p95", Ms),
            ]),
            Part::Keys { pointer: "/model/requests/answers", inside: "/by_status", unit: Rate },
            Part::Table(Table {
                pointer: "/report/by_status",
                key_label: "Status",
                columns: &[field("Responses", "", Count)],
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "losses",
        title: "Losses",
        data: FRAMES,
        empty_text: FIRST,
        note: "Missing: gaps in messages that are a number or contain “seq=NUMBER”. Announced: by the loss notices \
               (L10) of tailrace. Both should be equal.",
        parts: &[
            Part::Tiles(&[
                field("Announced", "/report/losses/lines", Count),
                field("Notices", "/report/losses/notices", Count),
                field("Numbered", "/numbered/lines", Count),
                field("Missing", "/numbered/missing", Count),
            ]),
            Part::Warning {
                pointer: "/report/unfollowed",
                unit: Count,
                text: "frames are from dynos beyond the first 500: they count under (other), without a check of their \
                       order and numbers.",
            },
            Part::Table(Table {
                pointer: "/report/sequence",
                key_label: "Dyno",
                columns: &[
                    field("Received", "/count", Count),
                    field("Missing", "/missing", Count),
                    field("Repeated", "/backward", Count),
                    field("Last", "/last", Count),
                ],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "retries",
        title: "Retries and duplicates",
        data: REQUESTS,
        empty_text: FIRST,
        note: "By Logplex-Frame-Id. A receiver that ignores the id may store a request twice after a 408 or a close. \
               Waits: from the end of a request to the next with the same id, the back-off of the sender.",
        is_unfiltered: true,
        parts: &[
            Part::Tiles(&[
                field("Retried", "/model/requests/retries/requests", Count),
                field("Recovered", "/model/requests/retries/recovered", Count),
                field("Open", "/model/requests/retries/open", Count),
                field("Duplicates", "/report/duplicates", Count),
                field("Changed bodies", "/report/changed_bodies", Count),
                field("Possibly stored twice", "/model/requests/retries/maybe_twice", Count),
                field("Waits p50", "/model/requests/retries/waits/p50", Ms),
                field("Max", "/model/requests/retries/waits/max", Ms),
            ]),
            Part::Table(Table {
                pointer: "/model/requests/retries/by_attempts",
                key_label: "Attempts",
                columns: &[field("Ids", "", Count)],
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/requests/retries/waiting",
                summary: "Without success so far, the oldest first",
                columns: RETRIED,
                is_open: true,
                ..Table::DEFAULT
            }),
            Part::Table(Table {
                pointer: "/model/requests/retries/recent",
                summary: "The latest that recovered",
                columns: RETRIED,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "repeats",
        title: "Duplicate lines",
        data: FRAMES,
        empty_text: FIRST,
        note: "The same frame, including its timestamp, in another request of the same drain: among the last 250,000 \
               frames, within 10 minutes. Searched only while this page is open.",
        is_unfiltered: true,
        parts: &[
            Part::Tiles(&[
                field("Frames", "/model/delivery/repeated", Count),
                field("Examined", "/model/delivery/repeated_of", Count),
            ]),
            Part::Warning { pointer: "/model/delivery/repeated_last", unit: Text, text: "was the last one." },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "batches",
        title: "Bodies",
        data: REQUESTS,
        empty_text: FIRST,
        is_unfiltered: true,
        parts: &[
            Part::Tiles(&[
                field("Bytes", "/report/bytes", Bytes),
                field("On the wire", "/report/wire_bytes", Bytes),
                field("Wire / bytes", "/wire_percent", Percent),
                field("With gzip", "/report/gzip_requests", Count),
            ]),
            Part::Series {
                pointer: "/model/requests/answers",
                unit: Bytes,
                lines: &[("bytes", "/bytes"), ("on the wire", "/wire_bytes")],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "frames-per-request",
        title: "Frames per request",
        data: &["/model/requests/batches"],
        empty_text: FIRST,
        is_unfiltered: true,
        parts: &[Part::Histogram { pointer: "/model/requests/batches", unit: Count, marks: &[] }],
        ..Panel::DEFAULT
    },
    Panel {
        id: "sizes",
        title: "Frame sizes",
        data: &["/model/delivery/frame_sizes", "/model/requests/too_long"],
        empty_text: FIRST,
        note: "By LEN. Logplex cuts messages at 10,000 bytes; heroku/x and Alloy reject frames over 10,240.",
        parts: &[
            Part::Tiles(&[
                field("Longest", "/model/delivery/longest", Bytes),
                field("FrameBytes at 10,000", "/model/delivery/cut", Count),
                field("Over 10,240", "/model/requests/too_long", Count),
            ]),
            Part::Histogram {
                pointer: "/model/delivery/frame_sizes",
                unit: Bytes,
                marks: &[("Logplex cuts at", 10_000.0), ("limit", 10_240.0)],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "tokens",
        title: "Drains side by side",
        is_wide: true,
        data: &["/model/delivery/tokens"],
        empty_text: FIRST,
        note: "One row for each Logplex-Drain-Token: the platform's drain and tailrace, when both send here.",
        parts: &[Part::Table(Table {
            pointer: "/model/delivery/tokens",
            key_label: "Token",
            columns: &[
                field("Requests", "/requests", Count),
                field("Accepted", "/taken", Count),
                field("Rejected", "/refused", Count),
                field("Closed", "/closed", Count),
                field("Frames", "/frames", Count),
                field("Lines", "/lines", Count),
                field("Lag p50", "/lag/p50", Ms),
                field("p95", "/lag/p95", Ms),
                field("Max", "/lag/max", Ms),
                field("Skewed", "/skewed", Count),
                field("FrameBytes", "/cut", Count),
                field("Duplicates", "/repeated", Count),
                field("L10", "/notices", Count),
                field("Lost", "/lost", Count),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "lag-by-dyno",
        title: "Lag by dyno",
        is_wide: true,
        data: FRAMES,
        empty_text: FIRST,
        parts: &[Part::Table(Table {
            pointer: "/report/streams",
            key_label: "Drain",
            inner_key_label: "Dyno",
            columns: &[
                field("Lag p95", "/lag_ms/p95", Ms),
                field("p50", "/lag_ms/p50", Ms),
                field("p99", "/lag_ms/p99", Ms),
                field("Max", "/lag_ms/max", Ms),
                field("Lines", "/lines", Count),
                field("Other frames", "/own_frames", Count),
                field("Skewed", "/skewed", Count),
                field("Out of order", "/out_of_order", Count),
            ],
            summary: "By drain and dyno, the latest first",
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "connections",
        title: "Connections",
        is_wide: true,
        data: &["/model/requests/connections"],
        empty_text: FIRST,
        note: "Idle closes: by the sender, between requests. Credentials: where they are sent, never the secret.",
        is_unfiltered: true,
        parts: &[Part::Table(Table {
            pointer: "/model/requests/connections",
            key_label: "Drain",
            columns: &[
                field("Opened", "/opened", Count),
                field("Open", "/open", Count),
                field("Requests", "/requests", Count),
                field("Reused", "/reused", Count),
                field("Requests each", "/per_connection", Plain),
                field("Idle closes", "/idle_closes", Count),
                field("After p50", "/idle/p50", Ms),
                field("By fault", "/idle_faults", Count),
                field("TLS", "/tls", Text),
                field("ALPN", "/alpn", Text),
                field("Credentials", "/auth", Text),
                field("Failed", "/failed", Count),
                field("Last failure", "/failed_last", Text),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
    },
    Panel {
        id: "agents",
        title: "Status of the agents",
        is_wide: true,
        data: &["/model/delivery/agents"],
        empty_text: "Appears with the first line of tailrace itself: at=start when a dyno starts, at=stop when it ends, \
                at=heartbeat in between where TAILRACE_HEARTBEAT is set.",
        note: "The last value of each key: held is the queue in lines, oldest the age of its first line.",
        parts: &[
            Part::Matrix(Matrix {
                pointer: "/model/delivery/agents",
                key_label: "Dyno",
                columns: &[
                    field("Starts", "/starts", Count),
                    field("Stops", "/stops", Count),
                    field("Time", "/time", Time),
                ],
                cells: "/pairs",
                unit: Text,
                first_columns: &[
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
                pointer: "/model/delivery/agents",
                key_label: "Dyno",
                columns: &[field("Last line", "/last", Text)],
                summary: "Last lines",
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "conformance",
        title: "Conformance to Logplex",
        is_wide: true,
        data: REQUESTS,
        empty_text: FIRST,
        note: "Every rule of the Logplex format: how often tailrace broke it, and the last example.",
        is_unfiltered: true,
        parts: &[Part::Table(Table {
            pointer: "/model/requests/conformance",
            key_label: "Rule",
            columns: &[field("Broken", "/broken", Count), field("Last example", "/last", Text)],
            is_open: true,
            ..Table::DEFAULT
        })],
    },
    Panel {
        id: "receivers",
        title: "Conformance to receivers",
        is_wide: true,
        data: REQUESTS,
        empty_text: FIRST,
        is_unfiltered: true,
        parts: &[Part::Table(Table {
            pointer: "/report/conformance",
            key_label: "Receiver",
            columns: &[field("Rejected", "/errors", Count), field("Last reason", "/last", Text)],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
];

/// The panel of published parsers; those that missed a line come first.
pub(super) fn parity(view: &View) -> Markup {
    const PARSERS: &str = "/model/parity/parsers";
    let at = |name: &str, field: &str| format!("{PARSERS}/{}/{field}", escape(name));
    let missed = |name: &String| view.number(&at(name, "missed"));
    let mut names: Vec<_> =
        view.at(PARSERS).and_then(Value::as_object).into_iter().flatten().map(|(name, _)| name).collect();
    names.sort_by(|a, b| missed(b).total_cmp(&missed(a)));
    let text = |name: &str, field: &str| {
        view.at(&at(name, field)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    html! {
        section.panel.wide id="parity" aria-labelledby="parity-title" {
            h2 id="parity-title" { "Published parsers" }
            p.note {
                "Each expression that Sumo Logic's app (R, A) and others (P, Vector) publish, applied to the lines "
                "that it is meant for, of both drains. " (value(view, "/model/parity/looked_at", Count)) " lines were examined, "
                "at most 20 of each kind per second; " (value(view, "/model/parity/skipped", Count)) " were not. A line is "
                "also missed if it matches but yields other values than it contains."
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
