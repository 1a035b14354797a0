//! What the platform has to offer: its generations, and its dyno types.

use std::fmt::Write as _;
use std::time::Duration;

/// How the platform treats its dynos.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Slugs, an init of the platform, SIGTERM to every process, platform drains.
    #[default]
    Cedar,
    /// Images of Cloud Native Buildpacks, the app is PID 1 and alone gets SIGTERM, no platform drains.
    Fir,
}

impl Generation {
    /// By its name on the command line.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "cedar" => Some(Self::Cedar),
            "fir" => Some(Self::Fir),
            _ => None,
        }
    }

    /// Its name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cedar => "cedar",
            Self::Fir => "fir",
        }
    }

    /// Where the app is in a dyno.
    pub fn app_dir(self) -> &'static str {
        match self {
            Self::Cedar => "/app",
            Self::Fir => "/workspace",
        }
    }

    /// What dyno `number` of a process type is called: `web.1`, `web-12a34b56d-e78f9`.
    pub fn dyno_name(self, process_type: &str, number: u32) -> String {
        match self {
            Self::Cedar => format!("{process_type}.{number}"),
            Self::Fir => {
                let mut name = format!("{process_type}-");
                for length in [9, 5] {
                    for _ in 0..length {
                        let _infallible = write!(name, "{:x}", fastrand::u8(..16));
                    }
                    name.push('-');
                }
                name.pop();
                name
            }
        }
    }
}

/// A dyno type (Dev Center, "Dyno Types").
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Its name in `heroku ps:type`.
    pub name: &'static str,
    /// Memory in MiB, from which on R14 is said.
    pub memory_mib: u64,
    /// Processes and threads together.
    pub processes: u64,
}

/// The dyno types, smallest first.
pub const SIZES: [Size; 10] = [
    size("eco", 512, 256),
    size("basic", 512, 256),
    size("standard-1x", 512, 256),
    size("standard-2x", 1024, 512),
    size("private-s", 1024, 512),
    size("performance-m", 2560, 16_384),
    size("performance-l", 14_336, 32_768),
    size("performance-l-ram", 30_720, 24_576),
    size("performance-xl", 63_488, 32_768),
    size("performance-2xl", 129_024, 65_536),
];

const fn size(name: &'static str, memory_mib: u64, processes: u64) -> Size {
    Size { name, memory_mib, processes }
}

impl Size {
    /// By its name, in any case.
    pub fn named(name: &str) -> Option<Self> {
        SIZES.into_iter().find(|size| size.name.eq_ignore_ascii_case(name))
    }

    /// Its memory in bytes.
    pub fn memory(self) -> u64 {
        self.memory_mib << 20
    }
}

impl Default for Size {
    fn default() -> Self {
        SIZES[2]
    }
}

/// What the platform grants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// What an app may take to listen on `$PORT` (R10; Dev Center, "Error codes").
    pub boot: Duration,
    /// What a dyno may take to end after SIGTERM (R12; Dev Center, "Dyno shutdown behavior").
    pub exit: Duration,
    /// What an app may take to answer a request (H12; Dev Center, "Request Timeout").
    pub answer: Duration,
}

impl Limits {
    /// When delivery has to end after SIGTERM; nothing where the agent's own default does: 2 s before Heroku's kill.
    pub fn grace(&self) -> Option<Duration> {
        let margin = Duration::from_secs(2).min(self.exit / 4);
        (self.exit != Self::default().exit).then_some(self.exit.saturating_sub(margin))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { boot: Duration::from_mins(1), exit: Duration::from_secs(30), answer: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dynos_are_called_as_their_generation_calls_them() {
        assert_eq!(Generation::Cedar.dyno_name("my-worker", 2), "my-worker.2");
        let name = Generation::Fir.dyno_name("web", 1);
        let parts: Vec<usize> = name.split('-').map(str::len).collect();
        assert_eq!(parts, [3, 9, 5], "{name}");
    }

    #[test]
    fn delivery_ends_before_the_kill() {
        let grace = |exit| Limits { exit: Duration::from_secs(exit), ..Limits::default() }.grace();
        assert_eq!(grace(30), None);
        assert_eq!(grace(60), Some(Duration::from_secs(58)));
        assert_eq!(grace(2), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn the_default_is_in_the_table() {
        assert_eq!(Size::default().name, "standard-1x");
        assert_eq!(Size::named("Standard-2X").map(Size::memory), Some(1 << 30));
        assert_eq!(Size::named("huge"), None);
    }
}
