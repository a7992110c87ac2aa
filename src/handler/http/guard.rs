//! Looks names up, and lets a call from a payload connect to no address that was not checked.
//!
//! The client dials exactly the addresses that come from here: a name is looked up once for a connection, so a
//! server of names that answers differently the second time is never asked a second time.

use std::sync::Arc;

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use crate::outbound::HostRules;

/// A name leads where a payload may not send anybody.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to a place that a payload may not name: {reason}")]
pub(super) struct Refused {
    host: String,
    reason: String,
}

/// Checks what `names` answers.
pub(super) struct Guard {
    rules: Arc<HostRules>,
    names: Arc<dyn Resolve>,
}

impl Guard {
    pub(super) fn new(rules: Arc<HostRules>, names: Arc<dyn Resolve>) -> Self {
        Self { rules, names }
    }
}

impl Resolve for Guard {
    fn resolve(&self, name: Name) -> Resolving {
        let host = name.as_str().to_owned();
        let answer = self.names.resolve(name);
        let rules = self.rules.clone();
        Box::pin(async move {
            let addresses: Vec<_> = answer.await?.collect();
            // One bad address spoils the answer: whoever mixes them wants the other one dialled.
            for address in &addresses {
                if let Err(reason) = rules.allow_address(address.ip()) {
                    return Err(Refused { host, reason }.into());
                }
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// The machine's own way to look names up.
pub(super) struct SystemNames;

impl Resolve for SystemNames {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            // The client puts the port in.
            let addresses: Vec<_> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
