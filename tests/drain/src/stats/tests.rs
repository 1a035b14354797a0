use super::*;
use std::time::Duration;
use tailrace::frame::{Encoder, Field, PRI_APP, Timestamp};

fn body(numbers: &[u64]) -> Vec<u8> {
    let field = Field::coerce;
    let mut encoder = Encoder::new(PRI_APP, &field("host"), &field("app"), &field("web.1"));
    let mut out = Vec::new();
    for (index, number) in numbers.iter().enumerate() {
        encoder.encode(
            &mut out,
            Timestamp::from_micros(1_772_600_767_089_012 + index as u64),
            number.to_string().as_bytes(),
        );
    }
    out
}

fn headers(id: &str, count: usize) -> Headers {
    Headers { count: Some(count as u64), id: Some(id.to_owned()), ..Headers::default() }
}

#[test]
fn repeated_batches_count_once_and_changed_ones_separately() {
    let mut stats = Stats::new(&[], 10);
    for (id, numbers) in [("a", &[1, 2, 3][..]), ("a", &[1, 2, 3]), ("a", &[9]), ("b", &[5, 4])] {
        stats.record(&headers(id, numbers.len()), &body(numbers));
    }
    let report = stats.report();
    assert_eq!((report.lines, report.duplicates, report.changed_bodies), (5, 1, 1));
    let sequence = &report.sequence["web.1"];
    assert_eq!((sequence.missing, sequence.backward, sequence.last), (1, 1, Some(5)));
    assert_eq!(report.out_of_order, 1, "the second body starts before the first one ended");
    assert_eq!(stats.lines(3, 9).0.len(), 2);
    let stream = &report.streams[""]["web.1"];
    assert_eq!((stream.lines, stream.repeats), (5, 4));
}

#[test]
fn the_platforms_drain_is_not_part_of_the_totals() {
    let mut stats = Stats::new(&Receiver::ALL, 10).with_platform_drain(Some("d.platform".to_owned()));
    for token in ["d.platform", "d.agent", "d.platform"] {
        let headers = Headers { token: Some(token.to_owned()), ..headers(token, 2) };
        stats.record(&headers, &body(&[1, 2]));
    }
    for (token, status) in [("d.platform", 204), ("d.agent", 204), ("d.platform", 503)] {
        stats.request(&Headers { token: Some(token.to_owned()), ..Headers::default() });
        let duration = Duration::ZERO;
        stats.attempt(&Attempt { ended_at: 0, token, id: None, status: Some(status), duration });
    }
    let report = stats.report();
    assert_eq!((report.requests, report.by_status.clone()), (1, [(204, 1)].into()));
    assert_eq!((report.lines, report.accepted, report.by_token.len()), (2, 1, 1));
    let stream = &report.streams["d.platform"]["web.1"];
    assert_eq!((stream.lines, stream.repeats, report.duplicates), (2, 2, 0));
    assert_eq!(report.streams["d.agent"]["web.1"].longest, 1);
    assert_eq!(stats.lines(0, 9).0.iter().filter(|line| line.token == "d.platform").count(), 2);
}

#[test]
fn platform_frames_may_lack_the_final_line_feed() {
    let notice = "<172>1 2026-03-04T05:06:07.089012+00:00 host heroku logplex - Error L10 (output buffer overflow): \
                  3 messages dropped since 2026-03-04T05:06:07.089012+00:00.";
    let mut bytes = format!("{} {notice}", notice.len()).into_bytes();
    let half = b"<190>1 2026-03-04T05:06:07.089012+00:00 host app web.1 - caf\xc3";
    bytes.extend_from_slice(format!("{} ", half.len()).as_bytes());
    bytes.extend_from_slice(half);
    let mut stats = Stats::new(&Receiver::ALL, 10).with_platform_drain(Some("d.platform".to_owned()));
    let headers = Headers { token: Some("d.platform".to_owned()), ..headers("a", 2) };
    stats.record(&headers, &bytes);
    let streams = &stats.report().streams["d.platform"];
    assert_eq!((streams["logplex"].losses.lines, streams["web.1"].lines), (3, 1));
    assert_eq!(stats.lines(0, 9).0[1].message, "caf\u{fffd}");
    let chunk = &stats.history().since(0)[0];
    assert!(chunk.raw(0).is_some_and(|raw| raw.ends_with(b"+00:00.")), "as received, without LF");
    assert!(chunk.raw(1).is_some_and(|raw| raw.ends_with(b"caf\xc3")));
}

#[test]
fn loss_notices_can_be_ignored() {
    let field = Field::coerce;
    let mut encoder = Encoder::new(frame::PRI_NOTICE, &field("host"), &field("heroku"), &field("logplex"));
    let mut bytes = Vec::new();
    encoder.encode(
        &mut bytes,
        Timestamp::from_micros(1_772_600_767_089_012),
        b"Error L10 (output buffer overflow): 3 messages",
    );
    let mut stats = Stats::new(&[], 0);
    stats.record(&headers("a", 1), &bytes);
    stats.set_loss_notices(LossNotices::Ignored);
    stats.record(&headers("b", 1), &bytes);
    assert_eq!(stats.report().losses, Losses { notices: 1, lines: 3 });
}

#[test]
fn frames_before_a_malformed_one_are_counted() {
    let mut stats = Stats::new(&Receiver::ALL, 0);
    let mut bytes = body(&[1, 2]);
    bytes.extend_from_slice(b"999 <1>");
    stats.record(&headers("a", 2), &bytes);
    let report = stats.report();
    assert_eq!((report.malformed, report.frames), (1, 2));
    assert_eq!(report.conformance["alloy"].errors, 1);
}

fn at(seconds_ahead: i64, message: &str) -> Vec<u8> {
    let field = Field::coerce;
    let mut encoder = Encoder::new(PRI_APP, &field("host"), &field("app"), &field("web.1"));
    let mut out = Vec::new();
    let now = Timestamp::now().as_micros() as i64 + seconds_ahead * 1_000_000;
    encoder.encode(&mut out, Timestamp::from_micros(now as u64), message.as_bytes());
    out
}

#[test]
fn timestamps_in_the_future_count_as_skew_without_lag() {
    let mut stats = Stats::new(&[], 0);
    for (id, ahead) in [("a", 60), ("b", 60), ("c", 60), ("d", -40)] {
        stats.record(&headers(id, 1), &at(ahead, "x"));
    }
    let report = stats.report();
    assert_eq!((report.lag_ms.p50, report.lag_ms.max >= 40_000.0), (0.0, true), "{report:?}");
    assert!(report.skewed == 3 && report.ahead_ms > 55_000.0, "{report:?}");
    assert_eq!(report.streams[""]["web.1"].lag_ms, report.lag_ms);
}

#[test]
fn the_number_of_streams_is_bounded() {
    let mut stats = Stats::new(&[], 0);
    let field = Field::coerce;
    for number in 0..5000 {
        let name = format!("run.{number}");
        let mut encoder = Encoder::new(PRI_APP, &field("host"), &field("app"), &field(&name));
        let mut out = Vec::new();
        encoder.encode(&mut out, Timestamp::from_micros(1_772_600_767_089_012), b"1");
        stats.record(&headers(&name, 1), &out);
    }
    let report = stats.report();
    let size = serde_json::to_string(&report).expect("is JSON").len();
    assert!(size < 600_000, "{size} bytes");
    assert_eq!((report.lines, report.streams[""].values().map(|stream| stream.lines).sum()), (5000, 5000));
    assert_eq!((report.untracked, report.streams[""]["(other)"].lines), (4500, 4500));
}
