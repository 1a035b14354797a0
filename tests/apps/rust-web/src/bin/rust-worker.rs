//! A sample worker: runs and logs jobs, fails one in ten with a backtrace, and does not handle SIGTERM.

use std::io::{self, Write as _};
use std::thread;
use std::time::{Duration, Instant};

/// Duration of a job.
const PAUSE: Duration = Duration::from_millis(150);

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "worker ready, queues=default,mailers")?;
    for job in 1_u64.. {
        let begun = Instant::now();
        thread::sleep(PAUSE);
        let took = begun.elapsed().as_millis();
        if job.is_multiple_of(10) {
            // With one write, so that the lines of a backtrace stay together.
            io::stderr().write_all(
                format!(
                    "E job={job} class=InvoiceMailer failed after {took}ms\nTimeoutError: mail.example: no answer\n    \
                     at deliver (app/mailers/invoice.rs:42)\n    at perform (app/jobs/mail.rs:17)\n"
                )
                .as_bytes(),
            )?;
        } else {
            writeln!(out, "I job={job} class=InvoiceMailer done in {took}ms")?;
        }
    }
    Ok(())
}
