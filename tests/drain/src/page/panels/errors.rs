//! Errors of the platform by their codes, and errors of the app.

use crate::page::format::Unit::{Bytes, Count, Ms, Percent, Text, Time};
use crate::page::panel::{PANEL, Panel, Part, value};
use crate::page::table::{TABLE, Table};
use crate::page::view::View;
use maud::{Markup, html};
use serde_json::Value;

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "errors",
        title: "Lines with an error",
        when: &["/model/lines/all/part"],
        empty: "Appears with the first line that has the word “error”, in any case, or one of H27, H28, H81, H82, \
                H83, L11.",
        note: "As in Sumo Logic's app. A line that both drains bring counts once.",
        parts: &[
            Part::Tiles(&[
                ("Lines", "/model/lines/all/part", Count),
                ("Of all lines", "/model/lines/all/percent", Percent),
                ("App", "/model/lines/by_app/app/part", Count),
                ("Heroku", "/model/lines/by_app/heroku/part", Count),
            ]),
            Part::Table(Table {
                of: "/model/lines/by_component",
                key: "Component",
                columns: &[
                    ("Errors", "/part", Count),
                    ("Lines", "/all", Count),
                    ("Rate", "/percent", Percent),
                ],
                is_positive: true,
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "platform-errors",
        title: "Errors of the platform",
        when: &["/model/errors/total"],
        empty: "Appears with the first error code: of the router (H…), of a dyno (R…) or of the logs (L…).",
        parts: &[
            Part::Tiles(&[("Lines with a code", "/model/errors/total", Count)]),
            Part::Keys { of: "/model/errors/over_time", under: "", unit: Count },
            Part::Table(Table {
                of: "/model/errors/by_component",
                key: "Component",
                columns: &[("Lines with a code", "", Count)],
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "app-errors",
        title: "Errors of the app",
        when: &["/model/app_errors/total"],
        empty: "Appears with the first line of the app that has the word “error”.",
        note: "A line counts when it has the word “error”, in any case. Release: and the words “app” and “release”, \
               also in its header; failed to boot, SIGTERM: and those of “Worker failed to boot”, “Worker was sent \
               SIGTERM”.",
        parts: &[
            Part::Tiles(&[
                ("Lines", "/model/app_errors/total", Count),
                ("Release", "/model/app_errors/release", Count),
                ("Failed to boot", "/model/app_errors/boot", Count),
                ("SIGTERM", "/model/app_errors/sigterm", Count),
            ]),
            Part::Keys { of: "/model/app_errors/components_over_time", under: "", unit: Count },
            Part::Table(Table {
                of: "/model/app_errors/by_component",
                key: "Component",
                columns: &[("Lines", "", Count)],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "clients",
        title: "Client addresses",
        when: &["/model/overview/by_client"],
        empty: "Appears with the first line of the platform's router: the addresses of its fwd=.",
        note: "Every address of fwd=: the client's, and the proxies' that it came through.",
        parts: &[Part::Table(Table {
            of: "/model/overview/by_client",
            key: "Address",
            columns: &[("Requests", "/requests", Count), ("With a code", "/errors", Count)],
            summary: "Those with an error code first",
            by: "/errors",
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "app-lines",
        title: "Lines of the app with an error",
        is_wide: true,
        when: &["/model/app_errors/total"],
        empty: "Appears with the first of them; the last 30 are kept.",
        parts: &[Part::Table(Table {
            of: "/model/app_errors/details",
            columns: &[("Time", "/time", Time), ("From", "/component", Text), ("Line", "/text", Text)],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
    Panel {
        id: "platform-lines",
        title: "Lines of the platform with a code",
        is_wide: true,
        when: &["/model/errors/details"],
        empty: "Appears with the first of them; the last 30 are kept.",
        parts: &[Part::Table(Table {
            of: "/model/errors/details",
            columns: &[
                ("Time", "/time", Time),
                ("Code", "/code", Text),
                ("From", "/component", Text),
                ("Level", "/level", Text),
                ("What", "/text", Text),
                ("Method", "/method", Text),
                ("Path", "/path", Text),
                ("Dyno", "/dyno", Text),
                ("Clients", "/clients", Text),
                ("Connect", "/connect", Ms),
                ("Service", "/service", Ms),
                ("Status", "/status", Count),
                ("Bytes", "/bytes", Bytes),
            ],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
];

/// Every code that has a name, met or not.
pub(super) fn named(view: &View) -> Markup {
    let pointer = |code: &str| format!("/model/errors/by_code/{code}");
    let mut codes: Vec<_> = view.at("/codes").and_then(Value::as_object).into_iter().flatten().collect();
    codes.sort_by_key(|(code, _)| view.number(&pointer(code)) == 0.0);
    html! {
        section.panel id="codes" aria-labelledby="codes-title" {
            h2 id="codes-title" { "Codes" }
            dl.codes.scroll {
                @for (code, meaning) in codes {
                    @let pointer = pointer(code);
                    div.seen[view.number(&pointer) > 0.0] {
                        dt { b { (code) } " " (meaning.as_str().unwrap_or_default()) }
                        dd {
                            @if view.at(&pointer).is_some() { (value(view, &pointer, Count)) } @else { "0" }
                        }
                    }
                }
            }
        }
    }
}
