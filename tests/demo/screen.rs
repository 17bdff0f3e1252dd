//! What the audience sees: plain lines of at most 100 columns, colours only on a terminal.

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Columns of a line.
const WIDTH: usize = 100;
/// Columns of the names in a list of values.
const NAME: usize = 46;

/// Where the demo prints.
pub struct Screen {
    started: Instant,
    acts: u32,
    colours: bool,
}

impl Screen {
    /// Standard output; the clock starts.
    pub fn new() -> Self {
        let asked_for_none = std::env::var_os("NO_COLOR").is_some_and(|it| !it.is_empty());
        let dumb = std::env::var_os("TERM").is_none_or(|it| it == "dumb");
        Self {
            started: Instant::now(),
            acts: 0,
            colours: std::io::stdout().is_terminal() && !asked_for_none && !dumb,
        }
    }

    /// How long the demo has been running.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Begins the next act.
    pub fn act(&mut self, title: &str) {
        self.acts += 1;
        let clock = format!("[{:.0} s]", self.started.elapsed().as_secs_f64());
        let left = format!("{}. {title}", self.acts);
        let gap = WIDTH.saturating_sub(left.chars().count() + clock.len());
        println!();
        self.say(&format!("{}{}{clock}", self.bold(&left), " ".repeat(gap.max(1))));
        self.say(&"-".repeat(WIDTH));
    }

    /// A line of the narrator.
    pub fn say(&self, text: &str) {
        println!("{text}");
        // A pipe would hold it back, and the progress with it.
        let _ = std::io::stdout().flush();
    }

    /// A command as one would type it, and then what it printed.
    pub fn command(&self, line: &str, output: &str) {
        println!();
        for part in wrapped(&format!("$ {line}")) {
            self.say(&self.bold(&part));
        }
        for line in output.lines() {
            self.say(&clipped(line));
        }
    }

    /// A checked value in its place, with what it should have been when it is wrong.
    pub fn checked(&self, name: &str, value: impl Display, holds: bool) {
        let mark = if holds {
            self.paint("32", "ok")
        } else {
            self.paint("31", "FAILED")
        };
        self.say(&format!("  {name:<NAME$} {value}  {mark}"));
    }

    /// The last page: each line of the proof in a box, green when all of it holds.
    pub fn boxed(&self, title: &str, proof: &[Proven]) {
        let inner = WIDTH - 4;
        let rule = format!("+{}+", "-".repeat(WIDTH - 2));
        let colour = if proof.iter().all(|it| it.holds) {
            "32"
        } else {
            "31"
        };
        println!();
        self.say(&self.paint(colour, &rule));
        self.say(&format!("| {title:<inner$} |"));
        self.say(&rule);
        for it in proof {
            let mark = if it.holds { "ok" } else { "FAILED" };
            let line = format!("{mark:<6}  {:<NAME$}  {}", it.what, it.value);
            let line = format!("| {line:<inner$} |");
            self.say(&if it.holds { line } else { self.paint("31", &line) });
        }
        self.say(&self.paint(colour, &rule));
    }

    /// In bold type.
    pub fn bold(&self, text: &str) -> String {
        self.paint("1", text)
    }

    /// In red.
    pub fn red(&self, text: &str) -> String {
        self.paint("31", text)
    }

    fn paint(&self, code: &str, text: &str) -> String {
        match self.colours {
            true => format!("\x1b[{code}m{text}\x1b[0m"),
            false => text.to_owned(),
        }
    }
}

/// One line of what was proven.
pub struct Proven {
    /// What must hold.
    pub what: String,
    /// What was found.
    pub value: String,
    /// Whether it does.
    pub holds: bool,
}

/// `1,234,567`
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if 0 < i && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `85 ms`, `2.1 s`
pub fn span(duration: Duration) -> String {
    let ms = duration.as_millis();
    match ms {
        0..1000 => format!("{ms} ms"),
        _ => format!("{:.1} s", duration.as_secs_f64()),
    }
}

/// A line of a command may be longer than ours; that some is missing is shown.
fn clipped(line: &str) -> String {
    match line.chars().count() <= WIDTH {
        true => line.to_owned(),
        false => line.chars().take(WIDTH - 3).chain("...".chars()).collect(),
    }
}

/// A command line, continued as a shell would take it.
fn wrapped(line: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in line.split(' ') {
        let last = lines.last_mut().expect("it starts with one");
        if !last.is_empty() && WIDTH < last.len() + word.len() + 3 {
            last.push_str(" \\");
            lines.push(format!("    {word}"));
        } else {
            if !last.is_empty() {
                last.push(' ');
            }
            last.push_str(word);
        }
    }
    lines
}
