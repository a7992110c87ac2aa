//! What a bench found: rates per contender and round, and the ratios that are its figures.

use serde_json::{Value, json};

use super::watch::Run;

/// What a figure shall be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
}

/// One figure: a value for each round.
#[derive(Debug, Clone)]
pub struct Figure {
    /// What it is, as "worker / bare SQL".
    pub name: String,
    /// One value for each round.
    pub rounds: Vec<f64>,
    /// What it shall be, where there is a goal.
    pub goal: Option<Goal>,
}

/// What a curve's x axis has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Seconds since the run began.
    Seconds,
    /// Parts of a whole, drawn so that each further nine takes the same room: x = -log10(1 - part).
    Percentile,
}

/// One curve.
#[derive(Debug, Clone)]
pub struct Line {
    /// Whose.
    pub name: String,
    /// Its points, by rising x.
    pub points: Vec<(f64, f64)>,
}

/// Curves that are drawn together.
#[derive(Debug, Clone)]
pub struct Panel {
    /// What it shows.
    pub title: String,
    /// What x is.
    pub x: Axis,
    /// What y is, with its unit.
    pub y: String,
    /// The curves.
    pub lines: Vec<Line>,
}

/// All that a bench found.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Which bench.
    pub bench: &'static str,
    /// What was measured of each contender.
    pub measured: Vec<Figure>,
    /// The figures that count.
    pub figures: Vec<Figure>,
    /// Curves, of the last round where there are several.
    pub panels: Vec<Panel>,
    /// Many contenders, each with the same few figures.
    pub grid: Vec<Row>,
    /// What a reader must know.
    pub notes: Vec<String>,
}

/// One contender of a grid.
#[derive(Debug, Clone)]
pub struct Row {
    /// Which contender.
    pub name: String,
    /// What was measured of it.
    pub figures: Vec<Figure>,
}

impl Row {
    /// One of which nothing was measured yet.
    pub fn new(name: &str) -> Self {
        Self { name: name.to_owned(), figures: Vec::new() }
    }

    /// Notes a value of one more round.
    pub fn measure(&mut self, name: &str, value: f64) {
        push(&mut self.figures, name, value);
    }

    fn json(&self) -> Value {
        json!({ "name": self.name, "figures": self.figures.iter().map(Figure::json).collect::<Vec<_>>() })
    }
}

/// Adds a round's value to the figure of this name.
fn push(figures: &mut Vec<Figure>, name: &str, value: f64) {
    match figures.iter_mut().find(|figure| figure.name == name) {
        Some(figure) => figure.rounds.push(value),
        None => figures.push(Figure { name: name.to_owned(), rounds: vec![value], goal: None }),
    }
}

impl Figure {
    /// The least, the middle and the largest value.
    pub fn spread(&self) -> (f64, f64, f64) {
        let mut sorted = self.rounds.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => (f64::NAN, f64::NAN, f64::NAN),
            n => (sorted[0], f64::midpoint(sorted[(n - 1) / 2], sorted[n / 2]), sorted[n - 1]),
        }
    }

    /// Whether the middle value meets the goal; `None` without one.
    pub fn is_met(&self) -> Option<bool> {
        let (_, middle, _) = self.spread();
        self.goal.map(|goal| match goal {
            Goal::AtLeast(bound) => middle >= bound,
            Goal::AtMost(bound) => middle <= bound,
        })
    }

    fn json(&self) -> Value {
        let (min, median, max) = self.spread();
        let goal = self.goal.map(|goal| match goal {
            Goal::AtLeast(bound) => json!({ "at_least": bound }),
            Goal::AtMost(bound) => json!({ "at_most": bound }),
        });
        json!({ "name": self.name, "min": min, "median": median, "max": max, "rounds": self.rounds,
            "goal": goal, "met": self.is_met() })
    }
}

impl Report {
    /// An empty report.
    pub fn new(bench: &'static str) -> Self {
        Self { bench, ..Self::default() }
    }

    /// Notes what a contender reached in one more round.
    pub fn measure(&mut self, name: &str, value: f64) {
        push(&mut self.measured, name, value);
    }

    /// Notes the rate that a contender reached in one more round, and keeps its curve instead of that of the
    /// round before. `unit` is what the rate counts, as "jobs".
    pub(super) fn ran(&mut self, name: &str, unit: &str, run: Run) {
        self.measure(&format!("{name}, {unit}/s"), run.rate);
        self.line(
            &format!("{}: {unit} ended per second", self.bench),
            Axis::Seconds,
            &format!("{unit}/s"),
            Line { name: name.to_owned(), points: run.curve },
        );
    }

    /// Adds a curve to a panel, or puts it in the place of the one with its name.
    pub(super) fn line(&mut self, title: &str, x: Axis, y: &str, line: Line) {
        let at = self.panels.iter().position(|panel| panel.title == title).unwrap_or_else(|| {
            self.panels.push(Panel { title: title.to_owned(), x, y: y.to_owned(), lines: Vec::new() });
            self.panels.len() - 1
        });
        let lines = &mut self.panels[at].lines;
        match lines.iter_mut().find(|one| one.name == line.name) {
            Some(old) => *old = line,
            None => lines.push(line),
        }
    }

    /// Adds the figure `over / under`, round by round.
    pub fn ratio(&mut self, name: &str, over: &str, under: &str, goal: impl Into<Option<Goal>>) {
        let rounds = self.rounds_of(over).iter().zip(self.rounds_of(under)).map(|(a, b)| a / b).collect();
        self.figures.push(Figure { name: name.to_owned(), rounds, goal: goal.into() });
    }

    /// Adds the rate of doing one thing and then another, round by round.
    pub fn in_turn(&mut self, name: &str, one: &str, other: &str) {
        let rounds =
            self.rounds_of(one).iter().zip(self.rounds_of(other)).map(|(a, b)| 1.0 / (1.0 / a + 1.0 / b));
        let rounds = rounds.collect();
        self.measured.push(Figure { name: name.to_owned(), rounds, goal: None });
    }

    fn rounds_of(&self, name: &str) -> &[f64] {
        self.measured.iter().find(|figure| figure.name == name).map_or(&[], |figure| &figure.rounds)
    }

    /// Adds a measured value as a figure of its own.
    pub fn absolute(&mut self, name: &str, goal: Goal) {
        let rounds = self.rounds_of(name).to_vec();
        self.figures.push(Figure { name: name.to_owned(), rounds, goal: Some(goal) });
    }

    /// The report as JSON.
    pub fn json(&self) -> Value {
        let all = |figures: &[Figure]| figures.iter().map(Figure::json).collect::<Vec<_>>();
        let grid: Vec<Value> = self.grid.iter().map(Row::json).collect();
        json!({ "bench": self.bench, "measured": all(&self.measured), "figures": all(&self.figures), "grid": grid,
            "notes": self.notes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_the_middle_of_the_ratios_of_each_round() {
        let mut report = Report::new("drain");
        for (a, b) in [(10.0, 10.0), (30.0, 10.0), (16.0, 8.0)] {
            report.measure("a", a);
            report.measure("b", b);
        }
        report.ratio("a / b", "a", "b", Goal::AtLeast(2.0));
        assert_eq!(report.figures[0].spread(), (1.0, 2.0, 3.0));
        assert_eq!(report.figures[0].is_met(), Some(true));
        assert_eq!(report.json()["figures"][0]["goal"]["at_least"], 2.0);
    }
}
