//! The supervisor: the process that the platform starts. Spawns the app, copies its output, records it in the spool,
//! forwards signals, restarts the shipper, and exits with the app's status. It never touches the network, and works
//! without a shipper.

mod nested;
mod sampler_thread;
mod script;
mod setup;
mod shared_state;
mod shipper_process;
mod shutdown;
mod spawn;
mod start;
mod supervisor;

pub(crate) use nested::is_nested;
pub(crate) use spawn::{cannot_start, exec};
pub(crate) use start::run;
