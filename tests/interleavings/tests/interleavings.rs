//! Many orders of the steps of threads that share a piece of the agent. A failure prints the order, to be replayed
//! with `shuttle::replay`.

use tailrace_interleavings::scenarios;

/// Orders at random, and some in which few switches are at places that chance chose: those find rare faults sooner.
fn check(scenario: fn()) {
    shuttle::check_random(scenario, 2000);
    shuttle::check_pct(scenario, 2000, 3);
}

#[test]
fn a_pool_never_has_more_buffers_than_it_may() {
    check(scenarios::a_pool_never_has_more_buffers_than_it_may);
}

#[test]
fn a_trim_wakes_who_waits_for_a_buffer() {
    check(scenarios::a_trim_wakes_who_waits_for_a_buffer);
}

#[test]
fn a_ticket_is_done_after_what_was_requested() {
    check(scenarios::a_ticket_is_done_after_what_was_requested);
}

#[test]
fn a_removal_wakes_the_writer() {
    check(scenarios::a_removal_wakes_the_writer);
}
