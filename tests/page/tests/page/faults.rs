//! The fault switches.

use crate::{app_frame, assert_no_browser_errors, drain, open, open_tab};
use tailrace_page::client::Client;

const SPEC_VALUE: &str = "document.querySelector('#fault-spec').value";

#[test]
fn switches_turn_faults_on_and_off() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=faults");
    window.click("[data-fault='status=503']");
    window.wait_until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'true'");
    assert_eq!(client.send("d.1", &[app_frame("x")]), 503);
    window.wait_until("document.querySelector('#in-force td.number').textContent === '1'");
    window.evaluate(&format!("{SPEC_VALUE} = 'nonsense'"));
    window.evaluate("document.querySelector('#fault-form').requestSubmit()");
    window.wait_until("document.querySelector('#fault-problem').textContent.includes('expected')");
    window.click("[data-fault-clear]");
    window.wait_until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'false'");
    assert_eq!(client.send("d.1", &[app_frame("x")]), 204);
    let errors = window.browser_errors(); // the browser reports the refused request
    assert!(errors.iter().all(|error| error.contains("400 (Bad Request)")), "{errors:?}");
}

#[test]
fn an_update_keeps_fault_counters_and_form_input() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=faults");
    window.wait_until(&format!("{SPEC_VALUE} === ''"));
    window.evaluate(&format!("{SPEC_VALUE} = 'status=503:n=2'"));
    window.evaluate("document.querySelector('#fault-form').requestSubmit()");
    window.wait_until("document.querySelector('#in-force td.number')");
    assert_eq!(client.send("d.1", &[app_frame("x")]), 503);
    window.evaluate(&format!(
        "(() => {{ document.querySelector('#fault-spec').focus(); {SPEC_VALUE} = 'half a wo'; }})()"
    ));
    window.evaluate("document.querySelector('#fault-grammar summary').click()");

    window.evaluate("document.querySelector(\"[data-fault='latency=200ms']\").click()");
    window.wait_until("document.querySelectorAll('#in-force tbody tr').length === 2");
    window.wait_until("document.querySelector('#in-force td.number').textContent === '1'");
    assert_eq!(client.send("d.1", &[app_frame("x")]), 503, "the fault applies to two requests");
    assert_eq!(client.send("d.1", &[app_frame("x")]), 204, "the fault is used up");
    window.wait_until("document.querySelector('#in-force td').textContent === 'over'");
    assert_eq!(window.evaluate(SPEC_VALUE), "half a wo");
    assert_eq!(window.evaluate("document.activeElement.id"), "fault-spec");
    assert_eq!(window.evaluate("document.querySelector('#fault-grammar').open"), "true");
    assert_no_browser_errors(&window);
}

#[test]
fn the_idle_fault_closes_idle_connections() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("x")]);
    drain.set_faults("idle=200ms").expect("a fault");
    let window = open(&drain, "/?tab=delivery");
    open_tab(&window, "delivery");
    let shown = |field: &str| {
        format!(
            "document.querySelector('[data-model=\"/model/requests/connections/d.1/{field}\"]')?.textContent"
        )
    };
    window.wait_until(&format!("{} === '1'", shown("idle_faults")));
    assert_eq!(
        (window.evaluate(&shown("open")), window.evaluate(&shown("idle_closes"))),
        ("0".into(), "0".into())
    );
    assert_no_browser_errors(&window);
}
