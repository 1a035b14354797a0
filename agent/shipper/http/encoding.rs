//! gzip bodies (RFC 1952) for drains that take them.

use crate::shipper::verdict::Verdict;
use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

/// Measured on framed log lines of 250 bytes, bodies of 512 KiB, against level 6 of zlib-rs on the same machine:
///
/// | | CPU | bytes |
/// |---|---|---|
/// | zlib-rs 1 | 0.30 | 1.61 |
/// | zlib-rs 2 | 0.53 | 1.20 |
/// | libdeflate 1 | 0.44 | 1.16 |
/// | libdeflate 2 | 0.60 | 1.19 |
const LEVEL: i32 = 1;

/// A compressor whose state is made once.
pub struct Gzip {
    state: Compressor,
}

impl Gzip {
    /// Allocates the state.
    #[expect(clippy::new_without_default, reason = "it costs memory: made where it is needed")]
    pub fn new() -> Self {
        let level = CompressionLvl::new(LEVEL).unwrap_or_default();
        Self { state: Compressor::new(level) }
    }

    /// One complete gzip member that holds `body`.
    ///
    /// # Panics
    /// When libdeflate needs more room than it says, which nothing outside can bring about.
    pub fn compress(&mut self, body: &[u8]) -> Vec<u8> {
        // Zeroed by the system, and touched only as far as the output goes: log lines shrink to a fifth or less.
        let mut out = vec![0; self.state.gzip_compress_bound(body.len())];
        let len = self.state.gzip_compress(body, &mut out).expect("as much room as the library asked for");
        out.truncate(len);
        out.shrink_to_fit();
        out
    }
}

impl std::fmt::Debug for Gzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gzip").finish_non_exhaustive()
    }
}

/// Whether bodies go out with gzip, and what the drain made of it.
#[derive(Debug)]
pub(super) enum ContentEncoding {
    Plain,
    Gzip(Gzip),
    /// A gzipped body was answered 400 or 415: until the next delivery or refusal it is not known why.
    Doubted(Gzip),
}

impl ContentEncoding {
    /// The body to send, and whether it is gzip.
    pub(super) fn encode(&mut self, body: &Bytes) -> (Bytes, bool) {
        match self {
            Self::Plain | Self::Doubted(_) => (body.clone(), false),
            Self::Gzip(gzip) => (gzip.compress(body).into(), true),
        }
    }

    /// A drain that takes plain what it refused with gzip does not take gzip. One that refuses both means the
    /// batch.
    pub(super) fn learn(&mut self, verdict: Verdict) {
        *self = match (std::mem::replace(self, Self::Plain), verdict) {
            (Self::Gzip(gzip), Verdict::RetryUncompressed) => Self::Doubted(gzip),
            (Self::Doubted(_), Verdict::Delivered) => Self::Plain,
            (Self::Doubted(gzip), Verdict::Reject) => Self::Gzip(gzip),
            (same, _) => same,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::{Decompress, FlushDecompress, Status};
    use proptest::prelude::*;

    fn decompress(bytes: &[u8], size: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(size + 64);
        let mut state = Decompress::new_gzip(15);
        let status = state.decompress_vec(bytes, &mut out, FlushDecompress::Finish).unwrap();
        assert_eq!(status, Status::StreamEnd);
        assert_eq!(state.total_in(), bytes.len() as u64, "bytes after the member");
        out
    }

    #[test]
    fn one_state_for_many_bodies() {
        let mut gzip = Gzip::new();
        let long: Vec<u8> = (0..40_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        for body in [&b""[..], b"83 <40>1", &long, b"x", &long] {
            let packed = gzip.compress(body);
            assert_eq!(packed[..3], [0x1f, 0x8b, 8], "RFC 1952 §2.3.1");
            assert_eq!(decompress(&packed, body.len()), body);
        }
        assert_eq!(gzip.compress(&long), gzip.compress(&long), "a retry sends the same bytes");
    }

    #[test]
    fn what_does_not_shrink_still_fits() {
        let mut seed = 1_u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let packed = Gzip::new().compress(&noise);
        assert!(packed.len() < noise.len() + noise.len() / 100);
        assert_eq!(decompress(&packed, noise.len()), noise);
    }

    proptest! {
        #[test]
        fn comes_back_whole(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..5)) {
            let mut gzip = Gzip::new();
            for body in bodies {
                prop_assert_eq!(&decompress(&gzip.compress(&body), body.len()), &body);
            }
        }
    }
}
