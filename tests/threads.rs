//! Independent cases of one test, checked at the same time.

use std::sync::Mutex;
use std::thread;

/// Checks all cases in this many threads, each of which takes the next case when it is done with one. For cases that
/// wait most of the time, and have everything of their own.
pub(crate) fn check_in_threads<T: Send>(
    threads: usize,
    cases: impl IntoIterator<Item = T, IntoIter: Send>,
    check: impl Fn(T) + Sync,
) {
    let cases = Mutex::new(cases.into_iter());
    let next = || cases.lock().unwrap().next();
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(case) = next() {
                    check(case);
                }
            });
        }
    });
}
