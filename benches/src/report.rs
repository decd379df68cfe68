//! The form of the results.

use serde::Serialize;

#[derive(Debug, Default, Serialize)]
pub struct Report {
    pub machine: String,
    pub results: Vec<Measurement>,
}

#[derive(Debug, Serialize)]
pub struct Measurement {
    pub name: String,
    pub unit: &'static str,
    pub ours: Spread,
    pub peer: Option<String>,
    pub theirs: Option<Spread>,
    /// Ours divided by theirs.
    pub ratio: Option<f64>,
    pub budget: String,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
    pub runs: usize,
}

impl Spread {
    /// # Panics
    /// Without samples.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let (min, max) = (samples[0], samples[samples.len() - 1]);
        Self { median: samples[samples.len() / 2], min, max, runs: samples.len() }
    }
}

impl Report {
    pub fn new() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let machine = format!(
            "{cores} cores,{} Linux {}",
            model.trim_start_matches([' ', '\t', ':']),
            read("/proc/sys/kernel/osrelease").trim()
        );
        Self { machine, results: Vec::new() }
    }

    pub fn add(
        &mut self,
        name: &str,
        unit: &'static str,
        ours: Spread,
        theirs: Option<(&str, Spread)>,
        budget: &str,
    ) {
        let measurement = Measurement {
            name: name.to_owned(),
            unit,
            ours,
            peer: theirs.as_ref().map(|(peer, _)| (*peer).to_owned()),
            ratio: theirs.as_ref().map(|(_, theirs)| ours.median / theirs.median),
            theirs: theirs.map(|(_, theirs)| theirs),
            budget: budget.to_owned(),
        };
        anstream::eprintln!("{}", measurement.line());
        self.results.push(measurement);
    }

    pub fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            anstream::println!("{}", serde_json::to_string_pretty(self)?);
        }
        Ok(())
    }
}

impl Measurement {
    fn line(&self) -> String {
        let spread = |spread: &Spread| format!("{:.2} ({:.2}–{:.2})", spread.median, spread.min, spread.max);
        let theirs = match (&self.peer, &self.theirs, self.ratio) {
            (Some(peer), Some(theirs), Some(ratio)) => {
                format!("  {peer} {}  ratio {ratio:.3}", spread(theirs))
            }
            _ => String::new(),
        };
        format!("{:<48} {} {}{theirs}  budget {}", self.name, spread(&self.ours), self.unit, self.budget)
    }
}
