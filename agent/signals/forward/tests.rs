use super::*;
use std::cell::Cell;

/// What a case lets the forwarder see.
#[derive(Default)]
struct Seen {
    pending_in_shipper: Cell<Option<u64>>,
    of_the_app: i32,
    untouched: bool,
    is_apart: bool,
    /// Signals that go to all: a pending_in_shipper that forgets what it is told to has each anew.
    for_all: u64,
}

impl ProcessView for Seen {
    fn pending_in_shipper(&self) -> Option<u64> {
        self.pending_in_shipper.get()
    }

    fn is_of_the_app(&self, pid: i32) -> bool {
        pid == self.of_the_app
    }

    fn is_in_our_group(&self) -> bool {
        !self.is_apart
    }

    fn is_untouched(&self) -> bool {
        self.untouched
    }
}

fn from(sender: i32, signal: Signal) -> ReceivedSignal {
    ReceivedSignal { signal, sender, from_kernel: false }
}

/// What is passed on within 10 s, and when, in ms.
fn passed(
    forwarder: &mut SignalForwarder,
    start: Instant,
    view: &Seen,
    events: &[(u64, ReceivedSignal)],
) -> Vec<(u64, Signal)> {
    let mut passed = Vec::new();
    for ms in 0..10_000 {
        let now = start + Duration::from_millis(ms);
        for (_, received) in events.iter().filter(|(at, _)| *at == ms) {
            if view.for_all & bit(received.signal) != 0 {
                view.pending_in_shipper.set(Some(view.for_all));
            }
            forwarder.take(*received, now, view);
        }
        if forwarder.take_stale() && view.for_all != 0 {
            view.pending_in_shipper.set(Some(0));
        }
        passed.extend(forwarder.decide(now, view).into_iter().map(|signal| (ms, signal)));
    }
    assert_eq!(forwarder.due(start + Duration::from_secs(10)), None, "nothing is left to decide");
    passed
}

const TERM: Signal = Signal::SIGTERM;

#[test]
fn a_term_for_us_alone_is_passed_on_once_however_often_it_comes() {
    let view = Seen { pending_in_shipper: Cell::new(Some(0)), ..Seen::default() };
    let events = [0, 100, 250, 500, 3000].map(|at| (at, from(7, TERM)));
    let all = passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events);
    assert_eq!(all, [(200, TERM)]);
}

#[test]
fn a_term_for_all_is_kept() {
    let view = Seen { pending_in_shipper: Cell::new(Some(bit(TERM))), ..Seen::default() };
    let events = [0, 100, 500].map(|at| (at, from(0, TERM)));
    assert_eq!(passed(&mut SignalForwarder::new(false), Instant::now(), &view, &events), []);
}

#[test]
fn the_canary_may_have_its_own_a_little_later() {
    let view = Seen { pending_in_shipper: Cell::new(Some(0)), ..Seen::default() };
    let (mut forwarder, start) = (SignalForwarder::new(true), Instant::now());
    forwarder.take(from(1, TERM), start, &view);
    assert_eq!(forwarder.decide(start, &view), []);
    assert!(forwarder.due(start).is_some_and(|due| due <= start + POLL_INTERVAL));
    view.pending_in_shipper.set(Some(bit(TERM)));
    assert_eq!(forwarder.decide(start + Duration::from_millis(190), &view), []);
    assert!(!forwarder.is_deciding());
}

#[test]
fn an_app_that_cannot_have_had_a_kept_term_gets_it_after_all() {
    let view = Seen { pending_in_shipper: Cell::new(Some(bit(TERM))), untouched: true, ..Seen::default() };
    let all = passed(&mut SignalForwarder::new(true), Instant::now(), &view, &[(0, from(0, TERM))]);
    assert_eq!(all, [(5000, TERM)]);
}

#[test]
fn without_a_canary_the_sender_decides() {
    for (to_all, sender, expected) in
        [(true, 0, false), (true, 1, false), (true, 7, true), (false, 0, true), (false, 1, true)]
    {
        let all = passed(
            &mut SignalForwarder::new(to_all),
            Instant::now(),
            &Seen::default(),
            &[(0, from(sender, TERM))],
        );
        assert_eq!(!all.is_empty(), expected, "to all: {to_all}, sender {sender}");
    }
}

#[test]
fn what_comes_from_the_app_is_not_passed_on() {
    let view =
        Seen { pending_in_shipper: Cell::new(Some(0)), of_the_app: 42, untouched: true, ..Seen::default() };
    let events = FORWARDED.map(|signal| (0, from(42, signal)));
    assert_eq!(passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events), []);
}

#[test]
fn what_comes_from_a_terminal_went_to_the_app_too() {
    let view = Seen { pending_in_shipper: Cell::new(Some(0)), ..Seen::default() };
    let of_the_kernel = |signal| (0, ReceivedSignal { signal, sender: 0, from_kernel: true });
    let events = [Signal::SIGINT, Signal::SIGTSTP, Signal::SIGWINCH, Signal::SIGXCPU].map(of_the_kernel);
    assert_eq!(passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events), []);
    // A terminal that went away told us alone, and a timer that somebody set before us would have been the app's.
    let events = [Signal::SIGHUP, Signal::SIGALRM].map(of_the_kernel);
    let all = passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events);
    assert_eq!(all, [(5, Signal::SIGHUP), (5, Signal::SIGALRM)]);
    view.pending_in_shipper.set(Some(bit(Signal::SIGHUP)));
    assert_eq!(
        passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events),
        [(5, Signal::SIGALRM)]
    );
}

#[test]
fn a_stop_that_the_app_sent_to_its_own_group_is_none() {
    let view = Seen { pending_in_shipper: Cell::new(Some(bit(TERM))), of_the_app: 42, ..Seen::default() };
    let (mut forwarder, start) = (SignalForwarder::new(true), Instant::now());
    assert!(!forwarder.take(from(42, TERM), start, &view));
    assert!(forwarder.take_stale(), "the pending_in_shipper is to forget it");
    view.pending_in_shipper.set(Some(0));
    assert_eq!(forwarder.decide(start + POLL_INTERVAL, &view), []);
    let later = start + Duration::from_mins(1);
    assert_eq!(passed(&mut forwarder, later, &view, &[(0, from(7, TERM))]), [(200, TERM)]);
}

#[test]
fn a_canary_that_does_not_forget_says_nothing_more_of_that_signal() {
    let hup = Signal::SIGHUP;
    let view = Seen { pending_in_shipper: Cell::new(Some(bit(hup))), ..Seen::default() };
    let (mut forwarder, start) = (SignalForwarder::new(true), Instant::now());
    // Once to all. Its shipper stands still, and then it is sent to us alone, twice.
    let events =
        [(0, from(7, hup)), (1000, from(7, hup)), (2000, from(7, hup)), (3000, from(7, Signal::SIGUSR1))];
    let all = passed(&mut forwarder, start, &view, &events);
    assert_eq!(all, [(1000, hup), (2000, hup), (3005, Signal::SIGUSR1)]);
}

#[test]
fn who_signals_a_group_does_not_reach_an_app_that_left_it() {
    let view = Seen { pending_in_shipper: Cell::new(Some(bit(TERM))), is_apart: true, ..Seen::default() };
    for (sender, expected) in [(0, 0), (1, 0), (7, 1)] {
        let all = passed(&mut SignalForwarder::new(true), Instant::now(), &view, &[(0, from(sender, TERM))]);
        assert_eq!(all.len(), expected, "from {sender}");
    }
}

#[test]
fn others_are_passed_on_each_time_in_order() {
    let view = Seen { pending_in_shipper: Cell::new(Some(0)), ..Seen::default() };
    let (one, two) = (Signal::SIGUSR1, Signal::SIGUSR2);
    let events = [(0, from(7, one)), (100, from(7, two)), (200, from(7, one))];
    let all = passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events);
    assert_eq!(all, [(5, one), (105, two), (205, one)]);
    let view = Seen { pending_in_shipper: Cell::new(Some(0)), for_all: bit(one), ..Seen::default() };
    assert_eq!(passed(&mut SignalForwarder::new(true), Instant::now(), &view, &events), [(105, two)]);
}
