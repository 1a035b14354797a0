//! Parser parity: how many lines each published parser caught, and how many it should have caught.

use super::kind::Kind;
use crate::parsers::{PARSERS, Parser};
use fancy_regex::Regex;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::LazyLock;
use tailrace::frame::Frame;

/// Lines of one kind that are looked at per second; the others are counted only. Backtracking has its price.
const PER_SECOND: u32 = 20;

struct Compiled {
    parser: &'static Parser,
    expression: Regex,
    /// What the named group has to look like, beside that it is there.
    clean: Option<(&'static str, Regex)>,
}

static COMPILED: LazyLock<Vec<Compiled>> = LazyLock::new(|| {
    let compile = |text: &str| Regex::new(text).expect("constants that a test compiles");
    let all = PARSERS.iter().map(|parser| Compiled {
        parser,
        expression: compile(parser.expression),
        clean: parser.clean.map(|(group, text)| (group, compile(&format!("^(?:{text})$")))),
    });
    all.collect()
});

/// One parser.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Match {
    /// Lines that it was made for, and matched.
    pub matched: u64,
    /// Lines that it was made for, and did not match, or took something else from than is there.
    pub missed: u64,
    /// The last of those.
    pub example: Option<String>,
    /// The expression, as it is published.
    pub expression: &'static str,
}

/// All parsers.
#[derive(Clone, Debug, Serialize)]
pub struct Parity {
    /// Lines that were looked at.
    pub looked_at: u64,
    /// Lines beyond 20 of a kind in a second, which were not.
    pub skipped: u64,
    /// By name.
    pub parsers: BTreeMap<&'static str, Match>,
    #[serde(skip)]
    budget: BTreeMap<Kind, u32>,
    #[serde(skip)]
    second: u64,
}

impl Default for Parity {
    fn default() -> Self {
        let parsers = PARSERS
            .iter()
            .map(|parser| (parser.name, Match { expression: parser.expression, ..Match::default() }));
        Self { looked_at: 0, skipped: 0, parsers: parsers.collect(), budget: BTreeMap::new(), second: 0 }
    }
}

impl Parity {
    /// Looks at the bytes of a frame; its LF is taken off, as receivers do.
    pub(crate) fn line(&mut self, kind: Kind, frame: &Frame<'_>, raw: &[u8], second: u64) {
        if self.second != second {
            self.second = second;
            self.budget.clear();
        }
        let used = self.budget.entry(kind).or_default();
        *used += 1;
        if *used > PER_SECOND {
            self.skipped += 1;
            return;
        }
        let Ok(text) = std::str::from_utf8(raw) else { return };
        self.looked_at += 1;
        let text = text.trim_end_matches('\n');
        // A young dyno's line has not all three loads yet, also from the platform: no parser was made for it.
        let is_young = kind == Kind::Load && !text.contains("load_avg_15m=");
        for Compiled { parser, expression, clean } in COMPILED.iter() {
            if !parser.is_made_for(kind, text) {
                continue;
            }
            let tail;
            let subject = if parser.reads_tail {
                tail = format!("{} {}[{}]: {}", frame.time, frame.app, frame.proc_id, frame.msg);
                &tail
            } else {
                text
            };
            let is_match = match clean {
                None => expression.is_match(subject).unwrap_or_default(),
                Some((group, clean)) => {
                    let captures = expression.captures(subject).ok().flatten();
                    let found = captures.as_ref().and_then(|captures| captures.name(group));
                    found.is_some_and(|found| clean.is_match(found.as_str()).unwrap_or_default())
                }
            };
            let found = self.parsers.entry(parser.name).or_default();
            if is_match {
                found.matched += 1;
            } else if !is_young {
                found.missed += 1;
                found.example = Some(subject.chars().take(300).collect());
            }
        }
    }
}
