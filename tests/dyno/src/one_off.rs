//! A one-off dyno: a command on the caller's terminal, as `heroku run` has it.

use crate::args::Args;
use crate::dyno::{self, Dyno};
use crate::platform::Generation;
use crate::screen::Screen;
use crate::simulate::{Stage, Trouble, step};
use crate::world::Wish;
use std::ffi::OsString;
use std::path::Path;
use tokio::sync::watch;

/// Runs the command to its end; returns its exit status. A Ctrl-C is the command's own business. Files go to `dir`.
///
/// # Errors
/// [`Trouble`] when it cannot begin.
pub async fn run(
    args: &Args,
    command: &[OsString],
    screen: Screen,
    mut stop: watch::Receiver<u32>,
    dir: &Path,
) -> Result<u8, Trouble> {
    let stage = Stage::set(args, screen, dir).await?;
    let world = &stage.world;
    let number = fastrand::u32(1000..10_000);
    let name = world.args.generation.dyno_name("run", number);
    // As `heroku run` does: the words become one line for the shell.
    let line = command.join(&OsString::from(" "));
    let words = dyno::words(&line, world.args.generation == Generation::Cedar);
    let wish = Wish { dyno: &name, port: None, command: words, is_bare: false, is_attached: true };
    let place = step("cannot make the dyno", world.place(wish))?;
    let mut dyno = step("cannot start the dyno", Dyno::attach(&place.spec, &place.spec_file))?;
    tokio::select! {
        status = dyno.exited() => Ok(status),
        // Dropping the dyno ends it.
        _ = stop.wait_for(|count| *count > 0) => Ok(crate::INTERRUPTED),
    }
}
