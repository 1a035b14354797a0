//! How the page looks, and how it is reached.

use super::client::Client;
use super::script;
use crate::{LINES, clean, drain_beside, open};
use std::path::Path;

#[test]
fn it_reads_at_360_and_1440_in_both_themes_and_by_keyboard() {
    let drain = drain_beside(Some(script::TOKENS[0]));
    let window = open(&drain, "/");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/page");
    window.until("document.querySelectorAll('.empty').length >= 3");
    window.shot(&dir.join("empty-1440-light.png"));
    let mut client = Client::connect(&drain);
    script::history(&mut client, 90);
    for (width, height) in [(360, 780), (1440, 900)] {
        for theme in ["light", "dark"] {
            window.look(width, height, theme);
            for tab in ["overview", "tail", "dynos", "application", "samples", "errors", "delivery", "faults"]
            {
                window.click(&format!("nav a[data-tab={tab}]"));
                window.until(&format!("document.body.dataset.tab === '{tab}'"));
                window.until(&format!(
                    "'{tab}' === 'tail' || document.querySelector('main :is([data-model], button)')"
                ));
                window.until(&format!("'{tab}' !== 'tail' || {LINES} > 50"));
                let overflow = window.text("document.documentElement.scrollWidth - innerWidth");
                assert!(
                    overflow.parse::<i32>().expect("a number") <= 0,
                    "{tab} is {overflow} px too wide at {width}"
                );
                // A number stays within its tile, a label of a chart is not too small to read.
                let wide = "[...document.querySelectorAll('.tiles dd')].filter((dd) => dd.scrollWidth > dd.clientWidth + 1)\
                            .map((dd) => dd.innerText).join()";
                assert_eq!(window.text(wide), "", "{tab} at {width}");
                let small = "Math.min(99, ...[...document.querySelectorAll('svg text')].map((text) => \
                             parseFloat(getComputedStyle(text).fontSize) * text.getScreenCTM().a))";
                let size: f64 = window.text(small).parse().expect("a number");
                assert!(size >= 10.0, "{tab} at {width}: {size}");
                let below = "(list => list.scrollHeight - list.scrollTop - list.clientHeight)(document.querySelector('#lines'))";
                window.until(&format!("'{tab}' !== 'tail' || {below} < 2")); // it follows the youngest line
                window.shot(&dir.join(format!("{tab}-{width}-{theme}.png")));
            }
        }
    }
    let empty = "[...document.querySelectorAll('main table')].filter((table) => !table.tBodies[0]?.rows.length).length";
    for tab in ["overview", "dynos", "application", "samples", "errors", "delivery"] {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.until(&format!(
            "document.body.dataset.tab === '{tab}' && document.querySelector('main [data-model]')"
        ));
        assert_eq!(window.text(empty), "0", "{tab}: headings without rows");
    }
    window.text("document.querySelector('nav a').focus()");
    window.press("Tab");
    window.press("Enter");
    window.until("document.body.dataset.tab === 'tail'");
    assert_eq!(window.text("getComputedStyle(document.activeElement).outlineStyle"), "solid");
    window.click("#theme");
    assert_eq!(window.text("document.documentElement.dataset.theme"), "light");
    clean(&window);
}
