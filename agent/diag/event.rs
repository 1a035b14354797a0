//! The table of all events: names, fields, meaning. `buildpack/docs/events.md` is made from it. Names and fields are
//! stable.

/// Declares [`Event`] from its table: `Variant = "name", "fields", "when", "what to do";`.
macro_rules! events {
    ($($event:ident = $name:literal, $fields:literal, $when:literal, $action:literal;)+) => {
        /// An event that is reported on standard error.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Event {
            $(#[doc = $when] $event,)+
        }

        impl Event {
            /// The value of `at`.
            pub(crate) fn name(self) -> &'static str {
                match self {
                    $(Self::$event => $name,)+
                }
            }

            /// The keys of its fields, separated by spaces.
            fn fields(self) -> &'static str {
                match self {
                    $(Self::$event => $fields,)+
                }
            }
        }

        /// When each event is reported, and what to do then.
        #[cfg(test)]
        const DOCUMENTATION: &[(Event, &str, &str)] = &[$((Event::$event, $when, $action),)+];
    };
}

impl Event {
    /// Whether lines about the event may have this field.
    pub(super) fn has_field(self, key: &str) -> bool {
        self.fields().split(' ').any(|field| field == key)
    }
}

// In alphabetical order of the names.
events! {
    Adopted = "adopted", "bytes",
        "The spool of an agent that ended before was found and is delivered.",
        "Nothing.";
    BadSettings = "bad-settings", "error detail try",
        "The value of a setting cannot be used. Its default is used instead and lines are shipped; a drain URL is left out. Without any drain `run` executes the command without tailrace, and `ship` reads its input and discards it: `detail` says which.",
        "Correct the setting that `error` names.";
    BytesNotDelivered = "bytes-not-delivered", "drain lines bytes error",
        "At the end: not all is delivered that an agent left which ended before, or after the supervisor was killed its shipper could not deliver all of the spool. The next agent of the app delivers the rest.",
        "Check the drain.";
    CaFile = "ca-file", "error detail try",
        "`TAILRACE_CA_FILE` or `SSL_CERT_FILE`, or an entry of it, cannot be used. What can be read is trusted beside the built-in roots, and lines are shipped.",
        "Correct the file that `error` names, or unset the variable.";
    CannotRead = "cannot-read", "error",
        "`ship` cannot read its standard input. It exits with 74.",
        "Check what is connected to it. What was read before is delivered.";
    CannotShip = "cannot-ship", "error detail",
        "`ship` cannot start or go on: the system refused a resource. It reads the rest of its input, discards it, and exits with 71.",
        "Check the limits that `error` names.";
    CannotStart = "cannot-start", "command error",
        "The app's command cannot be started. The exit status is 126 or 127, as a shell's.",
        "Correct the command.";
    CheckpointDamaged = "checkpoint-damaged", "directory error",
        "The checkpoint that a dead agent left cannot be read. All that is in its spool is delivered, some of it once more.",
        "Check the disk, and whether something else writes to `TAILRACE_SPOOL_DIR`.";
    ClockSteppedBack = "clock-stepped-back", "detail",
        "The system clock was set back. Timestamps follow it.",
        "Nothing.";
    DiskStandsStill = "disk-stands-still", "detail",
        "At the end the disk did not complete the last writes in time: checkpoint and ledger file may be out of date.",
        "Check the disk.";
    DrainFailing = "drain-failing", "drain status held oldest retry adopted_bytes error try",
        "A drain answers with an error that may be temporary. Lines are kept and sent again.",
        "Check the receiver if it lasts.";
    DrainGone = "drain-gone", "drain lines bytes detail",
        "A dead agent held lines for a drain that is not configured any more, or not for this process. No agent delivers them there.",
        "Nothing, if the drain was removed or replaced. Give processes with different drains directories of their own with `TAILRACE_SPOOL_DIR`.";
    DrainOk = "drain-ok", "drain down held",
        "A drain about which trouble was reported accepts lines again, after the time `down`.",
        "Nothing.";
    DrainRefused = "drain-refused", "drain status held oldest retry adopted_bytes error try",
        "A drain refuses requests in a way that somebody has to correct, such as 401 or 404. Lines are kept and sent again.",
        "Run `tailrace check`; correct URL or credentials.";
    DrainRejected = "drain-rejected", "drain status rejected error try",
        "A drain refused frames for good: with a status such as 400, or a single frame with 413. The lines count as rejected.",
        "Run `tailrace check`; check the limits of the receiver.";
    DrainUnreachable = "drain-unreachable", "drain held oldest retry adopted_bytes error try",
        "No answer comes from a drain: DNS, TCP, TLS or a timeout. Lines are kept and sent again.",
        "Run `tailrace check`; check host and network.";
    InputNotRead = "input-not-read", "bytes detail",
        "`TAILRACE_STOP_GRACE` is over and `ship` has not read all of its input. It exits with 75.",
        "Stop the writer earlier, or set a longer `TAILRACE_STOP_GRACE`.";
    SupervisorFault = "keeper-fault", "detail",
        "A bug in the supervisor. The app continues; nothing is shipped any more.",
        "Restart the dyno; report the bug.";
    SupervisorGone = "keeper-gone", "held_bytes grace",
        "The supervisor was killed. The shipper delivers what is in the spool within the time `grace`.",
        "Find out what killed it, such as the OOM killer.";
    LinesNotDelivered = "lines-not-delivered",
        "drain captured delivered held dropped rejected spool-full spool-unwritable recorder-behind recorder-fault spool-damaged error",
        "At the end, or when `TAILRACE_STOP_GRACE` is over: a drain did not get all lines. Dropped lines also by reason.",
        "See `error` and the reasons; a larger `TAILRACE_SPOOL_BYTES` or longer `TAILRACE_STOP_GRACE` may help.";
    NoDrain = "no-drain", "error detail",
        "`ship` has no drain. It reads its input and discards it.",
        "Set `TAILRACE_DRAIN_URL`.";
    NoLedger = "no-ledger", "setting error",
        "The ledger file cannot be written.",
        "Correct `TAILRACE_LEDGER_FILE`.";
    NoShipper = "no-shipper", "error detail",
        "The shipper cannot be started. Lines are kept and starting it is tried again.",
        "Check the limits of processes and memory.";
    NoSpool = "no-spool", "detail",
        "The app ended before the spool was ready. Lines may be missing.",
        "Check the disk below `TAILRACE_SPOOL_DIR`.";
    NotShipping = "not-shipping", "error",
        "The supervisor cannot be set up. The command runs without tailrace. The buildpack's launcher reports it, too, and so does `.profile.d/tailrace.sh` when the Procfile was replaced after the build wrapped it.",
        "Correct what `error` names.";
    OutputNotRecorded = "output-not-recorded", "bytes detail",
        "At the end the recorder had not handled all that was read from the app, because the disk or the machine is too slow. These bytes are in no count of lines.",
        "Set a longer `TAILRACE_STOP_GRACE`; check the disk.";
    RecorderFault = "recorder-fault", "lines detail",
        "A bug in the recorder. The lines of one chunk count as dropped.",
        "Report the bug.";
    SamplerFault = "sampler-fault", "detail",
        "A bug in the sampler. There are no more samples.",
        "Report the bug.";
    ShipOff = "ship-off", "detail",
        "`TAILRACE` is `off`: `ship` reads its input and discards it.",
        "Nothing.";
    ShipperFails = "shipper-fails", "starts retry detail",
        "The shipper ended several times without a delivery between. Lines are kept and it is started again.",
        "Check memory and limits of the dyno.";
    ShipperHangs = "shipper-hangs", "silent",
        "The shipper sent no message for the time `silent`. It is killed and started again.",
        "Nothing, unless it repeats: then report the bug.";
    ShipperOk = "shipper-ok", "down",
        "The shipper delivers again, after trouble of the duration `down` that was reported.",
        "Nothing.";
    ShipperViolation = "shipper-violation", "error detail",
        "The shipper did what it must not: a system call outside of its confinement, or a message that contradicts the ledger. It is killed and started again.",
        "Report the bug. If it repeats, ask who controls the receiver.";
    SpoolDamaged = "spool-damaged", "drain bytes detail",
        "Bytes of the spool are not frames. Their lines count as dropped.",
        "Check the disk, and whether something else writes to `TAILRACE_SPOOL_DIR`.";
    SpoolExpired = "spool-expired", "app directory bytes",
        "What a dead agent of another app left in `directory` was not changed for 24 hours. It is removed: nobody delivered it.",
        "Give the apps directories of their own with `TAILRACE_SPOOL_DIR`, if it repeats.";
    SpoolForeign = "spool-foreign", "directory files detail",
        "The directory that a dead agent left contains something that no agent made. That is ignored, and stays.",
        "Remove it, and find out what writes to `TAILRACE_SPOOL_DIR`.";
    SpoolInMemory = "spool-in-memory", "error detail",
        "The disk cannot be used. The spool is in memory and covers only a short outage.",
        "Free disk space, or correct `TAILRACE_SPOOL_DIR`.";
    SpoolUnwritable = "spool-unwritable", "error detail",
        "Neither disk nor memory can be written to. Lines are passed through and count as dropped.",
        "Free disk space or memory.";
    UnknownSettings = "unknown-settings", "error detail try",
        "The name of a variable starts with `TAILRACE_` and is not a setting, or no drain is set and a variable has a name that others give to it, such as `LOG_DRAIN_URL`. It is ignored.",
        "Correct its name or remove it.";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::DropReason;
    use std::fmt::Write as _;

    /// The table in the documentation.
    fn markdown() -> String {
        let mut out = String::from("| event | when | fields | what to do |\n|---|---|---|---|\n");
        for (event, when, action) in DOCUMENTATION {
            let (name, fields) = (event.name(), event.fields().replace(' ', "` `"));
            writeln!(out, "| `{name}` | {when} | `{fields}` | {action} |").unwrap();
        }
        out
    }

    #[test]
    fn the_table_in_the_documentation_is_up_to_date() {
        let page = include_str!("../../buildpack/docs/events.md");
        let table =
            page.split("<!-- events -->\n").nth(1).and_then(|rest| rest.split("<!-- /events -->").next());
        assert_eq!(
            table.map(str::trim),
            Some(markdown().trim()),
            "expected between the markers:\n{}",
            markdown()
        );
    }

    #[test]
    fn names_are_sorted_and_unique() {
        let names: Vec<&str> = DOCUMENTATION.iter().map(|(event, ..)| event.name()).collect();
        assert!(names.is_sorted_by(|a, b| a < b), "{names:?}");
    }

    #[test]
    fn every_drop_reason_is_a_field_of_lines_not_delivered() {
        for reason in DropReason::ALL {
            assert!(Event::LinesNotDelivered.has_field(reason.as_str()), "{}", reason.as_str());
        }
    }
}
