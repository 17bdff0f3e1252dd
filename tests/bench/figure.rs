//! What a benchmark found.

use serde_json::json;

/// One measured number.
pub struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
    /// The most it may be.
    bound: Option<f64>,
}

impl Figure {
    /// A number that nothing was promised about.
    pub fn new(name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            name: name.into(),
            value,
            unit,
            bound: None,
        }
    }

    /// The most it may be.
    pub fn at_most(mut self, bound: f64) -> Self {
        self.bound = Some(bound);
        self
    }

    fn verdict(&self) -> &'static str {
        match self.bound {
            None => "",
            Some(bound) if self.value <= bound => "ok",
            Some(_) => "missed",
        }
    }
}

/// A number with as many digits as mean something.
fn short(value: f64) -> String {
    match value.abs() {
        it if it < 10.0 && it.fract() != 0.0 => format!("{value:.3}"),
        it if it < 1000.0 && it.fract() != 0.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// The table for people, then the lines for programs.
pub fn print(benchmark: &str, figures: &[Figure]) {
    let width = figures
        .iter()
        .map(|it| it.name.chars().count())
        .max()
        .unwrap_or(0);
    println!("\n{benchmark}");
    for it in figures {
        let bound = it.bound.map(|bound| format!("≤ {}", short(bound)));
        println!(
            "  {:width$}  {:>10} {:<16} {:>8}  {}",
            it.name,
            short(it.value),
            it.unit,
            bound.unwrap_or_default(),
            it.verdict()
        );
    }
    for it in figures {
        let verdict = Some(it.verdict()).filter(|verdict| !verdict.is_empty());
        let line = json!({
            "benchmark": benchmark, "figure": it.name, "value": it.value, "unit": it.unit,
            "bound": it.bound, "verdict": verdict,
        });
        println!("{line}");
    }
}
