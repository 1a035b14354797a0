//! Errors of the platform by their codes, and errors of the app.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{Column, Panel, Part, value};
use crate::page::view::View;
use maud::{Markup, html};
use serde_json::Value;

const DETAILS: &[Column] = &[("Time", "/time", Time), ("From", "/component", Text), ("Line", "/text", Text)];

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "platform-errors",
        title: "Errors of the platform",
        is_wide: false,
        when: "/model/errors/by_code",
        empty: "Appears with the first error code: of the router (H…), of a dyno (R…) or of the logs (L…).",
        note: "",
        parts: &[
            Part::Tiles(&[("Lines with an error", "/model/errors/total", Count)]),
            Part::Keys { of: "/model/errors/over_time", under: "", unit: Count },
            Part::Table {
                of: "/model/errors/by_component",
                key: "Source",
                columns: &[("Lines with an error", "", Count)],
                open: false,
            },
        ],
    },
    Panel {
        id: "app-errors",
        title: "Errors of the app",
        is_wide: false,
        when: "/model/app_errors/total",
        empty: "Appears with the first line of the app that has the word “error”.",
        note: "A line counts when it has the word “error”, in any case, as in Sumo Logic's app.",
        parts: &[
            Part::Tiles(&[
                ("Lines", "/model/app_errors/total", Count),
                ("Release", "/model/app_errors/release", Count),
                ("Failed to boot", "/model/app_errors/boot", Count),
                ("SIGTERM", "/model/app_errors/sigterm", Count),
            ]),
            Part::Series { of: "/model/app_errors/over_time", unit: Count, lines: &[("lines", "")] },
            Part::Table {
                of: "/model/app_errors/by_dyno",
                key: "Dyno",
                columns: &[("Lines", "", Count)],
                open: false,
            },
        ],
    },
    Panel {
        id: "app-lines",
        title: "Lines of the app with an error",
        is_wide: true,
        when: "/model/app_errors/total",
        empty: "Appears with the first of them; the last 30 are kept.",
        note: "",
        parts: &[Part::Table { of: "/model/app_errors/details", key: "", columns: DETAILS, open: true }],
    },
    Panel {
        id: "platform-lines",
        title: "Lines of the platform with a code",
        is_wide: true,
        when: "/model/errors/details",
        empty: "Appears with the first of them; the last 30 are kept.",
        note: "",
        parts: &[Part::Table { of: "/model/errors/details", key: "", columns: DETAILS, open: true }],
    },
];

/// Every code that has a name, met or not.
pub(super) fn named(view: &View) -> Markup {
    let mut codes: Vec<_> = view.at("/codes").and_then(Value::as_object).into_iter().flatten().collect();
    codes.sort_by_key(|(code, _)| view.number(&pointer(code)) == 0.0);
    html! {
        section.panel id="codes" aria-labelledby="codes-title" {
            h2 id="codes-title" { "Codes" }
            dl.codes.scroll {
                @for (code, meaning) in codes {
                    @let pointer = pointer(code);
                    div.met[view.number(&pointer) > 0.0] {
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

/// L10 is in the report, too: there it is read.
fn pointer(code: &str) -> String {
    match code {
        "L10" => "/report/losses/notices".to_owned(),
        _ => format!("/model/errors/by_code/{code}"),
    }
}
