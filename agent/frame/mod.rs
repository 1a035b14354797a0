//! The wire format: the one module that knows the form of a Logplex drain frame. Pure; imports nothing but itself.
//!
//! A frame is `LEN SP <PRI>1 SP TIME SP host SP app SP web.1 SP - SP MSG LF`: octet counting of
//! RFC 6587 section 3.4.1 around RFC 5424 without structured data, as Logplex writes it on HTTPS drains
//! (heroku/logplex `src/logplex_http_drain.erl`, function `rfc5424`). LEN counts the bytes from `<` up to
//! and including the one LF at the end.

mod agent_line;
mod encode;
mod field;
mod loss_notice;
mod parse;
mod timestamp;

pub use agent_line::{AgentLine, AgentLineKind};
pub use encode::Encoder;
pub use field::{Field, FieldError};
pub use loss_notice::{DropReason, Loss, LossNotices, Losses};
pub(crate) use loss_notice::{frames_from_line, frames_to_line};
pub use parse::{Frame, ParseError, ParseErrorKind, parse, parse_all, span};
pub use timestamp::{ClockStep, FrameClock, TIMESTAMP_LEN, Timestamp};

/// PRI of an app's line: local7.info, stdout and stderr alike (heroku/log-shuttle `config.go`). No other frame of ours
/// has it.
pub const PRI_APP: u8 = 190;
/// PRI of a loss notice: local5.warning, as Logplex's L10 (`src/logplex_syslog_utils.erl`).
pub const PRI_NOTICE: u8 = 172;
/// PRI of runtime samples and dyno-manager lines: local0.info (captures of 2023 and later; dyno-manager lines had 45
/// up to 2016). And of lines about the agent itself.
pub const PRI_DYNO: u8 = 134;

/// Largest prefix + message that heroku/x and Grafana Alloy accept (heroku/x `logplex/encoding/scanner.go`).
pub const MAX_FRAME: usize = 10_240;

#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;
