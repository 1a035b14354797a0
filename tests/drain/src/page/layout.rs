//! The page around the panels: header, tabs, filter and live tail.

use super::panels::{self, Tab};
use super::view::View;
use maud::{DOCTYPE, Markup, html};
use serde_json::Value;

const LEVELS: [&str; 8] = ["emergency", "alert", "critical", "error", "warning", "notice", "info", "debug"];

/// Renders the page with `tab` selected.
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
                        div id="held-fact" { dt { "Held" } dd id="held" { "–" } }
                    }
                    button id="theme" type="button" { "Theme: system" }
                }
                nav aria-label="Panels" {
                    @for other in Tab::ALL {
                        a href={ "/?tab=" (other.name()) } data-tab=(other.name())
                            aria-current=[(other == tab).then_some("page")] { (other.title()) }
                    }
                }
                (filter(view))
                main id="main" tabindex="-1" { (panels::render(tab, view)) }
                (tail())
            }
        }
    }
}

/// The filter of panels and tail.
fn filter(view: &View) -> Markup {
    html! {
        form.filter id="filter" aria-label="Filter of panels and lines" {
            @for (name, label) in [("app", "Source"), ("proc", "Dyno"), ("token", "Drain")] {
                @let chosen = view.at(&format!("/filter/{name}")).and_then(Value::as_str).unwrap_or_default();
                label { span { (label) } select name=(name) {
                    option value="" { "All" }
                    @if !chosen.is_empty() { option value=(chosen) selected { (chosen) } }
                } }
            }
            button id="no-filter" type="button" hidden[view.at("/filter").is_none()] { "Clear" }
        }
    }
}

/// The live tail: fills its own tab, and is a drawer at the bottom of the others. The script adds the lines.
fn tail() -> Markup {
    html! {
        section.tail id="tail" aria-label="Live tail" data-open="false" {
            div.bar {
                button.fold id="tail-toggle" type="button" aria-expanded="false" aria-controls="tail-body" { "Live tail" }
                label.grow {
                    span { "Search" }
                    input type="search" name="search" form="filter" placeholder="Text in the message";
                }
                label {
                    span { "Level" }
                    select name="level" form="filter" {
                        option value="" { "All" }
                        @for (number, level) in LEVELS.iter().enumerate() {
                            option value=(number) { (level) @if number > 0 { " or worse" } }
                        }
                    }
                }
                button id="pause" type="button" aria-pressed="false" { "Pause" }
            }
            div id="tail-body" {
                p.note id="tail-note" role="status" {}
                div.head aria-hidden="true" {
                    span { "Time" } span { "Level" } span { "From" } span { "Drain" } span { "Message" }
                }
                ol.lines id="lines" aria-label="Lines" tabindex="0" {}
                p.empty id="tail-empty" {
                    "Lines appear here as the drain receives them, the newest at the bottom. None matches so far."
                }
            }
        }
    }
}
