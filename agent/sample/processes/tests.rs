use super::*;
use crate::procfs::tests::fixture;

/// A line of `/proc/<pid>/stat`.
fn stat(pid: i32, parent: i32, state: char, threads: u32, pages: u64) -> String {
    format!(
        "{pid} (a) b) ({pid}) {state} {parent} 1 1 0 -1 4194560 1 2 3 4 7 5 20 10 20 0 {threads} 0 {start} 9 {pages} 1 2\n",
        start = 1000 + pid
    )
    .replacen("(a) b) (", "(a) b ", 1)
}

/// The texts of `smaps_rollup` and `status`.
fn memory_files(pss: u64, swap: u64) -> (String, String) {
    (
        format!("00-ff ---p 00 00:00 0 [rollup]\nRss: 1 kB\nPss: {pss} kB\n"),
        format!("Name:\ta\nVmSwap:\t{swap} kB\n"),
    )
}

#[test]
fn a_stat_line_is_parsed_whatever_the_command_contains() {
    let process = Process::parse(&stat(12, 3, 'R', 4, 100), 4096).unwrap();
    let expected = Process {
        pid: 12,
        parent: 3,
        is_runnable: true,
        threads: 4,
        resident: 409_600,
        cpu: CpuTicks { user: 7, system: 5 },
        children_cpu: CpuTicks { user: 20, system: 10 },
        start: 1012,
    };
    assert_eq!(process, expected);
    for text in ["", "12", "12 (a)", "12 (a) R", "12 (a) R x 1 1", "x (a) R 1"] {
        assert_eq!(Process::parse(text, 4096), None, "{text}");
    }
}

#[test]
fn runnable_threads_are_counted_without_the_agent() {
    let files = [
        ("proc/2/stat", stat(2, 1, 'R', 1, 1)),
        ("proc/3/stat", stat(3, 1, 'S', 3, 1)),
        ("proc/3/task/3/stat", stat(3, 1, 'S', 3, 1)),
        ("proc/3/task/31/stat", stat(31, 1, 'R', 3, 1)),
        ("proc/3/task/32/stat", stat(32, 1, 'D', 3, 1)),
        ("proc/4/stat", stat(4, 1, 'R', 1, 1)),
        ("proc/notaprocess/stat", stat(9, 1, 'R', 1, 1)),
    ];
    let files: Vec<_> = files.iter().map(|(name, text)| (*name, text.as_str())).collect();
    let (_dir, procfs) = fixture(&files);
    let mut processes = Processes::new(procfs);
    let all = processes.list(ProcessFilter { app: 2, agent: [4, 0] });
    let mut pids: Vec<i32> = all.iter().map(|process| process.pid).collect();
    pids.sort_unstable();
    assert_eq!((pids, processes.runnable(&all)), (vec![2, 3], 2));
}

#[test]
fn descendants_of_the_app_are_kept_in_any_order() {
    let mut all: Vec<Process> = [(9, 7), (7, 5), (5, 1), (6, 1), (8, 6)]
        .into_iter()
        .map(|(pid, parent)| Process::parse(&stat(pid, parent, 'S', 1, 1), 4096).unwrap())
        .collect();
    keep_descendants(&mut all, 5);
    assert_eq!(all.iter().map(|process| process.pid).collect::<Vec<_>>(), [9, 7, 5]);
}

#[test]
fn memory_is_read_one_process_at_a_time_and_estimated_between_readings() {
    let (rollup, status) = memory_files(300, 8);
    let first = stat(2, 1, 'S', 1, 100);
    let second = stat(3, 1, 'S', 1, 100);
    let (dir, procfs) = fixture(&[
        ("proc/2/stat", &first),
        ("proc/2/smaps_rollup", &rollup),
        ("proc/2/status", &status),
        ("proc/3/stat", &second),
        ("proc/3/smaps_rollup", &rollup),
        ("proc/3/status", &status),
    ]);
    let filter = ProcessFilter { app: 2, agent: [0, 0] };
    let mut processes = Processes::new(procfs);
    let start = Instant::now();
    let mut all = processes.list(filter);
    all.sort_by_key(|process| process.pid);
    let kib = |kib: u64| kib << 10;
    assert_eq!(processes.sum(&all, start), Sum { resident: kib(800), swapped: 0, is_exact: false });
    assert!(processes.refresh(&all, start), "one was not read yet");
    assert_eq!(processes.sum(&all, start), Sum { resident: kib(700), swapped: kib(8), is_exact: false });
    assert!(!processes.refresh(&all, start));
    assert_eq!(processes.sum(&all, start), Sum { resident: kib(600), swapped: kib(16), is_exact: true });
    // It grows by 40 kB: estimated without reading again, so the sum is not exact.
    std::fs::write(dir.path().join("proc/2/stat"), stat(2, 1, 'S', 1, 110)).unwrap();
    let later = start + Duration::from_secs(20);
    let mut all = processes.list(filter);
    all.sort_by_key(|process| process.pid);
    assert!(!processes.refresh(&all, later), "not again within a minute");
    assert_eq!(processes.sum(&all, later), Sum { resident: kib(640), swapped: kib(16), is_exact: false });
    // The pid is reused: the record of the old process does not apply.
    std::fs::write(dir.path().join("proc/2/stat"), stat(2, 1, 'S', 1, 110).replace(" 1002 ", " 2222 "))
        .unwrap();
    let all = processes.list(filter);
    assert_eq!(processes.sum(&all, later).resident, kib(440 + 300));
    // For an alarm all are read at once, but not when one was read less than a minute ago.
    processes.refresh_all(&all, later, Duration::from_secs(9));
    assert!(!processes.sum(&all, later).is_exact);
    let much_later = start + Duration::from_secs(90);
    processes.refresh_all(&all, much_later, Duration::from_secs(9));
    assert_eq!(processes.sum(&all, much_later), Sum { resident: kib(600), swapped: kib(16), is_exact: true });
}

#[test]
fn memory_that_cannot_be_read_counts_in_full_but_not_for_an_alarm() {
    let (text, other) = (stat(2, 1, 'S', 1, 100), stat(3, 2, 'S', 1, 100));
    let readable = ("proc/3/smaps_rollup", "Pss: 300 kB\n");
    let (_dir, procfs) = fixture(&[("proc/2/stat", &text), ("proc/3/stat", &other), readable]);
    let mut processes = Processes::new(procfs);
    let all = processes.list(ProcessFilter { app: 2, agent: [0, 0] });
    let now = Instant::now();
    while processes.refresh(&all, now) {}
    let sum = processes.sum(&all, now);
    assert_eq!((sum.resident, sum.is_exact), (409_600 + 307_200, false));
    assert_eq!(processes.measured_sum(&all, now).resident, 307_200);
}
