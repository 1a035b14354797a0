//! An outlet per drain: seal, post, judge, wait.

pub mod backoff;
pub mod gzip;
pub mod https;
pub mod outlet;
pub mod tls;
pub mod verdict;
