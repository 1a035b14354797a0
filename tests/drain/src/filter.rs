//! Selects frames by drain token, APP-NAME and PROCID.

use crate::model::kind::pairs;
use tailrace::frame::Frame;

/// Stands for the token of requests without `Logplex-Drain-Token`.
pub(crate) const NO_TOKEN: &str = "(none)";

/// The name under which a drain token is shown and counted.
pub(crate) fn name_of(token: &str) -> &str {
    if token.is_empty() { NO_TOKEN } else { token }
}

/// A filter. An empty field matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The drain token; [`NO_TOKEN`] for frames without one.
    pub(crate) token: String,
    /// APP-NAME.
    pub(crate) app: String,
    /// PROCID. Lines of the router match by the dyno of their request, too.
    pub(crate) proc_id: String,
}

impl Filter {
    /// Whether the filter matches everything.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the token matches.
    pub(crate) fn passes_token(&self, token: &str) -> bool {
        matches_field(&self.token, name_of(token))
    }

    /// Whether APP-NAME and PROCID match.
    pub(crate) fn passes_frame(&self, frame: &Frame<'_>) -> bool {
        matches_field(&self.app, frame.app)
            && (matches_field(&self.proc_id, frame.proc_id) || self.is_routed_to_dyno(frame))
    }

    fn is_routed_to_dyno(&self, frame: &Frame<'_>) -> bool {
        let is_router = frame.app == "heroku" && frame.proc_id == "router";
        is_router && pairs(frame.msg).any(|(key, value)| key == "dyno" && value == self.proc_id)
    }
}

fn matches_field(expected: &str, actual: &str) -> bool {
    expected.is_empty() || expected == actual
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_without_a_token_can_be_selected() {
        let of = |token: &str| Filter { token: token.to_owned(), ..Filter::default() };
        assert!(of("").passes_token("") && of("").passes_token("d.1") && of(NO_TOKEN).passes_token(""));
        assert!(!of(NO_TOKEN).passes_token("d.1") && !of("d.1").passes_token(""));
    }

    #[test]
    fn router_lines_match_the_dyno_of_their_request() {
        let of = |proc_id: &str| Filter { proc_id: proc_id.to_owned(), ..Filter::default() };
        let frame =
            |app, proc_id, msg| Frame { pri: 158, time: "", host: "host", app, proc_id, msg, total: 0 };
        let router = frame("heroku", "router", "at=info path=\"/ dyno=web.2 \" dyno=web.1 connect=1ms");
        assert!(
            of("web.1").passes_frame(&router)
                && of("router").passes_frame(&router)
                && !of("web.2").passes_frame(&router)
        );
        let other = frame("app", "web.2", "dyno=web.1");
        assert!(of("web.2").passes_frame(&other) && !of("web.1").passes_frame(&other));
    }
}
