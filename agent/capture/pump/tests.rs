use super::*;
use crate::recorder::buffer_pool::BUFFER_BYTES;
use crossbeam_channel::bounded;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::eventfd::EfdFlags;
use std::io::Write;

#[test]
fn a_chunk_that_nobody_takes_is_a_gap() {
    let (from, end) = nix::unistd::pipe2(OFlag::O_CLOEXEC).unwrap();
    fcntl(&from, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    let (recorder, input) = bounded(1);
    recorder.send(Input::Start).unwrap();
    let pump = Pump {
        stream: Stream::Out,
        from,
        passthrough: true,
        coalesces: false,
        pool: BufferPool::new(2, BUFFER_BYTES),
        recorder,
        app_exited: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC).unwrap()),
        write_lock: None,
        unfinished: Arc::new(AtomicUsize::new(1)),
        wake: Arc::new(EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap()),
        gap: None,
        spare: Vec::new(),
    };
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
