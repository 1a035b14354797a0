//! Secrets: of a drain URL nothing behind the host is shown anywhere, also when the receiver repeats all of it. That no
//! agent prints one is checked at the end of every run (`harness::SECRETS`).

use crate::harness::{Harness, SECRETS, wait_for};
use crate::scripted_receiver::{self, response};
use crate::status::{status_of, text_of};

/// Refuses with all that it was sent, in several encodings.
fn echoing_receiver() -> u16 {
    scripted_receiver::start(|request| {
        let target = request.line.split(' ').nth(1).unwrap();
        let escaped = target.replace('/', "\\/");
        let encoded = target.replace('/', "%2F").replace('=', "%3d").replace('-', "%2D");
        let headers = request.headers.iter().filter(|line| !line.starts_with("content")).cloned();
        let body = format!("no {target} {escaped} {encoded} for {}", headers.collect::<Vec<_>>().join(", "));
        response("403 Forbidden", "", &body)
    })
}

#[test]
fn no_part_of_a_url_that_the_receiver_repeats_is_shown() {
    let port = echoing_receiver();
    let url = format!(
        "http://s3cret-user:s3cret-word@127.0.0.1:{port}/bulk/s3cret-segment/tag/LOCAL-SECRET==?key=s3cret-query&tags=env:s3cret-tag"
    );
    let harness = Harness::new().set("TAILRACE_DRAIN_URL", &url).set("TAILRACE_STOP_GRACE", "1s");
    let mut agent = harness.run(&["cat"]);
    agent.feed("line\n");
    let message = agent.wait_for_message(&["at=drain-refused", "status=403", "[secret]"]);
    let status = wait_for("the answer in the status", || {
        status_of(&agent).filter(|status| status["drains"][0]["last"]["status"] == 403)
    });
    let text = text_of(&agent).unwrap();
    assert!(text.contains("last answer 403, no /[secret]/[secret]/[secret]/[secret]?[secret]"), "{text}");
    let check = harness.start(&["check"]).finish().stdout_text();
    assert!(check.contains(&format!("drain 1: http://…@127.0.0.1:{port}/…\n")), "{check}");
    assert!(check.contains("FAILED: 403 "), "{check}");
    let output = agent.finish();
    let ledger = output.ledger().value.to_string();
    for (what, shown) in [
        ("message", &message),
        ("status", &text),
        ("JSON", &status.to_string()),
        ("check", &check),
        ("ledger", &ledger),
    ] {
        for secret in SECRETS.iter().chain(&["/bulk", "/tag"]) {
            let decoded = shown.replace("%2D", "-").replace("%2F", "/");
            assert!(!shown.contains(secret) && !decoded.contains(secret), "{what}: {secret} in {shown}");
        }
    }
}
