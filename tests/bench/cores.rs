//! Which cores the contestants get: two, as on the machine that the budgets were set on.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Result;

/// The cores of this machine, shared out.
pub(crate) struct Cores {
    /// How many the contestants, the feeder and the sink have together.
    pub(crate) count: usize,
    theirs: CpuSet,
    ours: CpuSet,
}

impl Cores {
    /// Gives the last `wanted` cores to what this process starts from now on.
    pub(crate) fn share(wanted: usize) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut cores = Self { count: 0, theirs: CpuSet::new(), ours: CpuSet::new() };
        let mut left = 0;
        for cpu in (0..CpuSet::count()).rev() {
            if !allowed.is_set(cpu)? {
                continue;
            }
            if cores.count < wanted.max(1) {
                cores.theirs.set(cpu)?;
                cores.count += 1;
            } else {
                cores.ours.set(cpu)?;
                left += 1;
            }
        }
        if left == 0 {
            cores.ours = cores.theirs;
        }
        cores.enter()?;
        Ok(cores)
    }

    /// From here on this thread is on the cores of the contestants: what it starts inherits them.
    pub(crate) fn enter(&self) -> Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.theirs)?)
    }

    /// From here on this thread is out of their way, when there is another core.
    pub(crate) fn leave(&self) -> Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.ours)?)
    }
}
