//! What the panels show is what was sent, as the test counted it; and it is what the JSON says.

use super::browser::{PATIENCE, Window};
use super::client::{Client, frame};
use super::expected::Sent;
use super::script::{self, TOKENS};
use crate::{address, app, clean, drain, drain_beside, open, turn_to};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tailrace::frame::Timestamp;

const PLATFORM: &str = TOKENS[0];
const OURS: &str = TOKENS[1];

/// Compares every value on a tab with the JSON at its pointer; the differences, one per line.
const DIFFERENCES: &str = r#"(async () => {
    const query = new URLSearchParams(location.search);
    const model = await (await fetch(`/model.json?${query}`)).json();
    const at = (pointer) => pointer.split("/").slice(1)
        .reduce((value, key) => value?.[key.replaceAll("~1", "/").replaceAll("~0", "~")], model);
    const scales = { B: 1, kB: 1e3, MB: 1e6, GB: 1e9, ms: 1, s: 1e3, min: 6e4, h: 3.6e6, d: 8.64e7 };
    const same = ({ textContent: text, dataset: { unit, scale, otherwise } }, found) => {
        const value = found === undefined && otherwise ? Number(otherwise) : found;
        if (value === null || value === undefined || value === "") return text === "–";
        if (Array.isArray(value)) return text === value.join(" ");
        if (typeof value === "object")
            return text === (Object.entries(value).map(([key, count]) => `${key} × ${count}`).join(", ") || "–");
        if (typeof value === "string") return text === (unit === "Time" ? value.slice(11, 19) : value);
        const [number, suffix] = text.replaceAll(",", "").split(" ");
        const shown = value * Number(scale ?? 1) / (["Bytes", "Ms"].includes(unit) ? scales[suffix] : 1);
        const digits = number.split(".")[1]?.length ?? 0;
        return Math.abs(Number(number) - shown) <= 0.5001 / 10 ** digits;
    };
    return [...document.querySelectorAll("main [data-model]")]
        .filter((shown) => !same(shown, at(shown.dataset.model)))
        .map((shown) => `${shown.dataset.model}: ${shown.textContent}, not ${JSON.stringify(at(shown.dataset.model))}`)
        .join("\n");
})()"#;

/// What is shown of a place in the JSON.
fn shown(window: &Window, pointer: &str) -> String {
    window
        .text(&format!("document.querySelector('main [data-model=\"{pointer}\"]')?.textContent ?? 'nothing'"))
}

/// The number in `12.3 kB` and the like, in its smallest unit.
fn number(text: &str) -> f64 {
    let mut words = text.split(' ');
    let number: f64 = words.next().unwrap_or_default().replace(',', "").parse().unwrap_or(f64::NAN);
    number
        * match words.next() {
            Some("kB" | "s") => 1e3,
            Some("MB") => 1e6,
            Some("min") => 6e4,
            _ => 1.0,
        }
}

fn thousands(number: u64) -> String {
    let (digits, mut out) = (number.to_string(), String::new());
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

fn assert_counts<'a>(window: &Window, counts: impl IntoIterator<Item = (&'a str, u64)>) {
    for (pointer, count) in counts {
        assert_eq!(shown(window, pointer), thousands(count), "{pointer}");
    }
}

/// Values are rounded to what is shown.
fn assert_near<'a>(window: &Window, values: impl IntoIterator<Item = (&'a str, f64)>) {
    for (pointer, value) in values {
        let text = shown(window, pointer);
        let found = number(&text);
        let near = (value.abs() * 0.02).max(0.06);
        assert!((found - value).abs() <= near, "{pointer}: {text} is shown, {value} was sent");
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sum of a column of the table below a chart, once all of it is there.
fn charted(window: &Window, id: &str, inside: &str) -> u64 {
    window.text(&format!("document.querySelector('#{id}-values').open = true"));
    let cells = format!(
        "[...document.querySelectorAll('#{id}-values [data-model$=\"{inside}\"]:not([data-model*=\"/width\"])')]"
    );
    window.until(&format!("{cells}.length > 0"));
    let sum = format!(
        "{cells}.map((cell) => Number(cell.textContent.replaceAll(',', '')) / Number(cell.dataset.scale ?? 1))\
         .reduce((sum, value) => sum + value, 0).toFixed(2)"
    );
    window.text(&sum).trim_end_matches(".00").parse().expect("a whole number")
}

fn total(sent: &Sent) -> u64 {
    sent.frames.values().flat_map(BTreeMap::values).sum()
}

fn with_error(sent: &Sent) -> u64 {
    sent.errors.values().sum()
}

#[test]
fn every_panel_shows_what_was_sent() {
    let drain = drain_beside(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    let sent = script::history(&mut client, 60);
    let all = total(&sent);

    let window = open(&drain, "/");
    window.until(&format!("document.querySelector('#frames').textContent === '{}'", thousands(all)));
    assert_eq!(window.text("document.querySelector('#held').textContent"), thousands(all));
    overview(&window, &sent);
    turn_to(&window, "dynos");
    dynos(&window, &sent);
    turn_to(&window, "application");
    application(&window, &sent);
    turn_to(&window, "samples");
    samples(&window, &sent);
    turn_to(&window, "errors");
    errors(&window, &sent);
    turn_to(&window, "delivery");
    delivery(&window, &sent);
    clean(&window);
}

fn overview(window: &Window, sent: &Sent) {
    let of_dyno = |dyno: &'static str, status: u16| sent.requested(|r| r.dyno == dyno && r.status == status);
    let failed = sent.requested(|request| request.status != 200);
    assert_counts(
        window,
        [
            ("/report/lines", sent.count(OURS, |app, _| app == "app")),
            ("/came", total(sent)),
            ("/report/losses/lines", sent.lost[OURS]),
            ("/model/overview/all/requests", sent.requests.len() as u64),
            ("/model/overview/distinct", sent.requests.len() as u64),
            ("/model/overview/all/failed", sent.requested(|request| request.status >= 400)),
            ("/model/overview/all/not_200", failed),
            ("/model/overview/by_path/~1slow/not_200", sent.requested(|request| request.path == "/slow")),
            ("/model/overview/by_status/404", sent.requested(|request| request.status == 404)),
            ("/model/overview/by_dyno/web.1/by_status/404", of_dyno("web.1", 404)),
            ("/model/overview/by_dyno/web.2/by_status/404", of_dyno("web.2", 404)),
            ("/model/overview/by_dyno/web.1/by_status/503", of_dyno("web.1", 503)),
            ("/model/lines/by_component/heroku[router]/part", sent.errors["heroku[router]"]),
            ("/model/lines/by_app/app/part", sent.errors["app[worker.1]"]),
        ],
    );
    let requests = || sent.requests.iter();
    let max = |of: fn(&super::expected::Request) -> u64| requests().map(of).max().unwrap_or_default() as f64;
    let memory = &sent.samples[&("web.1".to_owned(), "memory_total")];
    let last = *memory.last().expect("there is one");
    assert_near(
        window,
        [
            ("/model/overview/all/service/mean", mean(requests().map(|request| request.service as f64))),
            ("/model/overview/all/service/max", max(|request| request.service)),
            ("/model/overview/all/connect/mean", mean(requests().map(|request| request.connect as f64))),
            ("/model/overview/all/connect/max", max(|request| request.connect)),
            ("/model/overview/all/size/mean", mean(requests().map(|request| request.bytes as f64))),
            ("/model/overview/all/bytes", requests().map(|request| request.bytes as f64).sum()),
            ("/model/lines/all/percent", with_error(sent) as f64 / total(sent) as f64 * 100.0),
            ("/model/samples/by_source/web.1/metrics/memory_total/now", last * 1e6),
            (
                "/model/samples/by_source/web.1/metrics/memory_total/average",
                mean(memory.iter().copied()) * 1e6,
            ),
            ("/model/samples/by_source/web.1/metrics/load_avg_15m/average", 0.21),
        ],
    );
    let slowest = "document.querySelector('#slowest-1-table th[scope=row]').textContent";
    assert_eq!(window.text(slowest), "/slow");
    let failed_paths = sent.requests.iter().filter(|request| request.status != 200);
    let failed_paths: std::collections::BTreeSet<_> = failed_paths.map(|request| request.path).collect();
    let rows = window.text("document.querySelectorAll('#failed tbody tr').length");
    assert_eq!(rows, failed_paths.len().to_string());
    // Rates, so that the last second counts once it is over.
    window.text("document.querySelector('#requests-1-values').open = true");
    window.until("document.querySelectorAll('#requests-1-values tbody tr').length >= 60");
    assert_eq!(charted(window, "requests-1", "/requests"), sent.requests.len() as u64);
    assert_eq!(charted(window, "requests-1", "/failed"), failed);
    assert_eq!(charted(window, "status-0", "/404"), sent.requested(|request| request.status == 404));
}

fn dynos(window: &Window, sent: &Sent) {
    let event = |what: &str| sent.events[what];
    assert_counts(
        window,
        [
            ("/model/dynos/all/up", event("up")),
            ("/model/dynos/all/crashed", event("crashed")),
            ("/model/dynos/all/restarts", event("restarts")),
            ("/model/dynos/by_dyno/web.2/launches/crashed", event("crashed")),
            ("/model/dynos/exits/143", event("exit 143")),
            ("/model/dynos/scaling/count", event("scaled")),
            ("/model/dynos/scaling/by_user/dev@example.com/count", event("scaled")),
        ],
    );
    assert_eq!(charted(window, "launches-1", "/crashed"), event("crashed"));
}

fn application(window: &Window, sent: &Sent) {
    let event = |what: &str| sent.events[what];
    assert_counts(
        window,
        [
            ("/model/application/builds/total", event("built") + event("not built")),
            ("/model/application/builds/succeeded", event("built")),
            ("/model/application/builds/failed", event("not built")),
            ("/model/application/deploys/count", event("deploys")),
            ("/model/application/releases/count", event("releases")),
            ("/model/application/releases/by_user/dev@example.com/count", event("releases")),
        ],
    );
    assert_eq!(charted(window, "deploys-1", "/dev@example.com"), event("deploys"));
}

fn samples(window: &Window, sent: &Sent) {
    let memory = &sent.samples[&("web.1".to_owned(), "memory_total")];
    let rss: Vec<f64> =
        sent.samples[&("worker.1".to_owned(), "memory_rss")].iter().map(|mb| mb * 1e6).collect();
    let at = "/model/samples/by_source/worker.1/metrics/memory_rss";
    let highest = rss.iter().copied().fold(0.0, f64::max);
    assert_near(
        window,
        [(&*format!("{at}/average"), mean(rss.iter().copied())), (&format!("{at}/max"), highest)],
    );
    let percent = mean(memory.iter().map(|total| total / 512.0 * 100.0));
    assert_near(window, [("/model/samples/by_source/web.1/quota_percent/average", percent)]);
}

fn errors(window: &Window, sent: &Sent) {
    for (code, count) in &sent.codes {
        assert_counts(window, [(&*format!("/model/errors/by_code/{code}"), *count)]);
        assert_eq!(charted(window, "platform-errors-1", &format!("/{code}")), *count, "{code}");
    }
    assert_counts(
        window,
        [
            ("/model/lines/all/part", with_error(sent)),
            ("/model/errors/total", sent.codes.values().sum()),
            ("/model/app_errors/total", sent.errors["app[worker.1]"]),
            ("/model/overview/by_client/198.51.100.4/errors", sent.codes["H12"]),
        ],
    );
    for (component, count) in &sent.errors {
        assert_counts(window, [(&*format!("/model/lines/by_component/{component}/part"), *count)]);
    }
    let lines = window.text("document.querySelectorAll('#platform-lines tbody tr').length");
    assert_eq!(lines, sent.codes.values().sum::<u64>().min(25).to_string());
}

fn delivery(window: &Window, sent: &Sent) {
    let row = |token: &str, field: &str| format!("/model/delivery/tokens/{token}/{field}");
    let theirs = format!("{PLATFORM} (platform)");
    assert_counts(
        window,
        [
            ("/report/requests", sent.posts[OURS]),
            ("/report/accepted", sent.posts[OURS]),
            ("/report/by_status/204", sent.posts[OURS]),
            ("/model/requests/closed", 0),
            ("/report/losses/lines", sent.lost[OURS]),
            ("/numbered/lines", 60),
            ("/numbered/missing", 0),
            ("/report/out_of_order", 0),
            (&row(OURS, "requests"), sent.posts[OURS]),
            (&row(OURS, "frames"), sent.count(OURS, |_, _| true)),
            (&row(OURS, "lost"), sent.lost[OURS]),
            (&row(&theirs, "requests"), sent.posts[PLATFORM]),
            (&row(&theirs, "taken"), sent.posts[PLATFORM]),
            (&row(&theirs, "frames"), sent.count(PLATFORM, |_, _| true)),
            (&row(&theirs, "lost"), sent.lost[PLATFORM]),
            ("/model/parity/parsers/R16/missed", 0),
        ],
    );
    assert_eq!(shown(window, "/model/delivery/agents/web.1/pairs/held"), "12");
    assert!(
        number(&shown(window, "/model/parity/parsers/R16/matched")) > 0.0,
        "the platform's lines are checked"
    );
    let bad = window.text("document.querySelectorAll('#parity tr.bad').length");
    assert_eq!(bad, "0", "{}", window.text("document.querySelector('#parity').innerText"));
}

#[test]
fn every_value_on_the_page_is_the_one_of_the_json() {
    let drain = drain_beside(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    script::history(&mut client, 60);
    drain.set_faults("status=503:n=1").expect("a fault");
    let again = [app("seq=1"), app("seq=2"), app("seq=5")];
    let id = "0123456789ABCDEF0123456789ABCDEF";
    assert_eq!([0, 1, 2].map(|_| client.send_as(id, "d.1", &again)), [503, 204, 204]);
    assert_eq!(client.send("d.1", &again), 204);
    client.post("F", "", 7, b"12 nonsense");

    let window = open(&drain, "/");
    let least = [
        ("overview", 100),
        ("dynos", 20),
        ("application", 10),
        ("samples", 100),
        ("errors", 60),
        ("delivery", 200),
        ("faults", 2),
    ];
    for query in ["", "&proc=web.1"] {
        window.go(&address(&drain, &format!("/?tab=overview{query}")));
        for (tab, least) in least {
            turn_to(&window, tab);
            let least = if query.is_empty() { least } else { 1 };
            window.text(
                "document.querySelectorAll('main details').forEach((details) => { details.open = true })",
            );
            window.until(&format!("document.querySelectorAll('main [data-model]').length >= {least}"));
            window.until("[...document.querySelectorAll('main details[id$=-values]')].every((d) => d.querySelector('td'))");
            // The page is up to a tick behind the JSON, and what is told of idle connections moves by itself.
            let begun = Instant::now();
            let mut differences = window.text(DIFFERENCES);
            while !differences.is_empty() && begun.elapsed() < PATIENCE {
                sleep(Duration::from_millis(100));
                differences = window.text(DIFFERENCES);
            }
            assert_eq!(differences, "", "{tab}{query}");
        }
    }
    window.go(&address(&drain, "/?tab=delivery"));
    turn_to(&window, "delivery");
    for (pointer, wanted) in [
        ("/model/requests/retries/recovered", "1"),
        ("/report/duplicates", "1"),
        ("/model/delivery/repeated", "3"),
        ("/report/sequence/web.1/missing", "2"),
        ("/model/requests/conformance/LEN leads to the next frame/broken", "1"),
        ("/model/requests/connections/(none)/opened", "nothing"),
    ] {
        assert_eq!(shown(&window, pointer), wanted, "{pointer}");
    }
    // One connection, which belongs to the drain of its first request.
    let connection = format!("/model/requests/connections/{OURS}");
    assert_eq!(shown(&window, &format!("{connection}/opened")), "1");
    assert_eq!(shown(&window, &format!("{connection}/tls")), "TLS 1.3 × 1");
    assert_eq!(shown(&window, &format!("{connection}/alpn")), "none × 1");
    assert!(shown(&window, &format!("{connection}/auth")).starts_with("path × "));
    clean(&window);
}

#[test]
fn a_filter_counts_what_passes_and_nothing_else() {
    let drain = drain_beside(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    let mut sent = script::history(&mut client, 40);
    let window = open(&drain, "/");
    let choose = |field: &str, value: &str| {
        window.until(&format!("document.querySelector('[name={field}] [value=\"{value}\"]')"));
        window.fill(&format!("[name={field}]"), value);
    };
    let came = |count: u64| {
        window.until(&format!(
            "document.querySelector('main [data-model=\"/came\"]')?.textContent === '{}'",
            thousands(count)
        ));
    };
    came(total(&sent));

    choose("proc", "web.1");
    let to_web_1 = sent.requested(|request| request.dyno == "web.1");
    let of_web_1 = |token: &str| sent.count(token, |_, proc_id| proc_id == "web.1");
    came(of_web_1(OURS) + of_web_1(PLATFORM) + to_web_1);
    assert_counts(
        &window,
        [
            ("/report/lines", sent.count(OURS, |app, proc_id| app == "app" && proc_id == "web.1")),
            ("/model/overview/all/requests", to_web_1),
        ],
    );
    assert_eq!(shown(&window, "/model/samples/by_source/web.2/metrics/memory_total/now"), "nothing");
    assert!(window.text("location.search").contains("proc=web.1"), "the address can be kept");

    // It goes on counting.
    script::second(&mut client, &mut sent, 41, Timestamp::now().as_micros() - 45_000);
    let to_web_1 = sent.requested(|request| request.dyno == "web.1");
    window.until(&format!(
        "document.querySelector('main [data-model=\"/model/overview/all/requests\"]').textContent === '{to_web_1}'"
    ));

    choose("proc", "");
    choose("token", PLATFORM);
    came(sent.count(PLATFORM, |_, _| true));
    assert_counts(&window, [("/model/overview/all/requests", sent.requests.len() as u64)]);
    turn_to(&window, "delivery");
    assert_counts(
        &window,
        [("/report/losses/lines", sent.lost[PLATFORM]), ("/report/requests", sent.posts[OURS])],
    );
    window.until("document.querySelector('#answers .whole')?.textContent.includes('Not filtered')");
    turn_to(&window, "overview");

    choose("token", OURS);
    came(sent.count(OURS, |_, _| true));
    window.until("document.querySelector('#requests .empty')");
    window.click("#no-filter");
    came(total(&sent));

    choose("app", "heroku");
    let of_heroku = |token: &str| sent.count(token, |app, _| app == "heroku");
    came(of_heroku(OURS) + of_heroku(PLATFORM));
    clean(&window);
}

#[test]
fn a_dyno_is_current_while_it_measures_itself() {
    let drain = drain();
    let mut client = Client::connect(&drain);
    let window = open(&drain, "/?tab=dynos");
    let line = |dyno: &str| {
        let text = format!("source={dyno} dyno=heroku.1.{dyno} sample#load_avg_1m=0.20");
        frame(Timestamp::now().as_micros(), 134, &format!("heroku {dyno}"), &text)
    };
    let begun = Instant::now();
    while shown(&window, "/current_dynos") != "3" {
        client.send("d.1", &["web.1", "web.2", "worker.1"].map(line));
        assert!(begun.elapsed() < PATIENCE, "{}", shown(&window, "/current_dynos"));
        sleep(Duration::from_millis(100));
    }
    clean(&window);
}

#[test]
fn a_drain_without_requests_says_what_will_appear() {
    let drain = drain();
    let window = open(&drain, "/?tab=errors");
    window.until("document.querySelectorAll('.empty').length >= 4");
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app("an error of the app, and none of the platform")]);
    window
        .until("document.querySelector('main [data-model=\"/model/lines/all/part\"]')?.textContent === '1'");
    turn_to(&window, "dynos");
    let states = window.text("document.querySelector('#launches').innerText");
    assert!(states.contains("TAILRACE_LIFECYCLE"), "{states}");
    clean(&window);
}
