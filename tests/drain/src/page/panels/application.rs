//! Builds, deploys, releases.

use crate::page::format::Unit::{Count, Text, Time};
use crate::page::panel::{PANEL, Panel, Part};
use crate::page::table::{TABLE, Table};

pub(super) const PANELS: &[Panel] = &[
    Panel {
        id: "builds",
        title: "Builds",
        when: &["/model/application/builds/total", "/model/application/builds/started"],
        empty: "Appears with the first “Build succeeded” or “Build failed” of app[api]. Only a drain of the platform \
                brings them.",
        parts: &[
            Part::Tiles(&[
                ("Builds", "/model/application/builds/total", Count),
                ("Succeeded", "/model/application/builds/succeeded", Count),
                ("Failed", "/model/application/builds/failed", Count),
                ("Started", "/model/application/builds/started", Count),
            ]),
            Part::Series {
                of: "/model/application/builds_over_time",
                unit: Count,
                lines: &[("succeeded", "/succeeded"), ("failed", "/failed")],
            },
        ],
        ..PANEL
    },
    Panel {
        id: "deploys",
        title: "Deploys",
        when: &["/model/application/deploys/count"],
        empty: "Appears with the first “Deploy … by user …” of app[api].",
        parts: &[
            Part::Tiles(&[("Deploys", "/model/application/deploys/count", Count)]),
            Part::Keys { of: "/model/application/deploys/over_time", under: "", unit: Count },
            Part::Table(Table {
                of: "/model/application/deploys/by_user",
                key: "User",
                columns: &[("Commits", "/count", Count), ("The last", "/last", Text)],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "releases",
        title: "Releases",
        when: &["/model/application/releases/count"],
        empty: "Appears with the first “Release v… created by user …” of app[api].",
        parts: &[
            Part::Tiles(&[("Releases", "/model/application/releases/count", Count)]),
            Part::Keys { of: "/model/application/releases/over_time", under: "", unit: Count },
            Part::Table(Table {
                of: "/model/application/releases/by_user",
                key: "User",
                columns: &[("Releases", "/count", Count), ("The last", "/last", Text)],
                is_open: true,
                ..TABLE
            }),
        ],
        ..PANEL
    },
    Panel {
        id: "changes",
        title: "What was changed",
        is_wide: true,
        when: &["/model/application/latest"],
        empty: "Appears with the first build, deploy, release, change of scale or of config vars (app[api]); the last \
                50 are kept.",
        parts: &[Part::Table(Table {
            of: "/model/application/latest",
            columns: &[("Time", "/time", Time), ("What", "/text", Text), ("User", "/user", Text)],
            is_open: true,
            ..TABLE
        })],
        ..PANEL
    },
];
