//! What runs every night: archives of which some stay, a copy that keeps up, and the units that start them.

mod retention;
mod sync;
mod units;
