use super::*;
use tailrace::frame;

/// The sample lines of Dev Center and of Sumo Logic's page for Heroku, as Logplex frames them.
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

fn model(lines: &[&str]) -> Model {
    let body = body(lines);
    let frames = frame::parse_all(&body).expect("whole frames");
    let mut model = Model::default();
    let headers = Headers { count: Some(frames.len() as u64), ..Headers::default() };
    let now = 1_777_631_330_000_000;
    model.batch(
        &Batch { now, headers: &headers, token: "d.1", body: &body, frames: &frames, error: None },
        false,
    );
    model
}

#[test]
fn each_line_is_counted_where_it_belongs() {
    let model = model(&LINES);
    let overview = &model.overview;
    assert_eq!(
        (overview.all.requests, overview.distinct, overview.not_200, overview.all.failed),
        (3, 1, 3, 3)
    );
    assert_eq!((overview.by_path["/users"].requests, overview.by_dyno["(none)"].requests), (1, 1));
    assert_eq!(
        (overview.all.connect.count(), overview.all.bytes, overview.by_client["203.0.113.7"]),
        (2, 656, 3)
    );
    let web = &model.samples.by_source["web.1"];
    assert_eq!((web.now("memory_total"), web.now("load_avg_15m")), (Some(180.43), Some(0.01)));
    assert_eq!(model.samples.current, 1);
    let dyno = &model.dynos.by_dyno["web.1"];
    assert_eq!((dyno.state.as_str(), dyno.exit.as_deref(), dyno.launches.up), ("up", Some("143"), 1));
    assert_eq!((model.dynos.events.len(), model.dynos.by_user["dev@example.com"]), (3, 3));
    let codes: Vec<_> = model.errors.by_code.iter().map(|(code, count)| (code.as_str(), *count)).collect();
    assert_eq!(codes, [("H10", 1), ("H12", 1), ("L10", 1), ("R14", 1)]);
    assert_eq!((model.app_errors.total, model.app_errors.sigterm, model.errors.total), (1, 1, 5));
    let token = &model.delivery.tokens["d.1"];
    assert_eq!((token.frames, token.notices, token.lost), (14, 1, 500));
}

#[test]
fn every_published_parser_finds_its_lines() {
    let model = model(&LINES);
    for (name, found) in &model.parity.parsers {
        assert!(found.matched > 0, "{name}");
        assert_eq!((found.missed, &found.example), (0, &None), "{name}");
    }
}

#[test]
fn a_changed_line_is_missed_by_name() {
    let appended = LINES[1].to_owned() + " sample#x=1";
    let missed = model(&[&appended, "<190>1 T ip-10-0-0-1 app web.1 - hello"]);
    let names: Vec<_> = missed.parity.parsers.iter().filter(|(_, m)| m.missed > 0).map(|(n, _)| *n).collect();
    assert_eq!(names, ["P3", "R1", "R2", "R8"]);
    assert_eq!(missed.conformance.0["hostname is `host`"].last.as_deref(), Some("ip-10-0-0-1"));
}

#[test]
fn the_platforms_drain_tells_of_requests_and_dynos_and_nothing_twice() {
    let now = 1_772_600_767_089_012;
    let stamp = "2026-03-04T05:06:07.089012+00:00";
    let frame = |app: &str, proc_id: &str, text: &str| {
        let text = format!("<134>1 {stamp} host {app} {proc_id} - {text}\n");
        format!("{} {text}", text.len())
    };
    let state = frame("heroku", "web.1", "State changed from starting to up");
    let router =
        frame("heroku", "router", "at=info method=GET path=\"/\" status=200 bytes=1 connect=0ms service=3ms");
    let platform = format!("{state}{router}{}", frame("app", "web.1", "hello"));
    let agent = format!("{state}{}", frame("app", "web.1", "hello"));
    let headers = Headers::default();
    let mut model = Model::default();
    let (frames, _) = crate::tally::split(platform.as_bytes());
    let body = platform.as_bytes();
    model.platform(&Batch { now, headers: &headers, token: "d.p", body, frames: &frames, error: None });
    let (frames, _) = crate::tally::split(agent.as_bytes());
    let body = agent.as_bytes();
    model.batch(&Batch { now, headers: &headers, token: "d.a", body, frames: &frames, error: None }, true);
    let json = serde_json::to_value(&model).expect("is JSON");
    assert_eq!(json["procs"]["web.1"], 2, "only by the agent: {json:#}");
    assert_eq!(json["delivery"]["tokens"]["d.p (platform)"]["frames"], 3, "{json:#}");
    assert_eq!(json["overview"]["all"]["requests"], 1, "{json:#}");
    assert_eq!(json["dynos"]["by_dyno"]["web.1"]["launches"]["up"], 1, "{json:#}");
}

#[test]
fn a_young_dynos_line_is_nobodys_fault() {
    let line = "<134>1 T host heroku web.1 - source=web.1 dyno=heroku.0.x sample#load_avg_1m=0.00";
    let json = serde_json::to_value(model(&[line, LINES[1]])).expect("is JSON");
    let parsers = json["parity"]["parsers"].as_object().expect("are some");
    assert!(parsers.values().all(|parser| parser["missed"] == 0), "{parsers:#?}");
    assert_eq!(parsers["R8"]["matched"], 1, "{parsers:#?}");
}
