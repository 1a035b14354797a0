//! A page whose drain is down, and pages in background tabs.

use crate::{LINE_COUNT, address, app_frame, drain, open};
use tailrace_drain::{Drain, Options};
use tailrace_page::browser::Window;
use tailrace_page::client::Client;

#[test]
fn a_tab_selected_while_the_drain_is_down_loads_after_its_restart() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("before")]);
    let page = address(&drain, "");
    let control = page.strip_prefix("http://").and_then(|address| address.parse().ok());
    let window = Window::open(&format!("{page}/?tab=tail"));
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    drop((client, drain));
    window.wait_until("document.querySelector('#status').dataset.state === 'gone'");
    for tab in ["overview", "tail", "delivery", "tail"] {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.wait_until(&format!("document.body.dataset.tab === '{tab}'"));
    }
    window.click("nav a[data-tab=errors]");
    window.wait_until("document.querySelector('main').textContent.includes('does not answer')");

    let drain = Drain::start(Options { control, ..Options::default() }).expect("the port is free again");
    window.wait_until("document.querySelector('#status').dataset.state === 'live'");
    window.wait_until("document.querySelector('main #codes')");
    window.click("nav a[data-tab=tail]");
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("after")]);
    window.wait_until("document.querySelector('#lines li:last-child .message')?.textContent === 'after'");
    assert_eq!(window.evaluate(LINE_COUNT), "1", "lines of the previous drain are removed");
    let errors = window.browser_errors(); // the browser reports failed requests
    assert!(errors.iter().all(|error| error.contains("net::ERR_")), "{errors:?}");
}

#[test]
fn more_tabs_than_connections_per_host_are_live_when_visible() {
    let drain = drain();
    let first = open(&drain, "/");
    let live = "document.querySelector('#status').dataset.state === 'live'";
    first.wait_until(live);
    let mut others = Vec::new();
    for _ in 0..8 {
        let another = first.new_tab(&address(&drain, "/?tab=tail"));
        another.bring_to_front();
        another.wait_until(live);
        others.push(another);
    }
    first.bring_to_front();
    first.wait_until(live);
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("hello")]);
    first.wait_until("document.querySelector('[data-model=\"/report/lines\"]')?.textContent === '1'");
}
