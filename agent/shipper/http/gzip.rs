//! gzip bodies (RFC 1952) for drains that accept them.

use crate::shipper::verdict::{ContentEncoding, Verdict};
use bytes::Bytes;
use libdeflater::{CompressionLvl, Compressor};

/// libdeflate's level 1. Measured on framed log lines of 250 bytes, bodies of 512 KiB, relative to level 6 of zlib-rs
/// on the same machine:
///
/// | | CPU | bytes |
/// |---|---|---|
/// | zlib-rs 1 | 0.30 | 1.61 |
/// | zlib-rs 2 | 0.53 | 1.20 |
/// | libdeflate 1 | 0.44 | 1.16 |
/// | libdeflate 2 | 0.60 | 1.19 |
const GZIP_LEVEL: i32 = 1;

/// A gzip compressor. Its state is allocated once and serves all bodies.
pub struct Gzip {
    state: Compressor,
}

impl Gzip {
    /// Allocates the state.
    #[expect(clippy::new_without_default, reason = "it allocates: never to be created implicitly")]
    pub fn new() -> Self {
        let level = CompressionLvl::new(GZIP_LEVEL).unwrap_or_default();
        Self { state: Compressor::new(level) }
    }

    /// One complete gzip member that holds `body`.
    ///
    /// # Panics
    /// If the output exceeds the bound that libdeflate gave: a bug of the library, for no input.
    pub fn compress(&mut self, body: &[u8]) -> Vec<u8> {
        // Zero pages of the kernel, of which only those of the output are touched: log lines shrink to a fifth or less.
        let mut out = vec![0; self.state.gzip_compress_bound(body.len())];
        let len = self.state.gzip_compress(body, &mut out).expect("the buffer has the size of the bound");
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

/// A body as it is sent.
#[derive(Debug)]
pub(super) struct EncodedBody {
    pub(super) bytes: Bytes,
    pub(super) encoding: ContentEncoding,
}

/// Encodes bodies, with gzip until the drain is found not to accept it.
#[derive(Debug)]
pub(super) enum BodyEncoder {
    Identity,
    Gzip(Gzip),
    /// A gzipped body was refused with 400 or 415. Bodies are sent uncompressed until the next delivery or rejection
    /// shows whether gzip was the reason.
    GzipInDoubt(Gzip),
}

impl BodyEncoder {
    pub(super) fn encode(&mut self, body: &Bytes) -> EncodedBody {
        match self {
            Self::Identity | Self::GzipInDoubt(_) => {
                EncodedBody { bytes: body.clone(), encoding: ContentEncoding::Identity }
            }
            Self::Gzip(gzip) => {
                EncodedBody { bytes: gzip.compress(body).into(), encoding: ContentEncoding::Gzip }
            }
        }
    }

    /// Learns from a response. A drain that accepts uncompressed what it refused with gzip does not support gzip. If
    /// it refuses both, the batch was the reason.
    pub(super) fn observe(&mut self, verdict: Verdict) {
        *self = match (std::mem::replace(self, Self::Identity), verdict) {
            (Self::Gzip(gzip), Verdict::RetryUncompressed) => Self::GzipInDoubt(gzip),
            (Self::GzipInDoubt(_), Verdict::Delivered) => Self::Identity,
            (Self::GzipInDoubt(gzip), Verdict::Reject) => Self::Gzip(gzip),
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
    fn one_compressor_serves_many_bodies() {
        let mut gzip = Gzip::new();
        let long: Vec<u8> = (0..40_000_u32).flat_map(|n| format!("line {n}\n").into_bytes()).collect();
        for body in [&b""[..], b"83 <40>1", &long, b"x", &long] {
            let compressed = gzip.compress(body);
            assert_eq!(compressed[..3], [0x1f, 0x8b, 8], "RFC 1952 §2.3.1");
            assert_eq!(decompress(&compressed, body.len()), body);
        }
        assert_eq!(gzip.compress(&long), gzip.compress(&long), "a retry sends the same bytes");
    }

    #[test]
    fn incompressible_bodies_fit_the_output_buffer() {
        let mut seed = 1_u64;
        let noise: Vec<u8> = (0..300_000)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let compressed = Gzip::new().compress(&noise);
        assert!(compressed.len() < noise.len() + noise.len() / 100);
        assert_eq!(decompress(&compressed, noise.len()), noise);
    }

    proptest! {
        #![proptest_config(crate::tests::property_config())]

        #[test]
        fn decompression_restores_the_body(bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..5000), 1..5)) {
            let mut gzip = Gzip::new();
            for body in bodies {
                prop_assert_eq!(&decompress(&gzip.compress(&body), body.len()), &body);
            }
        }
    }
}
