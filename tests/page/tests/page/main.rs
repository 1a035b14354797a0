//! End-to-end tests of the drain's page in headless Chromium.

mod faults;
mod layout;
mod reconnect;
mod tail;
mod values;

use std::net::SocketAddr;
use tailrace::frame::Timestamp;
use tailrace_drain::{Drain, Options};
use tailrace_page::browser::Window;
use tailrace_page::client::frame;

/// Starts a drain with a page.
fn drain() -> Drain {
    drain_with_platform(None)
}

/// Starts a drain with a page that also receives the platform's drain, by its token.
fn drain_with_platform(platform: Option<&str>) -> Drain {
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

fn assert_no_browser_errors(window: &Window) {
    assert_eq!(window.browser_errors(), Vec::<String>::new());
}

/// Opens a tab of the page and waits until its content is there.
fn open_tab(window: &Window, tab: &str) {
    window.click(&format!("nav a[data-tab={tab}]"));
    let content = if tab == "tail" { "#lines" } else { "main .panel" };
    let rendered = "document.querySelector('main').dataset.tab";
    window.wait_until(&format!("{rendered} === '{tab}' && document.querySelector('{content}')"));
}

/// A frame of the app, made now.
fn app_frame(text: &str) -> String {
    frame(Timestamp::now().as_micros(), 190, "app web.1", text)
}

/// The number of lines in the live tail, as an expression.
const LINE_COUNT: &str = "document.querySelectorAll('#lines li:not(.gap)').length";
