//! The tab "Faults": switches for fault injection.

use crate::fault::GRAMMAR;
use crate::page::format::Unit;
use crate::page::panel::value;
use crate::page::view::View;
use maud::{Markup, html};
use serde_json::Value;

/// Groups of switches: title, and label and fault specification of each switch.
const SWITCHES: [(&str, &[(&str, &str)]); 3] = [
    (
        "Answers",
        &[
            ("400 bad request", "status=400"),
            ("401 wrong secret", "status=401"),
            ("408 possibly stored", "status=408"),
            ("413 over 100 KiB", "too-large=100KiB"),
            ("429, retry after 5 s", "status=429:retry-after=5"),
            ("500 server error", "status=500"),
            ("503 unavailable", "status=503"),
            ("503 every fourth", "status=503:25%"),
            ("200 with an error in JSON", "json-problem"),
            ("Accept and discard", "swallow"),
        ],
    ),
    (
        "Slowness",
        &[
            ("200 ms latency", "latency=200ms"),
            ("2 s latency", "latency=2s"),
            ("30 s stall", "stall=30s"),
            ("Reads 10 KiB/s", "slow-read=10KiB/s"),
        ],
    ),
    (
        "Connections",
        &[
            ("Close before the body", "reset-before"),
            ("Close after the body", "reset-after"),
            ("Close after each answer", "close-after-answer"),
            ("Close when idle for 30 s", "idle=30s"),
            ("Refuse", "refuse"),
            ("TLS handshake stalls", "tls-stall"),
            ("Untrusted certificate", "wrong-cert"),
        ],
    ),
];

pub(super) fn render(view: &View) -> Markup {
    let faults = view.at("/faults").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let spec = |fault: &Value| fault.pointer("/spec").and_then(Value::as_str).unwrap_or_default().to_owned();
    let specs: Vec<String> = faults.iter().map(spec).collect();
    html! {
        div.panels id="faults" data-specs=(specs.join("\n")) {
            section.panel id="in-force" aria-labelledby="in-force-title" {
                h2 id="in-force-title" { "Active faults" }
                @if specs.is_empty() {
                    p.empty {
                        "No fault: every request is accepted with status 204. Switch a fault on and watch “Delivery”."
                    }
                } @else {
                    div.scroll { table {
                        thead { tr {
                            th scope="col" { "Fault" } th scope="col" { "State" }
                            th.number scope="col" { "Hits" }
                        } }
                        tbody { @for (index, spec) in specs.iter().enumerate() { tr {
                            th scope="row" { code { (spec) } }
                            td { (value(view, &format!("/faults/{index}/state"), Unit::Text)) }
                            td.number { (value(view, &format!("/faults/{index}/hits"), Unit::Count)) }
                        } } }
                    } }
                }
                p { button type="button" data-fault-clear disabled[specs.is_empty()] { "Clear all" } }
            }
            section.panel id="own-fault" aria-labelledby="own-fault-title" {
                h2 id="own-fault-title" { "Custom fault" }
                form id="fault-form" {
                    label for="fault-spec" { "In the grammar below" }
                    div.row {
                        input id="fault-spec" name="spec" type="text" autocomplete="off" spellcheck="false"
                            placeholder="status=503:10%:@10s+20s";
                        button type="submit" { "Add" }
                    }
                    p.problem id="fault-problem" role="alert" data-keep {}
                }
                details id="fault-grammar" { summary { "Grammar" } pre { (GRAMMAR) } }
            }
            @for (title, switches) in SWITCHES {
                section.panel id={ "switches-" (title) } {
                    h2 { (title) }
                    div.switches { @for (label, spec) in switches {
                        button type="button" data-fault=(spec)
                            aria-pressed=(specs.iter().any(|known| known == spec).to_string()) { (label) }
                    } }
                }
            }
        }
    }
}
