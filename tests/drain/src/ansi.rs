//! Terminal control sequences (ECMA-48).

use regex::Regex;
use std::borrow::Cow;
use std::sync::LazyLock;

/// CSI, OSC, the other control strings, and escapes with intermediate bytes (`ESC ( B`). Keep `ansi.js` in step.
static ESCAPE: LazyLock<Regex> = LazyLock::new(|| {
    let sequence =
        r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[PX^_][^\x1b]*(?:\x1b\\)?|[ -/]*[0-~])?";
    Regex::new(sequence).expect("a constant that a test compiles")
});

/// Removes the control sequences.
pub(crate) fn plain(text: &str) -> Cow<'_, str> {
    if memchr::memchr(0x1b, text.as_bytes()).is_none() {
        return Cow::Borrowed(text);
    }
    ESCAPE.replace_all(text, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_sequences_are_removed() {
        for (text, seen) in [
            ("plain", "plain"),
            ("\u{1b}[1;31mERROR\u{1b}[0m could not", "ERROR could not"),
            ("\u{1b}[?25lhidden\u{1b}[?25h", "hidden"),
            ("bold\u{1b}(B\u{1b}[m", "bold"),
            ("\u{1b}[38:2::1:2:3mx\u{1b}]0;title\u{7}y\u{1b}]8;;http://a\u{1b}\\z", "xyz"),
            ("\u{1b}P+q544e\u{1b}\\a\u{1b}=b\u{1b}", "ab"),
        ] {
            assert_eq!(plain(text), seen);
        }
    }
}
