//! x
use super::FlowSpec;
pub struct Refusal {
    pub flow: usize,
    pub message: String,
    pub hint: String,
}
pub fn refusals(_: &[&FlowSpec]) -> Vec<Refusal> {
    Vec::new()
}
pub fn automaton(_: &str) -> Result<(), String> {
    Ok(())
}
