//! The page: what the vendors' dashboards would show, live, and what they cannot show.
//!
//! HTML is made here and escaped by maud; the script fetches fragments of it and sets text, never markup.

mod chart;
mod format;
mod panel;
mod panels;
mod shell;
mod tail;
mod view;

use crate::control::{json, typed};
use crate::server::Shared;
use bytes::Bytes;
use http_body_util::channel::Channel;
use http_body_util::{Either, Full};
use hyper::Response;
use std::convert::Infallible;
use std::sync::Arc;
use view::View;

/// An answer: all of it, or an event stream.
pub(crate) type Body = Either<Full<Bytes>, Channel<Bytes, Infallible>>;

const HTML: &str = "text/html; charset=utf-8";

/// The answer to `GET path?query`, if there is such a path.
pub(crate) fn get(shared: &Arc<Shared>, path: &str, query: &str) -> Option<Response<Body>> {
    let answer = match path {
        "/" => {
            let tab = panels::Tab::of(&parameter(query, "tab"));
            typed(HTML, shell::render(tab, &View::of(shared)).into_string())
        }
        "/page.css" => typed("text/css; charset=utf-8", include_str!("page/page.css")),
        "/page.js" => typed("text/javascript; charset=utf-8", include_str!("page/page.js")),
        "/tail.js" => typed("text/javascript; charset=utf-8", include_str!("page/tail.js")),
        "/model.json" => json(&View::of(shared).json),
        "/events" => {
            let mut response = typed("text/event-stream", "");
            *response.body_mut() = Either::Right(tail::stream(Arc::clone(shared), tail::Filter::read(query)));
            response
        }
        "/raw" => {
            let line = parameter(query, "line").parse().ok()?;
            let chunks = shared.tally().kept().since(line);
            let (_, raw) = chunks.first()?.get(line)?;
            typed("text/plain; charset=utf-8", raw.to_vec())
        }
        _ => {
            let tab = panels::Tab::named(path.strip_prefix("/panels/")?)?;
            typed(HTML, panels::render(tab, &View::of(shared)).into_string())
        }
    };
    Some(answer)
}

/// A parameter of a query; empty when it is not there.
fn parameter(query: &str, name: &str) -> String {
    let mut pairs = form_urlencoded::parse(query.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned()).unwrap_or_default()
}
