use super::*;
use crate::duplicates::DuplicateCounts;
use crate::measure::{BoundedMap, Peak, Share};
use crate::stats::{LossNotices, Snapshot, Stats};
use tailrace::frame::Timestamp;

/// Arrival of the lines, in µs since the Unix epoch: 2.8 s after their timestamps.
const NOW: u64 = 1_777_631_330_000_000;

/// The example lines of Dev Center and of Sumo Logic's page for Heroku, as Logplex frames them.
const LINES: [&str; 14] = [
    "<134>1 T host heroku web.1 - source=web.1 dyno=heroku.322071457.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#memory_total=180.43MB sample#memory_rss=180.05MB sample#memory_cache=0.38MB sample#memory_swap=0.00MB sample#memory_pgpgin=84329pages sample#memory_pgpgout=38140pages sample#memory_quota=512.00MB",
    "<134>1 T host heroku web.1 - source=web.1 dyno=heroku.322071457.63c5abfd-838b-4e2d-bce1-ce46de280675 sample#load_avg_1m=0.00 sample#load_avg_5m=0.00 sample#load_avg_15m=0.01",
    "<158>1 T host heroku router - at=info method=GET path=\"/users?page=2\" host=myapp.herokuapp.com request_id=5d0a2b7e-97b6-4486-a9f7-d9486f7d9009 fwd=\"203.0.113.7\" dyno=web.1 connect=1ms service=22ms status=404 bytes=656 protocol=https",
    "<158>1 T host heroku router - at=error code=H12 desc=\"Request timeout\" method=GET path=\"/slow\" host=myapp.herokuapp.com request_id=5d0a2b7e-97b6-4486-a9f7-d9486f7d9009 fwd=\"203.0.113.7, 198.51.100.4\" dyno=web.1 connect=1ms service=30001ms status=503 bytes=0 protocol=https",
    "<158>1 T host heroku router - at=error code=H10 desc=\"App crashed\" method=GET path=\"/\" host=myapp.herokuapp.com request_id=5d0a2b7e-97b6-4486-a9f7-d9486f7d9009 fwd=\"203.0.113.7\" dyno= connect= service= status=503 bytes= protocol=https",
    "<45>1 T host heroku web.1 - Error R14 (Memory quota exceeded)",
    "<172>1 T host heroku logplex - Error L10 (output buffer overflow): 500 messages dropped since 2026-05-01T10:20:00+00:00.",
    "<45>1 T host heroku web.1 - State changed from starting to up",
    "<45>1 T host heroku web.1 - Process exited with status 143",
    "<45>1 T host app api - Scaled to web@2:Standard-1X by user dev@example.com",
    "<45>1 T host app api - Deploy 7d2ed6b9 by user dev@example.com",
    "<45>1 T host app api - Release v12 created by user dev@example.com",
    "<45>1 T host app api - Build succeeded",
    "<190>1 T host app web.1 - [ERROR] Worker (pid:9) was sent SIGTERM!",
];

fn body(lines: &[&str]) -> Vec<u8> {
    let stamped = lines.iter().map(|line| line.replace(" T ", " 2026-05-01T10:28:47.153192+00:00 "));
    let framed = stamped.map(|line| format!("{} {line}\n", line.len() + 1));
    framed.collect::<Vec<_>>().concat().into_bytes()
}

/// A snapshot after each of these drains delivered its lines at `NOW`.
fn snapshot(by_drain: &[(&str, &[&str])], platform: Option<&str>) -> Snapshot {
    let mut stats = Stats::new(&[], 0).with_model().with_platform_drain(platform.map(str::to_owned));
    for (token, lines) in by_drain {
        let body = body(lines);
        let (frames, _) = crate::stats::split(&body);
        let mut end = 0;
        let received = frames.iter().map(|frame| {
            end += frame.total;
            ReceivedFrame::new(*frame, &body[end - frame.total..end])
        });
        stats.count(NOW, token, &received.collect::<Vec<_>>(), LossNotices::Counted);
    }
    let mut snapshot = stats.snapshot();
    let mut model = snapshot.model.take().expect("the stats have a model");
    model.delivery.summarize(&BoundedMap::default(), &snapshot, DuplicateCounts::default());
    snapshot.model = Some(model);
    snapshot
}

fn model(lines: &[&str]) -> Model {
    *snapshot(&[("d.1", lines)], None).model.expect("the stats have a model")
}

fn json(snapshot: &Snapshot) -> serde_json::Value {
    serde_json::to_value(&snapshot.model).expect("is JSON")
}

/// The timestamp of a line that arrives at `NOW`, `ms` late.
fn timestamp(ms: u64) -> String {
    Timestamp::from_micros(NOW - ms * 1000).to_string()
}

#[test]
fn each_kind_of_line_is_counted() {
    let model = model(&LINES);
    let overview = &model.overview;
    let all = &overview.all;
    assert_eq!((all.requests, overview.distinct, all.not_200, all.failed), (3, 1, 3, 3));
    assert_eq!((overview.by_path["/users"].requests, overview.by_dyno["(none)"].all.requests), (1, 1));
    assert_eq!((all.connect.count(), all.bytes, all.size.get()), (2, 656, Some(328.0)));
    assert_eq!(overview.by_dyno["web.1"].by_status["503"], 1);
    let clients: Vec<_> = overview
        .by_client
        .iter()
        .map(|(name, client)| (name.as_str(), client.requests, client.errors))
        .collect();
    assert_eq!(clients, [("198.51.100.4", 1, 1), ("203.0.113.7", 3, 2)]);
    let web = &model.samples.by_source["web.1"];
    assert_eq!((web.now("memory_total"), web.now("load_avg_15m")), (Some(180.43), Some(0.01)));
    assert_eq!(web.metrics["memory_rss"].average, Some(180.05));
    assert!(web.quota_percent.as_ref().is_some_and(|percent| (percent.now - 35.24).abs() < 0.01));
    assert_eq!((model.samples.current(NOW / 1_000_000), model.samples.current(NOW / 1_000_000 + 61)), (1, 0));
    assert_eq!(model.samples.over_time.buckets, [Peak(Some(1))]);
    let dyno = &model.dynos.by_dyno["web.1"];
    assert_eq!((dyno.state.as_str(), dyno.exit.as_deref(), dyno.launches.up), ("up", Some("143"), 1));
    let application = &model.application;
    assert_eq!(
        (application.builds.total, application.builds.succeeded, application.builds.failed),
        (1, 1, 0)
    );
    assert_eq!((application.deploys.count, application.releases.count, application.latest.len()), (1, 1, 4));
    assert_eq!(application.deploys.by_user["dev@example.com"].last, "Deploy 7d2ed6b9");
    assert_eq!(model.dynos.scaling.by_user["dev@example.com"].count, 1);
    let codes: Vec<_> = model.errors.by_code.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(codes, [("H10", 1), ("H12", 1), ("L10", 1), ("R14", 1)]);
    assert_eq!((model.app_errors.total, model.app_errors.sigterm), (1, 1));
    assert_eq!(model.lines.all(), Share { all: 14, part: 5 });
    assert_eq!(model.lines.by_app()["app"], Share { all: 5, part: 1 });
    assert_eq!(model.lines.by_component()["heroku[router]"], Share { all: 3, part: 2 });
    let detail = &model.errors.details[0];
    assert_eq!(
        (detail.code.as_str(), detail.text.as_str(), detail.status),
        ("H12", "Request timeout", Some(503))
    );
    let token = &model.delivery.tokens["d.1"];
    assert_eq!((token.frames, token.lines, token.notices, token.lost), (14, 1, 1, 500));
}

#[test]
fn report_and_model_have_the_same_lag() {
    let lines: Vec<String> =
        (0..200).map(|n| LINES[13].replace(" T ", &format!(" {} ", timestamp(n * n)))).collect();
    let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
    let snapshot = snapshot(&[("d.1", &lines)], None);
    let (report, json) = (serde_json::to_value(&snapshot.report).expect("is JSON"), json(&snapshot));
    assert_eq!(report["lag_ms"]["max"], 39_601.0);
    for share in ["p50", "p95", "p99", "max"] {
        let lag = &report["lag_ms"][share];
        assert_eq!(*lag, json["delivery"]["tokens"]["d.1"]["lag"][share], "{share}");
        assert_eq!(*lag, json["delivery"]["lag"]["buckets"][0][share], "{share}");
        assert_eq!(*lag, report["streams"]["d.1"]["web.1"]["lag_ms"][share], "{share}");
    }
}

#[test]
fn every_published_parser_matches_its_lines() {
    let more = [
        "<45>1 T host app api - Set A, B config vars by user dev@example.com",
        "<45>1 T host heroku web.1 - Starting process with command `bundle exec puma`",
        "<158>1 T host heroku router - sock=client at=warning code=H27 desc=\"Client Request Interrupted\" method=POST path=\"/\" host=myapp.herokuapp.com request_id=1 fwd=\"203.0.113.7\" dyno=web.1 connect=1ms service=2ms status=499 bytes= protocol=https",
        "<190>1 T host app worker.1 - done",
    ];
    let model = model(&[&LINES[..], &more].concat());
    for (name, found) in &model.parity.parsers {
        assert!(found.matched > 0, "{name}");
        assert_eq!((found.missed, &found.example), (0, &None), "{name}");
    }
    assert_eq!(model.parity.parsers["Vector"].matched, 18, "an event for each frame");
    assert_eq!(model.parity.parsers["P8"].matched, 18);
}

#[test]
fn changed_lines_are_reported_as_missed() {
    let missed = |lines: &[&str]| {
        let model = model(lines);
        let missed: Vec<_> =
            model.parity.parsers.iter().filter(|(_, m)| m.missed > 0).map(|(n, _)| *n).collect();
        missed
    };
    let appended = LINES[1].to_owned() + " sample#x=1";
    let router = LINES[2].replace("herokuapp.com", "example.com");
    let of_router = ["R11", "R12", "R13", "R14", "R15", "R16", "R17", "R18", "R20"];
    assert_eq!(missed(&[&appended]), ["R8"], "the last capture takes what was appended");
    assert_eq!(missed(&["<190>1 T ip-10-0-0-1 app web.1 - hello"]), ["P3 app", "P3 strip", "R1", "R2"]);
    assert_eq!(missed(&[&router]), of_router);
    assert_eq!(missed(&[&(LINES[7].to_owned() + " ")]), ["P3 state", "R6"]);
    assert_eq!(missed(&["<190>1 T host app my-worker.1 - hello"]), ["P8"]);
}

#[test]
fn the_platforms_drain_counts_requests_and_dynos_once() {
    let state = "<134>1 T host heroku web.1 - State changed from starting to up";
    let router = "<158>1 T host heroku router - at=info method=GET path=\"/\" status=200 bytes=1 connect=0ms service=3ms";
    let hello = "<190>1 T host app web.1 - hello";
    let by_drain: &[(&str, &[&str])] =
        &[("d.p", &[state, router, hello, LINES[5], LINES[6]]), ("d.a", &[state, hello])];
    let snapshot = snapshot(by_drain, Some("d.p"));
    let json = json(&snapshot);
    assert_eq!((snapshot.report.frames, snapshot.report.lines), (2, 1));
    assert_eq!(json["delivery"]["tokens"]["d.p (platform)"]["frames"], 5, "{json:#}");
    assert_eq!(json["overview"]["all"]["requests"], 1, "{json:#}");
    assert_eq!(json["dynos"]["by_dyno"]["web.1"]["launches"]["up"], 1, "{json:#}");
    // Error codes count in all places alike.
    assert_eq!(
        (&json["errors"]["by_code"]["L10"], &json["errors"]["by_code"]["R14"]),
        (&1.into(), &1.into())
    );
    assert_eq!(json["errors"]["details"].as_array().map(Vec::len), Some(2), "{json:#}");
    assert_eq!(json["lines"]["by_component"]["heroku[logplex]"]["part"], 1, "{json:#}");
    assert_eq!(
        (&json["lines"]["all"]["all"], &json["lines"]["all"]["part"]),
        (&5.into(), &2.into()),
        "{json:#}"
    );
    assert_eq!(json["delivery"]["tokens"]["d.p (platform)"]["lost"], 500, "{json:#}");
    assert!(
        json["parity"]["parsers"]["R16"]["missed"] == 1,
        "lines of the platform are checked too: {json:#}"
    );
}

#[test]
fn partial_load_lines_are_not_missed() {
    let line = "<134>1 T host heroku web.1 - source=web.1 dyno=heroku.0.x sample#load_avg_1m=0.00";
    let json = serde_json::to_value(model(&[line, LINES[1]])).expect("is JSON");
    let parsers = json["parity"]["parsers"].as_object().expect("parsers");
    assert!(parsers.values().all(|parser| parser["missed"] == 0), "{parsers:#?}");
    assert_eq!(parsers["R8"]["matched"], 1, "{parsers:#?}");
}
