use super::*;
use crate::recorder::buffer_pool::BUFFER_BYTES;
use crossbeam_channel::bounded;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::pty::openpty;
use nix::sys::eventfd::EfdFlags;
use nix::sys::termios::{FlowArg, tcflow};
use std::io::Write;

/// A pump of a new pipe, with the app's end of it. It does not rest, and has no peer.
fn pump(recorder: Sender<Input>) -> (Pump, OwnedFd) {
    let (from, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let pump = Pump {
        stream: Stream::Out,
        from: Arc::new(from),
        peer: None,
        order: None,
        passthrough: true,
        coalesces: false,
        pool: BufferPool::new(2, BUFFER_BYTES),
        recorder,
        app_exited: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()),
        write_lock: None,
        unfinished: Arc::new(AtomicUsize::new(1)),
        wake: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap()),
        unrecorded: Arc::default(),
        gap: None,
        spare: Vec::new(),
    };
    (pump, end)
}

#[test]
fn a_chunk_that_nobody_takes_is_a_gap() {
    let (recorder, input) = bounded(1);
    recorder.send(Input::Start).unwrap();
    let (pump, end) = pump(recorder);
    let (mut app, to) = (std::fs::File::from(end), tempfile::tempfile().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| pump.run(to.as_fd()));
        for text in ["a\nb\n", "c\n"] {
            app.write_all(text.as_bytes()).unwrap();
            // Until it has passed.
            while to.metadata().unwrap().len() < 4 {
                std::thread::yield_now();
            }
        }
        drop(app);
        while to.metadata().unwrap().len() < 6 {
            std::thread::yield_now();
        }
        assert!(matches!(input.recv(), Ok(Input::Start)));
        let Ok(Input::End { gap: Some(gap), .. }) = input.recv() else { panic!("no gap at the end") };
        assert_eq!((gap.newlines, gap.ends_line), (3, true));
    });
}

#[test]
fn a_gap_is_reported_also_when_the_app_says_nothing_more() {
    let (recorder, input) = bounded(8);
    let (pump, end) = pump(recorder);
    let (mut app, to) = (std::fs::File::from(end), tempfile::tempfile().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| pump.run(to.as_fd()));
        for (text, passed) in [("a\n", 2), ("b\n", 4), ("c\nd", 7)] {
            app.write_all(text.as_bytes()).unwrap();
            while to.metadata().unwrap().len() < passed {
                std::thread::yield_now();
            }
        }
        // The recorder, which had both buffers, goes on.
        let next = || match input.recv_timeout(Duration::from_secs(5)) {
            Ok(Input::Chunk { bytes, gap, .. }) => {
                (bytes.len(), gap.map(|gap| (gap.newlines, gap.ends_line)))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!([next(), next(), next()], [(2, None), (2, None), (0, Some((1, false)))]);
        app.write_all(b"e\n").unwrap();
        assert_eq!(next(), (2, None));
        drop(app);
        assert!(matches!(input.recv(), Ok(Input::End { gap: None, .. })));
    });
}

#[test]
fn a_rest_ends_when_the_app_writes_to_the_other_stream() {
    let (mut pump, _end) = pump(bounded(1).0);
    let (peer, peer_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    pump.peer = Some(Arc::new(peer));
    let mut app = std::fs::File::from(peer_end);
    let (start, longest, shortest) = (Instant::now(), Duration::from_secs(8), Duration::from_millis(400));
    app.write_all(b"other\n").unwrap();
    pump.rest(longest, shortest);
    let time = start.elapsed();
    // poll(2) counts whole milliseconds.
    assert!((shortest.saturating_sub(Duration::from_millis(2))..longest).contains(&time), "{time:?}");
    assert!(pump.peer.is_some());
}

#[test]
fn a_stream_that_ended_does_not_end_the_rests_of_the_other() {
    let (mut pump, _end) = pump(bounded(1).0);
    let (peer, peer_end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    pump.peer = Some(Arc::new(peer));
    drop(peer_end);
    pump.rest(REST, MIN_REST);
    let start = Instant::now();
    pump.rest(REST, MIN_REST);
    assert!(start.elapsed() >= REST);
}

#[test]
fn a_pump_knows_how_long_the_pipe_takes_what_comes() {
    let start = Instant::now();
    let time = |bytes: u64, millis: u64| {
        let rate = WriteRate { bytes, ..WriteRate::since(start) };
        rate.time_to_gather(start + Duration::from_millis(millis))
    };
    assert!(time(100, 2) > REST * 200, "a few lines");
    assert_eq!(time(REST_BYTES / 2, 10), Duration::from_millis(20));
    assert_eq!(time(REST_BYTES, 2), Duration::from_millis(2));
    assert!(time(0, 5) > REST * 200);
}

#[test]
fn a_terminal_that_stands_still_does_not_stop_the_recording_at_the_end() {
    let terminal = openpty(None, None).unwrap();
    tcflow(&terminal.slave, FlowArg::TCOOFF).unwrap(); // as Ctrl-S does
    let (recorder, input) = bounded(8);
    let (pump, end) = pump(recorder);
    let (app_exited, mut app) = (Arc::clone(&pump.app_exited), std::fs::File::from(end));
    let slave = terminal.slave;
    let pump = std::thread::spawn(move || pump.run(slave.as_fd()));
    let next = || match input.recv_timeout(Duration::from_secs(5)) {
        Ok(Input::Chunk { bytes, .. }) => String::from_utf8_lossy(&bytes).into_owned(),
        other => panic!("{other:?}"),
    };
    app.write_all(b"first\n").unwrap();
    assert_eq!(next(), "first\n");
    app.write_all(b"last\n").unwrap();
    app_exited.write(1).unwrap();
    assert_eq!(next(), "last\n");
    pump.join().unwrap();
}

#[test]
fn a_pipe_in_packet_mode_is_not_rested_for() {
    for (flags, coalesces) in [(OFlag::empty(), true), (OFlag::O_DIRECT, false)] {
        let (mut pump, end) = pump(bounded(8).0);
        pump.coalesces = true;
        fcntl(&end, FcntlArg::F_SETFL(flags)).unwrap();
        let (mut app, to) = (std::fs::File::from(end), tempfile::tempfile().unwrap());
        for line in ["a\n", "b\n"] {
            app.write_all(line.as_bytes()).unwrap();
        }
        pump.read(&mut Passthrough::new(to.as_fd()));
        assert_eq!(pump.coalesces, coalesces, "{flags:?}");
    }
}
