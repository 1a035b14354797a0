//! The live tail.

use super::client::{Client, frame};
use crate::{LINES, app, clean, drain, drain_beside, open, turn_to};
use tailrace::frame::Timestamp;

const NOTE: &str = "document.querySelector('#tail-note').textContent";

#[test]
fn it_moves_filters_pauses_and_shows_raw_frames() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("before the page")]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 1"));
    client.send("d.1", &[app("needle one"), app("hay")]);
    client.send("d.2", &[frame(Timestamp::now().as_micros(), 45, "heroku web.2", "Needle two")]);
    window.until(&format!("{LINES} === 4"));
    window.until("document.querySelector('#status').dataset.state === 'live'");

    window.fill("[name=search]", "needle");
    window.until(&format!("{LINES} === 2"));
    client.send("d.1", &[app("more hay"), app("needle three")]);
    window.until(&format!("{LINES} === 3"));
    window.fill("[name=search]", "");
    for (field, value, count) in
        [("proc", "web.2", 1), ("app", "app", 5), ("token", "d.2", 1), ("level", "5", 1)]
    {
        window.until(&format!("document.querySelector('[name={field}] [value=\"{value}\"]')"));
        window.fill(&format!("[name={field}]"), value);
        window.until(&format!("{LINES} === {count}"));
        window.fill(&format!("[name={field}]"), "");
        window.until(&format!("{LINES} === 6"));
    }

    window.click("#pause");
    client.send("d.1", &[app("while paused")]);
    window.until(&format!("{NOTE}.includes('1 more')"));
    assert_eq!(window.text(LINES), "6");
    window.click("#pause");
    window.until(&format!("{LINES} === 7"));

    window.click("#lines li button.time");
    window.until("document.querySelector('#lines pre')?.textContent.includes('<190>1 ')");
    assert!(window.text("document.querySelector('#lines pre').textContent").ends_with("before the page\\n"));
    let fields = window.text("document.querySelector('#lines .detail dl').innerText");
    assert!(fields.contains("facility 23, info") && fields.contains("web.1"), "{fields}");
    clean(&window);
}

#[test]
fn it_is_at_the_foot_of_every_tab() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("hello")]);
    let window = open(&drain, "/");
    window.click("#tail-toggle");
    window.until(&format!("{LINES} === 1"));
    for tab in ["dynos", "application", "samples", "errors", "delivery", "faults"] {
        turn_to(&window, tab);
        assert_eq!(window.text(LINES), "1", "{tab}");
        assert_eq!(window.text("document.querySelector('#lines').checkVisibility()"), "true", "{tab}");
    }
    client.send("d.1", &[app("still there")]);
    window.until(&format!("{LINES} === 2"));
    window.click("#tail-toggle");
    window.until("!document.querySelector('#lines').checkVisibility()");
    clean(&window);
}

#[test]
fn whoever_brought_a_line_can_be_chosen() {
    let drain = drain_beside(Some("d.platform"));
    let mut client = Client::connect(&drain);
    client.send(
        "d.platform",
        &[frame(Timestamp::now().as_micros(), 158, "heroku router", "at=info"), app("by the platform")],
    );
    client.send("d.agent", &[app("by tailrace")]);
    client.send("", &[app("by nobody")]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 4"));
    let option =
        |field: &str, value: &str| format!("document.querySelector('[name={field}] [value=\"{value}\"]')");
    for (field, value, label, count) in [
        ("token", "d.platform", "d.platform (platform)", 2),
        ("token", "d.agent", "d.agent", 1),
        ("token", "(none)", "(none)", 1),
        ("proc", "router", "router", 1),
        ("app", "heroku", "heroku", 1),
    ] {
        window.until(&format!("{}?.textContent === {label:?}", option(field, value)));
        window.fill(&format!("[name={field}]"), value);
        window.until(&format!("{LINES} === {count}"));
        window.fill(&format!("[name={field}]"), "");
        window.until(&format!("{LINES} === 4"));
    }
    clean(&window);
}

#[test]
fn after_a_pause_nothing_is_missing_without_a_word() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("first")]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 1"));
    let mut send = |count: usize| {
        for _ in 0..count / 100 {
            client.send("d.1", &vec![app("more"); 100]);
        }
    };
    window.click("#pause");
    send(1200);
    window.until(&format!("{NOTE}.includes('1,200 more')"));
    window.click("#pause");
    window.until(&format!("{LINES} === 1201"));
    assert!(!window.text(NOTE).contains("not shown"), "{}", window.text(NOTE));

    window.click("#pause");
    send(3000);
    window.until(&format!("{NOTE}.includes('3,000 more')"));
    window.click("#pause");
    window.until(&format!("{LINES} === 2000"));
    window.until(&format!("{NOTE}.includes('1,000 lines were not shown')"));
    clean(&window);
}

#[test]
fn after_a_reset_an_old_row_is_no_longer_held() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("old")]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 1"));
    let raw = "fetch(`/raw?line=0&epoch=${document.querySelector('#lines li').epoch}`).then((answer) => answer.status)";
    assert_eq!(window.text(raw), "200");
    let old = window.text("document.querySelector('#lines li').epoch");
    window.text("fetch('/reset', { method: 'POST' }).then((answer) => answer.status)");
    client.send("d.1", &[app("new")]);
    window.until("document.querySelector('#lines .message')?.textContent === 'new'");
    let again = format!("fetch('/raw?line=0&epoch={old}').then((answer) => answer.status)");
    assert_eq!(window.text(&again), "404", "another line has its number now");
}

#[test]
fn a_line_with_markup_is_text() {
    let drain = drain();
    let window = open(&drain, "/?tab=tail");
    let mut client = Client::connect(&drain);
    let evil = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>";
    let router = format!(
        "at=error code=H12 desc=\"{evil}\" method=GET path=\"/{evil}\" host=myapp.herokuapp.com request_id=1 \
         fwd=\"{evil}\" dyno=web.1 connect=1ms service=2ms status=503 bytes=0 protocol=https"
    );
    client.send(
        "d.<b>1</b>",
        &[
            app(evil),
            frame(Timestamp::now().as_micros(), 158, "heroku router", &router),
            frame(Timestamp::now().as_micros(), 190, "<i>app</i> <b>web</b>", &format!("error {evil}")),
            frame(Timestamp::now().as_micros(), 45, "app api", &format!("Deploy {evil} by user {evil}")),
        ],
    );
    window.until(&format!("{LINES} === 4"));
    assert_eq!(window.text("document.querySelector('#lines .message').textContent"), evil);
    for tab in ["overview", "errors", "delivery", "dynos", "application", "samples"] {
        turn_to(&window, tab);
        let found = window.text("document.querySelectorAll('main :is(img, script, i), select i').length");
        assert_eq!(found, "0", "{tab}");
    }
    assert_eq!(window.text("typeof window.pwned"), "undefined");
    clean(&window);
}

#[test]
fn lines_look_as_in_a_terminal_and_are_found_as_they_look() {
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
    client.send("d.1", &lines.map(app));
    client.send("d.1", &[app(&format!("{}\u{1b}[31m{}", "x".repeat(590), "y".repeat(2000)))]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 7"));
    let row = |number: usize| format!("document.querySelectorAll('#lines .message')[{number}]");
    let text = |number: usize| window.text(&format!("{}.textContent", row(number)));
    let look = |number: usize| {
        window.text(&format!(
            "[...{}.querySelectorAll('span')].map((s) => s.className + ' ' + s.textContent).join('|')",
            row(number)
        ))
    };
    assert_eq!((text(0).as_str(), look(0).as_str()), ("red plain", "fg-1 red"));
    assert_eq!((text(1).as_str(), look(1).as_str()), ("bold end", "sgr-bold bold"));
    assert_eq!(look(3), "fg-5 magenta|fg-6 cyan|fg-1 bright");
    assert_eq!(look(4), "sgr-bold fg true|sgr-bold fg indexed|sgr-bold bold");
    assert_eq!(look(5), "bg-1 on red|bg-4 on blue|bg on its own");
    let colour = |of: &str| window.text(&format!("getComputedStyle(document.querySelector('{of}')).color"));
    assert_ne!(colour("#lines .fg-5"), colour("#lines .fg-1"), "magenta is no red");
    let own =
        "[...document.querySelectorAll('#lines .fg')].map((s) => s.style.getPropertyValue('--fg')).join('|')";
    assert_eq!(window.text(own), "rgb(10 20 30)|rgb(255 0 0)");
    let backgrounds = "new Set([...document.querySelectorAll('#lines [class^=bg]')]\
                       .map((s) => getComputedStyle(s).backgroundColor)).size";
    assert_eq!(window.text(backgrounds), "3");

    // Folded in the middle of what is coloured, unfolded, and folded again.
    let length = format!("{}.textContent.length", row(6));
    assert_eq!((window.text(&length).as_str(), &text(6)[590..]), ("601", "yyyyyyyyyy…"));
    window.click("#lines .fold");
    window.until(&format!("{length} === 2590"));
    window.click("#lines .fold");
    window.until(&format!("{length} === 601"));

    window.fill("[name=search]", "error could");
    window.until(&format!("{LINES} === 1"));
    window.fill("[name=search]", "31m");
    window.until(&format!("{LINES} === 0"));
    clean(&window);
}
