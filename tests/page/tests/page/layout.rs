//! Layout at phone and desktop width in both themes, and keyboard access.

use crate::{LINE_COUNT, assert_no_browser_errors, drain_with_platform, open};
use std::path::Path;
use tailrace_page::client::Client;
use tailrace_page::script;

#[test]
fn the_page_fits_360_and_1440_px_in_both_themes() {
    let drain = drain_with_platform(Some(script::TOKENS[0]));
    let window = open(&drain, "/");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/page");
    window.wait_until("document.querySelectorAll('.empty').length >= 3");
    window.screenshot(&dir.join("empty-1440-light.png"));
    let mut client = Client::connect(&drain);
    script::send_history(&mut client, 90);
    for (width, height) in [(360, 780), (1440, 900)] {
        for theme in ["light", "dark"] {
            window.set_viewport(width, height, theme);
            for tab in ["overview", "tail", "dynos", "application", "samples", "errors", "delivery", "faults"]
            {
                window.click(&format!("nav a[data-tab={tab}]"));
                window.wait_until(&format!("document.body.dataset.tab === '{tab}'"));
                window.wait_until(&format!(
                    "'{tab}' === 'tail' || document.querySelector('main :is([data-model], button)')"
                ));
                window.wait_until(&format!("'{tab}' !== 'tail' || {LINE_COUNT} > 50"));
                let overflow = window.evaluate("document.documentElement.scrollWidth - innerWidth");
                assert!(
                    overflow.parse::<i32>().expect("a number") <= 0,
                    "{tab} is {overflow} px too wide at {width}"
                );
                // Numbers fit into their tiles, chart labels are at least 10 px high.
                let wide = "[...document.querySelectorAll('.tiles dd')].filter((dd) => dd.scrollWidth > dd.clientWidth + 1)\
                            .map((dd) => dd.innerText).join()";
                assert_eq!(window.evaluate(wide), "", "{tab} at {width}");
                let small = "Math.min(99, ...[...document.querySelectorAll('svg text')].map((text) => \
                             parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))";
                let size: f64 = window.evaluate(small).parse().expect("a number");
                assert!(size >= 10.0, "{tab} at {width}: {size}");
                let below = "(list => list.scrollHeight - list.scrollTop - list.clientHeight)(document.querySelector('#lines'))";
                window.wait_until(&format!("'{tab}' !== 'tail' || {below} < 2")); // the tail follows the newest line
                window.screenshot(&dir.join(format!("{tab}-{width}-{theme}.png")));
            }
        }
    }
    let empty = "[...document.querySelectorAll('main table')].filter((table) => !table.tBodies[0]?.rows.length).length";
    for tab in ["overview", "dynos", "application", "samples", "errors", "delivery"] {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.wait_until(&format!(
            "document.body.dataset.tab === '{tab}' && document.querySelector('main [data-model]')"
        ));
        assert_eq!(window.evaluate(empty), "0", "{tab}: tables without rows");
    }
    window.evaluate("document.querySelector('nav a').focus()");
    window.press_key("Tab");
    window.press_key("Enter");
    window.wait_until("document.body.dataset.tab === 'tail'");
    assert_eq!(window.evaluate("getComputedStyle(document.activeElement).outlineStyle"), "solid");
    window.click("#theme");
    assert_eq!(window.evaluate("document.documentElement.dataset.theme"), "light");
    assert_no_browser_errors(&window);
}
