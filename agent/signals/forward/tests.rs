use super::PlatformSignals::{ToEveryProcess, ToMainProcess};
use super::*;
use proptest::prelude::*;
use std::cell::Cell;

/// The processes of one case.
#[derive(Default)]
struct View {
    pending_in_shipper: Cell<Option<u64>>,
    app: i32,
    missed_term: bool,
    left_group: bool,
    /// Signals that are broadcasts: pending in the shipper as soon as they are received, until it is told to clear them.
    broadcasts: u64,
}

impl ProcessView for View {
    fn pending_in_shipper(&self) -> Option<u64> {
        self.pending_in_shipper.get()
    }

    fn belongs_to_app(&self, pid: i32) -> bool {
        pid == self.app
    }

    fn app_is_in_our_group(&self) -> bool {
        !self.left_group
    }

    fn app_missed_term(&self) -> bool {
        self.missed_term
    }
}

fn from(sender: i32, signal: Signal) -> ReceivedSignal {
    ReceivedSignal { signal, sender, from_kernel: false }
}

/// The signals that are forwarded within 10 s, and when, in ms. `events`: the signals that are received, and when.
fn forwarded(
    forwarder: &mut SignalForwarder,
    start: Instant,
    view: &View,
    events: &[(u64, ReceivedSignal)],
) -> Vec<(u64, Signal)> {
    let mut sent = Vec::new();
    for ms in 0..10_000 {
        let now = start + Duration::from_millis(ms);
        for (_, received) in events.iter().filter(|(at, _)| *at == ms) {
            if view.broadcasts & bit(received.signal) != 0 {
                view.pending_in_shipper.set(Some(view.broadcasts));
            }
            forwarder.receive(*received, now, view);
        }
        if forwarder.take_clear_request() && view.broadcasts != 0 {
            view.pending_in_shipper.set(Some(0));
        }
        sent.extend(forwarder.decide(now, view).into_iter().map(|signal| (ms, signal)));
    }
    assert_eq!(forwarder.due(start + Duration::from_secs(10)), None, "nothing is left to decide");
    sent
}

const TERM: Signal = Signal::SIGTERM;

#[test]
fn a_term_to_the_supervisor_alone_is_forwarded_once_even_if_repeated() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let events = [0, 100, 250, 500, 3000].map(|at| (at, from(7, TERM)));
    let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events);
    assert_eq!(all, [(200, TERM)]);
}

#[test]
fn a_broadcast_term_is_not_forwarded() {
    let view = View { pending_in_shipper: Cell::new(Some(bit(TERM))), ..View::default() };
    let events = [0, 100, 500].map(|at| (at, from(0, TERM)));
    assert_eq!(forwarded(&mut SignalForwarder::new(ToMainProcess), Instant::now(), &view, &events), []);
}

#[test]
fn a_term_may_become_pending_in_the_shipper_later() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    forwarder.receive(from(1, TERM), start, &view);
    assert_eq!(forwarder.decide(start, &view), []);
    assert!(forwarder.due(start).is_some_and(|due| due <= start + PROBE_INTERVAL));
    view.pending_in_shipper.set(Some(bit(TERM)));
    assert_eq!(forwarder.decide(start + Duration::from_millis(190), &view), []);
    assert!(!forwarder.is_deciding());
}

#[test]
fn a_broadcast_term_that_the_app_missed_is_forwarded_after_5_s() {
    let view = View { pending_in_shipper: Cell::new(Some(bit(TERM))), missed_term: true, ..View::default() };
    let all =
        forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &[(0, from(0, TERM))]);
    assert_eq!(all, [(5000, TERM)]);
}

#[test]
fn without_a_shipper_the_sender_decides() {
    for (platform, sender, expected) in [
        (ToEveryProcess, 0, false),
        (ToEveryProcess, 1, false),
        (ToEveryProcess, 7, true),
        (ToMainProcess, 0, true),
        (ToMainProcess, 1, true),
    ] {
        let all = forwarded(
            &mut SignalForwarder::new(platform),
            Instant::now(),
            &View::default(),
            &[(0, from(sender, TERM))],
        );
        assert_eq!(!all.is_empty(), expected, "{platform:?}, sender {sender}");
    }
}

#[test]
fn signals_sent_by_the_app_are_not_forwarded() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), app: 42, missed_term: true, ..View::default() };
    let events = FORWARDED.map(|signal| (0, from(42, signal)));
    assert_eq!(forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events), []);
}

#[test]
fn terminal_signals_are_not_forwarded_but_hangups_and_timers_are() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let from_kernel = |signal| (0, ReceivedSignal { signal, sender: 0, from_kernel: true });
    let events = [Signal::SIGINT, Signal::SIGTSTP, Signal::SIGWINCH, Signal::SIGXCPU].map(from_kernel);
    assert_eq!(forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events), []);
    // A hangup is sent to the session leader only; a timer that was armed before the exec would be the app's.
    let events = [Signal::SIGHUP, Signal::SIGALRM].map(from_kernel);
    let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events);
    assert_eq!(all, [(5, Signal::SIGHUP), (5, Signal::SIGALRM)]);
    view.pending_in_shipper.set(Some(bit(Signal::SIGHUP)));
    assert_eq!(
        forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events),
        [(5, Signal::SIGALRM)]
    );
}

#[test]
fn a_term_that_the_app_sends_to_its_group_does_not_count_as_a_stop() {
    let view = View { pending_in_shipper: Cell::new(Some(bit(TERM))), app: 42, ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    assert!(!forwarder.receive(from(42, TERM), start, &view));
    assert!(forwarder.take_clear_request(), "the shipper is to clear it");
    view.pending_in_shipper.set(Some(0));
    assert_eq!(forwarder.decide(start + PROBE_INTERVAL, &view), []);
    let later = start + Duration::from_mins(1);
    assert_eq!(forwarded(&mut forwarder, later, &view, &[(0, from(7, TERM))]), [(200, TERM)]);
}

#[test]
fn a_stale_pending_signal_is_ignored_until_the_shipper_clears_it() {
    let hup = Signal::SIGHUP;
    let view = View { pending_in_shipper: Cell::new(Some(bit(hup))), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    // A broadcast first. The shipper is stopped and does not clear it; then it is sent to the supervisor alone, twice.
    let events =
        [(0, from(7, hup)), (1000, from(7, hup)), (2000, from(7, hup)), (3000, from(7, Signal::SIGUSR1))];
    let all = forwarded(&mut forwarder, start, &view, &events);
    assert_eq!(all, [(1000, hup), (2000, hup), (3005, Signal::SIGUSR1)]);
}

#[test]
fn a_group_signal_is_forwarded_to_an_app_that_left_the_group() {
    let view = View { pending_in_shipper: Cell::new(Some(bit(TERM))), left_group: true, ..View::default() };
    for (sender, expected) in [(0, 0), (1, 0), (7, 1)] {
        let all = forwarded(
            &mut SignalForwarder::new(ToEveryProcess),
            Instant::now(),
            &view,
            &[(0, from(sender, TERM))],
        );
        assert_eq!(all.len(), expected, "from {sender}");
    }
}

#[test]
fn other_signals_are_forwarded_each_time_in_order() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (one, two) = (Signal::SIGUSR1, Signal::SIGUSR2);
    let events = [(0, from(7, one)), (100, from(7, two)), (200, from(7, one))];
    let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events);
    assert_eq!(all, [(5, one), (105, two), (205, one)]);
    let view = View { pending_in_shipper: Cell::new(Some(0)), broadcasts: bit(one), ..View::default() };
    assert_eq!(
        forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events),
        [(105, two)]
    );
}

#[test]
fn a_signal_waits_for_an_earlier_one_and_keeps_its_distance() {
    let (int, hup) = (Signal::SIGINT, Signal::SIGHUP);
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    // The second SIGINT comes while the first waits: it is the same as one that is pending in the app.
    let events = [
        (0, from(7, TERM)),
        (10, from(7, int)),
        (30, from(7, hup)),
        (100, from(7, int)),
        (300, from(7, int)),
    ];
    let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events);
    assert_eq!(all, [(200, TERM), (210, int), (230, hup), (305, int)]);
    // The app has the SIGINT of its group already. SIGHUP keeps its distance to SIGTERM.
    let view = View { pending_in_shipper: Cell::new(Some(0)), broadcasts: bit(int), ..View::default() };
    let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events[..3]);
    assert_eq!(all, [(200, TERM), (230, hup)]);
}

#[test]
fn a_signal_that_waits_is_forwarded_when_the_earlier_one_turns_out_to_be_a_broadcast() {
    let (hup, ms) = (Signal::SIGHUP, Duration::from_millis);
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    forwarder.receive(from(1, TERM), start, &view);
    forwarder.receive(from(7, hup), start + ms(10), &view);
    assert_eq!(forwarder.decide(start + ms(20), &view), []);
    assert_eq!(forwarder.due(start + ms(20)), Some(start + ms(30)), "SIGTERM is probed");
    view.pending_in_shipper.set(Some(bit(TERM)));
    assert_eq!(forwarder.decide(start + ms(30), &view), [hup]);
    assert!(!forwarder.is_deciding());
}

#[test]
fn it_is_due_when_a_waiting_signal_is_to_be_forwarded() {
    let (hup, ms) = (Signal::SIGHUP, Duration::from_millis);
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    forwarder.receive(from(7, TERM), start, &view);
    forwarder.receive(from(7, hup), start + ms(150), &view);
    assert_eq!(forwarder.decide(start + ms(200), &view), [TERM]);
    assert!(forwarder.take_clear_request(), "what is decided needs no pending signals of the shipper");
    assert_eq!(forwarder.decide(start + ms(220), &view), []);
    assert_eq!(forwarder.due(start + ms(220)), Some(start + ms(350)));
    assert!(forwarder.is_deciding(), "the supervisor must not stop itself yet");
    assert_eq!(forwarder.decide(start + ms(350), &view), [hup]);
    assert!(!forwarder.is_deciding());
}

#[test]
fn it_is_due_when_a_decision_may_change() {
    let hup = Signal::SIGHUP;
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    assert_eq!((forwarder.due(start), forwarder.is_deciding()), (None, false));
    forwarder.receive(from(7, TERM), start, &view);
    assert_eq!((forwarder.due(start), forwarder.is_deciding()), (Some(start + PROBE_INTERVAL), true));
    forwarder.receive(from(7, hup), start, &view);
    assert_eq!(forwarder.due(start), Some(start + GROUP_PROBE_TIMEOUT));
    let now = start + TERM_PROBE_TIMEOUT;
    assert_eq!(forwarder.decide(now, &view), [TERM, hup]);
    // The shipper does not clear what it may get late: it is asked for a while.
    view.pending_in_shipper.set(Some(bit(hup)));
    assert_eq!((forwarder.due(now), forwarder.is_deciding()), (Some(now + 2 * PROBE_INTERVAL), false));
    assert!(forwarder.take_clear_request() && !forwarder.take_clear_request(), "once");
    for _ in 0..MAX_STALE_RECHECKS {
        assert!(forwarder.due(now).is_some());
        assert_eq!(forwarder.decide(now, &view), []);
    }
    assert_eq!(forwarder.due(now), None);
}

#[test]
fn the_shipper_clears_nothing_that_a_decision_needs() {
    let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
    let (mut forwarder, start) = (SignalForwarder::new(ToEveryProcess), Instant::now());
    forwarder.receive(from(7, Signal::SIGHUP), start, &view);
    assert_eq!(forwarder.decide(start + GROUP_PROBE_TIMEOUT, &view), [Signal::SIGHUP]);
    forwarder.receive(from(7, TERM), start, &view);
    assert!(!forwarder.take_clear_request(), "SIGTERM is being decided on");
    assert_eq!(forwarder.decide(start + TERM_PROBE_TIMEOUT, &view), [TERM]);
    assert!(forwarder.take_clear_request());
}

proptest! {
    #![proptest_config(crate::tests::property_config_with(0.25))]

    /// Of signals that were sent to the supervisor alone, each reaches the app once, in their order, within the time that a
    /// decision on SIGTERM takes.
    #[test]
    fn signals_keep_their_order(
        signals in Just(FORWARDED.to_vec()).prop_shuffle(), gaps in prop::collection::vec(0u64..60, FORWARDED.len()),
    ) {
        let times = gaps.iter().scan(0, |time, gap| { *time += gap; Some(*time) });
        let events: Vec<_> = times.zip(&signals).map(|(time, signal)| (time, from(7, *signal))).collect();
        let view = View { pending_in_shipper: Cell::new(Some(0)), ..View::default() };
        let all = forwarded(&mut SignalForwarder::new(ToEveryProcess), Instant::now(), &view, &events);
        prop_assert_eq!(all.iter().map(|(_, signal)| *signal).collect::<Vec<_>>(), signals);
        for ((sent, signal), (received, _)) in all.iter().zip(&events) {
            prop_assert!((5..=200).contains(&(sent - received)), "{} after {} ms", signal, sent - received);
        }
    }
}
