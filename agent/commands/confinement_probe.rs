//! `tailrace confinement-probe`, a hidden subcommand for tests: tries one thing that a confined shipper must not do,
//! with or without the confinement.
//!
//! ```text
//! confinement-probe confined|free WHAT [ARGUMENT]   prints `allowed` or `refused: ERROR`
//! confinement-probe without landlock|seccomp COMMAND [ARG…]   runs the command as on a kernel that lacks it
//! ```

use super::settings;
use crate::confinement::{Confinement, Violation, system_calls};
use crate::exit_code::ExitCode;
use crate::supervisor;
use nix::sys::signal::kill;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};
use nix::unistd::Pid;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Runs the probe. Returns the exit status.
pub fn run(arguments: &[OsString]) -> ExitCode {
    let words: Vec<&str> = arguments.iter().filter_map(|argument| argument.to_str()).collect();
    match words.as_slice() {
        ["without", what, _, ..] => run_without(what, &arguments[2..]),
        ["free", what, rest @ ..] => print(attempt(what, rest.first().copied().unwrap_or_default())),
        ["confined", what, rest @ ..] => {
            let config = settings().0;
            let _confinement = Confinement::apply(&config, Violation::of(&config));
            print(attempt(what, rest.first().copied().unwrap_or_default()))
        }
        _ => ExitCode::Usage,
    }
}

fn print(result: io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => println!("allowed"),
        Err(error) => println!("refused: {error}"),
    }
    ExitCode::Success
}

/// Executes a command where the kernel seems to lack `what`.
fn run_without(what: &str, command: &[OsString]) -> ExitCode {
    let hidden = match what {
        "landlock" => system_calls::hide_landlock(),
        "seccomp" => system_calls::hide_seccomp(),
        _ => Err("expected landlock or seccomp".to_owned()),
    };
    let error = hidden.err().unwrap_or_else(|| supervisor::exec(command).to_string());
    eprintln!("tailrace: {error}");
    ExitCode::System
}

/// Tries `what` and undoes it.
fn attempt(what: &str, argument: &str) -> io::Result<()> {
    let number = || argument.parse::<i32>().map_err(io::Error::other);
    match what {
        "read" => fs::read(argument).map(drop),
        "list" => fs::read_dir(argument).map(drop),
        "write" => File::create(argument).map(drop),
        "rename" => fs::rename(argument, format!("{argument}.renamed")),
        "exec" => Err(Command::new("/bin/echo").arg("allowed").exec()),
        "spawn" => Command::new(argument).status().map(drop),
        "connect" => TcpStream::connect((Ipv4Addr::LOCALHOST, number()? as u16)).map(drop),
        "listen" => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop),
        "abstract-socket" => UnixListener::bind_addr(&SocketAddr::from_abstract_name(argument)?).map(drop),
        "netlink" => {
            Ok(socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, None).map(drop)?)
        }
        "kill" => Ok(kill(Pid::from_raw(number()?), None)?),
        "limits" => {
            let limit = nix::sys::resource::Resource::RLIMIT_NOFILE;
            let (soft, hard) = nix::sys::resource::getrlimit(limit)?;
            Ok(nix::sys::resource::setrlimit(limit, soft, hard)?)
        }
        "chroot" => Ok(nix::unistd::chroot(argument)?),
        "memory-file" => Ok(crate::spool::memory_file().map(drop)?),
        "ptrace" => Ok(nix::sys::ptrace::traceme()?),
        "mount" => {
            let (none, file_system) = (None::<&str>, Some("tmpfs"));
            Ok(nix::mount::mount(none, argument, file_system, nix::mount::MsFlags::empty(), none)?)
        }
        _ => Err(io::Error::other("unknown attempt")),
    }
}
