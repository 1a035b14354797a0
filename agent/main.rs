//! The `tailrace` command: parses the command line, runs a subcommand, exits.

use std::io::{self, Write};
use tailrace::cli::{self, Command};
use tailrace::commands::{check, confinement_probe, run, ship, shipper, status};
use tailrace::config;
use tailrace::exit_code::ExitCode;
use tailrace::version::VERSION;

fn main() -> std::process::ExitCode {
    let command = match cli::parse(std::env::args_os().skip(1)) {
        Ok(command) => command,
        Err(error) => {
            eprintln!("tailrace: {error}\nTry `tailrace --help`.");
            return u8::from(ExitCode::Usage).into();
        }
    };
    let status = match command {
        Command::Run(argv) => run::run(&argv),
        Command::RunType { name, arguments } => run::run_type(&name, &arguments),
        Command::Ship => ship::run(),
        Command::Check(test_frame) => check::run(test_frame, &mut io::stdout().lock()).into(),
        Command::Status(format) => status::run(format, &mut io::stdout().lock()).into(),
        Command::Help => print(cli::HELP),
        Command::HelpSettings => print(&config::help_text()),
        Command::Version => print(&format!("tailrace {VERSION}\n")),
        Command::Shipper { agent } => shipper::run(&agent),
        Command::ConfinementProbe(arguments) => confinement_probe::run(&arguments).into(),
    };
    status.into()
}

fn print(text: &str) -> u8 {
    io::stdout().write_all(text.as_bytes()).ok(); // a closed pipe (`| head`) is no error
    0
}
