//! Makes a schedule that fails as short as it still fails, and prints it.

use crate::run;
use crate::schedule::Schedule;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Schedules that are tried to find a shorter one.
const MAX_ATTEMPTS: usize = 20;

/// Carries a schedule out.
///
/// # Errors
/// What was expected and found, or the panic of a helper.
pub(crate) fn attempt(schedule: &Schedule) -> Result<(), String> {
    catch_unwind(AssertUnwindSafe(|| run::run(schedule))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        Err(text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default())
    })
}

/// Prints a schedule that failed, and a shorter one that fails too.
pub(crate) fn report(schedule: &Schedule, error: &str) {
    eprintln!("FAILED {schedule}{error}\n");
    if std::env::var_os("FAULTS_NO_SHRINK").is_some() {
        return;
    }
    let (mut shortest, mut last) = (schedule.clone(), error.to_owned());
    let mut attempts = 0;
    'shorter: loop {
        for shorter in shortest.shorter() {
            if attempts == MAX_ATTEMPTS {
                break 'shorter;
            }
            attempts += 1;
            if let Err(error) = attempt(&shorter) {
                (shortest, last) = (shorter, error);
                continue 'shorter;
            }
        }
        break;
    }
    if shortest != *schedule {
        eprintln!("SHORTER, after {attempts} attempts: {shortest}{last}\n");
    }
}
