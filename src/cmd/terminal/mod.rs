//! Style of results for people: local time, colours, progress.

pub(crate) mod clock_face;
pub(crate) mod paint;
pub(crate) mod progress;

use clock_face::DisplayZone;
use paint::Paint;

/// The style of a table or a page.
#[derive(Clone, Debug)]
pub(crate) struct TextStyle {
    /// Width of the terminal, characters; `None`: no text is cut.
    pub(crate) width: Option<usize>,
    /// Time zone of the printed times.
    pub(crate) zone: DisplayZone,
    /// Whether the text has colours.
    pub(crate) paint: Paint,
}

impl TextStyle {
    /// Returns the style of standard output. `utc` is the option `--utc`.
    pub(crate) fn of_stdout(utc: bool) -> Self {
        Self { width: super::table::terminal_width(), zone: DisplayZone::of(utc), paint: Paint::of_stdout() }
    }

    /// Returns a style without colours and without a width limit.
    #[cfg(test)]
    pub(crate) fn plain(zone: DisplayZone) -> Self {
        Self { width: None, zone, paint: Paint::default() }
    }
}
