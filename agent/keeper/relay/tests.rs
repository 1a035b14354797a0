use super::*;
use std::cell::Cell;

/// What a case lets the relay see.
#[derive(Default)]
struct Seen {
    canary: Cell<Option<u64>>,
    of_the_app: i32,
    untouched: bool,
}

impl Sight for Seen {
    fn canary(&self) -> Option<u64> {
        self.canary.get()
    }

    fn is_of_the_app(&self, pid: i32) -> bool {
        pid == self.of_the_app
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
            relay.take(*received, now, sight);
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
    let sight = Seen { canary: Cell::new(Some(0)), of_the_app: 42, untouched: true };
    let events = PASSED_ON.map(|signal| (0, from(42, signal)));
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), []);
}

#[test]
fn what_comes_from_a_terminal_went_to_the_app_too() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let events = [Signal::SIGINT, Signal::SIGTSTP, Signal::SIGWINCH]
        .map(|signal| (0, Received { signal, sender: 0, from_kernel: true }));
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), []);
}

#[test]
fn others_are_passed_on_each_time_in_order() {
    let sight = Seen { canary: Cell::new(Some(0)), ..Seen::default() };
    let (one, two) = (Signal::SIGUSR1, Signal::SIGUSR2);
    let events = [(0, from(7, one)), (100, from(7, two)), (200, from(7, one))];
    let all = passed(&mut Relay::new(true), Instant::now(), &sight, &events);
    assert_eq!(all, [(5, one), (105, two), (205, one)]);
    sight.canary.set(Some(bit(one)));
    assert_eq!(passed(&mut Relay::new(true), Instant::now(), &sight, &events), [(105, two)]);
}
