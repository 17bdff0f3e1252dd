//! The table of keys, written out: for people and for editors.

/// The two kinds of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Document {
    /// A file of `config/`.
    Config,
    /// A file of `topologies/`.
    Topology,
}

/// Every key with its default and unit, as text.
pub fn reference() -> String {
    String::new()
}
/// A schema.
pub fn json_schema(_d: Document) -> serde_json::Value {
    serde_json::Value::Null
}
