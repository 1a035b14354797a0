//! A page whose drain is gone, and a page that nobody sees.

use super::browser::Window;
use super::client::Client;
use crate::{LINES, address, app, drain, open};
use tailrace_drain::{Drain, Options};

#[test]
fn a_tab_that_is_chosen_while_the_drain_is_down_comes_when_it_is_back() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("before")]);
    let page = address(&drain, "");
    let control = page.strip_prefix("http://").and_then(|address| address.parse().ok());
    let window = Window::open(&format!("{page}/?tab=tail"));
    window.until(&format!("{LINES} === 1"));
    drop((client, drain));
    window.until("document.querySelector('#status').dataset.state === 'gone'");
    for tab in ["overview", "tail", "delivery", "tail"] {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.until(&format!("document.body.dataset.tab === '{tab}'"));
    }
    window.click("nav a[data-tab=errors]");
    window.until("document.querySelector('main').textContent.includes('does not answer')");

    let drain = Drain::start(Options { control, ..Options::default() }).expect("the port is free again");
    window.until("document.querySelector('#status').dataset.state === 'live'");
    window.until("document.querySelector('main #codes')");
    window.click("nav a[data-tab=tail]");
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("after")]);
    window.until("document.querySelector('#lines li:last-child .message')?.textContent === 'after'");
    assert_eq!(window.text(LINES), "1", "what another drain had is gone");
    let complaints = window.complaints(); // what could not be loaded is told on the console
    assert!(complaints.iter().all(|complaint| complaint.contains("net::ERR_")), "{complaints:?}");
}

#[test]
fn many_tabs_of_one_browser_are_live_when_they_are_looked_at() {
    let drain = drain();
    let first = open(&drain, "/");
    let live = "document.querySelector('#status').dataset.state === 'live'";
    first.until(live);
    let mut others = Vec::new();
    for _ in 0..8 {
        let another = first.another(&address(&drain, "/?tab=tail"));
        another.front();
        another.until(live);
        others.push(another);
    }
    first.front();
    first.until(live);
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("hello")]);
    first.until("document.querySelector('[data-model=\"/report/lines\"]')?.textContent === '1'");
}
