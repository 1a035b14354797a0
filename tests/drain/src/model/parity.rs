//! Parser parity: how many lines each published parser matched, and how many it missed.

use super::kind::LineKind;
use crate::parsers::{PARSERS, Parser};
use fancy_regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Most lines per kind and second that are parsed, because backtracking expressions are slow; further lines are only
/// counted.
const MAX_PER_SECOND: u32 = 20;

struct Compiled {
    parser: &'static Parser,
    expression: Regex,
    /// A named group, and the expression that its whole capture must match.
    capture_check: Option<(&'static str, Regex)>,
}

static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let compile = |text: &str| Regex::new(text).expect("a constant that a test compiles");
    let all = PARSERS.iter().map(|parser| Compiled {
        parser,
        expression: compile(parser.expression),
        capture_check: parser.capture_check.map(|(group, text)| (group, compile(&format!("^(?:{text})$")))),
    });
    all.collect()
});

/// The results of one parser.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ParserResult {
    /// Lines to which it applies and that it matched.
    pub matched: u64,
    /// Lines to which it applies and that it did not match, or from which it captured a wrong value.
    pub missed: u64,
    /// The last missed line.
    pub example: Option<String>,
    /// The published expression.
    pub expression: &'static str,
}

/// The results of all parsers.
#[derive(Clone, Debug, Serialize)]
pub struct Parity {
    /// Lines that were parsed.
    #[serde(rename = "looked_at")]
    pub parsed: u64,
    /// Lines that were not, after 20 of the same kind in the same second.
    pub skipped: u64,
    /// Results by parser name.
    pub parsers: BTreeMap<&'static str, ParserResult>,
    /// Lines of the current second.
    #[serde(skip)]
    lines_in_second: BTreeMap<LineKind, u32>,
    #[serde(skip)]
    second: u64,
}

impl Default for Parity {
    fn default() -> Self {
        let parsers = PARSERS.iter().map(|parser| {
            (parser.name, ParserResult { expression: parser.expression, ..ParserResult::default() })
        });
        Self {
            parsed: 0,
            skipped: 0,
            parsers: parsers.collect(),
            lines_in_second: BTreeMap::new(),
            second: 0,
        }
    }
}

impl Parity {
    /// Applies the parsers to a frame, without its LF, as receivers do.
    pub(crate) fn line(&mut self, kind: LineKind, frame: &Frame<'_>, raw: &[u8], second: u64) {
        if self.second != second {
            self.second = second;
            self.lines_in_second.clear();
        }
        let count = self.lines_in_second.entry(kind).or_default();
        *count += 1;
        if *count > MAX_PER_SECOND {
            self.skipped += 1;
            return;
        }
        let Ok(text) = std::str::from_utf8(raw) else { return };
        self.parsed += 1;
        let text = text.trim_end_matches('\n');
        // The first load lines of a dyno, also those of the platform, lack some averages: no parser expects that.
        let is_partial_load = kind == LineKind::Load && !text.contains("load_avg_15m=");
        for Compiled { parser, expression, capture_check } in COMPILED.iter() {
            if !parser.applies_to(kind, text) {
                continue;
            }
            let tail;
            let subject = if parser.reads_tail {
                tail = format!("{} {}[{}]: {}", frame.time, frame.app, frame.proc_id, frame.msg);
                &tail
            } else {
                text
            };
            let is_match = match capture_check {
                None => expression.is_match(subject).unwrap_or_default(),
                Some((group, check)) => {
                    let captures = expression.captures(subject).ok().flatten();
                    let found = captures.as_ref().and_then(|captures| captures.name(group));
                    found.is_some_and(|found| check.is_match(found.as_str()).unwrap_or_default())
                }
            };
            let result = self.parsers.entry(parser.name).or_default();
            if is_match {
                result.matched += 1;
            } else if !is_partial_load {
                result.missed += 1;
                result.example = Some(subject.chars().take(300).collect());
            }
        }
    }
}
