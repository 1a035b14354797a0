//! Landlock: the files that can be opened and the TCP ports that can be connected to, for this process and whatever it
//! starts (landlock(7)).

use ::landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, LandlockStatus, NetPort,
    PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
    make_bitflags,
};
use std::path::{Path, PathBuf};

/// What a shipper whose supervisor is dead does in the spool directory: it adopts the rest, and removes what is
/// delivered.
fn spool_rights() -> BitFlags<AccessFs> {
    make_bitflags!(AccessFs::{ReadFile | ReadDir | WriteFile | MakeReg | MakeDir | RemoveFile | RemoveDir})
}

/// What is restricted beside files.
#[derive(Clone, Copy, Debug)]
pub(super) struct Restricted {
    /// TCP ports.
    pub(super) ports: bool,
}

/// Opens a file for a rule. None: there is no such file, and no rule.
pub(super) fn open(path: &Path) -> Option<PathFd> {
    PathFd::new(path).ok()
}

/// Restricts this thread and those that it starts.
///
/// # Errors
/// Why nothing is restricted.
pub(super) fn restrict(
    spool: &Path,
    files: &[PathBuf],
    status: Option<&PathFd>,
    ports: Vec<u16>,
) -> Result<Restricted, String> {
    let status = try_restrict(spool, files, status, ports).map_err(|error| error.to_string())?;
    match (status.ruleset, status.landlock) {
        (RulesetStatus::NotEnforced, LandlockStatus::NotEnabled) => Err("off in this kernel".to_owned()),
        (RulesetStatus::NotEnforced, _) => Err("not in this kernel".to_owned()),
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            Ok(Restricted { ports: effective_abi >= ABI::V4 })
        }
        (_, _) => Ok(Restricted { ports: false }),
    }
}

fn try_restrict(
    spool: &Path,
    files: &[PathBuf],
    status: Option<&PathFd>,
    ports: Vec<u16>,
) -> Result<::landlock::RestrictionStatus, RulesetError> {
    let mut rules = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V9))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .scope(Scope::from_all(ABI::V6))?
        .create()?;
    if let Some(spool) = open(spool) {
        rules = rules.add_rule(PathBeneath::new(spool, spool_rights()))?;
    }
    for file in files.iter().filter_map(|file| open(file)) {
        rules = rules.add_rule(PathBeneath::new(file, AccessFs::ReadFile))?;
    }
    if let Some(status) = status {
        rules = rules.add_rule(PathBeneath::new(status, AccessFs::ReadFile))?;
    }
    for port in ports {
        rules = rules.add_rule(NetPort::new(port, AccessNet::ConnectTcp))?;
    }
    rules.restrict_self()
}
