//! Fault schedules: seeded compositions of workload, settings, drains that do not answer well, killed and stopped
//! processes, disks that are full, slow or damaged, and clocks that step. Whatever happens, every line is delivered,
//! or announced as lost.
//!
//! As tests it carries out the first schedules, some in each. `tests/soak/faults` runs as many as one likes.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

#[path = "e2e/harness.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod harness;
#[path = "e2e/procfs.rs"]
#[expect(dead_code, reason = "shared with the end-to-end tests, which use all of it")]
mod procfs;
#[path = "e2e/suspended_threads.rs"]
mod suspended_threads;

#[path = "faults/app.rs"]
mod app;
#[path = "faults/clock.rs"]
mod clock;
#[path = "faults/disk.rs"]
mod disk;
#[path = "faults/liveness.rs"]
mod liveness;
#[path = "faults/oracle.rs"]
mod oracle;
#[path = "faults/run.rs"]
mod run;
#[path = "faults/schedule.rs"]
mod schedule;
#[path = "faults/shrink.rs"]
mod shrink;
#[path = "faults/tally.rs"]
mod tally;

use schedule::Schedule;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

/// What the name of each test begins with; then comes its first seed.
const NAME: &str = "schedules_from_";
/// Schedules of all tests, and of each.
const SEEDS: u64 = 40;
const SEEDS_PER_TEST: u64 = 5;

/// Which schedules are carried out, and how many at once.
struct Options {
    from: u64,
    seeds: u64,
    jobs: u64,
    /// Print the schedules, and carry none out.
    only_print: bool,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if arguments.first().is_some_and(|argument| argument == "app") {
        return app::main(&arguments[1..]);
    }
    if has("--list") {
        // As nextest asks: https://nexte.st/docs/design/custom-test-harnesses/
        if !has("--ignored") {
            for seed in (0..SEEDS).step_by(SEEDS_PER_TEST as usize) {
                println!("{NAME}{seed:02}: test");
            }
        }
        return ExitCode::SUCCESS;
    }
    let number = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1)?.parse::<u64>().ok()
    };
    let test = arguments.iter().find_map(|argument| argument.strip_prefix(NAME)?.parse::<u64>().ok());
    let cores = thread::available_parallelism().map_or(2, |cores| cores.get() as u64);
    let options = Options {
        from: test.or(number("--from")).unwrap_or(0),
        seeds: test.map(|_| SEEDS_PER_TEST).or(number("--seeds")).unwrap_or(SEEDS),
        jobs: test.map(|_| 1).or(number("--jobs")).unwrap_or(cores * 3),
        only_print: has("--print"),
    };
    disk::isolate_mounts();
    let code = run_all(&options);
    clock::remove_library();
    code
}

fn run_all(options: &Options) -> ExitCode {
    let (next, failed, passed) = (AtomicU64::new(options.from), AtomicU64::new(0), AtomicU64::new(0));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..options.jobs {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= options.from + options.seeds {
                        return;
                    }
                    let schedule = Schedule::of(seed);
                    if options.only_print {
                        print!("{schedule}");
                    } else if let Err(error) = shrink::attempt(&schedule) {
                        failed.fetch_add(1, Ordering::Relaxed);
                        shrink::report(&schedule, &error);
                    } else if passed.fetch_add(1, Ordering::Relaxed) % 50 == 49 {
                        println!("{} passed, {:.0?}", passed.load(Ordering::Relaxed), start.elapsed());
                    }
                }
            });
        }
    });
    let (failed, passed) = (failed.into_inner(), passed.into_inner());
    println!("schedules: {passed} passed, {failed} failed, in {:.0?}", start.elapsed());
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
