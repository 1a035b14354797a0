//! Which frames: by drain token, APP-NAME and PROCID.

use crate::model::kind::pairs;
use tailrace::frame::Frame;

/// What a request without `Logplex-Drain-Token` goes by.
pub(crate) const NONE: &str = "(none)";

/// A drain token as it is shown.
pub(crate) fn name_of(token: &str) -> &str {
    if token.is_empty() { NONE } else { token }
}

/// Empty fields let everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Filter {
    /// The drain token; [`NONE`] for frames without one.
    pub(crate) token: String,
    /// APP-NAME.
    pub(crate) app: String,
    /// PROCID; also of the dyno that a request went to, which the router's line names.
    pub(crate) proc_id: String,
}

impl Filter {
    /// Whether everything passes.
    pub(crate) fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether frames of this drain may pass.
    pub(crate) fn takes(&self, token: &str) -> bool {
        fits(&self.token, name_of(token))
    }

    /// Whether a frame passes, its drain aside.
    pub(crate) fn passes(&self, frame: &Frame<'_>) -> bool {
        fits(&self.app, frame.app) && (fits(&self.proc_id, frame.proc_id) || self.is_routed(frame))
    }

    fn is_routed(&self, frame: &Frame<'_>) -> bool {
        let is_router = frame.app == "heroku" && frame.proc_id == "router";
        is_router && pairs(frame.msg).any(|(key, value)| key == "dyno" && value == self.proc_id)
    }
}

fn fits(wanted: &str, found: &str) -> bool {
    wanted.is_empty() || wanted == found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_can_be_chosen_too() {
        let of = |token: &str| Filter { token: token.to_owned(), ..Filter::default() };
        assert!(of("").takes("") && of("").takes("d.1") && of(NONE).takes(""));
        assert!(!of(NONE).takes("d.1") && !of("d.1").takes(""));
    }

    #[test]
    fn requests_belong_to_the_dyno_that_they_went_to() {
        let of = |proc_id: &str| Filter { proc_id: proc_id.to_owned(), ..Filter::default() };
        let frame =
            |app, proc_id, msg| Frame { pri: 158, time: "", host: "host", app, proc_id, msg, total: 0 };
        let router = frame("heroku", "router", "at=info path=\"/ dyno=web.2 \" dyno=web.1 connect=1ms");
        assert!(of("web.1").passes(&router) && of("router").passes(&router) && !of("web.2").passes(&router));
        let other = frame("app", "web.2", "dyno=web.1");
        assert!(of("web.2").passes(&other) && !of("web.1").passes(&other));
    }
}
