use super::*;
use crate::expected_loss::ExpectedLoss;
use crate::platform::Limits;
use serde_json::Value;
use tailrace_drain::stats::{Complaints, Lag, Losses, Stream};

const LAG: Lag = Lag { p50: 12.0, p95: 40.0, p99: 50.0, max: 60.0 };

fn lines(lines: u64) -> Stream {
    Stream { lines, longest: 80, lag_ms: LAG, ..Stream::default() }
}

fn run(dyno: &str, lines: u64) -> RunRecord {
    let account = DrainLedger {
        delivered_lines: lines,
        batches: 7,
        attempts: 8,
        drain: "d:1".to_owned(),
        ..DrainLedger::default()
    };
    RunRecord {
        dyno: dyno.to_owned(),
        end: RunEnd::Stopped(143),
        ledger: Some(Ok(Ledger { captured_lines: lines, agent_frames: 2, drains: vec![account] })),
        printed: Some(OutputCounts { lines, frames: lines, ..OutputCounts::default() }),
        duration: Duration::from_secs(5),
        agent_memory_kib: 3 << 10,
        expected_loss: ExpectedLoss::default(),
        was_replaced: false,
    }
}

/// One worker. The platform's drain lost 345 of its lines and two platform messages, and announced 300 messages.
fn outcome() -> Outcome {
    let named = |name: &str, stream| (name.to_owned(), stream);
    let notices = Stream { system_frames: 1, losses: Losses { notices: 1, lines: 300 }, ..Stream::default() };
    let platform = [
        named("worker.1", Stream { system_frames: 2, ..lines(12_000) }),
        named("router", Stream { system_frames: 9, longest: 200, lag_ms: LAG, ..Stream::default() }),
        named("logplex", notices),
    ];
    let agent = [named("worker.1", Stream { system_frames: 5, repeats: 4, ..lines(12_345) })];
    let streams = [("d.a".to_owned(), agent.into()), ("d.p".to_owned(), platform.into())].into();
    let mut drain = Report { frames: 12_347, requests: 20, duplicates: 2, streams, ..Report::default() };
    drain.conformance.insert("sumo".to_owned(), Complaints::default());
    let observations = Observations {
        runs: vec![run("worker.1", 12_345)],
        drain: Some(drain),
        received: BTreeMap::new(),
        platform_token: "d.p".to_owned(),
        rejected_faults: Vec::new(),
        limits: Limits::default(),
    };
    let requests =
        Requests { sent: 5, by_status: [(200, 3), (404, 1)].into(), failed: [("H13".to_owned(), 1)].into() };
    let counts = [("worker.1", 12_345, 3), ("router", 0, 10)];
    let counts = counts.map(|(name, app, platform)| (name.to_owned(), MessageCounts { app, platform }));
    Outcome {
        observations,
        requests,
        comparison: Comparison { with_agent: vec![3.0], without_agent: vec![2.5] },
        platform_messages: counts.into(),
        duration: Duration::from_millis(5_040),
    }
}

fn tailrace_streams(outcome: &mut Outcome) -> &mut BTreeMap<String, Stream> {
    let drain = outcome.observations.drain.as_mut().expect("is present");
    drain.streams.get_mut("d.a").expect("is known")
}

fn ledger(outcome: &mut Outcome) -> &mut Ledger {
    let ledger = outcome.observations.runs[0].ledger.as_mut().expect("is present");
    ledger.as_mut().expect("can be read")
}

fn account(outcome: &mut Outcome) -> &mut DrainLedger {
    &mut ledger(outcome).drains[0]
}

fn text(outcome: &Outcome) -> String {
    outcome.text(&Verdict::default())
}

fn json(outcome: &Outcome) -> Value {
    serde_json::from_str(&outcome.json(&Verdict::default())).expect("is JSON")
}

#[test]
fn the_text_report_shows_all_counts() {
    let text = text(&outcome());
    for part in [
        "\n1 dyno in 5.0 s\n",
        "dyno      status  captured  delivered  dropped  held  rejected  batches  attempts    agent\n\
         worker.1     143     12345      12345        0     0         0        7         8  3.0 MiB\n",
        "drain     source    messages  arrived  announced  unheard  repeats  longest  lag p50    p95    max\n\
         tailrace  worker.1     12345    12345          0        0        4       80    12 ms  40 ms  60 ms\n\
         platform  worker.1     12345    12000          –        –        0       80    12 ms  40 ms  60 ms\n\
         platform  heroku          13       11          –        –        0      200    12 ms  40 ms  60 ms\n\
         platform  all          12358    12011        300       47        0      200\n",
        "requests: 5 (3 × 200, 1 × 404, 1 × H13)\n",
        "receivers: 20 requests, 2 batches that came twice; objections: sumo 0\n",
        "slow-down: +0.5 ms at the median of 1 requests each",
        "All 12345 lines arrived, and no receiver objected.\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
    assert!(text.lines().all(|line| line.chars().count() <= 130), "{text}");
}

#[test]
fn both_drains_are_counted_in_the_same_way() {
    let json = json(&outcome());
    let [tailrace, platform] = [&json["drains"][0], &json["drains"][1]];
    assert_eq!((&tailrace["lag_ms"]["p99"], &tailrace["repeats"]), (&50.0.into(), &4.into()), "{json:#}");
    assert_eq!((&platform["messages"], &platform["arrived"]), (&12_358.into(), &12_011.into()), "{json:#}");
    assert_eq!(
        (&platform["unheard"], &platform["sources"][1]["name"]),
        (&47.into(), &"heroku".into()),
        "{json:#}"
    );
    // Some were announced as lost and arrived nevertheless.
    let mut outcome = outcome();
    let drain = outcome.observations.drain.as_mut().expect("is present");
    drain.streams.get_mut("d.p").and_then(|all| all.get_mut("logplex")).expect("is known").losses.lines = 350;
    assert!(text(&outcome).contains("      350       -3 "), "{}", text(&outcome));
}

#[test]
fn each_dyno_has_a_row_with_its_own_lag() {
    let mut outcome = outcome();
    outcome.observations.runs.push(run("web.1", 100));
    // A dyno without an agent sends nothing to the drain.
    outcome.observations.runs.push(RunRecord { ledger: None, ..run("clock.1", 7) });
    let slow = Lag { p50: 1.0, p95: 2.0, p99: 3.0, max: 400.0 };
    tailrace_streams(&mut outcome).insert("web.1".to_owned(), Stream { lag_ms: slow, ..lines(99) });
    let text = text(&outcome);
    for part in [
        "tailrace  web.1          100       99          –        –        0       80     1 ms   2 ms  400 ms\n",
        "tailrace  worker.1     12345    12345          –        –        4       80    12 ms  40 ms   60 ms\n",
        "tailrace  all          12445    12444          0        1        4       80\n",
        "clock.1      143   without\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
}

#[test]
fn unknown_counts_are_not_shown() {
    let mut outcome = outcome();
    outcome.observations.runs[0].printed = None;
    let text = text(&outcome);
    assert!(text.contains("tailrace  worker.1         –    12345          0        –        4 "), "{text}");
    let json = json(&outcome);
    assert!(json["drains"][0]["messages"].is_null() && json["drains"][0]["unheard"].is_null(), "{json:#}");
}

#[test]
fn a_pause_within_a_line_may_cost_one_more_message() {
    let mut outcome = outcome();
    outcome.observations.runs[0].printed.as_mut().expect("is known").stalls = 3;
    for (arrived, messages, unheard) in [(12_344, 12_345, 1), (12_347, 12_347, 0), (12_349, 12_348, -1)] {
        tailrace_streams(&mut outcome).get_mut("worker.1").expect("is known").lines = arrived;
        let json = json(&outcome);
        let summary = &json["drains"][0];
        assert_eq!(
            (&summary["messages"], &summary["unheard"]),
            (&messages.into(), &unheard.into()),
            "{json:#}"
        );
    }
}

#[test]
fn each_drain_of_a_dyno_has_a_row() {
    let mut outcome = outcome();
    outcome.observations.drain = None;
    let mut other = account(&mut outcome).clone();
    (other.drain, other.delivered_lines, other.dropped_lines) = ("d:2".to_owned(), 12_000, 345);
    other.dropped.insert("spool-full".to_owned(), 345);
    ledger(&mut outcome).drains.push(other);
    let text = text(&outcome);
    for part in [
        "dyno      drain  status  captured  delivered  dropped ",
        "worker.1  d:1       143     12345      12345        0 ",
        "worker.1  d:2       143     12345      12000      345 ",
        "dropped, worker.1 to d:2: 345 (spool-full)\n",
        "d:1: All 12345 lines arrived.\n",
        "d:2: 12345 lines accounted for: 12000 arrived, 345 dropped and announced.\n",
    ] {
        assert!(text.contains(part), "{part:?}: {text}");
    }
}

#[test]
fn held_and_refused_lines_are_not_reported_as_announced() {
    let mut outcome = outcome();
    let account = account(&mut outcome);
    (account.delivered_lines, account.held_lines, account.rejected_lines) = (12_000, 300, 45);
    let text = text(&outcome);
    let end = "12345 lines accounted for: 12000 arrived, 300 still held when their dyno ended, 45 refused by the \
               receiver.\n";
    assert!(text.ends_with(end), "{text}");
}

#[test]
fn a_single_line_is_reported_in_the_singular() {
    let mut outcome = outcome();
    (ledger(&mut outcome).captured_lines, account(&mut outcome).delivered_lines) = (1, 1);
    assert!(text(&outcome).ends_with("The line arrived, and no receiver objected.\n"));
    account(&mut outcome).delivered_lines = 0;
    account(&mut outcome).held_lines = 1;
    assert!(text(&outcome).contains("\n1 line accounted for: 0 arrived, 1 still held"), "{}", text(&outcome));
}

#[test]
fn problems_are_in_the_text_and_in_the_json_report() {
    let verdict =
        Verdict { problems: vec!["one".to_owned(), "another".to_owned()], notes: vec!["a note".to_owned()] };
    let text = outcome().text(&verdict);
    assert!(text.ends_with("\n       a note\n !     one\n !     another\n"), "{text}");
    assert!(!text.contains("lines arrived"), "{text}");
    let json: Value = serde_json::from_str(&outcome().json(&verdict)).expect("is JSON");
    assert_eq!((json["ok"].as_bool(), json["problems"][1].as_str()), (Some(false), Some("another")));
    assert_eq!(json["dynos"][0]["ledger"]["captured_lines"], 12_345);
    assert_eq!(json["drain"]["conformance"]["sumo"]["errors"], 0);
    assert_eq!(json["requests"]["by_status"]["404"], 1);
    assert_eq!(json["drains"][1]["announced"], 300);
}
