//! The page around the panels: title, tabs, and the form of the live tail.

use super::panels::{self, Tab};
use super::view::View;
use maud::{DOCTYPE, Markup, html};

const LEVELS: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// The whole page, opened at `tab`.
pub(crate) fn render(tab: Tab, view: &View) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (tab.title()) " · tailrace drain" }
                link rel="icon" href="data:,";
                link rel="stylesheet" href="/page.css";
                script type="module" src="/page.js" {}
            }
            body data-tab=(tab.name()) {
                a.skip href="#main" { "Skip to the panels" }
                header {
                    h1 { "tailrace " span { "drain" } }
                    p.status id="status" role="status" { span.dot {} span id="state" { "Not live: no script" } }
                    dl.facts {
                        div { dt { "Frames" } dd id="frames" { "–" } }
                        div { dt { "Per second" } dd id="rate" { "–" } }
                        div { dt { "Held" } dd id="held" { "–" } }
                    }
                    button id="theme" type="button" { "Theme: system" }
                }
                nav aria-label="Panels" {
                    @for other in Tab::ALL {
                        a href={ "/?tab=" (other.name()) } data-tab=(other.name())
                            aria-current=[(other == tab).then_some("page")] { (other.title()) }
                    }
                }
                main id="main" tabindex="-1" { (panels::render(tab, view)) }
            }
        }
    }
}

/// The live tail: the script fills it.
pub(crate) fn tail() -> Markup {
    html! {
        section.tail id="tail" aria-label="Live tail" {
            form id="filter" role="search" {
                label.grow { span { "Search" } input type="search" name="search" placeholder="Words of the message"; }
                @for (name, label) in [("app", "Source"), ("proc", "Dyno"), ("token", "Drain")] {
                    label { span { (label) } select name=(name) { option value="" { "All" } } }
                }
                label {
                    span { "Level" }
                    select name="level" {
                        option value="" { "All" }
                        @for (number, level) in LEVELS.iter().enumerate() {
                            option value=(number) { (level) @if number > 0 { " or worse" } }
                        }
                    }
                }
                button id="pause" type="button" aria-pressed="false" { "Pause" }
            }
            p.note id="tail-note" role="status" {}
            ol.lines id="lines" aria-label="Lines" tabindex="0" {}
            p.empty id="tail-empty" {
                "Lines appear here as they reach the drain, the youngest below. Nothing so far fits."
            }
        }
    }
}
