//! The platform: its generations, dyno types and time limits.

use std::fmt::Write as _;
use std::time::Duration;

/// A generation of the platform.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Generation {
    /// Slugs; an init process of the platform is PID 1; SIGTERM goes to every process; there are platform drains.
    #[default]
    Cedar,
    /// Images of Cloud Native Buildpacks; the app is PID 1 and SIGTERM goes to it only; there are no platform drains.
    Fir,
}

impl Generation {
    /// The generation of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "cedar" => Some(Self::Cedar),
            "fir" => Some(Self::Fir),
            _ => None,
        }
    }

    /// The name on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cedar => "cedar",
            Self::Fir => "fir",
        }
    }

    /// The app's directory in a dyno.
    pub fn app_dir(self) -> &'static str {
        match self {
            Self::Cedar => "/app",
            Self::Fir => "/workspace",
        }
    }

    /// The name of a dyno: `web.1` on Cedar, `web-12a34b56d-e78f9` on Fir.
    pub fn dyno_name(self, process_type: &str, number: u32) -> String {
        match self {
            Self::Cedar => format!("{process_type}.{number}"),
            Self::Fir => {
                let mut name = format!("{process_type}-");
                for length in [9, 5] {
                    for _ in 0..length {
                        write!(name, "{:x}", fastrand::u8(..16)).ok(); // writing to a String cannot fail
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
    /// Memory quota in MiB; above it R14 is logged.
    pub memory_mib: u64,
    /// Limit of processes and threads together.
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
    /// The dyno type of this name, in upper or lower case.
    pub fn from_name(name: &str) -> Option<Self> {
        SIZES.into_iter().find(|size| size.name.eq_ignore_ascii_case(name))
    }

    /// Memory quota in bytes.
    pub fn memory(self) -> u64 {
        self.memory_mib << 20
    }
}

impl Default for Size {
    fn default() -> Self {
        SIZES[2]
    }
}

/// Time limits of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Time to listen on `$PORT` (R10; Dev Center, "Error codes").
    pub boot: Duration,
    /// Time to exit after SIGTERM (R12; Dev Center, "Dyno shutdown behavior").
    pub exit: Duration,
    /// Time to respond to a request (H12; Dev Center, "Request Timeout").
    pub request: Duration,
}

impl Limits {
    /// How long the agent may deliver after SIGTERM: until 2 s before SIGKILL. `None` when the agent's default fits.
    pub fn stop_grace(&self) -> Option<Duration> {
        let margin = Duration::from_secs(2).min(self.exit / 4);
        (self.exit != Self::default().exit).then_some(self.exit.saturating_sub(margin))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { boot: Duration::from_mins(1), exit: Duration::from_secs(30), request: Duration::from_secs(30) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dyno_names_follow_the_generation() {
        assert_eq!(Generation::Cedar.dyno_name("my-worker", 2), "my-worker.2");
        let name = Generation::Fir.dyno_name("web", 1);
        let parts: Vec<usize> = name.split('-').map(str::len).collect();
        assert_eq!(parts, [3, 9, 5], "{name}");
    }

    #[test]
    fn delivery_ends_before_sigkill() {
        let grace = |exit| Limits { exit: Duration::from_secs(exit), ..Limits::default() }.stop_grace();
        assert_eq!(grace(30), None);
        assert_eq!(grace(60), Some(Duration::from_secs(58)));
        assert_eq!(grace(2), Some(Duration::from_millis(1500)));
    }

    #[test]
    fn dyno_types_are_found_by_name() {
        assert_eq!(Size::default().name, "standard-1x");
        assert_eq!(Size::from_name("Standard-2X").map(Size::memory), Some(1 << 30));
        assert_eq!(Size::from_name("huge"), None);
    }
}
