//! The cores of the contestants: two, as on the machine on which the budgets were set.

use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::unistd::Pid;

use crate::Result;

/// The cores of this machine, divided between the contestants and the bench itself.
pub(crate) struct Cores {
    /// The number of cores that the contestants, the app and the sink share.
    pub(crate) count: usize,
    contestants: CpuSet,
    bench: CpuSet,
}

impl Cores {
    /// Assigns the last `wanted` cores to the processes that this one starts from now on.
    pub(crate) fn share(wanted: usize) -> Result<Self> {
        let allowed = sched_getaffinity(Pid::from_raw(0))?;
        let mut cores = Self { count: 0, contestants: CpuSet::new(), bench: CpuSet::new() };
        let mut left = 0;
        for cpu in (0..CpuSet::count()).rev() {
            if !allowed.is_set(cpu)? {
                continue;
            }
            if cores.count < wanted.max(1) {
                cores.contestants.set(cpu)?;
                cores.count += 1;
            } else {
                cores.bench.set(cpu)?;
                left += 1;
            }
        }
        if left == 0 {
            cores.bench = cores.contestants;
        }
        cores.enter()?;
        Ok(cores)
    }

    /// Moves this thread to the cores of the contestants; processes that it starts inherit them.
    pub(crate) fn enter(&self) -> Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.contestants)?)
    }

    /// Moves this thread to the other cores, if there are any.
    pub(crate) fn leave(&self) -> Result<()> {
        Ok(sched_setaffinity(Pid::from_raw(0), &self.bench)?)
    }
}
