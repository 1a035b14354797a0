use super::*;
use std::cell::Cell;

/// What a case lets the relay see.
#[derive(Default)]
struct Seen {
    canary: Cell<Option<u64>>,
    of_the_app: i32,
    untouched: bool,
    is_apart: bool,
    /// Signals that go to all: a canary that forgets what it is told to has each anew.
    for_all: u64,
}

impl Sight for Seen {
    fn canary(&self) -> Option<u64> {
        self.canary.get()
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

fn from(sender: i32, signal: Signal) -> Received {
    Received { signal, sender, from_kernel: false }
}

/// What is passed on within 10 s, and when, in ms.
fn passed(relay: &mut Relay, start: Instant, sight: &Seen, events: &[(u64, Received)]) -> Vec<(u64, Signal)> {
    let mut passed = Vec::new();
    for ms in 0..10_000 {
        let now = start + Duration::from_millis(ms);
        for (_, received) in events.iter().filter(|(at, _)| *at == ms) {
            if sight.for_all & bit(received.signal) != 0 {
                sight.canary.set(Some(sight.for_all));
            }
            relay.take(*received, now, sight);
        }
        if relay.take_stale() && sight.for_all != 0 {
            sight.canary.set(Some(0));
        }
        passed.extend(relay.decide(now, sight).into_iter().map(|signal| (ms, signal)));
    }
    assert_eq!(relay.due(start + Duration::from_secs(10)), None, "nothing is left to decide");
    passed
}

const TERM: Signal = Signal::SIGTERM;

#[test]
fn a_term_for_us_alone_is_passed_on_once_however_often_it_comes() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let events = [0, 100, 250, 500, 3000].map(|at| (at, from(7, TERM)));
    let all = passed(&mut Relay::new(true), Instant::now(), &sight, &events);
    assert_eq!(all, [(200, TERM)]);
}

#[test]
fn a_term_for_all_is_kept() {
    let sight = Seen { canary: Cell::new(Some(bit(TERM))), ..Seen::default() };
    let events = [0, 100, 500].map(|at| (at, from(0, TERM)));
    assert_eq!(passed(&mut Relay::new(false), Instant::now(), &sight, &events), []);
}

#[test]
fn the_canary_may_have_its_own_a_little_later() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let (mut relay, start) = (Relay::new(true), Instant::now());
    relay.take(from(1, TERM), start, &sight);
    assert_eq!(relay.decide(start, &sight), []);
    assert!(relay.due(start).is_some_and(|due| due <= start + LOOK));
    sight.canary.set(Some(bit(TERM)));
    assert_eq!(relay.decide(start + Duration::from_millis(190), &sight), []);
    assert!(!relay.is_watching());
}

#[test]
fn an_app_that_cannot_have_had_a_kept_term_gets_it_after_all() {
    let sight = Seen { canary: Cell::new(Some(bit(TERM))), untouched: true, ..Seen::default() };
    let all = passed(&mut Relay::new(true), Instant::now(), &sight, &[(0, from(0, TERM))]);
    assert_eq!(all, [(5000, TERM)]);
}

#[test]
fn without_a_canary_the_sender_decides() {
    for (to_all, sender, expected) in
        [(true, 0, false), (true, 1, false), (true, 7, true), (false, 0, true), (false, 1, true)]
    {
        let all =
            passed(&mut Relay::new(to_all), Instant::now(), &Seen::default(), &[(0, from(sender, TERM))]);
        assert_eq!(!all.is_empty(), expected, "to all: {to_all}, sender {sender}");
    }
}

#[test]
fn what_comes_from_the_app_is_not_passed_on() {
    let sight = Seen { canary: Cell::new(Some(0)), of_the_app: 42, untouched: true, ..Seen::default() };
    let events = PASSED_ON.map(|signal| (0, from(42, signal)));
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), []);
}

#[test]
fn what_comes_from_a_terminal_went_to_the_app_too() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let of_the_kernel = |signal| (0, Received { signal, sender: 0, from_kernel: true });
    let events = [Signal::SIGINT, Signal::SIGTSTP, Signal::SIGWINCH, Signal::SIGXCPU].map(of_the_kernel);
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), []);
    // A terminal that went away told us alone, and a timer that somebody set before us would have been the app's.
    let events = [Signal::SIGHUP, Signal::SIGALRM].map(of_the_kernel);
    let all = passed(&mut Relay::new(true), Instant::now(), &sight, &events);
    assert_eq!(all, [(5, Signal::SIGHUP), (5, Signal::SIGALRM)]);
    sight.canary.set(Some(bit(Signal::SIGHUP)));
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), [(5, Signal::SIGALRM)]);
}

#[test]
fn a_stop_that_the_app_sent_to_its_own_group_is_none() {
    let sight = Seen { canary: Cell::new(Some(bit(TERM))), of_the_app: 42, ..Seen::default() };
    let (mut relay, start) = (Relay::new(true), Instant::now());
    assert!(!relay.take(from(42, TERM), start, &sight));
    assert!(relay.take_stale(), "the canary is to forget it");
    sight.canary.set(Some(0));
    assert_eq!(relay.decide(start + LOOK, &sight), []);
    let later = start + Duration::from_mins(1);
    assert_eq!(passed(&mut relay, later, &sight, &[(0, from(7, TERM))]), [(200, TERM)]);
}

#[test]
fn a_canary_that_does_not_forget_says_nothing_more_of_that_signal() {
    let hup = Signal::SIGHUP;
    let sight = Seen { canary: Cell::new(Some(bit(hup))), ..Seen::default() };
    let (mut relay, start) = (Relay::new(true), Instant::now());
    // Once to all. Its shipper stands still, and then it is sent to us alone, twice.
    let events =
        [(0, from(7, hup)), (1000, from(7, hup)), (2000, from(7, hup)), (3000, from(7, Signal::SIGUSR1))];
    let all = passed(&mut relay, start, &sight, &events);
    assert_eq!(all, [(1000, hup), (2000, hup), (3005, Signal::SIGUSR1)]);
}

#[test]
fn who_signals_a_group_does_not_reach_an_app_that_left_it() {
    let sight = Seen { canary: Cell::new(Some(bit(TERM))), is_apart: true, ..Seen::default() };
    for (sender, expected) in [(0, 0), (1, 0), (7, 1)] {
        let all = passed(&mut Relay::new(true), Instant::now(), &sight, &[(0, from(sender, TERM))]);
        assert_eq!(all.len(), expected, "from {sender}");
    }
}

#[test]
fn others_are_passed_on_each_time_in_order() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let (one, two) = (Signal::SIGUSR1, Signal::SIGUSR2);
    let events = [(0, from(7, one)), (100, from(7, two)), (200, from(7, one))];
    let all = passed(&mut Relay::new(true), Instant::now(), &sight, &events);
    assert_eq!(all, [(5, one), (105, two), (205, one)]);
    let sight = Seen { canary: Cell::new(Some(0)), for_all: bit(one), ..Seen::default() };
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), [(105, two)]);
}
