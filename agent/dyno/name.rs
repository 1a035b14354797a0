//! Names of dynos (`web.1` on Cedar, `web-12a34b56d-e78f9` on Fir) and of Procfile entries.

/// The process type in a dyno's name: `web` for `web.1` (Cedar) and for `web-12a34b56d-e78f9` (Fir; Dev Center,
/// "Dyno Startup Behavior").
pub(crate) fn process_type(dyno: &str) -> &str {
    let fir = || dyno.rsplitn(3, '-').nth(2).unwrap_or(dyno);
    dyno.split_once('.').map_or_else(fir, |(cedar, _)| cedar)
}

/// Whether the platform that gave the dyno this name sends lifecycle lines to Logplex itself: Cedar does.
pub(crate) fn platform_sends_lifecycle(dyno: Option<&str>) -> bool {
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    dyno.is_some_and(|dyno| dyno.rsplit_once('.').is_some_and(|(_, number)| is_number(number)))
}

/// Whether `text` is a valid name of a Procfile entry: letters, digits, `-` and `_` (Dev Center, "The Procfile", and
/// what the platform accepts beyond it). The name becomes a file name, so it must contain nothing else.
pub(crate) fn is_entry_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn process_types_are_found_in_names_of_both_generations() {
        let is_web = |dyno: &str| process_type(dyno) == "web";
        let dynos = ["web.1", "run.9157", "web-12a34b56d-e78f9", "web-admin.1", "web-admin-12a34b56d-e78f9"];
        assert_eq!(dynos.map(is_web), [true, false, true, false, false]);
    }

    #[test]
    fn only_cedar_sends_lifecycle_lines() {
        for (dyno, expected) in [
            (Some("web.1"), true),
            (Some("web-12a34b56d-e78f9"), false),
            (Some("web."), false),
            (None, false),
        ] {
            assert_eq!(platform_sends_lifecycle(dyno), expected, "{dyno:?}");
        }
    }
}
