//! What a response means for the batch. Pure: a function of the status code and the body's encoding.

/// What to do with a batch after an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The drain accepted it.
    Delivered,
    /// Send it again, after the back-off.
    Retry,
    /// Retry it about once a minute: a person has to act (credentials, address).
    Hold,
    /// Too large: send each half as a batch of its own.
    Split,
    /// The drain will never accept it: count it and continue with the next batch.
    Reject,
    /// The drain may not accept gzip: send the same batch again at once, uncompressed.
    RetryUncompressed,
}

/// The encoding of a body as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentEncoding {
    /// Uncompressed, without the header `Content-Encoding`.
    Identity,
    /// `Content-Encoding: gzip`.
    Gzip,
}

/// Judges the status code of the response to a body that was sent with `encoding`.
///
/// Logplex drops a batch on every 4xx but 429 (`logplex_http_drain.erl`, `handle_response_status`). The agent keeps it
/// if time or a person can resolve the error. Redirects are not followed: the batch is retried.
pub fn judge(status: u16, encoding: ContentEncoding) -> Verdict {
    match status {
        200..=299 => Verdict::Delivered,
        400 | 415 if encoding == ContentEncoding::Gzip => Verdict::RetryUncompressed,
        // 402: a quota that somebody pays. 405, 410: the address. 421: another backend may be reached next time.
        401..=405 | 410 | 421 => Verdict::Hold,
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
    fn every_status_has_the_documented_verdict() {
        for status in 0..1000 {
            let expected = match status {
                200..300 => Verdict::Delivered,
                // 402: a quota that somebody pays. 405, 410: the address. 421: another backend may be reached next time.
                401..=405 | 410 | 421 => Verdict::Hold,
                413 => Verdict::Split,
                408 | 425 | 429 => Verdict::Retry,
                400..500 => Verdict::Reject,
                _ => Verdict::Retry,
            };
            assert_eq!(judge(status, ContentEncoding::Identity), expected, "{status}");
            let gzipped = if matches!(status, 400 | 415) { Verdict::RetryUncompressed } else { expected };
            assert_eq!(judge(status, ContentEncoding::Gzip), gzipped, "{status} to gzip");
        }
    }
}
