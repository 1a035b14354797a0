//! The page: the panels of the vendors' dashboards, live, and delivery metrics that those do not have.
//!
//! The server renders all HTML; maud escapes it. The script replaces fragments and sets text, it never builds markup.

mod chart;
mod format;
mod layout;
mod panel;
mod panels;
mod series;
mod table;
mod tail;
mod view;

use crate::control::{json, typed};
use crate::filter::Filter;
use crate::server::Shared;
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::Response;
use std::convert::Infallible;
use std::sync::Arc;
use view::View;

/// The body of a response: complete, or an event stream.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";
const STYLE: &str = include_str!("page/page.css");
const PAGE: &str = include_str!("page/page.js");
const TAIL: &str = include_str!("page/tail.js");
const ANSI: &str = include_str!("page/ansi.js");
const MORPH: &str = include_str!("page/morph.js");

/// The response to `GET path?query`; `None` if there is no such path. `last` is the header `Last-Event-ID`.
/// Blocking: building a view may take a noticeable time.
pub(crate) fn get(
    shared: &Arc<Shared>,
    path: &str,
    query: &str,
    last: Option<&str>,
) -> Option<Response<Body>> {
    let view = || View::new(shared, &filter(query));
    let response = match path {
        "/" => {
            let tab = panels::Tab::from_name_or_default(&parameter(query, "tab"));
            typed(HTML, layout::render(tab, &view()).into_string())
        }
        "/page.css" => typed("text/css; charset=utf-8", STYLE),
        "/page.js" => typed(SCRIPT, PAGE),
        "/tail.js" => typed(SCRIPT, TAIL),
        "/ansi.js" => typed(SCRIPT, ANSI),
        "/morph.js" => typed(SCRIPT, MORPH),
        "/model.json" => json(&view().json),
        "/events" => {
            let mut response = typed("text/event-stream", "");
            let tail_query = tail::TailQuery::parse(query, last);
            *response.body_mut() = Either::Right(tail::stream(Arc::clone(shared), tail_query));
            response
        }
        "/raw" => {
            let line = parameter(query, "line").parse().ok()?;
            let chunks = {
                let stats = shared.stats();
                let is_current_epoch =
                    parameter(query, "epoch").parse().is_ok_and(|epoch: u64| epoch == stats.epoch());
                if is_current_epoch { stats.history().since(line) } else { Vec::new() }
            };
            typed("text/plain; charset=utf-8", chunks.first()?.raw(line)?.to_vec())
        }
        _ => {
            let tab = panels::Tab::from_name(path.strip_prefix("/panels/")?)?;
            let unfolded = parameter(query, "unfolded").split(',').map(str::to_owned).collect();
            let view = View { unfolded: Some(unfolded), ..view() };
            typed(HTML, panels::render(tab, &view).into_string())
        }
    };
    Some(response)
}

/// A parameter of a query; empty if it is absent.
fn parameter(query: &str, name: &str) -> String {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}

/// The filter in a query.
fn filter(query: &str) -> Filter {
    let parameter = |name| parameter(query, name);
    Filter { token: parameter("token"), app: parameter("app"), proc_id: parameter("proc") }
}
