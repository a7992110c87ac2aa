//! What the scenarios stand on: a seed, a server, worker processes, a load, a proxy that breaks connections,
//! and the oracle.

pub(crate) mod clock;
pub(crate) mod crew;
pub(crate) mod frames;
pub(crate) mod invariants;
pub(crate) mod load;
pub(crate) mod oracle;
pub(crate) mod proxy;
pub(crate) mod role;
pub(crate) mod run;
pub(crate) mod site;
#[path = "../../it/support/standby.rs"]
pub(crate) mod standby;
