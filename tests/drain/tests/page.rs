//! The page in a real browser: Debian's Chromium, headless.

mod page {
    pub(crate) mod browser;
    pub(crate) mod client;
    pub(crate) mod expected;
    mod faults;
    mod layout;
    mod reconnect;
    pub(crate) mod script;
    mod tail;
    mod values;
}

use page::browser::Window;
use page::client::frame;
use std::net::SocketAddr;
use tailrace::frame::Timestamp;
use tailrace_drain::{Drain, Options};

/// A drain with a page.
fn drain() -> Drain {
    drain_beside(None)
}

/// The same, to which the platform's own drain comes too.
fn drain_beside(platform: Option<&str>) -> Drain {
    let control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let platform = platform.map(str::to_owned);
    Drain::start(Options { control, platform, ..Options::default() }).expect("a drain starts")
}

fn open(drain: &Drain, path: &str) -> Window {
    Window::open(&address(drain, path))
}

fn address(drain: &Drain, path: &str) -> String {
    format!("{}{path}", drain.control().expect("a control endpoint"))
}

/// The browser has nothing to complain of.
fn clean(window: &Window) {
    assert_eq!(window.complaints(), Vec::<String>::new());
}

/// Goes to a tab, and waits until it is there.
fn turn_to(window: &Window, tab: &str) {
    window.click(&format!("nav a[data-tab={tab}]"));
    let there = if tab == "tail" { "#lines" } else { "main .panel" };
    window.until(&format!("document.body.dataset.tab === '{tab}' && document.querySelector('{there}')"));
}

/// A line of the app.
fn app(text: &str) -> String {
    frame(Timestamp::now().as_micros(), 190, "app web.1", text)
}

const LINES: &str = "document.querySelectorAll('#lines li:not(.gap)').length";
