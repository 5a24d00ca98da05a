//! Getting into a server: how long that may take, how often it is tried, and where the name of it may stand.

mod limits;
mod prompt;
mod refused;
mod role;
mod stalls;
mod variables;
