//! A progress bar on standard error. It is shown only if standard error is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// The progress bar of a long command. The bar disappears when this value is dropped.
#[derive(Debug)]
pub(crate) struct CommandProgress {
    bar: ProgressBar,
}

impl CommandProgress {
    /// Starts a progress bar that counts bytes up to `total`.
    pub(crate) fn of_bytes(total: u64) -> Self {
        Self::start(total, "{bar:30} {bytes} of {total_bytes}, {binary_bytes_per_sec}, {eta} left")
    }

    /// Starts a progress bar that counts items up to `total`. `name` is the plural name of the items, e.g. `files`.
    pub(crate) fn of_things(total: u64, name: &str) -> Self {
        Self::start(total, &format!("{{bar:30}} {{pos}} of {{len}} {name}, {{eta}} left"))
    }

    fn start(total: u64, template: &str) -> Self {
        // Without a terminal, or with --log-json, nothing is drawn.
        let target =
            if crate::ops::output::is_json() { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(Some(total), target);
        let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        bar.set_style(style.progress_chars("=> "));
        Self { bar }
    }

    /// Sets the number of bytes or items that are done.
    pub(crate) fn set(&self, done: u64) {
        self.bar.set_position(done);
    }

    /// Adds one to the number of finished items.
    pub(crate) fn add(&self) {
        self.bar.inc(1);
    }
}

impl Drop for CommandProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
