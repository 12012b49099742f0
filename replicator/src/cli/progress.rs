//! A progress bar for restores, on a terminal only.

use std::io::IsTerminal as _;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::restore::{Plan, Progress, Step};

/// Shows how far a restore is on standard error, if that is a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar, hidden where nobody looks.
    #[must_use]
    pub fn new() -> Self {
        let terminal = std::io::stderr().is_terminal();
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(None, target);
        if terminal {
            // How much there is to do is not known yet.
            bar.set_style(style("{msg} {spinner} {elapsed}"));
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// Removes it from the screen.
    pub fn finish(&self) {
        self.0.finish_and_clear();
    }
}

impl Progress for Bar {
    fn step(&self, step: Step) {
        self.0.set_message(match step {
            Step::Listing => "listing",
            Step::Fetching => "fetching",
            Step::Checking => "checking",
        });
    }

    fn planned(&self, plan: &Plan) {
        let style = style("{msg} [{bar:40}] {bytes}/{total_bytes} {bytes_per_sec} {eta}");
        self.0.set_style(style.progress_chars("=> "));
        self.0.set_length(plan.bytes());
        self.0.set_position(0);
    }

    fn advanced(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates of this file are valid")
}
