//! Faults put in force.

use crate::fault::{Fault, Strike, What};
use crate::process;
use crate::world::{Control, Live, World};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::sync::Arc;
use std::time::Duration;
use tailrace_drain::Drain;
use tokio::time::sleep;

/// How long it is looked for a process that may be about to start.
const LOOKS: u32 = 50;
const LOOK: Duration = Duration::from_millis(20);

/// Puts faults in force from now on.
pub async fn apply(world: &Arc<World>, drain: Option<&Drain>, faults: &[Fault]) {
    for fault in faults {
        match fault {
            Fault::Drain(text) => match drain.map(|drain| drain.add_faults(text)) {
                Some(Ok(())) => {}
                Some(Err(error)) => world.note(&format!("fault {text}: {error}")).await,
                None => world.note(&format!("fault {text}: the receiver is not ours")).await,
            },
            Fault::Dyno(strike) => {
                let (world, strike) = (Arc::clone(world), *strike);
                if let Some(why) = obstacle(&world, strike.what) {
                    world.note(&format!("fault: {}: {why}", strike.what.as_str())).await;
                    continue;
                }
                drop(tokio::spawn(async move { play(&world, strike).await }));
            }
        }
    }
}

/// Why a fault cannot be put in force without harm to this machine.
fn obstacle(world: &World, what: What) -> Option<&'static str> {
    match what {
        What::DiskFull if !world.walls.has_root() => Some("not here, dynos have no disk of their own"),
        What::DiskFull if !world.has_small_disks() => {
            Some("not now, a small disk is made at the start: --fault disk=full@1h")
        }
        What::MemoryGrown if growth(world) > process::free_memory() / 2 => {
            Some("not here, it takes more than half of this machine's free memory; choose a smaller --size")
        }
        _ => None,
    }
}

/// Bytes that are more than a dyno may have.
fn growth(world: &World) -> u64 {
    world.args.size.memory() / 5 * 6
}

async fn play(world: &World, strike: Strike) {
    sleep(strike.at).await;
    let struck: Vec<(Live, Option<Pid>)> = {
        let mut struck = Vec::new();
        for (dyno, live) in world.live() {
            let target = begin(world, strike.what, &live).await;
            world.note(&format!("fault: {dyno}: {}", strike.what.as_str())).await;
            struck.push((live, target));
        }
        struck
    };
    let Some(length) = strike.length else { return };
    sleep(length).await;
    for (live, target) in struck {
        match (strike.what, target) {
            (What::ShipperStopped, Some(pid)) => signal(pid, Signal::SIGCONT),
            (What::DiskFull, _) => drop(live.control.send(Control::Order("free".to_owned())).await),
            _ => {}
        }
    }
}

/// Strikes one dyno; returns the process that it concerns.
async fn begin(world: &World, what: What, live: &Live) -> Option<Pid> {
    let order = |order: String| async move { drop(live.control.send(Control::Order(order)).await) };
    match what {
        What::DiskFull => order("full".to_owned()).await,
        What::MemoryGrown => order(format!("grow {}", growth(world))).await,
        What::ShipperKilled | What::ShipperStopped | What::AppKilled => {
            let find = if what == What::AppKilled { process::app_of } else { process::shipper_of };
            for _ in 0..LOOKS {
                if let Some(pid) = find(live.pid) {
                    signal(pid, if what == What::ShipperStopped { Signal::SIGSTOP } else { Signal::SIGKILL });
                    return Some(pid);
                }
                sleep(LOOK).await;
            }
        }
    }
    None
}

fn signal(pid: Pid, signal: Signal) {
    let _gone_already = kill(pid, signal);
}
