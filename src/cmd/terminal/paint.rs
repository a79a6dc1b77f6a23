//! Colours in results. They are used only if standard output is a terminal.

use clap::builder::styling::{AnsiColor, Style};

use crate::ops::output;

/// Whether text is coloured by its meaning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Paint {
    is_on: bool,
}

/// Meaning of a text, which decides its colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TextTone {
    /// The value is as it should be: green.
    Good,
    /// The value is unusual but not an error: yellow.
    Odd,
    /// A person must act, or something is lost: red.
    Bad,
    /// The value needs no attention: no colour.
    Plain,
}

impl Paint {
    /// Returns whether to use colours: only if standard output is a terminal and the user wants colours.
    pub(crate) fn of_stdout() -> Self {
        use std::io::IsTerminal as _;
        Self { is_on: std::io::stdout().is_terminal() && output::wants_colour() }
    }

    /// Colours the words at the beginning of lines that mark problems, e.g. `warning:`.
    pub(crate) fn findings(self, text: &str) -> String {
        if !self.is_on {
            return text.to_owned();
        }
        let line = |line: &str| {
            let found = FINDING_WORDS.iter().find(|(word, _)| line.starts_with(word));
            found.map_or_else(|| line.to_owned(), |(word, tone)| line.replacen(word, &self.tone(word, *tone), 1))
        };
        text.split_inclusive('\n').map(line).collect()
    }

    /// Returns the text in the colour of its tone, or unchanged if no colours are used.
    pub(crate) fn tone(self, text: &str, tone: TextTone) -> String {
        let colour = match tone {
            TextTone::Good => AnsiColor::Green,
            TextTone::Odd => AnsiColor::Yellow,
            TextTone::Bad => AnsiColor::Red,
            TextTone::Plain => return text.to_owned(),
        };
        if !self.is_on || text.trim().is_empty() {
            return text.to_owned();
        }
        let style = Style::new().fg_color(Some(colour.into()));
        format!("{style}{text}{style:#}")
    }
}

/// Words at the beginning of lines of `doctor` and `status`, each with its meaning.
const FINDING_WORDS: [(&str, TextTone); 5] = [
    ("PROBLEM", TextTone::Bad),
    ("ALARM", TextTone::Bad),
    ("FAILED", TextTone::Bad),
    ("REFUSED", TextTone::Bad),
    ("warning", TextTone::Odd),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_colours_text_stays_as_it_is() {
        assert_eq!(Paint::default().tone("x", TextTone::Bad), "x");
        assert_eq!(Paint::default().findings("PROBLEM: x\n"), "PROBLEM: x\n");
    }

    #[test]
    fn colours_end_after_their_word() {
        let paint = Paint { is_on: true };
        assert_eq!(paint.tone("x", TextTone::Good), "\u{1b}[32mx\u{1b}[0m");
        assert_eq!(paint.findings("PROBLEM: a\nb PROBLEM\n"), "\u{1b}[31mPROBLEM\u{1b}[0m: a\nb PROBLEM\n");
    }
}
