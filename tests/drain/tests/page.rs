//! The page in a real browser: Debian's Chromium, headless.

mod page {
    pub(crate) mod browser;
    pub(crate) mod client;
    pub(crate) mod script;
}

use page::browser::Window;
use page::client::{Client, frame};
use page::script;
use std::net::SocketAddr;
use std::path::Path;
use tailrace::frame::now_micros;
use tailrace_drain::{Drain, Options};

fn drain() -> Drain {
    let control = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    Drain::start(Options { control, ..Options::default() }).expect("a drain starts")
}

fn open(drain: &Drain, path: &str) -> Window {
    Window::open(&format!("{}{path}", drain.control().expect("a control endpoint")))
}

fn clean(window: &Window) {
    assert_eq!(window.complaints(), Vec::<String>::new());
}

const LINES: &str = "document.querySelectorAll('#lines li').length";

fn app(text: &str) -> String {
    frame(now_micros(), 190, "app web.1", text)
}

#[test]
fn the_live_tail_moves_filters_pauses_and_shows_raw_frames() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("before the page")]);
    let window = open(&drain, "/?tab=tail");
    window.until(&format!("{LINES} === 1"));
    client.send("d.1", &[app("needle one"), app("hay")]);
    client.send("d.2", &[frame(now_micros(), 45, "heroku web.2", "Needle two")]);
    window.until(&format!("{LINES} === 4"));
    window.until("document.querySelector('#status').dataset.state === 'live'");

    window.fill("#filter [name=search]", "needle");
    window.until(&format!("{LINES} === 2"));
    client.send("d.1", &[app("more hay"), app("needle three")]);
    window.until(&format!("{LINES} === 3"));
    window.fill("#filter [name=search]", "");
    for (field, value, count) in
        [("proc", "web.2", 1), ("app", "app", 5), ("token", "d.2", 1), ("level", "5", 1)]
    {
        window.until(&format!("document.querySelector('#filter [name={field}] [value=\"{value}\"]')"));
        window.fill(&format!("#filter [name={field}]"), value);
        window.until(&format!("{LINES} === {count}"));
        window.fill(&format!("#filter [name={field}]"), "");
        window.until(&format!("{LINES} === 6"));
    }

    window.click("#pause");
    client.send("d.1", &[app("while paused")]);
    window.until("document.querySelector('#tail-note').textContent.includes('1 more')");
    assert_eq!(window.text(LINES), "6");
    window.click("#pause");
    window.until(&format!("{LINES} === 7"));

    window.click("#lines li button.time");
    window.until("document.querySelector('#lines pre')?.textContent.includes('<190>1 ')");
    assert!(window.text("document.querySelector('#lines pre').textContent").ends_with("before the page\\n"));
    clean(&window);
}

#[test]
fn a_line_with_markup_is_text_and_colours_are_classes() {
    let drain = drain();
    let window = open(&drain, "/?tab=tail");
    let mut client = Client::connect(&drain);
    let evil = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>";
    let long = format!("\u{1b}[31mred\u{1b}[0m plain {}", "x".repeat(2000));
    let router = format!(
        "at=error code=H12 desc=\"{evil}\" method=GET path=\"/{evil}\" host=myapp.herokuapp.com request_id=1 \
         fwd=\"{evil}\" dyno=web.1 connect=1ms service=2ms status=503 bytes=0 protocol=https"
    );
    client.send(
        "d.<b>1</b>",
        &[
            app(evil),
            app(&long),
            frame(now_micros(), 158, "heroku router", &router),
            frame(now_micros(), 190, "<i>app</i> <b>web</b>", &format!("error {evil}")),
        ],
    );
    window.until(&format!("{LINES} === 4"));
    assert_eq!(window.text("document.querySelector('#lines .message').textContent"), evil);
    assert_eq!(window.text("document.querySelector('#lines .sgr-31').textContent"), "red");
    window.click("#lines .fold");
    window.until("document.querySelectorAll('#lines .message')[1].textContent.length === 2010");
    for tab in ["overview", "errors", "delivery", "dynos", "samples"] {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.until(&format!(
            "document.title.startsWith(document.querySelector('nav [data-tab={tab}]').textContent)"
        ));
        window.until("document.querySelector('.panel')");
        assert_eq!(
            window.text("document.querySelectorAll('main img, main script, main i').length"),
            "0",
            "{tab}"
        );
    }
    assert_eq!(window.text("typeof window.pwned"), "undefined");
    clean(&window);
}

/// Compares every value on a tab with the JSON at its pointer; the differences, one per line.
const DIFFERENCES: &str = r#"(async () => {
    const model = await (await fetch("/model.json")).json();
    const at = (pointer) => pointer.split("/").slice(1)
        .reduce((value, key) => value?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], model);
    const scales = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, ms: 1, s: 1e3 };
    const same = (text, value, unit) => {
        if (value === null || value === undefined || value === "") return text === "–";
        if (Array.isArray(value)) return text === value.join(" ");
        if (typeof value === "string") return text === (unit === "Time" ? value.slice(11, 19) : value);
        const [number, suffix] = text.replaceAll(",", "").split(" ");
        const shown = ["Bytes", "Ms"].includes(unit) ? value / scales[suffix] : value;
        const digits = number.split(".")[1]?.length ?? 0;
        return Math.abs(Number(number) - shown) <= 0.5001 / 10 ** digits;
    };
    return [...document.querySelectorAll("main [data-model]")]
        .filter((shown) => !same(shown.textContent, at(shown.dataset.model), shown.dataset.unit))
        .map((shown) => `${shown.dataset.model}: ${shown.textContent}, not ${JSON.stringify(at(shown.dataset.model))}`)
        .join("\n");
})()"#;

#[test]
fn every_panel_shows_the_numbers_of_the_model() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    script::history(&mut client, 60);
    drain.set_faults("status=503:n=1").expect("a fault");
    let again = [app("seq=1"), app("seq=2"), app("seq=5")];
    let id = "0123456789ABCDEF0123456789ABCDEF";
    assert_eq!([0, 1, 2].map(|_| client.send_as(id, "d.1", &again)), [503, 204, 204]);
    client.post("F", "", 7, b"12 nonsense");

    let window = open(&drain, "/");
    let least =
        [("overview", 60), ("dynos", 20), ("samples", 30), ("errors", 35), ("delivery", 120), ("faults", 1)];
    for (tab, least) in least {
        window.click(&format!("nav a[data-tab={tab}]"));
        window.until(&format!("document.body.dataset.tab === '{tab}' && document.querySelectorAll('main [data-model]').length >= {least}"));
        window.until("document.querySelector('#status').dataset.state === 'live'");
        let mut differences = window.text(DIFFERENCES);
        for _ in 0..5 {
            if differences.is_empty() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(500)); // the next tick
            differences = window.text(DIFFERENCES);
        }
        assert_eq!(differences, "", "{tab}");
    }
    let shown = |pointer: &str| format!("document.querySelector('[data-model=\"{pointer}\"]').textContent");
    window.click("nav a[data-tab=delivery]");
    window.until("document.querySelector('#retries')");
    for (pointer, wanted) in [
        ("/model/delivery/retries/recovered", "1"),
        ("/report/duplicates", "1"),
        ("/report/sequence/web.1/missing", "2"),
        ("/report/losses/lines", "12"),
        ("/model/parity/parsers/R9/missed", "0"),
    ] {
        assert_eq!(window.text(&shown(pointer)), wanted, "{pointer}");
    }
    let bad = window.text("document.querySelectorAll('#parity tr.bad').length");
    assert_eq!(bad, "0", "{}", window.text("document.querySelector('#parity').innerText"));
    clean(&window);
}

#[test]
fn switches_put_faults_in_force_and_take_them_out() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=faults");
    window.click("[data-fault='status=503']");
    window.until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'true'");
    assert_eq!(client.send("d.1", &[app("x")]), 503);
    window.until("document.querySelector('#in-force td').textContent === '1'");
    window.text("document.querySelector('#fault-spec').value = 'nonsense'");
    window.text("document.querySelector('#fault-form').requestSubmit()");
    window.until("document.querySelector('#fault-problem').textContent.includes('expected')");
    window.click("[data-fault-clear]");
    window.until("document.querySelector(\"[data-fault='status=503']\").ariaPressed === 'false'");
    assert_eq!(client.send("d.1", &[app("x")]), 204);
    let complaints = window.complaints(); // a refused request is told on the console
    assert!(complaints.iter().all(|complaint| complaint.contains("400 (Bad Request)")), "{complaints:?}");
}

#[test]
fn the_page_reads_at_360_and_1440_in_both_themes_and_by_keyboard() {
    let drain = drain();
    let window = open(&drain, "/");
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/page");
    window.until("document.querySelectorAll('.empty').length >= 3");
    window.shot(&dir.join("empty-1440-light.png"));
    let mut client = Client::connect(&drain);
    script::history(&mut client, 90);
    for (width, height) in [(360, 780), (1440, 900)] {
        for theme in ["light", "dark"] {
            window.look(width, height, theme);
            for tab in ["overview", "tail", "dynos", "samples", "errors", "delivery", "faults"] {
                window.click(&format!("nav a[data-tab={tab}]"));
                window.until("document.querySelector('main [data-model], main #lines li, main button')");
                window.until(&format!("'{tab}' !== 'tail' || {LINES} > 50"));
                let overflow = window.text("document.documentElement.scrollWidth - innerWidth");
                assert!(
                    overflow.parse::<i32>().expect("a number") <= 0,
                    "{tab} is {overflow} px too wide at {width}"
                );
                let below = "(list => list.scrollHeight - list.scrollTop - list.clientHeight)(document.querySelector('#lines'))";
                window.until(&format!("'{tab}' !== 'tail' || {below} < 2")); // it follows the youngest line
                window.shot(&dir.join(format!("{tab}-{width}-{theme}.png")));
            }
        }
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
