//! The tabs and their panels.

mod application;
mod delivery;
mod dynos;
mod errors;
mod faults;
mod overview;
mod samples;

use super::panel::Panel;
use super::view::View;
use maud::{Markup, html};

/// A tab of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Overview,
    Tail,
    Dynos,
    Application,
    Samples,
    Errors,
    Delivery,
    Faults,
}

impl Tab {
    pub(crate) const ALL: [Self; 8] = [
        Self::Overview,
        Self::Tail,
        Self::Dynos,
        Self::Application,
        Self::Samples,
        Self::Errors,
        Self::Delivery,
        Self::Faults,
    ];

    /// The name in URLs and ids.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Tail => "tail",
            Self::Dynos => "dynos",
            Self::Application => "application",
            Self::Samples => "samples",
            Self::Errors => "errors",
            Self::Delivery => "delivery",
            Self::Faults => "faults",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Tail => "Live tail",
            Self::Dynos => "Dynos",
            Self::Application => "Application",
            Self::Samples => "Memory and CPU",
            Self::Errors => "Errors",
            Self::Delivery => "Delivery",
            Self::Faults => "Faults",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tab| tab.name() == name)
    }

    /// Like [`Tab::from_name`]; the overview for unknown names.
    pub(crate) fn from_name_or_default(name: &str) -> Self {
        Self::from_name(name).unwrap_or(Self::Overview)
    }
}

/// Renders the panels of a tab. The live tail has none: it is part of the layout.
pub(crate) fn render(tab: Tab, view: &View) -> Markup {
    let panels: &[Panel] = match tab {
        Tab::Overview => overview::PANELS,
        Tab::Tail => return html! {},
        Tab::Dynos => dynos::PANELS,
        Tab::Application => application::PANELS,
        Tab::Samples => samples::PANELS,
        Tab::Errors => errors::PANELS,
        Tab::Delivery => delivery::PANELS,
        Tab::Faults => return faults::render(view),
    };
    html! {
        @if let Some(counted) = view.at("/filter/counted") {
            p.note.filtered id="filtered" {
                "Filtered: counted from the " (super::format::Unit::Count.show(counted.get("looked_at")))
                " lines that were held since the filter was set; "
                (super::panel::value(view, "/filter/counted/lines", super::format::Unit::Count)) " of them pass."
            }
        }
        div.panels {
            @if tab == Tab::Errors { (errors::codes(view)) }
            @for panel in panels { (panel.render(view)) }
            @if tab == Tab::Delivery { (delivery::parity(view)) }
        }
    }
}
