//! The keeper: the dyno's main process. It starts the app, passes on what it prints, keeps the books, and exits
//! as the app did. It does no network work, and it is complete without a shipper.

mod nested;
mod sampler_thread;
mod setup;
mod shared_state;
mod shipper_process;
mod shutdown;
mod spawn;
mod supervisor;

pub use nested::is_below_another;
pub use shared_state::SharedState;
pub use spawn::{cannot_start, exec};
pub use supervisor::run;
