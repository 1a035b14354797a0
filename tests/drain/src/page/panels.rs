//! The tabs and their panels.

mod delivery;
mod dynos;
mod errors;
mod faults;
mod overview;
mod samples;

use super::panel::Panel;
use super::shell;
use super::view::View;
use maud::{Markup, html};

/// A tab of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tab {
    Overview,
    Tail,
    Dynos,
    Samples,
    Errors,
    Delivery,
    Faults,
}

impl Tab {
    pub(crate) const ALL: [Self; 7] =
        [Self::Overview, Self::Tail, Self::Dynos, Self::Samples, Self::Errors, Self::Delivery, Self::Faults];

    /// Its name in URLs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Overview => "overview",
            Self::Tail => "tail",
            Self::Dynos => "dynos",
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
            Self::Samples => "Memory and CPU",
            Self::Errors => "Errors",
            Self::Delivery => "Delivery",
            Self::Faults => "Faults",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tab| tab.name() == name)
    }

    /// By its name; the overview for any other.
    pub(crate) fn of(name: &str) -> Self {
        Self::named(name).unwrap_or(Self::Overview)
    }
}

/// The panels of a tab.
pub(crate) fn render(tab: Tab, view: &View) -> Markup {
    let panels: &[Panel] = match tab {
        Tab::Overview => overview::PANELS,
        Tab::Tail => return shell::tail(),
        Tab::Dynos => dynos::PANELS,
        Tab::Samples => samples::PANELS,
        Tab::Errors => errors::PANELS,
        Tab::Delivery => delivery::PANELS,
        Tab::Faults => return faults::render(view),
    };
    html! {
        div.panels {
            @if tab == Tab::Errors { (errors::named(view)) }
            @for panel in panels { (panel.render(view)) }
            @if tab == Tab::Delivery { (delivery::parity(view)) }
        }
    }
}
