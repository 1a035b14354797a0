//! The dyno as the platform defines it: its name, its Procfile entries, its port, and its lifecycle lines.

pub mod lifecycle;
pub mod name;
pub mod port;
pub mod procfile;
