//! The live tail.

use crate::{LINE_COUNT, app_frame, assert_no_browser_errors, drain, drain_with_platform, open, open_tab};
use tailrace::frame::Timestamp;
use tailrace_page::client::{Client, frame};

const NOTE: &str = "document.querySelector('#tail-note').textContent";

#[test]
fn the_tail_follows_filters_pauses_and_shows_raw_frames() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("before the page")]);
    let window = open(&drain, "/?tab=tail");
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    client.send("d.1", &[app_frame("needle one"), app_frame("hay")]);
    client.send("d.2", &[frame(Timestamp::now().as_micros(), 45, "heroku web.2", "Needle two")]);
    window.wait_until(&format!("{LINE_COUNT} === 4"));
    window.wait_until("document.querySelector('#status').dataset.state === 'live'");

    window.set_value("[name=search]", "needle");
    window.wait_until(&format!("{LINE_COUNT} === 2"));
    client.send("d.1", &[app_frame("more hay"), app_frame("needle three")]);
    window.wait_until(&format!("{LINE_COUNT} === 3"));
    window.set_value("[name=search]", "");
    for (field, value, count) in
        [("proc", "web.2", 1), ("app", "app", 5), ("token", "d.2", 1), ("level", "5", 1)]
    {
        window.wait_until(&format!("document.querySelector('[name={field}] [value=\"{value}\"]')"));
        window.set_value(&format!("[name={field}]"), value);
        window.wait_until(&format!("{LINE_COUNT} === {count}"));
        window.set_value(&format!("[name={field}]"), "");
        window.wait_until(&format!("{LINE_COUNT} === 6"));
    }

    window.click("#pause");
    client.send("d.1", &[app_frame("while paused")]);
    window.wait_until(&format!("{NOTE}.includes('1 more')"));
    assert_eq!(window.evaluate(LINE_COUNT), "6");
    window.click("#pause");
    window.wait_until(&format!("{LINE_COUNT} === 7"));

    window.click("#lines li button.time");
    window.wait_until("document.querySelector('#lines pre')?.textContent.includes('<190>1 ')");
    assert!(
        window.evaluate("document.querySelector('#lines pre').textContent").ends_with("before the page\\n")
    );
    let fields = window.evaluate("document.querySelector('#lines .detail dl').innerText");
    assert!(fields.contains("facility 23, info") && fields.contains("web.1"), "{fields}");
    assert_no_browser_errors(&window);
}

#[test]
fn the_tail_can_be_opened_on_every_tab() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("hello")]);
    let window = open(&drain, "/");
    window.click("#tail-toggle");
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    for tab in ["dynos", "application", "samples", "errors", "delivery", "faults"] {
        open_tab(&window, tab);
        assert_eq!(window.evaluate(LINE_COUNT), "1", "{tab}");
        assert_eq!(window.evaluate("document.querySelector('#lines').checkVisibility()"), "true", "{tab}");
    }
    client.send("d.1", &[app_frame("still there")]);
    window.wait_until(&format!("{LINE_COUNT} === 2"));
    window.click("#tail-toggle");
    window.wait_until("!document.querySelector('#lines').checkVisibility()");
    assert_no_browser_errors(&window);
}

#[test]
fn lines_can_be_filtered_by_drain_dyno_and_source() {
    let drain = drain_with_platform(Some("d.platform"));
    let mut client = Client::connect(&drain);
    client.send(
        "d.platform",
        &[frame(Timestamp::now().as_micros(), 158, "heroku router", "at=info"), app_frame("by the platform")],
    );
    client.send("d.agent", &[app_frame("by tailrace")]);
    client.send("", &[app_frame("without a token")]);
    let window = open(&drain, "/?tab=tail");
    window.wait_until(&format!("{LINE_COUNT} === 4"));
    let option =
        |field: &str, value: &str| format!("document.querySelector('[name={field}] [value=\"{value}\"]')");
    for (field, value, label, count) in [
        ("token", "d.platform", "d.platform (platform)", 2),
        ("token", "d.agent", "d.agent", 1),
        ("token", "(none)", "(none)", 1),
        ("proc", "router", "router", 1),
        ("app", "heroku", "heroku", 1),
    ] {
        window.wait_until(&format!("{}?.textContent === {label:?}", option(field, value)));
        window.set_value(&format!("[name={field}]"), value);
        window.wait_until(&format!("{LINE_COUNT} === {count}"));
        window.set_value(&format!("[name={field}]"), "");
        window.wait_until(&format!("{LINE_COUNT} === 4"));
    }
    assert_no_browser_errors(&window);
}

#[test]
fn after_a_pause_lines_are_shown_or_counted_as_skipped() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("first")]);
    let window = open(&drain, "/?tab=tail");
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    let mut send = |count: usize| {
        for _ in 0..count / 100 {
            client.send("d.1", &vec![app_frame("more"); 100]);
        }
    };
    window.click("#pause");
    send(1200);
    window.wait_until(&format!("{NOTE}.includes('1,200 more')"));
    window.click("#pause");
    window.wait_until(&format!("{LINE_COUNT} === 1201"));
    assert!(!window.evaluate(NOTE).contains("not shown"), "{}", window.evaluate(NOTE));

    window.click("#pause");
    send(3000);
    window.wait_until(&format!("{NOTE}.includes('3,000 more')"));
    window.click("#pause");
    window.wait_until(&format!("{LINE_COUNT} === 2000"));
    window.wait_until(&format!("{NOTE}.includes('1,000 lines were not shown')"));
    assert_no_browser_errors(&window);
}

#[test]
fn after_a_reset_the_raw_frame_of_an_old_row_is_not_found() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("old")]);
    let window = open(&drain, "/?tab=tail");
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    let raw = "fetch(`/raw?line=0&epoch=${document.querySelector('#lines li').epoch}`).then((answer) => answer.status)";
    assert_eq!(window.evaluate(raw), "200");
    let old = window.evaluate("document.querySelector('#lines li').epoch");
    window.evaluate("fetch('/reset', { method: 'POST' }).then((answer) => answer.status)");
    client.send("d.1", &[app_frame("new")]);
    window.wait_until("document.querySelector('#lines .message')?.textContent === 'new'");
    let again = format!("fetch('/raw?line=0&epoch={old}').then((answer) => answer.status)");
    assert_eq!(window.evaluate(&again), "404", "the number belongs to a new line");
}

#[test]
fn a_line_with_markup_is_text() {
    let drain = drain();
    let window = open(&drain, "/?tab=tail");
    let mut client = Client::connect(&drain);
    let markup = "<script>window.injected = 1</script><img src=x onerror='window.injected = 1'>";
    let router = format!(
        "at=error code=H12 desc=\"{markup}\" method=GET path=\"/{markup}\" host=myapp.herokuapp.com request_id=1 \
         fwd=\"{markup}\" dyno=web.1 connect=1ms service=2ms status=503 bytes=0 protocol=https"
    );
    client.send(
        "d.<b>1</b>",
        &[
            app_frame(markup),
            frame(Timestamp::now().as_micros(), 158, "heroku router", &router),
            frame(Timestamp::now().as_micros(), 190, "<i>app</i> <b>web</b>", &format!("error {markup}")),
            frame(Timestamp::now().as_micros(), 45, "app api", &format!("Deploy {markup} by user {markup}")),
        ],
    );
    window.wait_until(&format!("{LINE_COUNT} === 4"));
    assert_eq!(window.evaluate("document.querySelector('#lines .message').textContent"), markup);
    for tab in ["overview", "errors", "delivery", "dynos", "application", "samples"] {
        open_tab(&window, tab);
        let found = window.evaluate("document.querySelectorAll('main :is(img, script, i), select i').length");
        assert_eq!(found, "0", "{tab}");
    }
    assert_eq!(window.evaluate("typeof window.injected"), "undefined");
    assert_no_browser_errors(&window);
}

#[test]
fn ansi_colours_are_rendered_and_search_ignores_escape_sequences() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let lines = [
        "\u{1b}[31mred\u{1b}[0m plain",
        "\u{1b}[?25l\u{1b}[1mbold\u{1b}(B\u{1b}[m end\u{1b}[?25h",
        "\u{1b}[1;31mERROR\u{1b}[0m could not",
        "\u{1b}[35mmagenta\u{1b}[36mcyan\u{1b}[91mbright",
        "\u{1b}[1;38:2::10:20:30mtrue\u{1b}[38;5;196mindexed\u{1b}[39mbold",
        "\u{1b}[41mon red\u{1b}[44mon blue\u{1b}[48;2;1;2;3mon its own",
    ];
    client.send("d.1", &lines.map(app_frame));
    client.send("d.1", &[app_frame(&format!("{}\u{1b}[31m{}", "x".repeat(590), "y".repeat(2000)))]);
    let window = open(&drain, "/?tab=tail");
    window.wait_until(&format!("{LINE_COUNT} === 7"));
    let row = |number: usize| format!("document.querySelectorAll('#lines .message')[{number}]");
    let text = |number: usize| window.evaluate(&format!("{}.textContent", row(number)));
    let styles = |number: usize| {
        window.evaluate(&format!(
            "[...{}.querySelectorAll('span')].map((s) => s.className + ' ' + s.textContent).join('|')",
            row(number)
        ))
    };
    assert_eq!((text(0).as_str(), styles(0).as_str()), ("red plain", "fg-1 red"));
    assert_eq!((text(1).as_str(), styles(1).as_str()), ("bold end", "sgr-bold bold"));
    assert_eq!(styles(3), "fg-5 magenta|fg-6 cyan|fg-1 bright");
    assert_eq!(styles(4), "sgr-bold fg true|sgr-bold fg indexed|sgr-bold bold");
    assert_eq!(styles(5), "bg-1 on red|bg-4 on blue|bg on its own");
    let colour =
        |of: &str| window.evaluate(&format!("getComputedStyle(document.querySelector('{of}')).color"));
    assert_ne!(colour("#lines .fg-5"), colour("#lines .fg-1"), "magenta differs from red");
    let custom =
        "[...document.querySelectorAll('#lines .fg')].map((s) => s.style.getPropertyValue('--fg')).join('|')";
    assert_eq!(window.evaluate(custom), "rgb(10 20 30)|rgb(255 0 0)");
    let backgrounds = "new Set([...document.querySelectorAll('#lines [class^=bg]')]\
                       .map((s) => getComputedStyle(s).backgroundColor)).size";
    assert_eq!(window.evaluate(backgrounds), "3");

    // Folded within a coloured span, unfolded, and folded again.
    let length = format!("{}.textContent.length", row(6));
    assert_eq!((window.evaluate(&length).as_str(), &text(6)[590..]), ("601", "yyyyyyyyyy…"));
    window.click("#lines .fold");
    window.wait_until(&format!("{length} === 2590"));
    window.click("#lines .fold");
    window.wait_until(&format!("{length} === 601"));

    window.set_value("[name=search]", "error could");
    window.wait_until(&format!("{LINE_COUNT} === 1"));
    window.set_value("[name=search]", "31m");
    window.wait_until(&format!("{LINE_COUNT} === 0"));
    assert_no_browser_errors(&window);
}
