//! The dyno as the platform defines it: its name, its Procfile entries, its port, and its lifecycle lines.

pub(crate) mod lifecycle;
pub(crate) mod name;
pub(crate) mod port;
pub(crate) mod procfile;
