//! Injects faults, and ends them.

use crate::fault::{DynoFault, DynoFaultKind, Fault};
use crate::init::InitCommand;
use crate::process;
use crate::simulation::{DynoCommand, InjectedFault, RunningDyno, Simulation};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// Interval of the searches for a process, or for dynos that are ready.
const POLL_INTERVAL: Duration = Duration::from_millis(20);
/// How often a process that may be about to start is searched for: 1 s.
const PROCESS_POLLS: u32 = 50;
/// How often dynos that were restarted are checked: 1 min.
const RESTART_POLLS: u32 = 3000;

/// Injects faults, and prints which.
pub async fn inject(simulation: &Arc<Simulation>, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Drain { text, spec } => {
                match simulation.drain.as_ref().map(|drain| drain.add_faults(spec)) {
                    Some(Ok(())) => simulation.note(&format!("fault: {text}")).await,
                    Some(Err(error)) => {
                        simulation.reject_fault(format!("{text}: expected {}", error.expected)).await;
                    }
                    None => {
                        let reason = format!("{text}: not possible here, the receiver is not the local one");
                        simulation.reject_fault(reason).await;
                    }
                }
            }
            Fault::Dyno(fault) => {
                if let Some(obstacle) = obstacle(simulation, fault.kind) {
                    simulation.reject_fault(format!("{}: {obstacle}", fault.kind.as_str())).await;
                    continue;
                }
                if fault.kind == DynoFaultKind::DiskFull && !simulation.uses_small_disks() {
                    restart_with_small_disks(simulation).await;
                }
                let (simulation, fault) = (Arc::clone(simulation), *fault);
                drop(tokio::spawn(async move { run(&simulation, fault).await }));
            }
        }
    }
}

/// Ends all faults.
pub async fn heal(simulation: &Simulation) {
    if let Some(Err(error)) = simulation.drain.as_ref().map(|drain| drain.set_faults("")) {
        simulation.note(&error.to_string()).await;
    }
    let numbers: Vec<u32> = simulation.running().into_keys().collect();
    for number in numbers {
        end(simulation, number, |_| true).await;
    }
    simulation.note("healed: no fault is in force").await;
}

/// Why a fault cannot be injected without harm to this machine; `None` when it can.
fn obstacle(simulation: &Simulation, kind: DynoFaultKind) -> Option<&'static str> {
    match kind {
        DynoFaultKind::DiskFull if !simulation.isolation.has_root() => {
            Some("not possible here, dynos have no disk of their own")
        }
        DynoFaultKind::MemoryGrown if excess_memory(simulation) > process::available_memory() / 2 => Some(
            "not possible here, it needs more than half of this machine's free memory; choose a smaller --size",
        ),
        _ => None,
    }
}

/// Restarts the dynos: the size of `/tmp` is fixed when a dyno starts.
async fn restart_with_small_disks(simulation: &Simulation) {
    simulation.use_small_disks();
    simulation.note("fault: the dynos restart with a disk that can be full").await;
    for dyno in simulation.running().into_values() {
        dyno.commands.send(DynoCommand::Restart).await.ok(); // fails when the dyno has ended
    }
}

/// Bytes that exceed the memory quota of a dyno: 120 % of it.
fn excess_memory(simulation: &Simulation) -> u64 {
    simulation.args.size.memory() / 5 * 6
}

/// Runs a fault from its start to its end, in all dynos.
async fn run(simulation: &Simulation, fault: DynoFault) {
    sleep(fault.at).await;
    let mut injected = Vec::new();
    for (number, dyno) in targets(simulation, fault.kind).await {
        let message = match begin(simulation, fault.kind, &dyno).await {
            Ok(target) => {
                let (dyno, kind) = (dyno.clone(), fault.kind);
                simulation.injected_faults().push(InjectedFault {
                    number,
                    dyno,
                    kind,
                    target,
                    is_active: true,
                });
                injected.push(number);
                fault.kind.as_str()
            }
            Err(reason) => reason,
        };
        simulation.note(&format!("fault: {}: {message}", dyno.dyno)).await;
    }
    let Some(length) = fault.length else { return };
    sleep(length).await;
    for number in injected {
        end(simulation, number, |kind| kind == fault.kind).await;
    }
}

/// The dynos that get the fault, by run number. Waits for those that restart with a small disk.
async fn targets(simulation: &Simulation, kind: DynoFaultKind) -> Vec<(u32, RunningDyno)> {
    let is_ready = |dyno: &RunningDyno| dyno.has_small_disk && process::find_shipper(dyno.pid).is_some();
    for _ in 0..RESTART_POLLS {
        if kind != DynoFaultKind::DiskFull || simulation.running().values().all(is_ready) {
            break;
        }
        sleep(POLL_INTERVAL).await;
    }
    simulation.running().into_iter().collect()
}

/// Starts the fault in one dyno; returns the process that got a signal, or why the fault is not possible.
async fn begin(
    simulation: &Simulation,
    kind: DynoFaultKind,
    dyno: &RunningDyno,
) -> Result<Option<Pid>, &'static str> {
    let (find, not_found): (fn(Pid) -> Option<Pid>, _) = match kind {
        DynoFaultKind::DiskFull => {
            send(dyno, InitCommand::FillDisk).await;
            return Ok(None);
        }
        DynoFaultKind::MemoryGrown => {
            send(dyno, InitCommand::GrowMemory(excess_memory(simulation))).await;
            return Ok(None);
        }
        DynoFaultKind::ShipperKilled | DynoFaultKind::ShipperStopped => {
            (process::find_shipper, "there is no shipper in it")
        }
        DynoFaultKind::AppKilled => (process::find_app, "there is no app under an agent in it"),
    };
    for _ in 0..PROCESS_POLLS {
        if let Some(pid) = find(dyno.pid) {
            let is_stop = kind == DynoFaultKind::ShipperStopped;
            signal(pid, if is_stop { Signal::SIGSTOP } else { Signal::SIGKILL });
            return Ok(Some(pid));
        }
        sleep(POLL_INTERVAL).await;
    }
    Err(not_found)
}

/// Ends the active faults of a dyno that `selects` and that can be ended.
async fn end(simulation: &Simulation, number: u32, selects: impl Fn(DynoFaultKind) -> bool) {
    let ended: Vec<InjectedFault> = {
        let mut all = simulation.injected_faults();
        let selected =
            all.iter_mut().filter(|fault| fault.number == number && fault.is_active && selects(fault.kind));
        selected
            .map(|fault| {
                fault.is_active = false;
                fault.clone()
            })
            .collect()
    };
    for InjectedFault { dyno, kind, target, .. } in ended {
        let message = match (kind, target) {
            (DynoFaultKind::ShipperStopped, Some(pid)) => {
                signal(pid, Signal::SIGCONT);
                "the shipper continues"
            }
            (DynoFaultKind::DiskFull, _) => {
                send(&dyno, InitCommand::FreeDisk).await;
                "the disk has room again"
            }
            _ => continue,
        };
        simulation.note(&format!("fault: {}: {message}", dyno.dyno)).await;
    }
}

async fn send(dyno: &RunningDyno, command: InitCommand) {
    dyno.commands.send(DynoCommand::Init(command)).await.ok(); // fails when the dyno has ended
}

fn signal(pid: Pid, signal: Signal) {
    kill(pid, signal).ok(); // fails when the process has ended
}
