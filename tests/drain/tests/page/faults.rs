//! The fault switches.

use super::client::Client;
use crate::{app, clean, drain, open, turn_to};

const TYPED: &str = "document.querySelector('#fault-spec').value";

#[test]
fn switches_put_faults_in_force_and_take_them_out() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=faults");
    window.click("[data-fault='status=503']");
    window.until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'true'");
    assert_eq!(client.send("d.1", &[app("x")]), 503);
    window.until("document.querySelector('#in-force td.number').textContent === '1'");
    window.text(&format!("{TYPED} = 'nonsense'"));
    window.text("document.querySelector('#fault-form').requestSubmit()");
    window.until("document.querySelector('#fault-problem').textContent.includes('expected')");
    window.click("[data-fault-clear]");
    window.until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'false'");
    assert_eq!(client.send("d.1", &[app("x")]), 204);
    let complaints = window.complaints(); // a refused request is told on the console
    assert!(complaints.iter().all(|complaint| complaint.contains("400 (Bad Request)")), "{complaints:?}");
}

#[test]
fn what_is_in_force_goes_on_and_what_is_typed_stays() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=faults");
    window.until(&format!("{TYPED} === ''"));
    window.text(&format!("{TYPED} = 'status=503:n=2'"));
    window.text("document.querySelector('#fault-form').requestSubmit()");
    window.until("document.querySelector('#in-force td.number')");
    assert_eq!(client.send("d.1", &[app("x")]), 503);
    window.text(&format!(
        "(() => {{ document.querySelector('#fault-spec').focus(); {TYPED} = 'half a wo'; }})()"
    ));
    window.text("document.querySelector('#fault-grammar summary').click()");

    window.text("document.querySelector(\"[data-fault='latency=200ms']\").click()");
    window.until("document.querySelectorAll('#in-force tbody tr').length === 2");
    window.until("document.querySelector('#in-force td.number').textContent === '1'");
    assert_eq!(client.send("d.1", &[app("x")]), 503, "the second of two");
    assert_eq!(client.send("d.1", &[app("x")]), 204, "there is no third");
    window.until("document.querySelector('#in-force td').textContent === 'over'");
    assert_eq!(window.text(TYPED), "half a wo");
    assert_eq!(window.text("document.activeElement.id"), "fault-spec");
    assert_eq!(window.text("document.querySelector('#fault-grammar').open"), "true");
    clean(&window);
}

#[test]
fn a_fault_closes_connections_that_are_idle() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("x")]);
    drain.set_faults("idle=200ms").expect("a fault");
    let window = open(&drain, "/?tab=delivery");
    turn_to(&window, "delivery");
    let shown = |field: &str| {
        format!(
            "document.querySelector('[data-model=\"/model/requests/connections/d.1/{field}\"]')?.textContent"
        )
    };
    window.until(&format!("{} === '1'", shown("idle_faults")));
    assert_eq!((window.text(&shown("open")), window.text(&shown("idle_closes"))), ("0".into(), "0".into()));
    clean(&window);
}
