//! How a source topic is named on the target, and the way back. Strings only.

/// MM2's two policies. The separator is `.`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicationPolicy {
    /// `orders` of `seoul` becomes `seoul.orders` (MM2 `DefaultReplicationPolicy`).
    Default,
    /// Names stay (MM2 `IdentityReplicationPolicy`).
    Identity,
}
