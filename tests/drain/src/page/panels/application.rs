//! Panels of the tab "Application": builds, deploys, releases.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{Panel, Part, field};
use crate::page::table::Table;

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "builds",
        title: "Builds",
        data: &["/model/application/builds/total", "/model/application/builds/started"],
        empty_text: "Appears with the first “Build succeeded” or “Build failed” of app[api]. Only a drain of the platform \
                sends them.",
        parts: &[
            Part::Tiles(&[
                field("Builds", "/model/application/builds/total", Count),
                field("Succeeded", "/model/application/builds/succeeded", Count),
                field("Failed", "/model/application/builds/failed", Count),
                field("Started", "/model/application/builds/started", Count),
            ]),
            Part::Series {
                pointer: "/model/application/builds_over_time",
                unit: Count,
                lines: &[("succeeded", "/succeeded"), ("failed", "/failed")],
            },
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "deploys",
        title: "Deploys",
        data: &["/model/application/deploys/count"],
        empty_text: "Appears with the first “Deploy … by user …” of app[api].",
        parts: &[
            Part::Tiles(&[field("Deploys", "/model/application/deploys/count", Count)]),
            Part::Keys { pointer: "/model/application/deploys/over_time", inside: "", unit: Count },
            Part::Table(Table {
                pointer: "/model/application/deploys/by_user",
                key_label: "User",
                columns: &[field("Commits", "/count", Count), field("Last", "/last", Text)],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "releases",
        title: "Releases",
        data: &["/model/application/releases/count"],
        empty_text: "Appears with the first “Release v… created by user …” of app[api].",
        parts: &[
            Part::Tiles(&[field("Releases", "/model/application/releases/count", Count)]),
            Part::Keys { pointer: "/model/application/releases/over_time", inside: "", unit: Count },
            Part::Table(Table {
                pointer: "/model/application/releases/by_user",
                key_label: "User",
                columns: &[field("Releases", "/count", Count), field("Last", "/last", Text)],
                is_open: true,
                ..Table::DEFAULT
            }),
        ],
        ..Panel::DEFAULT
    },
    Panel {
        id: "changes",
        title: "Changes",
        is_wide: true,
        data: &["/model/application/latest"],
        empty_text: "Appears with the first build, deploy, release, change of scale or of config vars (app[api]); the last \
                50 are kept.",
        parts: &[Part::Table(Table {
            pointer: "/model/application/latest",
            columns: &[
                field("Time", "/time", Time),
                field("Change", "/text", Text),
                field("User", "/user", Text),
            ],
            is_open: true,
            ..Table::DEFAULT
        })],
        ..Panel::DEFAULT
    },
];
