//! Presentation of results for people: time zone, colours, progress bar.

pub(crate) mod clock_face;
pub(crate) mod paint;
pub(crate) mod progress;

use clock_face::DisplayZone;
use paint::Paint;

/// Style in which tables and texts are printed for people.
#[derive(Clone, Debug)]
pub(crate) struct TextStyle {
    /// Width of the terminal in characters, to which lines are cut; `None` if lines are not cut.
    pub(crate) width: Option<usize>,
    /// Time zone in which times are printed.
    pub(crate) zone: DisplayZone,
    /// Whether and how the text is coloured.
    pub(crate) paint: Paint,
}

impl TextStyle {
    /// Returns the style that suits standard output. `utc` is the option `--utc`.
    pub(crate) fn of_stdout(utc: bool) -> Self {
        Self { width: super::table::terminal_width(), zone: DisplayZone::of(utc), paint: Paint::of_stdout() }
    }

    /// Returns a style without colours and without a width limit.
    #[cfg(test)]
    pub(crate) fn plain(zone: DisplayZone) -> Self {
        Self { width: None, zone, paint: Paint::default() }
    }
}
