//! Faults put in force, and ended.

use crate::fault::{DynoFault, DynoFaultKind, Fault};
use crate::process;
use crate::simulation::{Control, InjectedFault, RunningDyno, Simulation};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::sleep;

/// How long it is looked for a process that may be about to start.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(20);
/// How long dynos that start again are waited for, in looks.
const BOOTS: u32 = 3000;

/// Puts faults in force from now on, and says so.
pub async fn apply(world: &Arc<Simulation>, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Drain { text, spec } => match world.drain.as_ref().map(|drain| drain.add_faults(spec)) {
                Some(Ok(())) => world.note(&format!("fault: {text}")).await,
                Some(Err(error)) => world.refuse(format!("{text}: expected {}", error.expected)).await,
                None => world.refuse(format!("{text}: not here, the receiver is not ours")).await,
            },
            Fault::Dyno(strike) => {
                let (world, strike) = (Arc::clone(world), *strike);
                if let Some(why) = obstacle(&world, strike.what) {
                    world.refuse(format!("{}: {why}", strike.what.as_str())).await;
                    continue;
                }
                if strike.what == DynoFaultKind::DiskFull && !world.has_small_disks() {
                    give_small_disks(&world).await;
                }
                drop(tokio::spawn(async move { play(&world, strike).await }));
            }
        }
    }
}

/// Ends all faults.
pub async fn heal(world: &Simulation) {
    if let Some(Err(error)) = world.drain.as_ref().map(|drain| drain.set_faults("")) {
        world.note(&error.to_string()).await;
    }
    let numbers: Vec<u32> = world.live().into_keys().collect();
    for number in numbers {
        end(world, number, |_| true).await;
    }
    world.note("healed: nothing goes wrong on purpose any more").await;
}

/// Why a fault cannot be put in force without harm to this machine.
fn obstacle(world: &Simulation, what: DynoFaultKind) -> Option<&'static str> {
    match what {
        DynoFaultKind::DiskFull if !world.walls.has_root() => {
            Some("not here, dynos have no disk of their own")
        }
        DynoFaultKind::MemoryGrown if growth(world) > process::free_memory() / 2 => {
            Some("not here, it takes more than half of this machine's free memory; choose a smaller --size")
        }
        _ => None,
    }
}

/// A disk that can be full is made when a dyno starts.
async fn give_small_disks(world: &Simulation) {
    world.make_small_disks();
    world.note("fault: the dynos start again, with a disk that can be full").await;
    for live in world.live().into_values() {
        drop(live.control.send(Control::Restart).await); // one that is gone needs no word
    }
}

/// Bytes that are more than a dyno may have.
fn growth(world: &Simulation) -> u64 {
    world.args.size.memory() / 5 * 6
}

async fn play(world: &Simulation, strike: DynoFault) {
    sleep(strike.at).await;
    let mut struck = Vec::new();
    for (number, live) in targets(world, strike.what).await {
        let told = match begin(world, strike.what, &live).await {
            Ok(target) => {
                let fault =
                    InjectedFault { number, live: live.clone(), what: strike.what, target, lasts: true };
                world.struck().push(fault);
                struck.push(number);
                strike.what.as_str()
            }
            Err(why) => why,
        };
        world.note(&format!("fault: {}: {told}", live.dyno)).await;
    }
    let Some(length) = strike.length else { return };
    sleep(length).await;
    for number in struck {
        end(world, number, |what| what == strike.what).await;
    }
}

/// The dynos that are to be struck. Those that start again for it are waited for.
async fn targets(world: &Simulation, what: DynoFaultKind) -> Vec<(u32, RunningDyno)> {
    let is_ready = |live: &RunningDyno| live.has_small_disk && process::shipper_of(live.pid).is_some();
    for _ in 0..BOOTS {
        if what != DynoFaultKind::DiskFull || world.live().values().all(is_ready) {
            break;
        }
        sleep(LOOK).await;
    }
    world.live().into_iter().collect()
}

/// Strikes one dyno; returns the process that it concerns, or why there is nothing to strike.
async fn begin(
    world: &Simulation,
    what: DynoFaultKind,
    live: &RunningDyno,
) -> Result<Option<Pid>, &'static str> {
    let order = |order: String| async move { drop(live.control.send(Control::Order(order)).await) };
    let (find, nobody): (fn(Pid) -> Option<Pid>, _) = match what {
        DynoFaultKind::DiskFull => {
            order("full".to_owned()).await;
            return Ok(None);
        }
        DynoFaultKind::MemoryGrown => {
            order(format!("grow {}", growth(world))).await;
            return Ok(None);
        }
        DynoFaultKind::ShipperKilled | DynoFaultKind::ShipperStopped => {
            (process::shipper_of, "there is no shipper in it")
        }
        DynoFaultKind::AppKilled => (process::app_of, "there is no app under an agent in it"),
    };
    for _ in 0..LOOKS {
        if let Some(pid) = find(live.pid) {
            signal(
                pid,
                if what == DynoFaultKind::ShipperStopped { Signal::SIGSTOP } else { Signal::SIGKILL },
            );
            return Ok(Some(pid));
        }
        sleep(LOOK).await;
    }
    Err(nobody)
}

/// Ends the faults of a dyno that can be ended.
async fn end(world: &Simulation, number: u32, which: impl Fn(DynoFaultKind) -> bool) {
    let over: Vec<InjectedFault> = {
        let mut all = world.struck();
        let mine =
            all.iter_mut().filter(|struck| struck.number == number && struck.lasts && which(struck.what));
        mine.map(|struck| {
            struck.lasts = false;
            struck.clone()
        })
        .collect()
    };
    for InjectedFault { live, what, target, .. } in over {
        let told = match (what, target) {
            (DynoFaultKind::ShipperStopped, Some(pid)) => {
                signal(pid, Signal::SIGCONT);
                "the shipper goes on"
            }
            (DynoFaultKind::DiskFull, _) => {
                drop(live.control.send(Control::Order("free".to_owned())).await);
                "the disk has room again"
            }
            _ => continue,
        };
        world.note(&format!("fault: {}: {told}", live.dyno)).await;
    }
}

fn signal(pid: Pid, signal: Signal) {
    let _gone_already = kill(pid, signal);
}
