//! The values on the page: equal to what the test sent, and to `/model.json`.

use crate::{address, app_frame, assert_no_browser_errors, drain, drain_with_platform, open, open_tab};
use std::collections::BTreeMap;
use std::thread::sleep;
use std::time::{Duration, Instant};
use tailrace::frame::Timestamp;
use tailrace_page::browser::{TIMEOUT, Window};
use tailrace_page::client::{Client, frame};
use tailrace_page::expected::{Expected, Request};
use tailrace_page::script::{self, TOKENS};

const PLATFORM: &str = TOKENS[0];
const AGENT: &str = TOKENS[1];

/// Compares every value on a tab with the JSON at its pointer; returns the differences, one per line.
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

/// The text that the page shows for a JSON pointer; `nothing` if no element has that pointer.
fn shown(window: &Window, pointer: &str) -> String {
    window.evaluate(&format!(
        "document.querySelector('main [data-model=\"{pointer}\"]')?.textContent ?? 'nothing'"
    ))
}

/// The number in a text such as `12.3 kB`, in the smallest unit.
fn parse_number(text: &str) -> f64 {
    let mut parts = text.split(' ');
    let number: f64 = parts.next().unwrap_or_default().replace(',', "").parse().unwrap_or(f64::NAN);
    number
        * match parts.next() {
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

/// Compares with a tolerance: the page rounds.
fn assert_near<'a>(window: &Window, values: impl IntoIterator<Item = (&'a str, f64)>) {
    for (pointer, value) in values {
        let text = shown(window, pointer);
        let found = parse_number(&text);
        let tolerance = (value.abs() * 0.02).max(0.06);
        assert!((found - value).abs() <= tolerance, "{pointer}: shown {text}, expected {value}");
    }
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let values: Vec<f64> = values.collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The sum of the values of one series in the table below a chart. Opens the table and waits for its rows.
fn chart_sum(window: &Window, id: &str, inside: &str) -> u64 {
    window.evaluate(&format!("document.querySelector('#{id}-values').open = true"));
    let cells = format!(
        "[...document.querySelectorAll('#{id}-values [data-model$=\"{inside}\"]:not([data-model*=\"/width\"])')]"
    );
    window.wait_until(&format!("{cells}.length > 0"));
    let sum = format!(
        "{cells}.map((cell) => Number(cell.textContent.replaceAll(',', '')) / Number(cell.dataset.scale ?? 1))\
         .reduce((sum, value) => sum + value, 0).toFixed(2)"
    );
    window.evaluate(&sum).trim_end_matches(".00").parse().expect("a whole number")
}

fn total_frames(expected: &Expected) -> u64 {
    expected.frames.values().flat_map(BTreeMap::values).sum()
}

fn error_lines(expected: &Expected) -> u64 {
    expected.errors.values().sum()
}

#[test]
fn every_panel_shows_what_was_sent() {
    let drain = drain_with_platform(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    let expected = script::send_history(&mut client, 60);
    let all = total_frames(&expected);

    let window = open(&drain, "/");
    window.wait_until(&format!("document.querySelector('#frames').textContent === '{}'", thousands(all)));
    assert_eq!(window.evaluate("document.querySelector('#held').textContent"), thousands(all));
    overview(&window, &expected);
    open_tab(&window, "dynos");
    dynos(&window, &expected);
    open_tab(&window, "application");
    application(&window, &expected);
    open_tab(&window, "samples");
    samples(&window, &expected);
    open_tab(&window, "errors");
    errors(&window, &expected);
    open_tab(&window, "delivery");
    delivery(&window, &expected);
    assert_no_browser_errors(&window);
}

fn overview(window: &Window, expected: &Expected) {
    let of_dyno =
        |dyno: &'static str, status: u16| expected.count_requests(|r| r.dyno == dyno && r.status == status);
    let failed = expected.count_requests(|request| request.status != 200);
    assert_counts(
        window,
        [
            ("/report/lines", expected.count_frames(AGENT, |app, _| app == "app")),
            ("/came", total_frames(expected)),
            ("/report/losses/lines", expected.lost[AGENT]),
            ("/model/overview/all/requests", expected.requests.len() as u64),
            ("/model/overview/distinct", expected.requests.len() as u64),
            ("/model/overview/all/failed", expected.count_requests(|request| request.status >= 400)),
            ("/model/overview/all/not_200", failed),
            (
                "/model/overview/by_path/~1slow/not_200",
                expected.count_requests(|request| request.path == "/slow"),
            ),
            ("/model/overview/by_status/404", expected.count_requests(|request| request.status == 404)),
            ("/model/overview/by_dyno/web.1/by_status/404", of_dyno("web.1", 404)),
            ("/model/overview/by_dyno/web.2/by_status/404", of_dyno("web.2", 404)),
            ("/model/overview/by_dyno/web.1/by_status/503", of_dyno("web.1", 503)),
            ("/model/lines/by_component/heroku[router]/part", expected.errors["heroku[router]"]),
            ("/model/lines/by_app/app/part", expected.errors["app[worker.1]"]),
        ],
    );
    let requests = || expected.requests.iter();
    let max = |of: fn(&Request) -> u64| requests().map(of).max().unwrap_or_default() as f64;
    let memory = &expected.samples[&("web.1".to_owned(), "memory_total")];
    let last = *memory.last().expect("a memory sample");
    assert_near(
        window,
        [
            ("/model/overview/all/service/mean", mean(requests().map(|request| request.service as f64))),
            ("/model/overview/all/service/max", max(|request| request.service)),
            ("/model/overview/all/connect/mean", mean(requests().map(|request| request.connect as f64))),
            ("/model/overview/all/connect/max", max(|request| request.connect)),
            ("/model/overview/all/size/mean", mean(requests().map(|request| request.bytes as f64))),
            ("/model/overview/all/bytes", requests().map(|request| request.bytes as f64).sum()),
            (
                "/model/lines/all/percent",
                error_lines(expected) as f64 / total_frames(expected) as f64 * 100.0,
            ),
            ("/model/samples/by_source/web.1/metrics/memory_total/now", last * 1e6),
            (
                "/model/samples/by_source/web.1/metrics/memory_total/average",
                mean(memory.iter().copied()) * 1e6,
            ),
            ("/model/samples/by_source/web.1/metrics/load_avg_15m/average", 0.21),
        ],
    );
    overview_charts(window, expected);
}

fn overview_charts(window: &Window, expected: &Expected) {
    let failed = expected.count_requests(|request| request.status != 200);
    let slowest = "document.querySelector('#slowest-1-table th[scope=row]').textContent";
    assert_eq!(window.evaluate(slowest), "/slow");
    let failed_paths = expected.requests.iter().filter(|request| request.status != 200);
    let failed_paths: std::collections::BTreeSet<_> = failed_paths.map(|request| request.path).collect();
    let rows = window.evaluate("document.querySelectorAll('#failed tbody tr').length");
    assert_eq!(rows, failed_paths.len().to_string());
    // Rates leave out the current bucket: wait until the last second has ended.
    window.evaluate("document.querySelector('#requests-1-values').open = true");
    window.wait_until("document.querySelectorAll('#requests-1-values tbody tr').length >= 60");
    assert_eq!(chart_sum(window, "requests-1", "/requests"), expected.requests.len() as u64);
    assert_eq!(chart_sum(window, "requests-1", "/failed"), failed);
    assert_eq!(
        chart_sum(window, "status-0", "/404"),
        expected.count_requests(|request| request.status == 404)
    );
}

fn dynos(window: &Window, expected: &Expected) {
    let event = |what: &str| expected.events[what];
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
    assert_eq!(chart_sum(window, "launches-1", "/crashed"), event("crashed"));
}

fn application(window: &Window, expected: &Expected) {
    let event = |what: &str| expected.events[what];
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
    assert_eq!(chart_sum(window, "deploys-1", "/dev@example.com"), event("deploys"));
}

fn samples(window: &Window, expected: &Expected) {
    let memory = &expected.samples[&("web.1".to_owned(), "memory_total")];
    let rss: Vec<f64> =
        expected.samples[&("worker.1".to_owned(), "memory_rss")].iter().map(|mb| mb * 1e6).collect();
    let at = "/model/samples/by_source/worker.1/metrics/memory_rss";
    let highest = rss.iter().copied().fold(0.0, f64::max);
    assert_near(
        window,
        [(&*format!("{at}/average"), mean(rss.iter().copied())), (&format!("{at}/max"), highest)],
    );
    let percent = mean(memory.iter().map(|total| total / 512.0 * 100.0));
    assert_near(window, [("/model/samples/by_source/web.1/quota_percent/average", percent)]);
}

fn errors(window: &Window, expected: &Expected) {
    for (code, count) in &expected.codes {
        assert_counts(window, [(&*format!("/model/errors/by_code/{code}"), *count)]);
        assert_eq!(chart_sum(window, "platform-errors-1", &format!("/{code}")), *count, "{code}");
    }
    assert_counts(
        window,
        [
            ("/model/lines/all/part", error_lines(expected)),
            ("/model/errors/total", expected.codes.values().sum()),
            ("/model/app_errors/total", expected.errors["app[worker.1]"]),
            ("/model/overview/by_client/198.51.100.4/errors", expected.codes["H12"]),
        ],
    );
    for (component, count) in &expected.errors {
        assert_counts(window, [(&*format!("/model/lines/by_component/{component}/part"), *count)]);
    }
    let lines = window.evaluate("document.querySelectorAll('#platform-lines tbody tr').length");
    assert_eq!(lines, expected.codes.values().sum::<u64>().min(25).to_string());
}

fn delivery(window: &Window, expected: &Expected) {
    let row = |token: &str, field: &str| format!("/model/delivery/tokens/{token}/{field}");
    let platform = format!("{PLATFORM} (platform)");
    assert_counts(
        window,
        [
            ("/report/requests", expected.deliveries[AGENT]),
            ("/report/accepted", expected.deliveries[AGENT]),
            ("/report/by_status/204", expected.deliveries[AGENT]),
            ("/model/requests/closed", 0),
            ("/report/losses/lines", expected.lost[AGENT]),
            ("/numbered/lines", 60),
            ("/numbered/missing", 0),
            ("/report/out_of_order", 0),
            (&row(AGENT, "requests"), expected.deliveries[AGENT]),
            (&row(AGENT, "frames"), expected.count_frames(AGENT, |_, _| true)),
            (&row(AGENT, "lost"), expected.lost[AGENT]),
            (&row(&platform, "requests"), expected.deliveries[PLATFORM]),
            (&row(&platform, "taken"), expected.deliveries[PLATFORM]),
            (&row(&platform, "frames"), expected.count_frames(PLATFORM, |_, _| true)),
            (&row(&platform, "lost"), expected.lost[PLATFORM]),
            ("/model/parity/parsers/R16/missed", 0),
        ],
    );
    assert_eq!(shown(window, "/model/delivery/agents/web.1/pairs/held"), "12");
    assert!(
        parse_number(&shown(window, "/model/parity/parsers/R16/matched")) > 0.0,
        "the parsers are checked against the platform's lines"
    );
    let bad = window.evaluate("document.querySelectorAll('#parity tr.bad').length");
    assert_eq!(bad, "0", "{}", window.evaluate("document.querySelector('#parity').innerText"));
}

/// Retries: the page is up to one tick behind the JSON, and the counts of idle connections change over time.
fn assert_equals_model_json(window: &Window, label: &str) {
    let begun = Instant::now();
    let mut differences = window.evaluate(DIFFERENCES);
    while !differences.is_empty() && begun.elapsed() < TIMEOUT {
        sleep(Duration::from_millis(100));
        differences = window.evaluate(DIFFERENCES);
    }
    assert_eq!(differences, "", "{label}");
}

/// Opens every table of values; true once each has its content. A later tick can bring a panel with a table that is
/// still closed, hence each evaluation opens them all.
const ALL_VALUES_UNFOLDED: &str = "[...document.querySelectorAll('main details')]
    .map((details) => { details.open = true; return details; })
    .every((details) => !details.id.endsWith('-values') || details.querySelector('td'))";

#[test]
fn every_value_on_the_page_equals_model_json() {
    let drain = drain_with_platform(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    script::send_history(&mut client, 60);
    drain.set_faults("status=503:n=1").expect("a fault");
    let again = [app_frame("seq=1"), app_frame("seq=2"), app_frame("seq=5")];
    let id = "0123456789ABCDEF0123456789ABCDEF";
    assert_eq!([0, 1, 2].map(|_| client.send_with_id(id, "d.1", &again)), [503, 204, 204]);
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
        window.navigate(&address(&drain, &format!("/?tab=overview{query}")));
        for (tab, least) in least {
            open_tab(&window, tab);
            let least = if query.is_empty() { least } else { 1 };
            let enough = format!("document.querySelectorAll('main [data-model]').length >= {least}");
            window.wait_until(&format!("{ALL_VALUES_UNFOLDED} && {enough}"));
            assert_equals_model_json(&window, &format!("{tab}{query}"));
        }
    }
    window.navigate(&address(&drain, "/?tab=delivery"));
    open_tab(&window, "delivery");
    for (pointer, expected) in [
        ("/model/requests/retries/recovered", "1"),
        ("/report/duplicates", "1"),
        ("/model/delivery/repeated", "3"),
        ("/report/sequence/web.1/missing", "2"),
        ("/model/requests/conformance/LEN leads to the next frame/broken", "1"),
        ("/model/requests/connections/(none)/opened", "nothing"),
    ] {
        assert_eq!(shown(&window, pointer), expected, "{pointer}");
    }
    // One connection; it is attributed to the drain of its first request.
    let connection = format!("/model/requests/connections/{AGENT}");
    assert_eq!(shown(&window, &format!("{connection}/opened")), "1");
    assert_eq!(shown(&window, &format!("{connection}/tls")), "TLS 1.3 × 1");
    assert_eq!(shown(&window, &format!("{connection}/alpn")), "none × 1");
    assert!(shown(&window, &format!("{connection}/auth")).starts_with("path × "));
    assert_no_browser_errors(&window);
}

/// Selects a value in a field of the filter, once it is offered.
fn choose(window: &Window, field: &str, value: &str) {
    window.wait_until(&format!("document.querySelector('[name={field}] [value=\"{value}\"]')"));
    window.set_value(&format!("[name={field}]"), value);
}

/// Waits until the page shows this number of frames.
fn wait_for_frames(window: &Window, count: u64) {
    window.wait_until(&format!(
        "document.querySelector('main [data-model=\"/came\"]')?.textContent === '{}'",
        thousands(count)
    ));
}

#[test]
fn a_filter_restricts_every_count() {
    let drain = drain_with_platform(Some(PLATFORM));
    let mut client = Client::connect(&drain);
    let mut expected = script::send_history(&mut client, 40);
    let window = open(&drain, "/");
    wait_for_frames(&window, total_frames(&expected));

    choose(&window, "proc", "web.1");
    let to_web_1 = expected.count_requests(|request| request.dyno == "web.1");
    let of_web_1 = |token: &str| expected.count_frames(token, |_, proc_id| proc_id == "web.1");
    wait_for_frames(&window, of_web_1(AGENT) + of_web_1(PLATFORM) + to_web_1);
    assert_counts(
        &window,
        [
            (
                "/report/lines",
                expected.count_frames(AGENT, |app, proc_id| app == "app" && proc_id == "web.1"),
            ),
            ("/model/overview/all/requests", to_web_1),
        ],
    );
    assert_eq!(shown(&window, "/model/samples/by_source/web.2/metrics/memory_total/now"), "nothing");
    assert!(window.evaluate("location.search").contains("proc=web.1"), "the filter is part of the URL");

    // New frames are counted under the same filter.
    script::send_second(&mut client, &mut expected, 41, Timestamp::now().as_micros() - 45_000);
    let to_web_1 = expected.count_requests(|request| request.dyno == "web.1");
    window.wait_until(&format!(
        "document.querySelector('main [data-model=\"/model/overview/all/requests\"]').textContent === '{to_web_1}'"
    ));

    choose(&window, "proc", "");
    choose(&window, "token", PLATFORM);
    wait_for_frames(&window, expected.count_frames(PLATFORM, |_, _| true));
    assert_counts(&window, [("/model/overview/all/requests", expected.requests.len() as u64)]);
    open_tab(&window, "delivery");
    assert_counts(
        &window,
        [("/report/losses/lines", expected.lost[PLATFORM]), ("/report/requests", expected.deliveries[AGENT])],
    );
    window.wait_until("document.querySelector('#answers .whole')?.textContent.includes('Not filtered')");
    open_tab(&window, "overview");

    choose(&window, "token", AGENT);
    wait_for_frames(&window, expected.count_frames(AGENT, |_, _| true));
    window.wait_until("document.querySelector('#requests .empty')");
    window.click("#no-filter");
    wait_for_frames(&window, total_frames(&expected));

    choose(&window, "app", "heroku");
    let of_heroku = |token: &str| expected.count_frames(token, |app, _| app == "heroku");
    wait_for_frames(&window, of_heroku(AGENT) + of_heroku(PLATFORM));
    assert_no_browser_errors(&window);
}

#[test]
fn a_dyno_is_current_while_its_samples_arrive() {
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
        assert!(begun.elapsed() < TIMEOUT, "{}", shown(&window, "/current_dynos"));
        sleep(Duration::from_millis(100));
    }
    assert_no_browser_errors(&window);
}

#[test]
fn an_empty_panel_says_what_will_appear() {
    let drain = drain();
    let window = open(&drain, "/?tab=errors");
    window.wait_until("document.querySelectorAll('.empty').length >= 4");
    let mut client = Client::connect(&drain);
    client.send("d.1", &[app_frame("an error of the app, and none of the platform")]);
    window.wait_until(
        "document.querySelector('main [data-model=\"/model/lines/all/part\"]')?.textContent === '1'",
    );
    open_tab(&window, "dynos");
    let states = window.evaluate("document.querySelector('#launches').innerText");
    assert!(states.contains("TAILRACE_LIFECYCLE"), "{states}");
    assert_no_browser_errors(&window);
}
