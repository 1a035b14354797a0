//! The dyno as the platform describes it: its name, its Procfile, its port, and the lines about its lifecycle.

pub mod lifecycle;
pub mod name;
pub mod port;
pub mod procfile;
