//! Panels of the tab "Errors": error codes of the platform, and errors of the app.

use crate::page::format::Unit::{Bytes, Count, Ms, Percent, Text, Time};
use crate::page::panel::{Panel, Part, field, value};
use crate::page::table::Table;
use crate::page::view::View;
use maud::{Markup, html};
use serde_json::Value;

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "errors",
        title: "Lines with an error",
        data: &["/model/lines/all/part"],
        empty_text: "Appears with the first line that has the word “error”, in any case, or one of H27, H28, H81, H82, \
                H83, L11.",
        note: "As in Sumo Logic's app. A line that both drains deliver counts once.",
        parts: &[
            Part::Tiles(&[
                field("Lines", "/model/lines/all/part", Count),
                field("Of all lines", "/model/lines/all/percent", Percent),
                field("App", "/model/lines/by_app/app/part", Count),
                field("Heroku", "/model/lines/by_app/heroku/part", Count),
            ]),
            Part::Table(Table {
                pointer: "/model/lines/by_component",
                key_label: "Component",
                columns: &[
                    field("Errors", "/part", Count),
                    field("Lines", "/all", Count),
                    field("Rate", "/percent", Percent),
                ],
                only_positive: true,
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "platform-errors",
        title: "Errors of the platform",
        data: &["/model/errors/total"],
        empty_text: "Appears with the first error code: of the router (H…), of a dyno (R…) or of Logplex (L…).",
        parts: &[
            Part::Tiles(&[field("Lines with a code", "/model/errors/total", Count)]),
            Part::Keys { pointer: "/model/errors/over_time", inside: "", unit: Count },
            Part::Table(Table {
                pointer: "/model/errors/by_component",
                key_label: "Component",
                columns: &[field("Lines with a code", "", Count)],
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "app-errors",
        title: "Errors of the app",
        data: &["/model/app_errors/total"],
        empty_text: "Appears with the first line of the app that has the word “error”.",
        note: "A line counts when it has the word “error”, in any case. Release: and the words “app” and “release”, \
               also in its header; failed to boot, SIGTERM: and those of “Worker failed to boot”, “Worker was sent \
               SIGTERM”.",
        parts: &[
            Part::Tiles(&[
                field("Lines", "/model/app_errors/total", Count),
                field("Release", "/model/app_errors/release", Count),
                field("Failed to boot", "/model/app_errors/boot", Count),
                field("SIGTERM", "/model/app_errors/sigterm", Count),
            ]),
            Part::Keys { pointer: "/model/app_errors/components_over_time", inside: "", unit: Count },
            Part::Table(Table {
                pointer: "/model/app_errors/by_component",
                key_label: "Component",
                columns: &[field("Lines", "", Count)],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "clients",
        title: "Client addresses",
        data: &["/model/overview/by_client"],
        empty_text: "Appears with the first line of the platform's router: the addresses of its fwd=.",
        note: "Every address of fwd=: the client's and those of the proxies.",
        parts: &[Part::Table(Table {
            pointer: "/model/overview/by_client",
            key_label: "Address",
            columns: &[field("Requests", "/requests", Count), field("With a code", "/errors", Count)],
            summary: "Those with an error code first",
            sort_by: "/errors",
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "app-lines",
        title: "Lines of the app with an error",
        is_wide: true,
        data: &["/model/app_errors/total"],
        empty_text: "Appears with the first of them; the last 30 are kept.",
        parts: &[Part::Table(Table {
            pointer: "/model/app_errors/details",
            columns: &[
                field("Time", "/time", Time),
                field("From", "/component", Text),
                field("Line", "/text", Text),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
    Panel {
        id: "platform-lines",
        title: "Lines of the platform with a code",
        is_wide: true,
        data: &["/model/errors/details"],
        empty_text: "Appears with the first of them; the last 30 are kept.",
        parts: &[Part::Table(Table {
            pointer: "/model/errors/details",
            columns: &[
                field("Time", "/time", Time),
                field("Code", "/code", Text),
                field("From", "/component", Text),
                field("Level", "/level", Text),
                field("Description", "/text", Text),
                field("Method", "/method", Text),
                field("Path", "/path", Text),
                field("Dyno", "/dyno", Text),
                field("Clients", "/clients", Text),
                field("Connect", "/connect", Ms),
                field("Service", "/service", Ms),
                field("Status", "/status", Count),
                field("Bytes", "/bytes", Bytes),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
];

/// Every documented error code with its count.
pub(super) fn codes(view: &View) -> Markup {
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
