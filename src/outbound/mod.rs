//! Where a call may go: URLs with fields of the payload in them, and the hosts and addresses that such a URL may
//! reach. Words and arithmetic only; nothing here looks up a name or opens a connection.

mod address;
mod hosts;
mod template;
mod value;

pub use address::is_public;
pub use hosts::HostRules;
pub use template::{Reach, UrlTemplate};
