//! What an answer means for the batch: pure.

/// What becomes of a batch after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The drain has it.
    Delivered,
    /// Send it again, after the back-off.
    Retry,
    /// Keep it and ask slowly: a person has to act (credentials, address).
    Hold,
    /// Too large: send each half as a batch of its own.
    Split,
    /// Refused for good: count it and go on.
    Reject,
    /// The drain may not take gzip: send the same batch again at once, plain.
    RetryUncompressed,
}

/// Judges the status code of an answer. `gzipped`: the body went out with `Content-Encoding: gzip`.
///
/// Logplex throws a batch away on every 4xx but 429 (`logplex_http_drain.erl`, `handle_response_status`); here
/// what time or a person can cure keeps it. Redirects are not followed: a drain that moved is retried.
pub fn judge(status: u16, gzipped: bool) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        400 | 415 if gzipped => Verdict::RetryUncompressed,
        401 | 403 | 404 => Verdict::Hold,
        408 | 425 | 429 => Verdict::Retry,
        413 => Verdict::Split,
        400..=499 => Verdict::Reject,
        _ => Verdict::Retry,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_verdict() {
        for status in 0..1000 {
            let expected = match status {
                200..300 => Verdict::Delivered,
                401 | 403 | 404 => Verdict::Hold,
                413 => Verdict::Split,
                408 | 425 | 429 => Verdict::Retry,
                400..500 => Verdict::Reject,
                _ => Verdict::Retry,
            };
            assert_eq!(judge(status, false), expected, "{status}");
            let gzipped = if matches!(status, 400 | 415) { Verdict::RetryUncompressed } else { expected };
            assert_eq!(judge(status, true), gzipped, "{status} to gzip");
        }
    }
}
