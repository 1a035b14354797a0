//! What the name of a dyno says: `web.1` on Cedar, `web-12a34b56d-e78f9` on Fir.

/// `web` of `web.1` (Cedar), and of `web-12a34b56d-e78f9` (Fir; Dev Center, "Dyno Startup Behavior").
pub fn process_type(dyno: &str) -> &str {
    let of_fir = || dyno.rsplitn(3, '-').nth(2).unwrap_or(dyno);
    dyno.split_once('.').map_or_else(of_fir, |(of_cedar, _)| of_cedar)
}

/// Whether the platform that names a dyno like this tells its life itself, into a Logplex: Cedar does.
pub fn platform_sends_lifecycle(dyno: Option<&str>) -> bool {
    let numbered =
        |(_, number): (&str, &str)| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    dyno.is_some_and(|dyno| dyno.rsplit_once('.').is_some_and(numbered))
}

/// Whether this can be the name of an entry: letters, digits, `-` and `_` (Dev Center, "The Procfile", and what
/// the platform puts up with). Nothing else names a file of ours.
pub fn is_entry_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cedar_tells_it_itself() {
        for (dyno, told) in [
            (Some("web.1"), true),
            (Some("web-12a34b56d-e78f9"), false),
            (Some("web."), false),
            (None, false),
        ] {
            assert_eq!(platform_sends_lifecycle(dyno), told, "{dyno:?}");
        }
    }
}
